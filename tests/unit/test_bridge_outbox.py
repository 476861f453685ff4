"""What the outbox sends of a queue, and when; the output is a double, the queue is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.bridge.outbox import (
    ANSWER,
    ANSWER_EXPIRES_S,
    ERROR_GOES_ON,
    EVENTS,
    GROUP_ANSWER,
    TELEMETRY_SHARE,
    WINDOW,
    Outbox,
)
from sensor_hub.config import load
from sensor_hub.config.model import BRIDGE
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item, StoreFile
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

AT = "2026-03-01T12:00:00.000+00:00"


class Receiver:
    """An output that takes what there is room for and acknowledges when it is told to."""

    name = "mqtt"

    def __init__(self) -> None:
        self.connected, self.room = True, 1_000_000
        self.asked = 0
        self.sent: list[Message] = []
        self._numbers = count(1)
        self._owed: list[int] = []
        self.not_confirmed: set[int] = set()
        self._call: Callable[[int], None] = lambda _: None

    def when_acknowledged(self, call: Callable[[int], None]) -> None:
        self._call = call

    def hand_over(self, message: Message) -> int | None:
        if "+" in message.topic:
            raise ValueError("Publish topic cannot contain wildcards.")
        self.asked += 1
        if self.room == 0:
            return None
        self.room -= 1
        number = next(self._numbers)
        self._owed.append(number)
        self.sent.append(message)
        return number

    def confirms(self, number: int) -> bool:
        return number not in self.not_confirmed

    def acknowledge(self, how_many: int = 1_000_000) -> None:
        done, self._owed = self._owed[:how_many], self._owed[how_many:]
        for number in done:
            self._call(number)

    def payloads(self) -> list[str]:
        return [message.payload for message in self.sent]


class World:
    """An outbox of the shipped instance in a folder."""

    def __init__(self, folder: Path, time: ManualClock, **settings: str) -> None:
        environ = {"INSTANCE_NAME": "sensor_hub_01", **settings}
        self.hub = hub = replace(load(environ, secrets_dir=folder), data_dir=folder)
        self.receiver, self.topics = Receiver(), Topics("base", hub.instance_id)
        self.outbox = Outbox(hub, self.topics, self.receiver, time.clock)  # type: ignore[arg-type]

    def start(self) -> World:
        self.mark = self.outbox.start()
        return self

    def put(self, *payloads: str, kind: str = "error", device_id: str = "d", mark: str | None = None) -> None:
        self.outbox.put([Item(device_id, AT, kind, payload.encode()) for payload in payloads], mark)

    def written(self) -> World:
        """All that was put is on the disk, and the outbox looks."""
        assert self.outbox._store.flush(30)
        self.outbox.look()
        return self

    def depth_is(self, depth: int) -> bool:
        return self.outbox.figures(0)["depth"] == depth

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
        (ERROR_GOES_ON, ["devices/d/error"]),
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
    world.put('{"n":1}', '{"n":2}', kind="event")
    eventually(lambda: len(world.receiver.sent) == room)
    world.receiver.room = 1_000_000
    world.outbox.look()
    eventually(lambda: len(world.receiver.sent) == 4)
    assert [text[5] for text in world.receiver.payloads()] == ["1", "1", "2", "2"]


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
    world.put('{"n":1}', kind=ANSWER)
    world.put('{"n":2}', kind=GROUP_ANSWER)
    world.put('{"n":3}', kind="telemetry")
    time.advance(ANSWER_EXPIRES_S / 2)
    world.put('{"n":4}', kind=ANSWER)
    time.advance(ANSWER_EXPIRES_S / 2 + 1)
    world.written()
    with capture_logs() as lines:
        world.receiver.connected = True
        world.outbox.look()
        eventually(lambda: world.receiver.payloads() == ['{"n":4}', '{"n":3}'])
    assert world.outbox.figures(0)["expired"] == 2
    assert [line["event"] for line in lines] == ["an answer is too old to be sent"]
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(0))


def test_an_answer_that_the_output_did_not_take_grows_too_old_like_any_other(
    world: World, time: ManualClock
) -> None:
    world.receiver.room = 0
    world.put('{"n":1}', kind=ANSWER)
    eventually(lambda: world.receiver.asked)
    time.advance(ANSWER_EXPIRES_S + 1)
    world.receiver.room = 1_000_000
    world.put("2")
    eventually(lambda: "2" in world.receiver.payloads())
    assert (world.receiver.payloads(), world.outbox.figures(0)["expired"]) == (["2"], 1)
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


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("event", b"12"),
        ("event", b"{}}"),
        ("error", b'{"a":1'),
        ("telemetry", b""),
        (ANSWER, b'{"a":"\xff"}'),
        ("erros", b"{}"),
        ("", b"{}"),
    ],
)
def test_an_entry_that_a_flipped_bit_spoilt_is_not_sent_and_counts_as_dropped(
    world: World, kind: str, payload: bytes
) -> None:
    with capture_logs() as lines:
        world.outbox.put([Item("d", AT, kind, payload), Item("d", AT, kind, payload)])
        world.put("1", kind="telemetry")
        eventually(lambda: world.receiver.payloads() == ["1"])
    assert [line["event"] for line in lines] == ["an entry of the queue cannot be sent"]
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(0))
    assert world.outbox.figures(0)["dropped"] == 2


# -- three queues


def test_answers_go_first_then_events_and_errors_then_telemetry(world: World) -> None:
    world.receiver.connected = False
    for number, kind in enumerate(("telemetry", "error", ERROR_GOES_ON, GROUP_ANSWER, "telemetry", ANSWER)):
        world.put(str(number), kind=kind)
    world.receiver.connected = True
    world.written()
    eventually(lambda: world.receiver.payloads() == ["3", "5", "1", "2", "0", "4"])


@pytest.mark.parametrize("kind", [ANSWER, "event", "error"])
def test_what_is_fresh_waits_behind_no_telemetry_but_what_is_under_way(world: World, kind: str) -> None:
    world.put(*(str(number) for number in range(500)), kind="telemetry")
    eventually(lambda: len(world.receiver.sent) == WINDOW)
    world.put("{}", kind=kind)
    world.written()
    world.receiver.acknowledge(1)
    eventually(lambda: len(world.receiver.sent) > WINDOW)
    assert world.receiver.payloads()[WINDOW] == "{}"


def test_an_answer_waits_behind_no_events_but_those_under_way(world: World) -> None:
    world.put(*(str(number) for number in range(500)))
    eventually(lambda: len(world.receiver.sent) == WINDOW)
    world.put("{}", kind=ANSWER)
    world.written()
    world.receiver.acknowledge(1)
    eventually(lambda: len(world.receiver.sent) > WINDOW)
    assert world.receiver.payloads()[WINDOW] == "{}"


def test_telemetry_that_is_too_much_pushes_no_event_out(tmp_path: Path, time: ManualClock) -> None:
    most = 40
    world = World(tmp_path, time, QUEUE_ENTRIES=str(most)).start()
    try:
        world.receiver.connected = False
        world.put("0", "1")
        for number in range(100):
            world.put(f"1{number:02}", kind="telemetry")
        world.put('{"a":1}', kind=ANSWER)
        world.written()
        figures, share = world.outbox.figures(0), most // TELEMETRY_SHARE
        assert (figures["depth"], figures["dropped"], figures["dropping"]) == (3 + share, 100 - share, True)
        assert figures["dropped_of"] == {"telemetry": 100 - share}
        world.receiver.connected = True
        world.outbox.look()
        eventually(lambda: len(world.receiver.sent) == WINDOW)
        world.receiver.acknowledge()
        latest = [f"1{number:02}" for number in range(100 - share, 100)]
        eventually(lambda: world.receiver.payloads() == ['{"a":1}', "0", "1", *latest])
    finally:
        world.end()


def test_what_a_version_with_one_queue_left_is_sent_in_its_order_and_its_mark_holds(
    tmp_path: Path, time: ManualClock
) -> None:
    world = World(tmp_path, time)
    store = Store(path_for(world.hub, BRIDGE), time.clock)
    store.start()
    kinds = ("event", "telemetry", ANSWER, "error")
    store.queue(EVENTS).put([Item("d", AT, kind, f'{{"a":"{kind}"}}'.encode()) for kind in kinds], "here")
    store.close(30)
    world.start()
    try:
        assert world.mark == "here"
        topics = ("/events", "/events", "/telemetry", "/cmd/response", "/error")
        eventually(lambda: len(world.receiver.sent) == len(topics))
        ends = zip(world.receiver.sent, topics, strict=True)
        assert all(message.topic.endswith(topic) for message, topic in ends)
        world.receiver.acknowledge()
        eventually(lambda: world.depth_is(0))
    finally:
        world.end()


@pytest.mark.parametrize("kind", [ANSWER, GROUP_ANSWER, "event", "error"])
def test_what_cannot_wait_takes_along_what_can_in_one_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    commits, commit = list[object](), StoreFile.commit

    def counted(self: StoreFile, *arguments: object) -> object:
        commits.append(arguments)
        return commit(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StoreFile, "commit", counted)
    world.outbox._store._commit_s = 3600.0
    for number in range(50):
        world.put(str(number), kind="telemetry", mark=f"mark {number}")
        world.put(str(number), kind=ERROR_GOES_ON, mark=f"mark {number}")
        world.outbox.look()
    assert not world.outbox._store._urgent  # nothing of this is in a hurry
    assert commits == []
    world.put("{}", kind=kind)
    eventually(lambda: len(world.receiver.sent) == WINDOW)
    assert len(commits) == 1
    assert world.depth_is(101)


def test_a_number_of_another_message_acknowledges_nothing(world: World) -> None:
    world.receiver.not_confirmed = {1}
    world.put("1", "2")
    eventually(lambda: len(world.receiver.sent) == 2)
    world.receiver.acknowledge()
    eventually(lambda: world.depth_is(1))
    world.receiver.not_confirmed.clear()
    world.outbox.look()
    eventually(lambda: world.depth_is(0))


def test_the_figures_are_those_of_all_queues_together(world: World, time: ManualClock) -> None:
    world.receiver.connected = False
    world.put("1", kind="telemetry")
    time.advance(5)
    world.put("2")
    world.put("3", kind=ANSWER)
    world.written()
    figures = world.outbox.figures(7)
    size = sum(Item("d", AT, kind, b"1").size for kind in ("telemetry", "error", ANSWER))
    assert (figures["depth"], figures["bytes"], figures["oldest_s"]) == (3, size, 5.0)
    assert (figures["dropped"], figures["expired"], figures["missed"]) == (0, 0, 7)
    assert (figures["dropping"], figures["on_disk"], figures["dropped_of"]) == (False, True, {})


def test_the_last_acknowledgements_are_written_down_whatever_else_goes_wrong_at_the_end(
    tmp_path: Path, time: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, time).start()
    world.put("1", "2")
    eventually(lambda: len(world.receiver.sent) == 2)
    world.receiver.acknowledge(1)
    eventually(lambda: world.depth_is(1))
    world.outbox.stop()
    world.outbox._store._commit_s = 3600.0

    def fail(_number: int) -> bool:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(world.receiver, "confirms", fail)
    world.receiver.acknowledge()
    with pytest.raises(RuntimeError):
        world.outbox.close()
    store = Store(path_for(world.hub, BRIDGE), time.clock)
    store.start()
    try:
        assert store.problem == ""
        assert [each.item.payload for each in store.queue(EVENTS).peek()] == [b"2"]
    finally:
        store.close(30)


def test_an_acknowledgement_of_which_the_other_thread_took_note_is_none_at_the_end(world: World) -> None:
    world.outbox.stop()
    world.outbox._claimed[7] = None
    world.outbox._take_acknowledgements(0.0)
    assert world.outbox._claimed == {}
