"""Everything that is emulated, by name: what a page, a REST API or a test takes hold of. Any thread may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from emulator.faults import Faults

Value = bool | int | float | str | None
T = TypeVar("T")


class ControlError(Exception):
    """What was asked cannot be done; the message says why."""


class UnknownNameError(ControlError):
    """No such line, device or value."""


class BadValueError(ControlError):
    """A value cannot be that."""


class Device(Protocol):
    """One emulated device."""

    device_id: str
    kind: str
    faults: Faults

    def values(self) -> Mapping[str, Value]:
        """All its values by name, as they are now."""

    def settable(self) -> Mapping[str, str]:
        """The names that `set` takes, each with what it may be."""

    def held(self) -> Sequence[str]:
        """The names of measured values that are held by `set` at present."""

    def set(self, name: str, value: Value) -> None:
        """Make it so. A measured value is held until `release`. Raises UnknownNameError, BadValueError."""

    def release(self, name: str) -> None:
        """Give a value back to its model, held or not. Raises UnknownNameError, BadValueError if it has none."""

    def has_model(self, name: str) -> bool:
        """Whether `release` can give that value back. Raises UnknownNameError."""


@dataclass(slots=True)
class Counters:
    """What came by on a line since the start. Written by the line alone."""

    answered: int = 0
    swallowed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or the web server of the HTTP devices: `place` is what a hub connects to."""

    line_id: str
    kind: str  # modbus, http, or the kind of its text device
    place: str
    faults: Faults
    device_ids: tuple[str, ...]
    baudrate: int | None = None
    paced: bool = False
    counters: Counters = field(default_factory=Counters)


class Registry:
    """Lines and devices by their ids; fixed once the emulator runs."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._devices: dict[str, Device] = {}

    def add(self, line: Line, devices: Sequence[Device]) -> None:
        """Enter a line with its devices, before the emulator runs. Raises ValueError for an id that is taken."""
        taken = {device.device_id for device in devices} & self._devices.keys()
        if line.line_id in self._lines or taken:
            raise ValueError(f"{line.line_id}, {taken}: ids are taken")
        self._lines[line.line_id] = line
        self._devices |= {device.device_id: device for device in devices}

    @property
    def lines(self) -> Mapping[str, Line]:
        """All lines by id."""
        return self._lines

    @property
    def devices(self) -> Mapping[str, Device]:
        """All devices by id."""
        return self._devices

    def line(self, line_id: str) -> Line:
        """Raises UnknownNameError."""
        return _found(self._lines, line_id, "line")

    def device(self, device_id: str) -> Device:
        """Raises UnknownNameError."""
        return _found(self._devices, device_id, "device")

    def line_of(self, device_id: str) -> Line:
        """The line that a device is on. Raises UnknownNameError."""
        self.device(device_id)
        return next(line for line in self._lines.values() if device_id in line.device_ids)


def _found(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise UnknownNameError(f"no {what} {name}; there are {', '.join(table) or 'none'}")
    return table[name]
