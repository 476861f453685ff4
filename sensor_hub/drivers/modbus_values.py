"""What the registers of one property mean: each kind turns them into a published value and back. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sensor_hub.drivers import modbus_codec, modbus_texts
from sensor_hub.drivers.modbus_codec import Layout, Order
from sensor_hub.errors import InvalidCommand, ValueOutOfRange
from sensor_hub.readings import Json


class Meaning(Protocol):
    """One kind of value."""

    @property
    def kind(self) -> Literal["number", "boolean", "text", "any"]:
        """What JSON type it has, in a PropertySpec's words."""

    @property
    def needs_current(self) -> bool:
        """Whether `encode` merges the value into what the registers hold."""

    def decode(self, registers: Sequence[int]) -> Json:
        """The published value. Raises ReadFailed."""

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """The registers that hold it; unless `checked` is false, only values that are allowed.

        Raises InvalidCommand, ValueOutOfRange.
        """


def number_given(value: Json) -> int | float:
    """The number of a command. Raises InvalidCommand for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCommand("must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidCommand("must be a finite number")
    return value


def text_given(value: Json) -> str:
    """The text of a command. Raises InvalidCommand for anything else."""
    if not isinstance(value, str):
        raise InvalidCommand("must be a text")
    return value


@dataclass(frozen=True, slots=True)
class NumberMeaning:
    """A number, perhaps one of few."""

    layout: Layout
    allowed: Sequence[float] = ()
    kind: Literal["number"] = "number"

    @property
    def needs_current(self) -> bool:
        """A bit-field does."""
        return self.layout.is_part

    def decode(self, registers: Sequence[int]) -> Json:
        """Scale it."""
        return modbus_codec.decode(registers, self.layout)

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Take numbers that are allowed."""
        number = number_given(value)
        if checked and self.allowed and number not in self.allowed:
            allowed = ", ".join(f"{item:g}" for item in self.allowed)
            raise ValueOutOfRange(f"must be one of {allowed}, not {number:g}")
        return modbus_codec.encode(number, self.layout, current)


@dataclass(frozen=True, slots=True)
class CodedMeaning:
    """A number some of whose values have texts; `truncate`: its fraction is cut off before the look-up."""

    layout: Layout
    texts: Mapping[int, str]
    truncate: bool = False
    kind: Literal["any"] = "any"

    @property
    def needs_current(self) -> bool:
        """A bit-field does."""
        return self.layout.is_part

    def decode(self, registers: Sequence[int]) -> Json:
        """The text of a known code, the number of any other."""
        number = modbus_codec.decode(registers, self.layout)
        code = int(number) if self.truncate or number == int(number) else None
        return self.texts.get(code, number) if code is not None else number

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Take a text, or a code's number."""
        number = self._code(value) if isinstance(value, str) else number_given(value)
        if checked and number not in self.texts:
            raise ValueOutOfRange(f"must be one of {self._known()}, not {number:g}")
        return modbus_codec.encode(number, self.layout, current)

    def _code(self, text: str) -> int:
        wanted = text.strip()
        codes = [code for code, known in self.texts.items() if known == wanted] or [
            code for code, known in self.texts.items() if known.lower() == wanted.lower()
        ]
        if len(codes) > 1:
            raise InvalidCommand(f"{text!r} is the text of {', '.join(map(str, codes))}; write the number")
        if not codes:
            raise InvalidCommand(f"must be one of {self._known()}, not {text[:64]!r}")
        return codes[0]

    def _known(self) -> str:
        several = Counter(self.texts.values())
        return ", ".join(
            f"{text} ({code})" if several[text] > 1 else text for code, text in self.texts.items()
        )


@dataclass(frozen=True, slots=True)
class SwitchMeaning:
    """One bit of a register."""

    layout: Layout
    kind: Literal["boolean"] = "boolean"
    needs_current: bool = True

    def decode(self, registers: Sequence[int]) -> Json:
        """Whether it is set."""
        return modbus_codec.decode(registers, self.layout) != 0

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Set or clear it."""
        return modbus_codec.encode(int(boolean_given(value)), self.layout, current)


def boolean_given(value: Json) -> bool:
    """True or false of a command. Raises InvalidCommand for anything else."""
    if not isinstance(value, bool):
        raise InvalidCommand("must be true or false")
    return value


@dataclass(frozen=True, slots=True)
class StringMeaning:
    """Two characters in each register."""

    count: int
    word_order: Order
    byte_order: Order
    pattern: str | None = None
    kind: Literal["text"] = "text"
    needs_current: bool = False

    def decode(self, registers: Sequence[int]) -> Json:
        """The text without its padding."""
        return modbus_texts.string_of(modbus_codec.octets(registers, self.word_order, self.byte_order))

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Pad it with NUL."""
        text = text_given(value)
        data = modbus_texts.bytes_of_string(text, 2 * self.count)
        if checked and self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise ValueOutOfRange(f"must match {self.pattern}")
        return modbus_codec.registers_of(data, self.word_order, self.byte_order)


@dataclass(frozen=True, slots=True)
class HexMeaning:
    """Four hexadecimal digits in each register."""

    count: int
    word_order: Order
    byte_order: Order
    kind: Literal["text"] = "text"
    needs_current: bool = False

    def decode(self, registers: Sequence[int]) -> Json:
        """Small digits, all of them."""
        return modbus_codec.octets(registers, self.word_order, self.byte_order).hex()

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Take exactly as many digits."""
        data = modbus_texts.bytes_of_hex(text_given(value), 2 * self.count)
        return modbus_codec.registers_of(data, self.word_order, self.byte_order)


@dataclass(frozen=True, slots=True)
class FlagsMeaning:
    """Bits `bit` .. `bit + width - 1`, as the texts of those that are set, or as a digit each."""

    count: int
    word_order: Order
    byte_order: Order
    bit: int
    width: int
    names: Sequence[modbus_texts.FlagName] = ()
    kind: Literal["text"] = "text"
    needs_current: bool = True

    def decode(self, registers: Sequence[int]) -> Json:
        """The texts of what is set."""
        field = self._number(registers) >> self.bit & self._mask
        if self.names:
            return modbus_texts.texts_of_flags(field, self.names)
        return modbus_texts.bit_string(field, self.width)

    def encode(self, value: Json, current: Sequence[int] | None, checked: bool) -> list[int]:
        """Merge them into what the registers hold."""
        if current is None:
            raise ValueError("flags are written together with what the registers hold")
        text, number = text_given(value), self._number(current)
        held = number >> self.bit & self._mask
        field = modbus_texts.bits_of_flags(text, held, self.width, self.names)
        number = number & ~(self._mask << self.bit) | field << self.bit
        data = number.to_bytes(2 * self.count)
        return modbus_codec.registers_of(data, self.word_order, self.byte_order)

    @property
    def _mask(self) -> int:
        return (1 << self.width) - 1

    def _number(self, registers: Sequence[int]) -> int:
        return int.from_bytes(modbus_codec.octets(registers, self.word_order, self.byte_order))
