"""How old readings are that come from another process, by this one's monotonic clock."""

from __future__ import annotations

from datetime import datetime

from sensor_hub.clock import Clock
from sensor_hub.readings import Snapshot


def taken_at(moment: datetime, clock: Clock) -> float:
    """When `moment` was by the monotonic clock, as the wall clock has it now; never in the future."""
    return clock.monotonic() - max(0.0, clock.now().timestamp() - moment.timestamp())


class Ages:
    """Remembers when each device's reading was taken, whatever becomes of the wall clock afterwards.

    Not thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: dict[str, tuple[datetime, float]] = {}

    def note(self, snapshot: Snapshot) -> None:
        """Take news of a device the moment it arrives; a reading that is known already keeps its age."""
        reading = snapshot.reading
        known = self._taken.get(snapshot.device_id)
        if reading is not None and (known is None or known[0] != reading.timestamp):
            taken = taken_at(reading.timestamp, self._clock)
            self._taken[snapshot.device_id] = reading.timestamp, taken

    def taken_at(self, device_id: str) -> float | None:
        """When the device's last reading was taken, monotonic; None without one."""
        known = self._taken.get(device_id)
        return None if known is None else known[1]

    def age_s(self, snapshot: Snapshot) -> float | None:
        """How old the reading of a snapshot that was noted is now; None when it has none."""
        taken = self.taken_at(snapshot.device_id)
        return None if snapshot.reading is None or taken is None else self._clock.monotonic() - taken
