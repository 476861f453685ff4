"""Which ports an instance gets, and that no other hub on this machine takes them.

A port is reserved by holding an abstract Unix socket of its name: such a name is shared by exactly those who
share a network namespace (and so the port space), and is free again the moment its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

import psutil
import requests

from sensor_hub import runtime
from sensor_hub.wire import INSTANCE_HEADER

_CLAIM = "sensor-hub-port-"
FIRST_PORT, BLOCK_STEP, LAST_PORT = 5001, 10, 65_000


class PortTaken(Exception):
    """A port that was asked for by number belongs to somebody else; the message says to whom."""


class Reservation:
    """Holds ports until the process ends or `close` is called."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, host: str, ports: Sequence[int]) -> bool:
        """Reserve all of `ports` on `host`, or none."""
        taken: list[int] = []
        for port in ports:
            if not self._take(host, port):
                for mine in taken:
                    self._held.pop(mine).close()
                return False
            taken.append(port)
        return True

    def take_block(self, host: str, size: int) -> list[int]:
        """The first free block of `size` ports: 5001…, 5011…, 5021…. Raises PortTaken when all are in use."""
        for first in range(FIRST_PORT, LAST_PORT, BLOCK_STEP):
            block = list(range(first, first + size))
            if self.take(host, block):
                return block
        raise PortTaken(f"no free block of {size} ports between {FIRST_PORT} and {LAST_PORT}")

    def take_first(self, host: str, first: int, count: int, what: str) -> int:
        """The first free port of `count` from `first` on. Raises PortTaken when all are in use."""
        last = min(first + count - 1, 65535)
        for port in range(first, last + 1):
            if self.take(host, [port]):
                return port
        raise PortTaken(f"no free port for the {what} between {first} and {last}")

    def take_given(self, host: str, port: int) -> None:
        """Reserve exactly this port. Raises PortTaken with the name of who has it."""
        if port in self._held or self.take(host, [port]):
            return
        if any(refusal and refusal.errno == errno.EACCES for refusal in _refusals(host, port)):
            raise PortTaken(f"port {port} is for privileged users only")
        raise PortTaken(f"port {port} is in use by {holder(host, port)}")

    def close(self) -> None:
        """Let all go."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _take(self, host: str, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0{_CLAIM}{port}")
        except OSError as error:
            claim.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        if not is_free(host, port):
            claim.close()
            return False
        self._held[port] = claim
        return True


def check_host(host: str) -> None:
    """Raises OSError with the reason when nothing can listen on `host`."""
    refusals = _refusals(host, 0)
    if refusals and None not in refusals:
        raise next(refusal for refusal in refusals if refusal is not None)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. An address that this machine has not got is nobody's."""
    absent = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return all(refusal is None or refusal.errno in absent for refusal in _refusals(host, port))


def _refusals(host: str, port: int) -> list[OSError | None]:
    """What listening on each address of `host` comes to: None is success."""
    found: list[OSError | None] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
                found.append(None)
        except OSError as error:
            found.append(error)
    return found


def holder(host: str, port: int) -> str:
    """Who listens on a port, as far as this process may see it."""
    hub = _hub_on(host, port)
    if hub is not None:
        return f"the sensor hub instance {hub!r}"
    return _claimant(port) or listener(port)


def listener(port: int) -> str:
    """The process that listens on a port, as far as this one may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
                continue
            if connection.laddr.port == port:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        pass
    return "another process (not visible from here)"


def _claimant(port: int) -> str | None:
    """The hub that has reserved the port, whether or not it serves there yet."""
    try:
        sockets = psutil.net_connections("unix")
        pids = [c.pid for c in sockets if str(c.laddr) == f"@{_CLAIM}{port}"]
    except psutil.Error:
        pids = [None]
    if not pids:
        return None
    for instance_id in runtime.running_instances():
        instance = runtime.read_instance(instance_id)
        if instance is not None and instance.launcher_pid == pids[0]:
            return f"the sensor hub instance {instance_id!r}"
    return "another sensor hub that is just starting or stopping" + (f" (pid {pids[0]})" if pids[0] else "")


def _hub_on(host: str, port: int) -> str | None:
    with requests.Session() as session:
        session.trust_env = False
        for address in dict.fromkeys((f"[{host}]" if ":" in host else host, "127.0.0.1")):
            with contextlib.suppress(requests.RequestException):
                answer = session.get(f"http://{address}:{port}/health", timeout=1)
                if INSTANCE_HEADER in answer.headers:
                    return answer.headers[INSTANCE_HEADER]
    return None
