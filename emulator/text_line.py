"""A pseudo-terminal on which one device hears bytes and says some, asked or not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

from emulator import logs, ptys

TICK_S = 0.1


class Talker(Protocol):
    """A device on a text line."""

    def heard(self, data: bytes) -> bytes:
        """What it answers to bytes from the line."""

    def pass_time(self, seconds: float) -> None:
        """So much time is over."""

    def take_said(self) -> bytes:
        """What it said unasked, once."""


class TextLine:
    """One device of the scenario, running between `start` and `stop`."""

    def __init__(self, path: Path, kind: str, device: Talker) -> None:
        """`path` becomes a link to the terminal."""
        self._path, self._kind, self._device = path, kind, device
        self._pty: ptys.Pty | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the line and link it; PathTakenError or OSError when the link cannot be made."""
        loop = asyncio.get_running_loop()
        self._pty = pty = ptys.Pty()
        loop.add_reader(pty.master, self._on_readable, pty.master)
        ptys.link(self._path, pty.name)
        self._ticking = loop.create_task(self._tick(pty.master))
        logs.event("text line up", path=self._path, tty=pty.name, kind=self._kind)

    async def stop(self) -> None:
        """Take the line down and remove its link."""
        if self._pty is None:
            return
        ptys.unlink(self._path, self._pty.name)
        if self._ticking is not None:
            self._ticking.cancel()
        asyncio.get_running_loop().remove_reader(self._pty.master)
        self._pty.close()
        logs.event("text line down", path=self._path)

    def _on_readable(self, master: int) -> None:
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return
        self._say(master, self._device.heard(data) + self._device.take_said())

    async def _tick(self, master: int) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._device.pass_time(TICK_S)
            self._say(master, self._device.take_said())

    def _say(self, master: int, data: bytes) -> None:
        try:
            os.write(master, data)
        except BlockingIOError:
            return  # nobody reads: what is said is lost, as on a real line
