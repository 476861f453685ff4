"""What an answer to a Modbus request must look like, and finding it among received bytes. Pure.

An ADU here is unit id + function code + data: without the CRC of RTU and without the header of TCP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pymodbus.framer import FramerRTU

from sensor_hub.errors import DeviceRefused, ReadTimeout

EXCEPTION_NAMES = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
TARGET_SILENT = 11  # a gateway says it of the unit behind it

MBAP_BYTES = 7
READS_BITS = (1, 2)
_READS_REGISTERS = (3, 4)
_CRC_BYTES = 2
_EXCEPTION_BYTES = 3  # unit, function | 0x80, code
_ECHO_BYTES = 6  # unit, function, address, value or count: the answer to a write


def refusal(unit_id: int, code: int) -> DeviceRefused | ReadTimeout:
    """What a device's exception means; a gateway's may mean that the device said nothing."""
    what = f"{EXCEPTION_NAMES.get(code, 'unknown exception')} ({code})"
    if code == TARGET_SILENT:
        return ReadTimeout(f"no answer from unit {unit_id}: {what}")
    return DeviceRefused(f"unit {unit_id} answered {what}")


@dataclass(frozen=True, slots=True)
class Expected:
    """The one answer (or exception) that fits a request: how its ADU begins, and its length in bytes."""

    prefix: bytes
    length: int

    @classmethod
    def to(cls, request: bytes) -> Expected:
        """What answers the ADU `request`."""
        function = request[1]
        count = int.from_bytes(request[4:6], "big")
        if function in READS_BITS:
            size = (count + 7) // 8
        elif function in _READS_REGISTERS:
            size = 2 * count
        else:
            return cls(request[:_ECHO_BYTES], _ECHO_BYTES)
        return cls(request[:2] + bytes([size]), 3 + size)

    @property
    def unit_id(self) -> int:
        """Who must answer."""
        return self.prefix[0]

    @property
    def exception_prefix(self) -> bytes:
        """How a refusal begins."""
        return bytes([self.prefix[0], self.prefix[1] | 0x80])

    def fits(self, adu: bytes) -> bool:
        """Is this ADU the answer or a refusal."""
        if adu[:2] == self.exception_prefix:
            return len(adu) == _EXCEPTION_BYTES
        return len(adu) == self.length and adu.startswith(self.prefix)


def crc_of(adu: bytes) -> bytes:
    """Its CRC as it goes over the line, low byte first."""
    return FramerRTU.compute_CRC(adu).to_bytes(_CRC_BYTES, "big")


def rtu_answers(buffer: bytes, expected: Expected) -> Iterator[bytes]:
    """Every frame in `buffer` that is whole, has the right CRC and fits, with its CRC, in order.

    Bytes around them (noise, echoes, frames of others) are passed over.
    """
    position = 0
    while (position := _first_of(buffer, position, expected)) >= 0:
        frame = _frame_at(buffer, position, expected)
        if frame:
            yield frame
        position += len(frame) or 1


def _first_of(buffer: bytes, position: int, expected: Expected) -> int:
    """Where an answer or a refusal may begin next; -1: nowhere."""
    found = buffer.find(expected.prefix, position), buffer.find(expected.exception_prefix, position)
    return min((place for place in found if place >= 0), default=-1)


def _frame_at(buffer: bytes, position: int, expected: Expected) -> bytes:
    is_answer = buffer.startswith(expected.prefix, position)
    length = expected.length if is_answer else _EXCEPTION_BYTES
    frame = buffer[position : position + length + _CRC_BYTES]
    whole = len(frame) == length + _CRC_BYTES
    return frame if whole and crc_of(frame[:length]) == frame[length:] else b""


def rtu_strangers(buffer: bytes) -> set[int]:
    """Unit ids of all valid answer frames in `buffer`, whatever was asked."""
    found: set[int] = set()
    position = 0
    while position + 1 < len(buffer):
        length = _answer_length(buffer, position)
        frame = buffer[position : position + length + _CRC_BYTES]
        if length and len(frame) == length + _CRC_BYTES and crc_of(frame[:length]) == frame[length:]:
            found.add(frame[0])
            position += len(frame)
        else:
            position += 1
    return found


def _answer_length(buffer: bytes, position: int) -> int:
    function = buffer[position + 1]
    if function & 0x80:
        return _EXCEPTION_BYTES
    if function in READS_BITS + _READS_REGISTERS and position + 2 < len(buffer):
        return 3 + buffer[position + 2]
    return _ECHO_BYTES if function in (5, 6, 15, 16) else 0


def is_read(adu: bytes) -> bool:
    """Whether this request changes nothing, so that it may be sent twice."""
    return adu[1] in READS_BITS + _READS_REGISTERS


def mbap_length(header: bytes) -> int | None:
    """Bytes of the whole TCP frame that begins with this header (7 bytes); None: no Modbus header."""
    protocol = int.from_bytes(header[2:4], "big")
    length = int.from_bytes(header[4:6], "big")
    return 6 + length if protocol == 0 and 3 <= length <= 254 else None
