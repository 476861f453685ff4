"""RAPI lines on the charger's side of the cable."""

from __future__ import annotations

import re
from collections.abc import Callable

FIRMWARE_LINE_MAX = 31
FIRMWARE_TOKENS_MAX = 10
HEARD_MAX = 1024  # of a line that has not ended yet
_SEQUENCE_ID = re.compile(r":(?!00)[0-9A-Fa-f]{2}")  # 00 is reserved
_CHECKSUM = re.compile(rb"\^([0-9A-Fa-f]{2})[\r\n]*\Z")


def _xor(data: bytes) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result


def framed(text: str) -> bytes:
    """A line as a charger sends it."""
    raw = b"$" + text.encode("latin-1")
    return raw + f"^{_xor(raw):02X}\r".encode()


def with_wrong_checksum(data: bytes) -> bytes:
    """Lines of which the last has another checksum, or a wrong character if it has none."""
    found = _CHECKSUM.search(data)
    if found is None:
        return with_wrong_character(data)
    return data[: found.start(1)] + b"%02X" % (int(found[1], 16) ^ 0xFF) + data[found.end(1) :]


def with_wrong_character(data: bytes) -> bytes:
    """Lines with a character in their middle that nobody sends, their ends as they were."""
    place = len(data.rstrip(b"\r\n")) // 2
    return data[:place] + (b"!" if data[place : place + 1] == b"?" else b"?") + data[place + 1 :]


class LineReader:
    """Takes commands apart and frames their answers, strictly as firmware does or leniently as its emulator."""

    def __init__(self, strict: bool, answer: Callable[[list[str]], str | None]) -> None:
        """`answer`: words of a command -> parameters of the answer; None: NK, after `!`: NK with them."""
        self._strict, self._answer = strict, answer
        self._heard = b""
        self.echo = False

    def twin(self, answer: Callable[[list[str]], str | None]) -> LineReader:
        """Another one that has heard the same, for another charger."""
        found = LineReader(self._strict, answer)
        found._heard, found.echo = self._heard, self.echo
        return found

    def feed(self, data: bytes) -> bytes:
        """The answers to the commands that `data` completes."""
        self._heard += data if self._strict else data.replace(b"\n", b"\r")
        *lines, rest = self._heard.split(b"\r")
        self._heard = rest[-HEARD_MAX:]
        return b"".join(self._reply(line.strip(b"\n")) for line in lines if line)

    def _reply(self, line: bytes) -> bytes:
        echo = self._echo(line) if self.echo else b""
        reply = self._strictly(line) if self._strict else self._leniently(line)
        return echo + reply + (b"\n" if echo and reply and self._strict else b"")

    def _echo(self, line: bytes) -> bytes:
        if self._strict:
            return line + b"\r"
        words = line.upper().decode("latin-1").lstrip("$").partition("^")[0].split()
        return framed("$".join(words))  # that is how it joins them

    def _strictly(self, line: bytes) -> bytes:
        line = line[line.rfind(b"$") :] if b"$" in line else b""
        if not line or len(line) > FIRMWARE_LINE_MAX:
            return b""
        for mark, checksum in ((b"^", _xor), (b"*", lambda text: sum(text) % 256)):
            text, found, digits = line.rpartition(mark)
            if found:
                if digits.upper() != b"%02X" % checksum(text):
                    return framed("NK")
                line = text
                break
        words = line[1:].decode("latin-1").split()
        sequence = words.pop() if words and _SEQUENCE_ID.fullmatch(words[-1]) else ""
        if len(words) + bool(sequence) > FIRMWARE_TOKENS_MAX:
            return framed("NK")
        return self._framed_answer(words, sequence.upper())

    def _leniently(self, line: bytes) -> bytes:
        text = line.upper().decode("latin-1")  # bytes: a text in capitals may be none of latin-1
        if not text.startswith("$"):
            return framed("NK")
        return self._framed_answer(text[1:].partition("^")[0].split(), "")

    def _framed_answer(self, words: list[str], sequence: str) -> bytes:
        found = self._answer(words)
        head = "NK" if found is None or found.startswith("!") else "OK"
        rest = (found or "").removeprefix("!")
        # A parameter that begins with a space makes two of them, as the firmware's $GI does.
        return framed(head + (f" {rest}" if rest else "") + (f" {sequence}" if sequence else ""))
