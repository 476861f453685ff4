"""InfluxDB's line protocol: one point as one line.

Written by its reference: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ (1.x: the same but
for what is said here). Total: whatever the names and values are, the line is well formed or there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from sensor_hub import wire
from sensor_hub.readings import Json

INTEGERS = range(-(2**63), 2**63)  # what an integer field holds

# A backslash in a name would escape what comes after it, and nothing can say that it does not (nor at a name's end).
# A line break ends the point, even where it is escaped. Both become another character.
_UNSAYABLE = str.maketrans({"\\": "_", "\n": " ", "\r": " ", "\t": " ", "\0": " "})
_IN_MEASUREMENT = re.compile(r"([, ])")
_IN_NAME = re.compile(r"([,= ])")
_IN_TEXT = re.compile(r'(["\\])')


def line(
    measurement: str,
    tags: Mapping[str, str],
    fields: Mapping[str, Json],
    time: int,
    *,
    integers: bool = False,
) -> str | None:
    """The point; None when no field of it can be stored. `time` is in whatever unit the request names.

    A number is a float, so that 21 and 21.5 are of one type; with `integers`, a JSON integer is one. Null is no field,
    lists and objects are their JSON. An empty tag is left out, as the database wants it.
    """
    found = {_name(key): _value(value, integers) for key, value in sorted(fields.items())}
    said = ",".join(f"{_field_key(key)}={text}" for key, text in found.items() if key and text is not None)
    if not said:
        return None
    # In the order of their keys: the database would sort them otherwise.
    pairs = [(_name(key), _name(value)) for key, value in sorted(tags.items())]
    series = "".join(f",{key}={value}" for key, value in pairs if key and value)
    return f"{_measurement(measurement)}{series} {said} {time}"


def same_name(name: str) -> str:
    """What the database sees: equal for names that only differ in what cannot be said."""
    return name.translate(_UNSAYABLE)


def _measurement(name: str) -> str:
    """A line that begins with # would be a comment."""
    escaped = _IN_MEASUREMENT.sub(r"\\\1", same_name(name))
    return "_" + escaped[1:] if escaped.startswith("#") else escaped or "_"


def _name(name: str) -> str:
    return _IN_NAME.sub(r"\\\1", same_name(name))


def _field_key(key: str) -> str:
    """`time` is the point's own; InfluxDB drops a field that is called so."""
    return "time_" if key == "time" else key


def _value(value: Json, integers: bool) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int() if integers:
            return f"{value}i" if value in INTEGERS else None
        case int() | float():
            return _float(value)
        case str():
            return _text(value)
    return _text(wire.dumps(value))


def _float(number: float) -> str | None:
    try:
        found = float(number)
    except OverflowError:
        return None
    return repr(found) if math.isfinite(found) else None


def _text(text: str) -> str:
    r"""In quotes; a line break may stand there. Half a surrogate pair is no UTF-8, NUL ends text in 1.x."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return '"' + _IN_TEXT.sub(r"\\\1", clean) + '"'
