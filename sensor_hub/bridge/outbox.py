"""What must not be lost on its way to the broker: on disk before it is sent, removed once it is acknowledged."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence

from sensor_hub import logs, threads
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.base import Message, Output
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Json
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item, Limits, Queued

log = logs.get(__name__)

PROCESS, QUEUE = "mqtt-bridge", "mqtt"
# Messages of the queue under way at once: fewer than paho sends unacknowledged (20), so that a state never waits
# behind more than these, however many old events there are.
WINDOW = 10
BATCH = 100  # entries read from the disk at once
ANSWER_EXPIRES_S = 300.0  # who asked is told at most so late; as long as the id of a command is remembered
LOOK_S = 1.0  # what nobody tells of (a connection, a disk that is back) is noticed within this

# Kinds of entries beside these: event, error, telemetry. A group's answer has its id as `device_id`.
ANSWER, GROUP_ANSWER = "answer", "group_answer"


class Outbox:
    """`put` is thread-safe and never waits; a thread of its own sends. In order, at least once.

    An entry that comes again is the same to the byte: its topic and its timestamp are its identity.
    """

    def __init__(self, hub: HubConfig, topics: Topics, output: Output, clock: Clock) -> None:
        """Reach for nothing before `start`."""
        self._topics, self._output, self._clock = topics, output, clock
        self._source = hub.instance_id
        self._store = Store(path_for(hub, PROCESS), clock)
        self._queue = self._store.queue(QUEUE, Limits(hub.queue_entries, hub.queue_bytes))
        self._told: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # acknowledged numbers; None: look
        self._next: deque[Queued] = deque()  # read from the disk, not sent
        self._last = 0  # the id up to which entries were read
        self._may_be_more = True  # above that
        self._under_way: dict[int, int] = {}  # number of a message -> id of its entry
        self._owed: dict[int, int] = {}  # id of an entry -> its messages that are not acknowledged
        self._rest: list[Message] = []  # of the entry that is being sent
        self._expired = 0
        self._expiry_told = logs.OncePerMinute()
        self._stopping, self._stopped = threading.Event(), threading.Event()

    def start(self) -> str:
        """Open the queue and begin to send when the output is connected. The mark that was kept last."""
        self._store.start()
        self._queue.when_committed(self.look)
        self._output.when_acknowledged(self._told.put)
        threads.start("outbox", self._run, self._stopping)
        return self._queue.mark

    def put(self, items: Sequence[Item], mark: str | None = None) -> None:
        """Keep them, and send them in this order. `mark` is kept with them or not at all."""
        self._queue.put(items, mark, at_once=True)
        if self._store.problem:  # else the store tells when they are on the disk
            self.look()

    def look(self) -> None:
        """There may be something to send, or somebody to send it to."""
        self._told.put(None)

    def figures(self) -> dict[str, Json]:
        """How the queue is; `expired`: answers that were given up since the start."""
        return {**self._queue.figures().body(), "expired": self._expired}

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping.set()
        self.look()
        self._stopped.wait(1.0)

    def close(self) -> None:
        """After the output has stopped: write down what was acknowledged meanwhile."""
        self._take_acknowledgements(0.0)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._take_acknowledgements(LOOK_S)
            self._send()
        self._stopped.set()

    def _take_acknowledgements(self, within_s: float) -> None:
        """Those that have come, or the first to come in that time; none is a reason to look, too."""
        done: list[int] = []
        try:
            number = self._told.get(timeout=within_s)
        except queue.Empty:
            number = None
        try:
            while True:
                self._may_be_more = self._may_be_more or number is None
                entry_id = None if number is None else self._under_way.pop(number, None)
                if entry_id is not None and self._is_done(entry_id):
                    done.append(entry_id)
                number = self._told.get_nowait()
        except queue.Empty:
            self._queue.ack(done)

    def _is_done(self, entry_id: int) -> bool:
        self._owed[entry_id] -= 1
        if self._owed[entry_id]:
            return False
        del self._owed[entry_id]
        return True

    def _send(self) -> None:
        while self._output.connected and len(self._under_way) < WINDOW and not self._stopping.is_set():
            if not self._next and not self._read():
                return
            try:
                if not self._hand_over(self._next[0]):
                    return
            except ValueError as error:  # what can never be sent must not stop all that comes after it
                log.error("an entry of the queue cannot be sent", reason=str(error))
                self._queue.ack([self._next[0].id])
            self._next.popleft()

    def _read(self) -> bool:
        if self._may_be_more:
            found = self._queue.peek(BATCH, after=self._last)
            self._may_be_more = len(found) == BATCH
            self._next.extend(found)
            self._last = found[-1].id if found else self._last
        return bool(self._next)

    def _hand_over(self, entry: Queued) -> bool:
        """Whether all of its messages are under way."""
        if entry.id not in self._owed:
            if self._is_too_late(entry):
                self._queue.ack([entry.id])
                return True
            self._rest = self._messages(entry.item)
            self._owed[entry.id] = len(self._rest)
        while self._rest:
            number = self._output.hand_over(self._rest[0])
            if number is None:
                return False
            self._under_way[number] = entry.id
            del self._rest[0]
        return True

    def _is_too_late(self, entry: Queued) -> bool:
        age_s = self._clock.now().timestamp() - entry.at
        if entry.item.kind not in (ANSWER, GROUP_ANSWER) or age_s <= ANSWER_EXPIRES_S:
            return False
        self._expired += 1
        passes, held = self._expiry_told.passes("expired")
        if passes:
            log.warning(
                "an answer is too old to be sent", to=entry.item.device_id, age_s=round(age_s), held_back=held
            )
        return True

    def _messages(self, item: Item) -> list[Message]:
        device_id, payload = item.device_id, item.payload.decode()
        match item.kind:
            case "event":
                # The same for all instances: the payload, with one more key.
                world = f'{payload[:-1]},"source":"{self._source}_{device_id}"}}'
                own = Message(self._topics.device(device_id, "events"), payload)
                return [own, Message(self._topics.global_events, world)]
            case "answer":
                return [Message(self._topics.device(device_id, "cmd/response"), payload)]
            case "group_answer":
                return [Message(self._topics.group_response(device_id), payload)]
            case leaf:
                return [Message(self._topics.device(device_id, leaf), payload)]
