"""Where a line's clients come in, and of the three places there are the pseudo-terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator.links import Link, TerminalLink
from emulator.precise_loop import passed
from emulator.ptys import Claim, PathTakenError, Pty


class GaveUpError(Exception):
    """The other side could not be reached for as long as was asked."""


@dataclass(frozen=True, slots=True)
class Status:
    """How an endpoint is now. `clients`: addresses; of a terminal nobody tells who has it open.

    `back_in_s`: the cable is pulled for so long.
    """

    is_up: bool
    terminal: str | None = None
    clients: tuple[str, ...] = ()
    back_in_s: float | None = None


class Host(Protocol):
    """The line that an endpoint serves."""

    def received(self, link: Link, data: bytes) -> None:
        """Bytes have come."""

    def ended(self, link: Link) -> None:
        """A client is gone."""


class Endpoint(Protocol):
    """What all three can."""

    links: list[Link]

    @property
    def place(self) -> str:
        """What a hub is told to connect to."""

    @property
    def status(self) -> Status:
        """How it is now; any thread may ask."""

    def open(self, host: Host, failed: Callable[[Exception], None]) -> None:
        """Let clients come. Raises PathTakenError, OSError; `failed` is told of what ends it later."""

    async def drop(self, for_s: float, over: asyncio.Event | None = None) -> bool:
        """Pull the cable for so long, or until it is `over`; whether clients can come again, else `failed` was told."""

    def close(self) -> None:
        """The end."""


class PtyEndpoint:
    """A pseudo-terminal behind a link. `path` None: only its own name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.links: list[Link] = []
        self._claim: Claim | None = None
        self._pty: Pty | None = None
        self._terminal: TerminalLink | None = None
        self._host: Host | None = None
        self._failed: Callable[[Exception], None] = lambda _: None

    @property
    def place(self) -> str:
        """As Endpoint."""
        return str(self._path)

    @property
    def status(self) -> Status:
        """As Endpoint."""
        pty = self._pty
        return Status(pty is not None, None if pty is None else pty.name)

    def open(self, host: Host, failed: Callable[[Exception], None]) -> None:
        """As Endpoint."""
        self._host, self._failed = host, failed
        self._claim = Claim(self._path)
        self._plug_in()

    async def drop(self, for_s: float, over: asyncio.Event | None = None) -> bool:
        """As Endpoint: terminal and link are gone, and another terminal comes."""
        self._pull()
        await passed(for_s, over)
        if self._claim is not None:
            try:
                self._plug_in()
            except (PathTakenError, OSError) as error:  # somebody else took the path meanwhile
                self._pull()
                self._failed(error)
                return False
        return True

    def close(self) -> None:
        """As Endpoint."""
        self._pull()
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _plug_in(self) -> None:
        assert self._claim is not None
        assert self._host is not None
        self._pty = Pty()
        self._claim.link(self._pty.name)
        before = self._terminal
        self._terminal = TerminalLink(self._pty, self._host.received)
        if before is not None:
            self._terminal.keep(before.kept)
        self.links = [self._terminal]

    def _pull(self) -> None:
        for link in self.links:
            link.close()
        self.links = []
        if self._pty is not None and self._claim is not None:
            self._claim.unlink(self._pty.name)
            self._pty.close()
        self._pty = None
