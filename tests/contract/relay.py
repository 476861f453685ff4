"""A line between the bridge and a broker that a test cuts: the broker and the witness notice nothing of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

Edit = Callable[[bytes], bytes]


class Relay:
    """Forwards connections on `port` to a broker on loopback, until it is cut."""

    def __init__(self, broker_port: int, edit: Edit = bytes) -> None:
        """`edit` is given what the broker sends and says what of it arrives."""
        self._broker_port, self._edit = broker_port, edit
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close what is open; new connections are closed at once."""
        with self._lock:
            self._is_cut = True
            found, self._open = self._open, []
        for each in found:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def mend(self) -> None:
        """Take new connections."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
                self._open += [client, broker]
            for source, sink, edit in ((client, broker, bytes), (broker, client, self._edit)):
                threading.Thread(target=_forward, args=(source, sink, edit), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, edit: Edit) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(edit(data))
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
