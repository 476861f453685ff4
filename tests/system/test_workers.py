"""A whole hub with three lines, which `auto` drives in a process each."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.contract.services import Plc, plc
from tests.support import eventually
from tests.system.hub import STOPPED_WITHIN_S, UP_WITHIN_S, Hub, instance_file, leftovers, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def plcs() -> Iterator[list[Plc]]:
    with ExitStack() as stack:
        found = [stack.enter_context(plc()) for _ in range(3)]
        for number, each in enumerate(found):
            each.inputs[1] = {0: 100 + number}
        yield found


@pytest.fixture
def hub(tmp_path: Path, plcs: list[Plc]) -> Iterator[Hub]:
    instance_id = new_id()
    transports = [
        {"transport_id": f"plc{number}", "driver": "modbus_tcp", "url": each.url, "read_interval": 0.5}
        for number, each in enumerate(plcs)
    ]
    sensors = [
        {
            "sensor_id": f"meter{number}",
            "sensor_type": "generic",
            "transport": f"plc{number}",
            "unit_id": 1,
            "register": {"table": "input", "address": 0, "data_type": "uint16"},
        }
        for number in range(3)
    ]
    instance_file(tmp_path, instance_id, config={"transports": transports, "sensors": sensors})
    with Hub(tmp_path, "--demo", instance_id=instance_id) as started:
        started.wait_until_online()
        yield started


def lines(hub: Hub) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(hub.url("serial-handler") + "/transports", timeout=30).json()[
        "transports"
    ]
    return found


def value(hub: Hub, number: int) -> Any:
    return requests.get(f"{hub.url('serial-handler')}/sensor/meter{number}", timeout=30).json().get("value")


def test_three_lines_are_driven_by_three_processes_that_end_with_the_hub(hub: Hub) -> None:
    eventually(lambda: [value(hub, number) for number in range(3)] == [100, 101, 102], 60)
    shown = lines(hub)
    assert [line["parallelism"] for line in shown] == ["process"] * 3
    assert [line["state"] for line in shown] == ["up"] * 3
    workers = [psutil.Process(line["worker_pid"]) for line in shown]
    service = hub.program("serial-handler")
    assert len({worker.pid for worker in workers}) == 3
    assert {worker.pid for worker in workers} <= {each.pid for each in service.children(recursive=True)}
    said = len(hub.lines)

    workers[0].kill()
    hub.wait_for_line("serial-handler .*worker lost.*worker=plc0.*signal 9", after=said)
    eventually(lambda: value(hub, 1) == 101)
    eventually(lambda: value(hub, 0) == 100, 60)
    shown = lines(hub)
    assert [line["restarts"] for line in shown] == [1, 0, 0]
    workers[0] = psutil.Process(shown[0]["worker_pid"])

    said = len(hub.lines)
    workers[1].suspend()  # one that hangs delays the end of nobody
    assert hub.stop(signal.SIGTERM, STOPPED_WITHIN_S) == 0
    assert [line for line in hub.lines[said:] if "worker" in line or "Traceback" in line] == []
    eventually(lambda: leftovers(hub.id) == [])
    eventually(lambda: not any(worker.is_running() for worker in workers))


def test_workers_end_when_their_service_is_killed_and_the_next_one_has_its_own(hub: Hub) -> None:
    eventually(lambda: [line["state"] for line in lines(hub)] == ["up"] * 3, 60)
    workers = [psutil.Process(line["worker_pid"]) for line in lines(hub)]
    master = hub.program("serial-handler")
    workers[2].suspend()
    master.kill()
    eventually(lambda: not any(worker.is_running() for worker in workers))
    eventually(lambda: hub.program("serial-handler").pid != master.pid, UP_WITHIN_S)

    def is_back() -> bool:
        try:
            return [value(hub, number) for number in range(3)] == [100, 101, 102]
        except requests.RequestException:
            return False

    eventually(is_back, 60)
