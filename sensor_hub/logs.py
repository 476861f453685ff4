"""One line per event on stdout: ISO time, level, service, event, key=value context (or JSON)."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from datetime import datetime, tzinfo
from typing import Any, TextIO

import structlog

from sensor_hub.config.model import HubConfig

_SECRET_WORDS = ("password", "token", "secret", "credential", "api_key", "authorization")


def set_up(service: str, config: HubConfig, stream: TextIO = sys.stdout) -> None:
    """Send this process's logging, the libraries' too, to `stream` as the hub's lines."""
    set_up_plain(service, config.log_level, config.log_format, config.timezone, stream)


def set_up_plain(
    service: str, level: str, log_format: str, zone: tzinfo, stream: TextIO = sys.stdout
) -> None:
    """`set_up` for programs without a configuration of their own."""

    def stamp(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["timestamp"] = datetime.now(zone).isoformat(timespec="milliseconds")
        event.setdefault("service", service)
        return event

    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        stamp,
        _hide_secrets,
    ]
    render: structlog.types.Processor = (
        structlog.processors.JSONRenderer(serializer=_as_json) if log_format == "json" else _as_line
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = _Handler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in ("urllib3", "pymodbus", "werkzeug"):  # what they have to say reaches us as errors
        logging.getLogger(library).setLevel(logging.CRITICAL if library == "pymodbus" else logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Be silent where nobody reads (any more); a defect of ours is told as usual."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "***"
    return event


def _as_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    stamp, level, service = event.pop("timestamp"), event.pop("level").upper(), event.pop("service")
    trace = event.pop("exception", None)
    words = [stamp, f"{level:<7}", f"{service:<16}", _one_line(str(event.pop("event")))]
    words += [f"{key}={_quoted(value)}" for key, value in event.items()]
    if trace:
        words.append(f"trace={_quoted(trace)}")
    return " ".join(words)


def _as_json(event: object, **_: Any) -> str:
    text = json.dumps(event, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate becomes \\udXXX again


def _quoted(value: object) -> str:
    text = _one_line(str(value))
    if text == "" or any(mark in text for mark in ' ="'):
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _one_line(text: str) -> str:
    """Control characters escaped, so that no input can forge a line of its own."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; call as `log.info("line lost", transport="bus0")`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class OncePerMinute:
    """Lets each kind of message pass once a minute and counts what it held back."""

    def __init__(self, period_s: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Thread-safe; at most 1000 kinds are remembered."""
        self._period_s, self._monotonic = period_s, monotonic
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def passes(self, kind: str) -> tuple[bool, int]:
        """(may this one be logged, how many of its kind were held back since the last that was)."""
        now = self._monotonic()
        with self._lock:
            at, held = self._last.get(kind, (None, 0))
            if at is not None and now - at < self._period_s:
                self._last[kind] = (at, held + 1)
                return False, held + 1
            if len(self._last) >= 1000:
                self._last.clear()
            self._last[kind] = (now, 0)
            return True, held
