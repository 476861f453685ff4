"""Puts a scenario's devices together and runs them until told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from emulator import logs
from emulator.ascii_line_devices import Printer, Scale
from emulator.http_devices import HttpDevices, MotionDevices
from emulator.motion import MotionModel
from emulator.ptys import PathTakenError
from emulator.rapi_day import ChargerDay
from emulator.scenario import Http, Line, Scenario, Text
from emulator.serial_line import SerialLine
from emulator.text_line import Talker, TextLine
from emulator.units import EmulatedUnit
from emulator.values import Signal, stream


def run(scenario: Scenario) -> int:
    """Run until SIGTERM or SIGINT; the exit code: 0, or 1 when a line or the port cannot be had."""
    return asyncio.run(_run(scenario))


async def _run(scenario: Scenario) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        try:
            for line in scenario.lines:
                serial_line = _serial_line(scenario, line)
                stack.push_async_callback(serial_line.stop)
                await serial_line.start()
            for text in scenario.text_lines:
                text_line = TextLine(text.pty_path, text.kind, _talker(scenario, text))
                stack.push_async_callback(text_line.stop)
                await text_line.start()
            if scenario.http is not None and scenario.http.motion:
                http_devices = _http_devices(scenario, scenario.http)
                stack.callback(http_devices.stop)
                http_devices.start()
        except (PathTakenError, OSError) as error:
            print(f"device-emulator: cannot start: {error}", file=sys.stderr)
            return 1
        logs.event("emulator ready", instance_id=scenario.instance_id, seed=scenario.seed)
        await stopped.wait()
    logs.event("emulator stopped")
    return 0


def _now() -> datetime:
    return datetime.now(UTC)


def _serial_line(scenario: Scenario, line: Line) -> SerialLine:
    units = {}
    for unit in line.units:
        value = Signal(unit.kind, scenario.timezone, stream(scenario.seed, "value", unit.sensor_id))
        units[unit.unit_id] = EmulatedUnit(unit.unit_id, value, _now)
    return SerialLine(line, units, stream(scenario.seed, "line", str(line.pty_path)))


def _talker(scenario: Scenario, text: Text) -> Talker:
    def measured(kind: str) -> Callable[[], float]:
        signal_ = Signal(kind, scenario.timezone, stream(scenario.seed, kind, str(text.pty_path)))
        return lambda: signal_.at(_now())

    match text.kind:
        case "openevse":
            return ChargerDay("firmware")
        case "openevse_emulator":
            return ChargerDay("emulator")
        case "scale":
            return Scale(measured("generic"))
    return Printer(measured("temperature"), measured("humidity"), as_json=text.kind == "arduino_json")


def _http_devices(scenario: Scenario, http: Http) -> HttpDevices:
    models = {
        sensor_id: MotionModel(_now(), scenario.timezone, stream(scenario.seed, "motion", sensor_id))
        for sensor_id in http.motion
    }
    return HttpDevices(http, MotionDevices(models, _now), stream(scenario.seed, "http"))
