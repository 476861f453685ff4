"""Checking what was filled in: every problem is collected, none is raised."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from answering import Json, ToolError, shown

ID_RULE = "1 to 64 of A-Z a-z 0-9 _ . : - with at least one letter or digit"
INSTANCE_ID_RULE = "1 to 64 of a-z 0-9 _ - with at least one letter or digit, or empty to have one made"
DIGITS_MAX = 24  # of a whole number
SHOWN_MAX = 30  # problems in one message

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_INSTANCE_ID = re.compile(r"[a-z0-9_-]{1,64}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")

Check = Callable[[Json], Any]


class WrongError(Exception):
    """A value that cannot be used; the message says what is allowed."""


def refuse(allowed: str, value: Json) -> WrongError:
    """The error of a value that is none of the allowed ones."""
    return WrongError(f"must be {allowed}, not {shown(value)}")


class Problems:
    """Every problem once, in the order found."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: str, message: str) -> None:
        """Note a problem."""
        self._found.setdefault(f"{where}: {message}" if where else message)

    def raise_if_any(self) -> None:
        """All of them as one answer."""
        if not self._found:
            return
        lines = list(self._found)
        more = len(lines) - SHOWN_MAX
        lines = lines[:SHOWN_MAX] + ([f"and {more} more"] if more > 0 else [])
        head = "1 problem" if len(self._found) == 1 else f"{len(self._found)} problems"
        raise ToolError("invalid_setup", "\n- ".join([head + ":", *lines]))


def note_unusable(value: Json, where: str, problems: Problems) -> None:
    """A problem where a JSON value holds what the hub cannot take, wherever in it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and re.search("[\\0\ud800-\udfff]", item):
            problems.add(where, "holds what is no character (NUL or half a surrogate pair)")
        elif isinstance(item, int) and abs(item) >= 10**DIGITS_MAX:
            problems.add(where, f"holds a number of more than {DIGITS_MAX} digits")


def blank(value: Json) -> bool:
    """Not given: forms send an empty text for what was left open."""
    return value is None or (isinstance(value, str) and not value.strip())


class Entry:
    """The keys of one object, taken one by one; the good ones are kept in `kept`."""

    def __init__(self, content: Json, where: str, problems: Problems) -> None:
        self.where = where
        self.kept: dict[str, Json] = {}
        self.problems = problems
        self._left: dict[str, Json] = dict(content) if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            problems.add(where, f"must be an object, not {shown(content)}")

    def has(self, key: str) -> bool:
        """Whether the key is given and not empty."""
        return not blank(self._left.get(key)) or key in self.kept

    def fail(self, key: str, message: str) -> None:
        """Note a problem at `key`; empty: with the object as a whole."""
        self.problems.add(f"{self.where}.{key}" if key and self.where else key or self.where, message)

    def take(self, key: str, check: Check) -> Any:
        """The checked value, kept; None when it is not given or bad."""
        value = self._left.pop(key, None)
        return None if blank(value) else self.keep(key, check, value)

    def keep(self, key: str, check: Check, value: Json) -> Any:
        """Check and keep a value that was popped; None when it is bad."""
        try:
            self.kept[key] = checked = check(value)
        except WrongError as error:
            self.fail(key, str(error))
            return None
        return checked

    def need(self, key: str, check: Check) -> Any:
        """The same for a key that must be there."""
        if blank(self._left.get(key)):
            self._left.pop(key, None)
            self.fail(key, "required")
            return None
        return self.take(key, check)

    def pop(self, key: str) -> Json:
        """The raw value, not kept; None when it is not given."""
        value = self.pop_raw(key)
        return None if blank(value) else value

    def pop_raw(self, key: str) -> Json:
        """The same, where spaces and ends of lines mean something."""
        return self._left.pop(key, None)

    def refuse_rest(self) -> None:
        """A problem for each key that nobody took."""
        for key, value in self._left.items():
            if not blank(value):
                self.fail(str(key)[:64], "unknown key, or one that does not belong here")
        self._left.clear()


def number(low: float, high: float) -> Check:
    """Check for a finite number within low..high; whole ones come back as int."""
    allowed = f"a number from {low:.15g} to {high:.15g}"

    def check(value: Json) -> float:
        result = as_number(value)
        if result is None or not low <= result <= high:
            raise refuse(allowed, value)
        return result

    return check


def integer(low: int, high: int) -> Check:
    """Check for a whole number within low..high."""
    allowed = f"a whole number from {low} to {high}"

    def check(value: Json) -> int:
        result = as_number(value)
        if result is None or result != int(result) or not low <= result <= high:
            raise refuse(allowed, value)
        return int(result)

    return check


def as_number(value: Json) -> float | None:
    """The number of a JSON number or of a text that is one; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else float(value) if abs(value) < 1 << 1000 else None
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 1 << 53 else value


def finite(value: Json) -> float:
    """Check for any number."""
    result = as_number(value)
    if result is None:
        raise refuse("a number", value)
    return result


def positive(value: Json) -> float:
    """Check for a number greater than 0."""
    result = finite(value)
    if result <= 0:
        raise refuse("a number greater than 0", value)
    return result


def boolean(value: Json) -> bool:
    """Check for true or false, also as a word."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if isinstance(value, bool) or word in _TRUE + _FALSE:
        return value is True or word in _TRUE
    raise refuse("true or false", value)


def text(value: Json) -> str:
    """Check for a printable text; without spaces around it."""
    if not isinstance(value, str):
        raise refuse("a text", value)
    if any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise WrongError("must be a text without control characters")
    return value.strip()


def secret(value: Json) -> str:
    """Check for a text that is passed on as it stands and never shown."""
    if not isinstance(value, str) or any(char == "\0" or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise WrongError("must be a text")
    return value


def verbatim(max_chars: int) -> Check:
    """Check for a text of at most so many characters that is passed on as it stands."""

    def check(value: Json) -> str:
        if len(content := secret(value)) > max_chars:
            raise WrongError(f"may have {max_chars} characters")
        return content

    return check


def texts(value: Json) -> dict[str, str]:
    """Check for an object of texts."""
    if not isinstance(value, dict):
        raise refuse("an object of texts", value)
    for key, content in value.items():
        if not isinstance(content, str):
            raise WrongError(f"{key[:60]!r} must be a text, not {shown(content)}")
    return value


def write_mode(value: Json) -> bool | str:
    """Check for `write` of a line: a word for less caution, or true or false."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in ("relaxed", "unsafe"):
        return word
    try:
        return boolean(value)
    except WrongError:
        raise refuse("true, false, relaxed or unsafe", value) from None


def identifier(value: Json) -> str:
    """Check for an id: one MQTT topic level."""
    if not isinstance(value, str) or not _ID.fullmatch(value.strip()) or not any(map(str.isalnum, value)):
        raise refuse(ID_RULE, value)
    return value.strip()


def instance_id(value: Json) -> str:
    """Check for the id of an instance, as the platform takes it."""
    given = value.strip() if isinstance(value, str) else ""
    if not _INSTANCE_ID.fullmatch(given) or not any(map(str.isalnum, given)):
        raise refuse(INSTANCE_ID_RULE, value)
    return given


def choice(words: Iterable[str]) -> Check:
    """Check for a word out of a list, in any case."""
    allowed = tuple(words)

    def check(value: Json) -> str:
        for word in allowed:
            if isinstance(value, str) and value.strip().lower() == word.lower():
                return word
        raise refuse(f"one of {', '.join(allowed)}", value)

    return check
