"""Read a sensor once, as the hub would: its value, or why there is none, in plain words.

Input: `sensors` and `transports` as an instance file has them (one object each will do), `sensor_id` (default:
the first), `timeout_s`. Result: sensor_id, values, message.
"""

from __future__ import annotations

import math
import struct
import time
from decimal import Decimal
from typing import Any

import checks
import http_wire
import modbus_wire
import rules
from answering import Job, Json, ToolError, run
from validate_setup import sensor_types

BUDGET_S = 15.0
DEFAULT_TIMEOUT_S = 3.0  # of one exchange: longer than the hub's, so that only what is not there fails
_FORMATS = {"int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f"}


def read_once(given: dict[str, Json], job: Job) -> dict[str, Json]:
    """The result for an input. Raises ToolError with the reason."""
    sensor, transport = _chosen(given)
    timeout_s = DEFAULT_TIMEOUT_S
    if not checks.blank(given.get("timeout_s")):
        try:
            timeout_s = checks.number(0.1, 10)(given["timeout_s"])
        except checks.WrongError as error:
            raise ToolError("invalid_input", f"timeout_s {error}") from None
    began = time.monotonic()
    if "url" in sensor or (transport or {}).get("driver") == rules.HTTP_DRIVER:
        url = sensor.get("url") or (transport or {})["url"]
        values = http_wire.values_of(sensor, url, min(timeout_s, job.left_s()))
    elif transport is None:
        message = "this sensor names no place: the hub's emulator will serve it, there is nothing to read yet"
        return {"sensor_id": sensor["sensor_id"], "values": {}, "message": message}
    else:
        values = _modbus_values(sensor, transport, timeout_s, job)
    took_ms = round((time.monotonic() - began) * 1000)
    units = _units(sensor)
    told = ", ".join(f"{name} = {_text(value)}{units.get(name, '')}" for name, value in values.items())
    message = f"{sensor['sensor_id']} answered in {took_ms} ms: {told}"
    return {"sensor_id": sensor["sensor_id"], "values": values, "message": message}


def _chosen(given: dict[str, Json]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The checked sensor to read and its transport, if it names one."""
    problems = checks.Problems()
    listed = rules.items(given.get("transports"), "transports", problems)
    places = [f"transports[{index}]" for index in range(len(listed))]
    transports = rules.check_transports(listed, places, problems)
    listed = rules.items(given.get("sensors"), "sensors", problems)
    wanted = given.get("sensor_id")
    if not checks.blank(wanted):
        listed = [item for item in listed if isinstance(item, dict) and item.get("sensor_id") == wanted]
    problems.raise_if_any()
    if not listed:
        raise ToolError("invalid_setup", "there is no sensor to read, or none has this id")
    sensors = rules.check_sensors(listed[:1], ["the sensor"], transports, sensor_types(), problems)
    problems.raise_if_any()
    place = sensors[0].get("transport")
    return sensors[0], next((t for t in transports if t["transport_id"] == place), None)


def _modbus_values(
    sensor: dict[str, Any], transport: dict[str, Any], timeout_s: float, job: Job
) -> dict[str, Json]:
    registers = {"value": sensor["register"]} if "register" in sensor else sensor["properties"]
    values: dict[str, Json] = {}
    with modbus_wire.open_line(transport, min(modbus_wire.CONNECT_S, job.left_s())) as line:
        for name, register in registers.items():
            is_bit = register["table"] in rules.BIT_TABLES
            count = 1 if is_bit else rules.REGISTERS[register.get("data_type", "uint16")]
            left_s = min(timeout_s, job.left_s())
            if left_s <= 0:
                raise ToolError("timeout", f"no time left to read {name}", retriable=True)
            data = modbus_wire.read(line, sensor.get("unit_id", 1), register, count, left_s)
            values[name] = bool(data[0] & 1) if is_bit else decoded(data, register)
    return values


def decoded(data: bytes, register: dict[str, Any]) -> float:
    """The number in registers. Raises ToolError when the device sent none."""
    data_type = register.get("data_type", "uint16")
    if register.get("word_order") == "little":
        data = b"".join(data[index : index + 2] for index in reversed(range(0, len(data), 2)))
    (raw,) = struct.unpack(_FORMATS[data_type], data)
    if not math.isfinite(raw):
        raise ToolError("no_number", f"the device sent {raw} as float32")
    exact = Decimal(f"{raw:.7g}") if data_type == "float32" else Decimal(raw)
    value = exact * Decimal(repr(register.get("scale", 1))) + Decimal(repr(register.get("offset", 0)))
    number = float(value)
    return int(number) if number == int(number) and abs(number) < 1 << 53 else number


def _units(sensor: dict[str, Any]) -> dict[str, str]:
    registers = {"value": sensor.get("register", {}), **sensor.get("properties", {})}
    return {name: f" {item['unit']}" for name, item in registers.items() if item.get("unit")}


def _text(value: Json) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)[:200]


if __name__ == "__main__":
    run("test_sensor", read_once, BUDGET_S)
