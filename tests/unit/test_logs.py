"""Log lines: one per event, whatever is in it; secrets never; each kind at most once a minute."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from sensor_hub import logs

Lines = Callable[[], list[str]]


class Utf8(io.StringIO):
    """As a terminal: what cannot be UTF-8 cannot be written."""

    def write(self, text: str) -> int:
        text.encode("utf-8")
        return super().write(text)


@pytest.fixture
def set_up() -> Iterator[Callable[..., Lines]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def begin(log_format: str = "text", level: str = "INFO") -> Lines:
        stream = Utf8()
        logs.set_up_plain("serial-handler", level, log_format, UTC, stream)
        return lambda: stream.getvalue().split("\n")[:-1]

    yield begin
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_has_time_level_service_event_and_context(set_up: Callable[..., Lines]) -> None:
    lines = set_up()
    logs.get("x").warning("line lost", transport="bus0", reason="no such port")
    words = lines()[0].split()
    assert abs((datetime.now(UTC) - datetime.fromisoformat(words[0])).total_seconds()) < 60
    assert words[1:] == [
        "WARNING", "serial-handler", "line", "lost", "transport=bus0", 'reason="no', "such", 'port"'
    ]  # fmt: skip


def test_json_has_the_same_facts(set_up: Callable[..., Lines]) -> None:
    lines = set_up("json")
    logs.get("x").info("line back", transport="bus0", after_s=1.5)
    entry = json.loads(lines()[0])
    assert entry.pop("timestamp")
    assert entry == {
        "event": "line back", "level": "info", "service": "serial-handler", "transport": "bus0", "after_s": 1.5
    }  # fmt: skip


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "nasty", ["a\nb", "a\r\nb", "\x1b[31mred", "\u2028", "\x85", "\x00", "\ud800", 'x" level="error', "ä°C"]
)
def test_no_input_makes_a_second_line_or_breaks_one(
    set_up: Callable[..., Lines], log_format: str, nasty: str
) -> None:
    lines = set_up(log_format)
    logs.get("x").info("command done", id=nasty)
    logs.get("x").info(nasty)
    assert len(lines()) == 2
    if log_format == "json":
        assert json.loads(lines()[0])["id"] == nasty
    else:
        assert "\x1b" not in lines()[0]


def test_a_value_with_a_quote_cannot_forge_a_key(set_up: Callable[..., Lines]) -> None:
    lines = set_up()
    logs.get("x").info("command done", id='x" error="y')
    assert lines()[0].endswith('id="x\\" error=\\"y"')


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "key", ["password", "MQTT_PASSWORD", "token", "api_key", "client_secret", "Authorization"]
)
def test_secrets_are_never_written(set_up: Callable[..., Lines], log_format: str, key: str) -> None:
    lines = set_up(log_format)
    logs.get("x").info("connecting", **{key: "hunter2"})
    assert "hunter2" not in lines()[0]
    assert "***" in lines()[0]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_libraries_write_the_same_lines(set_up: Callable[..., Lines], log_format: str) -> None:
    lines = set_up(log_format)
    logging.getLogger("gunicorn.error").warning("Worker %s exiting", 5)
    logging.getLogger("urllib3").info("not worth a line")
    assert len(lines()) == 1
    assert "Worker 5 exiting" in lines()[0]
    assert "serial-handler" in lines()[0]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_trace_is_part_of_its_line(set_up: Callable[..., Lines], log_format: str) -> None:
    lines = set_up(log_format)
    try:
        raise ZeroDivisionError("oh\nno")
    except ZeroDivisionError:
        logs.get("x").exception("line failed unexpectedly")
    assert len(lines()) == 1
    assert "ZeroDivisionError" in lines()[0]


def test_the_level_is_the_least_that_is_written(set_up: Callable[..., Lines]) -> None:
    lines = set_up(level="WARNING")
    logs.get("x").info("quiet")
    logs.get("x").error("loud")
    assert [("loud" in line) for line in lines()] == [True]


def test_each_kind_passes_once_a_minute_and_says_how_many_were_held_back() -> None:
    now = [0.0]
    limit = logs.OncePerMinute(monotonic=lambda: now[0])
    told: list[Any] = []
    for at, kind in [(0, "a"), (1, "a"), (59.9, "a"), (59.9, "b"), (60, "a"), (61, "a"), (130, "a")]:
        now[0] = at
        told.append(limit.passes(kind))
    assert told == [(True, 0), (False, 1), (False, 2), (True, 0), (True, 2), (False, 1), (True, 1)]


def test_no_flood_of_kinds_fills_the_memory() -> None:
    limit = logs.OncePerMinute(monotonic=lambda: 0.0)
    assert all(limit.passes(f"kind {number}")[0] for number in range(5000))
    assert len(limit._last) <= 1000
