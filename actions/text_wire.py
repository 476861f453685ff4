"""Devices that speak in lines of text: one line, asked for or waited for, and the values in it."""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any

import checks
import rules_text
from answering import Json, ToolError, shown
from byte_streams import Stream

ASKED_S = 3.0
UNASKED_S = 8.0  # an Arduino that starts anew when its port is opened takes a while to speak
_TRIES = 2  # so does one that is asked
_QUIET_S = 0.25  # what comes so soon after opening may be the rest of a line
_NUMBER = re.compile(r"([-+]?) *([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_PRECISE = Context(prec=60)

Sensor = dict[str, Any]


class _NoValueError(Exception):
    """A line does not hold what it should."""


def values_of(
    stream: Stream, line: dict[str, Any], sensor: Sensor, timeout_s: float | None, left_s: float
) -> dict[str, Json]:
    """The values of a checked sensor. Raises ToolError saying why there are none."""
    unit = str(sensor.get("unit_id", sensor["sensor_id"]))
    match = str(sensor.get("match", "")).replace(rules_text.UNIT_PLACEHOLDER, unit)
    heard = _Lines(stream, line)
    if "request" not in sensor:
        return _first(heard, sensor, match, min(timeout_s or UNASKED_S, left_s), skip_s=_QUIET_S)
    request = str(sensor["request"]).replace(rules_text.UNIT_PLACEHOLDER, unit)
    data = (request + rules_text.end_of(line, "send_terminator")).encode(line.get("encoding", "utf-8"))
    failure = ToolError("no_answer", request)
    for _ in range(_TRIES):
        stream.send(data)
        try:
            return _first(heard, sensor, match, min(timeout_s or ASKED_S, left_s / _TRIES), echo=request)
        except ToolError as error:
            failure = error
    raise failure


def _first(
    heard: _Lines,
    sensor: Sensor,
    match: str,
    timeout_s: float,
    *,
    echo: str | None = None,
    skip_s: float = 0.0,
) -> dict[str, Json]:
    """The values of the first line that has them."""
    misfit = ""
    for text in heard.within(timeout_s, skip_s):
        try:
            return values_in(text, match, sensor)
        except _NoValueError as error:
            misfit = misfit if text == echo else str(error)
    if misfit:
        raise ToolError("no_value", misfit)
    if heard.unreadable:
        raise ToolError("no_value", f"{heard.unreadable}: check speed, parity, encoding and terminator")
    rest = f", only {shown(heard.rest)} without an end: check the terminator" if heard.rest else ""
    hint = (
        rest or ": check speed, wiring and the request"
        if echo is not None
        else rest or ": check speed and wiring"
    )
    raise ToolError("no_answer", f"no line within {timeout_s:g} s{hint}", retriable=True)


class _Lines:
    """Lines out of a stream."""

    def __init__(self, stream: Stream, line: dict[str, Any]) -> None:
        self._stream = stream
        self._encoding = str(line.get("encoding", "utf-8"))
        end = rules_text.end_of(line)
        any_end = end in ("\r\n", "\n", "\r")
        self._ends = re.compile(rb"[\r\n]" if any_end else re.escape(end.encode(self._encoding)))
        self._max = int(line.get("max_line_length", 256))
        self._pending = b""
        self.unreadable = ""

    @property
    def rest(self) -> str:
        """What came after the last end of a line."""
        return self._pending.decode("latin-1")[-80:]

    def within(self, timeout_s: float, skip_s: float) -> Iterator[str]:
        """Whole lines that come in this time; a part of one that comes in the first `skip_s` is left out."""
        began = time.monotonic()
        skipping = None
        while (left_s := began + timeout_s - time.monotonic()) > 0:
            data = self._stream.receive(left_s)
            if data and skipping is None:
                skipping = time.monotonic() < began + skip_s
            *lines, self._pending = self._ends.split(self._pending + data)
            if len(self._pending) > 4 * self._max:
                self.unreadable = f"no end of line within {self._max} characters"
                self._pending, skipping = self._pending[-8:], True
            for raw in lines:
                if skipping:
                    skipping = False
                elif raw:
                    yield from self._text(raw)

    def _text(self, raw: bytes) -> Iterator[str]:
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError:
            self.unreadable = f"a line came that is no {self._encoding} text"
            return
        if len(text) > self._max:
            self.unreadable = f"no end of line within {self._max} characters"
            return
        yield text


def values_in(line: str, match: str, sensor: Sensor) -> dict[str, Json]:
    """What a line says of each property that can be read."""
    if not line.startswith(match):
        raise _NoValueError(f"{shown(line)} came, which does not start with {shown(match)}")
    fields = {
        name: item for name, item in rules_text.fields_of(sensor).items() if rules_text.is_readable(item)
    }
    document = _document(line) if any("json" in item for item in fields.values()) else None
    found = {}
    for name, item in fields.items():
        try:
            found[name] = _converted(_raw(line, document, item), item)
        except LookupError:
            if not item.get("optional"):
                raise _NoValueError(f"{name} is not in the line {shown(line)}") from None
        except ValueError:
            kind = item.get("type", "number")
            raise _NoValueError(f"{name} in the line {shown(line)} is no {kind}") from None
    if not found:
        raise _NoValueError(f"the line {shown(line)} holds no value")
    return found


def _raw(line: str, document: Json, item: dict[str, Any]) -> Json:
    if "json" in item:
        for part in item["json"].split("."):
            if isinstance(document, dict):
                document = document[part]
            elif isinstance(document, list) and part.isascii() and part.isdecimal() and len(part) < 9:
                document = document[int(part)]
            else:
                raise LookupError(part)
        return document
    if "regex" not in item:
        return line
    found = re.search(item["regex"], line)  # checked: it cannot take for ever
    text = found and found[1 if found.re.groups else 0]
    if text is None:
        raise LookupError(item["regex"])
    return text


def _document(line: str) -> Json:
    try:
        return json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise _NoValueError(f"the line {shown(line)} is not JSON") from None


def _refused(word: str) -> Json:
    raise ValueError(word)


def _converted(raw: Json, item: dict[str, Any]) -> Json:
    match item.get("type", "number"):
        case "number":
            return _number(raw, item)
        case "boolean":
            return _boolean(raw, item)
    if not isinstance(raw, str):
        raise ValueError("no text")
    return "".join(char for char in raw if unicodedata.category(char) not in ("Cc", "Cs")).strip()


def _number(raw: Json, item: dict[str, Any]) -> float:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError("no number")
    text = raw.strip() if isinstance(raw, str) else repr(raw)
    parts = _NUMBER.fullmatch(text.replace(",", ".") if item.get("decimal") == "," else text)
    if parts is None:
        raise ValueError("no number")
    number = Decimal(parts[1] + parts[2] + (parts[3] or ""))
    scale, offset = (Decimal(repr(item.get(key, usual))) for key, usual in (("scale", 1), ("offset", 0)))
    result = float(_PRECISE.add(_PRECISE.multiply(number, scale), offset))
    if not math.isfinite(result):
        raise ValueError("no finite number")
    return int(result) if result == int(result) and abs(result) < 1 << 53 else result


def _boolean(raw: Json, item: dict[str, Any]) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower() if isinstance(raw, str | int | float) else ""
    on, off = str(item.get("on", "1")).lower(), str(item.get("off", "0")).lower()
    if word in (on, off):
        return word == on
    try:
        return checks.boolean(word)
    except checks.WrongError:
        raise ValueError("no boolean") from None
