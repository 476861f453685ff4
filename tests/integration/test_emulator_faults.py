"""Each fault as a client meets it, on terminals, TCP and HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.frames import framed
from tests.integration.emulated import (
    Control,
    Raw,
    Start,
    emulators,
    free_port,
    http_of,
    line_of,
    scenario_of,
)
from tests.support import eventually

READ = framed(1, bytes.fromhex("0300000001"))
SETPOINT = framed(1, bytes.fromhex("030200d2"))
GV, VERSION = b"$GV^35\r", b"$OK 8.2.1 5.2.1^2D\r"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


class Shared:
    """An emulator of one device of each kind, whose control API injects the faults."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._places: dict[str, Path | int] = {kind: free_port() for kind in ("openevse", "scale", "arduino")}
        text: list[dict[str, Any]] = [
            {"kind": kind, "tcp_port": port, "line_id": kind} for kind, port in self._places.items()
        ]
        text[0]["charger"] = {"round_s": None}
        self._places["bus"] = folder / "bus"
        http = http_of("m")
        start(
            scenario_of(line_of(folder / "bus", "temperature", "humidity"), http=http) | {"text_lines": text}
        )
        self._url = f"http://127.0.0.1:{http['port']}"
        self.port, self.detector = int(http["port"]), f"{self._url}/sensors/m"

    def heal(self) -> None:
        assert requests.delete(f"{self._url}/api/faults", timeout=10).ok

    def inject(self, line_id: str, *faults: dict[str, Any]) -> None:
        """Into a line."""
        for fault in faults:
            answer = requests.post(f"{self._url}/api/lines/{line_id}/faults", json=fault, timeout=10)
            assert answer.status_code == 201, answer.text

    def client(self, line_id: str, *faults: dict[str, Any]) -> Raw:
        """Of a line with these faults."""
        self.inject(line_id, *faults)
        return Raw(self._places[line_id])


@pytest.fixture(scope="module")
def only_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    with emulators(folder) as begin:
        yield Shared(begin, folder)


@pytest.fixture
def shared(only_one: Shared) -> Shared:
    """Without what another test has left."""
    only_one.heal()
    return only_one


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
    shared: Shared, fault: dict[str, Any], heard: bytes
) -> None:
    with shared.client("bus", fault | {"count": 2}) as client:
        wanted = heard + heard + SETPOINT
        assert client.ask(READ + READ + READ, len(wanted)) == wanted


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


# -- text devices -----------------------------------------------------------------------------------------------------


TARE, ZERO = b"?\r\n", b"TARE 0.00\r\n"


@pytest.mark.parametrize(
    ("kind", "fault", "heard"),
    [
        ("openevse", {"kind": "silence"}, b""),
        ("openevse", {"kind": "crc_error"}, b"$OK 8.2.1 5.2.1^D2\r"),
        ("openevse", {"kind": "truncation"}, b"$OK 8.2.1 "),
        ("openevse", {"kind": "truncation", "size_bytes": 5}, b"$OK 8"),
        ("openevse", {"kind": "truncation", "size_bytes": 0}, b""),
        ("openevse", {"kind": "exception"}, b"$NK^21\r"),
        ("openevse", {"kind": "echo"}, GV + VERSION),
        ("scale", {"kind": "silence"}, b""),
        ("scale", {"kind": "crc_error"}, b"TARE?0.00\r\n"),
        ("scale", {"kind": "truncation"}, b"TARE 0"),
        ("scale", {"kind": "echo"}, TARE + ZERO),
    ],
)
def test_the_next_answer_is_wrong_and_the_one_after_it_is_right(
    shared: Shared, kind: str, fault: dict[str, Any], heard: bytes
) -> None:
    asked, right = (GV, VERSION) if kind == "openevse" else (TARE, ZERO)
    with shared.client(kind, fault | {"count": 1}) as client:
        assert client.ask(asked + asked, len(heard + right)) == heard + right


def test_garbage_comes_before_a_chargers_answer(shared: Shared) -> None:
    with shared.client("openevse", {"kind": "garbage", "size_bytes": 5, "count": 1}) as client:
        heard = client.ask(GV + GV, 5 + 2 * len(VERSION))
    assert len(heard) == 5 + 2 * len(VERSION)
    assert heard[5:] == 2 * VERSION


def test_silence_uses_up_nothing_else(shared: Shared) -> None:
    faults = [{"kind": kind, "count": 1} for kind in ("silence", "crc_error", "exception", "echo")]
    with shared.client("openevse", *faults) as client:
        heard = client.ask(GV + GV + GV, len(GV) + 7 + len(VERSION))
    assert heard == GV + b"$NK^DE\r" + VERSION


@pytest.mark.parametrize(
    ("line", "heard"),
    [(b"hello\r", b"he?lo\r"), (b"hello^\r", b"hel?o^\r"), (b"$GV^zz\r", b"$GV^zz\r$NK^DE\r")],
)
def test_a_wrong_echo_of_what_has_no_checksum_ends_no_emulator(
    shared: Shared, line: bytes, heard: bytes
) -> None:
    faults = [{"kind": kind, "count": 1} for kind in ("crc_error", "echo")]
    with shared.client("openevse", *faults) as client:
        assert client.ask(line + GV, len(heard + VERSION)) == heard + VERSION


def test_a_stuck_charger_takes_orders_and_keeps_what_it_has(shared: Shared) -> None:
    limit, state = b"$OK 16 0000^27\r", b"$OK 01 0 01 0000^10\r"
    with shared.client("openevse", {"kind": "stuck", "count": 5}) as client:
        stuck = b"$OK 20^02\r$OK^20\r$OK^20\r" + limit + state
        assert client.ask(b"$SC 20 V\r$FS\r$FD\r$GE\r$GS\r", len(stuck)) == stuck
        assert client.ask(b"$GE\r$GS\r", len(limit + state)) == limit + state


def test_who_listens_to_a_charger_hears_its_new_state_when_it_is_stuck_no_more(shared: Shared) -> None:
    device = f"http://127.0.0.1:{shared.port}/api/devices/openevse/values/plugged"
    state, told = b"$OK 01 0 01 0000^10\r", b"$AT 02 02 16 0100^37\r"
    with shared.client("openevse", {"kind": "stuck"}) as client:
        assert client.ask(b"$GS\r", len(state)) == state
        assert requests.put(device, json={"value": True}, timeout=10).ok
        assert client.ask(b"$GS\r", len(state)) == state
        shared.heal()
        assert client.hear(len(told)) == told
        assert requests.put(device, json={"value": False}, timeout=10).ok
        assert client.hear(len(state)) == b"$AT 01 01 16 0000^36\r"


def test_what_is_said_unasked_can_pull_the_cable(shared: Shared) -> None:
    with shared.client("arduino", {"kind": "disconnect", "seconds": 0.1, "count": 1}) as client:
        assert client.hear(1, 30) == b""

    def is_heard_again() -> bool:
        try:
            with shared.client("arduino") as client:
                return client.hear(2, 30).startswith(b"T=")
        except ConnectionError:
            return False

    eventually(is_heard_again, 30)


def test_a_printing_device_is_cut_short_for_as_many_lines_as_was_asked_for(shared: Shared) -> None:
    with shared.client("arduino", {"kind": "truncation", "size_bytes": 2, "count": 1}) as client:
        assert client.hear(12, 30).startswith(b"T=T=")


def test_the_greeting_of_a_charger_uses_up_no_fault(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "wallbox"
    line = {"kind": "openevse", "pty_path": str(path), "charger": {"round_s": None}}
    start(scenario_of() | {"text_lines": [line | {"faults": [{"kind": "exception", "count": 1}]}]})
    with Raw(path) as client:
        assert client.ask(GV, 23) == b"$AB 00 8.2.1^1C\r$NK^21\r"
        assert client.ask(GV, len(VERSION)) == VERSION


# -- HTTP -------------------------------------------------------------------------------------------------------------


def test_http_errors_come_as_often_as_they_were_asked_for(start: Start) -> None:
    http = http_of("m")
    faults = [{"kind": "http_error", "count": 1}, {"kind": "http_error", "code": 503, "count": 2}]
    start(scenario_of(http=http | {"faults": faults}))
    url = f"http://127.0.0.1:{http['port']}/sensors/m"
    assert [requests.get(url, timeout=10).status_code for _ in range(4)] == [503, 503, 500, 200]


def test_a_reset_is_a_reset(shared: Shared) -> None:
    shared.inject("http", {"kind": "reset", "count": 1})
    with socket.create_connection(("127.0.0.1", shared.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET /sensors/m HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert requests.get(shared.detector, timeout=10).status_code == 200


def test_a_huge_body_is_as_large_as_was_asked_for(shared: Shared) -> None:
    shared.inject("http", {"kind": "huge_body", "size_bytes": 3_000_000, "count": 1})
    assert len(requests.get(shared.detector, timeout=20).json()) == 3_000_000
    assert "motion_detected" in requests.get(shared.detector, timeout=10).json()


def test_a_held_poll_ends_without_an_answer(shared: Shared) -> None:
    shared.inject("http", {"kind": "hang", "seconds": 0.5, "count": 1})
    with pytest.raises(requests.ConnectionError):
        requests.get(shared.detector, timeout=20)
    assert requests.get(shared.detector, timeout=10).status_code == 200


def test_a_delayed_poll_is_answered_late(shared: Shared) -> None:
    shared.inject("http", {"kind": "delay", "seconds": 0.5, "count": 1})
    begin = time.monotonic()
    assert requests.get(shared.detector, timeout=20).status_code == 200
    assert time.monotonic() - begin >= 0.5


def test_a_stuck_detector_says_the_same_again(shared: Shared) -> None:
    shared.inject("http", {"kind": "stuck", "duration_s": 3000})
    first = requests.get(shared.detector, timeout=10).json()
    requests.post(f"{shared.detector}/motion", json={"active": not first["motion_detected"]}, timeout=10)
    assert requests.get(shared.detector, timeout=10).json() == first


def test_the_faults_of_a_detector_strike_whatever_letters_its_name_has(start: Start) -> None:
    http = http_of("Küche")
    start(scenario_of(http=http))
    Control(http["port"]).inject("devices/Küche", "http_error", count=1)
    url = f"http://127.0.0.1:{http['port']}/sensors/Küche"
    assert [requests.get(url, timeout=10).status_code for _ in range(2)] == [500, 200]


def test_what_holds_up_a_client_is_over_when_its_fault_is_cleared(shared: Shared) -> None:
    shared.inject("http", {"kind": "hang", "seconds": 3600, "count": 1})
    refused: list[str] = []

    def poll() -> None:
        try:
            requests.get(shared.detector, timeout=60)
        except requests.ConnectionError:
            refused.append("closed without an answer")

    polling = threading.Thread(target=poll)
    polling.start()
    control = Control(shared.port)
    eventually(lambda: not control.ask("GET", "lines/http/faults")["faults"])
    with shared.client("scale", {"kind": "disconnect", "seconds": 3600, "count": 1}) as client:
        client.ask(b"W\r", 1, 0.1)
    eventually(lambda: control.ask("GET", "lines/scale")["back_in_s"])
    assert not control.ask("GET", "lines/scale")["is_up"]
    with shared.client("openevse", {"kind": "delay", "seconds": 3600, "count": 1}) as client:
        assert client.ask(GV, 1, 0.1) == b""
        eventually(lambda: control.counters("openevse")["answered"])
        shared.heal()
        assert client.hear(len(VERSION)) == VERSION
    polling.join(60)
    assert refused == ["closed without an answer"]
    eventually(lambda: control.ask("GET", "lines/scale")["is_up"])
    assert control.ask("GET", "lines/scale")["back_in_s"] is None
