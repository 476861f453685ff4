"""Threads that go on after a defect and end when told."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from sensor_hub import threads
from tests.support import eventually


def test_a_defect_is_told_with_its_trace_and_the_work_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "PAUSE_S", 0.01)
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError("of ours")

    with capture_logs() as told:
        thread = threads.start("worker", work, threading.Event())
        thread.join(20)
    assert not thread.is_alive()  # it returned, so it ends
    assert len(calls) == 3
    assert [(line["event"], line["thread"], line["exc_info"]) for line in told] == [
        ("thread failed unexpectedly", "worker", True)
    ] * 2


def test_a_thread_that_pauses_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PAUSE_S", 3600.0)
    stop, failed = threading.Event(), threading.Event()

    def work() -> None:
        failed.set()
        raise ZeroDivisionError

    thread = threads.start("worker", work, stop)
    assert failed.wait(20)
    stop.set()
    eventually(lambda: not thread.is_alive())
