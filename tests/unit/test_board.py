"""The board: revisions, cursors and waiting, without a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sensor_hub.board import MAX_WAIT_S, MAX_WAITERS, Board
from sensor_hub.errors import Busy
from sensor_hub.readings import Fault, Quality, Reading, Snapshot, Status
from sensor_hub.web import MAX_ANSWERING
from tests.support import eventually
from tests.unit.manual_clock import NOON

Changes = tuple[str, list[Snapshot]]


def unread(device_id: str) -> Snapshot:
    fault = Fault("SENSOR_UNAVAILABLE", "not read yet", NOON)
    return Snapshot(device_id, "temperature", Status.UNKNOWN, fault=fault)


def read(device_id: str, value: float) -> Snapshot:
    reading = Reading({"value": value}, NOON)
    return Snapshot(device_id, "temperature", Status.ONLINE, reading, quality=Quality.GOOD)


def ids(changes: Changes) -> list[str]:
    return [snapshot.device_id for snapshot in changes[1]]


class CountedTime:
    """Monotonic time that tells how often it was asked: a waiter asks once before and once inside its loop."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self.asked += 1
        return 0.0


def board(*device_ids: str, monotonic: Callable[[], float] = lambda: 0.0) -> Board:
    return Board((unread(device_id) for device_id in device_ids or ("a", "b", "c")), monotonic)


def test_every_device_is_there_from_the_first_second_on() -> None:
    assert ids(board().since(None)) == ["a", "b", "c"]


def test_a_follower_gets_only_what_changed_after_its_cursor() -> None:
    its = board()
    cursor, _ = its.since(None)
    its.put(read("b", 21.5))
    changes = its.since(cursor)
    assert changes[1] == [read("b", 21.5)]
    assert its.since(changes[0])[1] == []


def test_an_equal_reading_is_a_change_too() -> None:
    its = board()
    its.put(read("b", 21.5))
    cursor, _ = its.since(None)
    its.put(read("b", 21.5))
    assert ids(its.since(cursor)) == ["b"]


def test_changes_come_oldest_first_and_one_per_device() -> None:
    its = board()
    cursor, _ = its.since(None)
    for device_id, value in (("c", 1.0), ("a", 2.0), ("c", 3.0)):
        its.put(read(device_id, value))
    assert its.since(cursor)[1] == [read("a", 2.0), read("c", 3.0)]


def test_a_device_that_is_not_configured_is_never_added() -> None:
    its = board("a")
    with pytest.raises(KeyError):
        its.put(read("b", 1.0))
    assert its.get("b") is None
    assert [snapshot.device_id for snapshot in its.all()] == ["a"]


def test_a_cursor_of_another_process_yields_all_at_once() -> None:
    foreign, _ = board().since(None)
    assert ids(board().since(foreign, wait_s=60)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "-",
        "nonsense",
        "{generation}",
        "{generation}-",
        "{generation}--1",
        "{generation}-+3",
        "{generation}-3.0",
        "{generation}-99",
        "{generation}-" + "9" * 5000,
        "{generation}-\u0663",
        "{generation}-\u00b3",
        "{generation}-3\0",
        " {generation}-3",
        "other-3",
    ],
)
def test_a_cursor_that_is_none_of_ours_yields_all(spoilt: str) -> None:
    its = board()
    cursor, _ = its.since(None)
    generation = cursor.removesuffix("-3")
    assert ids(its.since(spoilt.format(generation=generation))) == ["a", "b", "c"]


def test_without_a_change_a_waiter_gets_nothing_after_its_time() -> None:
    times = iter([0.0, 5.1])
    its = board(monotonic=lambda: next(times))
    cursor, _ = its.since(None)
    assert its.since(cursor, wait_s=5) == (cursor, [])


def test_nobody_waits_longer_than_60_s() -> None:
    times = iter([0.0, MAX_WAIT_S + 0.1])
    its = board(monotonic=lambda: next(times))
    cursor, _ = its.since(None)
    assert its.since(cursor, wait_s=1e9) == (cursor, [])
    assert MAX_WAIT_S == 60


def waiting(pool: ThreadPoolExecutor, its: Board, time: CountedTime, count: int) -> list[Future[Changes]]:
    cursor, _ = its.since(None)
    waiters = [pool.submit(its.since, cursor, 60.0) for _ in range(count)]
    eventually(lambda: time.asked >= 2 * count)
    return waiters


def test_a_change_wakes_every_waiter() -> None:
    time = CountedTime()
    its = board(monotonic=time)
    with ThreadPoolExecutor(3) as pool:
        waiters = waiting(pool, its, time, 3)
        its.put(read("a", 7.0))
        assert [waiter.result(20)[1] for waiter in waiters] == [[read("a", 7.0)]] * 3


def test_closing_wakes_every_waiter_with_what_there_is_and_nobody_waits_after_it() -> None:
    time = CountedTime()
    its = board(monotonic=time)
    with ThreadPoolExecutor(3) as pool:
        waiters = waiting(pool, its, time, 3)
        its.close()
        assert [waiter.result(20)[1] for waiter in waiters] == [[]] * 3
        cursor, _ = its.since(None)
        assert pool.submit(its.since, cursor, 60.0).result(20) == (cursor, [])


def test_more_waiters_than_96_are_refused_and_the_others_go_on_waiting() -> None:
    time = CountedTime()
    its = board(monotonic=time)
    with ThreadPoolExecutor(MAX_WAITERS + 1) as pool:
        waiters = waiting(pool, its, time, MAX_WAITERS)
        cursor, _ = its.since(None)
        with pytest.raises(Busy):
            pool.submit(its.since, cursor, 60.0).result(20)
        assert its.since(cursor) == (cursor, [])  # nobody is refused who does not want to wait
        assert not any(waiter.done() for waiter in waiters)
        its.put(read("a", 7.0))
        assert all(ids(waiter.result(20)) == ["a"] for waiter in waiters)
    assert MAX_ANSWERING - 24 > MAX_WAITERS == 96  # a service keeps threads for those who do not wait


def test_no_change_is_lost_between_many_writers_and_a_follower() -> None:
    its = board(*(f"d{number}" for number in range(8)))
    seen: dict[str, float] = {}

    def follow() -> None:
        cursor: str | None = None
        while len(seen) < 8 or set(seen.values()) != {199.0}:
            cursor, changes = its.since(cursor)
            seen.update({s.device_id: float(str(s.reading.values["value"])) for s in changes if s.reading})

    def write(number: int) -> None:
        for value in range(200):
            its.put(read(f"d{number}", float(value)))

    with ThreadPoolExecutor(9) as pool:
        follower = pool.submit(follow)
        for number in range(8):
            pool.submit(write, number)
        follower.result(60)
    assert seen == {f"d{number}": 199.0 for number in range(8)}
