"""When the devices of one line are read, and when a dead one is left alone. Pure: time comes in as a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sensor_hub.errors import (
    BrokenFrame,
    CircuitOpen,
    DeviceRefused,
    HubError,
    ReadTimeout,
    TransportDown,
)

OPEN_AFTER_FAILURES = 3
# Waiting for a dead unit costs its line at most 1/20 of the time, whatever its timeout is.
PROBE_SHARE = 0.05
_PAUSE_PER_COST = 1 / PROBE_SHARE
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
METER_WINDOW_S = 60.0


@dataclass(slots=True)
class Breaker:
    """Leaves a unit alone that failed to answer several times in a row; one answer closes it again.

    Each further silence doubles the pause up to LONGEST_PAUSE_S, but waiting for the unit may need a longer one.
    """

    failures: int = 0
    next_probe_at: float | None = None  # None: closed

    def answered(self) -> None:
        """The unit said something, if only an error: it lives."""
        self.failures, self.next_probe_at = 0, None

    def silent(self, now: float, cost_s: float) -> None:
        """The unit did not answer, and waiting for it took `cost_s` of the line's time."""
        self.failures += 1
        step = self.failures - OPEN_AFTER_FAILURES
        if step >= 0:
            backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(step, 10))
            self.next_probe_at = now + max(backoff_s, _PAUSE_PER_COST * cost_s)

    def probe_at_once(self) -> None:
        """The line is new: whatever was on it may be another device now."""
        if self.next_probe_at is not None:
            self.next_probe_at = 0.0

    def open_for(self, now: float) -> float:
        """Seconds until the next probe is allowed; 0 when the unit may be asked."""
        return 0.0 if self.next_probe_at is None else max(0.0, self.next_probe_at - now)


class Meter:
    """How much of the last minute was spent on something."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._spent: deque[tuple[float, float]] = deque()  # end, seconds; at most one entry a second

    def add(self, now: float, seconds: float) -> None:
        """That many seconds were spent just now."""
        if self._spent and now - self._spent[-1][0] < 1.0:
            at, before_s = self._spent[-1]
            self._spent[-1] = (at, before_s + seconds)
        else:
            self._spent.append((now, seconds))
        while self._spent[0][0] < now - METER_WINDOW_S:
            self._spent.popleft()

    def share(self, now: float) -> float:
        """Part of the time, 0..1, over the last minute (or since it began). Any thread may ask; it changes nothing."""
        window_s = min(METER_WINDOW_S, now - self._began)
        spent_s = sum(seconds for at, seconds in list(self._spent) if at >= now - METER_WINDOW_S)
        return 0.0 if window_s <= 0 else min(1.0, spent_s / window_s)


@dataclass(slots=True)
class Counters:
    """What happened on a line, or with one unit of it, since its worker started; the names are the contract's."""

    reads: int = 0
    errors: int = 0
    timeouts: int = 0
    crc_errors: int = 0
    exceptions: int = 0
    commands: int = 0

    def failed(self, error: HubError) -> None:
        """A transaction ended so."""
        self.errors += 1
        self.timeouts += isinstance(error, ReadTimeout)
        self.crc_errors += isinstance(error, BrokenFrame)
        self.exceptions += isinstance(error, DeviceRefused)


@dataclass(slots=True)
class Unit:
    """One address on a line: its sensors, what happened to it, and whether it is left alone."""

    unit_id: int | str
    breaker: Breaker | None
    meter: Meter
    counters: Counters = field(default_factory=Counters)
    round_trip_ms: float | None = None  # of the last transaction that was answered
    last_error: str | None = None
    sensors: list[str] = field(default_factory=list)

    def answered(self) -> None:
        """It said something."""
        if self.breaker is not None:
            self.breaker.answered()

    def failed(self, error: HubError, now: float, cost_s: float) -> None:
        """A transaction with it ended in `error` and took `cost_s` of the line's time."""
        self.counters.failed(error)
        self.last_error = str(error)
        if isinstance(error, TransportDown | CircuitOpen) or self.breaker is None:
            return  # that says nothing about the unit
        if isinstance(
            error, ReadTimeout | BrokenFrame
        ):  # what sends only damaged frames costs as much as silence
            self.breaker.silent(now, cost_s)
        else:
            self.breaker.answered()

    def open_for(self, now: float) -> float:
        """Seconds for which it is left alone; 0 when it may be asked."""
        return 0.0 if self.breaker is None else self.breaker.open_for(now)


class Slot(NamedTuple):
    """Properties of one sensor that are read at the same interval, and so together."""

    sensor_id: str
    interval_s: float


class Schedule:
    """Due times of a line's background reads. Not thread-safe: belongs to the line's worker.

    Of several that are due, the one goes first whose next turn comes first (earliest deadline): a slow device's long
    reading lets a fast one's in between, and none starves.
    """

    def __init__(self, slots: Mapping[Slot, int | str], now: float) -> None:
        """`slots`: each with its unit, in configured order; all are due at once."""
        self._unit = dict(slots)
        self._due = dict.fromkeys(slots, now)
        self._being_read: set[Slot] = set()
        self._postponed: set[Slot] = set()
        self._again_at: dict[Slot, float] = {}  # of what is being read and must be read once more then

    def next_at(self) -> float | None:
        """When the first turn comes; None when there is nothing to read."""
        return min((due for slot, due in self._due.items() if slot not in self._being_read), default=None)

    def most_urgent(self, now: float) -> Slot | None:
        """The slot to read now, None when none is due."""
        due = [slot for slot, at in self._due.items() if at <= now and slot not in self._being_read]
        return min(due, key=self.deadline, default=None)

    def deadline(self, slot: Slot) -> float:
        """When its next turn comes."""
        return self._due[slot] + slot.interval_s

    def begin_with(self, slot: Slot, now: float) -> list[Slot]:
        """The slots of the same unit and interval that are due by now: they are being read from now on."""
        unit = self._unit[slot]
        slots = [
            other
            for other, due in self._due.items()
            if due <= now
            and self._unit[other] == unit
            and other.interval_s == slot.interval_s
            and other not in self._being_read
        ]
        self._being_read.update(slots)
        return slots

    def done(self, slot: Slot, now: float, *, not_before: float = 0.0) -> int:
        """It was read now: a turn that was due is over, and the next is one interval after it.

        A read before its turn leaves that where it is. Missed turns are skipped, not caught up: returns their number.
        """
        interval, due, missed = slot.interval_s, self._due[slot], 0
        if due <= now:
            missed = int((now - due) // interval)
            due = now + interval if missed else due + interval
        self._being_read.discard(slot)
        self._postponed.discard(slot)
        due = min(due, self._again_at.pop(slot, due))
        self._due[slot] = max(due, not_before)
        return missed

    def postpone(self, slot: Slot, until: float) -> None:
        """It cannot be read before then: its turn comes then, or at `resume`."""
        self._being_read.discard(slot)
        self._due[slot] = max(self._due[slot], until)
        self._postponed.add(slot)

    def resume(self, unit_id: int | str, now: float) -> None:
        """The unit answers again: what was postponed is due."""
        for slot in [slot for slot in self._postponed if self._unit[slot] == unit_id]:
            self._postponed.discard(slot)
            self._due[slot] = min(self._due[slot], now)

    def soon(self, sensor_id: str, at: float) -> None:
        """Read all of it by then at the latest, once more if it is just being read.

        (Its value was changed, or part of it could not be read.)
        """
        for slot in self._due:
            if slot.sensor_id == sensor_id and slot in self._being_read:
                self._again_at[slot] = min(at, self._again_at.get(slot, at))
            elif slot.sensor_id == sensor_id:
                self._due[slot] = min(self._due[slot], at)

    def all_soon(self, now: float) -> None:
        """The line came back: everything is due, nothing is being read."""
        self._due = dict.fromkeys(self._due, now)
        self._being_read.clear()
        self._again_at.clear()
        self._postponed.clear()
