"""A file that lines are appended to, whole or not at all, and that is put aside when it is large or old enough."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sensor_hub.aside_stamps import stamp_after
from sensor_hub.clock import Clock

_STAMP = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_MOVED_S = 60.0  # a clock that differs by so much was set, and did not run
_CLOCKS_ARE_SET_FROM = datetime(2020, 1, 1, tzinfo=UTC).timestamp()  # what says less has none yet
_PRIVATE = 0o600  # readings are not for everybody on the machine
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is put aside (0: never for that reason), and how many such are kept."""

    size_bytes: int
    age_s: float
    keep: int


class RotatingFile:
    """Opened when something is written, closed after a failure; not thread-safe.

    A file put aside is called `<name>.<UTC time>`, and comes behind the older ones, also when the clock goes back.
    Nobody else may write to the file: it is locked. Whoever moves or removes it (logrotate) gets a new one begun.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Clock, *, fsync: bool = False) -> None:
        """Reach for nothing yet."""
        self.path, self._rotation, self._clock, self._fsync = path, rotation, clock, fsync
        self._descriptor: int | None = None
        self._size = 0
        self._began = 0.0  # Unix time
        self._is_ours = False  # begun by this process
        self._offset = 0.0  # of Unix time to the monotonic one, when `_began` was taken

    def append(self, lines: Sequence[bytes]) -> None:
        """Write them all (each ends with a line break). Raises OSError; then no part of a line is left."""
        try:
            for text in self._pieces(lines):
                self._append(text)
            if self._fsync and self._descriptor is not None:
                os.fsync(self._descriptor)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _pieces(self, lines: Sequence[bytes]) -> list[bytes]:
        """What goes into one file at once: a batch may be larger than a file shall be."""
        pieces: list[list[bytes]] = [[]]
        size = 0
        for text in lines:
            if pieces[-1] and 0 < self._rotation.size_bytes < size + len(text):
                pieces.append([])
                size = 0
            pieces[-1].append(text)
            size += len(text)
        return [b"".join(piece) for piece in pieces if piece]

    def _append(self, text: bytes) -> None:
        descriptor = self._open()
        if self._size and self._is_due(len(text), descriptor):
            self._put_aside(descriptor)
            descriptor = self._open()
        try:
            left = memoryview(text)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)  # the batch comes again, and as a whole
            raise
        self._size += len(text)

    def _is_due(self, more: int, descriptor: int) -> bool:
        rotation = self._rotation
        if 0 < rotation.size_bytes < self._size + more:
            return True
        self._follow_clock(descriptor)
        return 0 < rotation.age_s <= self._clock.now().timestamp() - self._began

    def _follow_clock(self, descriptor: int) -> None:
        """One that was set meanwhile (at a start without a network it is far in the past) makes no file old."""
        offset = self._offset_now()
        moved_s = offset - self._offset
        if abs(moved_s) > _MOVED_S:
            self._began = self._began + moved_s if self._is_ours else self._beginning(descriptor)
            self._offset = offset

    def _offset_now(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _open(self) -> int:
        if self._descriptor is not None and self._is_still_there(self._descriptor):
            return self._descriptor
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = descriptor = os.open(self.path, _FLAGS, _PRIVATE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another process or output writes to it") from None
        self._size = os.fstat(descriptor).st_size
        self._is_ours, self._offset = not self._size, self._offset_now()
        self._began = self._beginning(descriptor)
        if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(descriptor, b"\n")  # whoever wrote before was killed in a line
        if self._fsync:
            _fsync_folder(self.path.parent)
        return descriptor

    def _is_still_there(self, descriptor: int) -> bool:
        ours = os.fstat(descriptor)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        # One that somebody has emptied (logrotate's copytruncate) is begun anew, too.
        same = (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
        return same and ours.st_size == self._size

    def _beginning(self, descriptor: int) -> float:
        """When the file was begun: no file system tells; its first line has a time near to that."""
        now = self._clock.now().timestamp()
        found = re.search(rb'"timestamp":"([^"]{1,40})"', os.pread(descriptor, 4096, 0).partition(b"\n")[0])
        if found is None:
            return now
        try:
            first = datetime.fromisoformat(found[1].decode()).timestamp()
        except (ValueError, OverflowError):
            return now
        return first if _CLOCKS_ARE_SET_FROM <= first <= now else now

    def _put_aside(self, descriptor: int) -> None:
        if self._fsync:
            os.fsync(descriptor)
        stamps = self._stamps_aside()
        stamps.append(stamp_after(stamps, self._clock.now()))
        self.path.rename(self._aside(stamps[-1]))
        self.close()
        for old in stamps[: max(0, len(stamps) - self._rotation.keep)]:
            self._aside(old).unlink(missing_ok=True)

    def _stamps_aside(self) -> list[str]:
        """Of the files put aside, the oldest first."""
        start = f"{self.path.name}."
        names = (each.name for each in self.path.parent.iterdir())
        stamps = (name.removeprefix(start) for name in names if name.startswith(start))
        return sorted(each for each in stamps if _STAMP.fullmatch(each))

    def _aside(self, stamp: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{stamp}")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
