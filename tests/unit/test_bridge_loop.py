"""What the bridge's loop does with what comes from the journal; nobody connects, the queues are real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from sensor_hub.bridge.loop import MAX_WAITING_NEWS, Bridge
from sensor_hub.bridge.outbox import EVENTS
from sensor_hub.clock import system_clock
from sensor_hub.config import load
from sensor_hub.config.model import BRIDGE
from sensor_hub.errors import HandlerUnreachable
from sensor_hub.journal import ANSWER_ENTRIES, News
from sensor_hub.outputs.base import Message, Request
from sensor_hub.store import Store, path_for
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

MARK = "0123456789ab-5"


class Aggregator:
    """Has as many pages as anybody takes, and tells how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def follow_journal(
        self, on_news: Callable[[News], None], _lost: object, stop: threading.Event, _had: object
    ) -> None:
        while not stop.is_set():
            on_news(News([], [], mark=MARK))
            self.taken += 1

    def health(self) -> dict[str, Any]:
        raise HandlerUnreachable("there is none")

    def get(self, *_: object) -> dict[str, Any]:
        raise HandlerUnreachable("there is none")


class Output:
    """Nobody is there."""

    name, connected = "mqtt", False

    def publish(self, _message: object) -> bool:
        return False

    def problem(self) -> str:
        return ""

    def stop(self) -> None:
        pass

    def when_acknowledged(self, _call: object) -> None:
        pass


def new_bridge(folder: Path) -> Bridge:
    hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=folder)
    hub = replace(hub, data_dir=folder, instance_id=f"t{uuid4().hex[:8]}")
    return Bridge(hub, Aggregator(), Output(), ManualClock().clock)  # type: ignore[arg-type]


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    made = new_bridge(tmp_path)
    made._outbox.start()
    yield made
    made.stop()
    made._outbox.stop()
    made._outbox.close()


def waiting(bridge: Bridge) -> list[dict[str, Any]]:
    """The payloads in the queues."""
    assert all(source.queue.flush(30) for source in bridge._outbox._sources.values())
    found = [each for source in bridge._outbox._sources.values() for each in source.queue.peek()]
    return [json.loads(each.item.payload) for each in found]


def had(bridge: Bridge, news: News) -> None:
    bridge._take_news(news)
    bridge._handle(bridge._inbox.get())


def test_who_follows_the_journal_waits_while_the_loop_has_enough_to_do(bridge: Bridge) -> None:
    aggregator: Aggregator = bridge._aggregator  # type: ignore[assignment]
    following = threading.Thread(target=bridge._follow)
    following.start()
    try:
        for handled in range(3):
            eventually(lambda most=MAX_WAITING_NEWS + handled: aggregator.taken >= most)  # type: ignore[misc]
            assert bridge._inbox.qsize() <= MAX_WAITING_NEWS
            bridge._handle(bridge._inbox.get())
    finally:
        bridge.stop()
        following.join(30)
    assert not following.is_alive()
    assert aggregator.taken <= MAX_WAITING_NEWS + 4  # the three, and the one that did not wait any more


def test_what_waits_for_the_loop_is_a_small_part_of_the_journal(bridge: Bridge) -> None:
    """Else it would be there twice, and parsed, which takes ten times the room."""
    assert bridge._hub.journal_entries / 5 >= MAX_WAITING_NEWS * ANSWER_ENTRIES


def test_a_flood_of_requests_for_the_device_list_is_answered_once(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def publish(message: Message) -> bool:
        sent.append(message.topic)
        return True

    monkeypatch.setattr(bridge._output, "publish", publish)
    bridge._states.connected = True
    bridge._tick()
    sent.clear()
    for _ in range(500):
        for what in ("discover", "devices_list"):
            bridge._request(Request(f"meta/request/{what}", b"{}", retained=False))
    bridge._tick()
    bridge._tick()
    ours = [topic.partition(bridge._hub.instance_id)[2] for topic in sent]
    assert sorted(each for each in ours if "device" not in each.split("/")) == [
        "/discovered",
        "/meta/devices_list",
    ]


def test_what_was_missed_is_in_figures_and_telemetry_and_told_once_a_minute(bridge: Bridge) -> None:
    with capture_logs() as lines:
        for missed in (50, 0, 7):
            had(bridge, News([], [], missed, mark=MARK))
    said = [line for line in lines if line["event"].startswith("entries of the journal were missed")]
    assert [(line["log_level"], line["count"], line["total"]) for line in said] == [("error", 50, 50)]
    assert bridge._figures()["missed"] == 57
    bridge._publish_telemetry({"motion_front_door": {"reads": 3}})
    [body] = waiting(bridge)
    assert (body["metrics"]["reads"], body["metrics"]["queue_missed"]) == (3, 57)


def test_how_far_the_journal_was_read_is_kept_with_telemetry(bridge: Bridge) -> None:
    bridge._publish_telemetry({})
    assert waiting(bridge) == []
    assert bridge._outbox._sources["mqtt"].queue.mark == ""  # nothing was read
    had(bridge, News([], [], mark=MARK))
    bridge._publish_telemetry({})
    assert json.loads(bridge._outbox._sources["mqtt"].queue.mark)["had"] == MARK


def test_how_far_the_journal_was_read_is_kept_when_the_bridge_ends(tmp_path: Path) -> None:
    bridge = new_bridge(tmp_path)
    running = threading.Thread(target=bridge.run)
    running.start()
    try:
        bridge._take_news(News([], [], mark="0123456789ab-1"))  # the first place is kept at once
        bridge._take_news(News([], [], mark=MARK))
        eventually(lambda: bridge._happenings._had == MARK)
    finally:
        bridge.stop()
        running.join(60)
    assert not running.is_alive()
    store = Store(path_for(bridge._hub, BRIDGE), system_clock())
    store.start()
    try:
        assert json.loads(store.queue(EVENTS).mark)["had"] == MARK
    finally:
        store.close(30)
