"""What a scan asks, in which order, and how long that takes at most. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sensor_hub.drivers.modbus_register import Table
from sensor_hub.drivers.modbus_settings import RtuSettings
from sensor_hub.drivers.modbus_timing import SerialTiming

BAUDRATES = (9600, 19200, 38400, 115200, 57600, 4800, 2400)
PARITIES = ("N", "E", "O")
# What devices leave the factory with, most often first; the others follow, fast before slow.
_COMMON = ((9600, "N"), (19200, "E"), (9600, "E"), (19200, "N"))
_TABLES: Sequence[Table] = ("holding", "input")
_REQUEST_BYTES, _ANSWER_BYTES = 8, 7
_OPEN_S = 0.05
_OPEN_RFC2217_S = 1.5  # each setting is negotiated with the terminal server
_RANGE = re.compile(r"\s*([0-9]{1,3})\s*(?:-\s*([0-9]{1,3})\s*)?")


@dataclass(frozen=True, slots=True)
class Plan:
    """Every unit with every setting (one, where they are not ours to choose): `tables` are tried until one answers."""

    settings: Sequence[RtuSettings]
    units: Sequence[int]
    timeout_s: float
    delay_s: float
    open_s: float = _OPEN_S
    on_serial: bool = True
    has_settings: bool = True
    tables: Sequence[Table] = _TABLES

    @property
    def questions(self) -> int:
        """How many requests are sent at most, but for those that are repeated."""
        return len(self.settings) * len(self.units) * len(self.tables)

    @property
    def estimate_s(self) -> float:
        """How long it takes when nothing answers."""
        return sum(self.setting_s(each) for each in self.settings)

    def setting_s(self, settings: RtuSettings) -> float:
        """How long one setting takes when nothing answers."""
        each_s = self.timeout_s + self.delay_s
        if self.on_serial:
            timing = SerialTiming.of(settings.char_s)
            each_s = (
                timing.wire_s(_REQUEST_BYTES + _ANSWER_BYTES) + timing.pause_s(self.delay_s) + self.timeout_s
            )
        return self.open_s + each_s * len(self.units) * len(self.tables)


def open_s_of(url: str) -> float:
    """What it takes to open the line with other settings."""
    return _OPEN_RFC2217_S if url.startswith("rfc2217:") else _OPEN_S


def in_order(settings: Iterable[RtuSettings]) -> list[RtuSettings]:
    """Each once, common ones first, the others as they come."""

    def rank(each: RtuSettings) -> int:
        pair = (each.baudrate, each.parity)
        return _COMMON.index(pair) if pair in _COMMON and each.stopbits == 1 else len(_COMMON)

    once = {named(each): each for each in settings}
    return sorted(once.values(), key=rank)


def units_of(text: str, highest: int) -> list[int]:
    """`1-20,100` -> the ids, each once, in their order. Raises ValueError saying what is allowed."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part.strip()[:32]!r} is no unit id and no range such as 1-20")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first == 0:
            raise ValueError("0 is everybody on the line: broadcasts are refused")
        if not first <= last <= highest:
            raise ValueError(f"{part.strip()} must lie in 1..{highest}, the lower end first")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)


def form_of(settings: RtuSettings) -> str:
    """Like 8N1."""
    return f"{settings.bytesize}{settings.parity}{settings.stopbits}"


def named(settings: RtuSettings) -> str:
    """Like `9600 8N1`."""
    return f"{settings.baudrate} {form_of(settings)}"


def duration_text(seconds: float) -> str:
    """Like `3 min 20 s`."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    return f"{minutes // 60} h {minutes % 60} min"
