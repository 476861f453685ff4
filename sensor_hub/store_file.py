"""The file of a store: SQLite, in a mode whose commits survive a power cut; a damaged one is kept aside."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sensor_hub.aside_stamps import stamp_after

VOLUME = Path("/data")  # where the image expects one
LAYOUT = 2  # user_version of files as this module writes them
PRIVATE = 0o600  # readings and answers are not for everybody on the machine
KEPT_ASIDE = 3  # so many damaged files; older ones are removed
OVERHEAD_BYTES = 64  # of an entry in the file, about, beside its texts and its payload
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY_CODE = 0xFF
_COLUMNS = ("device_id", "timestamp", "kind", "payload")
_BYTES = ", ".join(f"CAST({name} AS BLOB)" for name in _COLUMNS)  # SQLite gives no text that is not UTF-8
_SIZE = " + ".join(
    [f"coalesce(length(CAST({name} AS BLOB)), 0)" for name in _COLUMNS] + [str(OVERHEAD_BYTES)]
)
_LATEST = 1e11  # Unix time; what a bit that was flipped made later than that, or negative, is none


@dataclass(frozen=True, slots=True)
class Item:
    """What is put into a queue. `kind` and `timestamp` (when it happened) are the sender's own words."""

    device_id: str
    timestamp: str
    kind: str
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in the file, about."""
        texts = self.device_id, self.timestamp, self.kind
        return len(self.payload) + sum(len(each.encode()) for each in texts) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Queued:
    """An item in a queue. Ids are unique in the store and grow, also over restarts; `at` is Unix time of the put."""

    id: int
    at: float
    item: Item


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file knows of a queue. `mark` is its owner's; `oldest_at` is Unix time."""

    depth: int = 0
    size: int = 0
    last_id: int = 0
    dropped: int = 0
    mark: str = ""
    oldest_at: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a queue may hold; the oldest make room."""

    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to a queue: removes first, so that there is room for what it adds. `dropped`: in all."""

    removed: Sequence[int]
    added: Sequence[Queued]
    mark: str
    dropped: int
    limits: Limits


class DamagedFileError(Exception):
    """The file is no store, or not whole; it is to be set aside."""


class StoreFile:
    """Not thread-safe. Raises OSError or sqlite3.Error (no room, no access), DamagedFileError."""

    def __init__(self, path: Path) -> None:
        """Open or begin the file, and lock it: one process at a time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
        self._path = path
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._db.text_factory = lambda text: text.decode(
            errors="replace"
        )  # of a mark: who reads it finds out
        try:
            self._prepare()
        except (sqlite3.Error, DamagedFileError):
            self._db.close()
            raise

    def close(self) -> None:
        """Give it back; SQLite puts its write-ahead log into the file then."""
        self._db.close()

    def shorten_log(self) -> None:
        """Give back the room that the write-ahead log takes, as far as the file itself has room."""
        try:
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            pass  # no room for that either

    def queue(self, name: str) -> Facts:
        """Begin the queue if it is new. What it holds."""
        self._run(
            f'CREATE TABLE IF NOT EXISTS "q_{name}" (id INTEGER PRIMARY KEY, at REAL, device_id TEXT, timestamp TEXT,'
            " kind TEXT, payload BLOB)"
        )
        self._run("INSERT OR IGNORE INTO queues VALUES (?, 0, 0, '', 0, 0)", (name,))
        columns = "depth, size, last_id, dropped, mark"
        depth, size, last, dropped, mark = self._run(f"SELECT {columns} FROM queues WHERE name = ?", (name,))[
            0
        ]
        if not (isinstance(last, int) and isinstance(dropped, int) and isinstance(mark, str)):
            raise DamagedFileError(f"what it says of queue {name} cannot be read")
        if not (
            isinstance(depth, int) and isinstance(size, int)
        ):  # of an earlier layout, counted once: a large file takes long to read
            found = self._run(f'SELECT count(*), coalesce(sum({_SIZE}), 0) FROM "q_{name}"')
            depth, size = found[0]
            self._run("UPDATE queues SET depth = ?, size = ? WHERE name = ?", (depth, size, name))
        return Facts(depth, size, last, dropped, mark, self._oldest_at(name))

    def commit(self, changes: Mapping[str, Change], before: Mapping[str, Facts]) -> dict[str, Facts]:
        """All or nothing, and on the disk when it returns. What is true of the queues then."""
        self._run("BEGIN IMMEDIATE")
        try:
            after = {name: self._apply(name, change, before[name]) for name, change in changes.items()}
            self._run("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            raise
        return after

    def read(self, name: str, after: int, limit: int) -> tuple[list[Queued], list[int]]:
        """The oldest entries with an id above `after`, and ids of rows among them that are none any more.

        A bit of those was flipped on the card, where SQLite has no checksums.
        """
        columns = f"id, at, {_BYTES}"
        rows = self._run(f'SELECT {columns} FROM "q_{name}" WHERE id > ? ORDER BY id LIMIT ?', (after, limit))
        found = {row[0]: _queued(row) for row in rows}
        return [each for each in found.values() if each], [row for row, each in found.items() if not each]

    def _apply(self, name: str, change: Change, before: Facts) -> Facts:
        depth, size = before.depth, before.size
        for entry_id in change.removed:
            for row in self._run(f'DELETE FROM "q_{name}" WHERE id = ? RETURNING {_SIZE}', (entry_id,)):
                depth, size = depth - 1, size - row[0]
        added = list(change.added)
        depth, size = depth + len(added), size + sum(each.item.size for each in added)
        dropped = change.dropped
        while added and (depth > change.limits.entries or size > change.limits.size_bytes):
            oldest = self._run(
                f'DELETE FROM "q_{name}" WHERE id = (SELECT min(id) FROM "q_{name}") RETURNING {_SIZE}'
            )
            size -= oldest[0][0] if oldest else added.pop(0).item.size
            depth, dropped = depth - 1, dropped + 1
        for each in added:
            item = each.item
            row = (each.id, each.at, item.device_id, item.timestamp, item.kind, item.payload)
            self._run(f'INSERT INTO "q_{name}" VALUES (?, ?, ?, ?, ?, ?)', row)
        last = max(before.last_id, change.added[-1].id if change.added else 0)
        depth, size = max(0, depth), max(0, size) if depth > 0 else 0  # a spoilt row had another size
        self._run(
            "UPDATE queues SET last_id = ?, dropped = ?, mark = ?, depth = ?, size = ? WHERE name = ?",
            (last, dropped, change.mark, depth, size, name),
        )
        return Facts(depth, size, last, dropped, change.mark, self._oldest_at(name))

    def _oldest_at(self, name: str) -> float | None:
        rows = self._run(f'SELECT at FROM "q_{name}" ORDER BY id LIMIT 1')
        return (_unix_time(rows[0][0]) or None) if rows else None

    def _prepare(self) -> None:
        # No second process, and no shared memory beside the file, which some network folders lack.
        self._run("PRAGMA locking_mode = EXCLUSIVE")
        self._run("PRAGMA journal_mode = WAL")
        # Each commit reaches the disk: these machines end by losing power. Commits are few instead (store.COMMIT_S).
        self._run("PRAGMA synchronous = FULL")
        # The log is short: on a full disk, what is in it can neither go on nor back.
        self._run("PRAGMA wal_autocheckpoint = 256")
        self._run("PRAGMA journal_size_limit = 1048576")
        self._run("BEGIN IMMEDIATE")  # takes the lock now, so that whoever has it is noticed now
        layout = self._run("PRAGMA user_version")[0][0]
        if layout == 0:
            self._run(
                "CREATE TABLE queues (name TEXT PRIMARY KEY, last_id INTEGER, dropped INTEGER, mark TEXT,"
                " depth INTEGER, size INTEGER)"
            )
        elif layout == 1:  # a queue knew its depth by counting
            self._run("ALTER TABLE queues ADD COLUMN depth INTEGER")
            self._run("ALTER TABLE queues ADD COLUMN size INTEGER")
        elif layout != LAYOUT:
            raise DamagedFileError(f"its layout is {layout}, not {LAYOUT}")
        if layout != LAYOUT:
            self._run(f"PRAGMA user_version = {LAYOUT}")
        self._run("COMMIT")
        self._run("SELECT count(*) FROM queues")

    def _run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _translated(error) from error


def _queued(row: Sequence[Any]) -> Queued | None:
    if None in row[2:]:
        return None
    try:
        device_id, timestamp, kind = (text.decode() for text in row[2:5])
    except UnicodeDecodeError:
        return None
    return Queued(row[0], _unix_time(row[1]), Item(device_id, timestamp, kind, row[5]))


def _unix_time(value: object) -> float:
    return value if isinstance(value, float) and 0 <= value < _LATEST else 0.0


def _make_private(path: Path) -> None:
    """Begin the file with rights for us alone; SQLite makes the log beside it alike. An older one gets them, too."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:  # not opened: to close it would end the lock of whoever has it in this process
        for part in (path, path.with_name(path.name + "-wal")):
            with contextlib.suppress(OSError):  # another's file, or a file system without rights
                if not part.is_dir():
                    part.chmod(PRIVATE)


def _translated(error: sqlite3.DatabaseError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    is_foreign = str(error).startswith(("no such table", "no such column", "table queues already"))
    return DamagedFileError(str(error)) if code in _DAMAGED or is_foreign else error


def held_by(path: Path, name: str) -> Facts | None:
    """Depth, mark and losses of a queue in a file that nobody writes. None: there is none, or it cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0)) as database:
            database.execute(
                "PRAGMA locking_mode = EXCLUSIVE"
            )  # as StoreFile does: no shared memory beside it
            rows = database.execute("SELECT mark, dropped FROM queues WHERE name = ?", (name,)).fetchall()
            if not rows:
                return None
            depth = database.execute(f'SELECT count(*) FROM "q_{name}"').fetchone()[0]
            return Facts(depth=depth, mark=str(rows[0][0]), dropped=rows[0][1])
    except sqlite3.Error:
        return None


def discard(path: Path) -> None:
    """Remove a file that is not open, and its log."""
    for suffix in ("-wal", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its log, so that somebody can look at them; only the newest few are kept."""
    start = f"{path.name}.damaged-"
    stamps = sorted(each.name.removeprefix(start) for each in path.parent.glob(f"{start}*Z"))
    stamps.append(stamp_after(stamps, datetime.now(UTC)))
    aside = path.with_name(start + stamps[-1])
    for suffix in ("-wal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    for old in stamps[:-KEPT_ASIDE]:
        for part in path.parent.glob(f"{start}{old}*"):
            part.unlink()
    return aside


def why_not_lasting(folder: Path) -> str:
    """Why what is written to a folder will not last; empty when it may."""
    known = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if not os.access(known, os.W_OK | os.X_OK):
        return f"{known} cannot be written to"
    if folder == VOLUME and not folder.is_mount():
        return f"{folder} is no volume, so it ends with the container"
    return ""
