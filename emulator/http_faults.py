"""What goes wrong with polls over HTTP, before the app sees them."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from emulator.control_guard import is_of_another_site
from emulator.faults import Faults, Kind, Strikes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PIECE_BYTES = 65536
LOOK_S = 0.2  # who waits looks that often whether the server stops
STUCK = "emulator.stuck"  # in the environment of a poll whose device is stuck
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


class FailingPolls:
    """Around the app: a poll that is struck is late, refused, held, reset or drowned."""

    def __init__(
        self,
        app: WSGIApplication,
        faults_of: Callable[[str], tuple[Faults, ...]],
        stopping: threading.Event,
    ) -> None:
        """`faults_of`: a path -> whose faults count for a poll of it; none: it is no poll."""
        self._app, self._faults_of, self._stopping = app, faults_of, stopping

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as WSGI wants it, or not at all."""
        path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")  # as WSGI has it
        owners = self._faults_of(path) if environ["REQUEST_METHOD"] == "GET" else ()
        if not owners or is_of_another_site(environ, is_poll=True):  # which is refused
            return self._app(environ, start_response)
        return self._spoiled(environ, start_response, Strikes(*owners))

    def _spoiled(
        self, environ: WSGIEnvironment, start_response: StartResponse, struck: Strikes
    ) -> Iterable[bytes]:
        if Kind.HANG in struck:
            self._wait(struck, Kind.HANG)
            raise ConnectionAbortedError  # the server then closes without an answer
        if Kind.RESET in struck:
            _reset(environ["werkzeug.socket"])
            raise ConnectionAbortedError
        if Kind.DELAY in struck:
            self._wait(struck, Kind.DELAY)
        if Kind.HTTP_ERROR in struck:
            status = struck[Kind.HTTP_ERROR].says
            start_response(f"{status} Emulated", [("Content-Type", "application/json")])
            return [json.dumps({"error": "an emulated fault"}).encode()]
        if Kind.HUGE_BODY in struck:
            size = struck[Kind.HUGE_BODY].size
            start_response(
                "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(size + 2))]
            )
            return _huge(size)
        environ[STUCK] = Kind.STUCK in struck
        return self._app(environ, start_response)

    def _wait(self, struck: Strikes, kind: Kind) -> None:
        """For as long as it lasts, at most until the fault is cleared or the server stops."""
        over, ends_at = threading.Event(), time.monotonic() + struck[kind].lasts_s
        with struck.waiting(kind, over.set):
            while (left_s := ends_at - time.monotonic()) > 0 and not self._stopping.is_set():
                if over.wait(min(left_s, LOOK_S)):
                    return


def _reset(connection: socket.socket) -> None:
    """Close it here and now, not as politely as the server would, under the server's own descriptor."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, connection.fileno(), inheritable=False)
    os.close(nothing)


def _huge(size: int) -> Iterator[bytes]:
    """A JSON text of so many characters."""
    yield b'"'
    while size > 0:
        piece = min(size, PIECE_BYTES)
        yield b"x" * piece
        size -= piece
    yield b'"'
