"""One output at work: it follows the aggregator's journal into its queue on disk, and its sink gets what is there."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from sensor_hub import logs, threads, wire
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import Clock
from sensor_hub.config.model import OutputConfig
from sensor_hub.crew.hosts import Emit, Host
from sensor_hub.crew.messages import Beat, Request
from sensor_hub.errors import HubError, TransportDown
from sensor_hub.journal import Had, News, is_entry_id
from sensor_hub.outputs import OUTPUTS
from sensor_hub.outputs.counts import CountedQueue
from sensor_hub.outputs.delivery import Delivery, Report
from sensor_hub.outputs.sink import NO_INFO, Message, Sink
from sensor_hub.readings import Entry, Json
from sensor_hub.store import Store
from sensor_hub.store_file import Item, Limits, Queued

log = logs.get(__name__)

QUEUE = "readings"
PAGE = 1000  # entries at once mean that there is much to catch up with
PACE_S = 0.25  # a history need not hear of each reading at once, and so is asked for many with one request
CATCHES_UP_WITHIN_S = 10.0  # how long the disk may take for them
WRITES_WITHIN_S = 0.7  # how long it may take for the last ones
BEAT_S = 5.0
HUNG_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class FollowerSetup:
    """What an output needs to know; it pickles. `devices`: those whose data goes to it, and their lines' ids."""

    output: OutputConfig
    instance_id: str
    aggregator_url: str
    devices: Mapping[str, str]
    infos: Mapping[str, Mapping[str, Json]]  # source_transport_info by line
    queue_file: Path
    sinks: Mapping[str, type[Sink]] = field(default_factory=lambda: dict(OUTPUTS))


def item_of(entry: Entry, source_transport: str) -> Item:
    """A reading as the queue keeps it, without what the configuration knows."""
    snapshot = entry.snapshot
    assert snapshot.reading is not None
    body: dict[str, Json] = {
        "id": entry.id,
        "type": snapshot.sensor_type,
        "quality": str(snapshot.quality),
        "source": source_transport,
        "data": dict(snapshot.reading.values),
    }
    if snapshot.extra:
        body["extra"] = dict(snapshot.extra)
    timestamp = wire.timestamp_text(snapshot.reading.timestamp)
    return Item(snapshot.device_id, timestamp, "reading", wire.dumps(body).encode())


def message_of(queued: Queued, setup: FollowerSetup) -> Message:
    """The message that a queued reading makes. Raises ValueError for one that no version of this module wrote."""
    body = wire.loads(queued.item.payload, wire.INNER_NESTING)
    if not isinstance(body, dict):
        raise ValueError("a queued reading is not an object")
    data, extra, source = body.get("data"), body.get("extra"), str(body.get("source"))
    entry_id = body.get("id")
    if not isinstance(entry_id, str) or not is_entry_id(entry_id):
        raise ValueError("a queued reading has no id")
    if datetime.fromisoformat(queued.item.timestamp).tzinfo is None:
        raise ValueError("the timestamp of a queued reading has no zone")
    return Message(
        id=entry_id,
        device_id=queued.item.device_id,
        device_type=str(body.get("type")),
        timestamp=queued.item.timestamp,
        quality=str(body.get("quality")),
        source_transport=source,
        target_transport=setup.output.output_id,
        data=data if isinstance(data, dict) else {},
        source_transport_info=setup.infos.get(source, NO_INFO),
        extra=extra if isinstance(extra, dict) else {},
    )


class FollowerHost(Host):
    """Does the work of one output: `run` delivers, a thread beside it follows."""

    def __init__(self, setup: FollowerSetup, clock: Clock) -> None:
        """Open nothing before `run`."""
        self._setup, self._clock = setup, clock
        self._stopping = threading.Event()
        self._store = Store(setup.queue_file, clock)
        self._delivery: Delivery | None = None
        self._closing = threading.Lock()  # held while something is put, and when nothing may be any more
        self._often = logs.OncePerMinute()

    @property
    def pid(self) -> int:
        """Our own."""
        return os.getpid()

    def run(self, emit: Emit) -> str:
        """Until `stop`."""
        output = self._setup.output
        self._store.start()
        try:
            queue = CountedQueue(self._store.queue(QUEUE, Limits(output.queue_entries, output.queue_bytes)))
            sink = self._setup.sinks[output.output_type](
                output, self._setup.instance_id, self._setup.queue_file.parent
            )
            delivery = Delivery(
                output.output_id, sink, queue, partial(message_of, setup=self._setup), self._clock
            )
            self._delivery = delivery
            emit(self._report(delivery))  # who has said something may be asked
            threads.start("beat", lambda: self._beat(emit), self._stopping)
            threads.start("follow", lambda: self._follow(queue, delivery.wake), self._stopping)
            delivery.run(self._stopping, random.random)
        finally:
            self._stopping.set()
            with (
                self._closing
            ):  # whoever follows may be in a request that nothing ends; it puts nothing from now on
                self._store.close()
        return "it was told to stop"

    def _beat(self, emit: Emit) -> None:
        """Say that the process runs; how long its receiver takes is a matter of the sink's timeouts."""
        while not self._stopping.wait(BEAT_S):
            emit(Beat())

    def _follow(self, queue: CountedQueue, wake: Callable[[], None]) -> None:
        client = AggregatorClient(self._setup.aggregator_url, self._setup.instance_id)
        take = partial(self._take, queue, wake)
        client.follow_journal(take, self._lost, self._stopping, Had.load(queue.had))

    def _take(self, queue: CountedQueue, wake: Callable[[], None], news: News) -> None:
        devices = self._setup.devices
        items = [
            item_of(entry, devices[entry.snapshot.device_id])
            for entry in news.entries
            if entry.snapshot.reading is not None and entry.snapshot.device_id in devices
        ]
        with self._closing:
            if self._stopping.is_set():
                return
            queue.put(items, news.mark, missed=news.missed, interrupted=int(news.is_anew))
        if news.missed:
            self._tell_loss(news.missed, queue.counts.missed)
        wake()
        if len(news.entries) < PAGE:
            self._stopping.wait(PACE_S)
        elif not self._store.problem:
            queue.queue.flush(
                CATCHES_UP_WITHIN_S
            )  # the journal can wait; memory has room for some pages only

    def _tell_loss(self, count: int, total: int) -> None:
        """Nobody knows of which devices they were, nor whether they were readings."""
        passes, _ = self._often.passes("missed")
        if passes:
            output_id = self._setup.output.output_id
            log.error(
                "entries of the journal were missed, readings may be",
                output=output_id,
                count=count,
                total=total,
            )

    def _lost(self, error: HubError) -> None:
        passes, _ = self._often.passes(error.code)
        if passes:
            log.warning("feed lost", output=self._setup.output.output_id, reason=str(error))

    def send(self, request: Request) -> None:
        """There is nothing that it could be asked but its report."""
        raise TransportDown("an output takes no requests")

    def stop(self) -> None:
        """After the batch under way. What was taken is on the disk then, also if that batch never ends."""
        self._stopping.set()
        if self._delivery is not None:
            self._delivery.wake()
            if not self._store.problem:
                self._delivery.queue.flush(WRITES_WITHIN_S)

    def kill(self) -> None:
        """It ends with its batch."""

    def answer(self, request: Request) -> Report | None:
        """How it is."""
        return None if self._delivery is None else self._report(self._delivery)

    def _report(self, delivery: Delivery) -> Report:
        return delivery.report(self._store.problem)


@dataclass(frozen=True, slots=True)
class FollowerJob:
    """An output for a process of its own."""

    setup: FollowerSetup

    @property
    def patience_s(self) -> float:
        """One that does not even beat is stopped or hangs in foreign code."""
        return HUNG_AFTER_S

    @property
    def names(self) -> tuple[str, ...]:
        """Its id."""
        return (self.setup.output.output_id,)

    def host(self, clock: Clock) -> Host:
        """It, in the process's main thread."""
        return FollowerHost(self.setup, clock)
