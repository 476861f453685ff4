"""What a JSON document says about sensors, and which other documents it names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from answering import Json

LISTS = ("sensors", "devices", "items", "data", "results")
IDS = ("sensor_id", "device_id", "id", "name")
PROPERTIES_MAX = 12
_MOTION = ("motion_detected", "motion", "occupancy", "presence", "pir")
_MOTION_EXTRAS = {
    "battery_level": ("battery_level", "battery"),
    "signal_strength": ("signal_strength", "signal", "rssi"),
}
_DEPTH_MAX = 4
_LEAVES_MAX = 400

Found = dict[str, Any]


def sensors_in(document: Json, url: str, types: Sequence[str]) -> list[Found]:
    """Sensors that the document at `url` can be read as: type, fields (property -> path) and a label."""
    leaves = dict(_leaves(document))
    motion = _motion(leaves)
    if motion and "motion" in types:
        return [_found("motion", motion, url, leaves)]
    told = str(document.get("type") or document.get("sensor_type")) if isinstance(document, dict) else ""
    numbers = {path: value for path, value in leaves.items() if _is_number(value)}
    if "value" in numbers:
        return [_found(told if told in types else "generic", {"value": "value"}, url, leaves)]
    measured = [
        _found(kind, {"value": path}, url, leaves)
        for kind in types
        for path in numbers
        if kind in _words(path)[-2:]
    ]
    if measured:
        return measured
    usable = {
        _property(path): path for path, value in leaves.items() if isinstance(value, bool) or path in numbers
    }
    if not usable or "generic" not in types:
        return []
    return [_found("generic", dict(list(usable.items())[:PROPERTIES_MAX]), url, leaves)]


def names_in(document: Json) -> list[str]:
    """Ids of the sensors that a listing names."""
    if isinstance(document, dict):
        document = next((document[key] for key in LISTS if _is_listing(document.get(key))), [])
    names = [_name(entry) for entry in document] if isinstance(document, list | dict) else []
    return list(dict.fromkeys(name for name in names if 0 < len(name) <= 64))


def _is_listing(value: Json) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(item, dict) for item in value.values())
    return isinstance(value, list)


def _name(entry: Json) -> str:
    if isinstance(entry, dict):
        entry = next((entry[key] for key in IDS if isinstance(entry.get(key), str | int)), None)
    return str(entry) if isinstance(entry, str | int) and not isinstance(entry, bool) else ""


def plain_url(url: str) -> str:
    """The url without what may be a secret in it."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def numbered(found: list[Found]) -> list[Found]:
    """The same with ids that are good and differ."""
    taken: set[str] = set()
    for item in found:
        base = re.sub(r"[^a-z0-9]+", "_", item["sensor_id"].lower()).strip("_")[:56] or "sensor"
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        item["sensor_id"] = name
    return found


def _found(kind: str, fields: dict[str, str], url: str, leaves: dict[str, Json]) -> Found:
    last = url.split("://", 1)[-1].split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2]
    own_id = last if last and "/" in url.split("://", 1)[-1].rstrip("/") else kind
    path = next(iter(fields.values()))
    sensor_id = own_id if kind in _words(own_id) or path in ("value", *_MOTION) else f"{own_id}_{kind}"
    now = ", ".join(f"{name} = {str(leaves[path])[:40]}" for name, path in list(fields.items())[:4])
    return {
        "sensor_id": sensor_id,
        "sensor_type": kind,
        "url": url,
        "fields": fields,
        "label": f"{kind} at {plain_url(url)}: {now}",
    }


def _motion(leaves: dict[str, Json]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for path, value in leaves.items():
        name = path.rpartition(".")[2].lower()
        is_motion = name in _MOTION or (
            name in ("active", "state") and any(w in _MOTION for w in _words(path))
        )
        if is_motion and (isinstance(value, bool) or str(value).lower() in ("on", "off")):
            fields.setdefault("motion_detected", path)
        for wanted, names in _MOTION_EXTRAS.items():
            if name in names and _is_number(value):
                fields.setdefault(wanted, path)
    return fields if "motion_detected" in fields else {}


def _leaves(document: Json, path: str = "", depth: int = 0) -> Iterator[tuple[str, Json]]:
    """Dotted path and value of everything that is no object; lists are left alone."""
    if not isinstance(document, dict) or depth > _DEPTH_MAX:
        return
    for key, value in list(document.items())[:_LEAVES_MAX]:
        if not key or "." in key:
            continue  # no path leads there
        where = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from _leaves(value, where, depth + 1)
        elif not isinstance(value, list):
            yield where, value


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(path: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", path.lower())


def _property(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", path)[-64:]
