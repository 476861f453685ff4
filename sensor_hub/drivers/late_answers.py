"""Answers that come after their request was given up, on lines whose answers do not say what they answer."""

from __future__ import annotations

# An answer is never later than this many timeouts after its request.
LATE_FACTOR = 4
# What came since the last exchange is taken for at most so long: on some lines it never ends.
DRAIN_MAX_S = 0.5
# While an answer may be another request's, the next one is listened for in such slices.
LINGER_S = 0.02


class LateAnswers:
    """Counts the requests whose answer may still come. Times are monotonic.

    Devices answer in order: while n answers are owed, the answer to a new request is the one after n others, or
    the last one once the others cannot come any more.
    """

    def __init__(self, timeout_s: float) -> None:
        self._patience_s = LATE_FACTOR * timeout_s
        self._sent_at: list[float] = []

    def missed(self, sent_at: float) -> None:
        """The request sent then was given up."""
        self._sent_at.append(sent_at)

    def came(self) -> None:
        """An answer came that nobody waits for."""
        del self._sent_at[:1]

    def settled(self) -> None:
        """Nothing is owed any more."""
        self._sent_at.clear()

    def owed(self, now: float) -> int:
        """How many answers may still come before the one that is waited for."""
        self._sent_at = [at for at in self._sent_at if at + self._patience_s > now]
        return len(self._sent_at)

    def is_ours(self, answers: int, now: float) -> bool:
        """Whether the last of so many answers to a request belongs to it."""
        return answers > 0 and answers > self.owed(now)
