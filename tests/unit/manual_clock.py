"""Time that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from sensor_hub.clock import Clock

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class ManualClock:
    """`clock` is what the code under test gets; `advance` moves wall and monotonic time alike."""

    def __init__(self, zone: tzinfo = UTC) -> None:
        self.seconds = self.wall_is_ahead_s = 0.0
        self._zone = zone
        self.clock = Clock(now=self.now, monotonic=lambda: self.seconds)

    def now(self) -> datetime:
        return (NOON + timedelta(seconds=self.seconds + self.wall_is_ahead_s)).astimezone(self._zone)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def set_wall(self, ahead_s: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_is_ahead_s += ahead_s
