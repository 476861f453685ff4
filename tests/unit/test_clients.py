"""Following a service that lets nobody wait, and asking one from many threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from flask import Response
from werkzeug.serving import make_server

from sensor_hub import clients, journal, threads
from sensor_hub.board import Board
from sensor_hub.clients import CONNECTIONS, HandlerClient
from sensor_hub.clock import system_clock
from sensor_hub.journal import Had, Journal, News
from sensor_hub.readings import Fault, Quality, Reading, Snapshot, Status
from sensor_hub.web import base_app, feed_response, json_response
from tests.support import eventually
from tests.unit.manual_clock import NOON


class Ending:
    """A service whose board is closed: it answers whoever wants to wait at once, with nothing."""

    def __init__(self) -> None:
        self.asked = 0
        fault = Fault("SENSOR_UNAVAILABLE", "not read yet", NOON)
        board = Board([Snapshot("a", "generic", Status.UNKNOWN, fault=fault)])
        board.close()
        app = base_app("service", "hub", system_clock(), lambda: None)

        @app.get("/readings")
        def readings() -> Response:
            self.asked += 1
            return feed_response(board, "sensor_id")

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def ending() -> Iterator[Ending]:
    service = Ending()
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_a_follower_whose_wait_ends_early_and_empty_pauses(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_FOLLOW_PAUSE_S", 3600.0)
    monkeypatch.setattr(clients, "_EARLY_S", 60.0)
    client, stop = HandlerClient(f"http://127.0.0.1:{ending.server.server_port}", "hub"), threading.Event()
    told: list[Snapshot] = []
    follower = threading.Thread(target=client.follow, args=(told.extend, lambda _: None, stop), daemon=True)
    follower.start()
    eventually(lambda: ending.asked >= 2)
    follower.join(0.3)  # time enough for a hundred more
    assert (ending.asked, follower.is_alive()) == (2, True)
    stop.set()
    follower.join(10)
    assert not follower.is_alive()
    assert [snapshot.device_id for snapshot in told] == ["a"]


class Serving:
    """A service with one device, whose journal keeps three entries."""

    def __init__(self) -> None:
        self.board = Board([read(0.0)], journal=Journal("sensor_id", 3))
        app = base_app("service", "hub", system_clock(), self.board.close)

        @app.get("/readings")
        def readings() -> Response:
            return feed_response(self.board, "sensor_id")

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, *values: float) -> None:
        for value in values:
            self.board.put(read(value), (NOON, read(value)))


class Following:
    """A follower of everything, that can be made to take its time, or to fail."""

    def __init__(self, service: Serving, had: Had | None = None) -> None:
        self.had, self.news, self.latest = had or Had(), list[News](), list[object]()
        self.may_go_on, self.is_busy, self.fails = threading.Event(), threading.Event(), 0
        self.may_go_on.set()
        self._stop = threading.Event()
        client = HandlerClient(f"http://127.0.0.1:{service.server.server_port}", "hub")
        follow = partial(client.follow_journal, self._take, lambda _: None, self._stop, self.had)
        self.thread = threads.start("follow", follow, self._stop)

    def _take(self, news: News) -> None:
        self.is_busy.set()
        assert self.may_go_on.wait(30)
        if self.fails:
            self.fails -= 1
            raise ZeroDivisionError
        self.latest += [each.reading.values["value"] for each in news.changes if each.reading]
        self.news.append(news)

    def values(self) -> list[object]:
        readings = [entry.snapshot.reading for news in self.news for entry in news.entries]
        return [reading.values["value"] for reading in readings if reading]

    def missed(self) -> int:
        return sum(news.missed for news in self.news)

    def stop(self) -> None:
        self._stop.set()
        self.may_go_on.set()


def read(value: float) -> Snapshot:
    reading = Reading({"value": value}, NOON)
    return Snapshot("a", "generic", Status.ONLINE, reading, None, Quality.GOOD, {})


@pytest.fixture
def serving() -> Iterator[Serving]:
    service = Serving()
    yield service
    service.board.close()
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def following(serving: Serving) -> Iterator[Following]:
    follower = Following(serving)
    eventually(lambda: follower.news)
    yield follower
    follower.stop()


@pytest.mark.parametrize(
    ("limit", "most", "answers"),
    [("ANSWER_ENTRIES", 2, [True, False]), ("ANSWER_CHARS", 1, [True] * 3)],
)
def test_a_follower_learns_whether_it_has_had_what_there_was_at_its_beginning(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, answers: list[bool]
) -> None:
    monkeypatch.setattr(journal, limit, most)
    monkeypatch.setattr(clients, limit, most)
    serving.put(1.0, 2.0, 3.0)
    follower = Following(serving)
    try:
        eventually(lambda: follower.values() == [1.0, 2.0, 3.0])
        assert [news.is_behind for news in follower.news] == answers
        serving.put(4.0)
        eventually(lambda: follower.values()[-1] == 4.0)
        assert [news.is_behind for news in follower.news if news.entries][-1] == answers[-1]
    finally:
        follower.stop()


def test_a_follower_of_everything_gets_every_entry_and_the_latest_of_each_device(
    serving: Serving, following: Following
) -> None:
    serving.put(1.0)
    eventually(lambda: following.values() == [1.0])
    serving.put(2.0, 3.0)
    eventually(lambda: following.values() == [1.0, 2.0, 3.0])
    assert (following.latest[-1], following.missed()) == (3.0, 0)


def test_a_follower_that_is_slower_than_the_journal_learns_how_many_it_missed(
    serving: Serving, following: Following
) -> None:
    following.may_go_on.clear()
    following.is_busy.clear()
    serving.put(1.0)
    assert following.is_busy.wait(10)
    serving.put(*map(float, range(2, 12)))
    following.may_go_on.set()
    eventually(lambda: following.values() == [1.0, 9.0, 10.0, 11.0])
    assert following.missed() == 7
    assert not any(news.is_anew for news in following.news)


def test_what_a_follower_failed_to_take_is_handed_over_again_and_the_rest_is_not(
    serving: Serving, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PAUSE_S", 0.01)
    serving.put(1.0)
    eventually(lambda: following.values() == [1.0])
    following.fails = 1
    serving.put(2.0)
    eventually(lambda: following.values() == [1.0, 2.0])
    serving.put(3.0)
    eventually(lambda: following.values() == [1.0, 2.0, 3.0])
    assert following.missed() == 0


def test_a_follower_that_kept_how_far_it_was_goes_on_there(serving: Serving) -> None:
    serving.put(1.0, 2.0)
    first = Following(serving)
    eventually(lambda: first.values() == [1.0, 2.0])
    first.stop()
    mark = first.news[-1].mark
    serving.put(3.0, 4.0, 5.0, 6.0)
    again = Following(serving, Had.load(mark))
    try:
        eventually(lambda: again.values() == [4.0, 5.0, 6.0])
        assert again.missed() == 1
    finally:
        again.stop()


def test_many_questions_at_once_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    together = threading.Barrier(CONNECTIONS + 20, timeout=60)
    app = base_app("service", "hub", system_clock(), lambda: None)

    @app.get("/health")
    def health() -> Response:
        together.wait()
        return json_response({"status": "healthy"})

    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.socket.listen(512)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    client = HandlerClient(f"http://127.0.0.1:{server.server_port}", "hub")
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # as `logs.set_up` does
    try:
        with ThreadPoolExecutor(together.parties) as pool:
            answers = list(pool.map(lambda _: client.health(60), range(together.parties)))
    finally:
        server.shutdown()
        server.server_close()
    assert {answer["status"] for answer in answers} == {"healthy"}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("urllib3")] == []
