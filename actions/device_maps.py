"""The device definitions (register maps) that come with the hub, as far as they are beside these tools."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from answering import Json

FOLDER = Path(__file__).resolve().parent.parent / "sensor_hub" / "register_maps"
_NAME = re.compile(r"(?=.*\w)[\w .+-]{1,100}")


def is_name(name: str) -> bool:
    """Whether a map may be called so."""
    return _NAME.fullmatch(name) is not None


@functools.cache
def definition(name: str) -> dict[str, Json] | None:
    """The map of that name; None for one of the user's own, which only the hub sees."""
    if not is_name(name):
        return None
    try:
        found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def registers_of(name: str) -> dict[str, Json] | None:
    """Its registers by name; None where it is not known here."""
    registers = (definition(name) or {}).get("registers")
    return registers if isinstance(registers, dict) else None


def of_sensor(sensor: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A checked sensor's registers by property, those of its map as far as they are known here."""
    if "register" in sensor:
        return {"value": sensor["register"]}
    of_map: dict[str, Any] = registers_of(str(sensor.get("register_map"))) or {}
    wanted = sensor.get("include", of_map)
    return {**{name: item for name, item in of_map.items() if name in wanted}, **sensor.get("properties", {})}


def options_of(sensor: dict[str, Any]) -> dict[str, Any]:
    """What a checked sensor says of itself, else its map."""
    return (definition(str(sensor.get("register_map"))) or {}) | sensor
