"""A device's properties, and whether a command's values fit them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sensor_hub import wire
from sensor_hub.errors import InvalidCommand, ReadOnly, ValueOutOfRange
from sensor_hub.readings import Json

# How far from a whole step a value may be: the dust of a float such as 0.1 + 0.2.
STEP_DUST = Fraction(1, 1_000_000)
_RELATIVE = re.compile(r"[+-][0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True)
class PropertySpec:
    """One property of a device, for checking commands before anything is sent.

    `kind` is the JSON type of its value. `minimum`/`maximum`/`step` are in the property's unit; None: no limit.
    Steps count from `step_from` (None: from the minimum, or 0 without one). `choices`: the texts it may hold.
    `interval_s`: how often it is read (None: as its device). `readable`: what was written can be read back,
    equal within `tolerance` (None: within half a step, exactly without one). `limited`: minimum, maximum and
    choices say what the device may hold, and not only what a command may say. `allowed`: the only numbers that it
    may hold.
    """

    kind: Literal["number", "boolean", "text", "any"]
    writable: bool = False
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    step_from: float | None = None
    choices: Sequence[str] | None = None
    interval_s: float | None = None
    readable: bool = True
    tolerance: float | None = None
    limited: bool = False
    allowed: Sequence[float] | None = None


def number_of(raw: Json) -> float | None:
    """The JSON number as a float (an integer too large becomes infinite), None for anything else."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        return float(raw)
    except OverflowError:
        return math.inf if raw > 0 else -math.inf


def check_shape(values: Json) -> Mapping[str, Json]:
    """The values of a command as an object with something in it. Raises InvalidCommand."""
    if not isinstance(values, dict):
        raise InvalidCommand("values must be an object of property and value")
    if not values:
        raise InvalidCommand("no values: name at least one property")
    return values


def is_relative(value: Json, spec: PropertySpec) -> bool:
    """Whether a command's value refers to what the device holds now: "+10", "-0.5"; "toggle"."""
    if not isinstance(value, str):
        return False
    if spec.kind == "boolean":
        return value.strip().lower() == "toggle"
    return spec.kind == "number" and _RELATIVE.fullmatch(value.strip()) is not None


def check_values(
    values: Json, specs: Mapping[str, PropertySpec], *, ranges: bool = True
) -> Mapping[str, Json]:
    """Check a command's values against the device's properties; nothing has been sent yet.

    `ranges` false: their types only. Raises ReadOnly, InvalidCommand, ValueOutOfRange.
    """
    writable = [name for name, spec in specs.items() if spec.writable]
    if not writable:
        raise ReadOnly("this device has no writable property")
    checked = check_shape(values)
    for name in checked:
        if name not in specs:
            raise InvalidCommand(f"unknown property {name[:64]!r}; writable: {', '.join(writable)}")
    for name in checked:
        if not specs[name].writable:
            raise ReadOnly(f"property {name!r} is read-only; writable: {', '.join(writable)}")
    for name, value in checked.items():
        _check_type(name, value, specs[name])
    for name, value in checked.items() if ranges else ():
        check_range(name, value, specs[name])
    return checked


def _check_type(name: str, value: Json, spec: PropertySpec) -> None:
    if is_relative(value, spec):
        if not spec.readable:
            raise InvalidCommand(
                f"{name} cannot be read, so it cannot be changed by {wire.dumps(value)[:64]}"
            )
        return
    fits = {
        "number": number_of(value) is not None,
        "boolean": isinstance(value, bool),
        "text": isinstance(value, str),
        "any": True,
    }[spec.kind]
    if not fits:
        raise InvalidCommand(f"{name} must be a {spec.kind}, not {wire.dumps(value)[:64]}")


def check_range(name: str, value: Json, spec: PropertySpec) -> None:
    """Raise ValueOutOfRange for a number outside its limits or off its step, or a text that is none of its choices.

    A relative value is checked when it is known what it amounts to.
    """
    if spec.choices is not None and isinstance(value, str) and value not in spec.choices:
        raise ValueOutOfRange(f"{name} must be one of {', '.join(spec.choices)[:500]}, not {value[:64]!r}")
    number = number_of(value)
    if number is None:
        return
    low, high = spec.minimum, spec.maximum
    if (
        (low is not None and number < low)
        or (high is not None and number > high)
        or not math.isfinite(number)
    ):
        raise ValueOutOfRange(f"{name} must lie in {_limit(low)}..{_limit(high)}, not {number:g}")
    if spec.step is not None:
        base = (low or 0.0) if spec.step_from is None else spec.step_from
        steps = (_exact(number) - _exact(base)) / _exact(spec.step)
        if abs(steps - round(steps)) > STEP_DUST:
            raise ValueOutOfRange(f"{name} must be a multiple of {spec.step:g} from {base:g}, not {number:g}")


def _exact(number: float) -> Fraction:
    """The decimal number that people mean by a float: 0.1 is 0.1."""
    return Fraction(repr(number))


def _limit(limit: float | None) -> str:
    return "" if limit is None else f"{limit:g}"
