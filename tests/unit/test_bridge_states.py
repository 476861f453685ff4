"""What the bridge publishes of a snapshot, and when; time is ours here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.bridge.states import StatePublisher, bare
from sensor_hub.clock import Clock
from sensor_hub.config import load
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import HandlerUnreachable
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Fault, Quality, Reading, Snapshot, Status

START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A publisher of the shipped instance, its clock, and what it sent."""

    def __init__(self, hub: HubConfig, output: str = "mqtt") -> None:
        self.elapsed_s = self.wall_is_ahead_s = 0.0
        self.sent: list[Message] = []
        self.room = 1_000_000  # so many messages are taken
        clock = Clock(
            lambda: START + timedelta(seconds=self.elapsed_s + self.wall_is_ahead_s), lambda: self.elapsed_s
        )
        topics = Topics("base", hub.instance_id)
        self.prefix = f"{topics.prefix}/devices/"
        self.states = StatePublisher(hub, topics, self.publish, clock, output)
        self.states.connected = True

    def publish(self, message: Message) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(message)
        return True

    def take(self) -> dict[str, str]:
        """What was sent since the last call: topic below `devices/` -> payload."""
        sent, self.sent[:] = list(self.sent), []
        return {message.topic.removeprefix(self.prefix): message.payload for message in sent}

    def motion(self, detected: bool | None, *, error: str | None = None, **more: Any) -> dict[str, str]:
        now = START + timedelta(seconds=self.elapsed_s)
        snapshot = Snapshot("motion_front_door", "motion", Status.ONLINE, quality=Quality.GOOD)
        if detected is not None:
            snapshot = replace(snapshot, reading=Reading({"motion_detected": detected}, now))
        if error is not None:
            status = Status.DEGRADED if detected is not None else Status.OFFLINE
            snapshot = replace(snapshot, status=status, fault=Fault(error, "why", now))
        self.states.changed([replace(snapshot, **more)])
        return self.take()


@pytest.fixture
def world(tmp_path: Path) -> World:
    hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path)
    return World(hub)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (0, "0"),
        (-2.5, "-2.5"),
        (1e21, "1e+21"),
        ("", '""'),
        ("null", "null"),
        ("ü {", "ü {"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([], "[]"),
    ],
)
def test_a_bare_value_is_a_json_literal_or_raw_text(value: Any, text: str) -> None:
    assert bare(value) == text


def test_an_unchanged_reading_is_sent_again_after_the_update_interval_only(world: World) -> None:
    assert "motion_front_door/state" in world.motion(False)
    world.elapsed_s = 9.9
    assert world.motion(False) == {}
    world.states.tick()
    assert world.take() == {}
    world.elapsed_s = 10.0
    world.states.tick()
    assert world.take().keys() == {"motion_front_door/state"}


def test_the_last_state_of_an_offline_device_is_announced_with_its_old_time(world: World) -> None:
    state = world.motion(True)["motion_front_door/state"]
    world.elapsed_s = 60.0
    assert world.motion(None, error="READ_FAILED")["motion_front_door/availability"] == "offline"
    world.states.tick()
    assert world.take() == {}
    world.states.announce()
    sent = world.take()
    assert sent["motion_front_door/state"] == state
    assert sent["motion_front_door/state/motion_detected"] == "true"
    assert sent["motion_front_door/availability"] == "offline"


def test_a_device_that_is_back_says_its_state_even_if_it_is_the_old_one(world: World) -> None:
    world.motion(True)
    world.motion(None, error="READ_FAILED")
    sent = world.motion(True)
    assert sent["motion_front_door/availability"] == "online"
    assert "motion_front_door/state" in sent


def test_a_property_that_vanished_while_disconnected_is_cleared(world: World) -> None:
    now = START
    world.motion(True, reading=Reading({"motion_detected": True, "battery_level": 9}, now))
    world.states.connected = False
    world.motion(True)
    world.states.connected = True
    world.states.announce()
    assert world.take()["motion_front_door/state/battery_level"] == ""


def test_an_aggregator_that_has_just_started_does_not_undo_what_is_known(world: World) -> None:
    world.motion(True)
    assert world.motion(None, status=Status.UNKNOWN) == {}
    assert world.states.online("motion_front_door")


def test_values_age_while_the_aggregator_is_gone(world: World) -> None:
    world.motion(True)
    [snapshot] = world.states.lost(HandlerUnreachable("gone"))
    assert snapshot.fault is not None
    assert (snapshot.fault.code, snapshot.status) == ("HANDLER_ERROR", Status.DEGRADED)
    assert world.states.online("motion_front_door")
    world.elapsed_s = 3600.0
    world.states.lost(HandlerUnreachable("gone"))
    assert world.take()["motion_front_door/availability"] == "offline"
    assert not world.states.online("motion_front_door")


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0])
def test_values_age_by_time_that_passes_and_not_by_the_wall_clock(world: World, ahead_s: float) -> None:
    world.motion(True)
    world.wall_is_ahead_s = ahead_s
    world.elapsed_s = 1.0
    world.states.lost(HandlerUnreachable("gone"))
    assert world.states.online("motion_front_door")
    world.elapsed_s = 3600.0
    world.states.lost(HandlerUnreachable("gone"))
    assert not world.states.online("motion_front_door")


def test_true_and_1_are_different_values(world: World) -> None:
    reading = Reading({"motion_detected": True, "level": True}, START)
    world.motion(True, reading=reading)
    for level, text in ((1, "1"), (1.0, "1.0")):
        sent = world.motion(True, reading=replace(reading, values={**reading.values, "level": level}))
        assert f'"level":{text},' in sent["motion_front_door/state"]
        assert sent["motion_front_door/state/level"] == text
    assert world.motion(True, reading=replace(reading, values={"level": 1.0, "motion_detected": True})) == {}


def found(world: World, *leaves: str) -> None:
    for leaf in leaves:
        world.states.found("motion_front_door", f"{world.prefix}motion_front_door/{leaf}")


def test_a_retained_property_of_an_earlier_life_is_cleared_once_the_device_speaks(world: World) -> None:
    found(world, "state", "state/value", "state/motion_detected", "availability")
    assert world.take() == {}
    sent = world.motion(True)
    assert sent["motion_front_door/state/value"] == ""
    assert sent["motion_front_door/state/motion_detected"] == "true"
    found(world, "state", "state/humidity", "state/motion_detected", "availability")
    assert world.take() == {"motion_front_door/state/humidity": ""}


def test_all_retained_states_of_an_earlier_life_are_cleared_when_states_are_not_retained(
    tmp_path: Path,
) -> None:
    environ = {"INSTANCE_NAME": "sensor_hub_01", "MQTT_RETAIN": "false"}
    world = World(load(environ, secrets_dir=tmp_path))
    found(world, "state", "state/motion_detected", "availability")
    assert world.take() == {"motion_front_door/state": "", "motion_front_door/state/motion_detected": ""}


@pytest.mark.parametrize(
    ("name", "level"),
    [("a/b+c#d", "a_b_c_d"), ("ü °", "ü °"), ("a\ufffe\U0001fffftb", "a__tb"), ("x\u0085", "x_")],
)
def test_what_no_topic_level_may_hold_becomes_an_underscore(name: str, level: str) -> None:
    assert Topics("b", "i").state_property("d", name) == f"b/v1/instances/i/devices/d/state/{level}"


def test_a_device_whose_bridge_does_not_name_mqtt_is_not_published(world: World, tmp_path: Path) -> None:
    hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path)
    quiet = tuple(replace(s, bridge=()) if s.sensor_type == "motion" else s for s in hub.sensors)
    other = World(replace(hub, sensors=quiet))
    assert world.motion(True)["motion_front_door/availability"] == "online"
    assert other.motion(True) == {}
    assert not other.states.publishes("motion_front_door")
    assert other.states.publishes("temp_living_room")
    assert not World(hub, "lines").states.publishes("temp_living_room")  # nor is it by another output


@pytest.mark.parametrize("room", range(5))
def test_what_is_not_taken_is_sent_as_soon_as_there_is_room(world: World, room: int) -> None:
    world.motion(True, reading=Reading({"motion_detected": True, "battery_level": 9}, START))
    world.states.announce()
    everything = world.take()
    world.room = room
    world.states.announce()
    world.states.tick()
    first = world.take()
    assert len(first) == room
    world.room = 1_000_000
    world.states.tick()
    assert first | world.take() == everything
    world.states.tick()
    assert world.take() == {}


def test_what_was_not_taken_of_a_change_is_sent_later_as_it_is_then(world: World) -> None:
    both = Reading({"motion_detected": True, "battery_level": 9}, START)
    world.motion(True, reading=both)
    world.room = 0
    assert world.motion(True, reading=Reading({"motion_detected": True}, START)) == {}
    assert world.motion(False, reading=Reading({"motion_detected": False}, START)) == {}
    world.room = 1_000_000
    world.states.tick()
    sent = world.take()
    assert sent["motion_front_door/state/motion_detected"] == "false"
    assert sent["motion_front_door/state/battery_level"] == ""
    assert '"motion_detected":false' in sent["motion_front_door/state"]
    world.states.tick()
    assert world.take() == {}


def test_an_availability_that_was_not_taken_is_sent_later(world: World) -> None:
    world.motion(True)
    world.room = 0
    world.motion(None, error="READ_FAILED")
    world.room = 1_000_000
    world.states.tick()
    assert world.take() == {"motion_front_door/availability": "offline"}
