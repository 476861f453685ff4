"""What one register (a property of a Modbus device) may say: the hub's own rules."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from typing import Any

import checks
from answering import Json
from checks import Check, Entry, Problems, WrongError
from expressions import regex_problem

NUMBERS = {
    **{"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2},
    **{"int64": 4, "uint64": 4, "float64": 4},
}
TEXTS = ("string", "hex", "flags")
BIT_TABLES = ("coil", "discrete")
TABLES = ("holding", "input", *BIT_TABLES)
FLOAT_FORMATS = {"float32": ">f", "float64": ">d"}
_MAX_BITS = 2000
_OF_TEXTS = ("length", "flags", "pattern")
_OF_BITS = ("bit", "bits", "sign_magnitude")
_OF_NUMBERS = ("scale", "offset", "min", "max", "step", "allowed", "values", "truncate")
_NOT_FOR = {
    "coil": (*_OF_TEXTS, *_OF_BITS, "allowed", "values", "truncate"),
    "bit": (*_OF_TEXTS, *_OF_NUMBERS, "sign_magnitude"),
    "integer": _OF_TEXTS,
    "float": (*_OF_TEXTS, *_OF_BITS),
    "string": (*_OF_NUMBERS, *_OF_BITS, "flags"),
    "hex": (*_OF_NUMBERS, *_OF_BITS, "flags", "pattern"),
    "flags": (*_OF_NUMBERS, "sign_magnitude", "pattern"),
}
_MEANS_NOTHING: Mapping[str, Json] = {"scale": 1, "offset": 0, "sign_magnitude": False, "truncate": False}
_CODE = re.compile(r"\s*(-?[0-9]{1,20}|0x[0-9a-f]{1,16})\s*", re.IGNORECASE)
_BIT = re.compile(r"\s*b?([0-9]{1,4})\s*", re.IGNORECASE)
_DECIMAL = Context(prec=60)
_DUST = Decimal("1e-6")

Register = dict[str, Any]


def check_register(content: Json, where: str, problems: Problems) -> Register:
    """The register with clean values; a problem for all that is wrong."""
    entry = Entry(content, where, problems)
    before = len(problems)
    entry.need("table", _table)
    entry.need("address", checks.integer(0, 65535))
    for key, check in _KEYS.items():
        entry.take(key, check)
    entry.refuse_rest()
    if len(problems) == before:
        for problem in _problems(entry.kept):
            entry.fail(*problem)
    return entry.kept


def kind_of(register: Register) -> str:
    """What sort of value a checked register has: coil, bit, integer, float, string, hex or flags."""
    data_type = str(register.get("data_type", "uint16"))
    if register["table"] in BIT_TABLES:
        return "coil"
    if data_type in TEXTS:
        return data_type
    if data_type in FLOAT_FORMATS:
        return "float"
    lone = "bit" in register and "bits" not in register and "values" not in register
    return "bit" if lone else "integer"


def count_of(register: Register) -> int:
    """Registers (or coils) that it takes."""
    if register["table"] in BIT_TABLES:
        return 1
    data_type = register.get("data_type", "uint16")
    return int(register.get("length", 1)) if data_type in TEXTS else NUMBERS[data_type]


def width_of(register: Register) -> int:
    """Bits of it that are meant."""
    if "bits" in register:
        return int(register["bits"])
    if "bit" in register and register.get("data_type") != "flags":
        return 1
    return max(16 * count_of(register) - int(register.get("bit", 0)), 1)


def by_code(values: Mapping[str, str]) -> dict[int, str]:
    """Texts by the numbers that they stand for."""
    texts: dict[int, str] = {}
    for key, text in values.items():
        if not _CODE.fullmatch(key):
            raise WrongError(f"code {key[:64]!r} must be a whole number")
        code = int(key, 16 if "x" in key.lower() else 10)
        if code in texts:
            raise WrongError(f"code {key!r} comes twice")
        texts[code] = text
    return texts


def by_mask(flags: Mapping[str, str], width: int) -> dict[int, str]:
    """Texts by the bits that they stand for, those of most bits first."""
    names: dict[int, str] = {}
    for key, text in flags.items():
        bits = [_BIT.fullmatch(part) for part in key.split("&")]
        numbers = {int(bit[1]) for bit in bits if bit is not None}
        if None in bits or not all(number < width for number in numbers):
            raise WrongError(f"{key[:64]!r} must be a bit from b0 to b{width - 1}, or several joined by &")
        mask = sum(1 << number for number in numbers)
        if mask in names:
            raise WrongError(f"{key[:64]!r} names bits that another key names")
        names[mask] = text
    return dict(sorted(names.items(), key=lambda item: (-item[0].bit_count(), item[0])))


def _problems(register: Register) -> Iterator[tuple[str, str]]:
    """Key and problem of what does not fit together."""
    table, kind, count = register["table"], kind_of(register), count_of(register)
    what = register.get("data_type", "uint16")
    if register.get("write") and table not in ("holding", "coil"):
        yield "write", f"{table} is read-only; only holding and coil can be written"
    if register.get("read") is False and not register.get("write"):
        yield "read", "a property that is neither read nor written has no use"
    low, high = register.get("min"), register.get("max")
    if low is not None and high is not None and low > high:
        yield "min", f"{low:g} is greater than max {high:g}"
    for key in _NOT_FOR[kind]:
        if key in register and register[key] != _MEANS_NOTHING.get(key):
            yield (
                key,
                f"is not for {f'table {table}' if kind == 'coil' else 'one bit' if kind == 'bit' else what}",
            )
    if kind in ("string", "hex") and "length" not in register:
        yield "length", f"a {kind} needs it, in registers"
    if register["address"] + count > 65536:
        many = "two" if count == 2 else str(count)
        yield "address", f"{what} takes {many} registers, so it is at most {65536 - count}"
    yield from _problems_of_bits(register)
    if "pattern" in register:
        problem = regex_problem(register["pattern"], 2 * count, limit="length", whole=True)
        if problem:
            yield "pattern", problem
    if kind in ("integer", "float"):
        yield from _problems_of_limits(register)


def _problems_of_bits(register: Register) -> Iterator[tuple[str, str]]:
    size, first, width = 16 * count_of(register), register.get("bit", 0), width_of(register)
    if first + width > size:
        yield "bit", f"{width} bits from bit {first} on do not fit {size} bits"
    if register.get("sign_magnitude") and width < 2:
        yield "sign_magnitude", "needs at least two bits"
    if register.get("truncate") and not register.get("values"):
        yield "truncate", "has no meaning without values"
    try:
        by_mask(register.get("flags", {}), width)
    except WrongError as error:
        yield "flags", str(error)


def _problems_of_limits(register: Register) -> Iterator[tuple[str, str]]:
    """Whether the registers can hold the limits at all."""
    given = [(key, register[key]) for key in ("min", "max") if key in register]
    for key, value in [*given, *(("allowed", each) for each in register.get("allowed", ()))]:
        raw = _DECIMAL.divide(
            _DECIMAL.subtract(_decimal(value), _decimal(register.get("offset", 0))),
            _decimal(register.get("scale", 1)),
        )
        if not _fits(raw, register):
            yield (
                key,
                f"{value:g} does not fit {register.get('data_type', 'uint16')} with this scale and offset",
            )
        elif key == "allowed" and kind_of(register) == "integer" and abs(raw - round(raw)) > _DUST:
            yield key, f"{value:g} is not on the step of {register.get('scale', 1):g}"


def _fits(raw: Decimal, register: Register) -> bool:
    data_type = register.get("data_type", "uint16")
    if data_type in FLOAT_FORMATS:
        try:
            struct.pack(FLOAT_FORMATS[data_type], float(raw))
        except OverflowError:
            return False
        return abs(float(raw)) != float("inf")
    half = 1 << (width_of(register) - 1)
    if register.get("sign_magnitude"):
        return 1 - half <= raw <= half - 1
    return -half <= raw <= half - 1 if data_type.startswith("int") else 0 <= raw <= 2 * half - 1


def _decimal(number: float) -> Decimal:
    return Decimal(repr(float(number)))


def _table(value: Json) -> str:
    word = value.strip().lower() if isinstance(value, str) else value
    return str(checks.choice(TABLES)("discrete" if word == "discrete_input" else word))


def _scale(value: Json) -> float:
    scale = checks.finite(value)
    if scale == 0:
        raise WrongError("must not be 0")
    return scale


def _values(value: Json) -> dict[str, str]:
    texts = checks.texts(value)
    by_code(texts)
    return texts


def _allowed(value: Json) -> list[float]:
    if not isinstance(value, list):
        raise checks.refuse("a list of numbers", value)
    return [checks.finite(each) for each in value]


_KEYS: Mapping[str, Check] = {
    "data_type": checks.choice((*NUMBERS, *TEXTS)),
    "length": checks.integer(1, 125),
    "bit": checks.integer(0, _MAX_BITS - 1),
    "bits": checks.integer(1, _MAX_BITS),
    "sign_magnitude": checks.boolean,
    "word_order": checks.choice(("big", "little")),
    "byte_order": checks.choice(("big", "little")),
    "scale": _scale,
    "offset": checks.finite,
    "unit": checks.secret,
    "values": _values,
    "truncate": checks.boolean,
    "flags": checks.texts,
    "min": checks.finite,
    "max": checks.finite,
    "step": checks.positive,
    "allowed": _allowed,
    "pattern": checks.secret,
    "read": checks.boolean,
    "write": checks.boolean,
    "read_interval": checks.number(0.05, 86400),
    "description": checks.secret,
}
