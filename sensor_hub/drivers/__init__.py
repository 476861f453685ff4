"""Drivers: one module per protocol. `DRIVERS` is the table of them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers import budget
from sensor_hub.drivers.ascii_line import AsciiLine
from sensor_hub.drivers.base import Driver, Load
from sensor_hub.drivers.http_json import HttpJson
from sensor_hub.drivers.modbus import ModbusRtu, ModbusTcp
from sensor_hub.drivers.rapi import Rapi
from sensor_hub.errors import Problem

DRIVERS: Mapping[str, type[Driver]] = {
    driver.name: driver for driver in (ModbusRtu, ModbusTcp, Rapi, AsciiLine, HttpJson)
}


def check_options(transport: TransportConfig, sensors: Iterable[SensorConfig]) -> Iterator[Problem]:
    """Every problem that the transport's driver finds in its options and in those of its sensors."""
    driver = DRIVERS.get(transport.driver)
    if driver is None:
        known = ", ".join(sorted(DRIVERS))
        yield Problem(f"{transport.path}.driver", f"unknown driver {transport.driver!r}; known are {known}")
        return
    found = list(driver.check_transport(transport))
    sensors = list(sensors)
    for sensor in sensors:
        found += driver.check_sensor(sensor, transport)
    yield from found
    if not any(problem.fatal for problem in found):
        enabled = [sensor for sensor in sensors if sensor.enabled]
        yield from budget.check(transport, partial(_loads_at, driver, transport, enabled))


def _loads_at(
    driver: type[Driver], transport: TransportConfig, sensors: Iterable[SensorConfig], interval_s: float
) -> Sequence[Load]:
    """How busy the line would be with this read_interval."""
    slowed = [replace(sensor, interval_s=interval_s) for sensor in sensors]
    return driver(replace(transport, read_interval_s=interval_s), slowed).load()
