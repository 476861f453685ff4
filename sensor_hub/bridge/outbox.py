"""What must not be lost on its way to the broker: on disk before it is sent, removed once it is acknowledged."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sensor_hub import logs, threads, wire
from sensor_hub.clock import Clock
from sensor_hub.config.model import BRIDGE, HubConfig
from sensor_hub.outputs.base import Message, Output
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Json
from sensor_hub.store import Queue, Store, path_for
from sensor_hub.store_file import Item, Limits, Queued
from sensor_hub.store_queue import total

log = logs.get(__name__)

# The queues, each with its own limits. In the one of events and errors, versions before had all kinds: what they left
# is sent from there.
EVENTS, ANSWERS, TELEMETRY = "mqtt", "answers", "telemetry"
_WORDS = {EVENTS: "events"}  # for people
ANSWER_LIMITS = Limits(10_000, 8 * 1024 * 1024)  # they are for five minutes
TELEMETRY_SHARE = 4  # it gets a quarter of what events may take, beside that
# Messages of the queue under way at once, one more when an event's two come last: fewer than paho sends
# unacknowledged (20), so that a state never waits behind more than these, however many old events there are.
WINDOW = 10
BATCH = 100  # entries read from the disk at once
ANSWER_EXPIRES_S = 300.0  # who asked is told at most so late; as long as the id of a command is remembered
LOOK_S = 1.0  # what nobody tells of (a connection, a disk that is back) is noticed within this

# Kinds of entries beside these: event, error. A group's answer has its id as `device_id`.
ANSWER, GROUP_ANSWER, TELEMETRY_ROW = "answer", "group_answer", "telemetry"
ERROR_GOES_ON = "error_goes_on"  # kept as an error
_QUEUE_OF = {ANSWER: ANSWERS, GROUP_ANSWER: ANSWERS, TELEMETRY_ROW: TELEMETRY}
_CAN_WAIT = (TELEMETRY_ROW, ERROR_GOES_ON)  # for the commit of the second; a kill may cost what came in it


@dataclass(eq=False, slots=True)
class _Source:
    """A queue, and what was read of it and not sent."""

    queue: Queue
    next: deque[Queued] = field(default_factory=deque)
    last: int = 0  # the id up to which entries were read
    may_be_more: bool = True  # above that

    def take(self) -> Queued | None:
        """The next entry, once."""
        if not self.next and self.may_be_more:
            found = self.queue.peek(BATCH, after=self.last)
            self.may_be_more = len(found) == BATCH
            self.next.extend(found)
            self.last = found[-1].id if found else self.last
        return self.next.popleft() if self.next else None


@dataclass(eq=False, slots=True)
class _Sending:
    """An entry under way."""

    source: _Source
    entry: Queued
    rest: list[Message]  # not handed over yet
    owed: int  # messages that are not acknowledged


class Outbox:
    """`put` is thread-safe and never waits; a thread of its own sends: answers, then events and errors, then telemetry.

    Each in the order put, at least once. An entry that comes again is the same to the byte: its topic and its timestamp
    are its identity.
    """

    def __init__(self, hub: HubConfig, topics: Topics, output: Output, clock: Clock) -> None:
        """Reach for nothing before `start`."""
        self._topics, self._output, self._clock = topics, output, clock
        self._source = hub.instance_id
        self._store = Store(path_for(hub, BRIDGE), clock)
        entries, size = hub.queue_entries, hub.queue_bytes
        limits = {
            ANSWERS: ANSWER_LIMITS,
            EVENTS: Limits(entries, size),
            TELEMETRY: Limits(max(1, entries // TELEMETRY_SHARE), size // TELEMETRY_SHARE),
        }
        # In the order in which they are looked at.
        self._sources = {name: _Source(self._store.queue(name, each)) for name, each in limits.items()}
        self._told: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # acknowledged numbers; None: look
        self._claimed: dict[int, None] = {}  # numbers that were told, and are not confirmed
        self._sending: _Sending | None = None  # what the output did not take all of
        self._under_way: dict[int, _Sending] = {}  # by the numbers of messages
        self._expired = 0
        self._often = logs.OncePerMinute()
        self._stopping, self._stopped = threading.Event(), threading.Event()

    def start(self) -> str:
        """Open the queues and begin to send when the output is connected. The mark that was kept last."""
        self._store.start()
        events = self._sources[EVENTS].queue
        events.when_committed(self.look)
        self._output.when_acknowledged(self._told.put)
        threads.start("outbox", self._run, self._stopping)
        return events.mark

    def put(self, items: Sequence[Item], mark: str | None = None) -> None:
        """Keep them, and send each kind in this order. `mark` is kept with events and errors, or not at all."""
        for name, source in self._sources.items():
            ours = [each for each in items if _QUEUE_OF.get(each.kind, EVENTS) == name]
            its_mark = mark if name == EVENTS else None
            if ours or its_mark is not None:
                at_once = not items or any(each.kind not in _CAN_WAIT for each in ours)
                source.queue.put([_kept(each) for each in ours], its_mark, at_once=at_once)
        if self._store.problem:  # else the store tells when they are on the disk
            self.look()

    def look(self) -> None:
        """There may be something to send, or somebody to send it to."""
        self._told.put(None)

    def figures(self, missed: int) -> dict[str, Json]:
        """How the queues are together, and which lost what; `expired`: answers that were given up since the start.

        `missed`: what the journal no longer had, which who follows it counts.
        """
        found = {name: source.queue.figures() for name, source in self._sources.items()}
        lost: dict[str, Json] = {
            _WORDS.get(name, name): each.dropped for name, each in found.items() if each.dropped
        }
        together = total(list(found.values())).body()
        return {**together, "dropped_of": lost, "expired": self._expired, "missed": missed}

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping.set()
        self.look()
        self._stopped.wait(1.0)

    def close(self) -> None:
        """After the output has stopped: write down what was acknowledged meanwhile."""
        try:
            self._take_acknowledgements(0.0)
        finally:
            self._store.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._take_acknowledgements(LOOK_S)
            self._send()
        self._stopped.set()

    def _take_acknowledgements(self, within_s: float) -> None:
        """Those that have come, or the first to come in that time; none is a reason to look, too."""
        try:
            number = self._told.get(timeout=within_s)
        except queue.Empty:
            number = None
        try:
            while True:
                self._note(number)
                number = self._told.get_nowait()
        except queue.Empty:
            pass
        for number in [each for each in list(self._claimed) if self._output.confirms(each)]:
            self._claimed.pop(number, None)
            sending = self._under_way.pop(number, None)
            if sending is None:  # at the end, when the disk is slow, two threads are here
                continue
            sending.owed -= 1
            if not sending.owed:
                sending.source.queue.ack([sending.entry.id])

    def _note(self, number: int | None) -> None:
        if number is None:
            for source in self._sources.values():
                source.may_be_more = True
        elif number in self._under_way:
            self._claimed[number] = None

    def _send(self) -> None:
        while self._output.connected and len(self._under_way) < WINDOW and not self._stopping.is_set():
            sending = self._sending = self._sending or self._next()
            if sending is None:
                return
            if self._is_too_late(sending.entry):  # asked again of one that waited here for a connection
                sending.source.queue.ack([sending.entry.id])
            elif not self._hand_over(sending):
                return
            self._sending = None

    def _next(self) -> _Sending | None:
        """The first entry of the first queue that has one."""
        for source in self._sources.values():
            while (entry := source.take()) is not None:
                try:
                    messages = self._messages(entry.item)
                except ValueError as error:
                    self._refuse(source, entry.id, error)
                    continue
                return _Sending(source, entry, messages, len(messages))
        return None

    def _hand_over(self, sending: _Sending) -> bool:
        """Whether it is out of our hands."""
        try:
            while sending.rest:
                number = self._output.hand_over(sending.rest[0])
                if number is None:
                    return False
                self._under_way[number] = sending
                del sending.rest[0]
        except ValueError as error:
            self._refuse(sending.source, sending.entry.id, error)
        return True

    def _refuse(self, source: _Source, entry_id: int, error: ValueError) -> None:
        """What can never be sent must not stop all that comes after it."""
        source.queue.give_up([entry_id])
        passes, held = self._often.passes("refused")
        if passes:
            log.error("an entry of the queue cannot be sent", reason=str(error), held_back=held)

    def _is_too_late(self, entry: Queued) -> bool:
        age_s = self._clock.now().timestamp() - entry.at
        if entry.item.kind not in (ANSWER, GROUP_ANSWER) or age_s <= ANSWER_EXPIRES_S:
            return False
        self._expired += 1
        passes, held = self._often.passes("expired")
        if passes:
            log.warning(
                "an answer is too old to be sent", to=entry.item.device_id, age_s=round(age_s), held_back=held
            )
        return True

    def _messages(self, item: Item) -> list[Message]:
        """Raises ValueError for what no version of ours put: a card may flip a bit of it."""
        device_id, payload = item.device_id, item.payload.decode()
        body = wire.loads(payload, wire.INNER_NESTING)
        match item.kind:
            case "event" if not isinstance(body, dict):
                raise ValueError("an event is no object")
            case "event":
                # The same for all instances: the payload, with one more key.
                world = f'{payload[:-1]},"source":"{self._source}_{device_id}"}}'
                own = Message(self._topics.device(device_id, "events"), payload)
                return [own, Message(self._topics.global_events, world)]
            case "answer":
                return [Message(self._topics.device(device_id, "cmd/response"), payload)]
            case "group_answer":
                return [Message(self._topics.group_response(device_id), payload)]
            case "error" | "telemetry" as leaf:
                return [Message(self._topics.device(device_id, leaf), payload)]
            case other:
                raise ValueError(f"no entry is of kind {other!r}")


def _kept(item: Item) -> Item:
    return replace(item, kind="error") if item.kind == ERROR_GOES_ON else item
