"""A motion detector as a device: its values by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from emulator.controls import Control, Controls, switch
from emulator.faults import Faults
from emulator.motion import MotionModel, MotionState


class MotionDevice(Controls):
    """One detector; any thread may ask."""

    def __init__(
        self, device_id: str, faults: Faults, model: MotionModel, now: Callable[[], datetime]
    ) -> None:
        """`now` is the aware wall time."""
        super().__init__(device_id, "motion", faults)
        self._model, self._now = model, now
        self._last: MotionState | None = None
        self.controls = {
            "motion_detected": Control(
                lambda: self._state().motion_detected,
                *switch(model.force),
                lambda: model.force(None),
            ),
            "battery_level": Control(lambda: self._state().battery_level),
            "signal_strength": Control(lambda: self._state().signal_strength),
        }

    def read(self, *, stuck: bool = False) -> dict[str, bool | float]:
        """Return what the detector answers to a poll; while stuck the last once more."""
        with self.lock:
            if not stuck or self._last is None:
                self._last = self._state()
            return asdict(self._last)

    def _state(self) -> MotionState:
        return self._model.at(self._now())
