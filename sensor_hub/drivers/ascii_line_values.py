"""Values in a line of text, and values as the text of a command. Pure."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Context, Decimal

from sensor_hub.config import values as words
from sensor_hub.config.values import BadValueError
from sensor_hub.drivers.ascii_line_settings import PLACEHOLDER, TextProperty
from sensor_hub.errors import InvalidCommand
from sensor_hub.properties import number_of
from sensor_hub.readings import Json

# Scales print a space after the sign.
_NUMBER = re.compile(r"([-+]?) *([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_PRECISE = Context(prec=60)
_DIGITS_OF_FLOAT = Context(prec=15)


class NoValueError(Exception):
    """The line does not hold what it should; the message says what is missing or wrong."""


def values_in(line: str, match: str | None, fields: Mapping[str, TextProperty]) -> dict[str, Json]:
    """What a line says of each readable property. Raises NoValueError if it is not such a line."""
    if match is not None and not line.startswith(match):
        raise NoValueError(f"{words.shown(line)} does not start with {words.shown(match)}")
    document = _document(line) if any(item.json_path is not None for item in fields.values()) else None
    found: dict[str, Json] = {}
    for name, item in fields.items():
        if not item.readable:
            continue
        try:
            found[name] = _converted(_raw(line, document, item), item)
        except LookupError:
            if not item.optional:
                raise NoValueError(f"{name} is not in {words.shown(line)}") from None
        except ValueError:
            raise NoValueError(f"{name} in {words.shown(line)} is no {item.kind}") from None
    if not found:
        raise NoValueError(f"{words.shown(line)} holds no value")
    return found


def _raw(line: str, document: Json, item: TextProperty) -> Json:
    if item.json_path is not None:
        return _at(document, item.json_path)
    if item.regex is None:
        return line
    found = re.search(item.regex, line)
    text = found and found[1 if found.re.groups else 0]
    if text is None:
        raise LookupError(item.regex)
    return text


def _document(line: str) -> Json:
    try:
        document: Json = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NoValueError(f"{words.shown(line)} is not JSON") from None
    return document


def _refuse(word: str) -> Json:
    raise ValueError(word)


def _at(document: Json, path: str) -> Json:
    for part in path.split("."):
        if isinstance(document, dict):
            document = document[part]
        elif isinstance(document, list) and part.isascii() and part.isdecimal() and len(part) < 9:
            document = document[int(part)]
        else:
            raise LookupError(part)
    return document


def _converted(raw: Json, item: TextProperty) -> Json:
    """The value, typed. Raises ValueError if it is of another kind."""
    if item.kind == "number":
        return _number(raw, item)
    if item.kind == "boolean":
        return _boolean(raw, item)
    if not isinstance(raw, str):
        raise ValueError("no text")
    return "".join(char for char in raw if unicodedata.category(char) not in ("Cc", "Cs")).strip()


def _number(raw: Json, item: TextProperty) -> int | float:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError("no number")
    text = raw.strip() if isinstance(raw, str) else repr(raw)
    parts = _NUMBER.fullmatch(text.replace(",", ".") if item.decimal == "," else text)
    if parts is None:
        raise ValueError("no number")
    whole = parts[3] is None and "." not in parts[2] and item.scale.is_integer() and item.offset.is_integer()
    result = _scaled(Decimal(parts[1] + parts[2] + (parts[3] or "")), item)
    if not math.isfinite(float(result)):
        raise ValueError("no finite number")
    return int(result) if whole else float(result)


def _scaled(number: Decimal, item: TextProperty) -> Decimal:
    return _PRECISE.add(_PRECISE.multiply(number, Decimal(repr(item.scale))), Decimal(repr(item.offset)))


def _boolean(raw: Json, item: TextProperty) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower() if isinstance(raw, str | int | float) else ""
    if word in (item.on.lower(), item.off.lower()):
        return word == item.on.lower()
    try:
        return words.boolean(word)
    except BadValueError:
        raise ValueError("no boolean") from None


def command_of(name: str, item: TextProperty, value: Json, terminators: tuple[str, ...]) -> tuple[str, Json]:
    """The command that writes the value, and the value that it says. Raises InvalidCommand.

    The value's text may not end the command early, nor hold what is no text.
    """
    if item.command is None:
        raise InvalidCommand(f"{name} has no command")
    text, said = _text_of(name, item, value)
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise InvalidCommand(f"{name} may not hold control characters")
    command = PLACEHOLDER.sub(lambda _: text, item.command)
    if any(end and end in command for end in terminators):
        raise InvalidCommand(f"{name} may not hold the terminator of the line")
    return command, said


def _text_of(name: str, item: TextProperty, value: Json) -> tuple[str, Json]:
    if item.kind == "text":
        if not isinstance(value, str):
            raise InvalidCommand(f"{name} must be a text")
        return value, value
    if item.kind == "boolean":
        if not isinstance(value, bool):
            raise InvalidCommand(f"{name} must be true or false")
        return item.on if value else item.off, value
    number = number_of(value)
    if number is None or not math.isfinite(number):
        raise InvalidCommand(f"{name} must be a finite number")
    text = _number_text(name, item, value)
    said = _scaled(Decimal(text), item)
    shown = text.replace(".", ",") if item.decimal == "," else text
    return shown, int(said) if said == said.to_integral_value() and isinstance(value, int) else float(said)


def _number_text(name: str, item: TextProperty, value: Json) -> str:
    distance = _PRECISE.subtract(Decimal(repr(value)), Decimal(repr(item.offset)))
    number = _DIGITS_OF_FLOAT.divide(distance, Decimal(repr(item.scale)))
    (form,) = PLACEHOLDER.findall(item.command or "")
    if form.endswith("d"):
        if number != number.to_integral_value():
            raise InvalidCommand(f"{name} must be a whole number")
        return format(int(number), form)
    if form:
        return format(number, form)
    return format(number.normalize() + 0, "f")
