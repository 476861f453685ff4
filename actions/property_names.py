"""What properties may be called, and where an object has such names as keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from answering import Json, shown
from checks import Entry

NAME_MAX_CHARS = 64
RESERVED_NAMES = (
    *("cache_age", "cached", "device_id", "emulated", "error", "error_timestamp", "message"),
    *("quality", "sensor_id", "status", "timestamp", "type", "unit"),
)


def named(entry: Entry, key: str, value: Json, taken: Iterable[str] = ()) -> dict[str, Json]:
    """An object whose keys are names of properties; a problem for each bad name. `taken`: names beside them."""
    if not isinstance(value, dict):
        entry.fail(key, f"must be an object, not {shown(value)}")
        return {}
    topics = {_topic(name): name for name in taken}
    for name in value:
        topic = _topic(name)
        if not name.strip() or len(name) > NAME_MAX_CHARS:
            entry.fail(key, f"property name {name[:70]!r} must have 1 to {NAME_MAX_CHARS} characters")
        elif any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
            entry.fail(key, f"property name {name!r} has control characters")
        elif topic in RESERVED_NAMES:
            entry.fail(key, f"property name {name!r} is reserved; taken are {', '.join(RESERVED_NAMES)}")
        elif topics.get(topic, name) != name:
            entry.fail(key, f"property names {topics[topic]!r} and {name!r} are the same MQTT topic")
        topics[topic] = name
    return value


def _topic(name: str) -> str:
    return re.sub(r"[/+#]", "_", name)
