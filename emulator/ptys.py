"""Pseudo-terminals with a stable name, which belongs to one living emulator at a time."""

from __future__ import annotations

import fcntl
import os
import termios
import tty
from contextlib import suppress
from pathlib import Path


class PathTakenError(Exception):
    """Something that is not ours stands where the line's link should go."""


class Pty:
    """One raw pseudo-terminal. We do not have its slave end open: the master hangs up while no client has."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.name = os.ttyname(slave)
        os.close(slave)

    def forget(self) -> None:
        """Drop what no client has read, as a port does when it is closed; its settings stay."""
        with suppress(OSError, termios.error):  # somebody has it for himself, and what is there is his
            slave = os.open(self.name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                termios.tcflush(self.master, termios.TCOFLUSH)
                termios.tcflush(slave, termios.TCIFLUSH)
            finally:
                os.close(slave)

    def close(self) -> None:
        """Hang up; whoever has the slave open sees the line end."""
        os.close(self.master)


class Claim:
    """A path that is ours while we live: a lock beside it, which the system gives back when we die."""

    def __init__(self, path: Path) -> None:
        """Make missing folders, take the path and remove a dead link. Raises PathTakenError, OSError."""
        self.path = path
        self._lock_path = path.with_name(f".{path.name}.lock")
        self._make_folder()
        was_ours = self._lock_path.exists()
        self._lock = self._locked()
        try:
            self._check(was_ours)
        except PathTakenError:
            self._unlock()
            raise

    def link(self, target: str) -> None:
        """Make the path a link to `target`. Raises PathTakenError if something else came there meanwhile, OSError."""
        if not self._is_still_there(self._lock):  # somebody has tidied up
            self._make_folder()
            before, self._lock = self._lock, self._locked()
            os.close(before)
        self._check(was_ours=False)
        try:
            self.path.symlink_to(target)  # replaces nothing
        except FileExistsError:
            raise PathTakenError(f"{self.path} was just made by somebody else: remove it") from None

    def unlink(self, target: str) -> None:
        """Remove the link if it still points to `target`."""
        if self.path.is_symlink() and os.readlink(self.path) == target:
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the path back."""
        self._unlock()

    def _make_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _locked(self) -> int:
        while True:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise PathTakenError(
                    f"{self.path} belongs to another emulator that runs: stop it or choose another path"
                ) from None
            if self._is_still_there(lock):
                return lock
            os.close(lock)  # its owner has just removed it

    def _is_still_there(self, lock: int) -> bool:
        try:
            return os.path.samestat(os.fstat(lock), self._lock_path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _check(self, was_ours: bool) -> None:
        """A link to nothing, or one that an emulator left when it died, is removed; nothing else is."""
        if self.path.is_symlink():
            target = os.readlink(self.path)
            if self.path.exists() and not (was_ours and target.startswith("/dev/pts/")):
                raise PathTakenError(
                    f"{self.path} is a link to {target}, not one of the emulator's: remove it"
                )
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            raise PathTakenError(f"{self.path} exists and is not a link: remove it or choose another path")

    def _unlock(self) -> None:
        if self._is_still_there(self._lock):
            self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
