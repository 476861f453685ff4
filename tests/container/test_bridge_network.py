"""All of docker-compose.yml on one bridge network: a container's own ports, peers by name, no CONNECTOR_TYPE."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, free_port, mosquitto
from tests.container.building import IMAGE
from tests.container.compose import services
from tests.container.engine import Engine
from tests.container.platform import UP_WITHIN_S, Container
from tests.support import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
OURS = {name: service for name, service in services().items() if name != "mosquitto"}
HUBS = {name: service for name, service in OURS.items() if "INSTANCE_NAME" in service.environment}
SUBNET = "10.213.79"


@pytest.fixture(scope="module")
def witness(network: None) -> Iterator[Witness]:
    """Of a broker that listens for the bridge too: the compose file's own image is not to be had everywhere."""
    if MOSQUITTO is None:
        pytest.skip(NO_MOSQUITTO)
    with (
        mosquitto(free_port(), config_lines=["listener 1883 0.0.0.0"]) as broker,
        Witness(broker.port) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def started(engine: Engine, image: str, network: None, witness: Witness) -> Iterator[dict[str, Container]]:
    """Every service that runs our image, with the names that compose would give them."""
    if not engine.private:
        pytest.skip("`docker compose up` needs no test of what it does with the file")
    bridge = f"hub-{uuid.uuid4().hex[:8]}"
    made = engine.docker("network", "create", "--disable-dns", f"--subnet={SUBNET}.0/24", bridge, check=False)
    if made.returncode != 0:
        pytest.skip(f"no bridge networks here: {made.stderr.strip()[:200]}")
    address = {name: f"{SUBNET}.{number}" for number, name in enumerate(OURS, 10)}
    hosts = [f"--add-host={name}:{ip}" for name, ip in ({"mosquitto": f"{SUBNET}.1"} | address).items()]
    containers: dict[str, Container] = {}
    try:
        for name, service in OURS.items():
            where = [f"--name={bridge}-{name}", f"--network={bridge}", f"--ip={address[name]}", *hosts]
            quiet = ["--env=EMULATOR_ERROR_RATE=0"]
            engine.docker("run", "-d", *where, *service.run_options(), *quiet, IMAGE, *service.command)
            instance_id = service.environment.get("INSTANCE_NAME", name)
            containers[name] = Container(engine, f"{bridge}-{name}", instance_id)
        yield containers
    finally:
        for container in containers.values():
            print(f"--- {container.name}", container.logs[-3000:], sep="\n")
        names = [container.name for container in containers.values()]
        engine.docker("rm", "-f", "-v", *names, check=False, within_s=90)
        engine.docker("network", "rm", "-f", bridge, check=False)


def test_every_hub_comes_up_on_the_first_block_of_its_own_network(
    started: dict[str, Container], witness: Witness
) -> None:
    for name in HUBS:
        started[name].online(witness)
        assert started[name].ports() == [5001, 5002, 5003]
        health = started[name].curl("http://localhost:5003/health")
        assert health["instance_id"] == started[name].instance_id


def test_meta_info_has_the_default_connector_type(started: dict[str, Container], witness: Witness) -> None:
    started["hub"].online(witness)
    info = json.loads(witness.retained("IoT2mqtt/v1/instances/sensor_hub_01/meta/info").popitem()[1])
    assert info["connector_type"] == "sensor-hub"


@pytest.mark.parametrize(
    ("name", "room", "serial"), [("hub-1", "hall", "temperature"), ("hub-2", "yard", "humidity")]
)
def test_a_pair_reads_its_own_emulator(
    started: dict[str, Container], witness: Witness, name: str, room: str, serial: str
) -> None:
    prefix = f"IoT2mqtt/v1/instances/{started[name].instance_id}/devices"
    for device, value in ((f"{room}_motion", "motion_detected"), (f"{room}_{serial}", "value")):
        message = witness.wait_for(f"{prefix}/{device}/state", UP_WITHIN_S)
        state = json.loads(message.payload)["state"]
        assert state[value] is not None
        assert "emulated" not in state  # to the hub it is a device like any other
    retained = eventually(lambda: witness.retained(f"{prefix}/+/state"))
    assert all(f"/{room}_" in topic for topic in retained)


def test_an_emulator_that_is_switched_sets_the_state_of_its_hub(
    started: dict[str, Container], witness: Witness
) -> None:
    def moves() -> bool | None:
        seen = witness.seen("IoT2mqtt/v1/instances/pair_1/devices/hall_motion/state/motion_detected")
        return seen[-1].payload == b"true" if seen else None

    url = "http://127.0.0.1:5004/sensors/hall_motion/motion"
    switch = f"curl -s -X POST -H 'Content-Type: application/json' {url} -d"
    started["emulator-1"].exec(f"{switch} '{{\"active\": true}}'")
    eventually(lambda: moves() is True, 60)
    started["emulator-1"].exec(f"{switch} '{{\"active\": false}}'")
    eventually(lambda: moves() is False, 60)


def test_the_services_do_not_listen_on_the_bridge(started: dict[str, Container], witness: Witness) -> None:
    started["hub"].online(witness)
    address = f"{SUBNET}.{10 + list(OURS).index('hub')}"
    refused = started["hub-1"].engine.docker(
        "exec", started["hub-1"].name, "curl", "-sS", "-m", "5", f"http://{address}:5003/health", check=False
    )
    assert refused.returncode == 7  # curl: could not connect
