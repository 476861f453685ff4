"""What the registers of one property mean, as the hub would publish it. Pure."""

from __future__ import annotations

import math
import re
import struct
from decimal import Context, Decimal
from typing import Any

from answering import Json, ToolError
from rules_register import FLOAT_FORMATS, by_code, by_mask, count_of, kind_of, width_of

_PRECISE = Context(prec=60)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decoded(data: bytes, register: dict[str, Any]) -> Json:
    """The value in the bytes of a checked register. Raises ToolError when the device sent none."""
    kind = kind_of(register)
    if kind == "coil":
        return bool(data[0] & 1)
    data = _in_order(data, register)
    match kind:
        case "string":
            return _text(data)
        case "hex":
            return data.hex()
        case "float":
            return _coded(_float(data, register), register)
    field = int.from_bytes(data, "big") >> register.get("bit", 0) & (1 << width_of(register)) - 1
    if kind == "bit":
        return bool(field)
    return _flags(field, register) if kind == "flags" else _coded(_signed(field, register), register)


def _in_order(data: bytes, register: dict[str, Any]) -> bytes:
    words = [data[index : index + 2] for index in range(0, 2 * count_of(register), 2)]
    if register.get("word_order") == "little":
        words.reverse()
    return b"".join(word[::-1] if register.get("byte_order") == "little" else word for word in words)


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return _UNPRINTABLE.sub(" ", text).strip()


def _float(data: bytes, register: dict[str, Any]) -> Decimal:
    (raw,) = struct.unpack(FLOAT_FORMATS[register["data_type"]], data)
    if not math.isfinite(raw):
        raise ToolError("no_number", f"the device sent {raw} as {register['data_type']}")
    return Decimal(f"{raw:.7g}" if register["data_type"] == "float32" else repr(raw))


def _signed(field: int, register: dict[str, Any]) -> Decimal:
    sign = 1 << (width_of(register) - 1)
    if field & sign and register.get("sign_magnitude"):
        return Decimal(sign - field)
    is_signed = str(register.get("data_type", "uint16")).startswith("int")
    return Decimal(field - 2 * sign if field & sign and is_signed else field)


def _coded(raw: Decimal, register: dict[str, Any]) -> Json:
    """The number, or the text that stands for it; whole where registers, scale and offset are."""
    scale, offset = (Decimal(repr(register.get(key, usual))) for key, usual in (("scale", 1), ("offset", 0)))
    value = _PRECISE.add(_PRECISE.multiply(raw, scale), offset)
    number: float = float(value)
    if not math.isfinite(number):
        raise ToolError("no_number", "the scaled value is too large")
    if kind_of(register) == "integer" and scale == int(scale) and offset == int(offset):
        number = int(value)
    texts = by_code(register.get("values", {}))
    is_code = register.get("truncate") or number == int(number)
    return texts.get(int(number), number) if is_code else number + 0


def _flags(field: int, register: dict[str, Any]) -> str:
    """The texts of what is set, lowest bit first; without texts a digit for each bit."""
    width = width_of(register)
    if "flags" not in register:
        return f"{field:0{width}b}"[::-1]
    left, found = field, []
    for mask, text in by_mask(register["flags"], width).items():
        if mask & left == mask:
            found.append((mask & -mask, text))
            left &= ~mask
    return ",".join(text for _, text in sorted(found))
