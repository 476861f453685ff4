"""What is looked at before something is written, with real registers: whether the device holds what its map allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.config.model import Parallelism, SensorConfig, WriteChecks
from sensor_hub.crew.hosts import LogSetup
from sensor_hub.drivers.modbus import ModbusTcp
from sensor_hub.errors import ReadOnly
from sensor_hub.readings import Status
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, hire
from tests.contract.services import Plc, plc
from tests.support import eventually
from tests.wire.scripted_peers import line, register, sensor

REGISTERS: dict[str, Any] = {
    "setpoint": register("holding", 1, write=True, min=100, max=200),
    "fan": register("holding", 2, write=True, allowed=[0, 5, 7.5], scale=0.1),
    "free": register("holding", 3, write=True),
}
BY_MAP: dict[str, Any] = {"register_map": "boiler"}
BY_INSTANCE: dict[str, Any] = {"properties": REGISTERS}
FULL, RELAXED, UNSAFE = WriteChecks.FULL, WriteChecks.RELAXED, WriteChecks.UNSAFE

Opened = Callable[..., Line]


@pytest.fixture(scope="module")
def device() -> Iterator[Plc]:
    with plc() as found:
        yield found


@pytest.fixture
def opened(device: Plc, tmp_path: Path) -> Iterator[Opened]:
    """A line at work, with a boiler on it."""
    (tmp_path / "boiler.json").write_text(json.dumps({"registers": REGISTERS}))
    clock = system_clock(ZoneInfo("UTC"))
    with ExitStack() as stack:

        def open_line(checks: WriteChecks, **options: Any) -> Line:
            transport = replace(
                line(device.url, "modbus_tcp", timeout_s=5),
                write_checks=checks,
                register_maps=tmp_path,
                read_interval_s=3600,
            )
            boiler: SensorConfig = replace(sensor("boiler", **options), interval_s=3600)
            tracker = Tracker([boiler], clock, {})
            found = Line(transport, [boiler], Parallelism.SINGLE, tracker, clock)
            setup = LineSetup(transport, [boiler], ModbusTcp)
            (worker,) = hire([(found, setup)], clock, LogSetup("test", "ERROR", "text", "UTC"))
            worker.start()
            stack.callback(worker.stop)
            eventually(lambda: tracker.snapshot("boiler").status is Status.ONLINE)
            return found

        yield open_line


@pytest.mark.parametrize(
    ("checks", "held", "values"),
    [
        (FULL, {1: 7}, {"setpoint": 150}),
        (FULL, {1: 7}, {"free": 5}),  # the map is not that of this device
        (FULL, {2: 60}, {"fan": 5}),  # 6.0 is none of those allowed
        (RELAXED, {1: 7}, {"setpoint": 150}),
        (RELAXED, {2: 60}, {"fan": 5}),
    ],
)
def test_a_register_that_holds_what_its_map_does_not_allow_is_not_written(
    opened: Opened, device: Plc, checks: WriteChecks, held: dict[int, int], values: dict[str, Any]
) -> None:
    device.holding[1] = before = {1: 150, 2: 75, 3: 0} | held
    with pytest.raises(ReadOnly, match="does not allow"):
        opened(checks, **BY_MAP).command("boiler", values, 10)
    assert device.holding[1] == before


@pytest.mark.parametrize(
    ("checks", "options", "values"),
    [
        (RELAXED, BY_MAP, {"free": 5}),
        (UNSAFE, BY_MAP, {"setpoint": 150, "fan": 5}),
        # Limits in the instance file say what a command may say, not what the device holds.
        (FULL, BY_INSTANCE, {"setpoint": 150, "fan": 5}),
        (FULL, {**BY_MAP, **BY_INSTANCE}, {"setpoint": 150, "fan": 5}),
    ],
)
def test_what_nobody_says_the_device_holds_does_not_keep_it_from_being_written(
    opened: Opened, device: Plc, checks: WriteChecks, options: dict[str, Any], values: dict[str, Any]
) -> None:
    device.holding[1] = {1: 7, 2: 60, 3: 0}
    written = opened(checks, **options).command("boiler", values, 10)
    assert (written.outcome, written.values) == ("verified", values)


@pytest.mark.parametrize("checks", [FULL, RELAXED, UNSAFE])
def test_a_register_that_holds_what_it_may_is_written(
    opened: Opened, device: Plc, checks: WriteChecks
) -> None:
    device.holding[1] = {1: 100, 2: 75, 3: 0}
    written = opened(checks, **BY_MAP).command("boiler", {"setpoint": 200, "fan": 5, "free": 9}, 10)
    assert written.outcome == "verified"
    assert device.holding[1] == {1: 200, 2: 50, 3: 9}
