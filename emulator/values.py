"""What an emulated sensor measures: a curve over the day plus seeded noise. Time and chance are handed in."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

SCALE = 0.1  # one register step
NOISE_PERIOD_S = 1.0  # registers change about this often


@dataclass(frozen=True, slots=True)
class Profile:
    """A day of one kind of sensor, in its unit.

    `base` +- `swing` with its maximum at `peak_hour` (local time), noise evenly within +-`noise`; then kept
    in `low`..`high`.
    """

    base: float
    swing: float
    noise: float
    peak_hour: float
    low: float = -3276.8
    high: float = 3276.7


GENERIC = Profile(base=50.0, swing=20.0, noise=0.5, peak_hour=12.0, low=0.0, high=100.0)
PROFILES: Mapping[str, Profile] = {
    "temperature": Profile(base=22.0, swing=3.0, noise=0.5, peak_hour=15.0),
    "humidity": Profile(base=45.0, swing=10.0, noise=0.5, peak_hour=5.0, low=20.0, high=80.0),
    "pressure": Profile(base=1013.0, swing=4.0, noise=0.2, peak_hour=10.0),
    "illuminance": Profile(base=0.0, swing=1500.0, noise=5.0, peak_hour=13.0, low=0.0),
    "co2": Profile(base=650.0, swing=200.0, noise=10.0, peak_hour=21.0, low=400.0),
    "generic": GENERIC,
}


def stream(seed: int | None, *name: str) -> random.Random:
    """Make a random stream for each name: the same seed gives each the same sequence; None: unseeded."""
    return random.Random() if seed is None else random.Random("/".join((str(seed), *name)))


def curve(profile: Profile, when: datetime) -> float:
    """Return the value without noise at the local time `when`."""
    hour = when.hour + when.minute / 60 + (when.second + when.microsecond / 1e6) / 3600
    return profile.base + profile.swing * math.cos(2 * math.pi * (hour - profile.peak_hour) / 24)


class Signal:
    """One sensor's value over time; the noise is drawn anew after each `NOISE_PERIOD_S`."""

    def __init__(self, kind: str, zone: tzinfo, chance: random.Random) -> None:
        """`kind` without a profile of its own behaves as `generic`."""
        self._profile = PROFILES.get(kind, GENERIC)
        self._zone, self._chance = zone, chance
        self._drawn_at: datetime | None = None
        self._noise = 0.0

    def at(self, when: datetime) -> float:
        """Value at the aware time `when`, in the kind's unit."""
        # abs: a wall clock set back must not freeze the noise until it has caught up
        if self._drawn_at is None or abs((when - self._drawn_at).total_seconds()) >= NOISE_PERIOD_S:
            self._drawn_at = when
            self._noise = self._chance.uniform(-self._profile.noise, self._profile.noise)
        value = curve(self._profile, when.astimezone(self._zone)) + self._noise
        return min(max(value, self._profile.low), self._profile.high)


def register_of(value: float) -> int:
    """Encode `value` as an int16 register of scale 0.1, 0..65535 (22.5 -> 225, -0.1 -> 65535), clamped."""
    return max(-32768, min(32767, round(value / SCALE))) & 0xFFFF
