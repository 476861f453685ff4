"""When somebody who calls tries again, and when he gives up. Pure: times are numbers of one clock."""

from __future__ import annotations

MAX_PAUSE_S = 30.0
STOOD_S = 1.0  # a connection that ends sooner, without a byte, proves nothing


class Retries:
    """Pauses of `backoff * 2^n`, at most 30 s, from the first failure in a row on."""

    def __init__(self, backoff_s: float, timeout_s: float) -> None:
        """`timeout_s` 0: it never gives up."""
        self._backoff_s, self._timeout_s = backoff_s, timeout_s
        self._failures = 0
        self._since: float | None = None

    def connection_ended(self, stood_s: float, *, used: bool) -> None:
        """It was there for so long. If it was of use, the next pause is the first again. `used`: a byte has gone."""
        if used or stood_s >= STOOD_S:
            self._failures, self._since = 0, None

    def failed(self, now: float) -> float | None:
        """Seconds to the next try; None: the time is over."""
        if self._since is None:
            self._since = now
        pause_s = min(MAX_PAUSE_S, self._backoff_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        left_s = self._since + self._timeout_s - now
        if not self._timeout_s:
            return pause_s
        return min(pause_s, left_s) if left_s > 0 else None
