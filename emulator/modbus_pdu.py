"""What a Modbus unit answers to a request (a PDU: function code and data), as the specification has it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
MAX_REGISTERS, MAX_BITS, MAX_WRITE_REGISTERS, MAX_WRITE_BITS = 125, 2000, 123, 1968
MAX_WRITE_OF_BOTH = 121


class Table(StrEnum):
    """The four tables."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"


class RefusedError(Exception):
    """The unit answers with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Store(Protocol):
    """The tables of a unit. Registers are 0..65535, coils and discrete inputs 0 or 1."""

    name: str

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """Raises RefusedError."""

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """Raises RefusedError."""


def answer_of(store: Store, request: bytes) -> bytes:
    """The answer's PDU; an exception's, if the unit refuses."""
    code = request[0]
    try:
        serve = _FUNCTIONS.get(code)
        if serve is None:
            raise RefusedError(ILLEGAL_FUNCTION)
        return bytes([code]) + serve(store, request[1:], code)
    except RefusedError as refused:
        return refusal_of(request, refused.code)
    except (struct.error, IndexError):  # too short for what it says it is
        return refusal_of(request, ILLEGAL_VALUE)


def refusal_of(request: bytes, code: int) -> bytes:
    """The PDU of an exception."""
    return bytes([request[0] | 0x80, code])


def _is_within(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise RefusedError(ILLEGAL_VALUE)


def _words(data: bytes, count: int) -> list[int]:
    if len(data) != 2 * count:
        raise RefusedError(ILLEGAL_VALUE)
    return list(struct.unpack(f">{count}H", data))


def _of_words(words: Sequence[int]) -> bytes:
    return bytes([2 * len(words)]) + struct.pack(f">{len(words)}H", *words)


def _read_bits(store: Store, data: bytes, code: int) -> bytes:
    address, count = struct.unpack(">HH", data)
    _is_within(count, MAX_BITS)
    bits = store.read(Table.COIL if code == 1 else Table.DISCRETE, address, count)
    packed = sum(bit << place for place, bit in enumerate(bits))
    size = (count + 7) // 8
    return bytes([size]) + packed.to_bytes(size, "little")


def _read_registers(store: Store, data: bytes, code: int) -> bytes:
    address, count = struct.unpack(">HH", data)
    _is_within(count, MAX_REGISTERS)
    return _of_words(store.read(Table.HOLDING if code == 3 else Table.INPUT, address, count))


def _write_coil(store: Store, data: bytes, _: int) -> bytes:
    address, value = struct.unpack(">HH", data)
    if value not in (0x0000, 0xFF00):
        raise RefusedError(ILLEGAL_VALUE)
    store.write(Table.COIL, address, [int(value == 0xFF00)])
    return data


def _write_register(store: Store, data: bytes, _: int) -> bytes:
    address, value = struct.unpack(">HH", data)
    store.write(Table.HOLDING, address, [value])
    return data


def _write_coils(store: Store, data: bytes, _: int) -> bytes:
    address, count, size = struct.unpack(">HHB", data[:5])
    _is_within(count, MAX_WRITE_BITS)
    if not size == len(data) - 5 == (count + 7) // 8:
        raise RefusedError(ILLEGAL_VALUE)
    packed = int.from_bytes(data[5:], "little")
    store.write(Table.COIL, address, [packed >> place & 1 for place in range(count)])
    return data[:4]


def _write_registers(store: Store, data: bytes, _: int) -> bytes:
    address, count, size = struct.unpack(">HHB", data[:5])
    _is_within(count, MAX_WRITE_REGISTERS)
    if size != 2 * count:
        raise RefusedError(ILLEGAL_VALUE)
    store.write(Table.HOLDING, address, _words(data[5:], count))
    return data[:4]


def _mask_write(store: Store, data: bytes, _: int) -> bytes:
    address, and_mask, or_mask = struct.unpack(">HHH", data)
    (before,) = store.read(Table.HOLDING, address, 1)
    store.write(Table.HOLDING, address, [before & and_mask | or_mask & ~and_mask & 0xFFFF])
    return data


def _write_then_read(store: Store, data: bytes, _: int) -> bytes:
    read_from, read_count, write_to, write_count, size = struct.unpack(">HHHHB", data[:9])
    _is_within(read_count, MAX_REGISTERS)
    _is_within(write_count, MAX_WRITE_OF_BOTH)
    if size != 2 * write_count:
        raise RefusedError(ILLEGAL_VALUE)
    store.write(Table.HOLDING, write_to, _words(data[9:], write_count))
    return _of_words(store.read(Table.HOLDING, read_from, read_count))


def _loop_back(_: Store, data: bytes, __: int) -> bytes:
    if data[:2] != b"\x00\x00":  # of the diagnostics only "return query data"
        raise RefusedError(ILLEGAL_FUNCTION)
    return data


def _server_id(store: Store, _: bytes, __: int) -> bytes:
    said = store.name.encode()[:200] + b"\xff"  # it runs
    return bytes([len(said)]) + said


def _identification(store: Store, data: bytes, _: int) -> bytes:
    """Basic identification (MEI 14): vendor, product, revision."""
    if data[0] != 14:
        raise RefusedError(ILLEGAL_FUNCTION)
    read_code, first = data[1], data[2]
    objects = [b"Sensor Hub", store.name.encode()[:60], b"1.0"]
    if read_code not in (1, 2, 3, 4) or (read_code == 4 and first >= len(objects)):
        raise RefusedError(ILLEGAL_VALUE if read_code not in (1, 2, 3, 4) else ILLEGAL_ADDRESS)
    start = first if first < len(objects) else 0
    sent = [start] if read_code == 4 else range(start, len(objects))
    listed = b"".join(bytes([number, len(objects[number])]) + objects[number] for number in sent)
    return bytes([14, read_code, 0x81, 0, 0, len(sent)]) + listed


_FUNCTIONS: dict[int, Callable[[Store, bytes, int], bytes]] = {
    1: _read_bits,
    2: _read_bits,
    3: _read_registers,
    4: _read_registers,
    5: _write_coil,
    6: _write_register,
    8: _loop_back,
    15: _write_coils,
    16: _write_registers,
    17: _server_id,
    22: _mask_write,
    23: _write_then_read,
    43: _identification,
}
