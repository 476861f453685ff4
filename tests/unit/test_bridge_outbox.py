"""What the outbox sends of a queue, and when; the output is a double, the queue is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.bridge.outbox import ANSWER, ANSWER_EXPIRES_S, GROUP_ANSWER, WINDOW, Outbox
from sensor_hub.config import load
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.store_file import Item
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

AT = "2026-03-01T12:00:00.000+00:00"


class Receiver:
    """An output that takes what there is room for and acknowledges when it is told to."""

    name = "mqtt"

    def __init__(self) -> None:
        self.connected, self.room = True, 1_000_000
        self.sent: list[Message] = []
        self._numbers = count(1)
        self._owed: list[int] = []
        self._call: Callable[[int], None] = lambda _: None

    def when_acknowledged(self, call: Callable[[int], None]) -> None:
        self._call = call

    def hand_over(self, message: Message) -> int | None:
        if "+" in message.topic:
            raise ValueError("Publish topic cannot contain wildcards.")
        if self.room == 0:
            return None
        self.room -= 1
        number = next(self._numbers)
        self._owed.append(number)
        self.sent.append(message)
        return number

    def acknowledge(self, how_many: int = 1_000_000) -> None:
        done, self._owed = self._owed[:how_many], self._owed[how_many:]
        for number in done:
            self._call(number)

    def payloads(self) -> list[str]:
        return [message.payload for message in self.sent]


class World:
    """An outbox of the shipped instance in a folder."""

    def __init__(self, folder: Path, time: ManualClock) -> None:
        hub = replace(load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=folder), data_dir=folder)
        self.receiver, self.topics = Receiver(), Topics("base", hub.instance_id)
        self.outbox = Outbox(hub, self.topics, self.receiver, time.clock)  # type: ignore[arg-type]

    def start(self) -> World:
        self.mark = self.outbox.start()
        return self

    def put(self, *payloads: str, kind: str = "error", device_id: str = "d", mark: str | None = None) -> None:
        self.outbox.put([Item(device_id, AT, kind, payload.encode()) for payload in payloads], mark)

    def depth_is(self, depth: int) -> bool:
        return self.outbox.figures()["depth"] == depth

    def end(self) -> None:
        self.outbox.stop()
        self.outbox.close()


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world(tmp_path: Path, time: ManualClock) -> Iterator[World]:
    started = World(tmp_path, time).start()
    yield started
    started.end()


@pytest.mark.parametrize(
    ("kind", "topics"),
    [
        ("error", ["devices/d/error"]),
        ("telemetry", ["devices/d/telemetry"]),
        ("event", ["devices/d/events", None]),
        (ANSWER, ["devices/d/cmd/response"]),
        (GROUP_ANSWER, ["groups/d/cmd/response"]),
    ],
)
def test_the_topics_of_an_entry(world: World, kind: str, topics: list[str | None]) -> None:
    world.put('{"a":1}', kind=kind)
    eventually(lambda: len(world.receiver.sent) == len(topics))
    wanted = [
        world.topics.global_events if each is None else f"{world.topics.prefix}/{each}" for each in topics
    ]
    assert [message.topic for message in world.receiver.sent] == wanted
    assert not any(message.retain for message in world.receiver.sent)
    assert world.receiver.sent[0].payload == '{"a":1}'
    assert world.receiver.sent[1:] == [
        Message(world.topics.global_events, '{"a":1,"source":"sensor_hub_01_d"}') for _ in topics[1:]
    ]


def test_an_entry_leaves_the_queue_when_all_its_messages_are_acknowledged(world: World) -> None:
    world.put('{"a":1}', kind="event")
    eventually(lambda: len(world.receiver.sent) == 2)
    world.receiver.acknowledge(1)
    world.put("{}")
    eventually(lambda: len(world.receiver.sent) == 3)  # it has taken note of the first by now
    assert world.depth_is(2)
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(0))


def test_no_more_are_under_way_than_a_state_may_wait_for(world: World) -> None:
    texts = [str(number) for number in range(5 * WINDOW)]
    world.put(*texts)
    eventually(lambda: len(world.receiver.sent) == WINDOW)
    world.receiver.acknowledge(3)
    eventually(lambda: len(world.receiver.sent) == WINDOW + 3)
    while len(world.receiver.sent) < len(texts):
        world.receiver.acknowledge()
        seen = len(world.receiver.sent)
        eventually(lambda seen=seen: len(world.receiver.sent) > seen)  # type: ignore[misc]
    assert world.receiver.payloads() == texts


def test_nothing_is_sent_without_a_connection_and_in_order_when_it_is_back(world: World) -> None:
    world.receiver.connected = False
    world.put("1", "2")
    world.put("3")
    eventually(lambda: world.depth_is(3))
    world.outbox.look()
    assert world.receiver.sent == []
    world.receiver.connected = True
    world.outbox.look()
    eventually(lambda: world.receiver.payloads() == ["1", "2", "3"])


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_what_the_output_has_no_room_for_is_sent_later_once(world: World, room: int) -> None:
    world.receiver.room = room
    world.put("{1}", "{2}", kind="event")
    eventually(lambda: len(world.receiver.sent) == room)
    world.receiver.room = 1_000_000
    world.outbox.look()
    eventually(lambda: len(world.receiver.sent) == 4)
    assert [text[:2] for text in world.receiver.payloads()] == ["{1", "{1", "{2", "{2"]


def test_what_was_not_acknowledged_is_sent_by_the_next_life_with_the_mark(
    tmp_path: Path, time: ManualClock
) -> None:
    first = World(tmp_path, time).start()
    assert first.mark == ""
    first.put("1", "2", "3", mark="here")
    eventually(lambda: len(first.receiver.sent) == 3)
    first.receiver.acknowledge(1)
    first.end()
    second = World(tmp_path, time).start()
    try:
        assert second.mark == "here"
        eventually(lambda: second.receiver.payloads() == ["2", "3"])
    finally:
        second.end()


def test_an_answer_is_sent_until_it_is_too_old_and_an_event_however_old_it_is(
    world: World, time: ManualClock
) -> None:
    world.receiver.connected = False
    world.put("{1}", kind=ANSWER)
    world.put("{2}", kind=GROUP_ANSWER)
    world.put("{3}", kind="telemetry")
    time.advance(ANSWER_EXPIRES_S / 2)
    world.put("{4}", kind=ANSWER)
    time.advance(ANSWER_EXPIRES_S / 2 + 1)
    with capture_logs() as lines:
        world.receiver.connected = True
        world.outbox.look()
        eventually(lambda: world.receiver.payloads() == ["{3}", "{4}"])
    assert world.outbox.figures()["expired"] == 2
    assert [line["event"] for line in lines] == ["an answer is too old to be sent"]
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(0))


def test_an_entry_that_can_never_be_sent_stops_no_other(world: World) -> None:
    with capture_logs() as lines:
        world.put("1", device_id="+")
        world.put("2")
        eventually(lambda: world.receiver.payloads() == ["2"])
    assert [line["event"] for line in lines] == ["an entry of the queue cannot be sent"]
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(0))
