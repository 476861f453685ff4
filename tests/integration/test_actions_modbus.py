"""Searching and reading over Modbus by the platform's tools: real terminals, real servers."""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.contract import setup_devices
from tests.contract.setup_devices import INPUT_1_IS_225, READ_INPUT_1, UNIT, Emulated, RemotePort
from tests.contract.setup_wizard import connector_folder
from tests.integration.test_actions import Answer, ask, refusal
from tests.wire.scripted_peers import CLOSE, Reply, RtuOverTcpPeer, hexed, on_pty, on_tcp

SETPOINT = {"table": "holding", "address": 10, "scale": 0.1, "unit": "°C"}
INPUT_1 = {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    with setup_devices.emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(scope="module")
def tcp_port() -> Iterator[int]:
    with setup_devices.tcp_server() as server:
        yield server.port


def search(folder: Path, line: dict[str, Any], first: int, last: int, **more: Any) -> Answer:
    given = {
        "what": "modbus_units",
        "line": {"transport_id": "line", **line},
        "first": first,
        "last": last,
        "unit_timeout_s": 1,
    }
    return ask(folder, "discover", given | more)


def read(folder: Path, line: dict[str, Any], register: dict[str, Any], **sensor: Any) -> Answer:
    content = {
        "sensor_id": "s",
        "sensor_type": "generic",
        "transport": "line",
        "unit_id": UNIT,
        "register": register,
    }
    return ask(
        folder,
        "test_sensor",
        {"sensors": [content | sensor], "transports": [{"transport_id": "line", **line}]},
    )


def rtu(url: str, **more: Any) -> dict[str, Any]:
    return {"driver": "modbus_rtu", "url": url, **more}


def tcp(port: int) -> dict[str, Any]:
    return {"driver": "modbus_tcp", "url": f"tcp://127.0.0.1:{port}"}


# -- searching --------------------------------------------------------------------------------------------


def test_the_units_on_a_terminal_are_found_and_silent_ones_are_not(folder: Path, emulated: Emulated) -> None:
    result = search(folder, rtu(emulated.pty), 1, 4)["result"]
    assert [unit["unit_id"] for unit in result["units"]] == [1, 2]
    assert (result["count"], result["complete"], result["note"]) == (2, True, "")
    assert result["message"] == "2 units found"


def test_a_search_that_runs_out_of_time_says_what_it_did_not_reach(folder: Path, emulated: Emulated) -> None:
    result = search(folder, rtu(emulated.pty), 2, 247, within_s=2.5)["result"]
    assert [unit["unit_id"] for unit in result["units"]] == [2]
    assert result["complete"] is False
    assert result["note"].startswith("not reached: units ")
    assert " to 247; search again from unit " in result["note"]


def test_a_unit_that_only_refuses_is_found_too(folder: Path, tcp_port: int) -> None:
    with on_pty(hexed("01 83 02 C0 F1")) as peer:
        result = search(folder, rtu(peer.path), 1, 1)["result"]
        assert peer.requests == [hexed("01 03 00 00 00 01 84 0A")]
    assert result["units"] == [{"unit_id": 1, "label": "unit 1 (says illegal data address (2))"}]


def test_an_answer_that_comes_while_the_next_unit_is_asked_counts(folder: Path) -> None:
    with on_pty(b"", hexed("01 03 02 00 07 F9 86")) as peer:
        result = search(folder, rtu(peer.path), 1, 2, unit_timeout_s=0.6)["result"]
    assert [unit["unit_id"] for unit in result["units"]] == [1]


def test_noise_and_echoes_are_no_answers(folder: Path) -> None:
    def echo(request: bytes) -> bytes:
        return request

    with on_pty(echo, b"\x02\x03\x02\x00\x01\x00\x00garbage") as peer:
        result = search(folder, rtu(peer.path), 1, 2, unit_timeout_s=0.2)["result"]
    assert result["units"] == []
    assert "check address, speed, parity and wiring" in result["note"]


def test_the_unit_behind_modbus_tcp_is_found(folder: Path, tcp_port: int) -> None:
    result = search(folder, tcp(tcp_port), UNIT - 1, UNIT + 1)["result"]
    # For units that are not there, this server says that it failed: found, but labelled so.
    assert [unit for unit in result["units"] if "says" not in unit["label"]] == [
        {"unit_id": UNIT, "label": f"unit {UNIT}"}
    ]


def test_a_device_that_looks_at_no_unit_id_is_noticed(folder: Path) -> None:
    def anybody(request: bytes) -> bytes:
        return request[:4] + hexed("00 05") + request[6:8] + hexed("02 00 01")

    with on_tcp(*[anybody] * 9) as peer:
        result = search(folder, tcp(peer.port), 1, 9)["result"]
    assert result["count"] == 9
    assert "every unit id answers" in result["note"]


def test_units_that_a_gateway_does_not_reach_are_not_found(folder: Path) -> None:
    def gateway(request: bytes) -> bytes:
        return request[:4] + hexed("00 03") + request[6:7] + hexed("83 0B")

    with on_tcp(*[gateway] * 2) as peer:
        assert search(folder, tcp(peer.port), 1, 2)["result"]["units"] == []


def test_a_line_that_is_lost_keeps_what_was_found(folder: Path) -> None:
    with on_tcp(hexed("01 03 02 00 07 F9 86"), CLOSE, kind=RtuOverTcpPeer) as peer:
        result = search(folder, rtu(f"socket://127.0.0.1:{peer.port}"), 1, 9)["result"]
    assert [unit["unit_id"] for unit in result["units"]] == [1]
    assert result["complete"] is False
    assert (
        "the line was lost: the other side closed the connection; not reached: units 2 to 9" in result["note"]
    )


# -- reading ----------------------------------------------------------------------------------------------


def test_a_sensor_on_a_terminal_is_read_once(folder: Path, emulated: Emulated) -> None:
    register = {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1, "unit": "°C"}
    result = read(folder, rtu(emulated.pty), register, unit_id=1)["result"]
    assert 15 < result["values"]["value"] < 30
    assert result["message"].startswith("s answered in ")
    assert result["message"].endswith(f"value = {result['values']['value']} °C")


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (INPUT_1, 22.5),
        (SETPOINT, 54.5),
        ({"table": "input", "address": 20, "data_type": "int32"}, -100_000),
        ({"table": "holding", "address": 30, "data_type": "float32", "word_order": "little"}, -12.25),
        ({"table": "coil", "address": 2}, False),
        ({"table": "discrete", "address": 5}, True),
    ],
    ids=lambda item: f"{item['table']} {item['address']}" if isinstance(item, dict) else "",
)
@pytest.mark.parametrize("kind", ["tcp", "socket"])
def test_every_kind_of_register_is_read(
    folder: Path, tcp_port: int, kind: str, register: Any, value: Any
) -> None:
    if kind == "tcp":
        assert read(folder, tcp(tcp_port), register)["result"]["values"] == {"value": value}
        return
    with setup_devices.rtu_server() as server:
        line = rtu(f"socket://127.0.0.1:{server.port}")
        assert read(folder, line, register)["result"]["values"] == {"value": value}


def test_a_device_behind_rfc2217_is_read_with_its_line_settings(folder: Path) -> None:
    cold = hexed("03 04 02 FF 9C 81 69")  # 0xFF is telnet's own mark
    with on_tcp(cold, kind=RemotePort) as peer:
        line = rtu(peer.url, baudrate=9600, parity="E", stopbits=2, bytesize=8)
        assert read(folder, line, INPUT_1)["result"]["values"] == {"value": -10}
        assert peer.requests == [READ_INPUT_1]
        assert isinstance(peer, RemotePort)
        assert (peer.serial.baudrate, peer.serial.parity, peer.serial.stopbits) == (9600, "E", 2)


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (b"", "no_answer", "no answer from unit 3 within 0.7 s"),
        (hexed("03 84 02 63 01"), "refused", "unit 3 refused to read input 1: illegal data address (2)"),
        (hexed("03 04 02 00 E1 00 B9"), "no_answer", "no answer from unit 3 within 0.7 s"),
        (hexed("04 04 02 00 E1 B5 78"), "no_answer", "no answer from unit 3 within 0.7 s (unit 4 answered)"),
    ],
    ids=["silence", "refused", "checksum", "another unit"],
)
def test_why_there_is_no_value_is_said_in_plain_words(
    folder: Path, reply: Reply, code: str, told: str
) -> None:
    with on_pty(reply) as peer:
        sensor = {
            "sensor_id": "s",
            "sensor_type": "generic",
            "transport": "l",
            "unit_id": UNIT,
            "register": INPUT_1,
        }
        given = {"sensors": sensor, "transports": {"transport_id": "l", **rtu(peer.path)}, "timeout_s": 0.7}
        assert refusal(ask(folder, "test_sensor", given)) == (code, told)


def test_a_value_after_noise_is_read(folder: Path) -> None:
    with on_pty(b"\x00\xff\x03" + INPUT_1_IS_225) as peer:
        assert read(folder, rtu(peer.path), INPUT_1)["result"]["values"] == {"value": 22.5}


def test_no_finite_number_is_said_so(folder: Path) -> None:
    register = {"table": "holding", "address": 0, "data_type": "float32"}
    with on_pty(hexed("03 03 04 7F C0 00 00 C0 1B")) as peer:
        code, told = refusal(read(folder, rtu(peer.path), register))
    assert (code, told) == ("no_number", "the device sent nan as float32")


def test_a_closed_port_is_named(folder: Path) -> None:
    port = free_port()
    answer = read(folder, tcp(port), INPUT_1)
    assert refusal(answer) == ("unreachable", f"cannot connect to 127.0.0.1:{port}: Connection refused")
    assert answer["error"]["retriable"] is True


def test_a_peer_that_speaks_something_else_is_noticed(folder: Path) -> None:
    with on_tcp(b"HTTP/1.1 400 Bad Request\r\n\r\n") as peer:
        assert refusal(read(folder, tcp(peer.port), INPUT_1))[0] == "no_modbus"


def test_a_port_in_use_is_left_alone(folder: Path) -> None:
    with on_pty() as peer:
        descriptor = os.open(peer.path, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            assert refusal(read(folder, rtu(peer.path), INPUT_1)) == (
                "busy",
                f"{peer.path} is in use by another program",
            )
        finally:
            os.close(descriptor)


def test_a_port_is_given_back_as_it_was(folder: Path) -> None:
    with on_pty(INPUT_1_IS_225) as peer:
        descriptor = os.open(peer.path, os.O_RDWR | os.O_NOCTTY)
        try:
            before = termios.tcgetattr(descriptor)
            assert read(folder, rtu(peer.path, baudrate=1200, parity="E"), INPUT_1)["ok"]
            assert termios.tcgetattr(descriptor) == before
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("path", ["/etc/passwd", "/dev/null", "/tmp"])
def test_what_is_no_serial_port_is_not_written_to(folder: Path, path: str) -> None:
    assert refusal(read(folder, rtu(path), INPUT_1)) == ("no_port", f"{path} is not a serial port")


def test_a_port_that_is_not_here_says_whose_container_is_meant(folder: Path) -> None:
    code, told = refusal(read(folder, rtu("/dev/ttyNOWHERE"), INPUT_1))
    assert code == "no_port"
    assert told.startswith("cannot open /dev/ttyNOWHERE: No such file or directory")
    assert "its own container" in told


def test_several_properties_are_read_and_the_wanted_sensor_is_chosen(folder: Path, tcp_port: int) -> None:
    properties = {"setpoint": SETPOINT, "door": {"table": "discrete", "address": 5}}
    sensors = [
        {"sensor_id": "other", "sensor_type": "generic"},
        {
            "sensor_id": "boiler",
            "sensor_type": "generic",
            "transport": "l",
            "unit_id": UNIT,
            "properties": properties,
        },
    ]
    given = {"sensors": sensors, "transports": {"transport_id": "l", **tcp(tcp_port)}}
    result = ask(folder, "test_sensor", {**given, "sensor_id": "boiler"})["result"]
    assert result["values"] == {"setpoint": 54.5, "door": True}
    assert result["message"].endswith("setpoint = 54.5 °C, door = true")
    assert "is nothing to read yet" in ask(folder, "test_sensor", given)["result"]["message"]
    assert refusal(ask(folder, "test_sensor", {**given, "sensor_id": "x"}))[1].endswith("none has this id")
