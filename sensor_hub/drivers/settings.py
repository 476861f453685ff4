"""Pieces that several drivers' settings share: values read as the configuration reads its own, and names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from sensor_hub.config.options import Flag as Flag
from sensor_hub.config.options import Number as Number
from sensor_hub.config.options import Positive as Positive
from sensor_hub.config.options import one_of as one_of
from sensor_hub.config.options import read_as as read_as
from sensor_hub.config.options import whole as whole
from sensor_hub.config.options import within as within
from sensor_hub.wire import RESERVED, topic_level

_NAME_MAX_CHARS = 64


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
