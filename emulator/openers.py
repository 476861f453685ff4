"""Who has a terminal open: the system does not tell its other end, so /proc is asked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def openers(terminals: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Terminal -> `name (pid)` of each program but this one; those of other users stay unseen."""
    found: dict[str, list[str]] = {terminal: [] for terminal in terminals}
    if not found:
        return {}
    for pid in (entry for entry in _names(PROC) if entry.isdigit() and int(entry) != os.getpid()):
        for terminal in set(_open_files(pid)) & found.keys():
            found[terminal].append(f"{_program(pid)} ({pid})")
    return {terminal: tuple(programs) for terminal, programs in found.items()}


def _open_files(pid: str) -> Iterator[str]:
    folder = PROC / pid / "fd"
    for name in _names(folder):
        with suppress(OSError):  # just closed
            yield os.readlink(folder / name)


def _program(pid: str) -> str:
    try:
        return (PROC / pid / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _names(folder: Path) -> list[str]:
    """Empty where there is nothing to see: another user's process, one that has just ended, no Linux."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
