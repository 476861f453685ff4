"""A broker that is away at the start, or stops and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, free_port, mosquitto
from tests.support import eventually
from tests.system.hub import DEVICES, UP_WITHIN_S, Hub, instance_file, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
]


def test_the_hub_waits_for_a_broker_and_is_back_after_each_of_its_absences(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, update_interval=1)
    prefix = f"IoT2mqtt/v1/instances/{instance_id}"
    port = free_port()
    env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port)}
    with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
        hub.wait_for_line("mqtt-bridge.*no connection to the broker")
        eventually(lambda: f"no MQTT connection to 127.0.0.1:{port}" in hub.command("health").stdout)
        pids = {name: process.pid for name, process in hub.programs().items()}
        with mosquitto(port) as broker:
            hub.wait_until_online()
            broker.stop()
            hub.wait_for_line("connection to the broker.* lost")
            # the bridge tells `health` at the next turn of its loop
            eventually(lambda: f"no MQTT connection to 127.0.0.1:{port}" in hub.command("health").stdout)
            broker.start()
            with Witness(port) as witness:
                for device in DEVICES:
                    topic = f"{prefix}/devices/{device}/state"
                    message = witness.wait_for(lambda m, t=topic: m.topic == t, UP_WITHIN_S)  # type: ignore[misc]
                    assert json.loads(message.payload)["device_id"] == device
                said = {f"{prefix}/status": b"online"}
                eventually(lambda: witness.retained(f"{prefix}/status") == said)
            eventually(lambda: hub.command("health").returncode == 0, UP_WITHIN_S)
            assert {name: process.pid for name, process in hub.programs().items()} == pids
            assert hub.stop() == 0
