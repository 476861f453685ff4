"""Who has a terminal open: the system does not tell its other end, so /proc is asked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
FRESH_S, SHARE = 1.0, 0.05  # looking takes no more than that share of the time, however many pages ask


def openers(terminals: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Terminal -> `name (pid)` of each program but this one; those of other users stay unseen."""
    found: dict[str, list[str]] = {terminal: [] for terminal in terminals}
    if not found:
        return {}
    for pid in (entry for entry in _names(PROC) if entry.isdigit() and int(entry) != os.getpid()):
        for terminal in set(_open_files(pid)) & found.keys():
            found[terminal].append(f"{_program(pid)} ({pid})")
    return {terminal: tuple(programs) for terminal, programs in found.items()}


class Openers:
    """What `openers` found, for a while: looking through all processes is work. Any thread may ask."""

    def __init__(
        self,
        look: Callable[[Collection[str]], Mapping[str, tuple[str, ...]]] = openers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._clock = look, clock
        self._lock = threading.Lock()
        self._found: Mapping[str, tuple[str, ...]] = {}
        self._fresh_until = float("-inf")

    def of(self, terminals: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """Terminal -> programs, as they were a moment ago; a terminal not asked for before is looked for at once."""
        with self._lock:
            begin = self._clock()
            if begin >= self._fresh_until or not self._found.keys() >= set(terminals):
                self._found = self._look(terminals)
                end = self._clock()
                self._fresh_until = end + max(FRESH_S, (end - begin) / SHARE)
            return self._found


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
