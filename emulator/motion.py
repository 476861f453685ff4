"""How an emulated motion detector behaves. Pure: time and chance are handed in."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

ACTIVE_HOURS = range(8, 22)
MEAN_GAP_S = 60.0  # between motions in active hours
NIGHT_SHARE = 0.05  # of the motions that a night hour sees, compared with an active one
MOTION_S = (10.0, 30.0)
BATTERY_PER_HOUR = 0.02  # percent points
BATTERY_FLOOR = 5.0
SIGNAL_JITTER_DBM = 3


@dataclass(frozen=True, slots=True)
class MotionState:
    """What the detector says: motion, battery in percent, signal in dBm."""

    motion_detected: bool
    battery_level: float
    signal_strength: int


class MotionModel:
    """One detector. Ask it with times that do not run backwards (if they do, it holds its state)."""

    def __init__(self, start: datetime, zone: tzinfo, chance: random.Random) -> None:
        """`start` is aware; the first motion comes some time after it."""
        self._start, self._zone, self._chance = start, zone, chance
        self._battery = chance.uniform(85.0, 100.0)
        self._signal = chance.randint(-65, -45)
        self._moving = False
        self._until = start + self._gap(start)
        self._forced: bool | None = None

    def force(self, active: bool | None) -> None:
        """Motion on or off whatever the time; None: back to chance."""
        self._forced = active

    def at(self, when: datetime) -> MotionState:
        """State at the aware time `when`."""
        while when >= self._until:
            self._moving = not self._moving
            pause = (
                timedelta(seconds=self._chance.uniform(*MOTION_S)) if self._moving else self._gap(self._until)
            )
            self._until += pause
        hours = max(0.0, (when - self._start).total_seconds() / 3600)
        return MotionState(
            motion_detected=self._moving if self._forced is None else self._forced,
            battery_level=round(max(BATTERY_FLOOR, self._battery - BATTERY_PER_HOUR * hours), 1),
            signal_strength=self._signal + self._chance.randint(-SIGNAL_JITTER_DBM, SIGNAL_JITTER_DBM),
        )

    def _gap(self, begin: datetime) -> timedelta:
        """Time from `begin` to the next motion: arrivals at the day's rate, thinned out at night."""
        moment = begin
        while True:
            moment += timedelta(seconds=self._chance.expovariate(1 / MEAN_GAP_S))
            if moment.astimezone(self._zone).hour in ACTIVE_HOURS or self._chance.random() < NIGHT_SHARE:
                return moment - begin
