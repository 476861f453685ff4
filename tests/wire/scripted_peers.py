"""Tiny devices that answer what a test tells them to, byte by byte, and keep what they were asked."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sensor_hub.config.model import Handler, SensorConfig, TransportConfig
from sensor_hub.readings import Json

Reply = bytes | Callable[[bytes], bytes]
CLOSE = b"<close>"


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def line(url: str, driver: str = "modbus_rtu", *, timeout_s: float = 0.5, **options: Any) -> TransportConfig:
    return TransportConfig(
        transport_id="bus0",
        driver=driver,
        url=url,
        handler=Handler.SERIAL,
        path="config.transports[0]",
        options=options,
        timeout_s=timeout_s,
        write=True,
    )


def sensor(
    sensor_id: str = "s1", sensor_type: str = "generic", *, lenient: bool = False, **options: Json
) -> SensorConfig:
    return SensorConfig(
        sensor_id=sensor_id,
        sensor_type=sensor_type,
        friendly_name=sensor_id,
        transport_id="bus0",
        handler=Handler.SERIAL,
        path="config.sensors[0]",
        interval_s=5.0,
        stale_after_s=15.0,
        options=options,
        lenient=lenient,
    )


def register(table: str = "input", address: int | str = 1, **more: Json) -> dict[str, Json]:
    return {"table": table, "address": address, **more}


class Script:
    """Replies in their order; `b""` is silence, `CLOSE` hangs up, a function makes its reply of the request."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.requests: list[bytes] = []

    def answer(self, request: bytes) -> bytes:
        self.requests.append(request)
        reply = self._replies.pop(0) if self._replies else b""
        return reply(request) if callable(reply) else reply


class PtyPeer:
    """A device on a pseudo-terminal."""

    def __init__(self, *replies: Reply) -> None:
        self.script = Script(*replies)
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._stop_read, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[bytes]:
        return self.script.requests

    @property
    def unread(self) -> int:
        """Bytes that were said and that the driver has not taken yet."""
        waiting = fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def send(self, data: bytes) -> None:
        """Say something unasked."""
        os.write(self.master, data)

    def unplug(self) -> None:
        """Take the line away under the driver."""
        if self.master >= 0:
            os.write(self._stop, b"x")
            self._thread.join(5)
            for descriptor in (self.master, self._slave, self._stop, self._stop_read):
                os.close(descriptor)
            self.master = -1

    def _serve(self) -> None:
        heard = b""
        while True:
            ready, _, _ = select.select([self.master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            heard += os.read(self.master, 256)
            while request := heard[: rtu_request_length(heard)]:
                heard = heard[len(request) :]
                reply = self.script.answer(request)
                if reply:
                    os.write(self.master, reply)


def rtu_request_length(heard: bytes) -> int:
    """Bytes of the whole request at the front; 0: not whole yet."""
    if len(heard) < 8:
        return 0
    length = 9 + heard[6] if heard[1] == 16 else 8
    return length if len(heard) >= length else 0


class TcpPeer:
    """A device that listens on loopback; one connection at a time."""

    def __init__(self, *replies: Reply) -> None:
        self.script = Script(*replies)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[bytes]:
        return self.script.requests

    def hang_up(self) -> None:
        """End the connection, as devices do with one that rests; the next one is accepted."""
        assert self.connection is not None
        self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for sock in (self._listener, self.connection):
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self.connection, _ = self._listener.accept()
                self.connections += 1
                with self.connection, suppress(OSError):
                    self._talk(self.connection)

    def _talk(self, connection: socket.socket) -> None:
        while request := self.next_request(connection):
            reply = self.script.answer(request)
            if reply == CLOSE:
                return
            connection.sendall(reply)

    def next_request(self, connection: socket.socket) -> bytes:
        header = connection.recv(6, socket.MSG_WAITALL)
        if len(header) < 6:
            return b""
        return header + connection.recv(int.from_bytes(header[4:6], "big"), socket.MSG_WAITALL)


class RtuOverTcpPeer(TcpPeer):
    """The same, speaking RTU frames (for socket://)."""

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self.port}"

    def next_request(self, connection: socket.socket) -> bytes:
        return connection.recv(8, socket.MSG_WAITALL)


@contextmanager
def on_pty(*replies: Reply) -> Iterator[PtyPeer]:
    peer = PtyPeer(*replies)
    try:
        yield peer
    finally:
        peer.unplug()


@contextmanager
def on_tcp(*replies: Reply, kind: type[TcpPeer] = TcpPeer) -> Iterator[TcpPeer]:
    peer = kind(*replies)
    try:
        yield peer
    finally:
        peer.close()
