"""How readings, faults and errors look as JSON between services. Both sides of every border import this."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NoReturn

from sensor_hub.errors import HubError
from sensor_hub.readings import Entry, Fault, Json, Quality, Reading, Snapshot, Status

MAX_NESTING = 32  # of what comes from outside
INNER_NESTING = 64  # between services, which wrap what came from outside into bodies of their own
INSTANCE_HEADER = (
    "X-Sensor-Hub-Instance"  # of every answer, and of a request that is meant for one instance only
)

# Keys of a reading that are not a device's values. A property may not be called any of these.
RESERVED = frozenset(
    {
        "sensor_id",
        "device_id",
        "type",
        "unit",
        "timestamp",
        "quality",
        "emulated",
        "status",
        "error",
        "message",
        "error_timestamp",
        "cached",
        "cache_age",
    }
)
_EXTRA = ("unit", "emulated")

# What no MQTT topic level may hold: separator and wildcards, and what a broker cuts the connection for (MQTT-1.5.3-2).
_NON_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_NOT_IN_A_LEVEL = re.compile(f"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NON_CHARACTERS}]")


class MalformedJson(ValueError):
    """Text that is not JSON as we accept it; the message says why."""


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON")


def loads(text: str | bytes, max_nesting: int = MAX_NESTING) -> Json:
    """Parse strict JSON: UTF-8, finite numbers, nested at most `max_nesting` deep. Raises MalformedJson."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value: Json = json.loads(decoded, parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise MalformedJson("not UTF-8") from error
    except RecursionError as error:
        raise MalformedJson(f"nested deeper than {max_nesting}") from error
    except MalformedJson:
        raise
    except ValueError as error:
        raise MalformedJson(f"not JSON: {error}") from error
    if nesting(value) > max_nesting:
        raise MalformedJson(f"nested deeper than {max_nesting}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise MalformedJson(f"number out of range: {text[:20]}")
    return number


def nesting(value: Json) -> int:
    """Depth of objects and lists in a parsed value: 0 for a bare number, 1 for `{}`."""
    depth, level = 0, [value]
    while containers := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [
            child for item in containers for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def dumps(value: object) -> str:
    """Compact JSON for people and programs; non-ASCII stays readable unless it cannot be UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate that came in as \\ud800
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def topic_level(name: str) -> str:
    """A property's name as one MQTT topic level: what that cannot hold becomes `_` (contract, section 3)."""
    return _NOT_IN_A_LEVEL.sub("_", name)


def plain(number: float) -> int | float:
    """A setting as people write it: 10, not 10.0."""
    return int(number) if number == int(number) else number


def timestamp_text(moment: datetime) -> str:
    """ISO 8601 with milliseconds and offset."""
    return moment.isoformat(timespec="milliseconds")


def reading_body(snapshot: Snapshot, id_key: str) -> dict[str, Json]:
    """What `GET /sensor/{id}` says of a device that has a reading: id, type, values, unit, timestamp, quality."""
    reading = snapshot.reading
    if reading is None:
        raise ValueError(f"{snapshot.device_id} has no reading")
    extra = dict(snapshot.extra or {})
    unit = {"unit": extra.pop("unit")} if "unit" in extra else {}
    return {
        id_key: snapshot.device_id,
        "type": snapshot.sensor_type,
        **reading.values,
        **unit,
        "timestamp": timestamp_text(reading.timestamp),
        "quality": str(snapshot.quality) if snapshot.quality else None,
        **extra,
    }


def entry_body(snapshot: Snapshot, id_key: str) -> dict[str, Json]:
    """One entry of the feed. A degraded device shows its last value and, beside it, why there is no newer one."""
    fault = snapshot.fault
    if snapshot.reading is not None and snapshot.status in (Status.ONLINE, Status.DEGRADED):
        body = {**reading_body(snapshot, id_key), "status": str(snapshot.status)}
        if fault is not None:
            body |= {
                "error": fault.code,
                "message": fault.message,
                "error_timestamp": timestamp_text(fault.timestamp),
            }
        return body
    if fault is None:
        raise ValueError(f"{snapshot.device_id} has neither reading nor fault")
    return {
        id_key: snapshot.device_id,
        "type": snapshot.sensor_type,
        "status": str(snapshot.status),
        "error": fault.code,
        "message": fault.message,
        "timestamp": timestamp_text(fault.timestamp),
        **{key: value for key, value in (snapshot.extra or {}).items() if key == "emulated"},
    }


def entry_from_body(body: Mapping[str, Json], id_key: str) -> Snapshot:
    """The snapshot that `entry_body` wrote. Raises ValueError (KeyError for a missing key) on anything else."""
    fault: Fault | None = None
    reading: Reading | None = None
    quality: Quality | None = None
    moment = datetime.fromisoformat(str(body["timestamp"]))
    if "quality" in body:
        quality = Quality(str(body["quality"]))
        values = {key: value for key, value in body.items() if key not in RESERVED}
        reading = Reading(values, moment)
    if "error" in body:
        since = datetime.fromisoformat(str(body.get("error_timestamp", body["timestamp"])))
        fault = Fault(str(body["error"]), str(body.get("message", "")), since)
    return Snapshot(
        device_id=str(body[id_key]),
        sensor_type=str(body["type"]),
        status=Status(str(body["status"])),
        reading=reading,
        fault=fault,
        quality=quality,
        extra={key: body[key] for key in _EXTRA if key in body},
    )


def journal_text(entry: Entry, id_key: str) -> str:
    """One entry of the journal as JSON. A reading has its values however late it came, whatever its status is."""
    snapshot = entry.snapshot
    if snapshot.reading is not None:
        body = {**reading_body(snapshot, id_key), "status": str(snapshot.status)}
    else:
        body = entry_body(snapshot, id_key)
    return dumps({"id": entry.id, "timestamp": timestamp_text(entry.timestamp), "entry": body})


def journal_from_body(body: Mapping[str, Json], id_key: str) -> Entry:
    """The entry that `journal_text` wrote. Raises ValueError (KeyError for a missing key) on anything else."""
    entry = body["entry"]
    if not isinstance(entry, dict):
        raise ValueError("an entry of the journal is not an object")
    moment = datetime.fromisoformat(str(body["timestamp"]))
    return Entry(str(body["id"]), moment, entry_from_body(entry, id_key))


def error_body(error: HubError, now: datetime, **ids: Json) -> dict[str, Json]:
    """The body of every error answer: code, message, timestamp, and the id it is about."""
    return {"error": error.code, "message": str(error), "timestamp": timestamp_text(now), **ids}
