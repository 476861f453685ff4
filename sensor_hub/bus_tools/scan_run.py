"""The scan itself: asks what the plan says, one question after the other, and tells what it meets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sensor_hub.bus_tools.exchange import Bus, Heard
from sensor_hub.bus_tools.scan_plan import Plan, named
from sensor_hub.drivers.late_answers import LATE_FACTOR
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import Table
from sensor_hub.drivers.modbus_settings import RtuSettings
from sensor_hub.errors import TransportDown

# Answers make a scan quicker and repeated questions slower; a machine may be slow, too. This is the end of it.
_OVERTIME, _GRACE_S = 1.25, 3.0
_LATE_MAX = 8
_ASKED_AT = 0
_SUSPICIOUS = 3  # so many units may all be there
MORE_THAN_ONE = "more than one answer: do two devices have this unit id?"
DAMAGED = "damaged frames: do two devices have this unit id? else noise, or other stop bits"
DAMAGED_ONCE = "one of two answers was damaged"


@dataclass(frozen=True, slots=True)
class Hit:
    """A unit that answers with these settings; `answer`: what it said; `doubt`: why this may not be one device."""

    settings: RtuSettings
    unit_id: int
    answer: str
    round_trip_s: float
    doubt: str = ""


class Watcher(Protocol):
    """Whoever wants to know how far it is."""

    def began(self, settings: RtuSettings) -> None:
        """These settings are tried from now on."""

    def asked(self) -> None:
        """One more unit has been asked everything."""

    def hit(self, hit: Hit) -> None:
        """This one answers."""

    def hint(self, text: str) -> None:
        """Something that people should know."""


@dataclass(slots=True)
class _Tally:
    """What one setting brought besides hits."""

    garbage: int = 0
    sample: str = ""
    unasked: int = 0
    heard: dict[int, None] = field(default_factory=dict)  # units whose frames came when they were not asked
    hung_up: Counter[str] = field(default_factory=Counter)
    gateway: int = 0

    def take(self, heard: Heard) -> None:
        """Count it."""
        if heard.kind == "garbage":
            self.garbage += 1
            self.sample = self.sample or heard.sample
        self.unasked += heard.unasked if not heard.others else 0
        self.heard |= dict.fromkeys(sorted(heard.others))
        if heard.kind == "silent" and heard.sample:
            self.hung_up[heard.sample] += 1
        self.gateway += heard.kind == "silent" and heard.code > 0


class Scan:
    """One run over a plan. `open_line` opens the line with settings; a setting that the port refuses is left out."""

    def __init__(
        self,
        plan: Plan,
        open_line: Callable[[RtuSettings], Bus],
        watcher: Watcher,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet."""
        self._plan, self._open, self._watcher, self._now = plan, open_line, watcher, now
        self.hits: list[Hit] = []

    def run(self, *, first_only: bool = False) -> None:
        """Ask everything. Raises TransportDown when the line is gone; what was hit until then stays in `hits`."""
        ends_at = self._now() + self._plan.estimate_s * _OVERTIME + _GRACE_S
        for settings in self._plan.settings:
            self._watcher.began(settings)
            bus = self._opened(settings)
            if bus is None:
                continue
            try:
                in_time = self._units(bus, settings, ends_at)
            finally:
                bus.close()
            if not in_time:
                self._watcher.hint("stopped before the end: it takes longer than estimated")
                return
            if first_only and any(hit.settings == settings and hit.doubt != DAMAGED for hit in self.hits):
                return

    def _opened(self, settings: RtuSettings) -> Bus | None:
        """The line with these settings; None when it is the settings that the port does not take."""
        try:
            return self._open(settings)
        except TransportDown as error:
            plain = RtuSettings()
            if settings == plain or not self._plan.on_serial:
                raise
            try:
                self._open(plain).close()
            except TransportDown:
                raise error from None
            self._watcher.hint(f"{named(settings)}: {error}; left out")
            return None

    def _units(self, bus: Bus, settings: RtuSettings, ends_at: float) -> bool:
        """Ask every unit; whether there was time for all of them."""
        tally = _Tally()
        before = len(self.hits)
        for unit_id in self._plan.units:
            if self._now() > ends_at:
                return False
            self._try(bus, settings, unit_id, self._plan.timeout_s, tally)
            self._watcher.asked()
        answered = {hit.unit_id for hit in self.hits[before:]}
        late = [unit_id for unit_id in tally.heard if unit_id in self._plan.units and unit_id not in answered]
        for unit_id in late[:_LATE_MAX]:
            # A unit that was too late is asked again with as much patience as an answer may need.
            self._try(bus, settings, unit_id, LATE_FACTOR * self._plan.timeout_s, tally, late=True)
        for hint in self._hints(settings, tally, self.hits[before:]):
            self._watcher.hint(hint)
        return True

    def _try(
        self,
        bus: Bus,
        settings: RtuSettings,
        unit_id: int,
        timeout_s: float,
        tally: _Tally,
        *,
        late: bool = False,
    ) -> None:
        """Ask one unit until something answers; a damaged answer is asked for once more."""
        damage = ""
        for table in self._plan.tables:
            heard = self._listen(bus, unit_id, table, timeout_s, tally)
            if heard.kind == "damaged":
                damage = heard.sample
                heard = self._listen(bus, unit_id, table, timeout_s, tally)
            if heard.is_answer:
                doubt = MORE_THAN_ONE if heard.several else DAMAGED_ONCE if damage else ""
                if late:
                    doubt = f"slow: needs more than {self._plan.timeout_s:g} s, set timeout_s"
                self._tell(Hit(settings, unit_id, _said(table, heard), heard.round_trip_s, doubt))
                return
            if heard.kind == "damaged":
                break
        if damage:
            self._tell(Hit(settings, unit_id, f"damaged ({damage})", 0.0, DAMAGED))

    def _listen(self, bus: Bus, unit_id: int, table: Table, timeout_s: float, tally: _Tally) -> Heard:
        heard = bus.ask(unit_id, Span(table, _ASKED_AT, 1), timeout_s)
        tally.take(heard)
        return heard

    def _tell(self, hit: Hit) -> None:
        self.hits.append(hit)
        self._watcher.hit(hit)

    def _hints(self, settings: RtuSettings, tally: _Tally, hits: Sequence[Hit]) -> Iterator[str]:
        where = named(settings) if self._plan.has_settings else "this line"
        if tally.garbage:
            yield (
                f"{where}: {tally.garbage} times something was heard that is no Modbus ({tally.sample}): "
                "a device is there that is set otherwise, or noise"
            )
        if tally.unasked:
            yield f"{where}: {tally.unasked} bytes came unasked: another master, or a device that speaks by itself?"
        strangers = sorted(set(tally.heard) - set(self._plan.units))
        if strangers:
            yield f"{where}: frames of unit {', '.join(map(str, strangers))} were heard, which was not asked"
        for reason, count in tally.hung_up.items():
            yield f"{where}: {count} times {reason}"
        if tally.gateway:
            yield f"a gateway answers for {tally.gateway} questions that the unit is silent"
        if len(hits) == len(self._plan.units) > _SUSPICIOUS:
            yield f"{where}: every unit id has an answer; {_suspicion(hits)}"


def _suspicion(hits: Sequence[Hit]) -> str:
    """What it may mean that everybody answers."""
    usual, _ = Counter(hit.answer for hit in hits).most_common(1)[0]
    odd = [str(hit.unit_id) for hit in hits if hit.answer != usual]
    if not odd or len(odd) > len(hits) / 2:
        return "the device seems not to look at it"
    there = "this one is" if len(odd) == 1 else "these are"
    return f"all but {', '.join(odd)} say the same, so perhaps only {there} there"


def _said(table: Table, heard: Heard) -> str:
    if heard.kind == "values":
        return f"{table} {_ASKED_AT} = {heard.values[0]}"
    return f"{table} {_ASKED_AT}: {heard.refusal}"
