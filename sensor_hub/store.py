"""Queues on disk for what must not be lost: put before it is sent, removed once it is acknowledged.

One file per process, any number of named queues in it. Where there is no disk to write to, the queues go on in memory,
smaller, and say so once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sensor_hub import logs, threads
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig
from sensor_hub.store_file import NAME, DamagedFileError, Item, Limits, Queued, StoreFile, discard, set_aside
from sensor_hub.store_queue import Figures, Losses, QueueState

log = logs.get(__name__)

COMMIT_S = 1.0  # a commit costs a memory card about as much as a hundred entries do
CROWDED = 2000  # entries that wait; they are not made to wait any longer
RETRY_S = 5.0
DEFAULT_LIMITS = Limits(1_000_000, 256 * 1024 * 1024)


def path_for(hub: HubConfig, process: str) -> Path:
    """Where a process of the instance keeps its queues; several instances may share a volume."""
    return hub.data_dir / hub.instance_id / f"{process}.sqlite3"


class Store:
    """Thread-safe. `put` and `ack` never wait for the disk, `peek` may."""

    def __init__(self, path: Path, clock: Clock, commit_s: float = COMMIT_S) -> None:
        """Reach for nothing before `start`."""
        self.path, self._clock, self._commit_s = path, clock, commit_s
        self._lock = threading.Condition()
        self._disk = threading.Lock()  # whoever uses the file; taken before `_lock`
        self._file: StoreFile | None = None
        self._loaded: set[str] = set()  # queues that the file was asked about
        self._queues: dict[str, QueueState] = {}
        self._last_id = 0
        self._problem = ""
        self._urgent = False
        self._closing, self._closed = threading.Event(), threading.Event()
        self._writer: threading.Thread | None = None
        self._losses = Losses()
        self.after_commit: list[Callable[[], None]] = []

    def start(self) -> None:
        """Open the file and begin to write; without a usable one, go on without."""
        # Greater than any id of an earlier file that is not there any more.
        self._last_id = int(self._clock.now().timestamp() * 1_000_000)
        with self._disk:
            self._try(self._open)
        self._writer = threads.start("store", self._write, self._closed)

    def close(self, within_s: float = 2.0) -> None:
        """Write what waits and close the file."""
        self._closing.set()
        with self._lock:
            self._lock.notify_all()
        if self._writer is not None:
            self._writer.join(within_s)

    @property
    def problem(self) -> str:
        """Why the queues are in memory only; empty while they are on disk."""
        return self._problem

    def queue(self, name: str, limits: Limits = DEFAULT_LIMITS) -> Queue:
        """The queue of that name (`a-z 0-9 _`), with what an earlier process left in it."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a queue's name")
        with self._disk:
            with self._lock:
                self._queues[name] = QueueState(limits)
            if self._file is not None:
                self._try(self._load)
        return Queue(self, name)

    # -- what a queue does --------------------------------------------------------------------------------------

    def put(self, name: str, items: Iterable[Item], mark: str | None, at_once: bool) -> list[int]:
        """See Queue.put."""
        now = self._clock.now().timestamp()
        with self._lock:
            state = self._queues[name]
            ids = []
            for item in items:
                self._last_id += 1
                state.add(Queued(self._last_id, now, item))
                ids.append(self._last_id)
            if mark is not None:
                state.mark = mark
            self._urgent = self._urgent or at_once
            self._lock.notify_all()
        self._losses.full(self._queues)
        return ids

    def peek(self, name: str, limit: int, after: int) -> list[Queued]:
        """See Queue.peek."""
        found: list[Queued] = []
        with self._disk:
            self._try(lambda: found.extend(self._on_disk(name, limit, after)))
            with self._lock:
                if self._problem:  # nothing gets to the disk, so it is sent without having been there
                    found += [each for each in self._queues[name].waiting.values() if each.id > after]
        return found[:limit]

    def _on_disk(self, name: str, limit: int, after: int = 0) -> list[Queued]:
        """Needs the disk lock. What the file has of a queue and nobody has acknowledged."""
        state, found = self._queues[name], list[Queued]()
        while self._file is not None and name in self._loaded and len(found) < limit:
            rows, spoilt = self._file.read(name, after, limit)
            if not rows and not spoilt:
                break
            after = max([*spoilt, *(row.id for row in rows)])
            self.ack(name, spoilt, lost=True)
            with self._lock:
                found += [row for row in rows if row.id not in state.gone]
                self._losses.spoilt(name, state, spoilt)
        return found

    def ack(self, name: str, ids: Iterable[int], *, lost: bool = False) -> None:
        """See Queue.ack and Queue.give_up."""
        with self._lock:
            leave = self._queues[name].given_up if lost else self._queues[name].acknowledged
            for entry_id in ids:
                leave(entry_id)
            self._lock.notify_all()

    def flush(self, within_s: float) -> bool:
        """See Queue.flush."""
        with self._lock:
            self._urgent = True
            self._lock.notify_all()
            return self._lock.wait_for(lambda: not self._has_work(), within_s)

    def mark(self, name: str) -> str:
        """See Queue.mark."""
        with self._lock:
            return self._queues[name].mark

    def figures(self, name: str) -> Figures:
        """See Queue.figures."""
        with self._lock:
            return self._queues[name].figures(self._clock.now().timestamp(), on_disk=not self._problem)

    # -- the writer ---------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                self._lock.wait_for(lambda: self._closing.is_set() or self._problem or self._has_work())
                pause_s = RETRY_S if self._problem else self._commit_s
                self._lock.wait_for(lambda: self._closing.is_set() or self._hurries(), pause_s)
                self._urgent = False
            with self._disk:
                self._try(self._commit)
            self._losses.full(self._queues)
            for tell in self.after_commit:
                tell()
        with self._disk:
            self._try(self._commit)
            self._shut()
        self._closed.set()

    def _has_work(self) -> bool:
        return any(state.has_work for state in self._queues.values())

    def _hurries(self) -> bool:
        crowded = any(len(state.waiting) >= CROWDED for state in self._queues.values())
        return (self._urgent or crowded) and not self._problem

    def _try(self, work: Callable[[], None]) -> None:
        """Needs the disk lock. Whatever is wrong with the disk is told once, until it is well again."""
        try:
            work()
        except DamagedFileError as error:
            self._replace_file(str(error))
        except (OSError, sqlite3.Error) as error:
            code = getattr(error, "sqlite_errorcode", 0)
            self._trouble("another process uses the file" if code == sqlite3.SQLITE_BUSY else str(error))
            if self._file is not None and code != sqlite3.SQLITE_FULL:
                self._shut()  # a new beginning may help, and what is there may be readable
                self._try(self._open)

    def _trouble(self, reason: str) -> None:
        with self._lock:
            is_news, self._problem = not self._problem, reason
        if is_news:
            # At the start there is no place for them, which is how a container may be run.
            tell = log.warning if self._writer is None else log.error
            tell("queues are in memory only", file=str(self.path), reason=reason)

    def _replace_file(self, reason: str) -> None:
        self._shut()
        lost = sum(state.facts.depth for state in self._queues.values())
        try:
            aside = set_aside(self.path)
        except OSError as error:
            self._trouble(str(error))
            return
        log.error("queue file is damaged, a new one is begun", kept=str(aside), reason=reason, lost=lost)
        with self._lock:
            for state in self._queues.values():
                state.damaged()
        try:
            self._open()
        except DamagedFileError as error:
            self._shut()
            self._trouble(str(error))
        except (OSError, sqlite3.Error) as error:
            self._trouble(str(error))

    def _shut(self) -> None:
        file, self._file = self._file, None
        self._loaded.clear()
        try:
            if file is not None:
                file.close()
        except sqlite3.Error:
            pass  # it was of no use before

    def _open(self) -> None:
        """Needs the disk lock."""
        self._file = StoreFile(self.path)
        try:
            self._load()
        except BaseException:
            self._shut()
            raise

    def _load(self) -> None:
        """Needs the disk lock. Learn what the file holds of the queues that it was not asked about yet."""
        for name, state in list(self._queues.items()):
            if self._file is None or name in self._loaded:
                continue
            facts = self._file.queue(name)
            with self._lock:
                first = next(iter(state.waiting), facts.last_id + 1)
            wanted = len(state.waiting) if first <= facts.last_id else 0
            found = self._file.read(name, first - 1, wanted)
            self._loaded.add(name)
            with self._lock:
                state.loaded(facts)
                for entry in found[0]:  # of a commit that was said to have failed, and had not
                    if state.waiting.get(entry.id) == entry:
                        state.forget(entry.id)
                if self._last_id <= facts.last_id or any(each <= facts.last_id for each in state.waiting):
                    self._renumber(facts.last_id)
                self._lock.notify_all()

    def _renumber(self, last_id: int) -> None:
        """The clock was behind that of an earlier life: what waits comes after what is on the disk."""
        self._last_id = max(self._last_id, last_id)
        for state in self._queues.values():
            entries, state.waiting = list(state.waiting.values()), {}
            for entry in entries:
                self._last_id += 1
                state.waiting[self._last_id] = replace(entry, id=self._last_id)

    def _commit(self) -> None:
        """Needs the disk lock."""
        if self._file is None:
            self._open()
        self._load()
        if self._problem:
            self._make_room()
        self._apply(adds=True)
        with self._lock:
            was, self._problem = self._problem, ""
        if was:
            log.info("queues are on disk again", file=str(self.path))

    def _make_room(self) -> None:
        """Where nothing fits any more, to remove entries takes room too."""
        assert self._file is not None
        if any(self._on_disk(name, 1) for name in self._queues):
            self._file.shorten_log()
            self._apply(adds=False)
            return
        self._shut()
        discard(self.path)
        with self._lock:
            for state in self._queues.values():
                state.emptied()
        self._open()

    def _apply(self, *, adds: bool) -> None:
        assert self._file is not None
        with self._lock:
            found = {name: state.change(adds=adds) for name, state in self._queues.items()}
            changes = {name: change for name, change in found.items() if change is not None}
            before = {name: self._queues[name].facts for name in changes}
        if not changes:
            return
        after = self._file.commit(changes, before)
        with self._lock:
            for name, change in changes.items():
                self._queues[name].committed(change, after[name])
            self._lock.notify_all()


class Queue:
    """One output's queue. Thread-safe."""

    def __init__(self, store: Store, name: str) -> None:
        """Made by `Store.queue`."""
        self._store, self.name = store, name

    def put(self, items: Sequence[Item], mark: str | None = None, *, at_once: bool = False) -> list[int]:
        """Their ids. They are on disk within COMMIT_S, `at_once`: as soon as that can be; `peek` has them then.

        `mark`: how far their source was followed (journal.Had.dump), kept with them or not at all.
        """
        return self._store.put(self.name, items, mark, at_once)

    def peek(self, limit: int = 500, after: int = 0) -> list[Queued]:
        """The oldest entries that are not acknowledged, in the order they were put; above id `after`."""
        return self._store.peek(self.name, limit, after)

    def when_committed(self, call: Callable[[], None]) -> None:
        """`call` whenever `peek` may have more, on the store's thread: it must not wait."""
        self._store.after_commit.append(call)

    def ack(self, ids: Iterable[int]) -> None:
        """The receiver has them: `peek` does not give them again, and a restart does not once that is on disk."""
        self._store.ack(self.name, ids)

    def give_up(self, ids: Iterable[int]) -> None:
        """No receiver will ever have them: they leave in the same way, and count as dropped."""
        self._store.ack(self.name, ids, lost=True)

    def flush(self, within_s: float) -> bool:
        """Whether everything put and acknowledged is on disk; waits for it."""
        return self._store.flush(within_s)

    @property
    def mark(self) -> str:
        """The last one put."""
        return self._store.mark(self.name)

    def figures(self) -> Figures:
        """Depth, age, losses. Never waits for the disk."""
        return self._store.figures(self.name)
