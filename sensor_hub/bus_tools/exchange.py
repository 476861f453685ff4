"""One question and everything that was heard of it: answers, refusals, damage, noise, others.

The drivers want the right answer or an error; who looks for an unknown device wants to know what else there was.
Only the four reading function codes exist here, and nobody can be asked who would not answer (unit 0).
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from sensor_hub.drivers.modbus_frames import (
    EXCEPTION_NAMES,
    READS_BITS,
    TARGET_SILENT,
    Expected,
    rtu_answers,
    rtu_strangers,
)
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_probe import read_request
from sensor_hub.drivers.modbus_tcp_client import TcpClient
from sensor_hub.drivers.modbus_timing import SerialTiming
from sensor_hub.drivers.serial_settings import SerialSettings
from sensor_hub.errors import BrokenFrame, ReadFailed, ReadTimeout, TransportDown

_PATH_UNAVAILABLE = 10  # a gateway says it of the line behind it
_HEARD_MAX_BYTES = 1024
_SHOWN_BYTES = 8
# A second answer to one request comes soon after the first, if it comes at all.
_SECOND_ANSWER_S = 0.02

Kind = Literal["values", "refused", "silent", "damaged", "garbage"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one question.

    `values`: registers, or bits as 0 and 1. `code`: of a refusal. `others`: further units whose valid frames came
    by. `several`: more was heard than the one answer. `unasked`: bytes that were on the line before the question.
    `sample`: how damage or garbage begins, in hexadecimal digits; over TCP the reason.
    """

    kind: Kind
    values: tuple[int, ...] = ()
    code: int = 0
    others: frozenset[int] = frozenset()
    several: bool = False
    unasked: int = 0
    sample: str = ""
    round_trip_s: float = 0.0

    @property
    def is_answer(self) -> bool:
        """Whether the unit is there: it gave values, or a reason why not."""
        return self.kind in ("values", "refused")

    @property
    def refusal(self) -> str:
        """Like `illegal data address (2)`."""
        return f"{EXCEPTION_NAMES.get(self.code, 'unknown exception')} ({self.code})"


class Bus(Protocol):
    """A line that can be asked; its errors are TransportDown."""

    def ask(self, unit_id: int, span: Span, timeout_s: float) -> Heard:
        """Ask for it once. Raises TransportDown."""

    def close(self) -> None:
        """Let the line go; never raises."""


def sample_of(heard: bytes) -> str:
    """How it begins, for people."""
    return heard[:_SHOWN_BYTES].hex(" ") + (" …" if len(heard) > _SHOWN_BYTES else "")


def _check(unit_id: int) -> None:
    if not 1 <= unit_id <= 255:
        raise ValueError(f"unit {unit_id} is everybody or nobody; broadcasts are refused")


class SerialBus:
    """Modbus RTU frames on a port. Opened at once."""

    def __init__(self, url: str, settings: SerialSettings, delay_s: float = 0.0) -> None:
        """`delay_s`: least silence before each question. Raises TransportDown."""
        self._timing = SerialTiming.of(settings.char_s)
        self._pause_s = self._timing.pause_s(delay_s)
        self._port = settings.open(url)
        self._active_at = time.monotonic()

    def close(self) -> None:
        """Let the port go; never raises."""
        self._port.close()

    def ask(self, unit_id: int, span: Span, timeout_s: float) -> Heard:
        """Send one request and listen; see Bus."""
        _check(unit_id)
        request = read_request(unit_id, span)
        unasked = self._until_silent(self._pause_s, timeout_s)
        self._port.write(request)
        sent_at = self._active_at = time.monotonic()
        heard = self._listen(request, Expected.to(request[:-2]), sent_at, timeout_s)
        others = heard.others | rtu_strangers(unasked)
        return replace(heard, others=others - {unit_id}, unasked=len(unasked))

    def _listen(self, request: bytes, expected: Expected, sent_at: float, timeout_s: float) -> Heard:
        deadline = sent_at + self._timing.wire_s(len(request) + expected.length + 2) + timeout_s
        heard = b""
        while len(heard) <= _HEARD_MAX_BYTES:
            answer = next(rtu_answers(heard.removeprefix(request), expected), None)
            if answer is not None:
                took_s = time.monotonic() - sent_at
                heard += self._until_silent(max(self._timing.gap_s, _SECOND_ANSWER_S), timeout_s)
                return _judged(answer, heard.removeprefix(request), expected, took_s)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            heard += self._receive(left_s)
        return _unusable(heard.removeprefix(request), expected)

    def _receive(self, wait_s: float) -> bytes:
        data = self._port.read(wait_s)
        if data:
            self._active_at = time.monotonic()
        return data

    def _until_silent(self, silence_s: float, at_most_s: float) -> bytes:
        """What comes until nothing came for so long; a line that is never silent is not waited for."""
        heard = b""
        give_up = time.monotonic() + silence_s + at_most_s
        while data := self._receive(self._active_at + silence_s - time.monotonic()):
            heard += data
            if time.monotonic() > give_up or len(heard) > _HEARD_MAX_BYTES:
                break
        return heard


def _judged(answer: bytes, heard: bytes, expected: Expected, took_s: float) -> Heard:
    """A valid answer, and what else was heard with it."""
    refused = answer.startswith(expected.exception_prefix)
    return Heard(
        "refused" if refused else "values",
        values=() if refused else _values_of(answer[:-2], expected),
        code=answer[2] if refused else 0,
        others=frozenset(rtu_strangers(heard)),
        several=len(heard) > len(answer) and not set(heard.replace(answer, b"", 1)) <= {0x00, 0xFF},
        round_trip_s=took_s,
    )


def _unusable(heard: bytes, expected: Expected) -> Heard:
    """No valid answer came; of the bytes that did, whose they may be."""
    others = frozenset(rtu_strangers(heard))
    if others or not set(heard) - {0x00, 0xFF}:  # a driver that switches late makes such bytes of nothing
        return Heard("silent", others=others)
    began = expected.prefix[:2] in heard or expected.exception_prefix in heard
    return Heard("damaged" if began else "garbage", sample=sample_of(heard))


def _values_of(adu: bytes, expected: Expected) -> tuple[int, ...]:
    content = adu[3:]
    if expected.prefix[1] in READS_BITS:
        return tuple(byte >> bit & 1 for byte in content for bit in range(8))
    return struct.unpack(f">{len(content) // 2}H", content)


class TcpBus:
    """Modbus TCP. A device may hang up on a question that it does not like; it is connected to again."""

    def __init__(self, host: str, port: int, timeout_s: float, delay_s: float = 0.0) -> None:
        """`delay_s`: least pause before each question. Connects at once. Raises TransportDown."""
        delays_s = dict.fromkeys(range(256), delay_s)
        self._client = TcpClient(host, port, timeout_s=timeout_s, delays_s=delays_s)
        self._client.connect()

    def close(self) -> None:
        """Hang up; never raises."""
        self._client.close()

    def ask(self, unit_id: int, span: Span, timeout_s: float) -> Heard:
        """Send one request and wait; the timeout is the connection's. See Bus."""
        _check(unit_id)
        self._client.connect()
        began_at = time.monotonic()
        try:
            answer = self._read(unit_id, span)
        except ReadTimeout:
            return Heard("silent")
        except TransportDown as error:  # it hung up on this question; the next one connects, or fails
            return Heard("silent", sample=str(error))
        except (BrokenFrame, ReadFailed, ModbusException) as error:
            self._client.close()
            return Heard("damaged", sample=str(error))
        took_s = time.monotonic() - began_at
        if not answer.isError():
            values = tuple(map(int, answer.bits if span.is_bits else answer.registers))
            return Heard("values", values=values, round_trip_s=took_s)
        if answer.exception_code in (TARGET_SILENT, _PATH_UNAVAILABLE):
            return Heard("silent", code=answer.exception_code)
        return Heard("refused", code=answer.exception_code, round_trip_s=took_s)

    def _read(self, unit_id: int, span: Span) -> ModbusPDU:
        read = getattr(self._client, span.reader)
        answer: ModbusPDU = read(span.address, count=span.count, device_id=unit_id)
        return answer
