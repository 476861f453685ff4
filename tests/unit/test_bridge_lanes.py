"""Lanes: in order for a key, side by side for different keys, and bounded."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from sensor_hub.bridge.lanes import MAX_WAITING, Lanes
from sensor_hub.errors import Busy, HubError, ReadOnly
from tests.support import eventually


def lane_threads(key: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"lane-{key}"]


def test_work_of_one_key_runs_in_order() -> None:
    lanes, done = Lanes(), list[int]()
    futures = [lanes.submit("order", partial(done.append, number)) for number in range(100)]
    for future in futures:
        future.result(10)
    assert done == list(range(100))


def test_a_slow_key_delays_no_other() -> None:
    lanes, release = Lanes(), threading.Event()
    slow = lanes.submit("slow", lambda: release.wait(10))
    assert lanes.submit("fast", lambda: 7).result(5) == 7
    assert not slow.done()
    release.set()
    assert slow.result(5) is True


def test_what_is_raised_comes_out_and_the_lane_goes_on() -> None:
    lanes = Lanes()

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ReadOnly):
        lanes.submit("raise", lambda: fail(ReadOnly("no"))).result(5)
    with pytest.raises(HubError) as caught:  # a defect; what it was stands in the log
        lanes.submit("raise", lambda: fail(ZeroDivisionError())).result(5)
    assert caught.value.code == "INTERNAL_ERROR"
    assert lanes.submit("raise", lambda: 1).result(5) == 1


def test_a_lane_that_is_full_refuses_and_works_again_when_it_is_empty() -> None:
    lanes, started, release = Lanes(), threading.Event(), threading.Event()

    def hang() -> bool:
        started.set()
        return release.wait(10)

    lanes.submit("full", hang)
    assert started.wait(5)
    waiting = [lanes.submit("full", lambda: None) for _ in range(MAX_WAITING)]
    with pytest.raises(Busy):
        lanes.submit("full", lambda: None).result(5)
    release.set()
    waiting[-1].result(10)
    assert lanes.submit("full", lambda: 3).result(5) == 3


def test_a_lane_without_work_holds_no_thread() -> None:
    lanes = Lanes()
    lanes.submit("idle", lambda: None).result(5)
    eventually(lambda: not lane_threads("idle"))
