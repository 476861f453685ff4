"""One connected client of a line: a terminal or a socket, whose bytes come and go without anybody waiting."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress

from emulator.ptys import Pty

READ_BYTES = 4096
READS = 16  # in a row, before others have their turn
MAX_PENDING_BYTES = 65536
MAX_UNREAD_BYTES = 4096  # beyond what the system keeps, if nobody reads a terminal


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
        self._pending = bytearray()
        self._is_open, self._is_paused = True, False
        self._end: select.epoll | None = None  # readable when the other side is gone, while paused
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

    def pause(self) -> None:
        """Hear nothing until `resume`: the system holds back what is sent, and who sends it."""
        if self._is_open and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(self._watched)
            self._watch_for_end()

    def resume(self) -> None:
        """Hear again."""
        if self._is_open and self._is_paused:
            self._is_paused = False
            self._watch_no_more()
            self._loop.add_reader(self._watched, self._on_readable)

    def close(self) -> None:
        """Let go of the descriptor, which stays open."""
        if self._is_open:
            self._is_open = False
            self._watch_no_more()
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._descriptor)

    def _watch_for_end(self) -> None:
        """A client that leaves while it is not heard makes room at once."""
        with suppress(OSError):  # no descriptor is left: it then makes room when all it has sent is heard
            self._end = select.epoll()
            self._end.register(self._descriptor, select.EPOLLRDHUP)
            self._loop.add_reader(self._end.fileno(), self._on_end)

    def _watch_no_more(self) -> None:
        if self._end is not None:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()
            self._end = None

    def _on_end(self) -> None:
        self.close()
        self._ended(self)

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
            self._on_end()

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: os.write(self._descriptor, self._pending)]
                self.was_used = True
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._flush)
        except OSError:  # gone; the reader is told, too
            self._pending.clear()
            self._loop.remove_writer(self._descriptor)
        else:
            self._loop.remove_writer(self._descriptor)


class TerminalLink(Link):
    """The master of a pseudo-terminal, for whoever has it open. What is said while nobody has is lost.

    Who has it open and does not read finds the newest: what is older goes at once when the buffers are full.
    """

    def __init__(self, pty: Pty, received: Callable[[Link, bytes], None]) -> None:
        self._pty = pty
        self.kept = b""  # for who comes first
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
        if self.kept:
            kept, self.kept = self.kept, b""
            self.write(kept)
        return True

    def keep(self, data: bytes) -> None:
        """As Link."""
        self.kept = data

    def write(self, data: bytes) -> None:
        """As Link."""
        if self.is_heard():
            self._may_be_unread = True
            if len(self._pending) > MAX_UNREAD_BYTES:
                self._pty.forget()
                del self._pending[:-MAX_UNREAD_BYTES]
            super().write(data)

    def _watch_for_end(self) -> None:
        """It has none."""

    def resume(self) -> None:
        """As Link. What came meanwhile is no change that we would be woken for."""
        if self._is_paused:
            super().resume()
            self._loop.call_soon(self._on_readable)

    def close(self) -> None:
        """As Link."""
        super().close()
        self._changes.close()

    def _on_readable(self) -> None:
        if not self._is_open:
            return
        self._changes.poll(0)
        for _ in range(READS):
            if self._is_paused:
                return
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
        self._pending.clear()
        self._loop.remove_writer(self._descriptor)
        if self._may_be_unread:
            self._may_be_unread = False
            self._pty.forget()
