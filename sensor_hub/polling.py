"""When each device of one line is read, and when a dead one is left alone. Pure: time comes in as a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sensor_hub.config.model import SensorConfig
from sensor_hub.errors import CircuitOpen, HubError, ReadTimeout, TransportDown

OPEN_AFTER_FAILURES = 3
# A dead unit is probed so seldom that waiting for it costs its line at most 1/20 of the time.
PROBE_COST_FACTOR = 20.0
MAX_PROBE_PAUSE_S = 300.0


@dataclass(slots=True)
class Breaker:
    """Leaves a unit alone that failed to answer several times in a row; one answer closes it again."""

    failures: int = 0
    next_probe_at: float | None = None  # None: closed

    def answered(self) -> None:
        """The unit said something, if only an error: it lives."""
        self.failures, self.next_probe_at = 0, None

    def silent(self, now: float, cost_s: float) -> None:
        """The unit did not answer, and waiting for it took `cost_s` of the line's time."""
        self.failures += 1
        if self.failures >= OPEN_AFTER_FAILURES:
            self.next_probe_at = now + min(MAX_PROBE_PAUSE_S, PROBE_COST_FACTOR * cost_s)

    def probe_at_once(self) -> None:
        """The line is new: whatever was on it may be another device now."""
        if self.next_probe_at is not None:
            self.next_probe_at = 0.0

    def open_for(self, now: float) -> float:
        """Seconds until the next probe is allowed; 0 when the unit may be asked."""
        return 0.0 if self.next_probe_at is None else max(0.0, self.next_probe_at - now)


@dataclass(slots=True)
class Unit:
    """One address on a line: its sensors, what happened to their reads, and whether it is left alone."""

    unit_id: int | str
    breaker: Breaker | None
    reads: int = 0
    errors: int = 0
    round_trip_ms: float | None = None
    last_error: str | None = None
    sensors: list[str] = field(default_factory=list)

    def answered(self) -> None:
        """It said something."""
        if self.breaker is not None:
            self.breaker.answered()

    def failed(self, error: HubError, now: float, cost_s: float) -> None:
        """An exchange with it ended in `error` and took `cost_s` of the line's time."""
        if isinstance(error, TransportDown | CircuitOpen) or self.breaker is None:
            return  # that says nothing about the unit
        if isinstance(error, ReadTimeout):
            self.breaker.silent(now, cost_s)
        else:
            self.breaker.answered()

    def open_for(self, now: float) -> float:
        """Seconds for which it is left alone; 0 when it may be asked."""
        return 0.0 if self.breaker is None else self.breaker.open_for(now)


class Schedule:
    """Due times of a line's background reads. Not thread-safe: belongs to the line's worker."""

    def __init__(self, sensors: Sequence[SensorConfig], now: float) -> None:
        """Every sensor is due at once, in configured order."""
        self._interval = {sensor.sensor_id: sensor.interval_s for sensor in sensors}
        self._due = dict.fromkeys(self._interval, now)

    def next(self) -> tuple[str, float] | None:
        """The sensor due first and when, or None when the line has no sensors."""
        if not self._due:
            return None
        sensor_id = min(self._due, key=self._due.__getitem__)
        return sensor_id, self._due[sensor_id]

    def done(self, sensor_id: str, now: float, *, not_before: float = 0.0) -> None:
        """It was read now: a turn that was due is over, and the next is one interval after it.

        A read before its turn leaves that where it is. Missed turns are skipped, not caught up.
        """
        interval, due = self._interval[sensor_id], self._due[sensor_id]
        if due <= now:
            due += interval
            if due <= now:
                due = now + interval
        self._due[sensor_id] = max(due, not_before)

    def soon(self, sensor_id: str, now: float) -> None:
        """Read it as soon as the line is free (its value was just changed)."""
        self._due[sensor_id] = min(self._due[sensor_id], now)

    def all_soon(self, now: float) -> None:
        """The line came back: everything is due."""
        self._due = dict.fromkeys(self._due, now)
