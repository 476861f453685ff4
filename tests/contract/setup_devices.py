"""Real devices for the setup's tools: the emulator program, pymodbus servers, a remote port, an HTTP server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import serial  # type: ignore[import-untyped]
import serial.rfc2217  # type: ignore[import-untyped]
from pymodbus import FramerType
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

from tests.broker import free_port
from tests.support import eventually
from tests.wire.scripted_peers import RtuOverTcpPeer

ROOT = Path(__file__).parents[2]
UNIT = (
    3  # of the pymodbus servers: input register 1 is 225, holding 10 is 545, coil 2 is off, discrete 5 is on
)
READ_INPUT_1 = bytes.fromhex("03040001000161e8")  # and what answers it: 225
INPUT_1_IS_225 = bytes.fromhex("03040200e100b8")


@dataclass(frozen=True, slots=True)
class Emulated:
    """A running emulator: a line with units 1 (temperature) and 2 (humidity), a motion detector."""

    pty: str
    motion_url: str


@contextmanager
def emulator(directory: Path) -> Iterator[Emulated]:
    """The emulator program, without failures."""
    port = free_port()
    pty = directory / "line.pty"
    kinds = ("temperature", "humidity")
    units = [{"unit_id": number, "sensor_id": kind, "kind": kind} for number, kind in enumerate(kinds, 1)]
    scenario = {
        "instance_id": "setup",
        "seed": 1,
        "timezone": "UTC",
        "lines": [{"pty_path": str(pty), "baudrate": 19200, "error_rate": 0, "units": units}],
        "http": {"host": "127.0.0.1", "port": port, "error_rate": 0, "motion": ["yard"]},
    }
    path = directory / "scenario.json"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    log = directory / "emulator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", str(path)], cwd=ROOT, stdout=out, stderr=out
        )
    try:
        eventually(lambda: b"emulator ready" in log.read_bytes() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield Emulated(str(pty), f"http://127.0.0.1:{port}/sensors/yard")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ModbusServer:
    """A pymodbus server with the one unit, in an event loop of its own."""

    def __init__(self, framer: FramerType) -> None:
        self._framer = framer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        self._loop.run_until_complete(self._server.shutdown())  # type: ignore[no-untyped-call]
        self._loop.close()

    async def _listen(self) -> None:
        # The block's addresses begin with 1 where the wire's begin with 0.
        block: Callable[[int, list[Any]], ModbusSequentialDataBlock] = ModbusSequentialDataBlock
        device = ModbusDeviceContext(
            di=block(1, [address == 5 for address in range(50)]),
            co=block(1, [False] * 50),
            ir=block(1, [0, 225, *[0] * 18, 0xFFFE, 0x7960, *[0] * 28]),
            hr=block(1, [0] * 10 + [545] + [0] * 19 + [0, 0xC144, *[0] * 18]),
        )
        self._server = ModbusTcpServer(
            ModbusServerContext(devices={UNIT: device}, single=False),
            framer=self._framer,
            address=("127.0.0.1", 0),
        )
        assert await self._server.listen()
        listener: Any = self._server.transport
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()


def tcp_server() -> ModbusServer:
    """Modbus TCP."""
    return ModbusServer(FramerType.SOCKET)


def rtu_server() -> ModbusServer:
    """RTU frames over TCP, for socket://."""
    return ModbusServer(FramerType.RTU)


class RemotePort(RtuOverTcpPeer):
    """A terminal server with one device: RTU frames inside telnet, by pyserial's own manager."""

    @property
    def url(self) -> str:
        return f"rfc2217://127.0.0.1:{self.port}"

    def _talk(self, connection: Any) -> None:
        lock = threading.Lock()

        class Wire:
            def write(self, data: bytes) -> None:
                with lock, suppress(OSError):
                    connection.sendall(data)

        self.serial = serial.serial_for_url("loop://")
        manager = serial.rfc2217.PortManager(self.serial, Wire())
        heard = b""
        while data := connection.recv(1024):
            heard += b"".join(manager.filter(data))
            while len(heard) >= 8:
                request, heard = heard[:8], heard[8:]
                Wire().write(b"".join(manager.escape(self.script.answer(request))))


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in."""

    path: str
    authorization: str | None


Reply = (
    Any  # JSON, bytes as they are, an int as status, a text as where to redirect, a function of the request
)


class HttpServer:
    """JSON by path. What is not known is 404; `wants` is the Authorization it asks for."""

    def __init__(self, routes: dict[str, Reply], wants: str | None = None) -> None:
        self.routes, self.wants = routes, wants
        self.seen: list[Seen] = []
        self.stopping = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                server.seen.append(Seen(self.path, given))
                path = self.path.split("?")[0]
                reply = server.routes.get(path, server.routes.get("*", 404))
                if server.wants is not None and given != server.wants:
                    reply = 401
                if callable(reply):
                    reply(self)
                elif isinstance(reply, int) and not isinstance(reply, bool):
                    self._answer(reply, b"")
                elif isinstance(reply, str):
                    self._answer(302, b"", Location=reply)
                else:
                    self._answer(200, reply if isinstance(reply, bytes) else json.dumps(reply).encode())

            def _answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """Whoever hangs up is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.05), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def hang(self) -> Callable[[BaseHTTPRequestHandler], None]:
        """A reply that never comes."""
        return lambda _handler: (self.stopping.wait(30), None)[1]

    def drip(self) -> Callable[[BaseHTTPRequestHandler], None]:
        """A reply that never ends, a byte at a time."""

        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
            while not self.stopping.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()

        return reply


def took(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began
