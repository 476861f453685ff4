"""A device is recorded while a hub reads it, and its recording then is the device."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.recording import read
from sensor_hub.errors import CommandTimeout, HubError
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Json
from tests.integration.emulated import ROOT, Raw, emulators, free_port
from tests.integration.text_hub import command, running
from tests.support import eventually

REGISTER: dict[str, Json] = {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1}
SETPOINT: dict[str, Json] = {"table": "holding", "address": 0, "scale": 0.1, "write": True}
READ_1 = bytes.fromhex("01040000000131ca")
BUS: dict[str, Any] = {"units": [{"unit_id": 1, "sensor_id": "d", "kind": "temperature"}]}


class Program:
    """An emulator that was started with these arguments alone."""

    def __init__(self, *arguments: str | Path | int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emulator", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += (line.rstrip("\n") for line in self.process.stdout)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def ended(self, within_s: float = 30) -> int:
        code = self.process.wait(within_s)
        self._reader.join(5)
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended(10)


@contextmanager
def program(*arguments: str | Path | int, ready: str = "") -> Iterator[Program]:
    found = Program(*arguments)
    try:
        if ready:
            eventually(lambda: found.said(ready) or found.process.poll() is not None, 30)
            assert found.said(ready), found.lines
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.communicate()


class Device:
    """An emulated device with a control API."""

    def __init__(self, place: str, port: int) -> None:
        self.place, self._url = place, f"http://127.0.0.1:{port}/api/devices/d/values"

    def set(self, **values: Any) -> None:
        answer = requests.patch(self._url, json={"values": values}, timeout=10)
        assert answer.ok, answer.text


@contextmanager
def device(folder: Path, line: dict[str, Any]) -> Iterator[Device]:
    """`line` is one of `lines` if it has units, else of `text_lines`."""
    port, place = free_port(), folder / "device"
    if "tcp_port" not in line:
        line = line | {"pty_path": str(place)}
    key = "lines" if "units" in line else "text_lines"
    with emulators(folder) as start:
        start({"instance_id": "x", "seed": 1, key: [line], "http": {"port": port}})
        yield Device(f"socket://127.0.0.1:{line['tcp_port']}" if "tcp_port" in line else str(place), port)


def without_time(reading: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reading.items() if name != "timestamp"}


SO_OFTEN = 4  # each value is read: what a charger says unasked makes the hub read once more, at any time


def readings(service: HandlerService, device: Device, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fresh readings after each setting."""
    found = []
    for setting in settings:
        device.set(**setting)
        found += [without_time(service.read("d")) for _ in range(SO_OFTEN)]
    return found


def courses(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Of each property the values that came one after the other."""
    return {
        name: [value for value, _ in itertools.groupby(each[name] for each in found)] for name in found[0]
    }


CASES: dict[str, tuple[dict[str, Any], dict[str, Json], dict[str, Json], list[dict[str, Any]]]] = {
    "modbus": (
        BUS,
        {"driver": "modbus_rtu"},
        {"unit_id": 1, "register": REGISTER},
        [{"value": value} for value in (20.0, 31.5, -4.2)],
    ),
    "rapi": (
        {"kind": "openevse", "sensor_id": "d", "charger": {"round_s": None}},
        {"driver": "rapi"},
        {},
        [{"temperature": 20}, {"temperature": 33, "plugged": True}, {"temperature": 41, "plugged": False}],
    ),
    "scale over tcp": (
        {"kind": "scale", "sensor_id": "d"},
        {"driver": "ascii_line"},
        {"request": "W", "value": {"regex": "([-+]\\d+\\.\\d+) kg", "unit": "kg"}},
        [{"weight": weight} for weight in (12.34, 0.5, 7.0)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hub_reads_the_same_from_a_recording_as_from_the_device(name: str, tmp_path: Path) -> None:
    line, transport, sensor, settings = CASES[name]
    transport = transport | {"read_interval": 600, "timeout_s": 3}
    places = []
    for _ in range(2):
        places.append(
            ["--serial-tcp-port", str(free_port())]
            if "tcp" in name
            else ["--serial-pty-path", str(tmp_path / "hub")]
        )
    if "tcp" in name:
        line = line | {"tcp_port": free_port()}

    def url(place: list[str]) -> str:
        return f"socket://127.0.0.1:{place[1]}" if "tcp" in name else place[1]

    sensors: list[dict[str, Json]] = [{"sensor_id": "d", **sensor}]
    recording = tmp_path / "recording.jsonl"
    with device(tmp_path, line) as real:
        arguments = ["--record", real.place, "--to", str(recording), *places[0]]
        with program(*arguments, ready="port opened") as recorder:
            with running(tmp_path, transport | {"url": url(places[0])}, sensors) as service:
                eventually(lambda: was_read(service))
                recorded = readings(service, real, settings)
            assert recorder.stop() == 0
    with (
        program("--replay", recording, *places[1], ready="emulator ready") as replay,
        running(tmp_path, transport | {"url": url(places[1])}, sensors) as service,
    ):
        eventually(lambda: was_read(service))
        again = [without_time(service.read("d")) for _ in range(len(recorded) + SO_OFTEN)]
        wanted = courses(recorded)
        assert max(map(len, wanted.values())) == len(settings)
        for key, values in courses(again).items():
            assert values[-len(wanted[key]) :] == wanted[key], key
        assert not replay.said("not recorded")


def was_read(service: HandlerService) -> bool:
    try:
        return bool(service.last("d"))
    except HubError:
        return False


def test_a_device_that_only_prints_is_recorded_and_prints_again(tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl"
    transport: dict[str, Json] = {"driver": "ascii_line", "url": str(tmp_path / "hub"), "timeout_s": 3}
    sensors: list[dict[str, Json]] = [{"sensor_id": "d", "value": {"regex": "T=([-\\d.]+)", "unit": "°C"}}]
    place = ("--serial-pty-path", tmp_path / "hub")
    with device(tmp_path, {"kind": "arduino", "sensor_id": "d"}) as real:
        real.set(temperature=33.3)
        with program("--record", real.place, "--to", recording, *place, ready="port opened") as recorder:
            with running(tmp_path, transport, sensors) as service:
                eventually(lambda: was_read(service) and service.last("d")["value"] == 33.3)
            assert recorder.stop() == 0
    assert {piece.dir for piece in read(recording).pieces} == {"from"}
    with (
        program("--replay", recording, *place, ready="emulator ready"),
        running(tmp_path, transport, sensors) as service,
    ):
        eventually(lambda: was_read(service) and service.last("d")["value"] == 33.3)


def test_a_write_is_replayed_and_what_was_not_recorded_gets_no_answer(tmp_path: Path) -> None:
    recording, place = tmp_path / "recording.jsonl", ("--serial-pty-path", tmp_path / "hub")
    transport: dict[str, Json] = {
        "driver": "modbus_rtu",
        "url": str(tmp_path / "hub"),
        "timeout_s": 0.5,
        "read_interval": 600,
    }
    sensors: list[dict[str, Json]] = [{"sensor_id": "d", "unit_id": 1, "properties": {"setpoint": SETPOINT}}]
    with (
        device(tmp_path, BUS) as real,
        program("--record", real.place, "--to", recording, *place, ready="port opened") as recorder,
    ):
        with running(tmp_path, transport, sensors) as service:
            eventually(lambda: was_read(service))
            assert command(service, "d", setpoint=30.5)["outcome"] == "verified"
        assert recorder.stop() == 0
    with program("--replay", recording, *place, ready="emulator ready") as replay:
        with running(tmp_path, transport, sensors) as service:
            eventually(lambda: was_read(service))
            assert service.last("d")["setpoint"] == 21.0
            assert command(service, "d", setpoint=30.5)["values"] == {"setpoint": 30.5}
            with pytest.raises(CommandTimeout):
                command(service, "d", setpoint=12)
        eventually(lambda: replay.said("request that was not recorded"))


def test_an_answer_of_a_replay_is_as_late_as_it_was(tmp_path: Path) -> None:
    with emulators(tmp_path) as start:
        port = free_port()
        delayed = {"kind": "delay", "seconds": 0.7}
        start({"lines": [BUS | {"pty_path": str(tmp_path / "device"), "faults": [delayed]}]})
        recording, place = tmp_path / "recording.jsonl", ("--serial-tcp-port", str(port))
        with program(
            "--record", tmp_path / "device", "--to", recording, *place, ready="port opened"
        ) as recorder:
            with Raw(port) as client:
                heard = client.ask(READ_1, 7)
            assert recorder.stop() == 0
    with program("--replay", recording, *place, ready="emulator ready"), Raw(port) as client:
        assert client.ask(READ_1, 7, within_s=0.4) == b""
        assert client.hear(7) == heard
    asked, answered = read(recording).pieces
    assert answered.t - asked.t >= 0.7


def opened(recorder: Program, times: int) -> bool:
    return sum("port opened" in line for line in recorder.lines) == times


def is_lost_again(recorder: Program) -> bool:
    told = [line for line in recorder.lines if "port lost" in line or "port opened" in line]
    return "port lost" in told[-1]


def test_a_port_that_goes_is_opened_again_and_the_recording_says_so(tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl"
    line = {"lines": [BUS | {"pty_path": str(tmp_path / "device")}]}
    options = ("--serial-pty-path", tmp_path / "hub", "--serial-reconnect-backoff", "50")
    with program("--record", tmp_path / "device", "--to", recording, *options, ready="port lost") as recorder:
        for number in (1, 2):
            with emulators(tmp_path) as start:
                emulator = start(line)
                eventually(partial(opened, recorder, number))
                with Raw(tmp_path / "hub") as client:
                    assert len(client.ask(READ_1, 7)) == 7
                emulator.stop()  # killed, it would leave a link to what may soon be another test's terminal
            eventually(partial(is_lost_again, recorder))
        assert recorder.stop() == 0
    events = [json.loads(line).get("event") for line in recording.read_text().splitlines()]
    told = [event for event in events if event]
    assert [each for n, each in enumerate(told) if each != "lost" or told[n - 1] != "lost"] == [
        "lost", "opened", "lost", "opened", "lost", "stopped"
    ]  # fmt: skip
    assert len(read(recording).pieces) == 4


def test_a_port_that_never_comes_ends_the_recorder_with_the_reason(tmp_path: Path) -> None:
    options = (
        "--serial-pty-path",
        tmp_path / "hub",
        "--serial-reconnect-timeout",
        "0.3",
        "--serial-reconnect-backoff",
        "50",
    )
    with program("--record", tmp_path / "no_such_port", "--to", tmp_path / "r", *options) as recorder:
        assert recorder.ended() == 1
        assert recorder.said("gave up (reconnect_timeout_sec): [Errno 2] could not open port")
    assert not (tmp_path / "hub").is_symlink()


def test_no_message_has_the_password_of_the_url(tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl"
    url = f"socket://me:very@se/cret@127.0.0.1:{free_port()}"
    options = ("--serial-pty-path", tmp_path / "hub", "--serial-reconnect-timeout", "0.2")
    with program(
        "--record", url, "--to", recording, *options, "--serial-reconnect-backoff", "50"
    ) as recorder:
        assert recorder.ended(60) == 1
        assert recorder.said("gave up (reconnect_timeout_sec): Could not open port socket://127.0.0.1:")
        assert recorder.said("port lost")
        everything = "\n".join([*recorder.lines, recording.read_text()])
    assert '"why": "Could not open port socket://127.0.0.1:' in everything
    assert [word for word in ("me:", "very", "cret", "se/") if word in everything] == []


def test_a_disk_that_is_full_ends_the_recorder_with_the_reason_and_what_was_written_can_be_read(
    tmp_path: Path,
) -> None:
    recording = tmp_path / "recording.jsonl"
    options = ("--serial-pty-path", tmp_path / "hub", "--serial-reconnect-backoff", "10")
    with program(
        "--record", tmp_path / "nothing", "--to", recording, *options, ready="port lost"
    ) as recorder:
        resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
        assert recorder.ended(60) == 1
        assert recorder.said("device-emulator: cannot write the recording: [Errno 27] File too large")
        assert not recorder.said("Traceback")
    assert read(recording).pieces == ()
    assert not (tmp_path / "hub").is_symlink()


def test_a_late_answer_of_a_replay_keeps_nothing_else_from_being_said(tmp_path: Path) -> None:
    recording, port = tmp_path / "recording.jsonl", free_port()
    head = '{"format": "sensor-hub-recording", "version": 1}'
    pieces = [(0.5, "to", "W\r"), (2.5, "from", "answer\r")]
    pieces += [(n / 20 + 0.01, "from", f"n{n}\r") for n in range(60, 2400)]
    lines = [json.dumps({"t": t, "dir": where, "text": text}) for t, where, text in pieces]
    recording.write_text("\n".join([head, *lines, ""]))
    with (
        program("--replay", recording, "--serial-tcp-port", port, ready="emulator ready"),
        Raw(port) as client,
    ):
        heard = client.hear(4, 60)
        client.send(b"W\r")
        while len(heard.partition(b"answer\r")[2]) < 500 or not heard.endswith(b"\r"):
            piece = client.hear(1, 60)
            assert piece
            heard += piece
    numbers = [int(line[1:]) for line in heard.split(b"\r") if line.startswith(b"n")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert b"answer\r" in heard


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--record", "/dev/null"], 2, "--record and --to go together"),
        (["--record", "http://192.0.2.1/", "--to", "r"], 2, "http:// is not one of socket, rfc2217, hwgrep"),
        (["--record", "/dev/null", "--to", "r", "--replay", "r"], 2, "a scenario, or --record, or --replay"),
        (["--replay", "no_such_file"], 78, "recording of line replay: no_such_file: No such file"),
        (["--record", "/dev/null", "--to", "README.md"], 1, "README.md exists: choose another name"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], code: int, says: str, tmp_path: Path) -> None:
    with program(*arguments, "--serial-pty-path", tmp_path / "hub") as found:
        assert found.ended() == code
        assert found.said(says), found.lines
