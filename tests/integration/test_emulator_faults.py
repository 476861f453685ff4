"""Each fault as a client meets it, on terminals, TCP and HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.frames import framed
from tests.integration.emulated import Raw, Start, emulators, free_port, http_of, line_of, scenario_of
from tests.support import eventually

READ = framed(1, bytes.fromhex("0300000001"))
SETPOINT = framed(1, bytes.fromhex("030200d2"))
GV, VERSION = b"$GV^35\r", b"$OK 8.2.1 5.2.1^2D\r"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


@pytest.fixture
def bus(start: Start, tmp_path: Path) -> Iterator[Any]:
    """A line with units 1 and 2 and these faults of the whole line."""
    clients: list[Raw] = []

    def client(*faults: dict[str, Any]) -> Raw:
        path = tmp_path / f"bus-{len(clients)}"
        start(scenario_of(line_of(path, "temperature", "humidity") | {"faults": faults}))
        clients.append(Raw(path))
        return clients[-1]

    yield client
    for each in clients:
        each.__exit__()


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ({"kind": "silence"}, b""),
        ({"kind": "crc_error"}, SETPOINT[:-1] + bytes([SETPOINT[-1] ^ 0xFF])),
        ({"kind": "truncation"}, SETPOINT[:4]),
        ({"kind": "truncation", "size_bytes": 6}, SETPOINT[:6]),
        ({"kind": "wrong_unit"}, framed(2, SETPOINT[1:-2])),
        ({"kind": "exception"}, framed(1, b"\x83\x04")),
        ({"kind": "exception", "code": 6}, framed(1, b"\x83\x06")),
        ({"kind": "echo"}, READ + SETPOINT),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_the_next_two_answers_of_a_unit_are_wrong_and_then_all_is_well(
    bus: Any, fault: dict[str, Any], heard: bytes
) -> None:
    client = bus(fault | {"count": 2})
    size = len(heard) or 1
    for _ in range(2):
        assert client.ask(READ, size, 10 if heard else 0.3) == heard
    assert client.ask(READ, 7) == SETPOINT


def test_garbage_comes_before_the_answer_and_is_the_same_for_the_same_seed(bus: Any) -> None:
    heard = [bus({"kind": "garbage", "size_bytes": 5, "count": 1}).ask(READ, 12) for _ in range(2)]
    assert [len(each) for each in heard] == [12, 12]
    assert {each[5:] for each in heard} == {SETPOINT}


def test_a_late_answer_comes_though_the_next_was_already_given(bus: Any) -> None:
    client = bus({"kind": "delay", "seconds": 1.0, "count": 1})
    begin = time.monotonic()
    assert client.ask(READ, 1, 0.2) == b""
    other = framed(2, READ[1:-2])
    answer = framed(2, SETPOINT[1:-2])
    assert client.ask(other, 14, 20) == answer + SETPOINT
    assert time.monotonic() - begin >= 1.0


def test_a_fault_of_a_unit_leaves_the_others_alone(start: Start, tmp_path: Path) -> None:
    line = line_of(tmp_path / "bus", "temperature", "humidity")
    line["units"][0]["faults"] = [{"kind": "exception", "code": 11}]
    start(scenario_of(line))
    with Raw(tmp_path / "bus") as client:
        assert client.ask(READ, 5) == framed(1, b"\x83\x0b")
        assert client.ask(framed(2, READ[1:-2]), 7) == framed(2, SETPOINT[1:-2])


def test_a_stuck_unit_takes_a_write_and_keeps_what_it_has(bus: Any) -> None:
    client = bus({"kind": "stuck", "count": 1})
    write = framed(1, bytes.fromhex("06000000c8"))
    assert client.ask(write, 8) == write
    assert client.ask(READ, 7) == SETPOINT
    assert client.ask(write, 8) == write
    assert client.ask(READ, 7) == framed(1, bytes.fromhex("030200c8"))


def test_a_terminal_that_is_disconnected_hangs_up_and_comes_back(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "bus"
    fault = {"kind": "disconnect", "seconds": 0.5, "count": 1}
    start(scenario_of(line_of(path, "temperature") | {"faults": [fault]}))
    with Raw(path) as client:
        client.send(READ)
        assert client.is_hung_up()
    eventually(path.exists)
    with Raw(path) as client:
        assert client.ask(READ, 7) == SETPOINT


def test_a_port_that_is_disconnected_refuses_for_a_while(start: Start) -> None:
    port = free_port()
    unit = {"unit_id": 1, "sensor_id": "t", "kind": "temperature"}
    fault = {"kind": "disconnect", "seconds": 1, "count": 1}
    start(scenario_of({"tcp_port": port, "units": [unit], "faults": [fault]}))

    def connects() -> bool:
        try:
            with Raw(port) as client:
                return client.ask(READ, 7, 5) == SETPOINT
        except ConnectionRefusedError:
            return False

    with Raw(port) as client:
        client.send(READ)
        assert client.is_hung_up()
    eventually(connects)


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ({"kind": "silence"}, b""),
        ({"kind": "crc_error"}, b"$OK 8.2.1 5.2.1^D2\r"),
        ({"kind": "truncation", "size_bytes": 5}, b"$OK 8"),
        ({"kind": "exception"}, b"$NK^21\r"),
        ({"kind": "echo"}, GV + VERSION),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_the_next_answer_of_a_charger_is_wrong(start: Start, fault: dict[str, Any], heard: bytes) -> None:
    port = free_port()
    line = {
        "kind": "openevse",
        "tcp_port": port,
        "charger": {"round_s": None},
        "faults": [fault | {"count": 1}],
    }
    start(scenario_of() | {"text_lines": [line]})
    with Raw(port) as client:
        assert client.ask(GV, len(heard) or 1, 10 if heard else 0.3) == heard
        assert client.ask(GV, len(VERSION)) == VERSION


def test_the_greeting_of_a_charger_uses_up_no_fault(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "wallbox"
    line = {"kind": "openevse", "pty_path": str(path), "charger": {"round_s": None}}
    start(scenario_of() | {"text_lines": [line | {"faults": [{"kind": "exception", "count": 1}]}]})
    with Raw(path) as client:
        assert client.ask(GV, 23) == b"$AB 00 8.2.1^1C\r$NK^21\r"
        assert client.ask(GV, len(VERSION)) == VERSION


def test_a_printing_device_is_silent_for_as_many_lines_as_was_asked_for(start: Start) -> None:
    port = free_port()
    faults = [{"kind": "truncation", "size_bytes": 2, "count": 1}]
    start(scenario_of() | {"text_lines": [{"kind": "arduino", "tcp_port": port, "faults": faults}]})
    with Raw(port) as client:
        assert client.hear(12).startswith(b"T=T=")


def test_a_scale_without_checksums_gives_a_wrong_character(start: Start) -> None:
    port = free_port()
    fault = {"kind": "crc_error", "count": 1}
    start(scenario_of() | {"text_lines": [{"kind": "scale", "tcp_port": port, "faults": [fault]}]})
    with Raw(port) as client:
        wrong = client.ask(b"?\r\n", 11)
        right = client.ask(b"?\r\n", 11)
    assert right == b"TARE 0.00\r\n"
    assert len(wrong) == len(right)
    assert sum(a != b for a, b in zip(wrong, right, strict=True)) == 1


# -- HTTP -------------------------------------------------------------------------------------------------------------


def web(start: Start, *faults: dict[str, Any]) -> str:
    http = http_of("m")
    start(scenario_of(http=http | {"faults": faults}))
    return f"http://127.0.0.1:{http['port']}/sensors/m"


def test_http_errors_come_as_often_as_they_were_asked_for(start: Start) -> None:
    url = web(start, {"kind": "http_error", "count": 1}, {"kind": "http_error", "code": 503, "count": 2})
    assert [requests.get(url, timeout=10).status_code for _ in range(3)] == [503, 503, 200]


def test_a_reset_is_a_reset(start: Start) -> None:
    url = web(start, {"kind": "reset", "count": 1})
    with socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET /sensors/m HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert requests.get(url, timeout=10).status_code == 200


def test_a_huge_body_is_as_large_as_was_asked_for(start: Start) -> None:
    url = web(start, {"kind": "huge_body", "size_bytes": 3_000_000, "count": 1})
    assert len(requests.get(url, timeout=20).json()) == 3_000_000
    assert "motion_detected" in requests.get(url, timeout=10).json()


def test_a_held_poll_ends_without_an_answer(start: Start) -> None:
    url = web(start, {"kind": "hang", "seconds": 0.5, "count": 1})
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=20)
    assert requests.get(url, timeout=10).status_code == 200


def test_a_delayed_poll_is_answered_late(start: Start) -> None:
    url = web(start, {"kind": "delay", "seconds": 0.5, "count": 1})
    begin = time.monotonic()
    assert requests.get(url, timeout=20).status_code == 200
    assert time.monotonic() - begin >= 0.5


def test_a_stuck_detector_says_the_same_again(start: Start) -> None:
    url = web(start, {"kind": "stuck", "duration_s": 3000})
    first = requests.get(url, timeout=10).json()
    requests.post(f"{url}/motion", json={"active": not first["motion_detected"]}, timeout=10)
    assert requests.get(url, timeout=10).json() == first
