"""When Home Assistant is told of devices, and when that they are gone; time and the output are ours here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import wire
from sensor_hub.bridge import home_assistant
from sensor_hub.bridge.discovery import ASK_AGAIN_S, BIRTH_DELAY_S, SUBSCRIBED_S, Discovery
from sensor_hub.clock import Clock
from sensor_hub.config import load
from sensor_hub.config.model import HomeAssistantConfig, HubConfig
from sensor_hub.outputs.base import Heard, Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.properties import PropertySpec

SPECS: Mapping[str, Mapping[str, PropertySpec]] = {
    "temp_living_room": {"value": PropertySpec("number")},
    "motion_front_door": {"motion_detected": PropertySpec("boolean")},
}


class World:
    """An output that takes what there is room for, and the discovery of the shipped instance."""

    name = "mqtt"

    def __init__(self, hub: HubConfig, prefix: str = "homeassistant", *, on: bool = True) -> None:
        self.elapsed_s, self.asked, self.room = 0.0, 0, 1_000_000
        self.sent: list[Message] = []
        self.listening: list[str] = []
        start = datetime(2026, 1, 1, tzinfo=UTC)
        clock = Clock(lambda: start + timedelta(seconds=self.elapsed_s), lambda: self.elapsed_s)
        self.hub = replace(hub, home_assistant=HomeAssistantConfig(on, prefix))
        self.topics = Topics(hub.mqtt.base_topic, hub.instance_id)
        self.discovery = Discovery(self.hub, self.topics, self, clock, self.ask)  # type: ignore[arg-type]

    def ask(self) -> None:
        self.asked += 1

    def publish(self, message: Message) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(message)
        return True

    def listen(self, topic_filter: str) -> None:
        self.listening.append(topic_filter)

    def stop_listening(self, topic_filter: str) -> None:
        self.listening.remove(topic_filter)

    def tick(self, after_s: float = 0.0) -> bool:
        self.elapsed_s += after_s
        return self.discovery.tick()

    def connected(self, specs: Mapping[str, Mapping[str, PropertySpec]] = SPECS) -> World:
        self.discovery.connected()
        self.discovery.learn(specs, complete=True)
        self.tick()
        return self

    def topic(self, device_id: str, prefix: str = "homeassistant") -> str:
        return home_assistant.config_topic(prefix, self.topics, device_id)

    def take(self) -> list[tuple[str, Any]]:
        """Topic and payload of what was sent since the last call; all of it must be retained."""
        sent, self.sent[:] = list(self.sent), []
        assert all(message.retain for message in sent)
        return [(message.topic, json.loads(message.payload or "null")) for message in sent]

    def kept(self, topic: str, payload: object) -> None:
        text = payload if isinstance(payload, bytes) else wire.dumps(payload).encode()
        self.discovery.heard(Heard(topic, text, retained=True))

    def config(self, device_id: str = "temp_living_room", **specs: PropertySpec) -> dict[str, Any]:
        """What an earlier life with these properties has left for a device."""
        sensor = self.hub.sensors[0]
        line = next(t for t in self.hub.transports if t.transport_id == sensor.transport_id)
        told = home_assistant.Device(replace(sensor, sensor_id=device_id), line, specs, self.topics)
        return told.config()


@pytest.fixture(scope="module")
def hub() -> HubConfig:
    root = Path(__file__).resolve().parents[2]
    return load({"INSTANCE_NAME": "sensor_hub_01"}, root=root)


@pytest.fixture
def world(hub: HubConfig) -> World:
    return World(hub)


def all_topics(world: World) -> list[str]:
    return [world.topic(sensor.sensor_id) for sensor in world.hub.sensors]


def specs_of(world: World) -> dict[str, Mapping[str, PropertySpec]]:
    return {sensor.sensor_id: {"value": PropertySpec("number")} for sensor in world.hub.sensors}


def test_every_device_is_announced_once_its_properties_are_known(world: World) -> None:
    world.discovery.connected()
    world.tick()
    assert (world.asked, world.take()) == (1, [])
    world.discovery.learn(specs_of(world), complete=True)
    world.tick()
    assert [topic for topic, _ in world.take()] == all_topics(world)
    world.tick(3600)
    assert (world.asked, world.take()) == (1, [])


def test_a_handler_that_has_not_told_is_asked_again_and_the_others_devices_do_not_wait(world: World) -> None:
    world.discovery.connected()
    world.tick()
    first, *rest = specs_of(world).items()
    world.discovery.learn(dict([first]), complete=False)
    world.tick()
    assert [topic for topic, _ in world.take()] == [world.topic(first[0])]
    world.tick(ASK_AGAIN_S + 0.1)
    world.tick(60)
    assert world.asked == 2, "one question at a time"
    world.discovery.learn(dict(rest), complete=True)
    world.tick()
    assert [topic for topic, _ in world.take()] == [world.topic(name) for name, _ in rest]


def test_what_found_no_room_is_sent_later(world: World) -> None:
    world.room = 1
    world.connected(specs_of(world))
    assert [topic for topic, _ in world.take()] == all_topics(world)[:1]
    world.room = 1_000_000
    world.tick()
    assert [topic for topic, _ in world.take()] == all_topics(world)[1:]


def test_everything_is_announced_again_after_a_reconnect(world: World) -> None:
    world.connected(specs_of(world)).take()
    world.connected(specs_of(world))
    assert [topic for topic, _ in world.take()] == all_topics(world)


@pytest.mark.parametrize(
    ("prefix", "topic"),
    [
        ("homeassistant", "homeassistant/status"),
        ("ha/two", "homeassistant/status"),
        ("ha/two", "ha/two/status"),
    ],
)
def test_home_assistants_birth_brings_all_of_it_again_after_a_random_moment(
    hub: HubConfig, prefix: str, topic: str
) -> None:
    world = World(hub, prefix).connected(specs_of(World(hub)))
    assert topic in world.listening
    world.take()
    world.discovery.heard(Heard(topic, b"online", retained=False))
    world.tick(BIRTH_DELAY_S[0] - 0.1)
    assert world.take() == []
    world.discovery.heard(Heard(topic, b"online", retained=False))
    world.tick(BIRTH_DELAY_S[1])
    assert [topic for topic, _ in world.take()] == [
        world.topic(sensor.sensor_id, prefix) for sensor in world.hub.sensors
    ]
    world.tick(60)
    assert world.take() == [], "once, however often it was said in between"


def test_the_moment_is_not_the_same_each_time(hub: HubConfig) -> None:
    moments = set()
    for _ in range(5):
        world = World(hub).connected(specs_of(World(hub)))
        world.take()
        world.discovery.heard(Heard("homeassistant/status", b"online", retained=False))
        while not world.take():
            world.tick(0.01)
        moments.add(round(world.elapsed_s, 2))
    assert len(moments) > 1


@pytest.mark.parametrize(("payload", "retained"), [(b"offline", False), (b"online", True), (b"", False)])
def test_what_is_no_birth_brings_nothing(world: World, payload: bytes, retained: bool) -> None:
    world.connected(specs_of(world)).take()
    world.discovery.heard(Heard("homeassistant/status", payload, retained))
    world.tick(60)
    assert world.take() == []


def test_states_that_nobody_retains_are_said_again_when_home_assistant_hears_them(hub: HubConfig) -> None:
    world = World(replace(hub, mqtt=replace(hub.mqtt, retain=False)))
    world.connected(specs_of(world))
    assert not world.tick(SUBSCRIBED_S - 0.1)
    assert world.tick(0.2)
    assert not world.tick(60)


def test_retained_states_are_not_said_again(world: World) -> None:
    world.connected(specs_of(world))
    assert not any(world.tick(1) for _ in range(10))


# -- earlier lives -------------------------------------------------------------------------------------------------


def test_a_device_that_left_the_configuration_is_cleared(world: World) -> None:
    world.connected(specs_of(world)).take()
    world.kept(world.topic("gone"), world.config("gone", value=PropertySpec("number")))
    world.tick()
    assert world.take() == [(world.topic("gone"), None)]


@pytest.mark.parametrize("change", [{"enabled": False}, {"bridge": ("influx",)}])
def test_a_device_that_is_disabled_or_goes_elsewhere_is_cleared(
    hub: HubConfig, change: dict[str, Any]
) -> None:
    first, *others = hub.sensors
    world = World(replace(hub, sensors=(replace(first, **change), *others)))
    world.connected(specs_of(world))
    world.kept(world.topic(first.sensor_id), world.config(first.sensor_id, value=PropertySpec("number")))
    world.tick()
    found = world.take()
    assert found[-1] == (world.topic(first.sensor_id), None)
    assert len(found) == len(hub.sensors)


def test_all_is_cleared_when_discovery_is_switched_off_and_nothing_else_happens(hub: HubConfig) -> None:
    world = World(hub, on=False).connected()
    assert (world.asked, world.take()) == (0, [])
    assert world.listening == ["homeassistant/device/+/config"]
    topic = world.topic("temp_living_room")
    world.kept(topic, world.config(value=PropertySpec("number")))
    world.discovery.heard(Heard("homeassistant/status", b"online", retained=False))
    world.tick(60)
    assert world.take() == [(topic, None)]
    world.discovery.forget()
    assert world.listening == []


def test_what_could_not_be_cleared_is_cleared_later(world: World) -> None:
    world.connected(specs_of(world)).take()
    world.room = 0
    world.kept(world.topic("gone"), world.config("gone", value=PropertySpec("number")))
    world.tick()
    world.room = 1
    world.tick()
    assert world.take() == [(world.topic("gone"), None)]


def test_other_instances_and_other_software_are_left_alone(world: World) -> None:
    world.connected(specs_of(world)).take()
    other = World(replace(world.hub, instance_id="sensor_hub_02"))
    world.kept(other.topic("gone"), other.config("gone", value=PropertySpec("number")))
    world.kept("homeassistant/device/0x00158d/config", {"o": {"name": "zigbee"}, "dev": {}, "cmps": {}})
    world.kept("homeassistant/device/x/config", b"\xff{")
    world.tick()
    assert world.take() == []


@pytest.mark.parametrize("known_first", [True, False])
def test_a_component_that_a_device_has_no_more_is_removed_and_then_left_out(
    world: World, known_first: bool
) -> None:
    device_id = world.hub.sensors[0].sensor_id
    topic = world.topic(device_id)
    earlier = world.config(device_id, value=PropertySpec("number", writable=True), old=PropertySpec("text"))
    if known_first:
        world.connected(specs_of(world)).take()
        world.kept(topic, earlier)
        world.tick()
    else:
        world.discovery.connected()
        world.kept(topic, earlier)
        world.discovery.learn(specs_of(world), complete=True)
        world.tick()
    first, second = [payload["cmps"] for where, payload in world.take() if where == topic]
    assert {key: body for key, body in first.items() if len(body) == 1} == {
        "number_value": {"p": "number"},
        "sensor_old": {"p": "sensor"},
    }
    assert list(second) == ["sensor_value"]
    assert first["sensor_value"] == second["sensor_value"]


def test_a_device_without_any_property_to_show_is_cleared(world: World) -> None:
    device_id = world.hub.sensors[0].sensor_id
    world.connected({**specs_of(world), device_id: {"code": PropertySpec("text", readable=False)}})
    assert world.take()[0] == (world.topic(device_id), None)
