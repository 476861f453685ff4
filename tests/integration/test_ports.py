"""Reserving ports against real sockets and real processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sensor_hub import ports, runtime
from sensor_hub.ports import PortTaken, Reservation
from sensor_hub.wire import INSTANCE_HEADER
from tests.broker import free_port
from tests.support import eventually

HOST = "127.0.0.1"
HOLDER = """
import sys
from sensor_hub.ports import Reservation
held = Reservation()
print(held.take("127.0.0.1", [int(sys.argv[1])]), flush=True)
input()
"""


@pytest.fixture(autouse=True)
def blocks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test's hub may take a block from 5001 on at any moment."""
    monkeypatch.setattr(ports, "FIRST_PORT", free_port() // 10 * 10 + 1)


@pytest.fixture
def one() -> Iterator[Reservation]:
    with closing(Held()) as held:
        yield held.reservation


@pytest.fixture
def other() -> Iterator[Reservation]:
    with closing(Held()) as held:
        yield held.reservation


class Held:
    def __init__(self) -> None:
        self.reservation = Reservation()

    def close(self) -> None:
        self.reservation.close()


@pytest.fixture
def elsewhere() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that has reserved a port, and serves nothing on it."""
    port = free_port()
    line = [sys.executable, "-c", HOLDER, str(port)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process, port
        process.kill()


def test_a_reserved_port_is_nobody_elses_though_nobody_serves_there_yet(
    one: Reservation, other: Reservation
) -> None:
    port = free_port()
    assert one.take(HOST, [port])
    assert not other.take(HOST, [port])
    one.close()
    assert other.take(HOST, [port])


def test_all_of_the_ports_are_reserved_or_none(one: Reservation, other: Reservation) -> None:
    free, taken = free_port(), free_port()
    assert one.take(HOST, [taken])
    assert not other.take(HOST, [free, taken])
    assert one.take(HOST, [free])


def test_two_blocks_differ_and_start_at_their_tens(one: Reservation, other: Reservation) -> None:
    first, second = one.take_block(HOST, 3), other.take_block(HOST, 3)
    for block in (first, second):
        assert (block[0] - 5001) % 10 == 0
        assert block == [block[0], block[0] + 1, block[0] + 2]
    assert second[0] > first[0]


def test_the_first_free_port_is_taken_past_those_in_use(one: Reservation, other: Reservation) -> None:
    first = free_port()
    found = one.take_first(HOST, first, 20, "emulator")
    assert first <= found < first + 20
    assert found < other.take_first(HOST, first, 20, "emulator") < first + 20


def test_no_free_port_of_several_is_said_with_what_wanted_it(one: Reservation, other: Reservation) -> None:
    port = free_port()
    assert one.take(HOST, [port])
    with pytest.raises(PortTaken, match=f"no free port for the emulator between {port} and {port}"):
        other.take_first(HOST, port, 1, "emulator")


def test_a_block_of_which_one_port_is_served_is_passed_over(one: Reservation, other: Reservation) -> None:
    first = one.take_block(HOST, 3)
    one.close()
    with socket.create_server((HOST, first[1])):
        assert other.take_block(HOST, 3)[0] > first[0]


def test_a_reservation_is_gone_when_its_holder_is_killed(
    elsewhere: tuple[subprocess.Popen[str], int], one: Reservation
) -> None:
    process, port = elsewhere
    assert not one.take(HOST, [port])
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert eventually(lambda: one.take(HOST, [port]))


def test_the_process_that_serves_on_a_port_is_named(one: Reservation) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} is in use by .+ \(pid {os.getpid()}\)"):
            one.take_given(HOST, port)


def test_a_hub_that_is_just_starting_is_named_by_its_pid(
    elsewhere: tuple[subprocess.Popen[str], int], one: Reservation
) -> None:
    process, port = elsewhere
    with pytest.raises(PortTaken, match=f"another sensor hub that is just starting .*pid {process.pid}"):
        one.take_given(HOST, port)


def test_a_hub_that_has_reserved_a_port_is_named_by_its_instance(
    elsewhere: tuple[subprocess.Popen[str], int], one: Reservation
) -> None:
    process, port = elsewhere
    name = f"t{uuid.uuid4().hex[:8]}"
    runtime.run_dir(name).mkdir(mode=0o700)
    try:
        runtime.write_instance(runtime.Instance(name, process.pid, {}, ""))
        with pytest.raises(PortTaken, match=f"port {port} is in use by the sensor hub instance '{name}'"):
            one.take_given(HOST, port)
    finally:
        shutil.rmtree(runtime.run_dir(name))


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header(INSTANCE_HEADER, "elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_hub_on_an_address_of_its_own_is_asked_there(one: Reservation) -> None:
    """One in another container on the same network: its sockets are there, its files and processes are not."""
    with HTTPServer(("127.0.0.2", 0), Health) as server:
        port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(PortTaken, match=f"port {port} is in use by the sensor hub instance 'elsewhere'"):
            one.take_given("127.0.0.2", port)
        server.shutdown()
        thread.join(5)


def test_a_port_of_ones_own_may_be_asked_for_again(one: Reservation) -> None:
    port = free_port()
    one.take_given(HOST, port)
    one.take_given(HOST, port)
    assert not Reservation().take(HOST, [port])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_host_of_this_machine_can_be_listened_on(host: str, one: Reservation) -> None:
    ports.check_host(host)
    assert one.take(host, [free_port()])


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(OSError, match=r"\S"):
        ports.check_host(host)


def test_a_port_taken_on_every_address_is_taken_on_loopback_too(one: Reservation) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not one.take(HOST, [server.getsockname()[1]])
