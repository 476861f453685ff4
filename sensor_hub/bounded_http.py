"""Sessions of requests whose exchanges end at a deadline, also when the other side drips its headers or its body."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_RECUT_S = 0.1


class _Adapter(HTTPAdapter):
    """Knows its open sockets, so that a watchdog can end an exchange that drips."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._lock = lock = threading.Lock()
        self._sockets = sockets = weakref.WeakSet[socket.socket]()

        def remember(sock: socket.socket) -> None:
            with lock:
                sockets.add(sock)

        class Http(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                remember(self.sock)

        class Https(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                remember(self.sock)

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = Https

        self.poolmanager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}

    def abort(self) -> None:
        """End whatever waits on one of the sockets; from any thread."""
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with suppress(OSError):  # closed already
                # Not SSLSocket.shutdown: it would let the reader go on in plain text.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class BoundedSession(requests.Session):
    """Neither follows redirects nor looks at the environment (proxies, netrc); use it with `stream=True`."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self._adapter = _Adapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: even unfollowed, requests would read a redirect's whole body first."""

    def abort(self) -> None:
        """End whatever is under way; from any thread."""
        self._adapter.abort()

    @contextmanager
    def cut_after(self, timeout_s: float) -> Iterator[threading.Event]:
        """What is under way in the block is ended then; the event says whether it was."""
        done, expired = threading.Event(), threading.Event()
        threading.Thread(target=self._watch, args=(timeout_s, done, expired), daemon=True).start()
        try:
            yield expired
        finally:
            done.set()

    def _watch(self, timeout_s: float, done: threading.Event, expired: threading.Event) -> None:
        """Cut the connections at the deadline; again, should one have been opening just then."""
        while not done.wait(_RECUT_S if expired.is_set() else timeout_s):
            expired.set()
            self.abort()
