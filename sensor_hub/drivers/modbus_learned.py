"""What a unit turned out to take, learned from its refusals and its silence. Pure: time comes in as a number."""

from __future__ import annotations

import math
from dataclasses import replace

from sensor_hub.drivers.modbus_plan import Limits, Span

FORGET_S = 600.0  # a device may have been changed or configured anew
_SILENCES = 3  # in a row, of the same block: not a lost frame or two


class Learned:
    """One unit's memory since its line was connected; each thing is forgotten after ten minutes.

    A device may refuse a block (an exception), or ignore one that is too long for it. The latter looks like a dead
    device, so shorter blocks are tried for as long as all is silent, and what is known counts only once the long
    block stayed silent while the unit answered others.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: the line was connected, and another device may be there now."""
        self._refused: dict[Span, float] = {}  # until when it counts
        self._refused_now: frozenset[Span] = frozenset()
        self._silences: dict[Span, tuple[int, float]] = {}  # how often in a row, and since when
        self._answered_at = -math.inf
        self._longest: tuple[int, float] | None = None  # registers that it takes, and until when that counts
        self._tried: int | None = None  # registers; only until it answers

    def refuse(self, span: Span, now: float) -> None:
        """It answered that it does not read all of this."""
        self._answered_at, self._tried = now, None
        self._refused[span] = now + FORGET_S
        self._refused_now = frozenset(self._refused)

    def answer(self, span: Span, now: float) -> None:
        """It answered this. One that refused everything, and now answers, is another or has woken up."""
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

    def refused(self, now: float) -> frozenset[Span]:
        """What it refused to read all of; the same object until that changes."""
        if any(until <= now for until in self._refused.values()):
            self._refused = {span: until for span, until in self._refused.items() if until > now}
            self._refused_now = frozenset(self._refused)
        return self._refused_now

    def limits(self, configured: Limits, now: float) -> Limits:
        """The configured limits, narrowed to what it takes."""
        if self._longest is not None and self._longest[1] <= now:
            self._longest = None
            self._silences.clear()
        known = configured.max_registers if self._longest is None else self._longest[0]
        tried = configured.max_registers if self._tried is None else self._tried
        return replace(configured, max_registers=min(configured.max_registers, known, tried))
