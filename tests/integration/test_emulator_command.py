"""`sensor-hub emulate`: by itself, with the scenarios of the documentation, and with a hub that reads what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from sensor_hub import config
from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler
from sensor_hub.drivers import check_options
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Status
from tests.integration.emulated import Raw, Start, emulators, free_port
from tests.support import eventually

COMMAND = [sys.executable, "-m", "sensor_hub", "emulate"]
ROOT = Path(__file__).parents[2]
READ_1 = bytes.fromhex("01040000000131ca")


def ran(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=said,
            cwd=ROOT,
            text=True,
        )
        try:
            eventually(
                lambda: "emulator ready" in (folder / "said").read_text() or process.poll() is not None, 30
            )
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def is_online(service: HandlerService, sensor_id: str) -> bool:
    return service.status(sensor_id) is Status.ONLINE


def hub_of(instance: dict[str, Any], folder: Path) -> config.model.HubConfig:
    file = folder / "instance.json"
    file.write_text(json.dumps(instance), encoding="utf-8")
    report = config.read({}, root=folder, file=file, secrets_dir=folder, check_options=check_options)
    assert report.config is not None, report.problems
    return report.config


def test_without_a_scenario_it_serves_some_devices_and_says_how_a_hub_reads_them(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        text = (tmp_path / "said").read_text()
        found = re.search(r"^\{$.*?^\}$", text, re.M | re.S)
        assert found is not None, text
        hub = hub_of(json.loads(found[0]), tmp_path)
        service = HandlerService("serial-handler", Handler.SERIAL, hub, system_clock())
        service.start()
        try:
            for sensor_id in ("temperature", "humidity", "co2", "ev"):
                eventually(partial(is_online, service, sensor_id), 30)
            assert service.read("ev")["firmware"] == "8.2.1"
        finally:
            service.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_two_without_a_scenario_share_nothing(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        (tmp_path / "said").rename(tmp_path / "first")
        with started(tmp_path) as second:
            assert (first.poll(), second.poll()) == (None, None)
            said = [(tmp_path / name).read_text() for name in ("first", "said")]
    places = [set(re.findall(r'"url": "([^"]+)"', text)) for text in said]
    assert [len(each) for each in places] == [3, 3]
    assert places[0].isdisjoint(places[1])


def test_the_command_finds_the_emulator_from_anywhere_and_hands_its_options_on(tmp_path: Path) -> None:
    (tmp_path / "emulator").mkdir()  # not the one
    scenario = {"lines": [{"pty_path": "/tmp/x/bus", "units": []}]}
    (tmp_path / "s.json").write_text(json.dumps(scenario))
    found = ran("s.json", "--show-config", "--serial-baudrate", "1200", cwd=tmp_path, SERIAL_PACED="true")
    assert found.returncode == 0, found.stderr
    rows = dict(line.split("\t", 1) for line in found.stdout.splitlines())
    assert rows["bus.baudrate"] == "1200\tcommand line --serial-baudrate"
    assert rows["bus.paced"] == "true\tenvironment SERIAL_PACED"
    assert rows["bus.pty_path"] == "/tmp/x/bus\tscenario file"
    assert rows["bus.mode"] == "pty\tdefault"
    assert "--serial-reconnect-backoff" in ran("--help").stdout


def test_a_wrong_scenario_and_a_wrong_option_end_with_78_and_say_all(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"seed": "x", "http": {"port": 0}}')
    found = ran(str(tmp_path / "s.json"), "--serial-mode", "tcp")
    assert found.returncode == 78
    assert [line.split(": ")[1] for line in found.stderr.splitlines()] == [
        "command line --serial-mode",
        "scenario.seed",
        "scenario.http.port",
    ]
    assert ran(str(tmp_path / "gone.json")).returncode == 78
    assert ran("--unheard-of").returncode == 2


def test_options_of_a_recorder_are_shown_as_said_and_refused_elsewhere(tmp_path: Path) -> None:
    recorder = ("--record", "/dev/null", "--to", str(tmp_path / "r"), "--parity", "E")
    where = ("--serial-tcp-port", "8024", "--serial-reconnect-timeout", "5")
    shown = ran(*recorder, "--show-config", *where).stdout
    rows = dict(line.split("\t", 1) for line in shown.splitlines())
    assert rows["tap.parity"] == "E\tcommand line --parity"
    assert rows["tap.stopbits"] == "1\tdefault"
    # of the port that it opens again
    assert rows["tap.reconnect_timeout_sec"] == "5.0\tcommand line --serial-reconnect-timeout"
    refused = ran(*recorder, "--web-port", "8080")
    assert (refused.returncode, "--record has no web server" in refused.stderr) == (2, True)
    refused = ran("--stopbits", "2")
    assert (refused.returncode, "are of the port of --record" in refused.stderr) == (2, True)


def test_a_web_port_of_the_environment_does_not_keep_a_recorder_from_its_work(tmp_path: Path) -> None:
    recorder = ("--record", "/dev/null", "--to", str(tmp_path / "r"), "--show-config")
    shown = ran(*recorder, WEB_PORT="8080", WEB_HOST="0.0.0.0")
    assert shown.returncode == 0, shown.stderr
    assert "web.port\t8080\tenvironment WEB_PORT, not used by --record" in shown.stdout.splitlines()


@pytest.mark.parametrize("option", ["--show-config", "--show-hub"])
def test_who_reads_what_is_shown_may_leave(tmp_path: Path, option: str) -> None:
    (tmp_path / "s.json").write_text('{"http": {"port": 8080}}')
    hears, says = os.pipe()
    os.close(hears)
    try:
        ended = subprocess.run(
            [*COMMAND, str(tmp_path / "s.json"), option],
            cwd=ROOT,
            stdout=says,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(says)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_hub_is_told_every_kind_of_line(tmp_path: Path) -> None:
    port = free_port()
    scenario = {
        "instance_id": "all_kinds",
        "lines": [{"tcp_port": port, "units": [{"unit_id": 1, "sensor_id": "t", "kind": "whatever"}]}],
        "text_lines": [
            {"pty_path": str(tmp_path / kind), "kind": kind}
            for kind in ("openevse", "openevse_emulator", "arduino", "arduino_json", "scale")
        ],
        "http": {"port": 5999, "motion": ["door"]},
    }
    (tmp_path / "s.json").write_text(json.dumps(scenario))
    hub = hub_of(json.loads(ran(str(tmp_path / "s.json"), "--show-hub").stdout), tmp_path)
    assert [(t.driver, t.url) for t in hub.transports if t.driver != "http_json"] == [
        ("modbus_rtu", f"socket://127.0.0.1:{port}"),
        ("rapi", str(tmp_path / "openevse")),
        ("rapi", str(tmp_path / "openevse_emulator")),
        ("ascii_line", str(tmp_path / "arduino")),
        ("ascii_line", str(tmp_path / "arduino_json")),
        ("ascii_line", str(tmp_path / "scale")),
    ]
    assert [s.sensor_id for s in hub.sensors][-1] == "door"
    with emulators(tmp_path) as start:
        start(scenario)
        service = HandlerService("serial-handler", Handler.SERIAL, hub, system_clock())
        service.start()
        try:
            for sensor in hub.sensors:
                if sensor.handler is Handler.SERIAL:
                    eventually(partial(is_online, service, sensor.sensor_id), 30)
        finally:
            service.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


def test_a_hubs_own_emulator_takes_faults_though_it_has_no_motion_detector(
    start: Start, tmp_path: Path
) -> None:
    thermometer = {"sensor_id": "t", "sensor_type": "temperature"}
    hub = hub_of({"instance_id": "plain", "config": {"sensors": [thermometer]}}, tmp_path)
    assert hub.emulator is not None
    scenario: dict[str, Any] = json.loads(json.dumps(hub.emulator.scenario))
    bus, port = tmp_path / "bus", free_port()
    scenario["lines"][0] |= {"pty_path": str(bus), "error_rate": 0}
    scenario["http"] |= {"port": port}
    start(scenario)
    with Raw(bus) as client:
        for path in ("devices/t", "lines/bus"):
            url = f"http://127.0.0.1:{port}/api/{path}/faults"
            fault = {"kind": "exception", "code": 6, "count": 1}
            assert requests.post(url, json=fault, timeout=10).status_code == 201
            assert client.ask(READ_1, 5)[1:3].hex() == "8406"
        assert client.ask(READ_1, 7)[1:3].hex() == "0402"


def test_the_environment_moves_the_only_line(start: Start, tmp_path: Path) -> None:
    unit = {"unit_id": 1, "sensor_id": "t", "kind": "temperature"}
    scenario = {"lines": [{"pty_path": str(tmp_path / "a"), "units": [unit]}]}
    start(scenario, SERIAL_PTY_PATH=str(tmp_path / "b"))
    assert [(tmp_path / name).is_symlink() for name in "ab"] == [False, True]
    emulator = start(scenario, SERIAL_TCP_PORT="1", SERIAL_PTY_PATH=str(tmp_path / "c"))
    assert emulator.said("WARNING device-emulator  environment SERIAL_TCP_PORT: ")
    assert emulator.said("tcp_port is not used in mode pty")
    port = free_port()
    emulator = start(scenario, "--serial-mode", "tcp", SERIAL_MODE="pty", SERIAL_TCP_PORT=str(port))
    assert emulator.said(f"place=socket://127.0.0.1:{port}")


def test_who_has_read_enough_of_the_log_ends_nothing(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "--web-port", str(port)],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            text=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()  # as `head` does

            def is_there() -> bool:
                with suppress(requests.ConnectionError):
                    return requests.delete(f"http://127.0.0.1:{port}/api/faults", timeout=10).ok
                return False

            eventually(is_there)
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "errors").read_text() == ""
