"""The values of a device by name: how each is read, set and given back, under the device's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from emulator.faults import Faults
from emulator.registry import BadValueError, UnknownNameError, Value

C = TypeVar("C", bound=Value)


@dataclass(frozen=True, slots=True)
class Control:
    """One value. Without `put` it can only be looked at; with `release` setting it holds it."""

    get: Callable[[], Value]
    put: Callable[[Value], None] | None = None
    takes: str = ""
    release: Callable[[], None] | None = None


def number(put: Callable[[float], None], low: float, high: float) -> tuple[Callable[[Value], None], str]:
    """A setter for `low`..`high`, and what it takes in words."""

    def checked(value: Value) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadValueError(f"must be a number, {low:g}..{high:g}, not {value!r}")
        put(value)

    return checked, f"number, {low:g}..{high:g}"


def whole(put: Callable[[int], None], low: int, high: int) -> tuple[Callable[[Value], None], str]:
    """A setter for whole numbers from `low` to `high`, and what it takes in words."""

    def checked(value: Value) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadValueError(f"must be a whole number, {low}..{high}, not {value!r}")
        put(value)

    return checked, f"whole number, {low}..{high}"


def switch(put: Callable[[bool], None]) -> tuple[Callable[[Value], None], str]:
    """A setter for true and false, and what it takes in words."""

    def checked(value: Value) -> None:
        if not isinstance(value, bool):
            raise BadValueError(f"must be true or false, not {value!r}")
        put(value)

    return checked, "true or false"


def choice(put: Callable[[str], None], allowed: Sequence[str]) -> tuple[Callable[[Value], None], str]:
    """A setter for one of some words, and what it takes in words."""

    def checked(value: Value) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise BadValueError(f"must be one of {', '.join(allowed)}, not {value!r}")
        put(value)

    return checked, f"one of {', '.join(allowed)}"


class Controls:
    """Base of devices that are a table of controls. A subclass fills `controls`."""

    def __init__(self, device_id: str, kind: str, faults: Faults) -> None:
        self.device_id, self.kind, self.faults = device_id, kind, faults
        self.lock = threading.RLock()
        self.controls: Mapping[str, Control] = {}
        self._held: set[str] = set()

    def values(self) -> dict[str, Value]:
        """All its values by name, as they are now."""
        with self.lock:
            return {name: control.get() for name, control in self.controls.items()}

    def settable(self) -> dict[str, str]:
        """The names that `set` takes, each with what it may be."""
        return {name: control.takes for name, control in self.controls.items() if control.put is not None}

    def held(self) -> tuple[str, ...]:
        """The names of measured values that are held at present."""
        with self.lock:
            return tuple(sorted(self._held))

    def set(self, name: str, value: Value) -> None:
        """Make it so; a measured value is held until `release`. Raises UnknownNameError, BadValueError."""
        with self.lock:
            control = self._control(name)
            if control.put is None:
                raise BadValueError(f"{name} of {self.device_id} can only be looked at")
            try:
                control.put(value)
            except BadValueError as error:
                raise BadValueError(f"{name} of {self.device_id} {error}") from None
            if control.release is not None:
                self._held.add(name)

    def release(self, name: str) -> None:
        """Give a value back to its model, held or not. Raises UnknownNameError, BadValueError if it has none."""
        with self.lock:
            control = self._control(name)
            if control.release is None:
                raise BadValueError(f"{name} of {self.device_id} has no model to go back to")
            control.release()
            self._held.discard(name)

    def has_model(self, name: str) -> bool:
        """Whether `release` can give that value back. Raises UnknownNameError."""
        return self._control(name).release is not None

    def _control(self, name: str) -> Control:
        if name not in self.controls:
            raise UnknownNameError(f"{self.device_id} has no {name}; it has {', '.join(self.controls)}")
        return self.controls[name]
