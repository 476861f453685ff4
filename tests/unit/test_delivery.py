"""From queue to sink: batches, retries, what is acknowledged and what is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.config.model import OutputConfig
from sensor_hub.config.options import Settings
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
        self.answers: list[NotTakenError | Refused | None] = []
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
        if isinstance(answer, NotTakenError):
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


class Running:
    """A delivery in a thread."""

    def __init__(self, sink: Scripted, queue: Queue) -> None:
        self.stop = threading.Event()
        self.delivery = Delivery("history", sink, queue, read, system_clock())
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
    report = delivery.report(0, 0, "")
    assert sink.batches == [ids(0, 1, 2)] * 3
    assert (report.state, report.problem, report.sent, report.refused) == ("up", "", 3, 0)


def test_while_it_is_not_taken_the_reason_is_told_and_nothing_leaves_the_queue(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [NotTakenError("away", retry_after_s=3600.0)]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: delivery.report(0, 0, "").state == "failing")
        report = delivery.report(2, 1, "no disk").body()
    expected = {"problem": "away", "sent": 0, "missed": 2, "interrupted": 1, "store_problem": "no disk"}
    assert expected.items() <= report.items()
    assert report["queue"] == {**queue.figures().body(), "oldest_s": report["queue"]["oldest_s"]}  # type: ignore[index,call-overload]
    assert [each.item.payload for each in queue.peek()] == [b"0", b"1", b"2"]


def test_what_is_refused_for_good_is_counted_and_not_sent_again(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.answers = [Refused(2, "type conflict")]
    put(queue, *range(3))
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    report = delivery.report(0, 0, "")
    assert (len(sink.batches), report.sent, report.refused) == (1, 1, 2)


def test_an_entry_that_cannot_be_read_is_dropped_and_stops_nothing(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    put(queue, 0, "nonsense", 2)
    with Running(sink, queue) as delivery:
        eventually(lambda: queue.figures().depth == 0)
    report = delivery.report(0, 0, "")
    assert sink.batches == [ids(0, 2)]
    assert (report.sent, report.refused) == (2, 1)


def test_pauses_double_up_to_the_longest(queue: Queue) -> None:
    sink = Scripted(Batching(10, 0.0))
    sink.pause_s = (1.0, 5.0)  # type: ignore[misc]
    delivery = Delivery("history", sink, queue, read, system_clock())
    put(queue, 1)
    batch = queue.peek()
    sink.answers = [*[NotTakenError("away")] * 4, NotTakenError("busy", 60.0), None, NotTakenError("away")]
    assert [delivery._deliver(batch) for _ in range(7)] == [1.0, 2.0, 4.0, 5.0, 60.0, None, 1.0]


def test_a_defect_of_a_sink_ends_it_and_closes_it(queue: Queue) -> None:
    class Defect(Scripted):
        def send(self, messages: Sequence[Message]) -> Refused | None:
            raise ZeroDivisionError

    sink = Defect(Batching(10, 0.0))
    put(queue, 1)
    with pytest.raises(ZeroDivisionError):
        Delivery("history", sink, queue, read, system_clock()).run(threading.Event(), lambda: 0.5)
    assert sink.closed
    assert len(queue.peek()) == 1
