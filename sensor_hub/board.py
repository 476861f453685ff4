"""The latest snapshot of every device, a revision that only grows, and a wait for anything newer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sensor_hub.errors import Busy
from sensor_hub.journal import Journal, Page
from sensor_hub.readings import Entry, Json, Snapshot

MAX_WAIT_S = 60.0
# Each waiting follower holds one of the service's request threads (web.MAX_ANSWERING); so many are left for others.
MAX_WAITERS = 96

Changes = tuple[str, list[Snapshot]]
Happened = tuple[datetime, Snapshot]  # when, and the reading or the fault alone (see Entry)


@dataclass(slots=True)
class _Slot:
    snapshot: Snapshot
    revision: int


class Board:
    """Thread-safe. Holds every configured, enabled device from the first second on; never gains another.

    Beside it stands the journal, where nothing is replaced by what comes next.
    """

    def __init__(
        self,
        snapshots: Iterable[Snapshot],
        monotonic: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
    ) -> None:
        """Start with one snapshot per device (not read yet)."""
        self._changed = threading.Condition()
        self._journal = journal or Journal()
        self._generation = self._journal.generation  # a cursor of an earlier process is recognised by it
        self._revision = 0
        self._waiters = 0
        self._closed = False
        self._monotonic = monotonic
        self._slots: dict[str, _Slot] = {}
        for snapshot in snapshots:
            self._revision += 1
            self._slots[snapshot.device_id] = _Slot(snapshot, self._revision)

    def put(self, snapshot: Snapshot, happened: Happened | None = None) -> None:
        """Replace a device's snapshot; counts as a change even when equal. KeyError for an unknown device.

        `happened`: what the journal keeps of it; None when the device was neither read nor asked in vain.
        """
        with self._changed:
            slot = self._slots[snapshot.device_id]
            if happened is not None:
                self._journal.take(*happened)
            self._revision += 1
            slot.snapshot, slot.revision = snapshot, self._revision
            self._changed.notify_all()

    def record(self, entries: Iterable[Entry]) -> None:
        """Put what another process took into the journal; the board stays as it is."""
        with self._changed:
            for entry in entries:
                self._journal.record(entry)
            self._changed.notify_all()

    def get(self, device_id: str) -> Snapshot | None:
        """The device's latest snapshot, or None when it is not on this board."""
        with self._changed:
            slot = self._slots.get(device_id)
            return slot.snapshot if slot else None

    def all(self) -> list[Snapshot]:
        """Every device's latest snapshot, in configured order."""
        with self._changed:
            return [slot.snapshot for slot in self._slots.values()]

    def journal_size(self) -> dict[str, Json]:
        """How much the journal keeps."""
        with self._changed:
            return self._journal.size()

    def since(self, cursor: str | None, wait_s: float = 0.0) -> Changes:
        """New cursor and what changed after `cursor`, oldest change first; waits up to `wait_s` for a change.

        No cursor, or one of another process: everything, at once. Raises Busy when MAX_WAITERS wait already.
        """
        with self._changed:
            after = self._revision_of(cursor)
            self._wait(lambda: self._revision > after, wait_s)
            return self._newer(after)

    def since_with_journal(
        self, cursor: str | None, position: str | None, wait_s: float = 0.0
    ) -> tuple[Changes, Page]:
        """As `since`, and the journal after `position`; waits for news of either.

        Both are of the same moment: each reading on the board is in the journal by then.
        """
        with self._changed:
            after, number = self._revision_of(cursor), self._journal.number_of(position)
            self._wait(
                lambda: self._revision > after or number is None or self._journal.last > number, wait_s
            )
            return self._newer(after), self._journal.after(position)

    def close(self) -> None:
        """Wake every waiting follower with what there is, now and from now on (the process is ending)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _newer(self, after: int) -> Changes:
        newer = sorted(
            (slot for slot in self._slots.values() if slot.revision > after), key=lambda slot: slot.revision
        )
        return f"{self._generation}-{self._revision}", [slot.snapshot for slot in newer]

    def _revision_of(self, cursor: str | None) -> int:
        generation, _, revision = (cursor or "").rpartition("-")
        if generation != self._generation or not (revision.isascii() and revision.isdigit()):
            return 0
        number = int(revision[:20])
        return number if number <= self._revision else 0

    def _wait(self, is_new: Callable[[], bool], wait_s: float) -> None:
        if is_new() or wait_s <= 0 or self._closed:
            return
        if self._waiters >= MAX_WAITERS:
            raise Busy(f"{MAX_WAITERS} followers wait already")
        deadline = self._monotonic() + min(wait_s, MAX_WAIT_S)
        self._waiters += 1
        try:
            while not is_new() and not self._closed:
                remaining = deadline - self._monotonic()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)
        finally:
            self._waiters -= 1
