"""The kinds of sensors the hub knows: what their number means and what is plausible. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SensorType:
    """One kind of sensor.

    `unit` of its single value; readings outside `low`..`high` are of poor quality; `digits` after the point;
    `device_class` is Home Assistant's word; `events` maps a boolean property to its event names (true, false).
    """

    unit: str | None = None
    low: float | None = None
    high: float | None = None
    digits: int | None = None
    device_class: str | None = None
    events: Mapping[str, tuple[str, str]] = field(default_factory=dict)


SENSOR_TYPES: Mapping[str, SensorType] = {
    "temperature": SensorType("°C", -100.0, 1000.0, 2, "temperature"),
    "humidity": SensorType("%", 0.0, 100.0, 1, "humidity"),
    "pressure": SensorType("hPa", 0.0, 2000.0, 1, "atmospheric_pressure"),
    "illuminance": SensorType("lx", 0.0, 200_000.0, 0, "illuminance"),
    "co2": SensorType("ppm", 0.0, 50_000.0, 0, "carbon_dioxide"),
    "motion": SensorType(
        device_class="motion", events={"motion_detected": ("motion_detected", "motion_cleared")}
    ),
    "generic": SensorType(),
}
