"""The port of a recorder: it opens, is lost and opens again, or is given up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from emulator import reconnecting
from emulator.line import MAX_WAITING_BYTES
from emulator.links import READ_BYTES
from emulator.pacing import Speed
from emulator.real_port import Listener, RealPort
from emulator.reconnecting import Retries
from emulator.recorder import Tap
from emulator.recording import RecordingFile, head_of
from emulator.tcp_endpoints import TcpServer
from tests.support import eventually, free_port

WITHIN_S = 30
TIMEOUT_S = 0.2


class Told:
    """What a recorder is told of its port."""

    def __init__(self) -> None:
        self.heard = b""
        self.opened = 0
        self.gave_up: list[str] = []
        self.went = 0

    def hear(self, data: bytes, _: float) -> None:
        self.heard += data

    def open(self) -> None:
        self.opened += 1

    def go(self, size: int) -> None:
        self.went += size


@contextmanager
def port_to(listener: socket.socket) -> Iterator[tuple[RealPort, Told]]:
    told = Told()
    url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
    speed, retries = Speed(9600), Retries(0.01, TIMEOUT_S)
    listens = Listener(told.hear, told.open, lambda _: None, told.gave_up.append, told.go)
    port = RealPort(url, speed, retries, listens)
    port.start()
    try:
        yield port, told
    finally:
        port.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(WITHIN_S)
        yield found


@pytest.mark.parametrize("use", ["it stands mute", "it says something"])
def test_a_port_that_was_back_meanwhile_is_not_given_up(
    use: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "STOOD_S", 0.0 if use == "it stands mute" else 1000.0)
    with port_to(listener) as (_, told):
        begun_at, times = time.monotonic(), 0
        while times < 4 or time.monotonic() - begun_at < 3 * TIMEOUT_S:
            connection, _ = listener.accept()
            times += 1
            with connection:
                eventually(lambda: told.opened == times, WITHIN_S)  # noqa: B023
                if use == "it says something":
                    connection.sendall(b"T")
                    eventually(lambda: len(told.heard) == times, WITHIN_S)  # noqa: B023
            assert not told.gave_up


def test_a_port_that_goes_as_soon_as_it_comes_is_given_up_whatever_is_written_to_it(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "STOOD_S", 1000.0)
    with port_to(listener) as (port, told):

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()
        try:
            eventually(lambda: port.write(b"W") or told.gave_up, WITHIN_S)  # type: ignore[func-returns-value]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            hanging_up.join(WITHIN_S)
        assert told.opened > 1


def test_what_went_to_the_port_is_told_also_when_nobody_is_there(listener: socket.socket) -> None:
    with port_to(listener) as (port, told):
        connection, _ = listener.accept()
        with connection:
            eventually(lambda: told.opened, WITHIN_S)
            port.write(b"abc")
            eventually(lambda: told.went == 3, WITHIN_S)
        port.write(b"d")
        eventually(lambda: told.went == 4, WITHIN_S)


class SlowPort:
    """The far end of a recorder that takes nothing until it is told to."""

    is_open = True

    def __init__(self, listener: Listener) -> None:
        self.listener, self.waiting = listener, 0

    def write(self, data: bytes) -> None:
        self.waiting += len(data)


def test_a_recorder_hears_no_more_than_its_port_takes(tmp_path: Path) -> None:
    data = b"W" * 100_000

    async def run() -> None:
        loop, number = asyncio.get_running_loop(), free_port()
        head = head_of("x", 9600, "N", 1, datetime.now(UTC))
        file = RecordingFile(tmp_path / "r.jsonl", head, 10**6, loop.time)
        endpoint = TcpServer("127.0.0.1", number, many=False)
        tap = Tap(cast("Any", SlowPort), endpoint, file, lambda error: pytest.fail(str(error)))
        port = cast("SlowPort", tap.port)
        endpoint.open(tap, lambda error: pytest.fail(str(error)))
        async with asyncio.timeout(WITHIN_S):
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(data)
            await writer.drain()
            while port.waiting <= MAX_WAITING_BYTES:
                await asyncio.sleep(0.005)
            for _ in range(100):
                await asyncio.sleep(0)
            assert port.waiting <= MAX_WAITING_BYTES + READ_BYTES
            port.listener.went(port.waiting)
            while port.waiting < len(data):
                await asyncio.sleep(0.005)
            writer.close()
        endpoint.close()
        file.end("stopped")

    asyncio.run(run())
