"""What an output counts. It is kept in its queue's mark, so it outlives the output's process as `dropped` does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from sensor_hub.store import Queue
from sensor_hub.store_file import Item

_COUNT = re.compile(r"([a-z]+)=([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the queue's file was begun."""

    sent: int = 0  # messages that the receiver has, those it refused not among them
    refused: int = 0  # it will never take
    missed: int = (
        0  # entries that the journal no longer had, of whatever device: at most so many were for here
    )
    interrupted: int = 0  # times that the aggregator's last words may have been lost


class CountedQueue:
    """An output's queue whose mark says how far the journal was had, and the counts. Thread-safe."""

    def __init__(self, queue: Queue) -> None:
        """With what an earlier process left."""
        self.queue = queue
        self._lock = threading.Lock()
        words = queue.mark.split()
        self._had = " ".join(word for word in words if not _COUNT.fullmatch(word))
        self._counts = counts_in(queue.mark)

    @property
    def counts(self) -> Counts:
        """As they are now."""
        return self._counts

    @property
    def had(self) -> str:
        """For `journal.Had.load`."""
        return self._had

    def put(self, items: Sequence[Item], had: str, *, missed: int = 0, interrupted: int = 0) -> None:
        """Entries of the journal, how far it was had with them, and what was lost before them."""
        with self._lock:
            self._had = had
            self._add(missed=missed, interrupted=interrupted)
            self.queue.put(items, mark=self._mark())

    def ack(self, ids: Iterable[int], *, sent: int = 0, refused: int = 0) -> None:
        """They leave the queue."""
        with self._lock:
            self._add(sent=sent, refused=refused)
            self.queue.ack(ids)
            self.queue.put([], mark=self._mark())

    def _add(self, **more: int) -> None:
        before = self._counts
        self._counts = replace(before, **{key: getattr(before, key) + count for key, count in more.items()})

    def _mark(self) -> str:
        """`Had.load` leaves out words that are none of its: so older and newer marks are read by both."""
        counts = self._counts
        words = (f"{each.name}={getattr(counts, each.name)}" for each in fields(counts))
        return " ".join([self._had, *words]).strip()


def counts_in(mark: str) -> Counts:
    """What an output had counted when its queue's mark was this."""
    known = {each.name for each in fields(Counts)}
    found = (_COUNT.fullmatch(word) for word in mark.split())
    return Counts(**{each[1]: int(each[2]) for each in found if each is not None and each[1] in known})
