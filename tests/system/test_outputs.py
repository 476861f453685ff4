"""A whole hub with outputs beside MQTT: a file, stdout, and a database that is not there."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.influx import free_ports
from tests.support import eventually
from tests.system.hub import DEVICES, STOPPED_WITHIN_S, Hub, instance_file, leftovers, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (port,) = free_ports(1)
    instance_id = new_id()
    sensors = [
        {"sensor_id": DEVICES[0], "sensor_type": "temperature"},
        {"sensor_id": DEVICES[1], "sensor_type": "motion", "bridge": ["mqtt", "stdout"]},
    ]
    outputs = {
        "files": {"type": "json_lines"},
        "stdout": {"type": "json_lines", "path": "-"},
        "history": {"type": "influxdb", "url": f"http://127.0.0.1:{port}", "database": "x"},
    }
    instance_file(
        tmp_path, instance_id, config={"sensors": sensors, "outputs": outputs, "poll_interval": 0.5}
    )
    env = {"DATA_DIR": str(tmp_path / "data")}
    with Hub(tmp_path, "--demo", instance_id=instance_id, env=env) as started:
        started.wait_until_online()
        yield started


def workers(hub: Hub) -> dict[str, psutil.Process]:
    """By the name of the output."""
    children = hub.program("mqtt-bridge").children(recursive=True)
    found = [each for each in children if "sensor_hub.crew.child" in " ".join(each.cmdline())]
    return {each.cmdline()[-1]: each for each in found}


def written(hub: Hub, tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "data" / hub.id / "files.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""  # one may be just written
    return [json.loads(line) for line in whole.splitlines()]


def test_outputs_run_beside_the_bridge_each_fails_alone_and_all_end_with_the_hub(
    hub: Hub, tmp_path: Path
) -> None:
    eventually(lambda: len(written(hub, tmp_path)) > 1, 60)
    first = written(hub, tmp_path)[0]
    assert (first["device_id"], first["target_transport"], first["emulated"]) == (DEVICES[0], "files", True)
    assert isinstance(first["data"]["value"], float)
    hub.wait_for_line("mqtt-bridge .*output does not deliver output=history .*Connection refused")
    line = json.loads(hub.wait_for_line(rf'^\{{.*"device_id":"{DEVICES[1]}"', 60))
    assert line["target_transport"] == "stdout"
    assert line["data"]["motion_detected"] in (True, False)

    eventually(lambda: len(workers(hub)) == 3, 30)
    found = workers(hub)
    bridge, said, before = hub.program("mqtt-bridge").pid, len(hub.lines), len(written(hub, tmp_path))
    found["files"].send_signal(signal.SIGKILL)
    hub.wait_for_line('mqtt-bridge .*worker lost worker="output files" .*signal 9', after=said)
    eventually(lambda: len(written(hub, tmp_path)) > before + 1, 60)
    now = workers(hub)
    assert (now["stdout"].pid, now["history"].pid) == (found["stdout"].pid, found["history"].pid)
    assert hub.program("mqtt-bridge").pid == bridge
    assert {each["device_id"] for each in written(hub, tmp_path)} == {DEVICES[0]}

    hub.process.terminate()
    assert hub.process.wait(STOPPED_WITHIN_S) == 0
    assert leftovers(hub.id) == []
    assert not re.search(r"Traceback|failed unexpectedly", hub.output)


def test_a_hub_with_a_bad_output_does_not_start_and_says_all_of_it(tmp_path: Path) -> None:
    instance_id = new_id()
    outputs = [
        {"output_id": "history", "type": "influxdb", "database": "x", "batch": 1},
        {"type": "json_lines"},
    ]
    instance_file(tmp_path, instance_id, config={"sensors": [], "outputs": outputs})
    with Hub(tmp_path, instance_id=instance_id) as refused:
        assert refused.process.wait(60) == 78
        for path in ("outputs[0].url", "outputs[0].batch", "outputs[1].output_id"):
            refused.wait_for_line(re.escape(f"config.{path}"), 10)
