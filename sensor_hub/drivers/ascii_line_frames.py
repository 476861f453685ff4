"""Lines of text out of bytes: where each ends, and what is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_ENDS = ("\r\n", "\n", "\r")
_ANY_LINE_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that is no line; `reason` says why."""

    reason: str


class LineAssembler:
    """Puts lines together from the pieces that a port delivers.

    CR, LF and CRLF all end a line where one of them is the terminator; empty lines are left out.
    """

    def __init__(self, terminator: str, encoding: str, max_length: int) -> None:
        """`max_length`: a line's characters without the terminator; longer ones are garbage."""
        pattern = re.compile(re.escape(terminator.encode(encoding)))
        self._ends = _ANY_LINE_END if terminator in _LINE_ENDS else pattern
        self._encoding, self._max_length = encoding, max_length
        self._max_bytes = max_length * (4 if encoding == "utf-8" else 1) + len(terminator)
        self._pending = b""
        self._skipping = False
        self.is_endless = False  # what came last belongs to a line that is too long and goes on

    def feed(self, data: bytes) -> list[str | Garbage]:
        """The lines that `data` completes; an endless one is garbage once, when it is too long."""
        *lines, self._pending = self._ends.split(self._pending + data)
        found: list[str | Garbage] = []
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line:
                found.append(self._line(line))
        if len(self._pending) > self._max_bytes:
            if not self._skipping:
                found.append(self.too_long())
            self._skipping = True
        if self._skipping:
            self._pending = self._pending[-self._max_bytes :]  # may end in half a terminator
        self.is_endless = bool(data) and self._skipping and len(self._pending) >= self._max_bytes
        return found

    def skip_line(self) -> None:
        """What comes until the next terminator began before we listened."""
        self._skipping = True

    def drop_rest(self) -> None:
        """Forget a line that has begun."""
        self._pending = b""

    def _line(self, raw: bytes) -> str | Garbage:
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError:
            return Garbage(f"no {self._encoding} text ({len(raw)} bytes)")
        return text if len(text) <= self._max_length else self.too_long()

    def too_long(self) -> Garbage:
        """What a line without an end is."""
        return Garbage(f"no end of line within {self._max_length} characters")
