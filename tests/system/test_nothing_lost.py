"""Events of a whole hub whose bridge is killed, whose broker goes away and which is restarted itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
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


def payloads(witness: Witness, instance_id: str) -> list[bytes]:
    return [m.payload for m in witness.seen(f"IoT2mqtt/v1/instances/{instance_id}/devices/yard/events")]


def words(witness: Witness, instance_id: str) -> list[str]:
    """The events that arrived, without repetitions: these are the same to the byte."""
    return [str(json.loads(each)["event"]) for each in dict.fromkeys(payloads(witness, instance_id))]


def logged(hub: Hub) -> list[str]:
    return [f"motion_{word}" for word in re.findall(r" motion (detected|cleared) ", hub.output)]


def kill_the_bridge(hub: Hub, meanwhile: Callable[[], None]) -> None:
    bridge = hub.program("mqtt-bridge")
    bridge.kill()
    meanwhile()
    eventually(lambda: hub.program("mqtt-bridge").pid != bridge.pid, UP_WITHIN_S)


def test_no_event_is_lost_to_kills_of_the_bridge_to_an_outage_and_to_a_restart_of_the_hub_in_it(
    tmp_path: Path, broker: Mosquitto, devices: HttpDevices
) -> None:
    instance_id, yard = instance(tmp_path, devices), Yard(devices)
    with Relay(broker.port) as relay, Witness(broker.port) as witness:
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(relay.port)}
        with Hub(tmp_path, instance_id=instance_id, env=env) as hub:
            hub.wait_until_online()
            yard.change(2)
            eventually(lambda: words(witness, instance_id) == yard.told, 60)
            kill_the_bridge(hub, lambda: yard.change(3))
            eventually(lambda: words(witness, instance_id) == yard.told, UP_WITHIN_S)
            relay.cut()
            before = len(yard.told)
            yard.change(2)
            kill_the_bridge(hub, lambda: yard.change(3))
            yard.change(2)
            # The journal ends with the hub: the bridge must have had them all from it, which it says in the log.
            eventually(lambda: logged(hub)[-1:] == yard.told[-1:] and len(logged(hub)) >= len(yard.told), 60)
            assert hub.stop() == 0
        assert words(witness, instance_id) == yard.told[:before]
        with Hub(tmp_path, instance_id=instance_id, env=env):
            relay.mend()
            eventually(lambda: len(words(witness, instance_id)) >= len(yard.told), UP_WITHIN_S)
            assert words(witness, instance_id) == yard.told
            yard.change(2)
            eventually(lambda: len(words(witness, instance_id)) >= len(yard.told), 60)
            assert words(witness, instance_id) == yard.told
    # Three bridges have ended, and each may leave one event for the next that the broker had already.
    assert max(Counter(payloads(witness, instance_id)).values()) <= 4
