"""What its users type, word for word, at an instance that the platform has started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.broker import Mosquitto, Witness
from tests.container.building import BUILD
from tests.container.engine import ROOT, Engine
from tests.container.platform import UP_WITHIN_S, Container, Platform
from tests.support import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
TOPIC = "IoT2mqtt/v1/instances/test_sensor_hub"
CONTAINER_ID = "CONTAINER_ID=$(docker ps | grep sensor-hub-test | awk '{print $1}'); "
SERVICES = {5001: "serial-handler", 5002: "http-poller", 5003: "state-aggregator"}


@pytest.fixture(scope="module")
def hub(module_host: Platform, witness: Witness) -> Container:
    module_host.instance("test_sensor_hub")
    container = module_host.start("test_sensor_hub", name="sensor-hub-test")
    container.online(witness)
    if container.ports() != [5001, 5002, 5003]:
        pytest.skip("the ports 5001 to 5003 belong to somebody else here")
    # the bridge does not wait for the first poll of each device; what is typed below does
    eventually(
        lambda: all(d["status"] == "online" for d in container.curl("localhost:5003/devices")["devices"]),
        UP_WITHIN_S,
    )
    return container


def answer(engine: Engine, line: str) -> Any:
    return json.loads(engine.shell(CONTAINER_ID + line).stdout)


@pytest.mark.parametrize("port", SERVICES)
def test_health(engine: Engine, hub: Container, port: int) -> None:
    def health() -> dict[str, Any]:
        body = answer(engine, f"docker exec $CONTAINER_ID curl -s http://localhost:{port}/health")
        return {name: body[name] for name in ("service", "instance_id", "status")}

    well = {"service": SERVICES[port], "instance_id": "test_sensor_hub", "status": "healthy"}
    eventually(lambda: health() == well, 60)


@pytest.mark.parametrize(("port", "sensor_id"), [(5001, "temp_living_room"), (5002, "motion_front_door")])
def test_sensors(engine: Engine, hub: Container, port: int, sensor_id: str) -> None:
    body = answer(engine, f"docker exec $CONTAINER_ID curl -s http://localhost:{port}/sensors")
    assert [sensor["sensor_id"] for sensor in body["sensors"]] == [sensor_id]
    assert body["count"] == 1


def test_a_temperature_sensor(engine: Engine, hub: Container) -> None:
    reading = answer(
        engine, "docker exec $CONTAINER_ID curl -s http://localhost:5001/sensor/temp_living_room"
    )
    assert reading["sensor_id"] == "temp_living_room"
    assert (reading["unit"], reading["quality"], reading["emulated"]) == ("°C", "good", True)
    assert 15 < reading["value"] < 30


def test_a_motion_sensor(engine: Engine, hub: Container) -> None:
    reading = answer(
        engine, "docker exec $CONTAINER_ID curl -s http://localhost:5002/sensor/motion_front_door"
    )
    assert reading["motion_detected"] in (True, False)
    assert 0 < reading["battery_level"] <= 100
    assert -100 < reading["signal_strength"] < 0


def test_devices(engine: Engine, hub: Container) -> None:
    body = answer(engine, "docker exec $CONTAINER_ID curl -s http://localhost:5003/devices")
    assert {d["device_id"]: (d["handler"], d["status"]) for d in body["devices"]} == {
        "temp_living_room": ("serial", "online"),
        "motion_front_door": ("http_poller", "online"),
    }


def test_a_device_then_the_cache_that_has_it_then_the_cache_cleared(engine: Engine, hub: Container) -> None:
    device = answer(engine, "docker exec $CONTAINER_ID curl -s http://localhost:5003/device/temp_living_room")
    assert device["device_id"] == "temp_living_room"
    assert device["unit"] == "°C"
    stats = answer(engine, "docker exec $CONTAINER_ID curl -s http://localhost:5003/cache/stats")
    assert stats["cache_ttl"] == 10
    assert "temp_living_room" in [entry["device_id"] for entry in stats["entries"]]
    cleared = answer(engine, "docker exec $CONTAINER_ID curl -s -X POST http://localhost:5003/cache/clear")
    assert cleared["entries_cleared"] >= 1


def test_supervisorctl_status(engine: Engine, hub: Container) -> None:
    programs = ["serial-handler", "http-poller", "state-aggregator", "mqtt-bridge"]

    def states() -> dict[str, str | None]:
        done = engine.shell(CONTAINER_ID + "docker exec $CONTAINER_ID supervisorctl status", check=False)
        found = dict(line.split()[:2] for line in done.stdout.splitlines())
        return {name: found.get(name) for name in programs}

    eventually(lambda: states() == dict.fromkeys(programs, "RUNNING"), 60)


def test_docker_logs_has_every_service(engine: Engine, hub: Container) -> None:
    assert "ports reserved" in engine.shell(CONTAINER_ID + "docker logs $CONTAINER_ID 2>&1").stdout
    for name in [*SERVICES.values(), "mqtt-bridge"]:
        found = engine.shell(CONTAINER_ID + f'docker logs $CONTAINER_ID 2>&1 | grep "{name}"').stdout
        assert found.count("\n") >= 1


def test_mosquitto_sub_sees_the_instance(engine: Engine, hub: Container) -> None:
    everything = engine.shell(f"mosquitto_sub -h localhost -t '{TOPIC}/#' -v -W 5", check=False).stdout
    assert f"{TOPIC}/status online\n" in everything
    assert re.search(rf"^{TOPIC}/devices/temp_living_room/state/value \d+\.\d$", everything, re.M)
    assert f"{TOPIC}/devices/motion_front_door/state/battery_level " in everything
    states = engine.shell(f"mosquitto_sub -h localhost -t '{TOPIC}/devices/+/state' -v -C 2").stdout
    assert {line.split()[0] for line in states.splitlines()} == {
        f"{TOPIC}/devices/{device}/state" for device in ("temp_living_room", "motion_front_door")
    }
    assert (
        engine.shell(f"mosquitto_sub -h localhost -t '{TOPIC}/status' -v -C 1").stdout
        == f"{TOPIC}/status online\n"
    )


@pytest.mark.parametrize(
    ("asked", "answered", "key"),
    [
        ("devices/temp_living_room/get", "devices/temp_living_room/state", "state"),
        ("meta/request/devices_list", "meta/devices_list", "devices"),
        ("meta/request/info", "meta/info", "services"),
        ("meta/request/discover", "discovered", "devices"),
    ],
)
def test_mosquitto_pub_gets_its_answer(
    engine: Engine, hub: Container, witness: Witness, asked: str, answered: str, key: str
) -> None:
    before = len(witness.seen(f"{TOPIC}/{answered}"))
    engine.shell(f"mosquitto_pub -h localhost -t '{TOPIC}/{asked}' -m '{{}}'")
    seen = eventually(lambda: witness.seen(f"{TOPIC}/{answered}")[before:])
    assert json.loads(seen[0].payload)[key]


def test_health_check_of_the_engine(engine: Engine, hub: Container, broker: Mosquitto) -> None:
    eventually(hub.is_healthy, 60)
    said = hub.exec("sensor-hub health")
    # nothing is mounted where the queues would be
    assert "queue mqtt: it is in memory only, a restart loses what is in it" in said.splitlines()
    if engine.name == "podman":
        eventually(lambda: engine.docker("healthcheck", "run", hub.name, check=False).returncode == 0, 240)
    else:
        eventually(lambda: hub.inspect("State.Health.Status") == "healthy", UP_WITHIN_S)


def test_the_root_is_read_only_and_nobody_listens_beyond_loopback(hub: Container) -> None:
    assert "Read-only" in hub.exec("sh -c 'touch /app/x 2>&1; true'")
    script = "import psutil; print({c.laddr.ip for c in psutil.net_connections() if c.status == 'LISTEN' and c.pid})"
    assert hub.exec(f'python -c "{script}"').strip() == "{'127.0.0.1'}"


def console_lines() -> list[str]:
    """Everything that docs/container.md shows after a prompt."""
    text = (ROOT / "docs/container.md").read_text(encoding="utf-8").replace("\\\n", "")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def nobody_else(engine: Engine, module_host: Platform) -> Iterator[None]:
    """The ports are free before, and the documented containers gone after."""
    module_host.clear()
    yield
    names = {name for line in console_lines() for name in re.findall(r"--name (\S+)", line)}
    engine.shell(f"docker rm -f -v {' '.join(names)}", check=False)


def test_the_commands_of_the_documentation_run_as_they_stand(
    engine: Engine, witness: Witness, nobody_else: None
) -> None:
    if not engine.private:
        pytest.skip("they name an image and containers that may be the user's own")
    lines = console_lines()
    assert lines[0] == BUILD  # the fixture has run it
    assert len(lines) > 20
    for line in lines[1:]:
        limit = " -W 5" if line.startswith("mosquitto_sub") else ""  # it would listen for ever
        # else one read in twenty fails, as is documented
        line = line.replace("docker run -d ", "docker run -d -e EMULATOR_ERROR_RATE=0 ")  # noqa: PLW2901
        # supervisorctl's exit code is 3 when a program is not wanted here (the embedded broker)
        done = engine.shell(line + limit, check=not limit and "supervisorctl" not in line)
        assert done.stdout or line.startswith("mosquitto_pub"), line
        if "docker run -d" in line:
            witness.wait_for("IoT2mqtt/v1/instances/sensor_hub_01/meta/info", UP_WITHIN_S)
            eventually(Container(engine, "sensor_hub_01", "sensor_hub_01").is_healthy, UP_WITHIN_S)
