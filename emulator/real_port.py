"""The real line behind a recorder: a port or URL that is opened again when it goes, read and written by threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import serial  # type: ignore[import-untyped]

from emulator.pacing import Speed
from emulator.reconnecting import Retries

POLL_S = 0.1
READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told, from other threads: of bytes and when they came; of its opening, its loss and its end (why).

    `went`: so many bytes were sent, or got lost.
    """

    heard: Callable[[bytes, float], None]
    opened: Callable[[], None]
    lost: Callable[[str], None]
    gave_up: Callable[[str], None]
    went: Callable[[int], None] = lambda _: None


class RealPort:
    """One port, between `start` and `close`."""

    def __init__(self, url: str, speed: Speed, retries: Retries, listener: Listener) -> None:
        """`url`: as pyserial takes it: /dev/ttyUSB0, socket://, rfc2217://, hwgrep://."""
        self._url, self._speed, self._retries, self._listener = url, speed, retries, listener
        self._port: Any = None
        self._was_heard = False
        self._to_write: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("port-reader", self._read_on), ("port-writer", self._write_on))
        ]

    @property
    def is_open(self) -> bool:
        """Whether bytes go through."""
        return self._port is not None

    def start(self) -> None:
        """Open it, or go on trying."""
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> None:
        """Send as soon as it can take more."""
        self._to_write.put(data)

    def close(self) -> None:
        """Let go of it."""
        self._stopping.set()
        self._to_write.put(b"")
        for thread in self._threads:
            thread.join(2)

    def _read_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self._stay(self._opened())
                return
            except (OSError, ValueError) as error:  # SerialException is an OSError
                why = str(error)
            self._listener.lost(why)
            pause_s = self._retries.failed(time.monotonic())
            if pause_s is None:
                self._listener.gave_up(why)
                return
            self._stopping.wait(pause_s)

    def _stay(self, port: Any) -> None:
        """Until it is lost, which raises, or we stop."""
        self._port, self._was_heard = port, False
        begun_at = time.monotonic()
        try:
            self._listener.opened()
            self._read(port)
        finally:
            self._port = None
            port.close()
            # what we wrote proves nothing: a port server that hangs up on us at once takes that, too
            self._retries.connection_ended(time.monotonic() - begun_at, used=self._was_heard)

    def _opened(self) -> Any:
        facts: dict[str, Any] = {} if "://" in self._url else {"exclusive": True}
        return serial.serial_for_url(
            self._url,
            baudrate=self._speed.baudrate,
            parity=self._speed.parity,
            stopbits=self._speed.stopbits,
            timeout=POLL_S,
            **facts,
        )

    def _read(self, port: Any) -> None:
        while not self._stopping.is_set():
            data = port.read(1)
            came_at = time.monotonic()
            while data and len(data) < READ_BYTES and (waiting := port.in_waiting):
                data += port.read(min(waiting, READ_BYTES))
            if data:
                self._was_heard = True
                self._listener.heard(data, came_at)

    def _write_on(self) -> None:
        while data := self._to_write.get():
            port = self._port
            if port is not None:
                with suppress(OSError, TypeError):  # the reader is told, too; pyserial when closed meanwhile
                    port.write(data)
            self._listener.went(len(data))
