"""Modbus, as much as a probe needs: one read over RTU (any serial line) or TCP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from answering import ToolError
from byte_streams import Stream, connected, reason_of
from serial_lines import CONNECT_S, opened_line

BIT_FUNCTIONS = (1, 2)
FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    6: "server device busy",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
GATEWAY_EXCEPTIONS = (10, 11)  # said by a gateway about a unit that is not there
_GAP_S = 0.004  # silence between RTU frames at 9600 baud


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit answered: data, or the code of a refusal."""

    unit_id: int
    data: bytes = b""
    exception: int = 0

    @property
    def refusal(self) -> str:
        """The refusal in words."""
        return f"{EXCEPTIONS.get(self.exception, 'unknown exception')} ({self.exception})"


class Line(Protocol):
    """A way to ask units, one at a time."""

    def ask(self, unit_id: int, function: int, address: int, count: int, timeout_s: float) -> list[Answer]:
        """Return every answer that came within the time: the unit's own last; others' may have come late.

        Raises ToolError when the line is gone.
        """


@contextmanager
def open_line(transport: dict[str, Any], timeout_s: float) -> Iterator[Line]:
    """The line of a checked transport. Raises ToolError saying why it cannot be had, or that it was lost."""
    url = str(transport["url"])
    if transport["driver"] != "modbus_tcp":
        with opened_line(transport, timeout_s) as stream:
            yield RtuLine(stream)
        return
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    connection = connected(parts.hostname or "", parts.port or 502, min(CONNECT_S, timeout_s))
    try:
        yield TcpLine(connection)
    except OSError as error:
        raise ToolError("line_lost", f"{url} is gone: {reason_of(error)}", retriable=True) from None
    finally:
        connection.close()


class RtuLine:
    """Frames with a checksum; they carry no number, so whoever answers late is told by the unit id."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def ask(self, unit_id: int, function: int, address: int, count: int, timeout_s: float) -> list[Answer]:
        """See Line."""
        request = _pdu(unit_id, function, address, count)
        request += crc(request)
        heard = self._stream.receive(0.0)  # late answers
        time.sleep(_GAP_S)
        self._stream.send(request)
        deadline = time.monotonic() + timeout_s
        while True:
            found = list(rtu_answers(heard, function, count))
            left_s = deadline - time.monotonic()
            if any(answer.unit_id == unit_id for answer in found) or left_s <= 0:
                return sorted(found, key=lambda answer: answer.unit_id == unit_id)
            heard += self._stream.receive(left_s)


class TcpLine:
    """Frames with a number."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = 0
        self._heard = b""

    def ask(self, unit_id: int, function: int, address: int, count: int, timeout_s: float) -> list[Answer]:
        """See Line."""
        self._number += 1
        pdu = _pdu(unit_id, function, address, count)
        self._stream.send(self._number.to_bytes(2, "big") + bytes(2) + len(pdu).to_bytes(2, "big") + pdu)
        deadline = time.monotonic() + timeout_s
        found: list[Answer] = []
        while True:
            while frame := self._frame():
                answer = _answer(frame[6:], function, count)
                if answer is not None:
                    found.append(answer)
                if frame[:2] == self._number.to_bytes(2, "big"):
                    return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return found
            self._heard += self._stream.receive(left_s)

    def _frame(self) -> bytes:
        """The next whole frame out of what was heard."""
        if len(self._heard) < 8:
            return b""
        length = int.from_bytes(self._heard[4:6], "big")
        if self._heard[2:4] != bytes(2) or not 3 <= length <= 254:
            raise ToolError("no_modbus", "what answers there does not speak Modbus TCP")
        frame, rest = self._heard[: 6 + length], self._heard[6 + length :]
        if len(frame) < 6 + length:
            return b""
        self._heard = rest
        return frame


def read(line: Line, unit_id: int, register: dict[str, Any], count: int, timeout_s: float) -> bytes:
    """The data of one register (or bit). Raises ToolError saying why there is none."""
    function = FUNCTIONS[register["table"]]
    address = register["address"]
    answers = line.ask(unit_id, function, address, count, timeout_s)
    own = [answer for answer in answers if answer.unit_id == unit_id]
    if not own:
        others = ", ".join(str(answer.unit_id) for answer in answers)
        note = f" (unit {others} answered)" if others else ""
        raise ToolError(
            "no_answer", f"no answer from unit {unit_id} within {timeout_s:g} s{note}", retriable=True
        )
    if own[-1].exception:
        what = f"unit {unit_id} refused to read {register['table']} {address}: {own[-1].refusal}"
        raise ToolError("refused", what)
    return own[-1].data


def rtu_answers(heard: bytes, function: int, count: int) -> Iterator[Answer]:
    """Every whole frame with the right checksum in `heard` that answers such a request, whoever sent it."""
    position = 0
    while position < len(heard):
        for size in (_size(function, count) + 3, 3):
            frame = heard[position : position + size]
            if heard[position + size : position + size + 2] == crc(frame) and len(frame) == size:
                answer = _answer(frame, function, count)
                if answer is not None:
                    yield answer
                    position += size + 1
                    break
        position += 1


def crc(frame: bytes) -> bytes:
    """Checksum of an RTU frame, as it goes over the line."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def _pdu(unit_id: int, function: int, address: int, count: int) -> bytes:
    return bytes([unit_id, function]) + address.to_bytes(2, "big") + count.to_bytes(2, "big")


def _size(function: int, count: int) -> int:
    return (count + 7) // 8 if function in BIT_FUNCTIONS else 2 * count


def _answer(frame: bytes, function: int, count: int) -> Answer | None:
    """The answer in unit id + function code + data; None when it answers something else."""
    size = _size(function, count)
    if len(frame) == 3 and frame[1] == function | 0x80:
        return Answer(frame[0], exception=frame[2])
    if len(frame) == 3 + size and frame[1] == function and frame[2] == size:
        return Answer(frame[0], frame[3:])
    return None
