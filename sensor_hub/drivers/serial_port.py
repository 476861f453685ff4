"""A serial port: opening it by path, by what its hardware says of itself or over the network; reading and writing.

Whatever goes wrong is TransportDown, with a reason that people can act upon.
"""

from __future__ import annotations

import errno
import math
import os
import re
import select
import socket
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import serial  # type: ignore[import-untyped]
from serial.tools import list_ports  # type: ignore[import-untyped]

from sensor_hub.drivers.reasons import reason_of
from sensor_hub.errors import TransportDown

_HWGREP = "hwgrep://"
_NETWORK_SCHEMES = ("socket", "rfc2217")
# A server whose port has no modem lines (ser2net's, for one) never confirms that it set them: do not wait for that.
_UNCONFIRMED = "ign_set_control"
_RFC2217_OPTIONS = {_UNCONFIRMED, "poll_modem", "timeout"}
_ALLOWED = (
    "must be a device path such as /dev/ttyUSB0 or /dev/serial/by-id/…, "
    "socket://host:port, rfc2217://host:port or hwgrep://expression"
)
_READ_BYTES = 4096
_HUNG_UP = "it was unplugged, or another program reads from it"
# rfc2217 has no descriptor to wait for, and a change of its timeout goes over the network: it waits in slices.
_SLICE_S = 0.02
_WRITE_TIMEOUT_S = 1.0
# A gateway that vanished without a word: the kernel gives up after this, not after a quarter of an hour.
_UNACKNOWLEDGED_MAX_MS = 10_000


def serial_url_problem(url: str) -> str | None:
    """What is wrong with the url of a serial line, or None."""
    if "://" not in url:
        return None if url.startswith("/") and "\0" not in url else _ALLOWED
    if url.startswith(_HWGREP):
        return _hwgrep_problem(url)
    try:
        parts = urlsplit(url)
        good = parts.scheme in _NETWORK_SCHEMES and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return _ALLOWED
    if not good or parts.path not in ("", "/") or parts.fragment or parts.username is not None:
        return _ALLOWED
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    known = _RFC2217_OPTIONS if parts.scheme == "rfc2217" else set()
    unknown = sorted(options - known)
    return f"unknown option {unknown[0]!r} in the url" if unknown else None


class Port:
    """An open port; made by `open_port`. Used by one thread."""

    def __init__(self, url: str, port: Any) -> None:
        """Take pyserial's port; one with a descriptor has timeout 0, one without waits for a slice."""
        self._url, self._port = url, port
        self._descriptor: int | None = port.fileno() if port.timeout == 0 else None
        self._readable, self._writable = (
            select.poll(),
            select.poll(),
        )  # select() takes descriptors to 1023 only
        if self._descriptor is not None:
            self._readable.register(self._descriptor, select.POLLIN)
            self._writable.register(self._descriptor, select.POLLOUT)

    def read(self, wait_s: float) -> bytes:
        """What has come; waits at most so long for the first byte. Raises TransportDown."""
        with self._errors():
            if self._descriptor is None:
                return self._read_in_slices(wait_s)
            ready = self._readable.poll(math.ceil(max(0.0, wait_s) * 1000))
            return self._take(self._descriptor) if ready else b""

    def write(self, data: bytes) -> None:
        """Send all of it; what the other side does not take within a second is TransportDown."""
        with self._errors():
            if self._descriptor is None:
                self._port.write(data)
            else:
                self._send(self._descriptor, data)

    def close(self) -> None:
        """Let the port go; never raises; may be called twice."""
        port, self._port = self._port, None
        if port is not None:
            with suppress(OSError, termios.error):  # the port is gone, which is what was wanted
                port.close()

    def _send(self, descriptor: int, data: bytes) -> None:
        until = time.monotonic() + _WRITE_TIMEOUT_S
        while data:
            if not self._writable.poll(math.ceil(max(0.0, until - time.monotonic()) * 1000)):
                raise serial.SerialTimeoutException("Write timeout")
            with suppress(BlockingIOError):
                data = data[os.write(descriptor, data) :]

    def _take(self, descriptor: int) -> bytes:
        """What is there; pyserial's own `read` would wait for it once more."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:  # another program was quicker
            return b""
        if not data:
            raise ConnectionError if self._url.startswith("socket:") else serial.SerialException(_HUNG_UP)
        return data

    def _read_in_slices(self, wait_s: float) -> bytes:
        until = time.monotonic() + wait_s
        while not self._port.in_waiting and time.monotonic() < until:
            data = bytes(self._port.read(1))
            if data:
                return data + bytes(self._port.read(self._port.in_waiting))
        return bytes(self._port.read(self._port.in_waiting))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if self._port is None:
            raise TransportDown(f"{self._url} is not open")
        try:
            yield
        except (OSError, termios.error) as error:
            self.close()
            raise TransportDown(f"{self._url} is gone: {port_reason(error)}") from None


def open_port(url: str, *, baudrate: int, bytesize: int = 8, parity: str = "N", stopbits: int = 1) -> Port:
    """Open it for us alone. Raises TransportDown with the reason; leaves nothing open then."""
    # pyserial's rfc2217 refuses to open with a write timeout.
    sliced = url.startswith("rfc2217:")
    port = None
    try:
        port = serial.serial_for_url(
            _as_pyserial_opens_it(url),
            do_not_open=True,
            timeout=_SLICE_S if sliced else 0,
            write_timeout=None if sliced else _WRITE_TIMEOUT_S,
            baudrate=baudrate,
            bytesize=bytesize,
            parity=parity,
            stopbits=stopbits,
            exclusive=True,
        )
        port.open()
    except (OSError, ValueError, OverflowError, termios.error) as error:
        if port is not None:
            with suppress(OSError, termios.error):
                port.close()
        raise TransportDown(f"cannot open {url}: {port_reason(error)}") from None
    _tune(port)
    return Port(url, port)


def _as_pyserial_opens_it(url: str) -> str:
    if url.startswith(_HWGREP):
        return _matching(url)
    if url.startswith("rfc2217:") and _UNCONFIRMED not in url:
        return f"{url}{'&' if '?' in url else '?'}{_UNCONFIRMED}"
    return url


def port_reason(error: BaseException) -> str:
    """Why a port cannot be opened or used, in a few words."""
    if isinstance(error, termios.error):
        return str(error.args[-1])
    if isinstance(error, ValueError) and "select()" in str(error):
        return "too many open files: pyserial takes descriptors to 1023 only"
    match error:
        case OSError(errno=errno.EAGAIN | errno.EBUSY):
            return "it is in use by another program"
        case OSError(errno=errno.ENOENT):
            return f"{reason_of(error)}; is it plugged in?"
        case OSError(errno=errno.EACCES):
            return f"{reason_of(error)}; may this user open it (group dialout)?"
    reason = reason_of(error)
    return reason if reason != type(error).__name__ else str(error)


def _tune(port: Any) -> None:
    """What makes a port quick, and its loss noticed; a port that knows nothing of it works as well."""
    with suppress(AttributeError, NotImplementedError, ValueError, OSError):
        port.set_low_latency_mode(True)  # USB adapters hold back what they hear for up to 16 ms otherwise
    connection = getattr(port, "_socket", None)
    if isinstance(connection, socket.socket):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MAX_MS)


def _hwgrep(url: str) -> tuple[str, int]:
    """Expression and number (from 1) of `hwgrep://expression&n=2`. Raises ValueError saying what is wrong."""
    expression, *options = url.removeprefix(_HWGREP).split("&")
    number = 1
    for option in options:
        name, _, value = option.partition("=")
        if name != "n":
            raise ValueError(f"unknown option {name!r} in the url")
        if not value.isdecimal() or int(value) < 1:
            raise ValueError("n in the url must be a whole number from 1")
        number = int(value)
    if not expression:
        raise ValueError(_ALLOWED)
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"{expression!r} is no regular expression: {error}") from None
    return expression, number


def _hwgrep_problem(url: str) -> str | None:
    try:
        _hwgrep(url)
    except ValueError as error:
        return str(error)
    return None


def _matching(url: str) -> str:
    """Path of the port whose name, description or hardware id (with its serial number) matches, now."""
    expression, number = _hwgrep(url)
    found = sorted(str(port.device) for port in list_ports.grep(expression))
    if len(found) >= number:
        return found[number - 1]
    there = ", ".join(sorted(f"{port.device} ({port.hwid})" for port in list_ports.comports()))
    few = f"only {len(found)} ports match" if found else "no port matches"
    raise ValueError(f"{few}; there are {there}" if there else f"{few}; there is no port at all")
