"""Byte streams to serial devices: a port (termios), a socket, a socket with telnet's RFC 2217 around it."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import termios
import time
from contextlib import suppress
from typing import Any, Protocol

from answering import ToolError

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, SUPPRESS_GO_AHEAD, COM_PORT = 0, 3, 44
_OFFERED = (BINARY, SUPPRESS_GO_AHEAD, COM_PORT)
_SETTLE_S = 0.3


class Stream(Protocol):
    """Bytes there and back. Raises OSError when it is gone."""

    def send(self, data: bytes) -> None:
        """Send all of it."""

    def receive(self, timeout_s: float) -> bytes:
        """What has come, or what comes first within the time; empty when nothing does."""

    def close(self) -> None:
        """Close; never raises."""


def reason_of(error: OSError) -> str:
    """Why, in the system's words."""
    if isinstance(error, socket.gaierror):
        return "this name is not known"
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer in time"
    return error.strerror or os.strerror(error.errno or 0) or type(error).__name__


class Port:
    """A serial port, given back as it was."""

    def __init__(self, descriptor: int, before: list[Any]) -> None:
        self._descriptor, self._before = descriptor, before

    def send(self, data: bytes) -> None:
        """See Stream."""
        while data:
            if not select.select([], [self._descriptor], [], 1.0)[1]:
                raise TimeoutError("the port takes no bytes")
            data = data[os.write(self._descriptor, data) :]

    def receive(self, timeout_s: float) -> bytes:
        """See Stream."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return b""
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(0, "the port hung up")
        return data

    def close(self) -> None:
        """See Stream."""
        with suppress(OSError, termios.error):
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
        os.close(self._descriptor)


def opened_port(path: str, settings: dict[str, Any]) -> Port:
    """A serial port with its line settings. Raises ToolError saying why it cannot be had."""
    try:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            raise ToolError("no_port", f"{path} is not a serial port")
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "this is no path"
        hint = (
            " here (the tool sees only what its own container was given)"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise ToolError("no_port", f"cannot open {path}: {reason}{hint}") from None
    try:
        if not os.isatty(descriptor):
            raise ToolError("no_port", f"{path} is not a serial port")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = termios.tcgetattr(descriptor)
        termios.tcsetattr(descriptor, termios.TCSANOW, _raw(before, settings))
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            busy = f"{path} is in use by another program"
            raise ToolError("busy", busy, retriable=True) from None
        if isinstance(error, OSError | termios.error):
            raise ToolError("no_port", f"cannot set up {path}: {error.args[-1]}") from None
        raise
    return Port(descriptor, before)


def _raw(before: list[Any], settings: dict[str, Any]) -> list[Any]:
    """Terminal attributes: every byte as it is, at this speed."""
    baudrate = settings.get("baudrate", 19200)
    speed = getattr(termios, f"B{baudrate}", None)
    if speed is None:
        raise ToolError("bad_speed", f"{baudrate} baud cannot be set here; the hub itself may be able to")
    flags = termios.CREAD | termios.CLOCAL
    flags |= termios.CS7 if settings.get("bytesize") == 7 else termios.CS8
    flags |= termios.CSTOPB if settings.get("stopbits") == 2 else 0
    flags |= {"E": termios.PARENB, "O": termios.PARENB | termios.PARODD}.get(settings.get("parity", "N"), 0)
    return [0, 0, flags, 0, speed, speed, before[6]]


class Socket:
    """A TCP connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """See Stream."""
        self._connection.settimeout(2.0)
        self._connection.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        """See Stream."""
        if not select.select([self._connection], [], [], timeout_s)[0]:
            return b""
        data = self._connection.recv(4096)
        if not data:
            raise ConnectionResetError(0, "the other side closed the connection")
        return data

    def close(self) -> None:
        """See Stream."""
        self._connection.close()


def connected(host: str, port: int, timeout_s: float) -> Socket:
    """A connection. Raises ToolError saying why there is none."""
    try:
        return Socket(socket.create_connection((host, port), timeout=max(timeout_s, 0.1)))
    except (OSError, UnicodeError, OverflowError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "this is no host name"
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ToolError("unreachable", f"cannot connect to {place}: {reason}", retriable=True) from None


class Telnet:
    """RFC 2217 around a connection: escapes, and answers to what the other side offers or asks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pending = b""

    def send(self, data: bytes) -> None:
        """See Stream."""
        self._stream.send(data.replace(bytes([IAC]), bytes([IAC, IAC])))

    def receive(self, timeout_s: float) -> bytes:
        """See Stream."""
        self._pending += self._stream.receive(timeout_s)
        return self._plain()

    def close(self) -> None:
        """See Stream."""
        self._stream.close()

    def command(self, *values: int) -> None:
        """Send a telnet command."""
        self._stream.send(bytes([IAC, *values]))

    def setting(self, command: int, value: bytes) -> None:
        """Send a setting of the remote port."""
        escaped = value.replace(bytes([IAC]), bytes([IAC, IAC]))
        self._stream.send(bytes([IAC, SB, COM_PORT, command]) + escaped + bytes([IAC, SE]))

    def _plain(self) -> bytes:
        """Take the data out of what is pending; commands are answered, an unfinished one is kept."""
        data = b""
        while self._pending:
            before, mark, after = self._pending.partition(bytes([IAC]))
            data += before
            self._pending = mark + after
            if len(self._pending) < 2:
                break
            code = self._pending[1]
            if code == IAC:
                data += bytes([IAC])
                length = 2
            elif code == SB:
                end = self._pending.find(bytes([IAC, SE]))
                if end < 0:
                    break
                length = end + 2
            elif code in (DO, DONT, WILL, WONT):
                if len(self._pending) < 3:
                    break
                self._react(code, self._pending[2])
                length = 3
            else:
                length = 2
            self._pending = self._pending[length:]
        return data

    def _react(self, code: int, option: int) -> None:
        """Refuse what was not offered (what was needs no answer: it is one)."""
        if option not in _OFFERED and code in (DO, WILL):
            self.command(WONT if code == DO else DONT, option)


def telnet(stream: Stream, settings: dict[str, Any]) -> Telnet:
    """A remote port with its line settings, told but not waited for: an old server may never confirm."""
    remote = Telnet(stream)
    for option in (BINARY, SUPPRESS_GO_AHEAD):
        remote.command(WILL, option)
        remote.command(DO, option)
    remote.command(WILL, COM_PORT)
    remote.setting(1, int(settings.get("baudrate", 19200)).to_bytes(4, "big"))
    remote.setting(2, bytes([int(settings.get("bytesize", 8))]))
    remote.setting(3, bytes([{"N": 1, "O": 2, "E": 3}[settings.get("parity", "N")]]))
    remote.setting(4, bytes([int(settings.get("stopbits", 1))]))
    until = time.monotonic() + _SETTLE_S
    while time.monotonic() < until:
        remote.receive(until - time.monotonic())
    return remote
