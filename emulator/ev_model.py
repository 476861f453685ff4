"""What a charger is connected to: a car with a battery, and the heat of the current. Pure: time is handed in."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

TAPER_FROM_SOC, TAPER_TO = 80.0, 0.5  # above, the car takes less, down to this share at 100 %
VARIANCE = 0.01
AMBIENT_C = 20.0
WARMTH_C_PER_A2 = 0.03  # over the ambient at rest: 31 °C more at 32 A
WARMING_S = 600.0


@dataclass(slots=True)
class Vehicle:
    """What stands at the other end of the cable. `direct_amps`: it takes these whatever is offered."""

    plugged: bool = False
    asks_for_charge: bool = False
    soc: float = 50.0
    battery_kwh: float = 75.0
    max_charge_kw: float = 7.2
    direct_mode: bool = False
    direct_amps: float = 16.0
    variance: bool = False
    diode_failure: bool = False
    chance: random.Random = field(default_factory=random.Random)
    spread: float = 0.0  # -1..1, of what it takes more or less at present if it is to vary

    @property
    def wants(self) -> bool:
        """Whether it asks for power and can take some."""
        return self.plugged and self.asks_for_charge and (self.direct_mode or self.max_charge_kw > 0)

    def vary(self) -> None:
        """Take a little more or less from now on."""
        self.spread = self.chance.uniform(-1, 1) if self.variance else 0.0

    def amps_of(self, offered_amps: float, volts: float) -> float:
        """What it takes of an offer."""
        if self.direct_mode:
            return self.direct_amps * (1 + VARIANCE * self.spread)
        taken_kw = min(offered_amps * volts / 1000, self.max_charge_kw)
        if self.soc > TAPER_FROM_SOC:
            taken_kw *= 1 - (1 - TAPER_TO) * (self.soc - TAPER_FROM_SOC) / (100 - TAPER_FROM_SOC)
        return taken_kw * (1 - VARIANCE * abs(self.spread)) * 1000 / volts

    def charge(self, watt_hours: float) -> None:
        """Take energy in; a full car asks no more."""
        self.soc = min(100.0, self.soc + watt_hours / (self.battery_kwh * 10))
        if self.soc >= 100.0:
            self.asks_for_charge = False


class Warmth:
    """The temperature inside a charger, which follows the square of its current."""

    def __init__(self, celsius: float) -> None:
        self._celsius = celsius
        self.forced: float | None = None

    @property
    def celsius(self) -> float:
        """As it is now."""
        return self._celsius if self.forced is None else self.forced

    def pass_time(self, seconds: float, amps: float) -> None:
        """Warm up or cool down."""
        aim = AMBIENT_C + WARMTH_C_PER_A2 * amps**2
        share = min(1.0, seconds / WARMING_S)
        self._celsius += (aim - self._celsius) * share if amps > 0 or self._celsius > AMBIENT_C else 0.0
