"""RAPI frames: `$` words [` :` sequence id] `^` checksum CR. Pure: bytes in, meaning out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import xor

# Charset: any byte may stand in a line, so it is read as latin-1.
CHARSET = "latin-1"
_LINE_MAX_BYTES = 256  # firmware sends at most a few dozen
_ENDS = re.compile(rb"[\r\n]")
_HEX_BYTE = re.compile(rb"[0-9A-Fa-f]{2}")
_SEQUENCE = re.compile(r":[0-9A-Fa-f]{2}")


def xor_of(text: bytes) -> int:
    """The checksum after `^`: of everything from `$` on."""
    return reduce(xor, text, 0)


def sum_of(text: bytes) -> int:
    """The older checksum after `*`."""
    return sum(text) % 256


def request(text: str, sequence: int | None = None) -> bytes:
    """The line that sends a command such as `SC 16 V`; `sequence`: 1..255."""
    body = f"${text}" if sequence is None else f"${text} :{sequence:02X}"
    raw = body.encode(CHARSET)
    return raw + b"^%02X\r" % xor_of(raw)


@dataclass(frozen=True, slots=True)
class Frame:
    """One line from the charger. `checked`: it had a checksum, which was right."""

    words: tuple[str, ...]
    sequence: int | None = None
    checked: bool = False

    @property
    def is_reply(self) -> bool:
        """An answer to a command; everything else was sent unasked or is an echo."""
        return self.words[0] in ("OK", "NK")

    @property
    def is_accepted(self) -> bool:
        """The answer is yes."""
        return self.words[0] == "OK"

    @property
    def is_notification(self) -> bool:
        """Sent unasked. `$ST` with more than one parameter is the echo of a command."""
        head = self.words[0]
        return head.startswith("A") or head == "WF" or (head == "ST" and len(self.words) == 2)


@dataclass(frozen=True, slots=True)
class Broken:
    """A line whose checksum is wrong or cut off."""


def parse(line: bytes) -> Frame | Broken | None:
    """What one line (without its end) says; None for noise. What stands before its last `$` is dropped."""
    start = line.rfind(b"$")
    if start < 0:
        return None
    text, checked = line[start:], False
    mark = text.rfind(b"^")
    if mark < 0 and text[-3:-2] == b"*":
        mark = len(text) - 3
    if mark >= 0:
        text, digits, kind = text[:mark], text[mark + 1 :], text[mark : mark + 1]
        expected = xor_of(text) if kind == b"^" else sum_of(text)
        if not _HEX_BYTE.fullmatch(digits) or int(digits, 16) != expected:
            return Broken()
        checked = True
    words = [word for word in text[1:].decode(CHARSET).split(" ") if word]
    sequence = None
    if words and _SEQUENCE.fullmatch(words[-1]):
        sequence = int(words.pop()[1:], 16) or None
    return Frame(tuple(words), sequence, checked) if words else None


class Assembler:
    """Puts lines together from the pieces that a port delivers."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. CR ends a line; LF and CRLF are taken for it."""
        *lines, self._pending = _ENDS.split(self._pending + data)
        self._pending = self._pending[-_LINE_MAX_BYTES:]
        return [line[-_LINE_MAX_BYTES:] for line in lines if line]
