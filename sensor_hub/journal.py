"""Every reading and every fault in the order taken, beside the board: bounded, in memory, told by position."""

from __future__ import annotations

import re
import sys
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sensor_hub import wire
from sensor_hub.readings import Entry, Json, Snapshot

MAX_ENTRIES, MAX_BYTES = 20_000, 16 * 1024 * 1024
ANSWER_ENTRIES = 1000  # at most so many at once; whoever has more to get asks again
ANSWER_CHARS = 1024 * 1024
_OVERHEAD_BYTES = 32  # of an entry in the deque, beside its text
_POSITION = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})", re.ASCII)
REMEMBERED_GENERATIONS = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Entries as JSON texts, and the position after them.

    `missed`: how many between the follower's position and the first one are gone; None: that was no position of
    this process, and nobody knows.
    """

    position: str
    texts: Sequence[str]
    missed: int | None


class Journal:
    """Not thread-safe: the board's lock guards it. Entries are numbered from 1 on; the oldest make room."""

    def __init__(
        self, id_key: str = "sensor_id", max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        """`id_key` is the service's word for a device."""
        self.generation = uuid.uuid4().hex[:12]  # a position of an earlier process is recognised by it
        self.last = 0  # number of the newest entry
        self._id_key, self._max_entries, self._max_bytes = id_key, max_entries, max_bytes
        self._texts: deque[str] = deque()
        self._bytes = 0

    def take(self, timestamp: datetime, snapshot: Snapshot) -> None:
        """What became of a read just here (see Entry) gets its id."""
        self.record(Entry(f"{self.generation}-{self.last + 1}", timestamp, snapshot))

    def record(self, entry: Entry) -> None:
        """Keep an entry, under the id that it has."""
        text = wire.journal_text(entry, self._id_key)
        self.last += 1
        self._texts.append(text)
        self._bytes += _size(text)
        while self._texts and (len(self._texts) > self._max_entries or self._bytes > self._max_bytes):
            self._bytes -= _size(self._texts.popleft())

    def after(self, position: str | None) -> Page:
        """What came after a position, bounded; from any other text than a position of ours: all there is."""
        number = self.number_of(position)
        first = self.last - len(self._texts) + 1
        start = max(first, (number or 0) + 1)
        texts: list[str] = []
        chars = 0
        for text in islice(self._texts, start - first, start - first + ANSWER_ENTRIES):
            chars += len(text)
            if texts and chars > ANSWER_CHARS:
                break
            texts.append(text)
        missed = None if number is None else start - number - 1
        return Page(f"{self.generation}-{start + len(texts) - 1}", texts, missed)

    def number_of(self, position: str | None) -> int | None:
        """The number of the last entry that was had, None when it is no position of this process."""
        found = _POSITION.fullmatch(position or "")
        if found is None or found[1] != self.generation or int(found[2]) > self.last:
            return None
        return int(found[2])

    def size(self) -> dict[str, Json]:
        """How much is kept."""
        return {"entries": len(self._texts), "bytes": self._bytes}


def _size(text: str) -> int:
    return sys.getsizeof(text) + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class News:
    """What a follower of everything gets at once: the latest of each device that changed, and every new entry.

    `missed`: how many entries were taken and will never come. `is_anew`: the service is another process than before;
    what the earlier one took last and nobody had fetched is lost, uncounted. `mark`: how far the follower is with
    these, for `Had.load`. `is_behind`: there may be more of what the journal had when the follower first asked.
    """

    changes: Sequence[Snapshot]
    entries: Sequence[Entry]
    missed: int = 0
    is_anew: bool = False
    mark: str = ""
    is_behind: bool = False


class Had:
    """Which entries a follower has had: of each generation all up to a number. Not thread-safe.

    Survives restarts of either side: `dump` gives a text to keep, `load` takes it.
    """

    def __init__(self, highest: Mapping[str, int] | None = None) -> None:
        self._highest = dict(highest or {})

    def sift(self, entries: Iterable[Entry]) -> tuple[list[Entry], int]:
        """Those that are new, and how many are missing among them: a number that was skipped will not come later."""
        highest, fresh, gaps = dict(self._highest), [], 0
        for entry in entries:
            generation, number = _parts(entry.id)
            before = highest.get(generation, number - 1)
            if number > before:
                gaps += number - before - 1
                highest[generation] = number
                fresh.append(entry)
        return fresh, gaps

    def note(self, entries: Iterable[Entry]) -> None:
        """They were delivered."""
        for entry in entries:
            generation, number = _parts(entry.id)
            before = self._highest.pop(generation, 0)  # the one that speaks is remembered longest
            self._highest[generation] = max(number, before)
        while len(self._highest) > REMEMBERED_GENERATIONS:
            del self._highest[next(iter(self._highest))]

    def after(self, entries: Iterable[Entry]) -> Had:
        """What it will be when they are delivered."""
        had = Had(self._highest)
        had.note(entries)
        return had

    def dump(self) -> str:
        """As text, for `load`."""
        return " ".join(f"{generation}-{number}" for generation, number in self._highest.items())

    @classmethod
    def load(cls, text: str) -> Had:
        """What `dump` wrote; words that are none of its are left out."""
        found = (_POSITION.fullmatch(word) for word in text.split())
        return cls({each[1]: int(each[2]) for each in found if each is not None})


def is_entry_id(text: str) -> bool:
    """Whether it is the id of an entry of some journal."""
    return _POSITION.fullmatch(text) is not None


def _parts(entry_id: str) -> tuple[str, int]:
    """Raises ValueError."""
    found = _POSITION.fullmatch(entry_id)
    if found is None:
        raise ValueError(f"{entry_id[:64]!r} is no id of an entry")
    return found[1], int(found[2])
