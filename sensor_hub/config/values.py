"""Parsers of single values, wherever they come from: JSON, environment, command line.

A parser takes a JSON value and returns the typed one, or raises BadValueError saying what is allowed.
Numbers and booleans may also be texts (the platform's forms and every variable are); `true` is not 1.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sensor_hub.config.model import WriteChecks
from sensor_hub.readings import Json

T = TypeVar("T")
Parser = Callable[[Json], T]

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")

ID_RULE = "1 to 64 of A-Z a-z 0-9 _ . : - with at least one letter or digit"


class BadValueError(Exception):
    """A value that cannot be used; the message says what is allowed."""


def shown(value: object) -> str:
    """The value as a message may show it: short, on one line, secrets masked by their repr."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refuse(allowed: str, value: object) -> BadValueError:
    """The error of a value that is none of the allowed ones."""
    return BadValueError(f"must be {allowed}, not {shown(value)}")


def is_blank(value: Json) -> bool:
    """An empty text counts as not given: forms and compose files send them for what was left open."""
    return isinstance(value, str) and not value.strip()


def number(low: float, high: float) -> Parser[float]:
    """Parser of a finite number within low..high."""
    allowed = f"a number from {low:.15g} to {high:.15g}"

    def parse(value: Json) -> float:
        result = _as_float(value)
        if result is None or not low <= result <= high:
            raise refuse(allowed, value)
        return result

    return parse


def integer(low: int, high: int) -> Parser[int]:
    """Parser of a whole number within low..high."""
    allowed = f"a whole number from {low} to {high}"

    def parse(value: Json) -> int:
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            result: float = int(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result = value
        else:
            raise refuse(allowed, value)
        if not math.isfinite(result) or int(result) != result or not low <= result <= high:
            raise refuse(allowed, value)
        return int(result)

    return parse


def _as_float(value: Json) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    if not isinstance(value, str | int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def boolean(value: Json) -> bool:
    """Read true or false; as text also 1/0, yes/no, on/off in any case."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise refuse("true or false", value)


def write_mode(value: Json) -> str:
    """`write` of a transport: "false", or one of WriteChecks."""
    modes = (WriteChecks.RELAXED, WriteChecks.UNSAFE)
    if isinstance(value, str) and value.strip().lower() in modes:
        return value.strip().lower()
    try:
        return "true" if boolean(value) else "false"
    except BadValueError:
        raise refuse("true, false, relaxed or unsafe", value) from None


def text(value: Json) -> str:
    """A printable text, without spaces around it."""
    if not isinstance(value, str):
        raise refuse("a text", value)
    if any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise refuse("a text without control characters", value)
    return value if value == value.strip() else value.strip()


def verbatim(value: Json) -> str:
    """A text that is passed on exactly as it stands (passwords)."""
    if not isinstance(value, str) or any(char == "\0" or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise refuse("a text", value)
    return value


def identifier(value: Json) -> str:
    """One MQTT topic level that is a safe file name and URL part too."""
    if not isinstance(value, str) or not _ID.fullmatch(value) or not any(map(str.isalnum, value)):
        raise refuse(ID_RULE, value)
    return value


def choice(allowed: Iterable[str], *, what: str = "one of") -> Parser[str]:
    """Parser of a word out of a list; a word that differs only in case counts as the listed one."""
    words: Sequence[str] = tuple(allowed)

    def parse(value: Json) -> str:
        if isinstance(value, str):
            for word in words:
                if word.lower() == value.strip().lower():
                    return word
        raise refuse(f"{what} {', '.join(words)}", value)

    return parse


def host(value: Json) -> str:
    """An IP address or a host name, without scheme, port or brackets."""
    name = text(value)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        looks_numeric = re.fullmatch(r"[0-9.]+", name) is not None
        if looks_numeric or not _HOST_NAME.fullmatch(name):
            raise refuse("an IP address or a host name, without scheme and port", value) from None
    return name


def http_url(value: Json) -> str:
    """An http(s) URL of a service, without query; a slash at its end is dropped."""
    allowed = "a URL like http://localhost:5001"
    url = text(value)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or re.search(r"\s", url):
        raise refuse(allowed, value)
    return url.rstrip("/")


def topic(value: Json) -> str:
    """A topic prefix: no wildcards, no slash at its ends."""
    name = text(value)
    if "+" in name or "#" in name or name.startswith("/") or name.endswith("/"):
        raise refuse("a topic without + and # and without a slash at its ends", value)
    return name


def path(value: Json) -> Path:
    """A path of the file system, which need not exist; absolute, for programs that run in another folder."""
    return Path(text(value)).absolute()


def readable_file(value: Json) -> Path:
    """A file that exists and may be read."""
    found = path(value)
    if not os.path.isfile(found) or not os.access(found, os.R_OK):
        raise refuse("an existing, readable file", value)
    return found


def time_zone(value: Json) -> tzinfo:
    """A zone of the IANA database, like Europe/Berlin."""
    name = text(value)
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        allowed = "the name of a time zone like UTC or Europe/Berlin (a POSIX rule like CET-1CEST is none)"
        raise refuse(allowed, value) from None
