"""One hub at a real broker with a password, looked at from all sides while it runs."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, mosquitto, password_file
from tests.integration.emulated import Control
from tests.support import eventually
from tests.system.hub import (
    BIN,
    DEVICES,
    ROOT,
    UP_WITHIN_S,
    Hub,
    instance_file,
    new_id,
    run_dir_of,
    terminal_output,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
]

PASSWORD = "h0rse-battery-staple"
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+01:00 (DEBUG|INFO|WARNING|ERROR|CRITICAL) +[a-z-]+ +\S.*"
)


class Running(NamedTuple):
    hub: Hub
    witness: Witness

    @property
    def prefix(self) -> str:
        return f"house/v1/instances/{self.hub.id}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("platform")
    instance_id = new_id()
    # the file says 7, the environment 3600, the command line 5
    instance_file(root, instance_id, update_interval=7, groups=[{"group_id": "all", "devices": [*DEVICES]}])
    users = password_file(root / "users", {"hub": PASSWORD})
    lines = ("allow_anonymous false", f"password_file {users}")
    with mosquitto(config_lines=lines) as broker:
        (root / ".env").write_text(
            f"MQTT_HOST=127.0.0.1\nMQTT_PORT={broker.port}\nMQTT_USERNAME=hub\nMQTT_PASSWORD={PASSWORD}\n"
        )
        env = {
            "UPDATE_INTERVAL": "3600",
            "MQTT_BASE_TOPIC": "house",
            "LOG_LEVEL": "DEBUG",
            "TZ": "Africa/Lagos",
        }
        witness = Witness(broker.port, username="hub", password=PASSWORD)
        hub = Hub(root, "--update-interval", "5", instance_id=instance_id, env=env, cwd=root)
        with witness, hub:
            hub.wait_until_online()
            yield Running(hub, witness)


@pytest.mark.parametrize(("device", "key"), [(DEVICES[0], "value"), (DEVICES[1], "motion_detected")])
def test_every_device_has_its_state_on_mqtt(running: Running, device: str, key: str) -> None:
    message = running.witness.wait_for(f"{running.prefix}/devices/{device}/state", 30)
    body = json.loads(message.payload)
    assert body["device_id"] == device
    assert body["state"]["emulated"] is True
    assert key in body["state"]


def test_status_is_online_and_retained(running: Running) -> None:
    topic = f"{running.prefix}/status"
    eventually(lambda: running.witness.retained(topic) == {topic: b"online"})


def test_the_command_line_wins_over_environment_and_file_in_meta_info(running: Running) -> None:
    info = json.loads(running.witness.wait_for(f"{running.prefix}/meta/info", 30).payload)
    assert info["update_interval"] == 5


def test_the_update_interval_of_the_command_line_reaches_the_bridge(running: Running) -> None:
    state = f"{running.prefix}/devices/{DEVICES[0]}/state"
    first = running.witness.wait_for(state, 30)
    second = running.witness.wait_for(state, 60, after_s=first.time_s)  # not after the environment's hour
    assert json.loads(second.payload)["state"]["unit"] == "°C"


def test_meta_info_has_the_reserved_ports(running: Running) -> None:
    info = json.loads(running.witness.wait_for(f"{running.prefix}/meta/info", 30).payload)
    urls = {name: service["url"] for name, service in info["services"].items()}
    assert urls == running.hub.facts()["urls"]


@pytest.mark.parametrize("service", ["serial-handler", "http-poller", "state-aggregator"])
def test_each_service_answers_for_its_instance(running: Running, service: str) -> None:
    def health() -> dict[str, str]:
        body = requests.get(f"{running.hub.url(service)}/health", timeout=30).json()
        return {name: body[name] for name in ("service", "instance_id", "status")}

    well = {"service": service, "instance_id": running.hub.id, "status": "healthy"}
    eventually(lambda: health() == well)


def test_health_is_zero_and_says_so(running: Running) -> None:
    def well() -> bool:
        answer = running.hub.command("health")
        return (answer.returncode, answer.stdout.splitlines()[:1]) == (0, [f"{running.hub.id} is healthy"])

    eventually(well, UP_WITHIN_S)


def test_supervisorctl_works_from_another_shell(running: Running) -> None:
    def status() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            check=False,
            args=[str(BIN / "supervisorctl"), "status"],
            cwd=ROOT,
            env={"INSTANCE_NAME": running.hub.id, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    wanted = {
        "device-emulator": "RUNNING",
        "http-poller": "RUNNING",
        "hub-guard": "RUNNING",
        "mqtt-bridge": "RUNNING",
        "mqtt-broker": "STOPPED",  # there is a real one
        "serial-handler": "RUNNING",
        "state-aggregator": "RUNNING",
    }
    eventually(lambda: dict(line.split()[:2] for line in status().stdout.splitlines()) == wanted)


def test_devices_in_a_pipe_are_tab_separated(running: Running) -> None:
    wanted = [
        ["temp_cellar", "temperature", "serial", "online", "Cellar"],
        ["motion_yard", "motion", "http_poller", "online", "Yard"],
    ]

    def rows() -> list[list[str]]:
        return [line.split("\t") for line in running.hub.command("devices").stdout.splitlines()]

    eventually(lambda: rows() == wanted, 60)


def test_devices_at_a_terminal_are_a_table(running: Running) -> None:
    shown = terminal_output(["devices"], running.hub.env)
    assert "┃" in shown
    assert re.search(r"temp_cellar +│ *temperature", re.sub(r"\x1b\[[0-9;]*m", "", shown))


def test_get_in_a_pipe_is_one_line_of_json(running: Running) -> None:
    answer = running.hub.command("get", "temp_cellar")
    body = json.loads(answer.stdout)
    assert (answer.returncode, answer.stdout.count("\n")) == (0, 1)
    assert (body["device_id"], body["unit"]) == ("temp_cellar", "°C")
    assert 15 < body["value"] < 30


def test_get_at_a_terminal_is_json_too(running: Running) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal_output(["get", "temp_cellar"], running.hub.env))
    assert json.loads(shown)["device_id"] == "temp_cellar"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["get", "nobody"], 1, "UNKNOWN_DEVICE"),
        (["cmd", "temp_cellar", "value=5"], 1, "READ_ONLY"),
        (["cmd", "nobody", "value=5"], 1, "UNKNOWN_DEVICE"),
        (["cmd", "temp_cellar", "value"], 2, "is not KEY=VALUE"),
        (["--instance", "elsewhere", "devices"], 1, "elsewhere is not running"),
    ],
)
def test_commands_that_cannot_be_done_say_why(
    running: Running, arguments: list[str], code: int, complaint: str
) -> None:
    answer = running.hub.command(*arguments)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert complaint in answer.stderr
    assert "Traceback" not in answer.stderr


def test_watch_in_a_pipe_is_a_line_per_change(running: Running) -> None:
    with subprocess.Popen(
        [str(BIN / "sensor-hub"), "watch"], env=running.hub.env, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        first = [watching.stdout.readline().rstrip("\n").split("\t") for _ in range(2)]
        watching.terminate()
    rows = {row[0]: row for row in first}
    assert set(rows) == set(DEVICES)
    assert re.fullmatch(r"[\d.]+ °C", rows["temp_cellar"][2])
    assert rows["temp_cellar"][1] == "online"


def test_watch_at_a_terminal_is_a_live_table_that_ctrl_c_ends(running: Running) -> None:
    shown = terminal_output(["watch"], running.hub.env, until="°C")
    assert "read at" in shown
    assert "Traceback" not in shown


def test_every_line_has_time_in_the_zone_level_and_service(running: Running) -> None:
    lines = list(running.hub.lines)
    services = {line.split()[2] for line in lines}
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert services >= {"launcher", "serial-handler", "http-poller", "state-aggregator", "mqtt-bridge"}
    assert "device-emulator" in services


def test_the_password_is_nowhere_in_the_output_or_the_run_directory(running: Running) -> None:
    shown = running.hub.command("check-config", "--show")
    assert "MQTT_PASSWORD\t***\t.env" in shown.stdout
    everything = running.hub.output + shown.stdout + shown.stderr
    for path in running.hub.run_dir.iterdir():
        with suppress(FileNotFoundError):  # a draft that has become a file meanwhile
            everything += path.read_text(errors="replace") if path.is_file() and not path.is_symlink() else ""
    assert PASSWORD not in everything


def test_the_run_directory_is_for_its_user_only(running: Running) -> None:
    assert running.hub.run_dir.stat().st_mode & 0o777 == 0o700


def test_programs_nobody_needs_do_not_run(running: Running) -> None:
    programs = running.hub.programs()
    assert "mqtt-broker" not in programs
    assert "device-emulator" in programs


def test_a_second_start_of_the_same_instance_is_refused_with_the_pid_of_the_first(running: Running) -> None:
    answer = running.hub.command("run")
    assert answer.returncode == 78
    assert f"{running.hub.id} is already running (pid {running.hub.process.pid})" in answer.stderr
    eventually(lambda: running.hub.command("health").returncode == 0, UP_WITHIN_S)


def test_a_port_set_by_hand_that_a_hub_has_is_refused_with_its_name(running: Running) -> None:
    other = new_id()
    root = Path(running.hub.env["IOT2MQTT_PATH"])
    instance_file(root, other)
    port = running.hub.url("http-poller").rsplit(":", 1)[1]
    with run_dir_of(other):
        answer = running.hub.command("run", INSTANCE_NAME=other, HTTP_POLLER_PORT=port)
    assert answer.returncode == 78
    assert f"port {port} is in use by the sensor hub instance '{running.hub.id}'" in answer.stderr


def test_a_group_command_is_answered_for_all_its_members(running: Running) -> None:
    asked_s = time.monotonic()
    running.witness.publish(f"{running.prefix}/groups/all/cmd", '{"id": "g1", "values": {"value": 1}}')
    topic = f"{running.prefix}/groups/all/cmd/response"
    body = json.loads(running.witness.wait_for(topic, after_s=asked_s).payload)
    assert (body["cmd_id"], body["status"], set(body["results"])) == ("g1", "error", set(DEVICES))


def test_its_own_emulator_takes_faults_at_the_address_that_its_log_says(running: Running) -> None:
    line = running.hub.wait_for_line("device-emulator.*web server up")
    found = re.search(r"url=http://127\.0\.0\.1:(\d+)", line)
    assert found is not None, line
    control, thermometer = Control(int(found[1])), f"devices/{DEVICES[0]}"

    def fresh() -> tuple[int, str | None]:
        url = f"{running.hub.url('state-aggregator')}/device/{DEVICES[0]}/force-refresh"
        answer = requests.post(url, timeout=60)
        return answer.status_code, answer.json().get("error")

    eventually(lambda: fresh() == (200, None), UP_WITHIN_S)
    control.inject(thermometer, "crc_error")
    try:
        eventually(lambda: fresh() == (503, "READ_FAILED"), UP_WITHIN_S)
        assert control.struck(thermometer)["crc_error"] > 0
    finally:
        control.heal(thermometer)
    eventually(lambda: fresh() == (200, None), UP_WITHIN_S)
