"""Where a line's clients come in over TCP: a port, or an address that we call."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from emulator import logs
from emulator.endpoints import GaveUpError, Host, Status
from emulator.links import Link
from emulator.precise_loop import passed
from emulator.reconnecting import Retries

BACKLOG = 16
CONNECT_S = 5.0
SHORT_S = 0.5  # until the next try, when no descriptor is left for a client
# a client that vanished without a word must not hold the only place for ever
KEEP_ALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 5),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)


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

    async def drop(self, for_s: float, over: asyncio.Event | None = None) -> bool:
        """As Endpoint: meanwhile connections are refused."""
        self.close()
        await passed(for_s, over)
        try:
            self._listen()
        except OSError as error:  # somebody else took the port meanwhile
            self._failed(error)
            return False
        return True

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
        is_short = False
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # too many open files: clients wait until some have gone
                if not is_short:
                    logs.event("cannot take clients", logging.WARNING, place=self.place, why=str(error))
                is_short = True
                await asyncio.sleep(SHORT_S)
                continue
            is_short = False
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

    async def drop(self, for_s: float, over: asyncio.Event | None = None) -> bool:
        """As Endpoint: hang up; the next call comes when the time is over."""
        self._is_plugged_in.clear()
        self._lose_all()
        await passed(for_s, over)
        self._is_plugged_in.set()
        return True

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
        self._retries.connection_ended(loop.time() - begun_at, used=link.was_used)

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
