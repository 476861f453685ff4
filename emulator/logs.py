"""One line per event on stdout: time, level, program, event, key=value (or one JSON object per line)."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

PROGRAM = "device-emulator"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_log = logging.getLogger("emulator")


def set_up(level: str, log_format: str, zone: tzinfo = UTC) -> None:
    """All logging of this process, the libraries' too, in our lines. An unknown `level` counts as INFO."""
    handler = _Handler(sys.stdout)
    handler.setFormatter(_Formatter(log_format == "json", zone))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper() if level.upper() in LEVELS else "INFO")
    for library in ("werkzeug", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)


def event(text: str, level: int = logging.INFO, **context: object) -> None:
    """One line: what happened, and its facts."""
    _log.log(level, text, extra={"context": context})


def warn(texts: Iterable[str]) -> None:
    """A line for each."""
    for text in texts:
        event(text, logging.WARNING)


def leave_stdout() -> None:
    """Who read it (`head`) has had enough: what is left is for nobody."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


class _Handler(logging.StreamHandler[TextIO]):
    """The devices go on when nobody reads the log any more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            leave_stdout()
        else:
            super().handleError(record)


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool, zone: tzinfo) -> None:
        super().__init__()
        self._as_json, self._zone = as_json, zone

    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, self._zone).isoformat(timespec="milliseconds")
        context: dict[str, Any] = dict(getattr(record, "context", {}))
        if record.exc_info:
            context["trace"] = self.formatException(record.exc_info)
        if self._as_json:
            head = {"timestamp": stamp, "level": record.levelname.lower(), "service": PROGRAM}
            return json.dumps(
                head | {"event": record.getMessage()} | context, ensure_ascii=False, default=str
            )
        words = [stamp, f"{record.levelname:<7}", f"{PROGRAM:<16}", _one_line(record.getMessage())]
        return " ".join([*words, *(f"{key}={_quoted(str(value))}" for key, value in context.items())])


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    line = _one_line(text)
    return f'"{line}"' if line == "" or any(mark in line for mark in ' ="') else line
