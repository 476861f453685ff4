"""The device emulator as its clients see it: a process, a terminal, a web server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusIOException

from tests.integration.emulated import Start, emulators, http_of, line_of, scenario_of
from tests.support import eventually

READ_UNIT_1 = bytes.fromhex("01040000000131ca")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


def connect(path: Path, timeout_s: float = 2.0) -> ModbusSerialClient:
    client = ModbusSerialClient(str(path), baudrate=19200, timeout=timeout_s, retries=0)
    assert client.connect()
    return client


def close(client: Any) -> None:
    client.close()


def measure(client: ModbusSerialClient, unit_id: int = 1) -> float:
    answer = client.read_input_registers(0, count=1, device_id=unit_id)
    assert not answer.isError(), answer
    register: int = answer.registers[0]
    return (register - 65536 if register > 32767 else register) / 10


def test_1000_reads_without_one_failure_when_no_failures_are_wanted(start: Start, tmp_path: Path) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature")))
    client, took_ms = connect(tmp_path / "bus"), []
    values = set()
    for _ in range(1000):
        begin = time.monotonic()
        values.add(measure(client))
        took_ms.append((time.monotonic() - begin) * 1000)
    close(client)
    assert all(18.5 <= value <= 25.5 for value in values)
    assert len(values) > 1  # they change while one looks
    assert statistics.median(took_ms) < 50


def test_every_unit_of_two_lines_answers_with_its_own_kind(start: Start, tmp_path: Path) -> None:
    start(
        scenario_of(
            line_of(tmp_path / "dir" / "a", "temperature", "humidity"),
            line_of(tmp_path / "dir" / "b", "pressure", "co2", "illuminance", "whatever"),
        )
    )
    first, second = connect(tmp_path / "dir" / "a"), connect(tmp_path / "dir" / "b")
    assert 18.5 <= measure(first, 1) <= 25.5
    assert 34.5 <= measure(first, 2) <= 55.5
    assert 1008 <= measure(second, 1) <= 1018
    assert 400 <= measure(second, 2) <= 860
    assert 0 <= measure(second, 3) <= 1505
    assert 29 <= measure(second, 4) <= 71
    close(first)
    close(second)


def test_all_reads_time_out_when_all_fail_and_a_unit_that_is_not_there_is_silent(
    start: Start, tmp_path: Path
) -> None:
    emulator = start(
        scenario_of(line_of(tmp_path / "a", "temperature", error_rate=1), line_of(tmp_path / "b", "humidity"))
    )
    for path, unit_id in ((tmp_path / "a", 1), (tmp_path / "b", 9)):
        client = connect(path, timeout_s=0.1)
        for _ in range(3):
            with pytest.raises(ModbusIOException, match="No response"):
                client.read_input_registers(0, count=1, device_id=unit_id)
        close(client)
    emulator.stop()
    assert emulator.said("answered=0 swallowed=3")


def test_about_the_wanted_share_of_reads_fails_and_a_failed_write_changes_nothing(
    start: Start, tmp_path: Path
) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature", error_rate=0.5)))
    # patient: an answer that is merely late on a busy machine must not pass for a swallowed request
    client, failed, written = connect(tmp_path / "bus", timeout_s=0.5), 0, 0
    for value in range(24):
        try:
            client.write_register(0, value, device_id=1)
            written = value
        except ModbusIOException:
            failed += 1
    assert 2 <= failed <= 22  # three fair runs of a million lie outside
    assert eventually(lambda: setpoint_or_none(client), 5) == written
    close(client)


def setpoint_or_none(client: ModbusSerialClient) -> int | None:
    try:
        register: int = client.read_holding_registers(0, count=1, device_id=1).registers[0]
    except ModbusIOException:
        return None
    return register


def test_setpoint_and_switch_can_be_written_and_are_each_units_own(start: Start, tmp_path: Path) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature", "humidity")))
    client = connect(tmp_path / "bus")
    assert not client.write_register(0, 305, device_id=1).isError()
    assert not client.write_coil(0, True, device_id=1).isError()
    found = [
        (
            client.read_holding_registers(0, count=1, device_id=unit_id).registers,
            client.read_coils(0, count=1, device_id=unit_id).bits[0],
            client.read_discrete_inputs(0, count=1, device_id=unit_id).bits[0],
        )
        for unit_id in (1, 2)
    ]
    assert found == [([305], True, True), ([210], False, False)]
    assert not client.write_coil(0, False, device_id=1).isError()
    assert client.read_discrete_inputs(0, count=1, device_id=1).bits[0] is False
    assert client.read_input_registers(7, count=1, device_id=1).exception_code == 2
    close(client)


def test_a_killed_client_leaves_a_line_that_the_next_one_can_use(start: Start, tmp_path: Path) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature")))
    program = """
        import sys
        from pymodbus.client import ModbusSerialClient
        client = ModbusSerialClient(sys.argv[1], baudrate=19200, timeout=2, retries=0)
        client.connect()
        while True:
            client.read_input_registers(0, count=1, device_id=1)
            print("read", flush=True)
    """
    for _ in range(2):
        arguments = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "bus")]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"read\n"
            other.kill()
    for _ in range(20):
        client = connect(tmp_path / "bus")
        assert 18.5 <= measure(client) <= 25.5
        close(client)


def test_a_request_that_comes_byte_by_byte_is_answered(start: Start, tmp_path: Path) -> None:
    start(scenario_of(line_of(tmp_path / "bus", "temperature")))
    port = os.open(tmp_path / "bus", os.O_RDWR | os.O_NOCTTY)
    for byte in READ_UNIT_1:
        os.write(port, bytes([byte]))
    answer = b""
    while len(answer) < 7:
        assert select.select([port], [], [], 5)[0], answer
        answer += os.read(port, 100)
    assert answer[:3] == bytes.fromhex("010402")
    os.close(port)


def test_the_same_seed_gives_the_same_noise(start: Start, tmp_path: Path) -> None:
    def first_values(seed: int) -> list[float]:
        lines = [line_of(tmp_path / "bus", *["temperature"] * 8)]
        emulator = start(scenario_of(*lines, seed=seed))
        client = connect(tmp_path / "bus")
        found = [measure(client, unit_id) for unit_id in range(1, 9)]
        close(client)
        emulator.stop()
        return found

    one, again, other = first_values(1), first_values(1), first_values(2)
    assert one == pytest.approx(again, abs=0.11)  # the day went on by seconds between the two
    assert one != pytest.approx(other, abs=0.11)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_code_0_and_removes_its_links(start: Start, tmp_path: Path, number: int) -> None:
    emulator = start(scenario_of(line_of(tmp_path / "bus", "temperature"), http=http_of("m", error_rate=1)))
    client = connect(tmp_path / "bus")
    assert (tmp_path / "bus").is_symlink()
    code, _ = emulator.stop(number)
    close(client)
    assert code == 0
    assert not (tmp_path / "bus").is_symlink()


def test_a_link_that_is_no_longer_its_own_is_left_alone(start: Start, tmp_path: Path) -> None:
    emulator = start(scenario_of(line_of(tmp_path / "bus", "temperature")))
    (tmp_path / "bus").unlink()
    (tmp_path / "bus").symlink_to("/dev/pts/some-other")
    emulator.stop()
    assert os.readlink(tmp_path / "bus") == "/dev/pts/some-other"


def test_a_link_left_by_a_killed_emulator_is_replaced(start: Start, tmp_path: Path) -> None:
    scenario = scenario_of(line_of(tmp_path / "bus", "temperature"))
    emulator = start(scenario)
    emulator.process.kill()
    emulator.process.wait(5)
    assert (tmp_path / "bus").is_symlink()
    start(scenario)
    client = connect(tmp_path / "bus")
    assert 18.5 <= measure(client) <= 25.5
    close(client)


def test_a_file_in_the_links_place_is_refused_and_kept(start: Start, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    scenario = scenario_of(line_of(tmp_path / "a", "temperature"), line_of(tmp_path / "b", "temperature"))
    emulator = start(scenario, ready=False)
    assert emulator.process.wait(20) == 1
    assert emulator.process.stderr is not None
    assert f"{tmp_path}/b exists and is not a link" in emulator.process.stderr.read()
    assert (tmp_path / "b").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


def test_a_bad_scenario_ends_with_78_and_says_what_is_wrong(start: Start) -> None:
    emulator = start(scenario_of(seed=None) | {"timezone": "Mars/Base", "lines": 3}, ready=False)
    assert emulator.process.wait(20) == 78
    assert emulator.process.stderr is not None
    said = emulator.process.stderr.read()
    assert "scenario.timezone: must be the name of a time zone" in said
    assert "scenario.lines: must be a list" in said


def test_it_does_nothing_while_nobody_has_the_line_open(start: Start, tmp_path: Path) -> None:
    emulator = start(scenario_of(line_of(tmp_path / "bus", "temperature"), http=http_of("m")))
    client = connect(tmp_path / "bus")
    measure(client)
    close(client)
    process = psutil.Process(emulator.process.pid)
    before, begin = process.cpu_times(), time.monotonic()
    eventually(lambda: time.monotonic() - begin > 1)
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.1


def test_an_emulator_without_devices_runs(start: Start) -> None:
    assert start(scenario_of()).stop()[0] == 0


def test_its_lines_are_json_when_wanted_and_none_is_written_per_request(start: Start, tmp_path: Path) -> None:
    http = http_of("m")
    emulator = start(scenario_of(line_of(tmp_path / "bus", "temperature"), http=http), LOG_FORMAT="json")
    said = len(emulator.lines)
    client = connect(tmp_path / "bus")
    for _ in range(5):
        measure(client)
        requests.get(f"http://127.0.0.1:{http['port']}/sensors/m", timeout=5)
    close(client)
    assert len(emulator.lines) == said
    entries = [json.loads(line) for line in emulator.lines]
    assert [entry["event"] for entry in entries] == ["line up", "web server up", "emulator ready"]
    assert {entry["service"] for entry in entries} == {"device-emulator"}


def test_a_motion_detector_answers_its_three_values(start: Start) -> None:
    http = http_of("motion_front_door")
    start(scenario_of(http=http))
    url = f"http://127.0.0.1:{http['port']}/sensors"
    answer = requests.get(f"{url}/motion_front_door", timeout=5).json()
    assert sorted(answer) == ["battery_level", "motion_detected", "signal_strength"]
    assert isinstance(answer["motion_detected"], bool)
    assert 5 <= answer["battery_level"] <= 100
    assert -70 <= answer["signal_strength"] <= -40
    unknown = requests.get(f"{url}/attic", timeout=5)
    assert (unknown.status_code, unknown.json()) == (404, {"error": "no sensor attic"})


def test_motion_can_be_forced_on_and_off(start: Start) -> None:
    http = http_of("m")
    start(scenario_of(http=http))
    url = f"http://127.0.0.1:{http['port']}/sensors/m"
    for active in (True, False):
        assert requests.post(f"{url}/motion", json={"active": active}, timeout=5).status_code == 200
        assert requests.get(url, timeout=5).json()["motion_detected"] is active
    assert requests.post(f"{url}/motion", json={"active": None}, timeout=5).status_code == 200
    assert requests.post(f"{url}/motion", json={"active": "yes"}, timeout=5).status_code == 400
    assert requests.post(f"{url}/motion", data="{", timeout=5).status_code == 415


def test_a_failing_poll_times_out_without_holding_up_others(start: Start) -> None:
    http = http_of("m") | {"faults": [{"kind": "hang", "seconds": 600}]}
    emulator = start(scenario_of(http=http))
    url = f"http://127.0.0.1:{http['port']}/sensors/m"
    held = [socket.create_connection(("127.0.0.1", http["port"])) for _ in range(5)]
    for connection in held:
        connection.sendall(b"GET /sensors/m HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(requests.ReadTimeout):
        requests.get(url, timeout=0.3)
    assert requests.post(f"{url}/motion", json={"active": True}, timeout=60).status_code == 200
    code, took_s = emulator.stop()
    assert code == 0
    assert took_s < 300
    for connection in held:
        assert connection.recv(100) == b""  # closed without an answer
        connection.close()


def test_a_taken_port_is_an_error_with_a_clear_message(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        http = http_of("m") | {"port": other.getsockname()[1]}
        emulator = start(scenario_of(http=http), ready=False)
        assert emulator.process.wait(20) == 1
    assert emulator.process.stderr is not None
    assert "cannot start: [Errno 98] Address already in use" in emulator.process.stderr.read()
