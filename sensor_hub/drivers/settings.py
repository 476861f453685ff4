"""Pieces that several drivers' settings share: values read as the configuration reads its own, and names."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator

from sensor_hub.config import values
from sensor_hub.config.values import BadValueError, Parser
from sensor_hub.readings import Json
from sensor_hub.wire import RESERVED, topic_level

_NAME_MAX_CHARS = 64


def read_as(parse: Parser[object]) -> BeforeValidator:
    """A field's value as a parser of the configuration takes it, with the same words for a bad one."""

    def checked(value: Json) -> object:
        try:
            return parse(value)
        except BadValueError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(checked)


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number within low..high."""
    return read_as(values.integer(low, high))


def within(low: float, high: float) -> BeforeValidator:
    """A number within low..high."""
    return read_as(values.number(low, high))


def one_of(words: Iterable[str]) -> BeforeValidator:
    """One of these words, in any case."""
    return read_as(values.choice(words))


def _number(value: Json) -> float:
    try:
        return values.number(-sys.float_info.max, sys.float_info.max)(value)
    except BadValueError:
        raise values.refuse("a number", value) from None


def _positive(value: Json) -> float:
    try:
        return values.number(math.ulp(0.0), sys.float_info.max)(value)
    except BadValueError:
        raise values.refuse("a number greater than 0", value) from None


Number = Annotated[float, read_as(_number)]
Positive = Annotated[float, read_as(_positive)]
Flag = Annotated[bool, read_as(values.boolean)]


def check_property_names(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is empty, too long, reserved, or one topic with another."""
    taken: dict[str, str] = {}
    for name in names:
        level = topic_level(name)
        if not name.strip() or len(name) > _NAME_MAX_CHARS:
            raise ValueError(f"property name {name!r} must have 1 to {_NAME_MAX_CHARS} characters")
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
            raise ValueError(f"property name {name!r} has control characters")
        if level in RESERVED:
            raise ValueError(f"property name {name!r} is reserved; taken are {', '.join(sorted(RESERVED))}")
        if level in taken:
            raise ValueError(
                f"property names {taken[level]!r} and {name!r} are the same MQTT topic {level!r}"
            )
        taken[level] = name
