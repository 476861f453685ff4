"""Lines that do what lines do wrong, between us and a server of pymodbus: a cable for RTU, a relay for TCP."""

from __future__ import annotations

import os
import pty
import select
import socket
import struct
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pymodbus import FramerType
from pymodbus.framer import FramerRTU
from pymodbus.server import ModbusTcpServer

from tests.contract.services import HOST, Plc
from tests.wire.scripted_peers import rtu_request_length

# What becomes of an answer on its way: request and answer in, what is heard out.
Fault = Callable[[bytes, bytes], bytes]


class RtuPlc(Plc):
    """The same units behind RTU frames."""

    async def _listen(self, units: tuple[int, ...]) -> None:
        devices = [self._device(unit) for unit in units]
        self._server = ModbusTcpServer(devices, framer=FramerType.RTU, address=(HOST, self.port))
        assert await self._server.listen()
        listener: Any = self._server.transport
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()


# -- faults --------------------------------------------------------------------------------------------------------


def with_crc(adu: bytes) -> bytes:
    return adu + FramerRTU.compute_CRC(adu).to_bytes(2, "big")


def fine(request: bytes, answer: bytes) -> bytes:
    return answer


def only(unit: int, fault: Fault) -> Fault:
    """A fault of one unit; the others answer as they should."""
    return lambda request, answer: fault(request, answer) if request[0] == unit else answer


def silence(request: bytes, answer: bytes) -> bytes:
    return b""


def truncated(request: bytes, answer: bytes) -> bytes:
    return answer[:-2]


def corrupted(request: bytes, answer: bytes) -> bytes:
    """One bit of the value."""
    return answer[:3] + bytes([answer[3] ^ 0x10]) + answer[4:]


def from_the_next_unit(request: bytes, answer: bytes) -> bytes:
    """A good answer of somebody who was not asked."""
    return with_crc(bytes([answer[0] + 1]) + answer[1:-2])


def wrong_baudrate(request: bytes, answer: bytes) -> bytes:
    """At twice the sender's baud rate each bit is heard twice, so that half of it is lost behind a stop bit."""
    return bytes(0x80 | (each & 0x0F) * 0x11 ^ 0x5A for each in answer for _ in range(2))


def echoing(request: bytes, answer: bytes) -> bytes:
    """An adapter that hears what it sends."""
    return request + answer


def one_behind() -> Fault:
    """What arrives now is the answer to the request before."""
    owed = [b""]

    def late(request: bytes, answer: bytes) -> bytes:
        owed.append(answer)
        return owed.pop(0)

    return late


def late_of(unit: int) -> Fault:
    """This unit's answers arrive when another is asked next, just before the right answer."""
    owed: list[bytes] = []

    def late(request: bytes, answer: bytes) -> bytes:
        if request[0] == unit:
            owed.append(answer)
            return b""
        said = b"".join(owed) + answer
        owed.clear()
        return said

    return late


# -- lines ---------------------------------------------------------------------------------------------------------


class BadCable:
    """A pseudo-terminal behind a link, as /dev/serial/by-id has it; `fault` is what happens to answers on the way."""

    def __init__(self, link: Path, port: int) -> None:
        self.link = link
        self.fault: Fault = fine
        self._far = socket.create_connection((HOST, port))
        self._stop_read, self._stop = os.pipe()
        self._ends = pty.openpty()
        self._thread = threading.Thread()
        self.plug_in()

    def plug_in(self) -> None:
        """The terminal is there, behind its link."""
        tty.setraw(self._ends[1])
        fresh = self.link.with_suffix(".new")
        fresh.symlink_to(os.ttyname(self._ends[1]))
        fresh.replace(self.link)
        self._thread = threading.Thread(target=self._carry, args=(self._ends[0],), daemon=True)
        self._thread.start()

    def pull_out(self) -> None:
        """The terminal and its link go; `plug_in` brings another terminal behind the same link."""
        self._end_thread()
        self.link.unlink()
        gone, self._ends = self._ends, pty.openpty()  # made while the other is there: it has another number
        for descriptor in gone:
            os.close(descriptor)

    def close(self) -> None:
        self._end_thread()
        self.link.unlink(missing_ok=True)
        for descriptor in (*self._ends, self._stop, self._stop_read):
            os.close(descriptor)
        self._far.close()

    @contextmanager
    def suffering(self, fault: Fault) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = fine

    def _end_thread(self) -> None:
        if self._thread.is_alive():
            os.write(self._stop, b"x")
            self._thread.join(10)
            os.read(self._stop_read, 1)

    def _carry(self, master: int) -> None:
        heard = b""
        while True:
            ready, _, _ = select.select([master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            heard += os.read(master, 1024)
            while request := heard[: rtu_request_length(heard)]:
                heard = heard[len(request) :]
                said = self.fault(request, self._ask(request))
                if said:
                    os.write(master, said)

    def _ask(self, request: bytes) -> bytes:
        self._far.sendall(request)
        head = self._take(3)
        written_or_refused = 5 if head[1] & 0x80 else 8
        length = 5 + head[2] if head[1] <= 4 else written_or_refused
        return head + self._take(length - 3)

    def _take(self, count: int) -> bytes:
        data = self._far.recv(count, socket.MSG_WAITALL)
        assert len(data) == count
        return data


class Relay:
    """A TCP port before a server, that can refuse, reset, hang, or not be there at all."""

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
