"""The emulator as a process, scenarios for it, and a plain client of its lines."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support import eventually
from tests.support import free_port as free_port

ROOT = Path(__file__).parents[2]
Start = Callable[..., "Emulator"]


class Emulator:
    """A running emulator and what it has said so far."""

    def __init__(self, scenario: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emulator", str(scenario), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Return the exit code and the seconds it took."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(60)
        took_s = time.monotonic() - begin
        self._reader.join(5)
        return code, took_s

    def refused(self) -> tuple[int, str]:
        """The exit code of one that cannot start or go on, and what it says."""
        code = self.process.wait(30)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@contextmanager
def emulators(directory: Path) -> Iterator[Start]:
    """Start emulators with a scenario; those that still run at the end are ended."""
    running: list[Emulator] = []

    def begin(scenario: dict[str, Any], *arguments: str, ready: bool = True, **environment: str) -> Emulator:
        path = directory / f"scenario-{len(running)}.json"
        path.write_text(json.dumps(scenario))
        emulator = Emulator(path, *arguments, **environment)
        running.append(emulator)
        if ready:
            eventually(lambda: emulator.said("emulator ready") or emulator.process.poll() is not None, 20)
            assert emulator.process.poll() is None, emulator.process.stderr and emulator.process.stderr.read()
        return emulator

    try:
        yield begin
    finally:
        for emulator in running:
            if emulator.process.poll() is None:
                emulator.process.kill()
            emulator.process.communicate()


class Control:
    """The control API of a running emulator. An `owner` of faults is `devices/<id>` or `lines/<id>`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self._url}/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def inject(self, owner: str, kind: str, **facts: Any) -> int:
        """The id of the fault, which is in force until it is over, or `heal`."""
        return int(self.ask("POST", f"{owner}/faults", {"kind": kind, **facts})["fault_id"])

    def struck(self, owner: str) -> dict[str, int]:
        """How often the faults in force have struck, by kind."""
        return {fault["kind"]: fault["struck"] for fault in self.ask("GET", f"{owner}/faults")["faults"]}

    def heal(self, owner: str = "") -> None:
        """Take back the faults of one, or all there are."""
        self.ask("DELETE", f"{owner}/faults" if owner else "faults")

    def put(self, device_id: str, **values: Any) -> None:
        self.ask("PATCH", f"devices/{device_id}/values", {"values": values})

    def counters(self, line_id: str) -> dict[str, int]:
        """Requests `answered` and `swallowed`, `bytes_in` and `bytes_out` of a line."""
        found: dict[str, int] = self.ask("GET", f"lines/{line_id}")["counters"]
        return found


class Raw:
    """A client that knows nothing but bytes, on a terminal or a TCP port."""

    def __init__(self, place: Path | int) -> None:
        if isinstance(place, int):
            self._socket = socket.create_connection(("127.0.0.1", place), 5)
            self._fd = self._socket.fileno()
            self._close: Callable[[], None] = self._socket.close
        else:
            self._fd = os.open(place, os.O_RDWR | os.O_NOCTTY)
            self._close = lambda: os.close(self._fd)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def send(self, data: bytes) -> None:
        os.write(self._fd, data)

    def hear(self, size: int, within_s: float = 10.0) -> bytes:
        """So many bytes, or what has come until the time is over or the line has ended."""
        heard, deadline = b"", time.monotonic() + within_s
        while len(heard) < size and (left_s := deadline - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left_s)[0]:
                try:
                    piece = os.read(self._fd, 4096)
                except OSError:
                    piece = b""
                if not piece:
                    break
                heard += piece
        return heard

    def ask(self, request: bytes, size: int, within_s: float = 10.0) -> bytes:
        self.send(request)
        return self.hear(size, within_s)

    def is_hung_up(self, within_s: float = 10.0) -> bool:
        """Whether the other side ends the line, without another byte."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(within_s * 1000)) and self.hear(1, 0.5) == b""


def line_of(path: Path, *kinds: str, error_rate: float = 0) -> dict[str, Any]:
    units = [
        {"unit_id": number, "sensor_id": f"{path.name}-{number}", "kind": kind}
        for number, kind in enumerate(kinds, start=1)
    ]
    return {"pty_path": str(path), "baudrate": 19200, "error_rate": error_rate, "units": units}


def scenario_of(
    *lines: dict[str, Any], http: dict[str, Any] | None = None, seed: int | None = 1
) -> dict[str, Any]:
    return {"instance_id": "x", "seed": seed, "timezone": "UTC", "lines": list(lines), "http": http}


def http_of(*motion: str, error_rate: float = 0) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": free_port(), "error_rate": error_rate, "motion": list(motion)}
