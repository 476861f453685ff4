"""`sensor-hub decode` and `scan` on real lines: the emulator, pymodbus' server, and devices that misbehave."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from typer.testing import CliRunner
from werkzeug.serving import make_server

from sensor_hub import cli, config, runtime
from sensor_hub.bus_tools import target
from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler
from sensor_hub.drivers import check_options
from sensor_hub.drivers.modbus_frames import crc_of
from sensor_hub.errors import BrokenFrame, ConfigError, DeviceRefused, HubError, ReadTimeout, TransportDown
from sensor_hub.handler import HandlerService
from sensor_hub.handler_api import handler_app
from tests.integration.test_modbus_servers import ServerThread
from tests.support import eventually
from tests.system.hub import command, environment, new_id, run_dir_of, terminal_output
from tests.wire.scripted_peers import CLOSE, PtyPeer, Reply, RtuOverTcpPeer, TcpPeer, on_pty, on_tcp

READING_FUNCTIONS = {1, 2, 3, 4}


class Ran:
    """What a command left: exit code, both outputs, and the hub's error that `main` would show."""

    def __init__(self, *arguments: str, typed: str = "", **env: str) -> None:
        clean = {"INSTANCE_NAME": "", "COLUMNS": "300", "TERM": "dumb", **env}
        result = CliRunner().invoke(cli.app, list(arguments), input=typed, env=clean)
        self.code, self.error = result.exit_code, result.exception
        expected = (HubError, ConfigError, SystemExit, type(None))
        if not isinstance(self.error, expected):
            raise self.error
        self.rows = [line.split("\t") for line in result.stdout.splitlines()]
        self.notes = result.stderr

    def registers(self) -> list[dict[str, Any]]:
        """The JSON of each guess."""
        return [json.loads(row[-1]) for row in self.rows]

    def units(self) -> list[int]:
        """Who was found."""
        return [int(row[2]) for row in self.rows]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulated line with a thermometer at 3 and a CO2 sensor at 12."""
    folder = tmp_path_factory.mktemp("emulator")
    units = [
        {"unit_id": 3, "sensor_id": "cellar", "kind": "temperature"},
        {"unit_id": 12, "sensor_id": "office", "kind": "co2"},
    ]
    path = folder / "line"
    emulated = {"pty_path": str(path), "baudrate": 9600, "error_rate": 0, "units": units}
    scenario = {"instance_id": "x", "seed": 1, "timezone": "UTC", "lines": [emulated], "http": None}
    (folder / "scenario.json").write_text(json.dumps(scenario), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", str(folder / "scenario.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(path.exists, 30)
        yield str(path)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["tcp", "socket"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The url of pymodbus' own server: unit 3, input register 1 holds 225."""
    running = ServerThread(FramerType.SOCKET if request.param == "tcp" else FramerType.RTU)
    try:
        yield f"{request.param}://127.0.0.1:{running.port}"
    finally:
        running.stop()


def answer(*registers: int) -> Reply:
    """A reply to any read of registers: these, then zeros."""

    def of(request: bytes) -> bytes:
        count = int.from_bytes(request[4:6], "big")
        words = [*registers, *[0] * count][:count]
        adu = request[:2] + bytes([2 * count]) + struct.pack(f">{count}H", *words)
        return adu + crc_of(adu)

    return of


def refusal(code: int) -> Reply:
    def of(request: bytes) -> bytes:
        adu = bytes([request[0], request[1] | 0x80, code])
        return adu + crc_of(adu)

    return of


def only_unit(unit_id: int, reply: Reply) -> Reply:
    """A device that is not meant keeps silent."""

    def of(request: bytes) -> bytes:
        return (reply(request) if callable(reply) else reply) if request[0] == unit_id else b""

    return of


FAST = ("--baudrates", "9600", "--parities", "N", "--timeout", "0.15", "--delay", "0")


# -- decode ------------------------------------------------------------------------------------------------------


def test_a_setpoint_of_the_emulator_is_decoded_from_its_display(line: str) -> None:
    ran = Ran("decode", line, "--unit", "3", "--address", "40001", "--expect", "21.0")
    assert ran.code == 0
    assert ran.rows[0][:6] == ["holding", "0", "int16", "AB", "0.1", "21.0"]
    assert ran.registers()[0] == {"table": "holding", "address": 0, "data_type": "int16", "scale": 0.1}
    assert "40001 is holding register 0 (counted from 0) in the notation of manuals" in ran.notes
    assert "holding 0: 00d2" in ran.notes


def test_an_address_that_counts_from_1_is_found_beside(line: str) -> None:
    ran = Ran("decode", line, "--unit", "3", "--address", "1", "--table", "holding", "--expect", "21.0")
    assert ran.registers()[0]["address"] == 0


def test_an_input_register_of_pymodbus_server_is_decoded(server: str) -> None:
    ran = Ran("decode", server, "--unit", "3", "--address", "1", "--expect", "22.5")
    assert ran.code == 0
    assert ran.registers()[0] == {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1}


def test_a_discrete_input_of_pymodbus_server_is_decoded(server: str) -> None:
    ran = Ran("decode", server, "--unit", "3", "--address", "5", "--table", "discrete", "--expect", "on")
    assert ran.registers() == [{"table": "discrete", "address": 5}]


def test_what_nothing_fits_is_exit_code_1_and_says_what_to_try(line: str) -> None:
    ran = Ran("decode", line, "--unit", "3", "--address", "0", "--expect", "987.654")
    assert (ran.code, ran.rows) == (1, [])
    assert "nothing here reads as 987.654: try another --address" in ran.notes


def test_further_readings_from_a_pipe_narrow_the_list() -> None:
    # Both registers hold 225; only the first follows the display.
    replies = [answer(225, 225), answer(231, 225)]
    with on_pty(*replies) as peer:
        ran = Ran(
            *("decode", peer.path, "--unit", "1", "--address", "0", "--table", "holding", "--around", "0"),
            *("--expect", "22.5", "--watch"),
            typed="23.1\n",
        )
    assert ran.code == 0
    values = [row[5] for row in ran.rows]
    assert values.index("23.1") > 0
    assert {row[1] for row in ran.rows if row[5] == "23.1"} == {"0"}
    assert all(request[1] in READING_FUNCTIONS for request in peer.requests)


def test_a_reading_that_contradicts_leaves_nothing() -> None:
    with on_pty(*[answer(225)] * 2) as peer:
        ran = Ran(
            *("decode", peer.path, "--unit", "1", "--address", "0", "--table", "holding"),
            *("--expect", "22.5", "--watch"),
            typed="30.0\n",
        )
    assert ran.code == 1


def test_a_device_that_refuses_blocks_is_read_in_parts() -> None:
    def picky(request: bytes) -> bytes:
        whole = request[2:6] == bytes([0, 10, 0, 2])  # its float, and nothing else
        reply = answer(*struct.unpack(">2H", struct.pack(">f", 49.98))) if whole else refusal(2)
        assert callable(reply)
        return reply(request)

    with on_pty(*[picky] * 200) as peer:
        ran = Ran("decode", peer.path, "--unit", "1", "--address", "10", "--expect", "50.0")
    assert ran.registers()[0] == {"table": "holding", "address": 10, "data_type": "float32"}


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (b"", ReadTimeout, "no answer from unit 1 within 0.05 s; `sensor-hub scan` shows"),
        (refusal(2), DeviceRefused, r"gives none of these registers \(holding: illegal data address \(2\)"),
        (b"\x01\x03\x02garbage", BrokenFrame, "only damaged answers from unit 1"),
        (bytes(range(1, 200)), BrokenFrame, "only damaged answers from unit 1"),
        (b"\xaa" * 3000, BrokenFrame, "only damaged answers from unit 1"),
    ],
    ids=["silent", "refuses", "damaged", "garbage", "too much"],
)
def test_a_device_that_gives_nothing_is_an_error_that_says_why(
    reply: Reply, error: type[HubError], said: str
) -> None:
    with on_pty(*[reply] * 200) as peer:
        ran = Ran("decode", peer.path, "--unit", "1", "--address", "0", "--expect", "5", "--timeout", "0.05")
    assert isinstance(ran.error, error)
    assert re.search(said, str(ran.error))
    assert ran.rows == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--unit", "0", "--address", "1", "--expect", "1"], "broadcasts are refused"),
        (["--unit", "248", "--address", "1", "--expect", "1"], "248 must lie in 1..247"),
        (["--unit", "1", "--address", "70000", "--expect", "1"], "70000 is no address"),
        (["--unit", "1", "--address", "1", "--expect", "NaN"], "no number that a display shows"),
        (["--unit", "1", "--address", "1", "--expect", "1", "--table", "x"], "--table must be"),
        (["--unit", "1", "--address", "1", "--expect", "1", "--table", "coil"], "must be on or off"),
        (["--unit", "1", "--address", "1", "--expect", "1", "--parity", "X"], "parity"),
        (["--unit", "1", "--address", "1", "--expect", "1", "--baudrate", "7"], "baudrate"),
    ],
)
def test_decode_refuses_what_makes_no_sense(arguments: list[str], said: str) -> None:
    ran = Ran("decode", "/dev/null", *arguments)
    assert ran.code == 2
    assert said in ran.notes


# -- scan --------------------------------------------------------------------------------------------------------


def test_a_scan_finds_the_units_of_the_emulator_and_nobody_else(line: str) -> None:
    ran = Ran("scan", line, "--units", "2-4,12,15", *FAST)
    assert ran.code == 0
    assert ran.units() == [3, 12]
    assert ran.rows[0][:4] == ["9600", "8N1", "3", "holding 0 = 210"]
    entry = {"transport_id": "bus0", "driver": "modbus_rtu", "url": line}
    assert json.loads(ran.rows[0][-1]) == entry | {"baudrate": 9600, "parity": "N", "stopbits": 1}
    assert re.search(r"scan of .*: 1 settings x 5 units, at most 10 requests and about \d+ s", ran.notes)


def test_the_transport_of_a_hit_is_one_that_the_hub_takes(line: str, tmp_path: Path) -> None:
    (row,) = Ran("scan", line, "--units", "3", *FAST).rows
    reader = {"sensor_id": "s", "sensor_type": "generic", "transport": "bus0", "unit_id": int(row[2])}
    guess = Ran("decode", line, "--unit", "3", "--address", "0", "--expect", "21.0").registers()[0]
    document = {"transports": [json.loads(row[-1])], "sensors": [reader | {"register": guess}]}
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"instance_id": "x", "config": document}), encoding="utf-8")
    report = config.read({}, root=tmp_path, file=file, secrets_dir=tmp_path, check_options=check_options)
    assert report.problems == ()


def test_a_scan_of_pymodbus_server_asks_for_units_only(server: str) -> None:
    ran = Ran("scan", server, "--units", "1-5", "--timeout", "2")
    # It says "server device failure" for units that it does not have.
    assert [(row[0], row[2]) for row in ran.rows if "failure (4)" not in row[3]] == [("-", "3")]
    assert (
        "every unit id has an answer; all but 3 say the same, so perhaps only this one is there" in ran.notes
    )
    assert json.loads(ran.rows[0][-1])["driver"] == ("modbus_tcp" if "tcp" in server else "modbus_rtu")
    assert "settings" not in ran.notes.splitlines()[0]


class OneSpeed(PtyPeer):
    """A device that takes 19200 baud for itself, and anything else for noise, which it answers with noise."""

    def speed(self, request: bytes) -> bytes:
        good = termios.tcgetattr(self.master)[4] == termios.B19200
        reply = answer(7)
        assert callable(reply)
        return (reply(request) if good else b"\xf8\x1c\x80\x73") if request[0] == 2 else b""


def test_the_right_baud_rate_is_found_and_garbage_at_others_is_a_hint() -> None:
    peer = OneSpeed()
    peer.script._replies = [peer.speed] * 100
    try:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST, "--baudrates", "9600,19200,4800")
    finally:
        peer.unplug()
    assert [row[:3] for row in ran.rows] == [["19200", "8N1", "2"]]
    assert re.search(
        r"hint: 9600 8N1: 2 times something was heard that is no Modbus \(f8 1c 80 73\)", ran.notes
    )
    assert all(request[1] in READING_FUNCTIONS for request in peer.requests)
    assert {request[0] for request in peer.requests} == {1, 2, 3}


def test_an_exception_is_an_answer_too() -> None:
    with on_pty(*[only_unit(2, refusal(2))] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert [row[2:4] for row in ran.rows] == [["2", "holding 0: illegal data address (2)"]]


def test_a_device_that_answers_function_4_only_is_found() -> None:
    def inputs_only(request: bytes) -> bytes:
        reply = answer(5)
        assert callable(reply)
        return reply(request) if request[:2] == b"\x02\x04" else b""

    with on_pty(*[inputs_only] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert [row[2:4] for row in ran.rows] == [["2", "input 0 = 5"]]


def test_two_devices_with_one_id_are_damaged_frames_and_said_to_be() -> None:
    collided = only_unit(2, b"\x02\x03\x02\x00\x91\x44\x02\x03")
    with on_pty(*[collided] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert ran.units() == [2]
    assert (
        "damaged (02 03 02 00 91 44 02 03); damaged frames: do two devices have this unit id?"
        in ran.rows[0][3]
    )


def test_a_second_answer_is_said_to_be_one() -> None:
    def twice(request: bytes) -> bytes:
        replies = answer(5), answer(6)
        return b"".join(reply(request) for reply in replies if callable(reply))

    with on_pty(*[only_unit(2, twice)] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "2", *FAST)
    assert "more than one answer: do two devices have this unit id?" in ran.rows[0][3]


def test_an_adapter_that_hears_itself_is_no_second_device() -> None:
    def echoed(request: bytes) -> bytes:
        reply = answer(5)
        assert callable(reply)
        return request + (reply(request) if request[0] == 2 else b"")

    with on_pty(*[echoed] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert [row[2:4] for row in ran.rows] == [["2", "holding 0 = 5"]]


def test_a_unit_that_was_too_late_is_asked_again() -> None:
    late: list[bytes] = []

    def slow(
        request: bytes,
    ) -> bytes:  # its answer to the first request comes with the next one, then it is quick
        reply = answer(5)
        assert callable(reply)
        if request[0] == 1:
            late.append(reply(request))
            return b"" if len(late) <= 2 else late[-1]
        return late[0] if len(late) == 2 else b""

    with on_pty(*[slow] * 40) as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert ran.units() == [1]
    assert "slow: needs more than 0.15 s" in ran.rows[0][3]


def test_nothing_found_is_exit_code_1_and_says_what_to_check() -> None:
    with on_pty() as peer:
        ran = Ran("scan", peer.path, "--units", "1-3", *FAST)
    assert (ran.code, ran.rows) == (1, [])
    assert "nothing answers: are A and B swapped" in ran.notes


def test_first_leaves_the_other_settings_alone(line: str) -> None:
    ran = Ran("scan", line, "--units", "3", *FAST, "--baudrates", "9600,4800", "--first")
    assert [row[0] for row in ran.rows] == ["9600"]
    assert "4800" not in ran.notes


def test_a_line_that_goes_away_ends_the_scan_with_what_was_found() -> None:
    with on_tcp(answer(1), CLOSE, kind=RtuOverTcpPeer) as peer:
        ran = Ran("scan", peer.url, "--units", "1-5", "--timeout", "1")
    assert ran.units() == [1]
    assert isinstance(ran.error, TransportDown)


class TcpGateway(TcpPeer):
    """A gateway: unit 2 is there, of the others it says itself that they are silent; unit 4 makes it hang up."""

    def _talk(self, connection: Any) -> None:
        while request := self.next_request(connection):
            unit_id = request[6]
            if unit_id == 4:
                return
            adu = bytes([unit_id, 3, 2, 0, 9]) if unit_id == 2 else bytes([unit_id, request[7] | 0x80, 11])
            connection.sendall(request[:4] + len(adu).to_bytes(2, "big") + adu)


def test_a_gateway_that_answers_for_silent_units_is_no_device() -> None:
    with on_tcp(kind=TcpGateway) as peer:
        ran = Ran("scan", peer.url, "--units", "1-5", "--timeout", "2")
    assert ran.units() == [2]
    assert "hint: a gateway answers for 6 questions that the unit is silent" in ran.notes
    assert re.search(r"hint: this line: 2 times .* closed the connection", ran.notes)


def test_a_device_that_looks_at_no_unit_id_is_suspected() -> None:
    with on_pty(*[answer(1)] * 20) as peer:
        ran = Ran("scan", peer.path, "--units", "1-6", *FAST)
    assert ran.units() == [1, 2, 3, 4, 5, 6]
    assert "every unit id has an answer" in ran.notes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--units", "0-5"], "broadcasts are refused"),
        (["--units", "1-300"], "must lie in 1..247"),
        (["--baudrates", "9600,fast"], "baudrate"),
        (["--parities", "N,Q"], "parity"),
        (["--stopbits", "3"], "stopbits"),
        (["--baudrates", ","], "a list is empty"),
    ],
)
def test_scan_refuses_what_makes_no_sense(arguments: list[str], said: str) -> None:
    ran = Ran("scan", "/dev/null", *arguments)
    assert ran.code == 2
    assert said in ran.notes


def test_ctrl_c_shows_what_was_found_so_far(line: str, tmp_path: Path) -> None:
    text = terminal_output(
        ["scan", line, "--units", "3,40-240", "--timeout", "0.5"], environment("", tmp_path), until="found"
    )
    assert "stopped by Ctrl-C" in text
    assert re.search(r"9600 .*8N1 .*3 .*holding 0 = 210", text)
    assert "transport of unit 3:" in text
    assert "Traceback" not in text


def test_a_terminal_gets_a_table_of_guesses(line: str, tmp_path: Path) -> None:
    arguments = ["decode", line, "--unit", "3", "--address", "0", "--expect", "21.0"]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal_output(arguments, environment("", tmp_path)))
    assert re.search(r"table +address +type +order +scale +reads as +register", text)
    assert re.search(r"holding +0 +int16 +AB +0.1 +21.0 +\{", text)


# -- whose line it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["ttyUSB0", "http://x/y", "/dev/tty\0", "socket://x", "tcp://", "ftp://x/"])
def test_what_names_no_line_is_a_usage_error(url: str) -> None:
    ran = Ran("scan", url)
    assert ran.code == 2
    assert "Error" in ran.notes


def test_a_port_that_is_not_there_says_so() -> None:
    ran = Ran("scan", "/dev/no-such-port")
    assert isinstance(ran.error, TransportDown)
    assert "No such file or directory; is it plugged in?" in str(ran.error)


def test_a_port_that_a_program_has_open_is_in_use_and_by_whom(tmp_path: Path) -> None:
    with on_pty() as peer:
        holder = target.target_of(peer.path, {})
        bus = holder.open(holder.settings(), 0.1, 0.0)
        try:
            ran = command("scan", peer.path, env=environment("", tmp_path))
        finally:
            bus.close()
    assert ran.returncode == 1
    assert "it is in use by another program" in ran.stderr
    assert f"(pid {os.getpid()}) has it open" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[tuple[str, PtyPeer]]:
    """An instance's file with a transport `cellar` on a line where a device answers."""
    instance_id = new_id()
    with on_pty(*[answer(225)] * 50) as peer:
        transport = {"transport_id": "cellar", "driver": "modbus_rtu", "url": peer.path, "baudrate": 4800}
        reader: dict[str, Any] = {"sensor_id": "s", "sensor_type": "generic", "transport": "cellar"}
        reader |= {"unit_id": "1", "register": {"table": "holding", "address": 0}}
        document: dict[str, Any] = {
            "instance_id": instance_id,
            "config": {"transports": [transport], "sensors": [reader]},
        }
        (tmp_path / "instances").mkdir()
        (tmp_path / "instances" / f"{instance_id}.json").write_text(json.dumps(document), encoding="utf-8")
        yield instance_id, peer


@pytest.mark.parametrize("where", [["cellar"], []])
def test_a_transport_of_the_instance_is_read_as_it_is_configured(
    where: list[str], configured: tuple[str, PtyPeer], tmp_path: Path
) -> None:
    instance_id, peer = configured
    env = {"INSTANCE_NAME": instance_id, "IOT2MQTT_PATH": str(tmp_path)}
    ran = Ran(
        "decode", *where, "--unit", "1", "--address", "0", "--table", "holding", "--expect", "22.5", **env
    )
    assert ran.registers()[0]["scale"] == 0.1
    assert termios.tcgetattr(peer.master)[4] == termios.B4800
    ran = Ran("scan", "attic", **env)
    assert ran.code == 2
    assert "Modbus transports are cellar" in re.sub(r"[│\s]+", " ", ran.notes)


def test_a_line_of_a_running_hub_is_left_alone_and_the_hub_named(
    configured: tuple[str, PtyPeer], tmp_path: Path
) -> None:
    instance_id, peer = configured
    hub = config.load({"INSTANCE_NAME": instance_id}, root=tmp_path)
    app = handler_app(HandlerService("serial-handler", Handler.SERIAL, hub, system_clock()), Handler.SERIAL)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with run_dir_of(instance_id) as directory:
            directory.mkdir(mode=0o700)
            urls = {"serial-handler": f"http://127.0.0.1:{server.server_port}"}
            runtime.write_instance(runtime.Instance(instance_id, os.getpid(), urls, ""))
            ran = Ran("scan", peer.path)
    finally:
        server.shutdown()
        server.server_close()
    assert isinstance(ran.error, TransportDown)
    assert f"belongs to the running instance {instance_id} (transport cellar): stop it first" in str(
        ran.error
    )
    assert peer.requests == []
