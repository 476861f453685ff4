"""From queue to sink: batches, retries, what is acknowledged and what is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.clock import Clock, system_clock
from sensor_hub.config.model import OutputConfig
from sensor_hub.config.options import Settings
from sensor_hub.journal import Had
from sensor_hub.outputs.counts import CountedQueue, Counts
from sensor_hub.outputs.delivery import Delivery
from sensor_hub.outputs.sink import Batching, Message, NotTakenError, Refused, Sink
from sensor_hub.store import Queue, Store
from sensor_hub.store_file import Item, Queued
from tests.contract.output_suite import message
from tests.support import eventually


class Scripted(Sink):
    """Takes what it is told to take."""

    name = "scripted"
    settings = Settings
    pause_s = (0.01, 0.05)

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self.batches: list[list[str]] = []
        self.answers: list[Exception | Refused | None] = []
        self.closed = False

    @classmethod
    def of(cls, output: OutputConfig, instance_id: str, folder: Path) -> Scripted:
        return cls(Batching(10, 0.0))

    @property
    def batching(self) -> Batching:
        return self._batching

    def send(self, messages: Sequence[Message]) -> Refused | None:
        self.batches.append([each.id for each in messages])
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


def read(queued: Queued) -> Message:
    text = queued.item.payload.decode()
    if text == "nonsense":
        raise ValueError("is no reading")
    return message(int(text), {"value": 1})


Put = Callable[..., None]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    store = Store(tmp_path / "q.sqlite3", system_clock(), 0.01)
    store.start()
    yield store.queue("readings")
    store.close()


def put(queue: Queue, *words: object) -> None:
    queue.put([Item("a", "2026-03-01T12:00:00.000+00:00", "reading", str(word).encode()) for word in words])
    assert queue.flush(30)


def in_minutes() -> Clock:
    """A clock whose every look at it is a minute and a second after the last."""
    looks = count()
    return Clock(system_clock().now, lambda: 61.0 * next(looks))


class Running:
    """A delivery in a thread."""

    def __init__(self, sink: Scripted, queue: Queue, clock: Clock | None = None) -> None:
        self.stop = threading.Event()
        self.delivery = Delivery("history", sink, CountedQueue(queue), read, clock or system_clock())
        self.thread = threading.Thread(target=self.delivery.run, args=(self.stop, lambda: 0.5))
        self.thread.start()

    def __enter__(self) -> Delivery:
        return self.delivery

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.delivery.wake()
        self.thread.join(30)
        assert not self.thread.is_alive()


def ids(*numbers: int) -> list[str]:
    return [f"0123456789ab-{number}" for number in numbers]


def test_what_is_there_is_sent_in_batches_and_acknowledged(queue: Queue) -> None:
    put(queue, *range(25))
    sink = Scripted(Batching(10, 0.0))
    with Running(sink, queue):
        eventually(lambda: queue.figures().depth == 0)
    assert sink.batches == [ids(*range(10)), ids(*range(10, 20)), ids(*range(20, 25))]
    assert sink.closed
    assert queue.peek() == []


def test_a_small_batch_waits_until_it_is_old_enough_a_full_one_does_not(queue: Queue) -> None:
    sink = Scripted(Batching(10, 3600.0))
    put(queue, *range(15))
    with Running(sink, queue):
        eventually(lambda: queue.figures().depth == 5)
    assert sink.batches == [ids(*range(10))]


def test_a_batch_that_was_not_taken_comes_again_until_it_is(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [NotTakenError("away"), NotTakenError("still away")]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    report = delivery.report("")
    assert sink.batches == [ids(0, 1, 2)] * 3
    assert (report.state, report.problem, report.counts) == ("up", "", Counts(sent=3))


def test_while_it_is_not_taken_the_reason_is_told_and_nothing_leaves_the_queue(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [NotTakenError("away", retry_after_s=3600.0)]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: delivery.report("").problem)
        report = delivery.report("no disk").body()
    expected = {"state": "failing", "problem": "away", "sent": 0, "refused": 0, "store_problem": "no disk"}
    assert expected.items() <= report.items()
    assert report["queue"] == {**queue.figures().body(), "oldest_s": report["queue"]["oldest_s"]}  # type: ignore[index,call-overload]
    assert [each.item.payload for each in queue.peek()] == [b"0", b"1", b"2"]


def test_what_is_refused_for_good_is_counted_and_not_sent_again(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [Refused(2, "type conflict")]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    assert (len(sink.batches), delivery.report("").counts) == (1, Counts(sent=1, refused=2))


def test_a_receiver_that_refuses_more_than_it_was_sent_refused_all_of_it(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [Refused(7, "unable to parse 'it'")]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    assert delivery.report("").counts == Counts(sent=0, refused=3)
    assert CountedQueue(queue).counts == Counts(sent=0, refused=3)


def test_an_entry_that_cannot_be_read_is_dropped_and_stops_nothing(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    put(queue, 0, "nonsense", 2)
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    assert sink.batches == [ids(0, 2)]
    assert delivery.report("").counts == Counts(sent=2, refused=1)


def test_pauses_double_up_to_the_longest(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.pause_s = (1.0, 5.0)  # type: ignore[misc]
    delivery = Delivery("history", sink, CountedQueue(queue), read, system_clock())
    put(queue, 1)
    batch = queue.peek()
    sink.answers = [*[NotTakenError("away")] * 4, NotTakenError("busy", 60.0), None, NotTakenError("away")]
    assert [delivery._deliver(batch) for _ in range(7)] == [1.0, 2.0, 4.0, 5.0, 60.0, None, 1.0]


def test_a_defect_of_a_sink_loses_nothing_ends_nothing_and_is_told_once_with_its_trace(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [ZeroDivisionError(), ZeroDivisionError(), TypeError(), NotTakenError("away", 3600.0)]
    put(queue, *range(3))
    with capture_logs() as told, Running(sink, queue, in_minutes()) as delivery:
        eventually(lambda: delivery.report("").problem == "away")
    assert sink.batches == [ids(0, 1, 2)] * 4
    assert [each.item.payload for each in queue.peek()] == [b"0", b"1", b"2"]
    said = [(each["event"], each.get("reason")) for each in told]
    assert said == [
        ("output failed unexpectedly", None),
        ("output does not deliver", "internal error (ZeroDivisionError), see the log"),
        ("output failed unexpectedly", None),
        ("output does not deliver", "internal error (TypeError), see the log"),
        ("output does not deliver", "away"),
    ]
    assert [each.get("exc_info") for each in told] == [True, None, True, None, None]


def test_what_the_system_refuses_is_told_in_its_own_words_and_without_a_trace(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [OSError("the CA file is gone"), NotTakenError("away", 3600.0)]
    put(queue, 1)
    with capture_logs() as told, Running(sink, queue, in_minutes()) as delivery:
        eventually(lambda: delivery.report("").problem == "away")
    said = [(each["event"], each["reason"], "exc_info" in each) for each in told]
    assert said == [
        ("output does not deliver", "the CA file is gone", False),
        ("output does not deliver", "away", False),
    ]


# -- what is said of a database that comes and goes -----------------------------------------------------------------


class Telling:
    """A delivery that is driven by hand, and what it said at which second."""

    def __init__(self, queue: Queue) -> None:
        self.now = 0.0
        self.sink = Scripted(Batching(10, 0.0))
        clock = Clock(system_clock().now, lambda: self.now)
        self.delivery = Delivery("history", self.sink, CountedQueue(queue), read, clock)
        self.said: list[tuple[float, str]] = []
        put(queue, 1)
        self._batch = queue.peek()

    def deliver(self, answer: Exception | None, at: float) -> None:
        self.now, self.sink.answers = at, [answer]
        with capture_logs() as told:
            self.delivery._deliver(self._batch)
        self.said += [(at, str(each.get("reason", each["event"]))) for each in told]

    def idle(self, at: float) -> None:
        self.now = at
        with capture_logs() as told:
            self.delivery._tell_recovery()
        self.said += [(at, each["event"]) for each in told]


def test_a_database_that_takes_every_other_batch_is_told_of_twice_a_minute(queue: Queue) -> None:
    its = Telling(queue)
    for second in range(0, 180, 2):
        its.deliver(None, second)
        its.deliver(NotTakenError("busy"), second + 1)
    assert its.said == [
        (0, "output delivers"),
        (1, "busy"),
        (2, "output delivers"),
        (61, "busy"),
        (62, "output delivers"),
        (121, "busy"),
        (122, "output delivers"),
    ]


def test_a_reason_with_the_number_of_a_request_is_told_once_a_minute(queue: Queue) -> None:
    its = Telling(queue)
    for second in range(130):
        its.deliver(NotTakenError(f"HTTP 500: request {second}"), second)
    assert its.said == [(second, f"HTTP 500: request {second}") for second in (0, 60, 120)]
    assert its.delivery.report("").problem == "HTTP 500: request 129"


def test_the_same_reason_is_repeated_every_five_minutes(queue: Queue) -> None:
    its = Telling(queue)
    for second in range(0, 901, 10):
        its.deliver(NotTakenError("away"), second)
    assert its.said == [(second, "away") for second in (0, 300, 600, 900)]


def test_the_logs_last_word_is_true_a_minute_later_also_when_nothing_is_sent_any_more(queue: Queue) -> None:
    its = Telling(queue)
    for second, answer in ((0, NotTakenError("away")), (20, None), (61, NotTakenError("away")), (62, None)):
        its.deliver(answer, second)
    for second in (79, 81, 200):
        its.idle(second)
    assert its.said == [(0, "away"), (20, "output delivers"), (61, "away"), (81, "output delivers")]


class Timed(Scripted):
    """Whose every answer comes at a second of its own."""

    now = 0.0

    def send(self, messages: Sequence[Message]) -> Refused | None:
        self.now = (0.0, 30.0, 61.0, 62.0)[len(self.batches)]
        return super().send(messages)


def test_one_that_has_nothing_to_send_any_more_tells_that_it_delivers_all_the_same(queue: Queue) -> None:
    sink = Timed(Batching(1, 0.0))
    sink.answers = [NotTakenError("away"), None, NotTakenError("away"), None]
    put(queue, 1, 2)
    clock = Clock(system_clock().now, lambda: sink.now)
    with capture_logs() as told, Running(sink, queue, clock):
        eventually(lambda: queue.figures().depth == 0)
        assert [each["event"] for each in told].count("output delivers") == 1
        sink.now = 91.0
        eventually(lambda: [each["event"] for each in told].count("output delivers") == 2)


def test_a_defect_that_comes_and_goes_has_one_trace_a_minute(queue: Queue) -> None:
    its = Telling(queue)
    for second in range(0, 120, 2):
        its.deliver(ZeroDivisionError(), second)
        its.deliver(None, second + 1)
    traces = [second for second, said in its.said if said == "output failed unexpectedly"]
    assert traces == [0, 60]


# -- what is counted outlives the process --------------------------------------------------------------------------


def test_counts_and_how_far_the_journal_was_had_are_kept_in_the_queues_file(tmp_path: Path) -> None:
    for first in (0, 10):
        store = Store(tmp_path / "q.sqlite3", system_clock(), 0.01)
        store.start()
        counted = CountedQueue(store.queue("readings"))
        assert counted.had == ("" if first == 0 else "0123456789ab-9 aaaaaaaaaaaa-1")
        assert counted.counts == (
            Counts() if first == 0 else Counts(sent=7, refused=3, missed=5, interrupted=1)
        )
        items = [Item("a", "2026-03-01T12:00:00.000+00:00", "reading", b"1")] * 10
        counted.put(items, f"0123456789ab-{first + 9} aaaaaaaaaaaa-1", missed=5, interrupted=1)
        assert counted.queue.flush(30)
        counted.ack([each.id for each in counted.queue.peek(100)], sent=7, refused=3)
        store.close(30)
    assert counted.counts == Counts(sent=14, refused=6, missed=10, interrupted=2)
    assert counted.had == "0123456789ab-19 aaaaaaaaaaaa-1"


def test_a_mark_of_an_earlier_version_is_read_and_one_of_a_later_one_costs_nothing(queue: Queue) -> None:
    queue.put([], mark="0123456789ab-9 aaaaaaaaaaaa-1")
    assert (CountedQueue(queue).had, CountedQueue(queue).counts) == (
        "0123456789ab-9 aaaaaaaaaaaa-1",
        Counts(),
    )
    queue.put([], mark="0123456789ab-9 sent=3 later=7 refused=x")
    assert CountedQueue(queue).counts == Counts(sent=3)
    assert Had.load(CountedQueue(queue).had).dump() == "0123456789ab-9"
