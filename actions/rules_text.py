"""What lines of text and the sensors on them may say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import checks
from answering import Json
from checks import Check, Entry, Problems, WrongError
from expressions import regex_problem
from property_names import named

PLACEHOLDER = re.compile(r"\{value(?::(0?[0-9]{0,2}(?:\.[0-9]{1,2})?f|0?[0-9]{0,2}d))?\}")
UNIT_PLACEHOLDER = "{unit_id}"
ENDS = {"crlf": "\r\n", "lf": "\n", "cr": "\r", "none": ""}
_WORDS = {text: word for word, text in ENDS.items() if text}
_NUMBERS_ONLY = ("scale", "offset", "decimal", "min", "max", "step")

Line = Mapping[str, Any]


def end_of(line: Line, key: str = "terminator") -> str:
    """What ends a line that comes, or (`send_terminator`) what is sent after one."""
    own = line.get("terminator", "crlf")
    word = str(line.get(key, own))
    return ENDS.get(word.lower(), word)


def check_line(entry: Entry) -> None:
    """The options of a line."""
    for key in ("terminator", "send_terminator"):
        given = entry.pop_raw(key)
        if isinstance(given, str) and given in _WORDS:
            given = _WORDS[given]  # a carriage return is no blank here
        if not checks.blank(given):
            entry.keep(key, _terminator, given)
    encoding = entry.take("encoding", checks.choice(("ascii", "utf-8", "latin-1"))) or "utf-8"
    entry.take("max_line_length", checks.integer(16, 4096))
    if not end_of(entry.kept):
        entry.fail("terminator", "none is for send_terminator only")
    for key in ("terminator", "send_terminator"):
        if not _is_encodable(end_of(entry.kept, key), encoding):
            entry.fail(key, f"has characters that are no {encoding}")


def check_sensor(entry: Entry, line: Line) -> None:
    """The options of a sensor on a line that was checked."""
    before = len(entry.problems)
    entry.take("unit_id", _word)
    for key in ("request", "match"):
        entry.take(key, checks.verbatim(256))
    value, properties = entry.pop("value"), entry.pop("properties")
    if (value is None) == (properties is None):
        entry.fail("", "exactly one of value and properties is required")
    if value is not None:
        entry.kept["value"] = _property(value, f"{entry.where}.value", entry.problems)
    if properties is not None:
        given = named(entry, "properties", properties)
        if not given:
            entry.fail("properties", "must have at least one property")
        entry.kept["properties"] = {
            name: _property(content, f"{entry.where}.properties.{name}", entry.problems)
            for name, content in given.items()
        }
    if len(entry.problems) > before:
        return
    if not any(map(is_readable, fields_of(entry.kept).values())):
        entry.fail("", "has nothing that can be read; give a property a regex or a json path")
    if "unit_id" not in entry.kept and any(UNIT_PLACEHOLDER in text for _, text in _templates(entry.kept)):
        entry.fail("unit_id", "is required, for a template names it")
    _check_fit(entry, line)


def fields_of(sensor: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Properties of a checked sensor by name; a single one is `value`."""
    return {"value": sensor["value"]} if "value" in sensor else dict(sensor["properties"])


def is_readable(item: Mapping[str, Any]) -> bool:
    """Without regex and json a property that has a command can only be written."""
    return "command" not in item or "regex" in item or "json" in item


def _templates(sensor: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("request", "match"):
        if key in sensor:
            yield key, sensor[key]
    for name, item in fields_of(sensor).items():
        if "command" in item:
            yield f"{_place(sensor, name)}.command", item["command"]


def _place(sensor: Mapping[str, Any], name: str) -> str:
    return "value" if "value" in sensor else f"properties.{name}"


def _check_fit(entry: Entry, line: Line) -> None:
    encoding = str(line.get("encoding", "utf-8"))
    ends = [end for key in ("terminator", "send_terminator") if (end := end_of(line, key))]
    for where, text in _templates(entry.kept):
        if not _is_encodable(text, encoding):
            entry.fail(where, f"has characters that are no {encoding}")
        if any(end in text for end in ends):
            entry.fail(where, "may not hold the terminator, which is added by itself")
    for name, item in fields_of(entry.kept).items():
        for key in ("regex", "answer"):
            problem = regex_problem(item[key], line.get("max_line_length", 256)) if key in item else None
            if problem:
                entry.fail(f"{_place(entry.kept, name)}.{key}", problem)


def _property(content: Json, where: str, problems: Problems) -> dict[str, Any]:
    entry = Entry(content, where, problems)
    for key, check in _KEYS.items():
        entry.take(key, check)
    entry.refuse_rest()
    item = entry.kept
    kind = item.get("type", "number")
    if "regex" in item and "json" in item:
        entry.fail("", "has both regex and json; leave one out")
    if "min" in item and "max" in item and item["min"] > item["max"]:
        entry.fail("min", f"{item['min']:g} is greater than max {item['max']:g}")
    if kind != "number" and any(key in item for key in _NUMBERS_ONLY):
        entry.fail("", f"{', '.join(_NUMBERS_ONLY)} are for numbers only")
    if kind != "boolean" and ("on" in item or "off" in item):
        entry.fail("", 'on and off need "type": "boolean"')
    if kind == "boolean" and item.get("on", "1").strip().lower() == item.get("off", "0").strip().lower():
        entry.fail("on", "on and off must differ")
    if "answer" in item and "command" not in item:
        entry.fail("answer", "needs a command")
    if "command" in item:
        forms = PLACEHOLDER.findall(item["command"])
        if len(forms) != 1:
            entry.fail("command", "must hold {value} once, such as {value}, {value:.1f} or {value:03d}")
        elif forms[0] and kind != "number":
            entry.fail("command", "a format such as {value:.1f} is for numbers only")
    return item


def _is_encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _terminator(value: Json) -> str:
    text = checks.secret(value)
    if len(ENDS.get(text.lower(), text)) > 8:
        raise WrongError("must be crlf, lf, cr or at most 8 characters")
    return text


def _word(value: Json) -> str:
    given = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return str(checks.verbatim(64)(given))


def _path(value: Json) -> str:
    path = checks.secret(value)
    if not all(path.split(".")):
        raise checks.refuse("a path like list.0.x", value)
    return path


def _scale(value: Json) -> float:
    scale = checks.finite(value)
    if scale == 0:
        raise WrongError("must not be 0")
    return scale


_KEYS: Mapping[str, Check] = {
    "regex": checks.secret,
    "json": _path,
    "type": checks.choice(("number", "boolean", "text")),
    "optional": checks.boolean,
    "scale": _scale,
    "offset": checks.finite,
    "decimal": checks.choice((".", ",")),
    "unit": checks.secret,
    "min": checks.finite,
    "max": checks.finite,
    "step": checks.positive,
    "on": _word,
    "off": _word,
    "command": checks.verbatim(256),
    "answer": checks.secret,
}
