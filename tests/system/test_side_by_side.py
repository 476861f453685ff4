"""Several hubs on one machine, started at the same moment."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, mosquitto
from tests.system.hub import Hub, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
    pytest.mark.timeout(500),
]

HUBS = 4
SERVICES = ("serial-handler", "http-poller", "state-aggregator")


def with_a_device_of_its_own(root: Path, instance_id: str) -> None:
    document: dict[str, Any] = {
        "instance_id": instance_id,
        "update_interval": 1,
        "config": {"sensors": [{"sensor_id": f"only-{instance_id}", "sensor_type": "temperature"}]},
    }
    path = root / "instances" / f"{instance_id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def test_four_hubs_started_at_once_have_a_block_each_and_their_own_devices_only(tmp_path: Path) -> None:
    with mosquitto() as broker, Witness(broker.port) as witness, ExitStack() as stack:
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)}
        ids = [new_id() for _ in range(HUBS)]
        for instance_id in ids:
            with_a_device_of_its_own(tmp_path, instance_id)
        hubs = [stack.enter_context(Hub(tmp_path, instance_id=i, env=env)) for i in ids]
        for hub in hubs:
            hub.wait_until_online(300)
        ports = [tuple(int(hub.url(name).rsplit(":", 1)[1]) for name in SERVICES) for hub in hubs]
        assert [block for block in ports if block[0] % 10 != 1] == []
        assert [block for block in ports if block != (block[0], block[0] + 1, block[0] + 2)] == []
        assert len(set(ports)) == HUBS
        for hub in hubs:
            announced = "serial-handler {}, http-poller {}, state-aggregator {}".format(
                *ports[hubs.index(hub)]
            )
            assert announced in hub.wait_for_line("ports reserved")
            devices = requests.get(f"{hub.url('state-aggregator')}/devices", timeout=30).json()["devices"]
            assert [device["device_id"] for device in devices] == [f"only-{hub.id}"]
            witness.wait_for(f"IoT2mqtt/v1/instances/{hub.id}/devices/only-{hub.id}/state", 60)
        strangers = {
            message.topic
            for message in witness.seen("IoT2mqtt/v1/instances/+/devices/#")
            if message.topic.split("/")[5] != f"only-{message.topic.split('/')[3]}"
        }
        assert strangers == set()
        for hub in hubs:
            hub.process.terminate()
        assert [hub.ended() for hub in hubs] == [0] * HUBS


def test_two_demos_side_by_side_have_a_broker_each(tmp_path: Path) -> None:
    ids = [new_id(), new_id()]
    for instance_id in ids:
        with_a_device_of_its_own(tmp_path, instance_id)
    with ExitStack() as stack:
        hubs = [stack.enter_context(Hub(tmp_path, "--demo", instance_id=i)) for i in ids]
        for hub in hubs:
            hub.wait_until_online()
        brokers = [hub.facts()["mqtt"] for hub in hubs]
        assert len(set(brokers)) == 2
        with Witness(int(brokers[0].rsplit(":", 1)[1])) as witness:
            witness.wait_for(f"IoT2mqtt/v1/instances/{ids[0]}/devices/only-{ids[0]}/state", 60)
            assert witness.seen(f"IoT2mqtt/v1/instances/{ids[1]}/#") == []
