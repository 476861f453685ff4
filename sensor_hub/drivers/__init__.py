"""Drivers: one module per protocol. `DRIVERS` is the table of them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers.base import Driver
from sensor_hub.drivers.http_json import HttpJson
from sensor_hub.drivers.modbus import ModbusRtu, ModbusTcp
from sensor_hub.errors import Problem

DRIVERS: Mapping[str, type[Driver]] = {driver.name: driver for driver in (ModbusRtu, ModbusTcp, HttpJson)}


def check_options(transport: TransportConfig, sensors: Iterable[SensorConfig]) -> Iterator[Problem]:
    """Every problem that the transport's driver finds in its options and in those of its sensors."""
    driver = DRIVERS.get(transport.driver)
    if driver is None:
        known = ", ".join(sorted(DRIVERS))
        yield Problem(f"{transport.path}.driver", f"unknown driver {transport.driver!r}; known are {known}")
        return
    yield from driver.check_transport(transport)
    for sensor in sensors:
        yield from driver.check_sensor(sensor, transport)
