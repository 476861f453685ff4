"""What happened on a line and with each of its units: counters, time spent, who is left alone."""

from __future__ import annotations

from dataclasses import replace

from sensor_hub.clock import Clock
from sensor_hub.errors import CircuitOpen, HubError, ReadTimeout
from sensor_hub.line_report import LineReport, UnitReport
from sensor_hub.polling import Breaker, Counters, Meter, Unit

MEAN_OF = 20  # transactions over which a line's round trip is (exponentially) averaged


class Ledger:
    """The books of one line. Written by its worker's thread; `report` may be called by any."""

    def __init__(self, units: dict[str, int | str], clock: Clock, *, with_breakers: bool) -> None:
        """`units`: sensor_id -> unit id."""
        self._clock = clock
        now = clock.monotonic()
        self._units: dict[int | str, Unit] = {}
        self._counters, self._meter = Counters(), Meter(now)
        self.missed_turns = 0
        self._round_trip_ms: float | None = None
        for sensor_id, unit_id in units.items():
            unit = self._units.setdefault(
                unit_id, Unit(unit_id, Breaker() if with_breakers else None, Meter(now))
            )
            unit.sensors.append(sensor_id)

    def answered(self, unit_id: int | str, began: float) -> None:
        """A transaction that reads, begun then (monotonic), was answered."""
        unit, now = self._units[unit_id], self._clock.monotonic()
        self._began(unit, now, now - began)
        unit.round_trip_ms, unit.last_error = (now - began) * 1000, None
        mean_ms = self._round_trip_ms
        self._round_trip_ms = (
            unit.round_trip_ms if mean_ms is None else mean_ms + (unit.round_trip_ms - mean_ms) / MEAN_OF
        )
        unit.answered()

    def failed(self, unit_id: int | str, began: float, error: HubError) -> None:
        """A transaction that reads failed."""
        unit, now = self._units[unit_id], self._clock.monotonic()
        self._began(unit, now, now - began)
        self._counters.failed(error)
        unit.failed(error, now, now - began)

    def written(self, unit_id: int | str, began: float, error: HubError | None) -> None:
        """A command was carried out, or failed (its readings apart)."""
        unit, now = self._units[unit_id], self._clock.monotonic()
        self._counters.commands += 1
        unit.counters.commands += 1
        if error is None:
            unit.answered()
        else:
            self._counters.failed(error)
            unit.failed(error, now, now - began)
        self._spend(unit, now, now - began)

    def heard(self, unit_id: int | str) -> None:
        """The unit said something unasked."""
        unit = self._units[unit_id]
        self._counters.reads += 1
        unit.counters.reads += 1
        unit.last_error = None
        unit.answered()

    def misheard(self, unit_id: int | str, error: HubError) -> None:
        """The unit said something unasked that is no reading."""
        unit = self._units[unit_id]
        for counters in (self._counters, unit.counters):
            counters.reads += 1
            counters.failed(error)
        unit.last_error = str(error)

    def new_line(self) -> None:
        """The line was opened: whoever was left alone is asked at once."""
        for unit in self._units.values():
            if unit.breaker is not None:
                unit.breaker.probe_at_once()

    def left_alone_s(self, unit_id: int | str) -> float:
        """Seconds for which the unit is left alone; 0: it may be asked."""
        return self._units[unit_id].open_for(self._clock.monotonic())

    def round_trip_s(self, unit_id: int | str) -> float:
        """How long the unit's last answer took; 0 when there was none."""
        return (self._units[unit_id].round_trip_ms or 0.0) / 1000

    def refuse_left_alone(self, unit_id: int | str) -> None:
        """Raise CircuitOpen while the unit is left alone."""
        unit, left_s = self._units[unit_id], self.left_alone_s(unit_id)
        if left_s > 0 and unit.breaker is not None:
            raise CircuitOpen(
                f"unit {unit_id} did not answer {unit.breaker.failures} times in a row; next try in {left_s:.1f} s"
            )

    def silence_of(self, unit_id: int | str) -> HubError:
        """Why a unit that is left alone has no new reading."""
        return ReadTimeout(self._units[unit_id].last_error or "unit does not answer")

    def report(self) -> LineReport:
        """Everything so far."""
        now = self._clock.monotonic()
        units = tuple(UnitReport.of(unit, now) for unit in self._units.values())
        return LineReport(
            self._meter.share(now), self.missed_turns, replace(self._counters), units, self._round_trip_ms
        )

    def _began(self, unit: Unit, now: float, seconds: float) -> None:
        self._counters.reads += 1
        unit.counters.reads += 1
        self._spend(unit, now, seconds)

    def _spend(self, unit: Unit, now: float, seconds: float) -> None:
        self._meter.add(now, seconds)
        unit.meter.add(now, seconds)
