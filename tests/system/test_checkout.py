"""Where a hub runs from: any folder, a read-only one, `/app` with a `.env`; and its log as JSON."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.system.hub import ROOT, Hub, instance_file, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]

PARTS = (
    "sensor_hub",
    "services",
    "emulator",
    "shared",
    "mqtt_bridge.py",
    "supervisord.conf",
    "pyproject.toml",
)


def copy_of_the_checkout(target: Path) -> Path:
    target.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_checkout_that_is_read_only_with_a_space_in_its_name_stays_as_it_is(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path / "read only 100%")
    instance_id = new_id()
    instance_file(checkout, instance_id)
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files_below(checkout)
    # bytecode is Python's own; it is not written where the folder is not writable, but root may write anywhere
    env = {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1", "DATA_DIR": str(tmp_path / "data")}
    with Hub(checkout, "--demo", instance_id=instance_id, env=env, cwd=tmp_path) as hub:
        hub.wait_until_online()
        assert os.readlink(f"/proc/{hub.program('mqtt-bridge').pid}/cwd") == str(checkout)
        assert hub.stop() == 0
    assert files_below(checkout) == before


def test_json_logs_are_one_object_per_line_from_every_program(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    env = {"LOG_FORMAT": "json", "TZ": "Asia/Tokyo"}
    with Hub(
        tmp_path, instance_id=instance_id, env=env | {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": "1"}
    ) as hub:
        hub.wait_for_line("no connection to the broker")
        for name in ("device-emulator", "serial-handler", "http-poller", "state-aggregator"):
            hub.wait_for_line(f'"service": "{name}"|"service":"{name}"')
        hub.program("http-poller").kill()  # supervisord has something to say, too
        hub.wait_for_line('"supervisord"')
        assert hub.stop() == 0
        entries = [json.loads(line) for line in hub.lines]
    assert [e for e in entries if not {"timestamp", "level", "service", "event"} <= e.keys()] == []
    assert [e for e in entries if not e["timestamp"].endswith("+09:00")] == []
    assert {entry["level"] for entry in entries} <= {"debug", "info", "warning", "error", "critical"}
    assert {entry["service"] for entry in entries} >= {
        "launcher",
        "device-emulator",
        "serial-handler",
        "http-poller",
        "state-aggregator",
        "mqtt-bridge",
        "supervisord",
    }


def test_an_instance_without_emulated_devices_needs_no_emulator(tmp_path: Path) -> None:
    instance_id = new_id()
    sensors = [{"sensor_id": "pir", "sensor_type": "motion", "url": "http://127.0.0.1:1/pir"}]
    instance_file(tmp_path, instance_id, config={"sensors": sensors})
    with Hub(tmp_path, "--demo", instance_id=instance_id) as hub:
        hub.wait_until_online()
        programs = hub.programs()
        assert "device-emulator" not in programs
        assert "mqtt-broker" in programs
        assert hub.stop() == 0
