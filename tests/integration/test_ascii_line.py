"""Text devices of the running emulator, from its terminals to what the handler says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.errors import DeviceRefused, HubError, InvalidCommand
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Json, Status
from tests.integration.text_hub import command, running
from tests.support import eventually

ROOT = Path(__file__).parents[2]
KINDS = ("arduino", "arduino_json", "scale", "openevse", "openevse_emulator")
WEIGHT: dict[str, Json] = {"regex": r"([-+]\d+\.\d+) kg", "unit": "kg"}
TARE: dict[str, Json] = {
    "regex": r"TARE (\d+\.\d+)",
    "command": "P{value:.2f}",
    "answer": "^OK$",
    "unit": "kg",
    "min": 0,
    "max": 10,
    "step": 0.01,
}


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The emulator's text lines, by kind."""
    folder = tmp_path_factory.mktemp("emulator")
    paths = {kind: folder / f"{kind}.pty" for kind in KINDS}
    scenario = {
        "instance_id": "text",
        "seed": 1,
        "timezone": "UTC",
        "lines": [],
        "http": None,
        "text_lines": [{"pty_path": str(path), "kind": kind} for kind, path in paths.items()],
    }
    (folder / "scenario.json").write_text(json.dumps(scenario))
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", str(folder / "scenario.json")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: process.poll() is not None or all(path.exists() for path in paths.values()), 30)
        assert process.poll() is None
        yield paths
    finally:
        process.terminate()
        process.wait(10)


def line(path: Path, driver: str = "ascii_line", **options: Json) -> dict[str, Json]:
    return {"driver": driver, "url": str(path), "timeout_s": 3, "read_interval": 0.5, **options}


def last(service: HandlerService, sensor_id: str) -> dict[str, Any]:
    try:
        return service.last(sensor_id)
    except HubError:
        return {}


def test_an_arduino_that_prints_is_a_sensor_with_two_properties(
    terminals: dict[str, Path], tmp_path: Path
) -> None:
    air: dict[str, Json] = {
        "sensor_id": "air",
        "properties": {"t": {"regex": r"T=([-\d.]+)"}, "h": {"regex": r"H=(\d+)"}},
    }
    with running(tmp_path, line(terminals["arduino"]), [air]) as service:
        eventually(lambda: service.status("air") is Status.ONLINE)
        reading = service.read("air")
        assert 18 < reading["t"] < 26  # type: ignore[operator]
        assert 20 <= reading["h"] <= 80  # type: ignore[operator]
        first = last(service, "air")["timestamp"]
        eventually(lambda: last(service, "air").get("timestamp", first) > first)


def test_an_arduino_that_prints_json_is_read_by_path(terminals: dict[str, Path], tmp_path: Path) -> None:
    air: dict[str, Json] = {"sensor_id": "air", "properties": {"t": {"json": "t"}, "h": {"json": "air.h"}}}
    with running(tmp_path, line(terminals["arduino_json"], terminator="lf"), [air]) as service:
        eventually(lambda: 20 <= last(service, "air").get("h", 0) <= 80)


def test_a_scale_is_asked_set_and_read_back(terminals: dict[str, Path], tmp_path: Path) -> None:
    sensors: list[dict[str, Json]] = [
        {"sensor_id": "weight", "unit_id": "scale", "request": "W", "value": WEIGHT},
        {"sensor_id": "tare", "unit_id": "scale", "request": "?", "value": TARE},
    ]
    with running(tmp_path, line(terminals["scale"]), sensors) as service:
        before = service.read("weight")
        assert before["unit"] == "kg"
        assert 29 < float(str(before["value"])) < 71
        answer = command(service, "tare", value=2.5)
        assert (answer["status"], answer["values"]) == ("success", {"value": 2.5})
        assert service.read("tare")["value"] == 2.5
        assert float(str(service.read("weight")["value"])) < float(str(before["value"])) - 1


def test_a_device_that_says_no_is_quoted(terminals: dict[str, Path], tmp_path: Path) -> None:
    mode: dict[str, Json] = {
        "sensor_id": "mode",
        "request": "?",
        "value": {"regex": "TARE (.*)", "type": "text", "command": "M{value}", "answer": "^OK$"},
    }
    with running(tmp_path, line(terminals["scale"]), [mode]) as service:
        with pytest.raises(DeviceRefused, match="'ERR 1'"):
            command(service, "mode", value="fast")
        with pytest.raises(InvalidCommand):
            command(service, "mode", value="fast\r\nT")


@pytest.mark.parametrize("kind", ["openevse", "openevse_emulator"])
def test_a_charger_of_the_emulator_is_known_for_what_it_is(
    kind: str, terminals: dict[str, Path], tmp_path: Path
) -> None:
    with running(tmp_path, line(terminals[kind], "rapi"), [{"sensor_id": "ev"}]) as service:
        eventually(lambda: service.status("ev") is Status.ONLINE)
        reading = service.read("ev")
        assert reading["firmware"] == "8.2.1"
        assert reading["voltage"] == 240.0
        assert ("total_energy" in reading) is (kind == "openevse")
