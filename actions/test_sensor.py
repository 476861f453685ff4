"""Read a sensor once, as the hub would: its value, or why there is none, in plain words.

Input: `sensors` and `transports` as an instance file has them (one object each will do), `sensor_id` (default:
the first), `timeout_s`. Result: sensor_id, values, message.
"""

from __future__ import annotations

import time
from typing import Any

import checks
import device_maps
import http_wire
import modbus_wire
import rapi_wire
import rules
import text_wire
from answering import Job, Json, ToolError, run
from register_values import decoded
from rules_register import count_of
from serial_lines import opened_line
from validate_setup import sensor_types

BUDGET_S = 15.0
DEFAULT_TIMEOUT_S = 3.0  # of one exchange: longer than the hub's, so that only what is not there fails
_SHOWN_MAX = 12  # values in the message


def read_once(given: dict[str, Json], job: Job) -> dict[str, Json]:
    """The result for an input. Raises ToolError with the reason."""
    sensor, transport = _chosen(given)
    given_s = _timeout(given.get("timeout_s"))
    began = time.monotonic()
    if "url" in sensor or (transport or {}).get("driver") == rules.HTTP_DRIVER:
        url = sensor.get("url") or (transport or {})["url"]
        values = http_wire.values_of(sensor, url, min(given_s or DEFAULT_TIMEOUT_S, job.left_s()))
    elif transport is None:
        message = "this sensor names no place: the hub's emulator will serve it, there is nothing to read yet"
        return {"sensor_id": sensor["sensor_id"], "values": {}, "message": message}
    elif transport["driver"] in rules.MODBUS_DRIVERS:
        values = _modbus_values(sensor, transport, given_s or DEFAULT_TIMEOUT_S, job)
    else:
        with opened_line(transport, job.left_s()) as stream:
            if transport["driver"] == "rapi":
                values = rapi_wire.state_of(stream, min(given_s or DEFAULT_TIMEOUT_S, job.left_s() / 2))
            else:
                values = text_wire.values_of(stream, transport, sensor, given_s, job.left_s())
    took_ms = round((time.monotonic() - began) * 1000)
    units = _units(sensor)
    shown = list(values.items())[:_SHOWN_MAX]
    told = ", ".join(f"{name} = {_text(value)}{units.get(name, '')}" for name, value in shown)
    told += f" and {len(values) - _SHOWN_MAX} more" if len(values) > _SHOWN_MAX else ""
    message = f"{sensor['sensor_id']} answered in {took_ms} ms: {told}"
    return {"sensor_id": sensor["sensor_id"], "values": values, "message": message}


def _timeout(value: Json) -> float | None:
    if checks.blank(value):
        return None
    try:
        return float(checks.number(0.1, 10)(value))
    except checks.WrongError as error:
        raise ToolError("invalid_input", f"timeout_s {error}") from None


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
    """Each register in a request of its own. Those that are refused are left out, unless all are."""
    registers = {name: item for name, item in device_maps.of_sensor(sensor).items() if item.get("read", True)}
    if not registers:
        what = (
            f"the registers of {sensor['register_map']} are"
            if "register_map" in sensor
            else "its registers are"
        )
        raise ToolError("nothing_to_read", f"{what} not known here or cannot be read; the hub will tell")
    delays_ms = (each.get("delay_ms", 0) for each in (transport, device_maps.options_of(sensor)))
    delay_s = max(delays_ms) / 1000
    values: dict[str, Json] = {}
    refusal: ToolError | None = None
    with modbus_wire.open_line(transport, job.left_s()) as line:
        for name, register in registers.items():
            left_s = min(timeout_s, job.left_s())
            if left_s <= 0:
                raise ToolError("timeout", f"no time left to read {name}", retriable=True)
            time.sleep(min(delay_s, left_s))
            try:
                data = modbus_wire.read(line, sensor.get("unit_id", 1), register, count_of(register), left_s)
                values[name] = decoded(data, register)
            except ToolError as error:
                if error.code not in ("refused", "no_number"):
                    raise
                refusal = refusal or error
    if not values and refusal is not None:
        raise refusal
    return values


def _units(sensor: dict[str, Any]) -> dict[str, str]:
    items = {**device_maps.of_sensor(sensor), "value": sensor.get("value", sensor.get("register", {}))}
    return {name: f" {item['unit']}" for name, item in items.items() if item.get("unit")}


def _text(value: Json) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)[:200]


if __name__ == "__main__":
    run("test_sensor", read_once, BUDGET_S)
