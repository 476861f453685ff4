"""The write API of InfluxDB 2.x, as far as its reference goes: it keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Write:
    """One request that it got."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What it says to a request; `bad`: only when a line holds that text."""

    status: int
    body: object
    bad: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    is_json: bool = True  # else the text itself
    drips: bool = False  # a byte now and then, for ever: its headers (`body` is None) or its body

    @property
    def content(self) -> bytes:
        """Its body."""
        if isinstance(self.body, bytes):
            return self.body
        return (json.dumps(self.body) if self.is_json else str(self.body)).encode()


class Influx2:
    """Started when entered. Answers 204 and keeps the points, unless `answers` has something else to say."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.kept: dict[str, str] = {}  # series and time -> line: as a database does
        self.answers: deque[Answer] = deque()  # each once
        self.always: Answer | None = None
        self.most = 1_000_000  # points; for more at once it takes for ever
        self.unpacks = True  # what is compressed; else it cannot read that
        self.keeps, self.connections = False, 0
        self._ended = threading.Event()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Influx2:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        its = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                its.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                body = gzip.decompress(body) if packed and its.unpacks else body
                parts = urlsplit(self.path)
                query = {key: found[0] for key, found in parse_qs(parts.query).items()}
                lines = body.decode("utf-8", "replace").split("\n")
                write = Write(parts.path, query, dict(self.headers), lines)
                its.take(self, write)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._ended.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def take(self, handler: BaseHTTPRequestHandler, write: Write) -> None:
        self.writes.append(write)
        if len(write.lines) > self.most:
            self._ended.wait(120)
            handler.close_connection = True
            return
        answer = self.answers.popleft() if self.answers else self.always
        if answer is not None and answer.bad not in "\n".join(write.lines):
            answer = None
        if not self.unpacks and write.headers.get("Content-Encoding"):
            answer = Answer(400, {"error": "unable to parse '\x1f\ufffd\x08': missing fields"})
        if answer is None:
            self.kept.update({line.split(" ", 1)[0] + line.rsplit(" ", 1)[1]: line for line in write.lines})
        if answer is not None and answer.drips:
            self._drip(handler, answer)
            return
        content = b"" if answer is None else answer.content
        handler.send_response(204 if answer is None else answer.status)
        for name, value in () if answer is None else answer.headers:
            handler.send_header(name, value)
        if answer is None or "Content-Length" not in dict(answer.headers):
            handler.send_header("Content-Length", str(len(content)))
        if not self.keeps:
            handler.send_header("Connection", "close")  # so that a server that is stopped is gone
        handler.end_headers()
        handler.wfile.write(content)

    def _drip(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.close_connection = True
        head = f"HTTP/1.1 {answer.status} Here\r\n"
        if answer.body is not None:
            head += "Content-Length: 1000000\r\n\r\n"
        try:
            handler.wfile.write(head.encode())
            while not self._ended.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            pass  # it was cut off
