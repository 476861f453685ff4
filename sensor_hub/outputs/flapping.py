"""When a connection that comes and goes at once is given longer pauses. Pure: time comes in as a number."""

from __future__ import annotations

from collections import deque

FIRST_PAUSE_S, MAX_PAUSE_S = 1, 60
LOSSES, WITHIN_S = 3, 15.0  # so many losses in such a time are no accident
STEADY_S = 60.0


class Flapping:
    """Counts losses of connections that the broker had accepted. Losses come from one thread."""

    def __init__(self) -> None:
        self._lost_at: deque[float] = deque(maxlen=LOSSES)
        self._connected_at: float | None = None
        self.now = False
        self.pause_s = FIRST_PAUSE_S  # before the next attempt

    def connected(self, at: float) -> None:
        """The broker has let us in."""
        self._connected_at = at

    def lost(self, at: float) -> bool:
        """It is gone again; True when with this loss the flapping begins."""
        self.steady(at)
        self._connected_at = None
        self._lost_at.append(at)
        begins = not self.now and len(self._lost_at) == LOSSES and at - self._lost_at[0] <= WITHIN_S
        self.now = self.now or begins
        if self.now:
            self.pause_s = min(MAX_PAUSE_S, self.pause_s * 2)
        return begins

    def steady(self, at: float) -> bool:
        """Whether it has ended, by a connection that has stood for STEADY_S; true once."""
        stands = self._connected_at is not None and at - self._connected_at >= STEADY_S
        if not self.now or not stands:
            return False
        self.now, self.pause_s = False, FIRST_PAUSE_S
        self._lost_at.clear()
        return True
