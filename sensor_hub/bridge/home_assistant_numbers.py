"""What Home Assistant is told of a number: device class, state class, limits, digits. Data and arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Json

LIMIT = 1e15  # where nothing says what may be written: every whole number up to there is exact
SMALLEST_STEP = Fraction(1, 1000)  # that Home Assistant takes
_MAX_DIGITS = 6

# The units that Home Assistant allows for a device class, as far as a unit alone tells what is measured (or, for those
# at the end, the kind of sensor or the property's name). Nothing newer than device-based discovery itself.
UNITS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("°C", "°F", "K"),
    "voltage": ("V", "mV"),
    "current": ("A", "mA"),
    "power": ("W", "kW", "MW"),
    "apparent_power": ("VA",),
    "reactive_power": ("var",),
    "energy": ("Wh", "kWh", "MWh"),
    "frequency": ("Hz", "kHz", "MHz"),
    "pressure": ("Pa", "hPa", "kPa", "bar", "mbar", "psi"),
    "illuminance": ("lx",),
    "irradiance": ("W/m²",),
    "duration": ("ms", "s", "min", "h", "d"),
    "distance": ("mm", "cm", "m", "km"),
    "weight": ("g", "kg"),
    "speed": ("m/s", "km/h"),
    "volume_flow_rate": ("m³/h", "L/min"),
    "signal_strength": ("dBm",),
    "atmospheric_pressure": ("hPa", "kPa", "Pa", "bar", "mbar", "psi"),
    "humidity": ("%",),
    "battery": ("%",),
    "carbon_dioxide": ("ppm",),
}
_BY_NAME = ("humidity", "battery")  # "%" alone may be anything
_NEVER_BY_UNIT = ("atmospheric_pressure", "carbon_dioxide", *_BY_NAME)
_BY_UNIT = {unit: name for name, units in UNITS.items() if name not in _NEVER_BY_UNIT for unit in units}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a number measures."""

    unit: str | None = None
    device_class: str | None = None
    state_class: str = "measurement"

    @property
    def is_diagnostic(self) -> bool:
        """Whether it is about the device rather than about what the device is for."""
        return self.device_class in ("battery", "signal_strength")

    def facts(self) -> dict[str, Json]:
        """Unit and device class, in Home Assistant's words."""
        found = {"unit_of_meas": self.unit, "dev_cla": self.device_class}
        return {key: value for key, value in found.items() if value}


def quantity_of(unit: str | None, of_type: str | None, name: str) -> Quantity:
    """What a number with this unit measures; `of_type` is the device class of its kind of sensor, if any."""
    unit = (unit or "").strip() or None
    device_class = _BY_UNIT.get(unit or "")
    if of_type and unit in UNITS.get(of_type, ()):
        device_class = of_type
    elif unit == "%":
        device_class = next((word for word in _BY_NAME if word in name.lower()), None)
    return Quantity(unit, device_class, "total_increasing" if device_class == "energy" else "measurement")


def digits_of(spec: PropertySpec) -> int | None:
    """Digits after the point that a value can have; None when nothing tells."""
    step = _resolution(spec)
    if step is None:
        return None
    digits = (digits for digits in range(_MAX_DIGITS + 1) if (step * 10**digits).denominator == 1)
    return next(digits, _MAX_DIGITS)


def range_of(spec: PropertySpec) -> tuple[float, float, float]:
    """Lowest and highest value that may be written, and the step between: all such values, counted from the lowest."""
    high = max(LIMIT, spec.minimum or 0.0) if spec.maximum is None else spec.maximum
    low = min(-LIMIT, high) if spec.minimum is None else spec.minimum
    step = _resolution(spec) or SMALLEST_STEP
    if step < SMALLEST_STEP:
        step *= math.ceil(SMALLEST_STEP / step)
    if spec.step is not None:
        base = _exact((spec.minimum or 0.0) if spec.step_from is None else spec.step_from)
        first = base + math.ceil((_exact(low) - base) / step) * step
        last = base + math.floor((_exact(high) - base) / step) * step
        if first <= last:
            low, high = float(first), float(last)
    if low >= high:  # which not every Home Assistant takes
        high = max(low + float(step), math.nextafter(low, math.inf))
    return _plain(low), _plain(high), _plain(float(step))


def _resolution(spec: PropertySpec) -> Fraction | None:
    """How far apart two values are at least: its step, or what its register can tell apart."""
    if spec.step:
        return _exact(spec.step)
    return _exact(spec.tolerance) * 2 if spec.tolerance else None


def _exact(number: float) -> Fraction:
    return Fraction(repr(float(number)))


def _plain(number: float) -> int | float:
    """Whole numbers as such, as long as both are the same."""
    return int(number) if number == int(number) and abs(number) <= LIMIT else number
