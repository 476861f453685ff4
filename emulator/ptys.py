"""Pseudo-terminals with a stable name."""

from __future__ import annotations

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


def link(path: Path, target: str) -> None:
    """Make `path` a link to `target` in one step.

    A link to another terminal or to nothing is replaced; for anything else PathTakenError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        if path.exists() and not os.readlink(path).startswith("/dev/pts/"):
            raise PathTakenError(
                f"{path} is a link to {os.readlink(path)}, not one of the emulator's: remove it"
            )
    elif path.exists():
        raise PathTakenError(f"{path} exists and is not a link: remove it or choose another path")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def unlink(path: Path, target: str) -> None:
    """Remove the link if it still points to `target`."""
    if path.is_symlink() and os.readlink(path) == target:
        path.unlink(missing_ok=True)
