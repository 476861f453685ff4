"""One connected client of a line: a terminal or a socket, whose bytes come and go without anybody waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

READ_BYTES = 4096
MAX_PENDING_BYTES = 65536


class Link:
    """A non-blocking descriptor in the running loop, between its making and `close`."""

    def __init__(
        self,
        descriptor: int,
        received: Callable[[Link, bytes], None],
        ended: Callable[[Link], None] = lambda _: None,
    ) -> None:
        """`ended`: the other side is gone; whoever made the link closes it then."""
        self._loop = asyncio.get_running_loop()
        self._descriptor, self._received, self._ended = descriptor, received, ended
        self._pending = b""
        self._is_open = True
        self._loop.add_reader(descriptor, self._on_readable)

    def write(self, data: bytes) -> None:
        """Send; what nobody takes is lost beyond a bound, as on a real line."""
        if self._is_open and data and len(self._pending) < MAX_PENDING_BYTES:
            self._pending += data
            self._flush()

    def close(self) -> None:
        """Let go of the descriptor, which stays open."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset by the other side
            data = b""
        if data:
            self._received(self, data)
        else:
            self.close()
            self._ended(self)

    def _flush(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._descriptor, self._pending) :]
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._flush)
        except OSError:  # gone; the reader is told, too
            self._pending = b""
            self._loop.remove_writer(self._descriptor)
        else:
            self._loop.remove_writer(self._descriptor)
