"""One connected client of a line: a terminal or a socket, whose bytes come and go without anybody waiting."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

from emulator.ptys import Pty

READ_BYTES = 4096
READS = 16  # in a row, before others have their turn
MAX_PENDING_BYTES = 65536


class Link:
    """A non-blocking descriptor in the running loop, between its making and `close`."""

    def __init__(
        self,
        descriptor: int,
        received: Callable[[Link, bytes], None],
        ended: Callable[[Link], None] = lambda _: None,
        watched: int | None = None,
    ) -> None:
        """`ended`: the other side is gone; whoever made the link closes it then. `watched`: says when to read."""
        self._loop = asyncio.get_running_loop()
        self._descriptor, self._received, self._ended = descriptor, received, ended
        self._watched = descriptor if watched is None else watched
        self._pending = b""
        self._is_open = True
        self.was_used = False  # a byte has gone either way
        self._loop.add_reader(self._watched, self._on_readable)

    def is_heard(self) -> bool:
        """Whether somebody is there."""
        return self._is_open

    def keep(self, data: bytes) -> None:
        """Send to the first who is there."""
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send; what nobody takes is lost beyond a bound, as on a real line."""
        if self._is_open and data and len(self._pending) < MAX_PENDING_BYTES:
            self._pending += data
            self._flush()

    def close(self) -> None:
        """Let go of the descriptor, which stays open."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._descriptor)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset by the other side
            data = b""
        if data:
            self.was_used = True
            self._received(self, data)
        else:
            self.close()
            self._ended(self)

    def _flush(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._descriptor, self._pending) :]
                self.was_used = True
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._flush)
        except OSError:  # gone; the reader is told, too
            self._pending = b""
            self._loop.remove_writer(self._descriptor)
        else:
            self._loop.remove_writer(self._descriptor)


class TerminalLink(Link):
    """The master of a pseudo-terminal, for whoever has it open. What is said while nobody has is lost."""

    def __init__(self, pty: Pty, received: Callable[[Link, bytes], None]) -> None:
        self._pty = pty
        self._kept = b""
        self._may_be_unread = False
        self._hang_up = select.poll()
        self._hang_up.register(pty.master, 0)
        # asked for the state, a terminal that nobody has open would wake us all the time: ask for its changes
        self._changes = select.epoll()
        self._changes.register(pty.master, select.EPOLLIN | select.EPOLLET)
        super().__init__(pty.master, received, watched=self._changes.fileno())

    def is_heard(self) -> bool:
        """As Link. Who comes first is told what was kept for him."""
        if not self._is_open or self._hang_up.poll(0):
            return False
        if self._kept:
            kept, self._kept = self._kept, b""
            self.write(kept)
        return True

    def keep(self, data: bytes) -> None:
        """As Link."""
        self._kept = data

    def write(self, data: bytes) -> None:
        """As Link."""
        if self.is_heard():
            self._may_be_unread = True
            super().write(data)

    def close(self) -> None:
        """As Link."""
        super().close()
        self._changes.close()

    def _on_readable(self) -> None:
        if not self._is_open:
            return
        self._changes.poll(0)
        for _ in range(READS):
            try:
                data = os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # nobody has it open any more
                self._left()
                return
            self._received(self, data)
        self._loop.call_soon(self._on_readable)

    def _left(self) -> None:
        self._pending = b""
        self._loop.remove_writer(self._descriptor)
        if self._may_be_unread:
            self._may_be_unread = False
            self._pty.forget()
