"""Terminals that nobody, somebody or two have open; connections that break; a pulled cable: on a loop of our own."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import select
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator import reconnecting, tcp_endpoints
from emulator.ascii_line_devices import Printer, Scale
from emulator.endpoints import PtyEndpoint
from emulator.faults import TEXT, Fault, Faults, Kind
from emulator.line import MAX_WAITING_BYTES, SerialLine
from emulator.links import READ_BYTES, Link
from emulator.pacing import Speed
from emulator.peers import TextPeer
from emulator.ptys import Claim, PathTakenError
from emulator.registry import Line
from emulator.tcp_endpoints import TcpClient, TcpServer
from tests.support import free_port

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


def test_who_has_a_terminal_open_and_does_not_read_finds_the_newest_and_no_gap(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            (link,) = endpoint.links
            client = Client(tmp_path / "line")
            for number in range(100_000):
                link.write(b"%05d\r" % number)
            heard = b""

            def is_all_read() -> bool:
                nonlocal heard
                heard += client.hear()
                return heard.endswith(b"99999\r")

            await until(is_all_read)
            assert len(heard) < 50_000  # the system's buffers, and 4 KB
            lines = heard.split(b"\r")[1:-1]
            assert [int(line) for line in lines] == list(range(100_000 - len(lines), 100_000))
            client.close()

    asyncio.run(run())


def test_much_at_once_reaches_a_client_that_reads(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            (link,) = endpoint.links
            client, heard, data = Client(tmp_path / "line"), b"", random.Random(1).randbytes(300_000)
            link.write(data)

            def is_all_read() -> bool:
                nonlocal heard
                heard += client.hear()
                return len(heard) >= len(data)

            await until(is_all_read)
            assert heard == data
            client.close()

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


class CountingPrinter(Printer):
    """Knows how often it printed for nobody."""

    unheard = 0

    def forget_news(self) -> None:
        super().forget_news()
        self.unheard += 1


def test_a_fault_is_not_spent_on_a_line_that_nobody_hears(tmp_path: Path) -> None:
    async def run() -> None:
        faults = Faults(TEXT, random.Random(1), [Fault(kind=Kind.GARBAGE, size_bytes=4, count=1)])
        device = CountingPrinter("printer", "arduino", faults, lambda: 22.5, lambda: 45)
        device.pass_time(1000)
        endpoint = PtyEndpoint(tmp_path / "line")
        facts = Line("line", "arduino", endpoint.place, Faults((), random.Random(1)), ("printer",))
        line = SerialLine(facts, endpoint, TextPeer(device, is_charger=False), Speed(9600), random.Random(1))
        line.start(lambda error: pytest.fail(str(error)))
        try:
            await until(lambda: device.unheard >= 2)
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
            assert not await pulled
            assert [type(failure) for failure in host.failures] == [PathTakenError]
            assert "exists and is not a link" in str(host.failures[0])
            assert not endpoint.status.is_up
        assert (tmp_path / "line").read_text() == "mine"

    asyncio.run(run())


def test_who_comes_first_hears_the_greeting_also_after_the_cable_was_pulled(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            endpoint.links[0].keep(b"boot\r")
            for _ in range(2):
                await endpoint.drop(0.01)
            for greeting in (b"boot\r", b""):
                client = Client(tmp_path / "line")
                (link,) = endpoint.links
                link.write(b"new\r")
                assert client.hear() == greeting + b"new\r"
                client.close()
                await endpoint.drop(0.01)

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


def test_a_folder_that_was_removed_while_its_cable_was_pulled_is_made_again(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path / "lines") as (endpoint, host):
            pulled = asyncio.create_task(endpoint.drop(0.05))
            await a_few_turns()
            shutil.rmtree(tmp_path / "lines")
            assert await pulled
            client = Client(tmp_path / "lines" / "line")
            client.send(b"W\r")
            await until(lambda: host.heard == b"W\r")
            client.close()
            with pytest.raises(PathTakenError, match="belongs to another emulator that runs"):
                Claim(tmp_path / "lines" / "line")
        assert list((tmp_path / "lines").iterdir()) == []

    asyncio.run(run())


def test_a_cable_is_plugged_in_again_when_its_strike_is_over_before_its_time(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, _):
            over = asyncio.Event()
            pulled = asyncio.create_task(endpoint.drop(3600, over))
            await a_few_turns()
            assert not endpoint.status.is_up
            over.set()
            async with asyncio.timeout(WITHIN_S):
                assert await pulled
            assert endpoint.status.is_up

    asyncio.run(run())


def test_a_terminal_that_was_paused_hears_later_what_was_sent_meanwhile(tmp_path: Path) -> None:
    async def run() -> None:
        with terminal(tmp_path) as (endpoint, host):
            (link,) = endpoint.links
            client = Client(tmp_path / "line")
            link.pause()
            client.send(b"W\r")
            await a_few_turns()
            assert host.heard == b""
            link.resume()
            await until(lambda: host.heard == b"W\r")
            client.close()

    asyncio.run(run())


# -- clients that connect -----------------------------------------------------------------------------------------


class Sulking(Scale):
    """It fails at an X, whatever for."""

    def heard(self, data: bytes, *, stuck: bool = False) -> bytes:
        if data.startswith(b"X"):
            raise RuntimeError("no")
        return super().heard(data, stuck=stuck)


@asynccontextmanager
async def scale_on_a_port(*, paced: bool = False) -> AsyncIterator[tuple[SerialLine, TcpServer, int]]:
    device = Sulking("scale", "scale", Faults(TEXT, random.Random(1)), lambda: 1.0)
    port = free_port()
    endpoint = TcpServer("127.0.0.1", port, many=False)
    facts = Line("line", "scale", endpoint.place, Faults((), random.Random(1)), ("scale",), 300, paced)
    line = SerialLine(facts, endpoint, TextPeer(device, is_charger=False), Speed(300), random.Random(1))
    line.start(lambda error: pytest.fail(str(error)))
    try:
        yield line, endpoint, port
    finally:
        await line.stop()


def test_an_exchange_that_fails_is_logged_and_the_line_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with scale_on_a_port() as (_, _, port), asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"X\r")
            await until(lambda: "exchange failed on line line" in caplog.text)
            writer.write(b"W\r")
            assert (await reader.readline()).endswith(b" kg\r\n")
            writer.close()

    asyncio.run(run())


def test_of_a_client_that_sends_too_much_some_is_heard_and_when_it_goes_there_is_room_at_once() -> None:
    async def run() -> None:
        async with scale_on_a_port(paced=True) as (line, endpoint, port):
            client = socket.create_connection(("127.0.0.1", port))
            client.setblocking(False)
            await until(lambda: endpoint.links)
            async with asyncio.timeout(WITHIN_S):
                await asyncio.get_running_loop().sock_sendall(client, b"W\r" * 50_000)
            await until(lambda: line.facts.counters.bytes_in > MAX_WAITING_BYTES)
            for _ in range(20):
                await a_few_turns()
            assert line.facts.counters.bytes_in <= MAX_WAITING_BYTES + 2 * READ_BYTES
            client.close()
            await until(lambda: not endpoint.links)

    asyncio.run(run())


def test_clients_wait_while_no_descriptor_is_left_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tcp_endpoints, "SHORT_S", 0.01)

    async def run() -> None:
        loop, missing = asyncio.get_running_loop(), [1, 2, 3]
        accept = loop.sock_accept

        async def short_of_descriptors(listener: socket.socket) -> tuple[socket.socket, Any]:
            if missing:
                missing.pop()
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", short_of_descriptors)
        async with scale_on_a_port() as (_, _, port), asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"W\r")
            assert (await reader.readline()).endswith(b" kg\r\n")
            writer.close()

    with caplog.at_level("WARNING"):
        asyncio.run(run())
    assert caplog.text.count("cannot take clients") == 1


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
    monkeypatch.setattr(reconnecting, "STOOD_S", 0.1)

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
