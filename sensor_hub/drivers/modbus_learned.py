"""What a unit turned out to take, learned from its refusals and its silence. Pure: time comes in as a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sensor_hub.drivers.modbus_plan import Limits, Span

FORGET_S = 600.0  # a device may have been changed or configured anew
AGAIN_S = 10.0  # one that has answered before may only be starting
_SILENCES = 3  # in a row, of the same block: not a lost frame or two


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Until when it counts, and for how long it did from its beginning."""

    until: float
    counts_s: float


class Learned:
    """One unit's memory since its line was connected; each thing is forgotten after ten minutes.

    What was refused but has answered before is asked for again soon, then less and less often: it may be starting.

    A device may refuse a block (an exception), or ignore one that is too long for it. The latter looks like a dead
    device, so shorter blocks are tried for as long as all is silent, and what is known counts only once the long
    block stayed silent while the unit answered others.
    """

    def __init__(self) -> None:
        self._readable: set[Span] = set()  # points that have answered, on this connection or another
        self.forget()

    def forget(self) -> None:
        """Begin anew: the line was connected, and another device may be there now."""
        self._refused: dict[Span, _Refusal] = {}  # those that count no more, too
        self._refused_now: frozenset[Span] = frozenset()
        self._silences: dict[Span, tuple[int, float]] = {}  # how often in a row, and since when
        self._answered_at = -math.inf
        self._longest: tuple[int, float] | None = None  # registers that it takes, and until when that counts
        self._tried: int | None = None  # registers; only until it answers

    def refuse(self, span: Span, now: float, points: Iterable[Span] = ()) -> None:
        """It answered that it does not read all of this, which is where these points lie."""
        self._answered_at, self._tried = now, None
        before = self._refused.get(span)
        if before is not None and before.until > now:
            return  # somebody asked meanwhile
        parts = tuple(points)
        counts_s = FORGET_S
        if parts and self._readable.issuperset(parts):
            counts_s = AGAIN_S if before is None else min(FORGET_S, 2 * before.counts_s)
        self._refused[span] = _Refusal(now + counts_s, counts_s)
        self._count(now)

    def answer(self, span: Span, now: float, points: Iterable[Span] = ()) -> None:
        """It answered this, with these points. One that refused it before is another or has woken up."""
        self._readable.update(points)
        if span in self._refused:
            self.forget()
        self._answered_at, self._tried = now, None
        self._silences.pop(span, None)

    def keep_silent(self, span: Span, now: float) -> None:
        """It did not answer this."""
        count, since = self._silences.get(span, (0, now))
        self._silences[span] = count + 1, since
        if span.registers < 2 or (count + 1 < _SILENCES and self._tried is None):
            return
        if self._answered_at > since:
            self._longest = span.registers // 2, now + FORGET_S
        else:
            self._tried = span.registers // 2

    def ask_again(self, written: Span, points: Iterable[Span], now: float) -> None:
        """It took a value for this: which of these points lie there may be read now."""
        for span in points:
            refusal = self._refused.get(span)
            if refusal is not None and refusal.until > now and span.overlaps(written):
                self._refused[span] = replace(refusal, until=now)
                self._count(now)

    def refused(self, now: float) -> frozenset[Span]:
        """What it refused to read all of; the same object until that changes."""
        if any(self._refused[span].until <= now for span in self._refused_now):
            self._count(now)
        return self._refused_now

    def _count(self, now: float) -> None:
        """Which refusals count; the others are kept for a while, as the next one counts for longer then."""
        self._refused = {span: each for span, each in self._refused.items() if each.until + FORGET_S > now}
        self._refused_now = frozenset(span for span, each in self._refused.items() if each.until > now)

    def limits(self, configured: Limits, now: float) -> Limits:
        """The configured limits, narrowed to what it takes."""
        if self._longest is not None and self._longest[1] <= now:
            self._longest = None
            self._silences.clear()
        known = configured.max_registers if self._longest is None else self._longest[0]
        tried = configured.max_registers if self._tried is None else self._tried
        return replace(configured, max_registers=min(configured.max_registers, known, tried))
