"""Carries profiles out: one thread sets the values of devices as time goes by."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from emulator import logs
from emulator.profiles import Asked, Course, Csv, Day, Ramp, Steps, course_of
from emulator.registry import BadValueError, ControlError, Device, UnknownNameError

PERIOD_S = 0.1
KEPT = 50  # profiles that are over and still told about
MAX_RUNNING = 200


class State(StrEnum):
    """How a profile is."""

    RUNNING = "running"
    ENDED = "ended"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Running:
    """One profile on one value. `set_to`: what it has set last."""

    profile_id: int
    device: Device
    value: str
    profile: Steps | Ramp | Day | Csv
    course: Course
    begun_at: float
    state: State = State.RUNNING
    error: str | None = None
    elapsed_s: float = 0.0
    set_to: Asked = None


class ProfileRunner:
    """All profiles, running or over. Any thread may ask; a thread of its own runs while there is work."""

    def __init__(
        self,
        wall: Callable[[], datetime],
        now: Callable[[], float] = time.monotonic,
        *,
        threaded: bool = True,
    ) -> None:
        """`wall`: the local time; `now`: monotonic, s; not `threaded`: somebody else calls `pass_time`."""
        self._wall, self._now, self._threaded = wall, now, threaded
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._all: dict[int, Running] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def run(self, device: Device, value: str, profile: Steps | Ramp | Day | Csv) -> Running:
        """Begin a profile; one that runs on that value stops. Raises UnknownNameError, BadValueError."""
        present = device.values()
        if value not in present:
            raise UnknownNameError(f"{device.device_id} has no {value}; it has {', '.join(present)}")
        if _releases(profile) and not device.has_model(value):
            raise BadValueError(f"{value} of {device.device_id} has no model to go back to")
        try:
            course = course_of(profile, present[value], self._wall())
        except ValueError as error:
            raise BadValueError(f"{value} of {device.device_id}: {error}") from None
        with self._lock:
            if sum(each.state is State.RUNNING for each in self._all.values()) >= MAX_RUNNING:
                raise BadValueError(f"{MAX_RUNNING} profiles run already: stop some")
            begun = Running(next(self._ids), device, value, profile, course, self._now())
            self._put(begun, course.at(0.0), is_first=True)
            self._stop_value(device, value)
            self._all[begun.profile_id] = begun
            self._forget_old()
            self._go()
        logs.event("profile begun", device=device.device_id, value=value, kind=profile.kind)
        return begun

    def all(self) -> list[Running]:
        """In the order they began; of those that are over the latest."""
        with self._lock:
            return list(self._all.values())

    def stop(self, profile_id: int) -> Running:
        """End it where it is; `then` counts. Raises UnknownNameError."""
        with self._lock:
            if profile_id not in self._all:
                raise UnknownNameError(f"no profile {profile_id}")
            found = self._all[profile_id]
            if found.state is State.RUNNING:
                self._end(found, State.STOPPED)
            return found

    def stop_all(self) -> int:
        """How many ran."""
        with self._lock:
            running = [each for each in self._all.values() if each.state is State.RUNNING]
            for each in running:
                self._end(each, State.STOPPED)
            return len(running)

    def set_by_hand(self, device: Device, value: str, to: Asked) -> None:
        """Somebody takes the value in hand (None: gives it back): a profile on it stops. Raises as Device.set."""
        with self._lock:
            if to is None:
                device.release(value)
            else:
                device.set(value, to)
            self._stop_value(device, value)

    def close(self) -> None:
        """The end of the thread."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(2)

    def pass_time(self) -> bool:
        """Set what is due; whether there is more to come."""
        with self._lock:
            for each in [each for each in self._all.values() if each.state is State.RUNNING]:
                self._step(each)
            return any(each.state is State.RUNNING for each in self._all.values())

    def _step(self, each: Running) -> None:
        elapsed_s, lasts_s = self._now() - each.begun_at, each.course.lasts_s
        is_over = lasts_s is not None and elapsed_s >= lasts_s
        if is_over and each.profile.repeat and lasts_s:
            elapsed_s, is_over = elapsed_s % lasts_s, False
        elif is_over and lasts_s is not None:
            elapsed_s = lasts_s
        each.elapsed_s = elapsed_s
        try:
            self._put(each, each.course.at(elapsed_s))
        except Exception as error:  # noqa: BLE001 (one profile's mistake must not end the others)
            each.error = str(error) if isinstance(error, ControlError) else repr(error)
            self._end(each, State.FAILED)
            return
        if is_over:
            self._end(each, State.ENDED)

    def _put(self, each: Running, value: Asked, *, is_first: bool = False) -> None:
        takes = each.device.settable().get(each.value, "")
        if isinstance(value, float) and takes.startswith("whole number"):
            value = round(value)
        elif value in (0, 1) and takes == "true or false":  # as CSV files have it
            value = bool(value)
        if not is_first and value == each.set_to:
            return
        if value is None:
            each.device.release(each.value)
        else:
            each.device.set(each.value, value)
        each.set_to = value

    def _end(self, each: Running, state: State) -> None:
        each.state = state
        if each.profile.then == "release":
            each.device.release(each.value)
        facts: dict[str, Any] = {} if each.error is None else {"error": each.error}
        logs.event(f"profile {state}", device=each.device.device_id, value=each.value, **facts)

    def _stop_value(self, device: Device, value: str) -> None:
        for each in self._all.values():
            if each.state is State.RUNNING and each.device is device and each.value == value:
                each.state = State.STOPPED

    def _forget_old(self) -> None:
        over = [key for key, each in self._all.items() if each.state is not State.RUNNING]
        for key in over[:-KEPT]:
            del self._all[key]

    def _go(self) -> None:
        if self._threaded and not self._is_at_work() and not self._stopping:
            self._thread = threading.Thread(target=self._work, name="profiles", daemon=True)
            self._thread.start()
        self._wake.set()

    def _is_at_work(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping:
            if self.pass_time():
                self._wake.wait(PERIOD_S)
            else:
                self._wake.wait()
            self._wake.clear()


def _releases(profile: Steps | Ramp | Day | Csv) -> bool:
    return profile.then == "release" or (
        isinstance(profile, Steps) and any(step.to is None for step in profile.steps)
    )
