"""A charger whose car comes and goes by itself."""

from __future__ import annotations

from collections.abc import Callable

from emulator.rapi_charger import Charger

# Seconds of a round: nobody, plugged in, charging, plugged in and full.
ALONE_S, CONNECTED_S, CHARGING_S, FULL_S = 20.0, 5.0, 60.0, 5.0


class ChargerDay(Charger):
    """Goes through a session again and again."""

    def __init__(self, dialect: str) -> None:
        super().__init__(dialect)
        self._clock_s = 0.0
        self._next: list[tuple[float, Callable[[], None]]] = [
            (ALONE_S, self.plug),
            (CONNECTED_S, self.ask_for_charge),
            (CHARGING_S, self.plug),
            (FULL_S, self.unplug),
        ]
        self.boot()

    def pass_time(self, seconds: float) -> None:
        """Let the session go on, or the next part of it begin."""
        super().pass_time(seconds)
        self._clock_s += seconds
        wait_s, then = self._next[0]
        if self._clock_s >= wait_s:
            self._clock_s = 0.0
            self._next.append(self._next.pop(0))
            then()
