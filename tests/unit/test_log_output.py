"""Lines wait for a reader in a bounded queue, and nobody waits with them."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC
from typing import TextIO, cast

import pytest
import structlog

from sensor_hub import log_output, logs
from sensor_hub.log_output import LogOutput, relay
from tests.support import eventually


class Pipe:
    """A pipe, as somebody's stdout."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fill(self) -> int:
        """Fill it up; how many bytes that were."""
        os.set_blocking(self.writing, False)
        filling = 0
        try:
            while True:
                filling += os.write(self.writing, b"." * 512)
        except BlockingIOError:
            os.set_blocking(self.writing, True)
        return filling

    def skip(self, count: int) -> None:
        while count:
            count -= len(os.read(self.reading, count))

    def line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            data += os.read(self.reading, 1)
        return data.decode()[:-1]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)


@pytest.fixture
def broken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def output(pipe: Pipe, broken: threading.Event) -> Iterator[LogOutput]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    output = LogOutput(pipe.writing, broken.set)
    logs.set_up_plain("launcher", "INFO", "text", UTC, cast("TextIO", output))
    yield output
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_come_out_in_the_order_they_went_in(pipe: Pipe, output: LogOutput) -> None:
    for number in range(1000):
        output.write(f"line {number} °C\n")
    assert [pipe.line() for _ in range(1000)] == [f"line {number} °C" for number in range(1000)]


def test_what_does_not_fit_is_dropped_and_counted_once_there_is_a_reader_again(
    pipe: Pipe, output: LogOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_output, "KEPT_BYTES", 1000)
    filling = pipe.fill()
    output.write("in the writer's hands\n")
    eventually(lambda: not output._waiting)
    for _ in range(100):
        output.write("x" * 99 + "\n")  # ten fit
    pipe.skip(filling)
    assert pipe.line() == "in the writer's hands"
    assert [pipe.line() for _ in range(10)] == ["x" * 99] * 10
    output.write("the next one\n")
    assert pipe.line() == "the next one"
    assert "WARNING launcher         stdout did not take the log for a while lines_dropped=90" in pipe.line()


def test_a_full_disk_costs_the_lines_of_its_time_only(pipe: Pipe, output: LogOutput) -> None:
    before = os.dup(pipe.writing)
    with open("/dev/full", "wb", buffering=0) as full:
        os.dup2(full.fileno(), pipe.writing)
    for _ in range(3):
        output.write("lost\n")
    output.drain(10)
    os.dup2(before, pipe.writing)
    os.close(before)
    output.write("kept\n")
    assert pipe.line() == "kept"
    assert pipe.line().endswith("lines_dropped=3")


def test_a_stdout_that_somebody_made_non_blocking_gets_every_byte(pipe: Pipe, output: LogOutput) -> None:
    filling = pipe.fill()
    os.set_blocking(pipe.writing, False)
    output.write("a" * 100_000 + "\n")
    pipe.skip(filling)
    assert pipe.line() == "a" * 100_000


def test_a_reader_that_has_left_is_told_once_and_nothing_is_written_any_more(
    pipe: Pipe, output: LogOutput, broken: threading.Event
) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.reading)
    output.write("to nobody\n")
    assert broken.wait(10)
    broken.clear()
    output.write("to nobody\n")
    output.drain(10)
    assert not broken.is_set()


def test_the_end_waits_for_a_blocked_reader_no_longer_than_it_says(pipe: Pipe, output: LogOutput) -> None:
    filling = pipe.fill()
    output.write("stopped\n")
    output.drain(0.05)
    assert output._waiting or output._busy
    pipe.skip(filling)
    output.drain(10)
    assert pipe.line() == "stopped"


def test_the_relay_passes_on_lines_of_any_length_and_tells_supervisords_own(
    pipe: Pipe, output: LogOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_output, "LINE_BYTES", 80)
    own = b"2026-01-02 03:04:05,678 INFO spawnerr: can't find command 'gunicorn'\n"
    relay(io.BytesIO(b"a line\n" + own + b"y" * 200 + b"\nlast, cut"), output)
    output.write("\n")
    assert pipe.line() == "a line"
    assert pipe.line().endswith("ERROR   supervisord      spawnerr: can't find command 'gunicorn'")
    assert [pipe.line(), pipe.line()] == ["y" * 200, "last, cut"]
