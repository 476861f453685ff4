"""Where a line's clients come in: a pseudo-terminal, a TCP port, or a TCP address that we call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator import logs
from emulator.links import Link, TerminalLink
from emulator.ptys import Claim, PathTakenError, Pty
from emulator.reconnecting import Retries

BACKLOG = 16
CONNECT_S = 5.0
STOOD_S = 1.0  # a connection that ends sooner, without a byte, proves nothing
# a client that vanished without a word must not hold the only place for ever
KEEP_ALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 5),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)


class GaveUpError(Exception):
    """The other side could not be reached for as long as was asked."""


@dataclass(frozen=True, slots=True)
class Status:
    """How an endpoint is now. `clients`: addresses; of a terminal nobody tells who has it open."""

    is_up: bool
    terminal: str | None = None
    clients: tuple[str, ...] = ()


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

    async def drop(self, for_s: float) -> None:
        """Pull the cable for so long."""

    def close(self) -> None:
        """The end."""


class PtyEndpoint:
    """A pseudo-terminal behind a link. `path` None: only its own name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.links: list[Link] = []
        self._claim: Claim | None = None
        self._pty: Pty | None = None
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

    async def drop(self, for_s: float) -> None:
        """As Endpoint: terminal and link are gone, and another terminal comes."""
        self._pull()
        await asyncio.sleep(for_s)
        if self._claim is not None:
            try:
                self._plug_in()
            except (PathTakenError, OSError) as error:  # somebody else took the path meanwhile
                self._pull()
                self._failed(error)

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
        self.links = [TerminalLink(self._pty, self._host.received)]

    def _pull(self) -> None:
        for link in self.links:
            link.close()
        self.links = []
        if self._pty is not None and self._claim is not None:
            self._claim.unlink(self._pty.name)
            self._pty.close()
        self._pty = None


class _Sockets:
    """What both kinds of TCP endpoint do with a connection."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._sockets: dict[Link, socket.socket] = {}
        self._host: Host | None = None
        self._task: asyncio.Task[None] | None = None
        self._all_gone = asyncio.Event()

    def _peers(self) -> tuple[str, ...]:
        found = []
        for connection in list(self._sockets.values()):
            with suppress(OSError):  # just gone
                host, port = connection.getpeername()[:2]
                found.append(f"{host}:{port}")
        return tuple(found)

    def _take(self, connection: socket.socket) -> Link:
        assert self._host is not None
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in KEEP_ALIVE:
            connection.setsockopt(*option, value)
        self._all_gone.clear()
        link = Link(connection.fileno(), self._host.received, self._lose)
        self._sockets[link] = connection
        self.links = list(self._sockets)
        return link

    def _lose(self, link: Link) -> None:
        if link in self._sockets:
            link.close()
            self._sockets.pop(link).close()
            self.links = list(self._sockets)
            assert self._host is not None
            self._host.ended(link)
        if not self._sockets:
            self._all_gone.set()

    def _lose_all(self) -> None:
        for link in self.links:
            self._lose(link)

    def _start(self, work: asyncio.Task[None], failed: Callable[[Exception], None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                failed(error)

        self._task = work
        work.add_done_callback(done)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._lose_all()


class TcpServer(_Sockets):
    """A port that clients connect to: `many` at a time, or one after the other."""

    def __init__(self, host: str, port: int, *, many: bool) -> None:
        super().__init__()
        self._address, self._many = (host, port), many
        self._listener: socket.socket | None = None
        self._failed: Callable[[Exception], None] = lambda _: None

    @property
    def place(self) -> str:
        """As Endpoint."""
        return _url(*self._address)

    @property
    def status(self) -> Status:
        """As Endpoint."""
        return Status(self._listener is not None, clients=self._peers())

    def open(self, host: Host, failed: Callable[[Exception], None]) -> None:
        """As Endpoint."""
        self._host, self._failed = host, failed
        self._listen()

    async def drop(self, for_s: float) -> None:
        """As Endpoint: meanwhile connections are refused."""
        self.close()
        await asyncio.sleep(for_s)
        try:
            self._listen()
        except OSError as error:  # somebody else took the port meanwhile
            self._failed(error)

    def close(self) -> None:
        """As Endpoint."""
        self._stop()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._listener = socket.create_server(self._address, family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._start(asyncio.get_running_loop().create_task(self._accept(self._listener)), self._failed)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with suppress(OSError):  # gone before we could take it
                self._take(connection)
                if not self._many:
                    await self._all_gone.wait()


class TcpClient(_Sockets):
    """An address that we call, again and again: for a hub's side that listens (ser2net, socat, a port server)."""

    def __init__(self, host: str, port: int, backoff_s: float, timeout_s: float) -> None:
        super().__init__()
        self._address, self._timeout_s = (host, port), timeout_s
        self._retries = Retries(backoff_s, timeout_s)
        self._is_plugged_in = asyncio.Event()
        self._is_plugged_in.set()

    @property
    def place(self) -> str:
        """As Endpoint."""
        return _url(*self._address)

    @property
    def status(self) -> Status:
        """As Endpoint: up while somebody is there."""
        return Status(bool(self.links), clients=self._peers())

    def open(self, host: Host, failed: Callable[[Exception], None]) -> None:
        """As Endpoint."""
        self._host = host
        self._start(asyncio.get_running_loop().create_task(self._call()), failed)

    async def drop(self, for_s: float) -> None:
        """As Endpoint: hang up; the next call comes when the time is over."""
        self._is_plugged_in.clear()
        self._lose_all()
        await asyncio.sleep(for_s)
        self._is_plugged_in.set()

    def close(self) -> None:
        """As Endpoint."""
        self._stop()

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._is_plugged_in.wait()
            try:
                await self._stay(await self._connected())
                why = "the connection ended"
            except (OSError, TimeoutError) as error:
                why = str(error) or "no answer"
            if not self._is_plugged_in.is_set():
                continue  # it is us who hung up
            pause_s = self._retries.failed(loop.time())
            if pause_s is None:
                raise GaveUpError(
                    f"{self.place}: gave up after {self._timeout_s:g} s (reconnect_timeout_sec): {why}"
                )
            logs.event("not connected", place=self.place, why=why, next_try_s=round(pause_s, 3))
            await asyncio.sleep(pause_s)

    async def _stay(self, connection: socket.socket) -> None:
        """Until it ends, or the cable was pulled meanwhile."""
        if not self._is_plugged_in.is_set():
            connection.close()
            return
        loop = asyncio.get_running_loop()
        link, begun_at = self._take(connection), loop.time()
        logs.event("connected", place=self.place)
        await self._all_gone.wait()
        if link.was_used or loop.time() - begun_at >= STOOD_S:
            self._retries.succeeded()

    async def _connected(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(connection, self._address), CONNECT_S
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _url(host: str, port: int) -> str:
    return f"socket://{f'[{host}]' if ':' in host else host}:{port}"
