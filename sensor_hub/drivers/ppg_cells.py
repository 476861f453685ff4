"""What the cells of a Python Protocol Gateway table mean, one at a time. Pure; ValueError says what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

from sensor_hub.drivers.modbus_codec import Order
from sensor_hub.drivers.modbus_register import MAX_REGISTERS
from sensor_hub.wire import MalformedJson, loads

Access = Literal["read", "disabled", "write", "writeonly"]
Family = Literal["unsigned", "signed", "bits", "signed bits", "magnitude bits", "flags", "string", "hex"]

_NUMBER = r"(?:0?x[0-9a-f]{1,8}|[0-9]{1,9})"
_ONE = re.compile(rf"(?P<at>{_NUMBER})(?:\s*\.\s*(?P<b>b)?(?P<offset>{_NUMBER}))?")
_RANGE = re.compile(rf"(?P<r>r)?\s*(?P<first>{_NUMBER})\s*[~-]\s*(?P<last>{_NUMBER}|[0-9a-f]{{1,8}})")
_TYPE = re.compile(r"(?P<name>[a-z0-9_]{1,20}?)(?:_(?P<order>le|be))?(?:\.(?P<size>[0-9]{1,4}))?")
_BITS = re.compile(r"(?P<n>[1-9]|1[0-6])(?P<sign>s|sm)?bit")
_SCALE = re.compile(r"-?[0-9.]+")
_PROSE = re.compile(r":|\bor\b", re.IGNORECASE)
_INTERVAL = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(x|ms|s)", re.IGNORECASE)
_CLASS = re.compile(r"(\[[^\[\]]{1,100}\])(\+|\*|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})?")
_SPAN = re.compile(rf"(?<![\w.])(-?{_NUMBER})\s*[~-]\s*(-?{_NUMBER})(?![\w.])", re.IGNORECASE)
_LISTED = re.compile(rf"\s*(-?{_NUMBER})\s*(?:[~-]\s*({_NUMBER})\s*)?", re.IGNORECASE)
_REFERENCE = re.compile(r"\{\{\s*(\w{1,100}?)(?:_codes)?\s*\}\}")
_LIST_MAX = 1000
_SCALE_CHARS = 20
_UNIT_CHARS = 200

_TYPES: dict[str, tuple[Family, int]] = {
    "byte": ("unsigned", 8),
    "uint8": ("unsigned", 8),
    "ushort": ("unsigned", 16),
    "uint16": ("unsigned", 16),
    "short": ("signed", 16),
    "int16": ("signed", 16),
    "uint": ("unsigned", 32),
    "uint32": ("unsigned", 32),
    "int": ("signed", 32),
    "int32": ("signed", 32),
    "uint64": ("unsigned", 64),
    "int64": ("signed", 64),
    "8bit_flags": ("flags", 8),
    "16bit_flags": ("flags", 16),
    "32bit_flags": ("flags", 32),
    "ascii": ("string", 16),
    "hex": ("hex", 16),
}
_ACCESS: dict[str, Access] = {
    **dict.fromkeys(("", "r", "no", "read", "wd"), "read"),
    **dict.fromkeys(("rd", "readdisabled", "disabled", "d"), "disabled"),
    **dict.fromkeys(("w", "rw", "r/w", "yes"), "write"),
    "wo": "writeonly",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Registers (or messages) in the order in which they are joined, and an offset into the one there is."""

    registers: tuple[int, ...]
    bit: int | None = None
    byte: int | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Type:
    """A data type: its family, its bits, and what its suffixes say."""

    family: Family
    bits: int
    order: Order | None = None
    size: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """value = raw * scale, in `symbol`."""

    scale: Decimal = Decimal(1)
    symbol: str = ""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """What a row says of the values there are; numbers are raw. `reference`: codes of that name in the JSON file.

    `unclear`: it says something that no program can enforce.
    """

    codes: dict[str, str] = field(default_factory=dict)
    reference: str | None = None
    low: int | None = None
    high: int | None = None
    allowed: tuple[int, ...] = ()
    pattern: str | None = None
    unclear: bool = False


def number_of(text: str) -> int:
    """A decimal number, or a hexadecimal one with x or 0x before it."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * (
        int(digits.lower().removeprefix("0").removeprefix("x"), 16) if "x" in digits.lower() else int(digits)
    )


def place_of(text: str, highest: int) -> Place:
    """A register expression: `16`, `x10`, `4.b2`, `x355.2`, `7~14`, `r20~22`."""
    words = text.strip().lower()
    if one := _ONE.fullmatch(words):
        offset = None if one["offset"] is None else number_of(one["offset"])
        place = Place((number_of(one["at"]),), offset if one["b"] else None, None if one["b"] else offset)
    elif span := _RANGE.fullmatch(words):
        place = _range(span, text.strip())
    else:
        raise ValueError(f"must be like 16, x10, 4.b2, x355.2, 7~14 or r20~22, not {text.strip()[:40]!r}")
    if max(place.registers) > highest:
        raise ValueError(f"{text.strip()!r} is beyond {highest}")
    return place


def _range(span: re.Match[str], text: str) -> Place:
    first, note = number_of(span["first"]), None
    if re.fullmatch(_NUMBER, span["last"]):
        last = number_of(span["last"])
    elif "x" in span["first"]:
        last, note = int(span["last"], 16), f"the end of {text!r} is taken as hexadecimal, as its start is"
    else:
        raise ValueError(f"the end of {text!r} is no number")
    if last <= first:
        return Place((first,), note=f"{text!r} does not ascend; only {span['first']} is read")
    if last - first >= MAX_REGISTERS:
        raise ValueError(f"{text!r} is more than {MAX_REGISTERS} registers")
    registers = tuple(range(first, last + 1))
    return Place(registers[::-1] if span["r"] else registers, note=note)


def type_of(text: str) -> Type:
    """A data type such as `USHORT` (an empty text, too), `8BIT` or `ASCII_LE.4`."""
    found = _TYPE.fullmatch(text.strip().lower() or "ushort")
    name = found["name"] if found else ""
    if found and name in _TYPES:
        family, bits = _TYPES[name]
    elif found and (field_ := _BITS.fullmatch(name)):
        bits = int(field_["n"])
        families: dict[str | None, Family] = {None: "bits", "s": "signed bits", "sm": "magnitude bits"}
        family = families[field_["sign"]]
        if bits < 2 and field_["sign"]:
            raise ValueError(f"{text.strip()!r} has no bit beside the sign")
    else:
        known = ", ".join(name.upper() for name in _TYPES)
        raise ValueError(
            f"unknown type {text.strip()[:40]!r}; known are {known}, 1BIT to 16BIT, 2SBIT, 2SMBIT, …"
        )
    order: Order | None = {"le": "little", "be": "big"}.get(found["order"] or "")  # type: ignore[assignment]
    size = int(found["size"]) if found["size"] else None
    if size == 0:
        raise ValueError(f"{text.strip()!r} has no length")
    return Type(family, bits, order, size)


def unit_of(text: str) -> Unit:
    """A scale and a symbol, as in `0.1V`, `10mV` or `%`."""
    words = text.strip()
    if len(words) > _UNIT_CHARS:
        raise ValueError(f"is longer than {_UNIT_CHARS} characters: {words[:40]!r}…")
    if _PROSE.search(words):
        return Unit(symbol=words, note=f"unit {words!r} reads like prose: taken as it stands, scale 1")
    found = _SCALE.match(words)
    if found is None:
        return Unit(symbol=words)
    symbol = words[found.end() :].strip()
    try:
        scale = Decimal(found[0][:_SCALE_CHARS])
    except InvalidOperation:
        raise ValueError(f"{found[0][:_SCALE_CHARS]!r} in {words[:40]!r} is no number") from None
    if len(found[0]) > _SCALE_CHARS:
        raise ValueError(f"{found[0][:_SCALE_CHARS]}… has too many digits")
    if scale == 0:
        return Unit(symbol=symbol, note=f"unit {words!r} has scale 0: scale 1 is taken")
    doubtful = re.match(r"-?0[0-9]", found[0])
    note = (
        f"unit {words!r} is read as scale {scale:f}; a decimal point may be misplaced" if doubtful else None
    )
    return Unit(scale, symbol, note)


def access_of(text: str) -> tuple[Access, str | None]:
    """An access mode, and a note when nobody knows the word."""
    word = text.strip().lower()
    if word in _ACCESS:
        return _ACCESS[word], None
    return "read", f"access {text.strip()[:40]!r} is no known word: read-only"


def interval_of(text: str) -> tuple[Decimal, str] | None:
    """`10x`, `1.5s`, `500ms` as number and word; None when there is none."""
    found = _INTERVAL.search(text)
    if found is None:
        if text.strip():
            raise ValueError(f"must be like 10x, 1.5s or 500ms, not {text.strip()[:40]!r}")
        return None
    if Decimal(found[1]) == 0:
        raise ValueError("must be greater than 0")
    return Decimal(found[1]), found[2].lower()


def values_of(text: str, *, is_text: bool) -> Values:
    """Codes, a list, a range or a class of characters."""
    words = text.strip()
    if "{" in words and not is_text:
        codes = _codes_in(words)
        if codes is not None:
            return Values(codes=codes)
        reference = _REFERENCE.fullmatch(words)
        return Values(reference=reference[1]) if reference else Values(unclear=True)
    if is_text:
        return _pattern(words)
    if "," in words:
        allowed = _list(words)
        return Values(allowed=allowed) if allowed else Values(unclear=True)
    spans = _SPAN.findall(words)
    if len(spans) == 1:
        low, high = (number_of(end) for end in spans[0])
        return Values(low=low, high=high) if low <= high else Values(unclear=True)
    return Values(unclear=bool(words) and not re.fullmatch(rf"-?{_NUMBER}", words.lower()))


def _pattern(words: str) -> Values:
    found = _CLASS.fullmatch(words)
    if found is None:
        return Values(unclear=bool(words))
    pattern = found[1] + (found[2] or "*")
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        return Values(unclear=True)
    return Values(pattern=pattern)


def _codes_in(words: str) -> dict[str, str] | None:
    try:
        parsed = loads(words)
    except MalformedJson:
        return None
    if not isinstance(parsed, dict):
        return None
    return {key: str(text) for key, text in parsed.items() if isinstance(text, str | int | float)}


def _list(words: str) -> tuple[int, ...]:
    """The numbers of a list; empty when something in it is none."""
    numbers: list[int] = []
    for part in words.split(","):
        found = _LISTED.fullmatch(part)
        if found is None:
            return ()
        first = number_of(found[1])
        last = first if found[2] is None else number_of(found[2])
        if not 0 <= last - first < _LIST_MAX or len(numbers) > _LIST_MAX:
            return ()
        numbers += range(first, last + 1)
    return tuple(numbers)
