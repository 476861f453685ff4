"""Registers <-> numbers: pure arithmetic, in decimal so that 225 * 0.1 is 22.5 and nothing else."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from sensor_hub.errors import ReadFailed, ValueOutOfRange
from sensor_hub.properties import STEP_DUST

DataType = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
Order = Literal["big", "little"]

_FLOATS: dict[DataType, str] = {"float32": ">f", "float64": ">d"}
# 20 digits of a 64-bit number times 17 of a float: exact with room to spare.
_DECIMAL = Context(prec=60, rounding=ROUND_HALF_EVEN)
_DIGITS_OF_FLOAT32 = 7


@dataclass(frozen=True, slots=True)
class Layout:
    """How a number lies in 16-bit registers: value = raw * scale + offset.

    `word_order`: of the registers; `byte_order`: within each. A whole number may be a field of `bits` from bit
    `bit` (0 is the lowest) on. `sign_magnitude`: its highest bit is the sign, the others are the amount.
    """

    data_type: DataType = "uint16"
    scale: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: int = 0
    bits: int | None = None
    sign_magnitude: bool = False

    @property
    def count(self) -> int:
        """Registers that one value takes."""
        return int(self.data_type[-2:]) // 16

    @property
    def is_float(self) -> bool:
        """Floats have no bit-fields, no limits of their own and no fixed resolution."""
        return self.data_type in _FLOATS

    @property
    def width(self) -> int:
        """Bits of the raw number."""
        return 16 * self.count if self.bits is None else self.bits

    @property
    def is_part(self) -> bool:
        """Whether its registers hold something else too."""
        return self.width < 16 * self.count

    @property
    def raw_limits(self) -> tuple[int, int] | None:
        """Smallest and largest raw number; None for floats."""
        if self.is_float:
            return None
        half = 1 << (self.width - 1)
        if self.sign_magnitude:
            return 1 - half, half - 1
        return (-half, half - 1) if self.data_type.startswith("int") else (0, 2 * half - 1)

    @property
    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest value that the raw number can hold; None for floats."""
        if self.raw_limits is None:
            return None
        ends = sorted(_scaled(Decimal(end), self) for end in self.raw_limits)
        return float(ends[0]), float(ends[1])


def octets(registers: Sequence[int], word_order: Order, byte_order: Order) -> bytes:
    """The bytes of registers, the most significant (or first) one first."""
    words = registers if word_order == "big" else list(reversed(registers))
    return struct.pack(f"{'>' if byte_order == 'big' else '<'}{len(words)}H", *words)


def registers_of(data: bytes, word_order: Order, byte_order: Order) -> list[int]:
    """The registers that hold `data`: `octets` the other way round."""
    words = list(struct.unpack(f"{'>' if byte_order == 'big' else '<'}{len(data) // 2}H", data))
    return words if word_order == "big" else words[::-1]


def decode(registers: Sequence[int], layout: Layout) -> int | float:
    """Value of `layout.count` registers; an int when scale and offset are whole.

    Raises ReadFailed when the device sent no finite number.
    """
    data = octets(registers, layout.word_order, layout.byte_order)
    raw = _float_of(data, layout) if layout.is_float else Decimal(_field(int.from_bytes(data), layout))
    return scaled(raw, layout)


def scaled(raw: Decimal, layout: Layout) -> int | float:
    """Value of a raw number; an int when scale and offset are whole. Raises ReadFailed if it is too large."""
    value = _scaled(raw, layout)
    number = float(value)
    if not math.isfinite(number):
        raise ReadFailed("the scaled value is too large")
    if not layout.is_float and is_whole(layout.scale) and is_whole(layout.offset):
        return int(value)
    return number + 0.0  # -0.0 becomes 0.0


def encode(value: int | float, layout: Layout, current: Sequence[int] | None = None) -> list[int]:
    """Registers that hold `value`; of a bit-field, `current` with the value in its place.

    Raises ValueOutOfRange when they cannot hold it, naming the limits or the step.
    """
    raw = _raw(value, layout)
    if layout.is_float:
        data = _pack_float(raw, value, layout)
    else:
        field = _bits_of(_whole_raw(raw, value, layout), layout)
        data = merged(field, layout.bit, layout.width, current, layout).to_bytes(2 * layout.count)
    return registers_of(data, layout.word_order, layout.byte_order)


def merged(field: int, bit: int, width: int, current: Sequence[int] | None, layout: Layout) -> int:
    """The whole number of `current` with the `width` bits from `bit` on replaced by `field`."""
    if width == 16 * layout.count:
        return field
    if current is None:
        raise ValueError("a part of a register is written together with what the register holds")
    held = int.from_bytes(octets(current, layout.word_order, layout.byte_order))
    return held & ~(((1 << width) - 1) << bit) | field << bit


def decimal_of(number: int | float) -> Decimal:
    """The decimal number that people mean by a float: 0.1 is 0.1."""
    return Decimal(repr(number))


def is_whole(number: Decimal) -> bool:
    """Whether nothing stands behind its point."""
    return number == number.to_integral_value()


def _float_of(data: bytes, layout: Layout) -> Decimal:
    (raw,) = struct.unpack(_FLOATS[layout.data_type], data)
    if not math.isfinite(raw):
        raise ReadFailed(f"the device sent {raw} as {layout.data_type}")
    return Decimal(f"{raw:.{_DIGITS_OF_FLOAT32}g}" if layout.data_type == "float32" else repr(raw))


def _field(number: int, layout: Layout) -> int:
    width = layout.width
    field = number >> layout.bit & (1 << width) - 1
    sign = 1 << (width - 1)
    if not field & sign:
        return field
    if layout.sign_magnitude:
        return sign - field
    return field - 2 * sign if layout.data_type.startswith("int") else field


def _bits_of(raw: int, layout: Layout) -> int:
    if layout.sign_magnitude and raw < 0:
        return (1 << (layout.width - 1)) - raw
    return raw & (1 << layout.width) - 1


def _scaled(raw: Decimal, layout: Layout) -> Decimal:
    return _DECIMAL.add(_DECIMAL.multiply(raw, layout.scale), layout.offset)


def _raw(value: int | float, layout: Layout) -> Decimal:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueOutOfRange(f"{value} is not a finite number")
    return _DECIMAL.divide(_DECIMAL.subtract(decimal_of(value), layout.offset), layout.scale)


def _whole_raw(raw: Decimal, value: int | float, layout: Layout) -> int:
    assert layout.raw_limits is not None
    low, high = layout.raw_limits
    if not low - 1 < raw < high + 1:
        raise _beyond(value, layout)
    whole = raw.to_integral_value(ROUND_HALF_EVEN)
    if abs(raw - whole) > STEP_DUST:
        base = f" from {layout.offset:f}" if layout.offset else ""
        raise ValueOutOfRange(f"{value} is not on the step of {abs(layout.scale):f}{base}")
    if not low <= whole <= high:
        raise _beyond(value, layout)
    return int(whole)


def _beyond(value: int | float, layout: Layout) -> ValueOutOfRange:
    limits = layout.limits
    assert limits is not None
    what = f"{layout.width} bits of {layout.data_type}" if layout.is_part else layout.data_type
    return ValueOutOfRange(f"{value} does not fit {what}: {limits[0]:g}..{limits[1]:g}")


def _pack_float(raw: Decimal, value: int | float, layout: Layout) -> bytes:
    try:
        number = float(raw)
        if math.isfinite(number):
            return struct.pack(_FLOATS[layout.data_type], number)
    except OverflowError:
        pass
    raise ValueOutOfRange(f"{value} does not fit {layout.data_type}")
