"""Small real devices whose values a test sets: JSON over HTTP, and Modbus TCP. They import nothing of ours."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HttpDevices:
    """One server with a device per path; `GET /lamp` is its values, `POST /lamp/on` writes one of them.

    `raw` replaces the JSON of a path, `status` its HTTP status, and a path in `held` waits for its event.
    """

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = defaultdict(dict)
        self.raw: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.held: dict[str, threading.Event] = {}
        self.written: list[tuple[str, Any]] = []  # path with property, value
        self.reads: dict[str, int] = defaultdict(int)
        self.posts: dict[str, int] = defaultdict(int)  # arrived, by path with property
        devices = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.strip("/")
                devices.reads[name] += 1
                if name in devices.held:
                    devices.held[name].wait(100)
                body = devices.raw.get(name) or json.dumps(devices.values[name]).encode()
                self._answer(devices.status.get(name, 200), body)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                value = json.loads(self.rfile.read(length))["value"]
                path = self.path.strip("/")
                devices.posts[path] += 1
                name, _, prop = path.partition("/")
                if path in devices.held:
                    devices.held[path].wait(100)
                status = devices.status.get(path, 200)
                if status == 200:
                    devices.written.append((path, value))
                    devices.values[name][prop] = value
                self._answer(status, b"{}")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def writes(self, path: str) -> list[Any]:
        """All values that were written to `lamp/on`, in order."""
        return [value for where, value in self.written if where == path]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()


class ModbusDevice:
    """A Modbus TCP server with one unit; answers functions 1 to 6 and 16 of the specification."""

    def __init__(self) -> None:
        # Holding and input registers by address; a setpoint holds what it may, or nothing is written.
        self.words: dict[int, int] = {10: 450}
        self.bits: dict[int, bool] = {}
        self.written: list[tuple[int, int]] = []  # address, raw value
        self.refuses = False
        device = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while True:
                        head = self._exactly(7)
                        transaction, _, length, unit = struct.unpack(">HHHB", head)
                        answer = device.answer(self._exactly(length - 1))
                        header = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit)
                        self.request.sendall(header + answer)
                except (ConnectionError, OSError):
                    return

            def _exactly(self, count: int) -> bytes:
                data = b""
                while len(data) < count:
                    part = self.request.recv(count - len(data))
                    if not part:
                        raise ConnectionError
                    data += part
                return data

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        if function in (1, 2):
            bits = sum(self.bits.get(address + index, False) << index for index in range(count))
            data = bits.to_bytes((count + 7) // 8, "little")
            return bytes([function, len(data)]) + data
        if function in (3, 4):
            data = b"".join(struct.pack(">H", self.words.get(address + index, 0)) for index in range(count))
            return bytes([function, len(data)]) + data
        if self.refuses:
            return bytes([function | 0x80, 4])  # slave device failure
        if function == 5:
            self.bits[address] = count == 0xFF00
            self.written.append((address, int(count == 0xFF00)))
        elif function == 6:
            self.words[address] = count
            self.written.append((address, count))
        elif function == 16:
            for index in range(count):
                (self.words[address + index],) = struct.unpack_from(">H", pdu, 6 + 2 * index)
            self.written.append((address, self.words[address]))
        else:
            return bytes([function | 0x80, 1])
        return pdu[:5]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
