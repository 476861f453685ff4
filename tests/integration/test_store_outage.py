"""Journal and store together: an output that loses its receiver, then itself, has every reading once."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sensor_hub import threads, wire
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import system_clock
from sensor_hub.journal import Had, News
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item
from tests.contract.services import Instance, in_process, plc
from tests.contract.test_rest_journal import UNITS, instance_of, journal
from tests.support import eventually


class History:
    """An output as one would write it: journal to queue, queue to receiver."""

    def __init__(self, instance: Instance, received: dict[int, str]) -> None:
        self._store = Store(path_for(instance.hub, "history"), system_clock(), 0.05)
        self._store.start()
        self.queue = self._store.queue("history")
        self._received, self.receiver_is_there = received, threading.Event()
        self._stop = threading.Event()
        client = AggregatorClient(instance.api("state-aggregator").url, instance.instance_id)
        had = Had.load(self.queue.mark)
        follow = partial(client.follow_journal, self._take, lambda _: None, self._stop, had)
        self._threads = [
            threads.start("follow", follow, self._stop),
            threads.start("send", self._send, self._stop),
        ]

    def _take(self, news: News) -> None:
        items = [
            Item(each.snapshot.device_id, wire.timestamp_text(each.timestamp), "reading", each.id.encode())
            for each in news.entries
        ]
        self.queue.put(items, mark=news.mark)

    def _send(self) -> None:
        while not self._stop.wait(0.02):
            if self.receiver_is_there.is_set():
                batch = self.queue.peek(100)
                self._received.update({each.id: each.item.payload.decode() for each in batch})
                self.queue.ack([each.id for each in batch])

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._store.close(30)


def test_after_an_outage_of_the_receiver_and_a_restart_every_reading_is_there_once_per_id(
    tmp_path: Path,
) -> None:
    received: dict[int, str] = {}
    with ExitStack() as stack:
        device = stack.enter_context(plc(UNITS))
        instance = instance_of(tmp_path, device, 0.05, UNITS)
        handler = stack.enter_context(in_process(instance, "serial-handler"))
        stack.enter_context(in_process(instance, "state-aggregator"))
        first = History(instance, received)
        try:
            first.receiver_is_there.set()
            eventually(lambda: len(received) > 50, 30)
            first.receiver_is_there.clear()
            eventually(lambda: first.queue.figures().depth > 300, 30)
        finally:
            first.stop()
        second = History(instance, received)
        try:
            assert second.queue.figures().depth > 300
            second.receiver_is_there.set()
            last = int(journal(handler)["position"].rsplit("-", 1)[1])
            eventually(lambda: len(set(received.values())) >= last, 60)
        finally:
            second.stop()
    in_order = [received[entry_id] for entry_id in sorted(received)]
    numbers = [int(each.rsplit("-", 1)[1]) for each in in_order]
    assert numbers == list(range(1, len(numbers) + 1))
