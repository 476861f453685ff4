"""Several instances on one host, which share its ports."""

from __future__ import annotations

import json
import time

import pytest

from tests.broker import Witness
from tests.container.platform import UP_WITHIN_S, Container, Platform
from tests.support import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
INSTANCES = ("attic", "cellar", "garage", "yard")


def sensor(instance_id: str) -> str:
    return f"temp_{instance_id}"


@pytest.fixture(scope="module")
def hubs(module_host: Platform, witness: Witness) -> dict[str, Container]:
    """Four, started at the same moment."""
    for instance_id in INSTANCES:
        module_host.instance(
            instance_id,
            [
                {"sensor_id": sensor(instance_id), "sensor_type": "temperature"},
                {"sensor_id": f"motion_{instance_id}", "sensor_type": "motion"},
            ],
        )
    started = {name: module_host.start(name, "--restart unless-stopped") for name in INSTANCES}
    for hub in started.values():
        hub.online(witness)
    return started


def test_four_started_at_the_same_moment_come_up_on_four_blocks(
    hubs: dict[str, Container], host: Platform
) -> None:
    blocks = sorted(hub.ports() for hub in hubs.values())
    assert len({block[0] for block in blocks}) == 4
    assert all(block == [block[0], block[0] + 1, block[0] + 2] and block[0] % 10 == 1 for block in blocks)
    if host.engine.private:
        assert [block[0] for block in blocks] == [5001, 5011, 5021, 5031]


def test_none_serves_the_devices_of_another(hubs: dict[str, Container]) -> None:
    for instance_id, hub in hubs.items():
        for port in hub.ports():
            assert hub.curl(f"http://localhost:{port}/health")["instance_id"] == instance_id
        found = hub.curl(f"http://localhost:{hub.ports()[2]}/devices")["devices"]
        assert {device["device_id"] for device in found} == {sensor(instance_id), f"motion_{instance_id}"}


def test_none_publishes_the_devices_of_another(hubs: dict[str, Container], witness: Witness) -> None:
    for instance_id in INSTANCES:
        witness.wait_for(
            f"IoT2mqtt/v1/instances/{instance_id}/devices/{sensor(instance_id)}/state/value", UP_WITHIN_S
        )
    retained = witness.retained("IoT2mqtt/v1/instances/+/devices/+/state")
    topics = [topic.split("/") for topic in retained]
    assert {topic[3] for topic in topics} == set(INSTANCES)
    assert [topic for topic in topics if not topic[5].endswith(f"_{topic[3]}")] == []


def test_everything_follows_the_block(hubs: dict[str, Container], witness: Witness) -> None:
    for instance_id, hub in hubs.items():
        info = json.loads(witness.retained(f"IoT2mqtt/v1/instances/{instance_id}/meta/info").popitem()[1])
        assert [service["url"] for service in info["services"].values()] == [
            f"http://localhost:{port}" for port in hub.ports()
        ]
        eventually(hub.is_healthy, UP_WITHIN_S)
        eventually(lambda: "RUNNING" in hub.exec("supervisorctl status mqtt-bridge", check=False), 60)  # noqa: B023


def test_a_restart_comes_back_with_the_same_ports(hubs: dict[str, Container], witness: Witness) -> None:
    hub = hubs["garage"]
    before, asked_s = hub.ports(), time.monotonic()
    hub.engine.docker("restart", hub.name)
    hub.online(witness, after_s=asked_s)
    assert hub.logs.count("ports reserved") == 2
    assert hub.ports() == before


def test_the_block_of_a_killed_one_is_free_again_and_the_broker_says_offline(
    hubs: dict[str, Container], host: Platform, witness: Witness
) -> None:
    killed = hubs["attic"]
    block, killed_s = killed.ports(), time.monotonic()
    killed.engine.docker("kill", killed.name)
    topic = "IoT2mqtt/v1/instances/attic/status"
    assert witness.wait_for(topic, 60, after_s=killed_s).payload == b"offline"
    host.instance("successor", [{"sensor_id": "temp_successor", "sensor_type": "temperature"}])
    successor = host.start("successor")
    successor.online(witness)
    if host.engine.private:
        assert successor.ports() == block
    port = successor.ports()[0]
    assert successor.curl(f"http://localhost:{port}/health")["instance_id"] == "successor"
    assert successor.curl(f"http://localhost:{port}/sensor/{sensor('attic')}")["error"] == "UNKNOWN_SENSOR"


def test_ports_set_by_hand_that_are_taken_are_refused_with_the_name_of_who_has_them(
    hubs: dict[str, Container], host: Platform
) -> None:
    port = hubs["yard"].ports()[0]
    host.instance("stubborn", [{"sensor_id": "t", "sensor_type": "temperature"}])
    code, _, err = host.run("stubborn", f"-e SERIAL_HANDLER_PORT={port}")
    assert code == 78
    assert f"port {port} is in use by the sensor hub instance 'yard'" in err
