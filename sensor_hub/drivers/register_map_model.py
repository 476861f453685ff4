"""What a loaded register map is, whichever format its files have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.ppg_messages import MessageField

_PROBLEMS_SHOWN = 20


class MapError(ValueError):
    """A register map cannot be used. `problems` names each thing wrong: file, line and column, what is allowed."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        more = len(problems) - _PROBLEMS_SHOWN
        shown = [*problems[:_PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        super().__init__(f"register map {name[:64]!r}: " + "; ".join(shown))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class LineDefaults:
    """What a sensor's own keys of the same names override; None: the map says nothing of it."""

    baudrate: int | None = None
    max_registers: int | None = None  # of one transaction
    max_gap: int | None = None  # registers nobody asked for that may be read in between
    delay_ms: float | None = None  # before each request
    write_multiple: bool | None = None


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """The properties of one kind of device, by name.

    `messages` are those of protocols that send bytes (CAN, serial frames). `never_read` may not even be read in
    passing, between others. `notes`: what was not taken as its author may have meant it, and why.
    """

    name: str
    registers: Mapping[str, Register]
    messages: Mapping[str, MessageField] = field(default_factory=dict)
    line: LineDefaults = LineDefaults()
    never_read: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()
    description: str = ""
