"""Which registers are read together: few transactions, none longer than its device takes. Pure.

Points that lie side by side become one block; a few registers that nobody asked for may lie between them,
because to carry them costs less than another transaction does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sensor_hub.drivers.base import Block, Point
from sensor_hub.drivers.modbus_register import Table

# The standard's limits of one read, and of one write.
MAX_REGISTERS = 125
MAX_BITS = 2000
MAX_WRITTEN = 123
# A transaction costs 13 bytes of frames and 7 characters of silence, as much as 10 registers, before the device has
# thought for a moment: to read over a hole of 8 is never slower.
DEFAULT_GAP = 8
_BITS_OF_REGISTER = 16
_BIT_TABLES = ("coil", "discrete")
_FUNCTIONS: Mapping[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}  # that read a table
_READERS: Mapping[Table, str] = {
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
    "holding": "read_holding_registers",
    "input": "read_input_registers",
}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """`count` registers, or bits, of a table."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count

    @classmethod
    def of(cls, function: int, address: int, count: int) -> Span:
        """What a request with this function code, 1 to 4, reads."""
        table = next(table for table, code in _FUNCTIONS.items() if code == function)
        return cls(table, address, count)

    @property
    def function(self) -> int:
        """The function code that reads it."""
        return _FUNCTIONS[self.table]

    @property
    def reader(self) -> str:
        """The method of pymodbus' clients that reads it."""
        return _READERS[self.table]

    @property
    def is_bits(self) -> bool:
        """Coils and discrete inputs are counted in bits."""
        return self.table in _BIT_TABLES

    @property
    def registers(self) -> int:
        """Its length in registers; of bits, as many as hold them."""
        return -(-self.count // _BITS_OF_REGISTER) if self.is_bits else self.count

    def overlaps(self, other: Span) -> bool:
        """Whether they have something in common."""
        return self.table == other.table and self.address < other.end and other.address < self.end

    def covers(self, other: Span) -> bool:
        """Whether to read this reads the other, too."""
        return self.table == other.table and self.address <= other.address and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Limits:
    """What one transaction with a unit may read: at most so many registers, over holes of at most so many.

    Of bits it is sixteen times as many of both.
    """

    max_registers: int = MAX_REGISTERS
    max_gap: int = DEFAULT_GAP

    def allow(self, span: Span) -> bool:
        """Whether it may be read at once."""
        return span.count <= MAX_BITS and span.registers <= self.max_registers

    def bridge(self, gap: Span) -> bool:
        """Whether such a hole may be read over."""
        return gap.registers <= self.max_gap


@dataclass(frozen=True, slots=True)
class ModbusBlock(Block):
    """Points that one transaction reads, and what it reads."""

    unit_id: int
    span: Span


class _Piece(NamedTuple):
    """One point and where it lies."""

    point: Point
    span: Span


def blocks_of(
    unit_id: int,
    spans: Mapping[Point, Span],
    limits: Limits,
    refused: Collection[Span] = (),
    untouchable: Collection[Span] = (),
) -> list[ModbusBlock]:
    """Blocks that read each point exactly once; none reads all of what the device has `refused` to read.

    Only a point that itself is as much as that, or is over the limits, is read alone all the same. `untouchable`
    is never read between points, not even in part.
    """
    pieces = sorted((_Piece(*item) for item in spans.items()), key=lambda piece: piece.span)
    alone = [piece for piece in pieces if any(piece.span.covers(span) for span in refused)]
    groups: list[list[_Piece]] = [[piece] for piece in alone]
    for group in _neighbours((piece for piece in pieces if piece not in alone), limits, untouchable):
        groups += _without(refused, group)
    groups.sort(key=lambda group: group[0].span)
    return [ModbusBlock(unit_id, tuple(piece.point for piece in group), _around(group)) for group in groups]


def _neighbours(
    pieces: Iterable[_Piece], limits: Limits, untouchable: Collection[Span]
) -> list[list[_Piece]]:
    """Groups within the limits; `pieces` come in their order."""
    groups: list[list[_Piece]] = []
    around: Span | None = None
    for piece in pieces:
        if around is not None and _may_join(around, piece.span, limits, untouchable):
            groups[-1].append(piece)
            around = _joined(around, piece.span)
        else:
            groups.append([piece])
            around = piece.span
    return groups


def _may_join(around: Span, span: Span, limits: Limits, untouchable: Collection[Span]) -> bool:
    if around.table != span.table or not limits.allow(_joined(around, span)):
        return False
    gap = Span(span.table, around.end, span.address - around.end)
    return gap.count <= 0 or (limits.bridge(gap) and not any(gap.overlaps(each) for each in untouchable))


def _without(refused: Collection[Span], group: list[_Piece]) -> list[list[_Piece]]:
    """The group, cut until no part covers what was refused."""
    around = _around(group)
    worst = min((span for span in refused if around.covers(span)), key=lambda span: span.count, default=None)
    cut = None if worst is None else _cut(group, worst)
    if cut is None:
        return [group]
    return _without(refused, group[:cut]) + _without(refused, group[cut:])


def _cut(group: Sequence[_Piece], refused: Span) -> int | None:
    """Where to cut so that no part covers `refused`: at the widest hole, of equals nearest to its middle."""
    middle = refused.address + refused.count / 2
    best: tuple[float, float, int] | None = None
    end = 0
    for index in range(1, len(group)):
        end = max(end, group[index - 1].span.end)
        start = group[index].span.address
        if end < refused.end and start > refused.address:
            rank = (float(max(0, start - end)), -abs(start - middle), index)
            best = rank if best is None else max(best, rank)
    return None if best is None else best[2]


def _joined(first: Span, second: Span) -> Span:
    return Span(first.table, first.address, max(first.end, second.end) - first.address)


def _around(group: Sequence[_Piece]) -> Span:
    """What must be read for all of them; they come in their order."""
    first = group[0].span
    return Span(first.table, first.address, max(piece.span.end for piece in group) - first.address)
