"""The instance file with which a hub reads what a scenario emulates: to paste, and to begin with."""

from __future__ import annotations

from typing import Any

from emulator.building import endpoint_of
from emulator.http_devices import DEVICES_PATH, web_url
from emulator.scenario import CHARGERS, REGISTERS, REPLAY, Line, Scenario, Text, Unit, line_ids

KNOWN_TYPES = ("temperature", "humidity", "pressure", "illuminance", "co2")
_TEXT_SENSORS: dict[str, dict[str, Any]] = {
    "arduino": {
        "properties": {
            "temperature": {"regex": "T=([-\\d.]+)", "unit": "°C"},
            "humidity": {"regex": "H=(\\d+)", "unit": "%"},
        }
    },
    "arduino_json": {
        "properties": {
            "temperature": {"json": "t", "unit": "°C"},
            "humidity": {"json": "air.h", "unit": "%"},
        }
    },
    "scale": {"request": "W", "value": {"regex": "([-+]\\d+\\.\\d+) kg", "unit": "kg"}},
}


def hub_instance(scenario: Scenario) -> dict[str, Any]:
    """An instance file as JSON. Left out: units with registers of their own, replays, and lines that call."""
    names = line_ids(scenario)
    transports: list[dict[str, Any]] = []
    sensors: list[dict[str, Any]] = []
    for line, name in zip(_lines_of(scenario), names, strict=True):
        if line.place_mode == "tcp_client":
            continue
        found = _sensors_of(line, name)
        if found:
            transports.append(_transport_of(line, name))
            sensors += found
    if scenario.http is not None:
        url = web_url(
            "127.0.0.1" if scenario.http.host == "0.0.0.0" else scenario.http.host, scenario.http.port
        )
        sensors += [
            {"sensor_id": sensor_id, "sensor_type": "motion", "url": f"{url}{DEVICES_PATH}{sensor_id}"}
            for sensor_id in scenario.http.motion
        ]
    config = {"transports": transports, "sensors": sensors}
    return {"instance_id": scenario.instance_id, "config": config}


def _lines_of(scenario: Scenario) -> tuple[Line | Text, ...]:
    return (*scenario.lines, *scenario.text_lines)


def _transport_of(line: Line | Text, name: str) -> dict[str, Any]:
    """A serial line's speed matters to a real port alone, but is kept true."""
    driver = "modbus_rtu"
    if isinstance(line, Text):
        driver = "rapi" if line.kind in CHARGERS else "ascii_line"
    found = {"transport_id": name, "driver": driver, "url": endpoint_of(line).place, "write": True}
    if line.baudrate is not None:
        found["baudrate"] = line.baudrate
    if line.parity != "N":
        found["parity"] = line.parity
    if line.stopbits != 1:
        found["stopbits"] = line.stopbits
    if driver == "ascii_line":
        found["timeout_s"] = 3
    return found


def _sensors_of(line: Line | Text, name: str) -> list[dict[str, Any]]:
    if isinstance(line, Text):
        if line.kind == REPLAY:
            return []  # whoever recorded it knows what it is
        head = {"sensor_id": line.sensor_id or name, "sensor_type": "generic", "transport": name}
        return [head | _TEXT_SENSORS.get(line.kind, {})]
    return [_sensor_of(unit, name) for unit in line.units if unit.kind != REGISTERS]


def _sensor_of(unit: Unit, name: str) -> dict[str, Any]:
    return {
        "sensor_id": unit.sensor_id,
        "sensor_type": unit.kind if unit.kind in KNOWN_TYPES else "generic",
        "transport": name,
        "unit_id": unit.unit_id,
        "register": {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1},
    }
