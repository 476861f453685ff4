"""Start, stop, crash and restart of one container."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.broker import Witness
from tests.container.conftest import FAILED
from tests.container.platform import UP_WITHIN_S, Container, Platform
from tests.support import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
STATUS = "IoT2mqtt/v1/instances/cellar/status"


@pytest.fixture
def hub(host: Platform, witness: Witness, request: pytest.FixtureRequest) -> Iterator[Container]:
    host.instance("cellar")
    began_s = time.monotonic()
    container = host.start("cellar")
    container.online(witness, after_s=began_s)
    yield container
    if request.node.stash.get(FAILED, False):
        host.tell()
    host.remove(container)


def said(witness: Witness, after_s: float) -> list[bytes]:
    """What `status` went through (the platform's client says each word once more than the hub)."""
    payloads = [message.payload for message in witness.seen(STATUS, after_s=after_s)]
    return [word for word, _ in itertools.groupby(payloads)]


def zombies(hub: Container) -> list[psutil.Process]:
    found = []
    for process in hub.main().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # reaped meanwhile
            found += [process] if process.status() == psutil.STATUS_ZOMBIE else []
    return found


def test_docker_stop_publishes_offline_and_ends_with_0(hub: Container, witness: Witness) -> None:
    asked_s = time.monotonic()
    hub.stop()
    eventually(lambda: said(witness, asked_s)[-1:] == [b"offline"])
    assert hub.inspect("State.ExitCode") == 0
    assert hub.logs.rstrip().endswith("stopped instance=cellar")
    assert "Traceback" not in hub.logs


def test_docker_stop_ends_with_0_while_the_main_process_is_still_importing(
    host: Platform, tmp_path: Path
) -> None:
    """PID 1 gets no signal that it does not handle: here a module that it imports never comes to its end."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "typer.py").write_text(
        "print('importing', flush=True)\nimport signal\nwhile True: signal.pause()\n"
    )
    host.instance("cellar")
    container = host.start(
        "cellar", f"-v {modules}:/modules:ro -e PYTHONPATH=/modules", name="sensor-hub-hasty"
    )
    eventually(lambda: "importing" in container.logs, 120)
    container.stop()
    assert container.inspect("State.ExitCode") == 0


def test_docker_restart_comes_back_online_with_the_same_ports(hub: Container, witness: Witness) -> None:
    before, asked_s = hub.ports(), time.monotonic()
    hub.engine.docker("restart", hub.name)
    hub.online(witness, after_s=asked_s)
    assert said(witness, asked_s)[-2:] == [b"offline", b"online"]
    assert hub.ports() == before


def test_pid_1_reaps_orphans_and_what_was_killed(hub: Container, witness: Witness) -> None:
    hub.exec("sh -c 'sleep 300 & :'")  # its parent is gone: PID 1 inherits it
    orphan = eventually(lambda: [process for process in hub.main().children() if process.name() == "sleep"])[
        0
    ]
    workers = [p for p in hub.main().children(recursive=True) if "gunicorn" in " ".join(p.cmdline())]
    assert len(workers) == 6  # three services, each a master and a worker
    for process in [orphan, *workers]:
        with suppress(psutil.NoSuchProcess):  # a worker ends with its master
            process.kill()
    eventually(lambda: not zombies(hub) and not orphan.is_running(), 60)
    fresh_s = time.monotonic()
    witness.wait_for("IoT2mqtt/v1/instances/cellar/devices/+/state", UP_WITHIN_S, after_s=fresh_s)
    eventually(hub.is_healthy, UP_WITHIN_S)
    eventually(lambda: zombies(hub) == [])


def test_a_program_that_gives_up_ends_the_container_non_zero(host: Platform, tmp_path: Path) -> None:
    broken = tmp_path / "shared"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "mqtt_client.py").write_text("raise RuntimeError('broken library')\n")
    host.instance("cellar")
    container = host.start("cellar", shared=broken, name="sensor-hub-broken")
    assert container.ended(400) == 1
    log = container.logs
    assert log.count("RuntimeError: broken library") >= 5  # attempts in a row (a slow one counts as a start)
    assert "ended because a program gave up program=mqtt-bridge" in log.splitlines()[-1]


def test_a_disabled_instance_idles_healthy_until_it_is_stopped(host: Platform, witness: Witness) -> None:
    path = host.folder / "instances/asleep.json"
    path.write_text('{"instance_id": "asleep", "enabled": false, "config": {"sensors": []}}')
    container = host.start("asleep")
    eventually(lambda: "instance is disabled" in container.logs, 120)
    assert container.exec("sensor-hub health").startswith("asleep is healthy")
    container.stop()
    assert container.inspect("State.ExitCode") == 0
    assert witness.seen("IoT2mqtt/v1/instances/asleep/#") == []


def test_an_instance_that_is_not_well_says_why(host: Platform) -> None:
    host.instance("lonely")
    container = host.start("lonely", "-e MQTT_PORT=1")
    eventually(lambda: "no connection to the broker" in container.logs, UP_WITHIN_S)
    asked = container.engine.docker("exec", container.name, "sensor-hub", "health", check=False)
    assert asked.returncode == 1
    assert "no MQTT connection to 127.0.0.1:1" in asked.stdout + asked.stderr
    container.stop()


BAD = [
    {"sensor_id": "a b", "sensor_type": "temperature"},
    {"sensor_id": "x", "sensor_type": "thermal"},
    {"sensor_id": "y", "sensor_type": "motion", "url": "ftp://nowhere"},
]


def test_every_problem_of_the_configuration_is_told_with_its_path_and_ends_with_78(host: Platform) -> None:
    host.instance("wrong", BAD, cache_ttl="-1", colour="red")
    host.env(MQTT_PORT="seventy")
    try:
        code, out, err = host.run("wrong", "-e LOG_LEVEL=LOUD")
    finally:
        host.env()
    assert code == 78
    assert out == ""
    for path in ("sensors[0].sensor_id", "sensors[1].sensor_type", "sensors[2].url", "cache_ttl", "colour"):
        assert f"connection.{path}" in err, path
    assert "MQTT_PORT" in err
    assert "LOG_LEVEL" in err
    assert "Traceback" not in err


def test_a_missing_instance_file_is_told_and_ends_with_78(host: Platform) -> None:
    code, out, err = host.run("nobody")
    assert (code, out) == (78, "")
    assert "/app/instances/nobody.json" in err


def test_a_restart_with_a_configuration_problem_starts_nothing_and_says_the_same(host: Platform) -> None:
    host.instance("wrong", BAD)
    container = host.start("wrong", name="sensor-hub-wrong")
    assert container.ended(120) == 78
    first = container.logs
    container.engine.docker("start", container.name)
    assert container.ended(120) == 78
    eventually(lambda: container.logs == first * 2)
    assert "ports reserved" not in first
