"""gunicorn's gthread worker, less trusting: a request gets a thread when it is there as a whole, not before.

gunicorn gives each connection one of its threads and lets it wait there for what the client sends; some
160 clients that send nothing, or half a request, then keep everybody out. Here the main loop collects requests,
a client that takes too long is cut off, and `/health` has threads of its own that no other request can take.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn import http  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from sensor_hub import limits, logs

log = logs.get(__name__)

REQUEST_WITHIN_S = 10.0  # from its first byte (a new connection: from its start) to its last
MOVE_WITHIN_S = 10.0  # each piece of what a thread still has to read or write
LINGER_S = 2.0  # after the last answer, for a client that is still sending
REST_S = 1.0  # before the next attempt when no connection can be accepted
MAX_HEAD_BYTES, MAX_BODY_BYTES = 64 * 1024, 1024 * 1024
HEALTH_THREADS = 2
_CHUNK_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?:\r\n|$)")
_LAST_CHUNK = re.compile(rb"(?:^|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n")
_HEALTH = re.compile(rb"(?:GET|HEAD) /health[ ?]")
_NOBODY_THERE = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}


def is_whole(data: bytes | bytearray) -> bool:
    """Whether a request is complete, or will be refused as it is, or waits for an answer (100-continue)."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return len(data) > MAX_HEAD_BYTES
    fields = head.lower()
    if b"\r\nexpect:" in fields or len(body) > MAX_BODY_BYTES:
        return True
    if b"\r\ntransfer-encoding:" in fields:
        return _LAST_CHUNK.search(body) is not None
    length = _LENGTH.search(fields)
    return length is None or int(length[1]) > MAX_BODY_BYTES or len(body) >= int(length[1])


def is_for_health(data: bytes | bytearray) -> bool:
    """Whether a whole request asks for /health and brings no body that would have to be read."""
    fields = data.partition(b"\r\n\r\n")[0].lower()
    return _HEALTH.match(data) is not None and not re.search(
        rb"\r\n(?:expect|transfer-encoding|content-length):", fields
    )


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, and what has come of its next request."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.received = bytearray()
        self.parser: Any = None
        self.data_ready = True

    def init(self) -> None:
        """Give the parser what has come. Called by the thread that serves the request."""
        self.sock.settimeout(MOVE_WITHIN_S)
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
        self.parser.unreader.unread(bytes(self.received))
        self.received.clear()


class Worker(ThreadWorker):  # type: ignore[misc]
    """Collects requests in the main loop, answers them in threads."""

    def init_process(self) -> None:
        """Start with a thread for each kind of request; without these there is no service."""
        self.lingering: deque[Connection] = deque()
        self.rest_until = 0.0
        self.lines = logs.OncePerMinute()
        self.health_pool = ThreadPoolExecutor(HEALTH_THREADS, thread_name_prefix="health")
        logging.getLogger("gunicorn.error").addFilter(_is_news)
        try:
            self.health_pool.submit(int)
            super().init_process()
        except (RuntimeError, OSError) as error:
            if not limits.is_reached(error):
                raise
            log.critical(limits.REACHED, reason=str(error))
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None

    def set_accept_enabled(self, enabled: bool) -> None:
        """Not while the listener rests."""
        if not enabled or time.monotonic() >= self.rest_until:
            super().set_accept_enabled(enabled)

    def accept(self, listener: Any) -> None:
        """Take a connection; where there is no room for it, at the cost of one that has nothing to say."""
        if self.nr_conns >= self.worker_connections - 1:
            self._drop_one()
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in _NOBODY_THERE:
                self._rest(error)
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self.cfg, client, address, listener.getsockname()))

    def enqueue_req(self, conn: Connection) -> None:
        """Wait for the connection's next request; some of it may have come with the one before."""
        if conn.parser is not None:
            conn.received += conn.parser.unreader.take_buffered()
        if is_whole(conn.received):
            self._serve(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + REQUEST_WITHIN_S
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, 1, partial(self._on_data, conn))

    def _on_data(self, conn: Connection, client: socket.socket) -> None:
        data = _received(client)
        if data is None:
            return
        conn.received += data
        if data and not is_whole(conn.received):
            return
        self._forget(conn, self.pending_conns)
        if data:
            self._serve(conn)
        else:
            self.nr_conns -= 1
            conn.close()

    def _serve(self, conn: Connection) -> None:
        outcome: Future[Any] = Future()
        pool = self.health_pool if is_for_health(conn.received) else self.tpool

        def serve() -> None:
            try:
                outcome.set_result(self.handle(conn))
            except BaseException as error:  # noqa: BLE001 - it is passed on
                outcome.set_exception(error)
            self.method_queue.defer(self.finish_request, conn, outcome)

        try:
            pool.submit(serve)
        except RuntimeError as error:  # no further thread: those that there are will come to it
            self._tell(limits.REACHED, error)

    def finish_request(self, conn: Connection, outcome: Future[Any]) -> None:
        """Keep the connection for another request, or let it go without waiting for the client."""
        if outcome.exception() is None and outcome.result():
            super().finish_request(conn, outcome)
            return
        self.nr_conns -= 1
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            conn.close()
            return
        conn.timeout = time.monotonic() + LINGER_S
        self.lingering.append(conn)
        self.poller.register(conn.sock, 1, partial(self._on_late_data, conn))

    def _on_late_data(self, conn: Connection, client: socket.socket) -> None:
        if _received(client) == b"":
            self._forget(conn, self.lingering)
            conn.close()

    def murder_pending(self) -> None:
        """Close what has had its time."""
        super().murder_pending()
        while self.lingering and self.lingering[0].timeout < time.monotonic():
            self._drop_one()

    def _drop_one(self) -> bool:
        """Close the oldest connection that is not being served, if there is one."""
        for connections in (self.lingering, self.pending_conns, self.keepalived_conns):
            if connections:
                conn = connections[0]
                self._forget(conn, connections)
                self.nr_conns -= connections is not self.lingering
                conn.close()
                return True
        return False

    def _forget(self, conn: Connection, connections: deque[Connection]) -> None:
        connections.remove(conn)
        self.poller.unregister(conn.sock)

    def _rest(self, error: OSError) -> None:
        """No connection can be accepted (no file descriptor, no memory): that passes, the service stays.

        Half of the silent ones go at once: whoever has something to say stands behind all that came before.
        """
        silent = len(self.lingering) + len(self.pending_conns)
        if sum(self._drop_one() for _ in range(silent // 2 + 1)) == 0:
            self.rest_until = time.monotonic() + REST_S
            self.set_accept_enabled(False)
        self._tell("cannot accept a connection", error)

    def _tell(self, event: str, error: Exception) -> None:
        passes, held = self.lines.passes(event)
        if passes:
            log.error(event, reason=str(error), **({"times_since": held} if held else {}))


def _received(client: socket.socket) -> bytes | None:
    """What has come; empty at the connection's end, None when there is nothing yet."""
    try:
        return client.recv(_CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _is_news(record: logging.LogRecord) -> bool:
    """A client that neither reads nor writes any more is none."""
    return not (record.exc_info and isinstance(record.exc_info[1], TimeoutError))
