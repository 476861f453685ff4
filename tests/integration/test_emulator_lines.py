"""Where emulated lines are: links that belong to one emulator, TCP ports for one client or many, calls."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.frames import framed
from tests.integration.emulated import Raw, Start, emulators, free_port, line_of, scenario_of
from tests.integration.foreign_programs import Cable, end, needs, ser2net
from tests.support import eventually

READ = framed(1, bytes.fromhex("0300000001"))
SETPOINT = framed(1, bytes.fromhex("030200d2"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


def tcp_line(port: int, **more: Any) -> dict[str, Any]:
    unit = {"unit_id": 1, "sensor_id": f"at-{port}", "kind": "temperature"}
    return {"tcp_port": port, "units": [unit], **more}


def charger(**place: Any) -> dict[str, Any]:
    return {"kind": "openevse", "charger": {"round_s": None}, **place}


def test_a_living_emulators_link_is_not_taken_and_stays(start: Start, tmp_path: Path) -> None:
    scenario = scenario_of(line_of(tmp_path / "bus", "temperature"))
    first = start(scenario)
    target = os.readlink(tmp_path / "bus")
    code, said = start(scenario, ready=False).refused()
    assert (code, os.readlink(tmp_path / "bus")) == (1, target)
    assert f"{tmp_path}/bus belongs to another emulator that runs" in said
    with Raw(tmp_path / "bus") as client:
        assert client.ask(READ, 7) == SETPOINT
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(10)
    start(scenario)
    with Raw(tmp_path / "bus") as client:
        assert client.ask(READ, 7) == SETPOINT


def test_a_clean_exit_leaves_nothing(start: Start, tmp_path: Path) -> None:
    emulator = start(scenario_of(line_of(tmp_path / "lines" / "bus", "temperature")))
    assert [path.name for path in sorted((tmp_path / "lines").iterdir())] == [".bus.lock", "bus"]
    assert emulator.stop()[0] == 0
    assert list((tmp_path / "lines").iterdir()) == []


def test_one_emulator_has_terminals_and_ports_at_once(start: Start, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    scenario = scenario_of(line_of(tmp_path / "bus", "temperature"), tcp_line(ports[0]))
    scenario["text_lines"] = [charger(tcp_port=ports[1]), charger(pty_path=str(tmp_path / "wallbox"))]
    start(scenario)
    for place in (tmp_path / "bus", ports[0]):
        with Raw(place) as client:
            assert client.ask(READ, 7) == SETPOINT
    for place in (tmp_path / "wallbox", ports[1]):
        with Raw(place) as client:
            assert client.ask(b"$GV^35\r", 40, 0.5).endswith(b"$OK 8.2.1 5.2.1^2D\r")


def test_a_client_of_a_terminal_first_hears_that_the_charger_has_booted(start: Start, tmp_path: Path) -> None:
    start(scenario_of() | {"text_lines": [charger(pty_path=str(tmp_path / "wallbox"))]})
    for boot in (b"$AB 00 8.2.1^1C\r", b""):
        with Raw(tmp_path / "wallbox") as client:
            assert client.ask(b"$GV^35\r", 40, 0.5) == boot + b"$OK 8.2.1 5.2.1^2D\r"


def test_with_one_client_at_a_time_the_second_is_served_when_the_first_has_gone(start: Start) -> None:
    port = free_port()
    start(scenario_of(tcp_line(port)))
    with Raw(port) as first:
        assert first.ask(READ, 7) == SETPOINT
        second = Raw(port)
        assert second.ask(READ, 7, 0.3) == b""
        assert first.ask(READ, 7) == SETPOINT
    with second:
        assert second.hear(7) == SETPOINT


def test_with_many_clients_each_gets_its_own_answers_and_all_hear_news(start: Start) -> None:
    bus, wallbox = free_port(), free_port()
    scenario = scenario_of(tcp_line(bus, clients="many"))
    scenario["text_lines"] = [charger(tcp_port=wallbox, clients="many")]
    start(scenario)
    with Raw(bus) as first, Raw(bus) as second:
        write = framed(1, bytes.fromhex("06000000c8"))
        for _ in range(5):
            assert first.ask(write, 8) == write
            assert second.ask(READ, 7) == framed(1, bytes.fromhex("030200c8"))
        assert first.hear(1, 0.2) == b""
    with Raw(wallbox) as first, Raw(wallbox) as second:
        assert second.ask(b"$GV\r", 19) == b"$OK 8.2.1 5.2.1^2D\r"
        assert first.ask(b"$FS\r", 28) == b"$OK^20\r$AT FE 01 16 0000^34\r"
        assert second.hear(21) == b"$AT FE 01 16 0000^34\r"


def test_a_client_that_is_reset_makes_room_for_the_next(start: Start) -> None:
    port = free_port()
    start(scenario_of(tcp_line(port)))
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(READ[:5])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    with Raw(port) as last:
        assert last.ask(READ, 7) == SETPOINT


def test_a_taken_port_of_a_line_is_told(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, said = start(scenario_of(tcp_line(other.getsockname()[1])), ready=False).refused()
    assert code == 1
    assert "cannot start: [Errno 98] Address already in use" in said


def caller(port: int, **more: Any) -> dict[str, Any]:
    return tcp_line(port, mode="tcp_client", reconnect_backoff_ms=50, **more)


def test_an_emulator_that_calls_comes_back_whenever_somebody_listens(start: Start) -> None:
    port = free_port()
    emulator = start(scenario_of(caller(port, reconnect_timeout_sec=0)))
    eventually(lambda: emulator.said("not connected"))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                connection.sendall(READ)
                assert connection.recv(100) == SETPOINT


def printer_that_calls(port: int, **more: Any) -> dict[str, Any]:
    line = {"kind": "arduino", "mode": "tcp_client", "tcp_port": port, "reconnect_backoff_ms": 50}
    return scenario_of() | {"text_lines": [line | more]}


def test_a_printing_device_that_calls_lives_on_however_often_its_connection_is_reset(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        emulator = start(printer_that_calls(listener.getsockname()[1], reconnect_timeout_sec=0.5))
        for _ in range(3):  # a line a second: the first reset is longer ago than that
            connection, _ = listener.accept()
            connection.settimeout(30)
            assert connection.recv(100).startswith(b"T=")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.close()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(100).startswith(b"T=")
    assert emulator.process.poll() is None


@needs("socat", "ser2net")
def test_a_printing_device_behind_a_port_server_is_soon_back_whenever_that_is_restarted(
    start: Start, tmp_path: Path
) -> None:
    cable, port = Cable.at(tmp_path, "cable"), free_port()

    def pauses() -> list[str]:
        """Those after a connection that ended."""
        return [
            line.rpartition("next_try_s=")[2] for line in emulator.lines if "the connection ended" in line
        ]

    with cable.plugged_in():
        emulator = start(printer_that_calls(port, reconnect_timeout_sec=0))
        for times in range(1, 4):
            with ser2net("tcp", port, cable.near) as server, Raw(cable.far) as client:
                assert b"T=" in client.hear(20, 60)
                end(server)
                eventually(lambda times=times: len(pauses()) == times, 60)  # type: ignore[misc]
    assert pauses() == ["0.05"] * 3


def test_an_emulator_that_calls_gives_up_with_a_clear_message(start: Start) -> None:
    port = free_port()
    code, said = start(scenario_of(caller(port, reconnect_timeout_sec=0.3)), ready=False).refused()
    assert code == 1
    assert f"socket://127.0.0.1:{port}: gave up after 0.3 s (reconnect_timeout_sec): [Errno 111]" in said


def test_a_broadcast_is_carried_out_by_all_and_answered_by_none(start: Start, tmp_path: Path) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature", "humidity")))
    with Raw(tmp_path / "bus") as client:
        assert client.ask(framed(0, bytes.fromhex("06000000c8")), 1, 0.3) == b""
        for unit_id in (1, 2):
            assert client.ask(framed(unit_id, READ[1:-2]), 7) == framed(unit_id, bytes.fromhex("030200c8"))
