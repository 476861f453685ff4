"""When a lost line is tried again, and when that is given up. Pure: time comes in as a number."""

from __future__ import annotations

MAX_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0


class Backoff:
    """Pauses that double up to MAX_PAUSE_S (or stay at a longer first one). Belongs to the line's worker."""

    def __init__(self, first_pause_s: float, give_up_after_s: float) -> None:
        """`give_up_after_s` counts from the first failure in a row; 0: never."""
        self._first_pause_s, self._give_up_after_s = first_pause_s, give_up_after_s
        self._pause_s = first_pause_s
        self._failing_since: float | None = None
        self._connected_at: float | None = None
        self.retry_at = 0.0
        self.given_up = False

    def connected(self, now: float) -> None:
        """The line could be opened. That alone proves little: it may be closed again at once."""
        self._connected_at = now

    def healthy(self) -> None:
        """Somebody on the line answered: the next pause is a short one again."""
        self._pause_s, self._failing_since = self._first_pause_s, None

    def failed(self, now: float) -> None:
        """The line was lost, or could not be opened."""
        if self._connected_at is not None and now - self._connected_at >= HEALTHY_AFTER_S:
            self.healthy()
        self._connected_at = None
        if self._failing_since is None:
            self._failing_since = now
        self.retry_at = now + self._pause_s
        self._pause_s = max(self._first_pause_s, min(MAX_PAUSE_S, self._pause_s * 2))

    def gives_up(self, now: float) -> bool:
        """Whether the time for trying is over; true once."""
        if self.given_up or self._give_up_after_s <= 0 or self._failing_since is None:
            return False
        self.given_up = now - self._failing_since >= self._give_up_after_s
        return self.given_up

    def pause_s(self, now: float) -> float | None:
        """Seconds until there is something to do: to try again or to give up. None: never again."""
        if self.given_up:
            return None
        ends = [self.retry_at]
        if self._give_up_after_s > 0 and self._failing_since is not None:
            ends.append(self._failing_since + self._give_up_after_s)
        return max(0.0, min(ends) - now)

    def may_try(self, now: float) -> bool:
        """Whether the pause is over and nothing was given up."""
        return not self.given_up and now >= self.retry_at
