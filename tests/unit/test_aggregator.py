"""The aggregator's board: what is left when a handler is gone, and what is newer than the cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub import threads, wire
from sensor_hub.aggregator import Aggregator
from sensor_hub.config import load
from sensor_hub.config.model import Handler
from sensor_hub.errors import HandlerUnreachable
from sensor_hub.journal import News
from sensor_hub.readings import Quality, Reading, Snapshot, Status
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

DEVICE = "temp_living_room"
GONE = HandlerUnreachable("gone")


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture
def aggregator(time: ManualClock, tmp_path: Path) -> Aggregator:
    """Of the shipped instance; it follows nobody."""
    return Aggregator(load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path), time.clock)


def online(value: float, taken: datetime) -> Snapshot:
    reading = Reading({"value": value}, taken)
    return Snapshot(DEVICE, "temperature", Status.ONLINE, reading, quality=Quality.GOOD)


def status(aggregator: Aggregator) -> Status | None:
    snapshot = aggregator.board.get(DEVICE)
    return snapshot.status if snapshot is not None else None


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0])
def test_a_value_goes_offline_by_time_that_passes_when_its_handler_is_gone(
    aggregator: Aggregator, time: ManualClock, ahead_s: float
) -> None:
    aggregator._take(online(21.0, time.now()))
    time.set_wall(ahead_s)
    time.advance(1)
    aggregator._lost({DEVICE}, GONE, only_stale=True)
    assert status(aggregator) is Status.ONLINE
    aggregator._lost({DEVICE}, GONE)
    assert status(aggregator) is Status.DEGRADED
    time.advance(3600)
    aggregator._lost({DEVICE}, GONE, only_stale=True)
    assert status(aggregator) is Status.OFFLINE


def test_news_that_comes_while_the_handler_is_counted_lost_stays(
    aggregator: Aggregator, time: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator._take(online(21.0, time.now()))
    get = aggregator.board.get
    with ThreadPoolExecutor(1) as pool:

        def get_and_let_news_come(device_id: str) -> Snapshot | None:
            before = get(device_id)
            taking = pool.submit(aggregator._take, online(22.0, time.now()))
            with pytest.raises(TimeoutError):  # it waits for its turn
                taking.result(0.3)
            return before

        with monkeypatch.context() as patch:
            patch.setattr(aggregator.board, "get", get_and_let_news_come)
            aggregator._lost({DEVICE}, GONE)
    assert get(DEVICE) == online(22.0, time.now())


@pytest.mark.parametrize("ahead_s", [0.0, -7200.0, 7200.0])
def test_a_newer_reading_of_the_feed_is_served_whatever_the_wall_clock_says(
    aggregator: Aggregator, time: ManualClock, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    client = aggregator._clients[Handler.SERIAL]
    body = wire.reading_body(online(21.0, time.now()), "sensor_id")
    monkeypatch.setattr(client, "sensor", lambda _: body)
    aggregator._take(online(20.0, time.now()))
    time.advance(0.5)
    body["timestamp"] = wire.timestamp_text(time.now())
    assert (aggregator.device(DEVICE)["value"], aggregator.device(DEVICE)["value"]) == (21.0, 21.0)
    time.set_wall(ahead_s)
    time.advance(1)
    aggregator._take(online(22.0, time.now()))
    found = aggregator.device(DEVICE)
    assert (found["value"], found["cached"], found["cache_age"]) == (22.0, True, 0.0)


def test_what_a_handlers_journal_had_to_drop_is_counted_and_told_once(aggregator: Aggregator) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            aggregator._count_loss(Handler.SERIAL, News([], [], missed=5))
        aggregator._count_loss(Handler.HTTP, News([], [], missed=1, is_anew=True))
    journal = aggregator.health()["journal"]
    assert journal == {"entries": 0, "bytes": 0, "missed": 16, "interrupted": 1}
    told = [(line["handler"], line["count"]) for line in lines if line["event"] == "readings lost"]
    assert told == [("serial-handler", 5), ("http-poller", 1)]


def test_a_defect_ends_neither_following_nor_watching(
    aggregator: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PAUSE_S", 0.01)
    calls: list[str] = []

    def broken(name: str) -> None:
        calls.append(name)
        raise ZeroDivisionError

    for handler, client in aggregator._clients.items():
        monkeypatch.setattr(client, "follow_journal", lambda *_, name=f"follow {handler}": broken(name))
        monkeypatch.setattr(client, "health", lambda *_, name=f"watch {handler}": broken(name))
    aggregator.start()
    try:
        eventually(lambda: len(set(calls)) == 4 and all(calls.count(name) > 1 for name in set(calls)))
    finally:
        aggregator.close()
