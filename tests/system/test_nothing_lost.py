"""Events of a whole hub whose bridge is killed, whose broker goes away and which is restarted itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, mosquitto
from tests.contract.devices import HttpDevices
from tests.contract.relay import Relay
from tests.support import eventually
from tests.system.hub import UP_WITHIN_S, Hub, instance_file, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
]

WORDS = {True: "motion_detected", False: "motion_cleared"}


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as running:
        yield running


@pytest.fixture
def devices() -> Iterator[HttpDevices]:
    with HttpDevices() as running:
        running.values["yard"]["motion_detected"] = False
        yield running


class Yard:
    """A motion detector; `told` are the events that its changes are, each seen by at least one poll."""

    def __init__(self, devices: HttpDevices) -> None:
        self._devices, self._motion, self.told = devices, False, list[str]()

    def change(self, times: int) -> None:
        for _ in range(times):
            self._motion = not self._motion
            self._devices.values["yard"]["motion_detected"] = self._motion
            self.told.append(WORDS[self._motion])
            seen = self._devices.reads["yard"]
            eventually(lambda seen=seen: self._devices.reads["yard"] >= seen + 2, 30)  # type: ignore[misc]


def instance(root: Path, devices: HttpDevices) -> str:
    instance_id = new_id()
    yard = {"sensor_id": "yard", "sensor_type": "motion", "url": devices.url("yard")}
    instance_file(root, instance_id, config={"poll_interval": 0.2, "sensors": [yard]})
    return instance_id


def words(witness: Witness, instance_id: str) -> list[str]:
    """The events that arrived, without repetitions: these are the same to the byte."""
    topic = f"IoT2mqtt/v1/instances/{instance_id}/devices/yard/events"
    return [
        str(json.loads(payload)["event"]) for payload in dict.fromkeys(m.payload for m in witness.seen(topic))
    ]


def test_no_event_is_lost_to_kills_of_the_bridge_and_an_outage_between(
    tmp_path: Path, broker: Mosquitto, devices: HttpDevices
) -> None:
    instance_id, yard = instance(tmp_path, devices), Yard(devices)
    with Relay(broker.port) as relay, Witness(broker.port) as witness:
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(relay.port)}
        with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
            hub.wait_until_online()
            yard.change(2)
            eventually(lambda: words(witness, instance_id) == yard.told, 20)
            for outage in (False, True):
                if outage:
                    relay.cut()
                yard.change(2)
                bridge = hub.program("mqtt-bridge")
                bridge.kill()
                yard.change(3)
                eventually(lambda pid=bridge.pid: hub.program("mqtt-bridge").pid != pid, UP_WITHIN_S)  # type: ignore[misc]
                yard.change(2)
            relay.mend()
            eventually(lambda: len(words(witness, instance_id)) >= len(yard.told), 60)
            assert words(witness, instance_id) == yard.told


def test_events_of_an_outage_outlive_a_restart_of_the_hub(
    tmp_path: Path, broker: Mosquitto, devices: HttpDevices
) -> None:
    instance_id, yard = instance(tmp_path, devices), Yard(devices)
    with Relay(broker.port) as relay, Witness(broker.port) as witness:
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(relay.port)}
        with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
            hub.wait_until_online()
            relay.cut()
            yard.change(3)
            hub.wait_for_line("motion detected", after=0)
            eventually(lambda: hub.output.count("motion ") >= 3, 20)
            assert "entries wait" in eventually(
                lambda: out if "entries wait" in (out := hub.command("health").stdout) else "", 40
            )
            assert hub.stop() == 0
        assert words(witness, instance_id) == []
        with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
            relay.mend()
            eventually(lambda: len(words(witness, instance_id)) >= 3, UP_WITHIN_S)
            assert words(witness, instance_id) == yard.told
            yard.change(1)
            eventually(lambda: words(witness, instance_id) == yard.told, 20)
