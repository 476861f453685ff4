"""Pseudo-terminals with a stable name, which belongs to one living emulator at a time."""

from __future__ import annotations

import fcntl
import os
import tty
from pathlib import Path


class PathTakenError(Exception):
    """Something that is not ours stands where the line's link should go."""


class Pty:
    """One raw pseudo-terminal. Our own slave end stays open, so that clients may come and go."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.name = os.ttyname(self._slave)

    def close(self) -> None:
        """Hang up; whoever has the slave open sees the line end."""
        os.close(self._slave)
        os.close(self.master)


class Claim:
    """A path that is ours while we live: a lock beside it, which the system gives back when we die."""

    def __init__(self, path: Path) -> None:
        """Make missing folders and take the path. Raises PathTakenError, OSError."""
        self.path = path
        self._lock_path = path.with_name(f".{path.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        was_ours = self._lock_path.exists()
        self._lock = self._locked()
        try:
            self._check(was_ours)
        except PathTakenError:
            self._unlock()
            raise

    def link(self, target: str) -> None:
        """Make the path a link to `target` in one step."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(self.path)

    def unlink(self, target: str) -> None:
        """Remove the link if it still points to `target`."""
        if self.path.is_symlink() and os.readlink(self.path) == target:
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the path back."""
        self._unlock()

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
        except FileNotFoundError:
            return False

    def _check(self, was_ours: bool) -> None:
        """A link to nothing, or one that an emulator left when it died, is replaced; nothing else is."""
        if self.path.is_symlink():
            target = os.readlink(self.path)
            if self.path.exists() and not (was_ours and target.startswith("/dev/pts/")):
                raise PathTakenError(
                    f"{self.path} is a link to {target}, not one of the emulator's: remove it"
                )
        elif self.path.exists():
            raise PathTakenError(f"{self.path} exists and is not a link: remove it or choose another path")

    def _unlock(self) -> None:
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
