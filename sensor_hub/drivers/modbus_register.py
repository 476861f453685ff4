"""One property of a Modbus device: where it lies and what its registers mean, validated.

`Register` is its configuration; the methods of it are all that a driver needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from sensor_hub.drivers import modbus_codec
from sensor_hub.drivers.ascii_line_regex import regex_problem
from sensor_hub.drivers.base import PropertySpec, Settings
from sensor_hub.drivers.modbus_codec import Layout, Order, decimal_of
from sensor_hub.drivers.modbus_texts import flag_names
from sensor_hub.drivers.modbus_values import (
    CodedMeaning,
    FlagsMeaning,
    HexMeaning,
    Meaning,
    NumberMeaning,
    StringMeaning,
    SwitchMeaning,
    boolean_given,
)
from sensor_hub.drivers.settings import Flag, Number, Positive, one_of, whole, within
from sensor_hub.errors import ValueOutOfRange
from sensor_hub.readings import Json

Table = Literal["holding", "input", "coil", "discrete"]
DataType = Literal[modbus_codec.DataType, Literal["string", "hex", "flags"]]
Kind = Literal["coil", "bit", "integer", "float", "string", "hex", "flags"]

MAX_REGISTERS = 125  # that one transaction can carry
MAX_BITS = 16 * MAX_REGISTERS
READ_INTERVAL_S = (0.05, 86400.0)

_CODE = re.compile(r"\s*(-?[0-9]{1,20}|0x[0-9a-f]{1,16})\s*", re.IGNORECASE)
_OF_TEXTS = ("length", "flags", "pattern")
_OF_BITS = ("bit", "bits", "sign_magnitude")
_OF_NUMBERS = ("scale", "offset", "min", "max", "step", "allowed", "values", "truncate")
# The keys that mean nothing for a kind; a coil's number type, scale and limits have always been ignored.
_NOT_FOR: Mapping[Kind, Sequence[str]] = {
    "coil": (*_OF_TEXTS, *_OF_BITS, "allowed", "values", "truncate"),
    "bit": (*_OF_TEXTS, *_OF_NUMBERS, "sign_magnitude"),
    "integer": _OF_TEXTS,
    "float": (*_OF_TEXTS, *_OF_BITS),
    "string": (*_OF_NUMBERS, *_OF_BITS, "flags"),
    "hex": (*_OF_NUMBERS, *_OF_BITS, "flags", "pattern"),
    "flags": (*_OF_NUMBERS, "sign_magnitude", "pattern"),
}


def _table(value: object) -> object:
    known = isinstance(value, str) and value.strip().lower() == "discrete_input"
    return "discrete" if known else value


def bounds(low: int, high: int) -> WithJsonSchema:
    """What a published schema says of a whole number within low..high."""
    return WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})


class Register(Settings):
    """Where one property lies and what its registers mean: value = raw * scale + offset."""

    table: Annotated[Table, one_of(get_args(Table)), BeforeValidator(_table)]
    address: Annotated[int, whole(0, 65535), bounds(0, 65535)]
    data_type: Annotated[DataType, one_of(get_args(DataType))] = "uint16"
    length: Annotated[int, whole(1, MAX_REGISTERS), bounds(1, MAX_REGISTERS)] | None = None
    bit: Annotated[int, whole(0, MAX_BITS - 1), bounds(0, MAX_BITS - 1)] | None = None
    bits: Annotated[int, whole(1, MAX_BITS), bounds(1, MAX_BITS)] | None = None
    sign_magnitude: Flag = False
    word_order: Annotated[Order, one_of(get_args(Order))] = "big"
    byte_order: Annotated[Order, one_of(get_args(Order))] = "big"
    scale: Number = 1.0
    offset: Number = 0.0
    unit: str | None = None
    values: dict[str, str] | None = None
    truncate: Flag = False
    flags: dict[str, str] | None = None
    minimum: Number | None = Field(default=None, alias="min")
    maximum: Number | None = Field(default=None, alias="max")
    step: Positive | None = None
    allowed: list[Number] | None = None
    pattern: str | None = None
    read: Flag = True
    write: Flag = False
    read_interval: Annotated[float, within(*READ_INTERVAL_S)] | None = None
    description: str | None = None

    @field_validator("scale")
    @classmethod
    def _scale_is_not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("must not be 0")
        return scale

    @field_validator("values")
    @classmethod
    def _codes_are_numbers(cls, values: dict[str, str] | None) -> dict[str, str] | None:
        by_code(values or {})
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Register:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        if self.write and self.table not in ("holding", "coil"):
            yield f"write: {self.table} is read-only; only holding and coil can be written"
        if not self.read and not self.write:
            yield "read: a property that is neither read nor written has no use"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield f"min {self.minimum:g} is greater than max {self.maximum:g}"
        misplaced = [key for key in _NOT_FOR[self.kind] if self._says(key)]
        if misplaced:
            yield f"{misplaced[0]}: is not for {'one bit' if self.kind == 'bit' else self._what}"
        if self.kind in ("string", "hex") and self.length is None:
            yield f"length: a {self.kind} needs it, in registers"
        if self.address + self.count > 65536:
            many = "two" if self.count == 2 else str(self.count)
            yield f"address: {self.data_type} takes {many} registers, so it is at most {65536 - self.count}"
        yield from self._problems_of_bits()
        if self.pattern is not None and (problem := self._problem_of_pattern(self.pattern)):
            yield f"pattern: {problem}"
        if self.kind in ("integer", "float"):
            yield from self._problems_of_limits()

    def _says(self, key: str) -> bool:
        for name, field in type(self).model_fields.items():
            if (field.alias or name) == key:
                return bool(getattr(self, name) != field.default)
        raise KeyError(key)

    def _problems_of_bits(self) -> Iterator[str]:
        size = 16 * self.count
        if (self.bit or 0) + self._width > size:
            yield f"bit: {self._width} bits from bit {self.bit or 0} on do not fit {self.data_type} of {size} bits"
        if self.sign_magnitude and self._width < 2:
            yield "sign_magnitude: needs at least two bits"
        if self.truncate and not self.values:
            yield "truncate: has no meaning without values"
        try:
            flag_names(self.flags or {}, self._width)
        except ValueError as error:
            yield f"flags: {error}"

    def _problem_of_pattern(self, pattern: str) -> str | None:
        return regex_problem(pattern, 2 * self.count, limit="length", whole=True)

    def _problems_of_limits(self) -> Iterator[str]:
        limits = self.layout.limits
        given = [("min", self.minimum), ("max", self.maximum), *(("allowed", n) for n in self.allowed or ())]
        for name, value in given:
            if value is None:
                continue
            if limits is not None and not limits[0] <= value <= limits[1]:
                yield f"{name} {value:g} does not fit {self.data_type}: {limits[0]:g}..{limits[1]:g}"
            elif limits is None or name == "allowed":
                try:
                    modbus_codec.encode(value, self.layout, [0] * self.count)
                except ValueOutOfRange as error:
                    yield f"{name} {error}"

    # -- for drivers -------------------------------------------------------------------------------------------

    @property
    def is_boolean(self) -> bool:
        """Coils and discrete inputs are read and written as bits, not as registers."""
        return self.table in ("coil", "discrete")

    @property
    def count(self) -> int:
        """Registers (or coils) that it takes."""
        if self.is_boolean:
            return 1
        is_text = self.data_type in ("string", "hex", "flags")
        return (self.length or 1) if is_text else Layout(self._number_type).count

    @property
    def interval_s(self) -> float | None:
        """How often it is read; None: as its device."""
        return self.read_interval

    @property
    def needs_current(self) -> bool:
        """Whether `encode` must be told what the registers hold: bit-fields and flags are merged into it."""
        return not self.is_boolean and self.meaning.needs_current

    def spec(self, writable: bool) -> PropertySpec:
        """The property for checking commands; without min or max, what the register can hold."""
        kind = "boolean" if self.is_boolean else self.meaning.kind
        if kind != "number":
            texts = tuple(dict.fromkeys(by_code(self.values or {}).values())) or None
            return PropertySpec(
                kind,
                writable,
                self.unit,
                choices=texts,
                interval_s=self.interval_s,
                readable=self.read,
                limited=texts is not None,
            )
        low, high = self.layout.limits or (None, None)
        is_fixed = self.kind == "integer" and self.step is None
        return PropertySpec(
            kind,
            writable,
            self.unit,
            low if self.minimum is None else self.minimum,
            high if self.maximum is None else self.maximum,
            self.step,
            # Steps do not count from the register's own end.
            0.0 if self.step is not None and self.minimum is None else None,
            interval_s=self.interval_s,
            readable=self.read,
            tolerance=abs(self.scale) / 2 if is_fixed else None,
            limited=any(each is not None for each in (self.minimum, self.maximum, self.allowed)),
            allowed=self.allowed,
        )

    def decode(self, registers: Sequence[int]) -> Json:
        """The value of its `count` registers (of a coil: of 0 or 1). Raises ReadFailed."""
        return bool(registers[0]) if self.is_boolean else self.meaning.decode(registers)

    def encode(
        self, value: Json, current: Sequence[int] | None = None, *, checked: bool = True
    ) -> bool | list[int]:
        """What to write: a coil's state, or registers, merged into `current` where `needs_current`.

        `checked`: only what `values`, `allowed` and `pattern` allow (min, max and step are the spec's). Raises
        InvalidCommand, ValueOutOfRange.
        """
        if self.is_boolean:
            return boolean_given(value)
        return self.meaning.encode(value, current, checked)

    # -- what it means -----------------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """What sort of value it has."""
        if self.is_boolean:
            return "coil"
        if self.data_type in ("string", "hex", "flags"):
            return self.data_type
        if self.data_type in ("float32", "float64"):
            return "float"
        lone = self.bit is not None and self.bits is None and self.values is None
        return "bit" if lone else "integer"

    @property
    def _what(self) -> str:
        return f"table {self.table}" if self.is_boolean else f"data_type {self.data_type}"

    @property
    def _number_type(self) -> modbus_codec.DataType:
        match self.data_type:
            case "string" | "hex" | "flags":
                return "uint16"
            case number:
                return number

    @property
    def _width(self) -> int:
        if self.bits is not None:
            return self.bits
        if self.bit is not None and self.data_type != "flags":
            return 1
        return max(16 * self.count - (self.bit or 0), 1)

    @cached_property
    def layout(self) -> Layout:
        """How a number lies in its registers."""
        part = self.bit is not None or self.bits is not None
        return Layout(
            self._number_type,
            decimal_of(self.scale),
            decimal_of(self.offset),
            self.word_order,
            self.byte_order,
            self.bit or 0,
            self._width if part else None,
            self.sign_magnitude,
        )

    @cached_property
    def meaning(self) -> Meaning:
        """How registers become its value and back."""
        orders = (self.word_order, self.byte_order)
        match self.kind:
            case "string":
                return StringMeaning(self.count, *orders, self.pattern)
            case "hex":
                return HexMeaning(self.count, *orders)
            case "flags":
                names = flag_names(self.flags or {}, self._width)
                return FlagsMeaning(self.count, *orders, self.bit or 0, self._width, names)
            case "bit":
                return SwitchMeaning(self.layout)
        if self.values:
            return CodedMeaning(self.layout, by_code(self.values), self.truncate)
        return NumberMeaning(self.layout, tuple(self.allowed or ()))


def by_code(values: Mapping[str, str]) -> dict[int, str]:
    """`{"0": "Off", "0x10": "Auto"}` by number. Raises ValueError for a key that is no whole number or comes twice."""
    texts: dict[int, str] = {}
    for key, text in values.items():
        if not _CODE.fullmatch(key):
            raise ValueError(f"code {key[:64]!r} must be a whole number")
        code = int(key, 16 if "x" in key.lower() else 10)
        if code in texts:
            raise ValueError(f"code {key!r} comes twice")
        texts[code] = text
    return texts
