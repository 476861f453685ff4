"""Terminals that nobody, somebody or two have open; connections that break; a pulled cable: on a loop of our own."""

from __future__ import annotations

import asyncio
import os
import random
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator import endpoints
from emulator.ascii_line_devices import Printer
from emulator.endpoints import PtyEndpoint, TcpClient
from emulator.faults import TEXT, Fault, Faults, Kind
from emulator.line import SerialLine
from emulator.links import Link
from emulator.pacing import Speed
from emulator.peers import TextPeer
from emulator.ptys import PathTakenError
from emulator.registry import Line

WITHIN_S = 30


class Host:
    """What a line hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.failures: list[Exception] = []

    def received(self, link: Link, data: bytes) -> None:
        self.heard += data

    def ended(self, link: Link) -> None:
        """Nothing to do."""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


async def a_few_turns() -> None:
    """What the system has told the loop by now is done afterwards."""
    for _ in range(5):
        await asyncio.sleep(0)


class Client:
    """Somebody who has the terminal open."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self._fd)

    def send(self, data: bytes) -> None:
        os.write(self._fd, data)

    def hear(self) -> bytes:
        """What is there."""
        heard = b""
        while select.select([self._fd], [], [], 0)[0]:
            heard += os.read(self._fd, 65536)
        return heard


@contextmanager
def terminal(folder: Path) -> Iterator[tuple[PtyEndpoint, Host]]:
    """Within a running loop."""
    endpoint, host = PtyEndpoint(folder / "line"), Host()
    endpoint.open(host, host.failures.append)
    try:
        yield endpoint, host
    finally:
        endpoint.close()


def test_what_is_said_while_nobody_has_the_terminal_open_is_lost_but_for_the_greeting(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            (link,) = endpoint.links
            link.keep(b"boot\r")
            for number in range(4000):
                link.write(b"T=%d\r" % number)
            assert not link.is_heard()
            for greeting in (b"boot\r", b""):
                client = Client(tmp_path / "line")
                link.write(b"new\r")
                assert client.hear() == greeting + b"new\r"
                client.close()
                await a_few_turns()
                assert not link.is_heard()

    asyncio.run(run())


def test_who_opens_a_terminal_hears_nothing_that_was_for_who_had_it_before(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            (link,) = endpoint.links
            for size in (10, 100_000):
                client = Client(tmp_path / "line")
                link.write(b"x" * size)
                await a_few_turns()
                client.close()
                await a_few_turns()
                client = Client(tmp_path / "line")
                await a_few_turns()
                link.write(b"new\r")
                assert client.hear() == b"new\r"
                client.close()
                await a_few_turns()

    asyncio.run(run())


def test_requests_of_clients_that_come_and_go_at_once_are_all_heard(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (_, host):
            for number in range(300):
                client = Client(tmp_path / "line")
                client.send(b"%d\r" % number)
                client.close()
                if number % 3 == 0:
                    await asyncio.sleep(0)
            await until(lambda: host.heard.endswith(b"299\r"))
            assert host.heard == b"".join(b"%d\r" % number for number in range(300))

    asyncio.run(run())


def test_a_terminal_that_two_have_open_is_heard_until_both_have_left(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, host):
            (link,) = endpoint.links
            first, second = Client(tmp_path / "line"), Client(tmp_path / "line")
            first.send(b"a\r")
            second.send(b"b\r")
            await until(lambda: host.heard == b"a\rb\r")
            first.close()
            await a_few_turns()
            assert link.is_heard()
            link.write(b"new\r")
            assert second.hear() == b"new\r"
            second.close()
            assert not link.is_heard()

    asyncio.run(run())


def test_a_fault_is_not_spent_on_a_line_that_nobody_hears(tmp_path: Path) -> None:
    values = iter(range(10_000))
    printed: list[float] = []

    def measure() -> float:
        printed.append(next(values))
        return printed[-1]

    async def run() -> None:
        faults = Faults(TEXT, random.Random(1), [Fault(kind=Kind.GARBAGE, size_bytes=4, count=1)])
        device = Printer("printer", "arduino", faults, measure, lambda: 45)
        device.pass_time(1000)
        endpoint = PtyEndpoint(tmp_path / "line")
        facts = Line("line", "arduino", endpoint.place, Faults((), random.Random(1)), ("printer",))
        line = SerialLine(facts, endpoint, TextPeer(device, is_charger=False), Speed(9600), random.Random(1))
        line.start(lambda error: pytest.fail(str(error)))
        try:
            await until(lambda: len(printed) >= 2)
            assert [active.struck for active in faults.active()] == [0]
            client = Client(tmp_path / "line")
            device.pass_time(1000)
            await until(lambda: not faults.active())
            await until(lambda: client.hear().endswith(b"\n"))
            client.close()
        finally:
            await line.stop()

    asyncio.run(run())


def test_a_file_that_took_the_place_of_a_pulled_terminal_stays_and_ends_the_line(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, host):
            pulled = asyncio.create_task(endpoint.drop(0.1))
            await a_few_turns()
            (tmp_path / "line").write_text("mine")
            await pulled
            assert [type(failure) for failure in host.failures] == [PathTakenError]
            assert "exists and is not a link" in str(host.failures[0])
            assert not endpoint.status.is_up
        assert (tmp_path / "line").read_text() == "mine"

    asyncio.run(run())


def test_a_pulled_terminal_comes_back_as_another(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, host):
            client = Client(tmp_path / "line")
            await endpoint.drop(0.01)
            again = Client(tmp_path / "line")
            again.send(b"W\r")
            await until(lambda: host.heard == b"W\r")
            assert not host.failures
            client.close()
            again.close()

    asyncio.run(run())


# -- an address that we call --------------------------------------------------------------------------------------


class PortServer:
    """What we call: takes every connection, within a running loop."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])

    async def taken(self) -> socket.socket:
        async with asyncio.timeout(WITHIN_S):
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        return connection

    def close(self) -> None:
        self._listener.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


@contextmanager
def caller(timeout_s: float) -> Iterator[tuple[TcpClient, PortServer, Host]]:
    """Within a running loop."""
    server, host = PortServer(), Host()
    endpoint = TcpClient("127.0.0.1", server.port, 0.01, timeout_s)
    endpoint.open(host, host.failures.append)
    try:
        yield endpoint, server, host
    finally:
        endpoint.close()
        server.close()


TIMEOUT_S = 0.2


@pytest.mark.parametrize("use", ["it says something", "it hears something", "the connection stands"])
def test_who_calls_does_not_give_up_while_connections_are_of_use(
    use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "STOOD_S", 0.1)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with caller(TIMEOUT_S) as (endpoint, server, host):
            begun_at, times = loop.time(), 0
            while times < 4 or loop.time() - begun_at < 3 * TIMEOUT_S:
                connection = await server.taken()
                await until(lambda: endpoint.links)
                if use == "it says something":
                    endpoint.links[0].write(b"T=22.5\r\n")
                    assert await loop.sock_recv(connection, 100) == b"T=22.5\r\n"
                elif use == "it hears something":
                    host.heard = b""
                    await loop.sock_sendall(connection, b"W")
                    await until(lambda: host.heard == b"W")
                else:
                    await asyncio.sleep(0.15)
                times += 1
                reset(connection)
                await until(lambda: not endpoint.links)
                assert not host.failures

    asyncio.run(run())


def test_who_calls_gives_up_when_no_connection_is_of_use() -> None:
    async def run() -> None:
        with caller(TIMEOUT_S) as (_, server, host):

            async def refuse() -> None:
                while True:
                    reset(await server.taken())

            refusing = asyncio.create_task(refuse())
            await until(lambda: host.failures)
            refusing.cancel()
            assert "gave up after 0.2 s (reconnect_timeout_sec): the connection ended" in str(
                host.failures[0]
            )

    asyncio.run(run())


def test_who_calls_stays_away_for_as_long_as_the_cable_is_pulled_and_that_is_no_failure() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        with caller(TIMEOUT_S) as (endpoint, server, host):
            connection = await server.taken()
            for _ in range(2):
                await until(lambda: endpoint.links)
                pulled_at = loop.time()
                pulled = asyncio.create_task(endpoint.drop(0.3))
                assert await loop.sock_recv(connection, 100) == b""
                connection.close()
                connection = await server.taken()
                assert loop.time() - pulled_at >= 0.3
                await pulled
            assert not host.failures
            connection.close()

    asyncio.run(run())
