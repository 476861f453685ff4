"""What `sensor-hub run` and `check-config` refuse: all reasons at once, exit code 78, nothing started."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import eventually
from tests.system.hub import (
    BIN,
    ROOT,
    Hub,
    command,
    environment,
    instance_file,
    leftovers,
    new_id,
    run_dir_of,
)

pytestmark = pytest.mark.system

BAD: dict[str, Any] = {
    "update_interval": 0,
    "config": {
        "cache_ttl": "soon",
        "sensors": [
            {"sensor_id": "a/b", "sensor_type": "temperature"},
            {"sensor_id": "twice", "sensor_type": "motion"},
            {"sensor_id": "twice", "sensor_type": "motion"},
            {"sensor_id": "odd", "sensor_type": "mood"},
            {"sensor_id": "lost", "sensor_type": "temperature", "transport": "nowhere"},
            {"sensor_id": "key", "sensor_type": "motion", "colour": "red"},
        ],
        "transports": [{"transport_id": "bus", "driver": "modbus_rtu", "url": "/dev/null", "parity": "X"}],
        "groups": [{"group_id": "g", "devices": ["ghost"]}],
    },
}
PATHS = (
    "update_interval",
    "config.cache_ttl",
    "config.sensors[0].sensor_id",
    "config.sensors[2].sensor_id",
    "config.sensors[3].sensor_type",
    "config.sensors[4].transport",
    "config.sensors[5].colour",
    "config.transports[0].parity",
    "config.groups[0].devices[0]",
)


def refused(root: Path, instance_id: str, *arguments: str, **env: str) -> list[str]:
    """Run it; the problems it lists. Nothing may have been started."""
    with run_dir_of(instance_id):
        answer = command("run", *arguments, env=environment(instance_id, root, **env))
        assert (answer.returncode, answer.stdout) == (78, ""), answer.stderr
        assert leftovers(instance_id) == []
    head, *problems = answer.stderr.splitlines()
    count = len(problems)
    assert head == f"sensor-hub: {count} problem{'' if count == 1 else 's'} in the configuration:"
    return [problem.strip() for problem in problems]


def test_every_problem_of_the_file_is_listed_at_once_with_its_path(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, **BAD)
    problems = refused(tmp_path, instance_id, POLL_INTERVAL="0.1")
    assert [path for path in PATHS if not any(p.startswith(f"{path}: ") for p in problems)] == []
    assert any(p.startswith("POLL_INTERVAL: ") for p in problems)


def test_a_bad_option_of_the_command_line_is_refused(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    (problem,) = refused(tmp_path, instance_id, "--update-interval", "never")
    assert problem.startswith("UPDATE_INTERVAL: ")
    assert "on the command line" in problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    instance_id = new_id()
    (problem,) = refused(tmp_path, instance_id)
    assert str(tmp_path / "instances" / f"{instance_id}.json") in problem


def test_a_file_of_another_instance_is_refused(tmp_path: Path) -> None:
    instance_id = new_id()
    path = instance_file(tmp_path, instance_id)
    path.write_text(path.read_text().replace(instance_id, "somebody_else"))
    (problem,) = refused(tmp_path, instance_id)
    assert problem.startswith("instance_id: ")
    assert instance_id in problem


def test_no_instance_name_is_refused(tmp_path: Path) -> None:
    env = {name: value for name, value in environment("x", tmp_path).items() if name != "INSTANCE_NAME"}
    answer = command("run", env=env)
    assert answer.returncode == 78
    assert "INSTANCE_NAME: required" in answer.stderr


@pytest.fixture
def foreign_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("variable", ["SERIAL_HANDLER_PORT", "STATE_AGGREGATOR_PORT", "EMULATOR_PORT"])
def test_a_port_in_use_by_somebody_else_is_refused_with_the_process(
    tmp_path: Path, foreign_port: int, variable: str
) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    (problem,) = refused(tmp_path, instance_id, **{variable: str(foreign_port)})
    assert f"port {foreign_port} is in use by " in problem
    assert f"(pid {os.getpid()})" in problem


def test_an_address_that_this_machine_has_not_got_is_refused(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    (problem,) = refused(tmp_path, instance_id, SERVICE_HOST="192.0.2.1")
    assert problem.startswith("SERVICE_HOST: nothing can listen on 192.0.2.1")


@pytest.mark.parametrize("planted", ["symlink", "dangling symlink", "file"])
def test_a_run_directory_that_is_none_of_ours_is_refused_and_left_alone(tmp_path: Path, planted: str) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    elsewhere = tmp_path / "elsewhere"
    with run_dir_of(instance_id) as run_dir:
        if planted == "symlink":
            elsewhere.mkdir()
        if planted == "file":
            run_dir.write_text("mine")
        else:
            run_dir.symlink_to(elsewhere)
        (problem,) = refused(tmp_path, instance_id)
    assert problem.startswith(f"{run_dir}: must be a directory of this user")
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else")
def test_a_run_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    with run_dir_of(instance_id) as run_dir:
        run_dir.mkdir()
        os.chown(run_dir, 65534, 65534)
        (problem,) = refused(tmp_path, instance_id)
    assert problem.startswith(f"{run_dir}: must be a directory of this user")


def check(*arguments: str, root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return command("check-config", *arguments, env=environment("unused", root, **env))


def test_check_config_says_so_when_all_is_well(tmp_path: Path) -> None:
    path = instance_file(tmp_path, new_id())
    answer = check(str(path), root=tmp_path)
    assert (answer.returncode, answer.stdout) == (0, f"{path}: all is well, 2 devices\n")


def test_check_config_looks_at_every_file_it_is_given(tmp_path: Path) -> None:
    good = instance_file(tmp_path, new_id())
    bad = instance_file(tmp_path, new_id(), **BAD)
    answer = check(str(bad), str(good), root=tmp_path)
    assert (answer.returncode, answer.stdout) == (78, f"{good}: all is well, 2 devices\n")
    assert answer.stderr.startswith(f"{bad}:\n")
    assert [path for path in PATHS if f"  {path}: " not in answer.stderr] == []


def test_check_config_tells_a_file_in_instances_that_has_not_its_instances_name(tmp_path: Path) -> None:
    instance_id = new_id()
    path = instance_file(tmp_path, instance_id)
    elsewhere = tmp_path / "draft.json"
    elsewhere.write_text(path.read_text())
    assert check(str(elsewhere), root=tmp_path).returncode == 0
    renamed = path.rename(path.with_name("renamed.json"))
    answer = check(str(renamed), root=tmp_path)
    assert answer.returncode == 78
    assert (
        f"  instance_id: must be the file's name without .json, 'renamed', not '{instance_id}'"
        in answer.stderr
    )


ALONE = {
    "mqtt-bridge": ["python", "mqtt_bridge.py"],
    "http-poller": [
        "gunicorn",
        "-c",
        "services/gunicorn.conf.py",
        "-n",
        "http-poller",
        "services.http_poller.app:create_app()",
    ],
}


@pytest.mark.parametrize("program", list(ALONE))
def test_a_program_started_alone_says_each_problem_in_a_line_of_its_log_and_ends_with_78(
    tmp_path: Path, program: str
) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, enabled="perhaps", update_interval=0)
    line = [str(BIN / ALONE[program][0]), *ALONE[program][1:]]
    env = environment(instance_id, tmp_path, TZ="Asia/Tokyo")
    answer = subprocess.run(line, check=False, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (78, "")
    assert [line.split(maxsplit=1)[1].split(" problem=")[0] for line in answer.stdout.splitlines()] == [
        f"CRITICAL {program:<16} configuration problem path=update_interval",
        f"CRITICAL {program:<16} configuration problem path=enabled",
    ]
    assert "+09:00 " in answer.stdout


def test_check_config_without_a_file_checks_the_instance_of_the_environment(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, enabled="perhaps")
    answer = check(root=tmp_path, INSTANCE_NAME=instance_id)
    assert answer.returncode == 78
    assert "  enabled: " in answer.stderr


def test_check_config_shows_each_setting_with_its_origin_and_no_secret(tmp_path: Path) -> None:
    path = instance_file(tmp_path, new_id(), update_interval=33)
    (tmp_path / ".env").write_text("MQTT_HOST=broker.example\nMQTT_PASSWORD=s3cret-in-dotenv\n")
    answer = check(str(path), "--show", root=tmp_path, POLL_INTERVAL="7", MQTT_PASSWORD="s3cret-in-env")
    shown = [line.split("\t") for line in answer.stdout.splitlines()[1:]]
    settings = {name: (value, origin) for name, value, origin in shown}
    assert settings["UPDATE_INTERVAL"] == ("33", "file")
    assert settings["MQTT_HOST"] == ("broker.example", ".env")
    assert settings["POLL_INTERVAL"] == ("7", "environment")
    assert settings["MQTT_PASSWORD"] == ("***", "environment")
    assert settings["CACHE_TTL"] == ("10", "default")
    assert "s3cret" not in answer.stdout + answer.stderr


def test_a_disabled_instance_idles_healthy_reserves_nothing_and_stops_with_0(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, enabled=False)
    env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": "1"}  # nothing is there, and nobody looks
    with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
        hub.wait_for_line("instance is disabled")
        eventually((hub.run_dir / "instance.json").exists)
        health = hub.command("health")
        assert (health.returncode, health.stdout) == (0, f"{instance_id} is healthy (disabled: idle)\n")
        assert f"{instance_id} is disabled" in hub.command("devices").stderr
        assert [process.pid for process in leftovers(instance_id)] == [hub.process.pid]
        assert hub.stop() == 0
        assert [line.split(maxsplit=3)[3] for line in hub.lines] == [
            f"instance is disabled (enabled: false); idle until stopped instance={instance_id}",
            f"stopped instance={instance_id}",
        ]


def test_health_of_an_instance_that_does_not_run_says_so(tmp_path: Path) -> None:
    answer = command("health", env=environment("nobody-runs-this", tmp_path))
    assert (answer.returncode, answer.stdout) == (1, "nobody-runs-this is not running\n")
