"""Requests that meet a defect or too little time, and devices that are not published; the aggregator is a double."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import wire
from sensor_hub.bridge.requests import MAX_SENT, Requests
from sensor_hub.clients import AggregatorClient
from sensor_hub.config import load
from sensor_hub.config.model import GroupConfig
from sensor_hub.errors import HubError
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Json
from sensor_hub.store_file import Item
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

GOOD, BROKEN = "temp_living_room", "motion_front_door"


def _defect() -> Json:
    raise ZeroDivisionError("of ours")


class Aggregator(AggregatorClient):
    """Carries out every command (when `gate` is open), and has a defect when it is about BROKEN."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "sensor_hub_01")
        self.gate = threading.Event()
        self.gate.set()
        self.commanded: list[Json] = []

    def device(self, device_id: str) -> dict[str, Json]:
        return {"timestamp": "now", "value": 1 if device_id == GOOD else _defect()}

    def command(self, device_id: str, body: Mapping[str, Json], timeout_s: float) -> dict[str, Json]:
        self.commanded.append(body["values"])
        self.gate.wait(30)
        return {"values": body["values"] if device_id != BROKEN else _defect()}


class World:
    """Requests of the shipped instance with a group of both devices; what was published and what failed."""

    def __init__(self, folder: Path, *unpublished: str, members: int = 0) -> None:
        hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=folder)
        many = tuple(replace(hub.sensors[0], sensor_id=f"s{number}") for number in range(members))
        groups = GroupConfig("both", (GOOD, BROKEN)), GroupConfig("many", [each.sensor_id for each in many])
        hub = replace(hub, sensors=(*hub.sensors, *many), groups=groups)
        self.aggregator, self.clock = Aggregator(), ManualClock()
        self.sent: list[Message] = []
        self.kept: list[Item] = []  # answers
        self.errors: list[tuple[str, str]] = []
        self.requests = Requests(
            hub,
            Topics("base", hub.instance_id),
            self.aggregator,
            self.sent.append,
            self.kept.extend,
            lambda device_id: device_id not in unpublished,
            self.clock.clock,
        )

    def answer(self) -> Any:
        return wire.loads(eventually(lambda: self.kept)[0].payload)

    def state(self) -> Any:
        return wire.loads(eventually(lambda: self.sent)[0].payload)

    def get(self, device_id: str) -> None:
        self.requests.get(device_id, b"", lambda device, error: self.errors.append((device, code(error))))


def code(error: HubError) -> str:
    return error.code


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_command_that_meets_a_defect_is_answered(world: World) -> None:
    for _ in range(2):  # a repeated one too
        world.requests.device_command(BROKEN, b'{"id": "c1", "values": {"x": 1}}')
    eventually(lambda: len(world.kept) == 2)
    answers = [wire.loads(item.payload) for item in world.kept]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], dict)
    assert (answers[0]["cmd_id"], answers[0]["status"], answers[0]["error"]) == (
        "c1",
        "error",
        "INTERNAL_ERROR",
    )


def test_a_defect_at_one_member_is_that_members_answer(world: World) -> None:
    world.requests.group_command("both", b'{"id": "c1", "values": {"x": 1}}')
    answer = world.answer()
    assert answer["status"] == "partial"
    assert answer["results"][GOOD] == {"status": "success", "values": {"x": 1}}
    assert answer["results"][BROKEN]["error"] == "INTERNAL_ERROR"


def test_a_get_that_meets_a_defect_is_an_error_of_the_device(world: World) -> None:
    world.get(BROKEN)
    assert eventually(lambda: world.errors) == [(BROKEN, "INTERNAL_ERROR")]


def test_a_device_that_is_not_published_is_not_got_and_takes_commands(tmp_path: Path) -> None:
    world = World(tmp_path, GOOD)
    world.get(GOOD)
    assert eventually(lambda: world.errors) == [(GOOD, "UNKNOWN_DEVICE")]
    assert world.sent == []
    world.requests.device_command(GOOD, b'{"id": "c1", "values": {"x": 1}}')
    assert world.answer()["status"] == "success"


def test_a_get_publishes_the_whole_state(world: World) -> None:
    world.get(GOOD)
    assert world.state() == {
        "timestamp": "now",
        "device_id": GOOD,
        "state": {"timestamp": "now", "value": 1},
    }


def test_a_command_with_hardly_any_time_left_is_not_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.aggregator.gate = threading.Event()
    world.requests.device_command(GOOD, b'{"id": "c1", "values": {"x": 1}}')
    eventually(lambda: world.aggregator.commanded == [{"x": 1}])
    world.requests.device_command(GOOD, b'{"id": "c2", "values": {"x": 2}}')
    world.requests.device_command(GOOD, b'{"id": "c3", "values": {"x": 3}, "timeout": 9000}')
    world.clock.advance(4.6)  # of 5
    world.aggregator.gate.set()
    eventually(lambda: len(world.kept) == 3)
    answers = [wire.loads(item.payload) for item in world.kept]
    assert [body.get("error") for body in answers if isinstance(body, dict)] == [
        None,
        "COMMAND_TIMEOUT",
        None,
    ]
    assert b"not sent" in world.kept[1].payload
    assert world.aggregator.commanded == [{"x": 1}, {"x": 3}]


def test_a_short_timeout_is_no_reason_not_to_send(world: World) -> None:
    world.requests.device_command(GOOD, b'{"id": "c1", "values": {"x": 1}, "timeout": 100}')
    assert world.answer()["status"] == "success"


def test_the_members_of_a_large_group_are_asked_in_portions(tmp_path: Path) -> None:
    world = World(tmp_path, members=3 * MAX_SENT)
    world.aggregator.gate = threading.Event()
    world.requests.group_command("many", b'{"id": "c1", "values": {"x": 1}, "timeout": 60000}')
    eventually(lambda: len(world.aggregator.commanded) >= MAX_SENT)
    threading.Event().wait(0.2)  # time enough for more
    assert len(world.aggregator.commanded) == MAX_SENT
    world.aggregator.gate.set()
    answer = world.answer()
    assert answer["status"] == "success"
    assert len(answer["results"]) == 3 * MAX_SENT
