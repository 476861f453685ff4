"""Why devices that speak unasked give no values. Pure: time comes in as a number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sensor_hub.errors import HubError

_PAUSES = 2  # a device that was silent for so many of its longest pauses has stopped


@dataclass(slots=True)
class _Speaker:
    good_at: float  # or since when it is listened to
    has_spoken: bool = False
    pause_s: float = 0.0  # the longest between two values
    told_at: float = 0.0
    why: HubError | None = None  # of the latest line that was no reading


class Complaints:
    """Many print other things between their values: only when no value comes that is a reason to complain."""

    def __init__(self, sensor_ids: Iterable[str], least_s: float, now: float) -> None:
        """Nothing is told earlier than `least_s` after the last value."""
        self._least_s = least_s
        self._speakers = {sensor_id: _Speaker(now) for sensor_id in sensor_ids}

    def good(self, sensor_id: str, now: float) -> None:
        """It said a value."""
        speaker = self._speakers[sensor_id]
        if speaker.has_spoken:
            speaker.pause_s = max(speaker.pause_s, now - speaker.good_at)
        speaker.good_at, speaker.has_spoken, speaker.why = now, True, None

    def bad(self, sensor_id: str, why: HubError) -> None:
        """It said something that is no reading."""
        self._speakers[sensor_id].why = why

    def due(self, now: float) -> dict[str, HubError]:
        """What is to be told now; again after as long a time, if it goes on."""
        found: dict[str, HubError] = {}
        for sensor_id, speaker in self._speakers.items():
            patience_s = max(self._least_s, _PAUSES * speaker.pause_s)
            if speaker.why is not None and now - max(speaker.good_at, speaker.told_at) >= patience_s:
                found[sensor_id] = speaker.why
                speaker.why, speaker.told_at = None, now
        return found
