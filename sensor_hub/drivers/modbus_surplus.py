"""Lines that send more answers than they are sent requests, as radio modems and repeaters do. Pure."""

from __future__ import annotations

from sensor_hub.drivers.modbus_frames import Expected

# Answers that are still owed, however many were lost before.
_OWED_MAX = 8
# After so many exchanges without a second answer, and none whose delay is known, they are taken to have ended.
_CALM = 10
_MARGIN_S = 0.02


class Surplus:
    """Counts requests and answers, by what answers them, since the line was opened."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.forget()

    def forget(self) -> None:
        """Begin anew: the line was opened."""
        self._owed: dict[Expected, int] = {}
        self._delay_s: float | None = None  # of the latest second answer whose moment was seen
        self._calm = 0
        self.is_known = False  # there are more answers than requests

    @property
    def wait_s(self) -> float:
        """For how long a line must be silent after an answer before it is believed."""
        if not self.is_known:
            return 0.0
        return (
            self._timeout_s if self._delay_s is None else min(self._timeout_s, 2 * self._delay_s + _MARGIN_S)
        )

    def asked(self, expected: Expected) -> None:
        """Such an answer was asked for."""
        self._owed[expected] = min(_OWED_MAX, self._owed.get(expected, 0) + 1)

    def came(self, expected: Expected, count: int) -> bool:
        """So many such answers came: whether they are too many."""
        left = self._owed.get(expected, 0) - count
        self._owed[expected] = max(0, left)
        if left < 0:
            self.is_known, self._calm = True, 0
        return left < 0

    def stray(self, expected: Expected, count: int) -> bool:
        """So many came when nobody waited any more: whether it turns out only now that this line has too many."""
        was_known = self.is_known
        if not self.came(expected, count):
            return False
        self._delay_s = None  # later than was known
        return not was_known

    def listened(self, delay_s: float) -> None:
        """How long after the first answer the last one came; 0: there was one only."""
        if delay_s > 0:
            self._delay_s = max(delay_s, self._delay_s or 0.0)
        elif self.is_known and self._delay_s is None:
            self._calm += 1
            self.is_known = self._calm < _CALM
