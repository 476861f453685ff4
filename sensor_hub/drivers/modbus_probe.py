"""A read whose answer cannot be taken for that of another one: it has another length. Pure."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

from sensor_hub.drivers.modbus_frames import crc_of
from sensor_hub.drivers.modbus_plan import Span

_ADDRESSES = 65536
_BITS_OF_BYTE = 8  # bits are answered in whole bytes


def read_request(unit_id: int, span: Span) -> bytes:
    """The RTU frame that asks for it."""
    adu = struct.pack(">BBHH", unit_id, span.function, span.address, span.count)
    return adu + crc_of(adu)


def probe_of(request: bytes, never_read: Collection[Span]) -> bytes | None:
    """A request like this one for a little less, or else a little more; None where that may not be read."""
    unit_id, function, address, count = struct.unpack_from(">BBHH", request)
    for span in _of_another_length(Span.of(function, address, count)):
        if not any(span.overlaps(each) for each in never_read):
            return read_request(unit_id, span)
    return None


def _of_another_length(span: Span) -> Iterator[Span]:
    step = _BITS_OF_BYTE if span.is_bits else 1
    if span.count > step:
        yield Span(span.table, span.address, span.count - step)
        return
    if span.end + step <= _ADDRESSES:
        yield Span(span.table, span.address, span.count + step)
    if span.address >= step:
        yield Span(span.table, span.address - step, span.count + step)
