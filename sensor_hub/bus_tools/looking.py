"""Reading the registers around an address from a device that may refuse or ignore some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sensor_hub.bus_tools.exchange import Bus, Heard
from sensor_hub.bus_tools.places import Place
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import Table
from sensor_hub.errors import BrokenFrame, DeviceRefused, HubError, ReadTimeout

MAX_BLOCK = 32
# A device that ignores what it does not have costs a timeout each time; one that is not there costs no more than this.
_SILENCES = 3
_TRIES = 2  # of a damaged answer


@dataclass(slots=True)
class View:
    """What a device holds around some places, and why the rest of it is unknown."""

    held: dict[Table, dict[int, int]] = field(default_factory=dict)
    refusals: dict[Table, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """What was read, for people: each run of registers."""
        for table, raw in self.held.items():
            for run in _runs(sorted(raw)):
                words = " ".join(
                    f"{raw[address]:04x}" if _is_words(table) else str(raw[address]) for address in run
                )
                where = f"{run[0]}" if len(run) == 1 else f"{run[0]}..{run[-1]}"
                yield f"{table} {where}: {words}"
        for table, reason in self.refusals.items():
            if not self.held.get(table):
                yield f"{table}: {reason}"


class Looker:
    """Reads one unit. `view` raises when nothing could be read at all."""

    def __init__(self, bus: Bus, unit_id: int, timeout_s: float) -> None:
        """Ask nothing yet."""
        self._bus, self._unit_id, self._timeout_s = bus, unit_id, timeout_s
        self._silences = 0
        self._answered = False
        self._damage = ""

    def view(self, places: Sequence[Place], before: int, after: int) -> View:
        """The registers around each place. Raises ReadTimeout, BrokenFrame, DeviceRefused, TransportDown."""
        seen = View()
        self._silences = 0
        for place in places:
            around = place.around(before, after)
            known = seen.held.setdefault(place.table, {})
            for span in _spans(place, around):
                if all(address in known for address in range(span.address, span.end)):
                    continue
                heard = self._ask(span)
                if heard.kind == "values":
                    known |= dict(zip(range(span.address, span.end), heard.values, strict=False))
                elif heard.kind == "refused":
                    seen.refusals[place.table] = heard.refusal
                else:
                    seen.refusals.setdefault(place.table, "no answer")
                if self._silences >= _SILENCES and not known:
                    break
            if self._silences >= _SILENCES and not self._answered:
                break
            self._silences = 0
        if not any(seen.held.values()):
            raise self._failure(seen)
        return seen

    def _ask(self, span: Span) -> Heard:
        for _ in range(_TRIES):
            heard = self._bus.ask(self._unit_id, span, self._timeout_s)
            if heard.is_answer:
                self._answered = True
                return heard
            if heard.kind == "silent":
                break
            self._damage = heard.sample
        self._silences += 1
        return heard

    def _failure(self, seen: View) -> HubError:
        if self._answered:
            reasons = ", ".join(f"{table}: {reason}" for table, reason in seen.refusals.items())
            return DeviceRefused(f"unit {self._unit_id} gives none of these registers ({reasons})")
        if self._damage:
            return BrokenFrame(
                f"only damaged answers from unit {self._unit_id} ({self._damage}): "
                "are baud rate, parity and stop bits those of the device? has another device the same unit id?"
            )
        return ReadTimeout(
            f"no answer from unit {self._unit_id} within {self._timeout_s:g} s; "
            "`sensor-hub scan` shows which units and settings answer"
        )


def _spans(place: Place, around: range) -> Iterator[Span]:
    """First all at once; then, for devices that refuse blocks, what begins at the place, and one by one.

    Some devices give a number only whole: two or four registers, from its first one on.
    """
    yield Span(place.table, around[0], min(len(around), MAX_BLOCK))
    for count in (4, 2, 1):
        if place.address + count - 1 <= around[-1]:
            yield Span(place.table, place.address, count)
    if place.address - 1 >= around[0] and place.address <= around[-1]:
        yield Span(place.table, place.address - 1, 2)
    nearest_first = sorted(around, key=lambda address: abs(address - place.address))
    yield from (Span(place.table, address, 1) for address in nearest_first)


def _runs(addresses: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for address in addresses:
        if run and address != run[-1] + 1:
            yield run
            run = []
        run.append(address)
    if run:
        yield run


def _is_words(table: Table) -> bool:
    return table not in ("coil", "discrete")
