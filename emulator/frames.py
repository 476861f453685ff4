"""Modbus RTU frames: their checksum, and where one request ends and the next begins."""

from __future__ import annotations

GAP_S = 0.1  # a real line uses 3.5 characters of silence; a pty and a busy machine need more
MAX_FRAME_BYTES = 256
_FIXED = dict.fromkeys((1, 2, 3, 4, 5, 6), 8) | {7: 4, 8: 8, 11: 4, 12: 4, 17: 4, 22: 10, 24: 6}
_COUNTED = {15: 6, 16: 6, 20: 2, 21: 2, 23: 10}  # function code -> where its byte count stands
_FIXED_ANSWER = dict.fromkeys((5, 6, 8, 11, 15, 16), 8) | {7: 5, 22: 10}
_COUNTED_ANSWER = frozenset((1, 2, 3, 4, 12, 17, 20, 21, 23))  # their byte count follows the function code


def _crc_row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC = [_crc_row(byte) for byte in range(256)]


def crc_of(body: bytes) -> bytes:
    """The two bytes that follow `body`, low one first."""
    crc = 0xFFFF
    for byte in body:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def framed(unit_id: int, pdu: bytes) -> bytes:
    """A PDU as it goes over the line."""
    body = bytes([unit_id]) + pdu
    return body + crc_of(body)


class RequestAssembler:
    """Puts requests together from the pieces a line delivers; drops the rest, as a device would."""

    def __init__(self) -> None:
        self._buffer = b""
        self._last_at = 0.0

    def feed(self, data: bytes, now: float) -> list[bytes]:
        """Return the valid requests, CRC included, that `data` completes; `now`: monotonic, s."""
        if now - self._last_at > GAP_S:
            self._buffer = b""
        self._last_at = now
        self._buffer += data
        frames = []
        while (size := _frame_size(self._buffer)) and len(self._buffer) >= size:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if not _is_valid(frame):
                self._buffer = b""  # out of step: only silence tells where the next frame begins
                break
            frames.append(frame)
        if len(self._buffer) > MAX_FRAME_BYTES:
            self._buffer = b""
        return frames


def _frame_size(buffer: bytes) -> int:
    """Length of the frame that `buffer` begins with, CRC included; 0: not known yet."""
    if len(buffer) < 4:
        return 0
    code = buffer[1]
    if code in _FIXED:
        return _FIXED[code]
    if code in _COUNTED:
        at = _COUNTED[code]
        return at + 1 + buffer[at] + 2 if len(buffer) > at else 0
    return len(buffer) if _is_valid(buffer) else 0  # a code we do not know: trust the checksum


def answer_size(buffer: bytes) -> int:
    """Length of the valid answer that `buffer` begins with, CRC included; 0: it begins with none."""
    if len(buffer) < 5:
        return 0
    code = buffer[1]
    if code & 0x80:
        size = 5
    elif code in _COUNTED_ANSWER:
        size = 3 + buffer[2] + 2
    else:
        size = _FIXED_ANSWER.get(code, len(buffer))  # a code we do not know: trust the checksum
    frame = buffer[:size]
    return size if len(frame) == size and _is_valid(frame) else 0


def _is_valid(frame: bytes) -> bool:
    return len(frame) >= 4 and crc_of(frame[:-2]) == frame[-2:]
