"""Pieces that several drivers' settings share: numbers that are no booleans, and names of properties."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator

# Keys of a reading that a property of the same name would hide.
RESERVED_NAMES = frozenset(
    {"sensor_id", "device_id", "type", "unit", "timestamp", "quality", "status", "error", "message"}
    | {"error_timestamp", "emulated", "cached", "cache_age"}
)
_NAME_MAX_CHARS = 64


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a boolean")
    return value


Number = Annotated[float, BeforeValidator(_no_boolean)]
Integer = Annotated[int, BeforeValidator(_no_boolean)]


def topic_level(name: str) -> str:
    """The name as one MQTT topic level: `/ + #` become `_` (contract, section 3)."""
    return name.translate(str.maketrans("/+#", "___"))


def check_property_names(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is empty, too long, reserved, or one topic with another."""
    taken: dict[str, str] = {}
    for name in names:
        level = topic_level(name)
        if not name.strip() or len(name) > _NAME_MAX_CHARS:
            raise ValueError(f"property name {name!r} must have 1 to {_NAME_MAX_CHARS} characters")
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
            raise ValueError(f"property name {name!r} has control characters")
        if level in RESERVED_NAMES:
            raise ValueError(
                f"property name {name!r} is reserved; taken are {', '.join(sorted(RESERVED_NAMES))}"
            )
        if level in taken:
            raise ValueError(
                f"property names {taken[level]!r} and {name!r} are the same MQTT topic {level!r}"
            )
        taken[level] = name
