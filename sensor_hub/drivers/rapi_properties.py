"""The properties of a charger, and the commands that write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sensor_hub.drivers.base import PropertySpec
from sensor_hub.drivers.rapi_values import (
    AMPS_MAX,
    AMPS_MIN,
    FAULTS,
    LIMIT_TIME_STEP_MIN,
    QUERIES,
    QUERY_OF,
)
from sensor_hub.errors import InvalidCommand
from sensor_hub.properties import number_of
from sensor_hub.readings import Json

Stop = Literal["sleep", "disable"]

STATES = ("ready", "connected", "charging", "vent_required", "fault", "sleeping", "disabled", "unknown")
SERVICE_LEVELS: Mapping[str, str] = {"1": "1", "2": "2", "auto": "A"}  # value -> parameter of SL
_BYTE_MAX = 255
_NUMBERS: Mapping[str, str | None] = {
    "state_raw": None,
    "current": "A",
    "voltage": "V",
    "power": "W",
    "session_energy": "Wh",
    "total_energy": "kWh",
    "session_time": "s",
    "temperature": "°C",
    "temperature_2": "°C",
    "temperature_3": "°C",
    "current_min": "A",
    "current_max": "A",
    "current_hw_max": "A",
    "gfci_trips": None,
    "no_ground_trips": None,
    "stuck_relay_trips": None,
}


def specs(interval_s: float, *, writable: bool) -> dict[str, PropertySpec]:
    """All properties of a charger that is read every `interval_s`; slow ones keep their pace, not less."""
    every = {
        name: None if query.interval_s is None else max(query.interval_s, interval_s)
        for query in QUERIES.values()
        for name in query.properties
    }
    found = {
        name: PropertySpec("number", unit=unit, interval_s=every[name]) for name, unit in _NUMBERS.items()
    }
    found |= {name: PropertySpec("boolean") for name in ("vehicle_connected", "charging")}
    found |= {
        name: PropertySpec("text", interval_s=every[name]) for name in ("firmware", "protocol", "serial")
    }
    found["state"] = PropertySpec("text", choices=STATES)
    found["fault"] = PropertySpec("text", choices=("none", *dict.fromkeys(FAULTS.values())))
    found["enabled"] = PropertySpec("boolean", writable)
    found["locked"] = PropertySpec("boolean", writable, interval_s=every["locked"])
    found["service_level"] = PropertySpec(
        "text", writable, choices=tuple(SERVICE_LEVELS), interval_s=every["service_level"]
    )
    for name, unit, low, high, step in (
        ("current_limit", "A", float(AMPS_MIN), float(AMPS_MAX), 1.0),
        ("limit_time", "min", 0.0, float(_BYTE_MAX * LIMIT_TIME_STEP_MIN), float(LIMIT_TIME_STEP_MIN)),
        ("limit_energy", "kWh", 0.0, float(_BYTE_MAX), 1.0),
    ):
        found[name] = PropertySpec(
            "number", writable, unit, low, high, step, interval_s=every[name], limited=True
        )
    return {name: found[name] for name in QUERY_OF}


def command_of(name: str, value: Json, stop: Stop) -> str:
    """The command that writes a property, but for `current_limit`, which is more than one. Raises InvalidCommand."""
    match name, value:
        case "enabled", True:
            return "FE"
        case "enabled", False:
            return "FS" if stop == "sleep" else "FD"
        case "locked", bool():
            return f"S4 {value:d}"
        case "service_level", str() if value in SERVICE_LEVELS:
            return f"SL {SERVICE_LEVELS[value]}"
        case "limit_energy", _:
            return f"SH {_in_byte(name, whole_of(name, value))}"
        case "limit_time", _:
            count, rest = divmod(whole_of(name, value), LIMIT_TIME_STEP_MIN)
            if rest:
                raise InvalidCommand(f"{name} must be a multiple of {LIMIT_TIME_STEP_MIN}")
            return f"S3 {_in_byte(name, count)}"
    raise InvalidCommand(f"{name} cannot be {str(value)[:64]!r}")


def whole_of(name: str, value: Json) -> int:
    """The whole number that a command's value is. Raises InvalidCommand."""
    number = number_of(value)
    if number is None or not number.is_integer():
        raise InvalidCommand(f"{name} must be a whole number")
    return int(number)


def _in_byte(name: str, count: int) -> int:
    if not 0 <= count <= _BYTE_MAX:
        raise InvalidCommand(f"{name} is out of what a charger can hold")
    return count
