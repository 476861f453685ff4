"""The scenario file: what is accepted, and what is said about the rest."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

import emulator
from emulator import schema
from emulator.faults import Fault, Kind
from emulator.scenario import (
    ChargerMake,
    Ev,
    Http,
    Line,
    Scenario,
    ScenarioError,
    Text,
    Unit,
    line_ids,
    load,
    parse,
)

GOOD: dict[str, Any] = {
    "instance_id": "x",
    "seed": None,
    "timezone": "UTC",
    "lines": [
        {
            "pty_path": "/tmp/x/emulator-0.pty",
            "baudrate": 19200,
            "error_rate": 0.05,
            "units": [{"unit_id": 1, "sensor_id": "temp", "kind": "temperature"}],
        }
    ],
    "http": {"host": "127.0.0.1", "port": 5004, "error_rate": 0.03, "motion": ["motion"]},
}


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    change(data)
    return data


def test_a_whole_scenario_is_understood() -> None:
    unit = Unit(unit_id=1, sensor_id="temp", kind="temperature")
    path = Path("/tmp/x/emulator-0.pty")
    found = parse(GOOD)
    assert found == Scenario(
        instance_id="x",
        seed=None,
        timezone="UTC",
        lines=(Line(pty_path=path, baudrate=19200, error_rate=0.05, units=(unit,)),),
        http=Http(host="127.0.0.1", port=5004, error_rate=0.03, motion=("motion",)),
    )
    assert found.zone == ZoneInfo("UTC")


def test_no_lines_and_no_http_are_fine() -> None:
    found = parse(GOOD | {"lines": [], "http": None, "seed": 3})
    assert (found.lines, found.http, found.seed) == ((), None, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(seed=True), "scenario.seed: must be an integer, not true"),
        (lambda d: d.update(timezone="Mars/Base"), 'scenario.timezone: must be the name of a time zone'),
        (lambda d: d.update(extra=1), "scenario.extra: unknown key"),
        (lambda d: d["http"].pop("port"), "scenario.http.port: required"),
        (lambda d: d["lines"][0].pop("pty_path"), "scenario.lines[0].pty_path: required (or a tcp_port)"),
        (lambda d: d["lines"][0].update(mode="tcp"), "scenario.lines[0].tcp_port: required for mode tcp"),
        (lambda d: d["lines"][0].update(mode="smoke"), "scenario.lines[0].mode: must be one of 'pty', 'tcp'"),
        (lambda d: d["lines"][0].update(faults=[{"kind": "hang"}]),
         "scenario.lines[0].faults: hang is not one of crc_error"),
        (lambda d: d["lines"][0].update(faults=[{"kind": "delay", "code": 3}]),
         "scenario.lines[0].faults[0]: code means nothing for delay"),
        (lambda d: d["lines"][0]["units"][0].update(holding={"0": [1, "x"]}),
         "scenario.lines[0].units[0].holding.0"),
        (lambda d: d["lines"][0]["units"][0].update(input={"65536": 1}),
         "scenario.lines[0].units[0].input.65536: must be"),
        (lambda d: d.update(text_lines=[{"kind": "scale", "pty_path": "/x", "charger": {}}]),
         "scenario.text_lines[0].charger: means nothing for scale"),
        (lambda d: d.update(text_lines=[{"kind": "toaster", "pty_path": "/x"}]),
         "scenario.text_lines[0].kind: must be one of 'openevse'"),
        (lambda d: d.update(text_lines=[{"kind": "scale", "tcp_port": 5004}]),
         "scenario: port 5004 is there twice"),
        (lambda d: d.update(text_lines=[{"kind": "scale", "tcp_port": 1, "sensor_id": "temp"}]),
         "scenario.text_lines[0].sensor_id: temp is there twice"),
        (lambda d: d["lines"][0].update(error_rate=1.5), "scenario.lines[0].error_rate: must be less than or"),
        (lambda d: d["lines"][0].update(pty_path="a"), "scenario.lines[0].pty_path: must be an absolute"),
        (lambda d: d["lines"][0]["units"][0].update(unit_id=0),
         "scenario.lines[0].units[0].unit_id: must"),
        (lambda d: d["lines"][0]["units"].append(GOOD["lines"][0]["units"][0] | {"sensor_id": "b"}),
         "scenario.lines[0].units: unit_id 1 is there twice"),
        (lambda d: d["http"]["motion"].append("temp"), "scenario.http.motion[1]: temp is there twice"),
        (lambda d: d["http"].update(port=70000), "scenario.http.port: must be less than or equal to 65535, not 70000"),
        (lambda d: d["lines"].append(d["lines"][0] | {"units": []}),
         "scenario.lines: pty_path /tmp/x/emulator-0.pty is there twice"),
        (lambda d: d.update(lines=[3]), "scenario.lines[0]: must be an object"),
        (lambda d: d["lines"][0].update(line_id="http"), "scenario.lines[0].line_id: http is the web server"),
        (lambda d: d.update(text_lines=[{"kind": "scale", "tcp_port": 1, "line_id": "temp"}]),
         "scenario.text_lines[0].sensor_id: temp, which it is without one, is there twice"),
        (lambda d: d["lines"][0].update(pty_path="/"), "scenario.lines[0].pty_path: must be an absolute"),
        (lambda d: d["lines"][0].update(pty_path="/tmp/.."), "scenario.lines[0].pty_path: must be an absolute"),
        (lambda d: d["lines"][0].update(pty_path="/tmp/a\0b"), "scenario.lines[0].pty_path: must be an absolute"),
        (lambda d: d["lines"][0].update(tcp_host="a\0b"), "scenario.lines[0].tcp_host: must be an IP address"),
        (lambda d: d["http"].update(host="a..b"), "scenario.http.host: must be an IP address or a host name"),
        (lambda d: d["lines"][0]["units"][0].update(input={"65535": [1, 2]}),
         "scenario.lines[0].units[0].input: a list ends at 65536"),
        (lambda d: d["lines"][0]["units"][0].update(coil={"5": [True, True], "6": True}),
         "scenario.lines[0].units[0].coil: 6 is in the list before it"),
        (lambda d: d["http"].update(motion=["a/b"]), "scenario.http.motion[0]: must not contain a slash"),
        (lambda d: d["lines"][0]["units"][0].update(sensor_id="a/b"),
         "scenario.lines[0].units[0].sensor_id: must not contain a slash"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(changed(change))
    assert any(found.startswith(problem) for found in caught.value.problems), caught.value.problems


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse({"seed": "a", "lines": {}, "http": 5, "instance_id": "", "timezone": 1, "weather": 3})
    paths = {problem.split(":")[0] for problem in caught.value.problems}
    assert paths == {
        f"scenario.{key}" for key in ("instance_id", "timezone", "seed", "lines", "http", "weather")
    }


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("{")
    with pytest.raises(ScenarioError, match="s.json: not JSON"):
        load(path)
    with pytest.raises(ScenarioError, match="gone.json: No such file"):
        load(tmp_path / "gone.json")
    path.write_text(json.dumps(GOOD))
    assert load(path) == parse(GOOD)


def test_the_emulator_imports_nothing_of_the_hub() -> None:
    for path in Path(emulator.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [
                name for name in names if name.split(".")[0] in ("sensor_hub", "shared", "services")
            ], path


# -- the documentation ---------------------------------------------------------------------------------------------

PAGE = (schema.FILE.parent / "emulator.md").read_text(encoding="utf-8")


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.schema_text(), "python -m emulator.schema"


def test_the_example_of_the_page_is_a_valid_scenario() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)
    assert line_ids(parse(json.loads(example))) == ["bus", "gateway", "wallbox", "tcp-8503"]


def test_the_page_has_every_fault_and_the_parts_of_one() -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r'"(\w+)":', PAGE))
    assert set(Kind) | set(Fault.model_fields) <= documented


@pytest.mark.parametrize(
    "model", [Scenario, Line, Text, Unit, Http, ChargerMake, Ev], ids=lambda m: m.__name__
)
def test_the_page_has_every_key(model: type[BaseModel]) -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r'"(\w+)":', PAGE))
    assert set(model.model_fields) - documented == set()
