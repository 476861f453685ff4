"""A TCP port before a server, whose connections break as the server itself cannot break them."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

HOST = "127.0.0.1"


class Relay:
    """It can refuse, reset, hang, or not be there at all."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._hung: set[socket.socket] = set()
        self.callers = 0

    @property
    def url(self) -> str:
        return f"tcp://{HOST}:{self.port}"

    def refuse(self) -> None:
        """Nobody listens any more, and who was connected is let go."""
        _shut(self._listener)
        self._let_all_go()

    def reset(self) -> None:
        """Connections end as if the peer had started anew; new ones are taken."""
        for near, _ in self._pairs:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._let_all_go()

    def hang(self) -> None:
        """Connections take all and say nothing any more; new ones work."""
        self._hung |= {near for near, _ in self._pairs}

    def listen_again(self) -> None:
        self._listener = self._listen(self.port)

    def close(self) -> None:
        _shut(self._listener)
        self._let_all_go()

    def _let_all_go(self) -> None:
        while self._pairs:
            for end in self._pairs.pop():
                _shut(end)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((HOST, port), reuse_port=False)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((HOST, self._server_port))
                self.callers += 1
                self._pairs.append((near, far))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1024):
                if not {source, target} & self._hung:
                    target.sendall(data)


def _shut(sock: socket.socket) -> None:
    """Close it, and wake whoever waits for it in another thread (a reset must not say goodbye before)."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()
