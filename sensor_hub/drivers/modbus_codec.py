"""Registers <-> values: pure arithmetic, in decimal so that 225 * 0.1 is 22.5 and nothing else."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from sensor_hub.errors import ReadFailed, ValueOutOfRange

DataType = Literal["int16", "uint16", "int32", "uint32", "float32"]
WordOrder = Literal["big", "little"]

_FORMATS: dict[DataType, str] = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "float32": ">f",
}
_RAW_LIMITS: dict[DataType, tuple[int, int]] = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
}
# 10 digits of a 32-bit number times 17 of a float: exact with room to spare.
_DECIMAL = Context(prec=60, rounding=ROUND_HALF_EVEN)
# How far from a whole raw number a command may be: the dust of a float such as 0.1 + 0.2.
_DUST = Decimal("1e-6")
_DIGITS_OF_FLOAT32 = 7


@dataclass(frozen=True, slots=True)
class Layout:
    """How a number lies in 16-bit registers: value = raw * scale + offset, `word_order` of 32-bit types."""

    data_type: DataType = "uint16"
    scale: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)
    word_order: WordOrder = "big"

    @property
    def count(self) -> int:
        """Registers that one value takes."""
        return struct.calcsize(_FORMATS[self.data_type]) // 2

    @property
    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest value that the raw number can hold; None for floats."""
        raw = _RAW_LIMITS.get(self.data_type)
        if raw is None:
            return None
        ends = sorted(_scaled(Decimal(end), self) for end in raw)
        return float(ends[0]), float(ends[1])


def decode(registers: Sequence[int], layout: Layout) -> int | float:
    """Value of `layout.count` registers; an int when scale and offset are whole.

    Raises ReadFailed when the device sent no finite number.
    """
    words = registers if layout.word_order == "big" else list(reversed(registers))
    (raw,) = struct.unpack(_FORMATS[layout.data_type], struct.pack(f">{len(words)}H", *words))
    if isinstance(raw, int):
        value = _scaled(Decimal(raw), layout)
        return int(value) if _is_whole(layout) else float(value)
    if not math.isfinite(raw):
        raise ReadFailed(f"the device sent {raw} as float32")
    number = float(_scaled(Decimal(f"{raw:.{_DIGITS_OF_FLOAT32}g}"), layout))
    if not math.isfinite(number):
        raise ReadFailed("the scaled value is too large")
    return number + 0.0  # -0.0 becomes 0.0


def encode(value: int | float, layout: Layout) -> list[int]:
    """Registers that hold `value`. Raises ValueOutOfRange when they cannot, naming the limits or the step."""
    raw = _raw(value, layout)
    if layout.data_type == "float32":
        packed = _pack_float(raw, value)
    else:
        packed = struct.pack(_FORMATS[layout.data_type], _whole_raw(raw, value, layout))
    words = list(struct.unpack(f">{layout.count}H", packed))
    return words if layout.word_order == "big" else words[::-1]


def decimal_of(number: int | float) -> Decimal:
    """The decimal number that people mean by a float: 0.1 is 0.1."""
    return Decimal(repr(number))


def _scaled(raw: Decimal, layout: Layout) -> Decimal:
    return _DECIMAL.add(_DECIMAL.multiply(raw, layout.scale), layout.offset)


def _raw(value: int | float, layout: Layout) -> Decimal:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueOutOfRange(f"{value} is not a finite number")
    return _DECIMAL.divide(_DECIMAL.subtract(decimal_of(value), layout.offset), layout.scale)


def _whole_raw(raw: Decimal, value: int | float, layout: Layout) -> int:
    low, high = _RAW_LIMITS[layout.data_type]
    if not low - 1 < raw < high + 1:
        raise _beyond(value, layout)
    whole = raw.to_integral_value(ROUND_HALF_EVEN)
    if abs(raw - whole) > _DUST:
        base = f" from {layout.offset:f}" if layout.offset else ""
        raise ValueOutOfRange(f"{value} is not on the step of {abs(layout.scale):f}{base}")
    if not low <= whole <= high:
        raise _beyond(value, layout)
    return int(whole)


def _beyond(value: int | float, layout: Layout) -> ValueOutOfRange:
    limits = layout.limits
    assert limits is not None
    return ValueOutOfRange(f"{value} does not fit {layout.data_type}: {limits[0]:g}..{limits[1]:g}")


def _pack_float(raw: Decimal, value: int | float) -> bytes:
    try:
        number = float(raw)
        if math.isfinite(number):
            return struct.pack(">f", number)
    except OverflowError:
        pass
    raise ValueOutOfRange(f"{value} does not fit float32")


def _is_whole(layout: Layout) -> bool:
    return (
        layout.scale == layout.scale.to_integral_value()
        and layout.offset == layout.offset.to_integral_value()
    )
