"""Each failing part of an instance is a reason of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator

import pytest

from sensor_hub import health, runtime, supervision
from sensor_hub.runtime import Instance
from tests.broker import free_port


@pytest.fixture
def instance_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An instance of which supervisord says that all runs, and that has no service."""
    name = f"t{uuid.uuid4().hex[:8]}"
    runtime.run_dir(name).mkdir(mode=0o700)
    runtime.write_instance(Instance(name, os.getpid(), {}, "broker:1883"))
    monkeypatch.setattr(supervision, "program_states", lambda _: dict.fromkeys(health.PROGRAMS, "RUNNING"))
    yield name
    shutil.rmtree(runtime.run_dir(name))


def loop_turned(instance_id: str, ago_s: float, *, connected: bool = True, detail: str = "") -> None:
    facts = {"connected": connected, "loop_turned_at": time.monotonic() - ago_s, "detail": detail}
    (runtime.run_dir(instance_id) / "bridge.json").write_text(json.dumps(facts))


def test_a_hub_whose_parts_all_work_has_no_reason(instance_id: str) -> None:
    loop_turned(instance_id, 1)
    assert health.reasons(instance_id) == []


@pytest.mark.parametrize(("ago_s", "ill"), [(29.0 - 10, False), (31.0, True)])
def test_a_loop_must_have_turned_within_30_seconds(instance_id: str, ago_s: float, ill: bool) -> None:
    loop_turned(instance_id, ago_s)
    found = "".join(health.reasons(instance_id))
    assert re.fullmatch(r"mqtt-bridge's loop has not turned for 3\d s" if ill else "", found)


def test_a_broker_that_is_away_is_named(instance_id: str) -> None:
    loop_turned(instance_id, 1, connected=False)
    assert health.reasons(instance_id) == ["no MQTT connection to broker:1883"]


@pytest.mark.parametrize(
    ("connected", "reason"),
    [
        (False, "no MQTT connection to broker:1883: why"),
        (True, "MQTT broker broker:1883: why"),
    ],
)
def test_what_the_bridge_says_of_its_connection_is_told(
    instance_id: str, connected: bool, reason: str
) -> None:
    loop_turned(instance_id, 1, connected=connected, detail="why")
    assert health.reasons(instance_id) == [reason]


def test_a_bridge_that_never_turned_is_a_reason(instance_id: str) -> None:
    assert health.reasons(instance_id) == ["mqtt-bridge has not started its loop yet"]


def test_a_program_that_does_not_run_is_named_with_its_state(
    instance_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_turned(instance_id, 1)
    states = {"serial-handler": "BACKOFF", "http-poller": "RUNNING", "state-aggregator": "STARTING"}
    monkeypatch.setattr(supervision, "program_states", lambda _: states)
    assert health.reasons(instance_id) == ["serial-handler is BACKOFF", "mqtt-bridge is missing"]


def test_health_asks_for_the_bridge_and_every_service_of_the_configuration() -> None:
    assert health.PROGRAMS == ("serial-handler", "http-poller", "state-aggregator", "mqtt-bridge")


def test_a_service_that_does_not_answer_is_named(instance_id: str) -> None:
    loop_turned(instance_id, 1)
    url = f"http://127.0.0.1:{free_port()}"
    runtime.write_instance(Instance(instance_id, os.getpid(), {"http-poller": url}, "broker:1883"))
    (reason,) = health.reasons(instance_id)
    assert reason.startswith(f"http-poller: {url} is not reachable")


def test_a_launcher_that_was_killed_leaves_an_instance_that_is_not_running(instance_id: str) -> None:
    runtime.write_instance(Instance(instance_id, 2**22 + 1, {}, "broker:1883"))
    assert health.reasons(instance_id) == [f"{instance_id} is not running"]


def test_a_disabled_instance_is_healthy(instance_id: str) -> None:
    runtime.write_instance(Instance(instance_id, os.getpid(), {}, "", enabled=False))
    assert health.reasons(instance_id) == []


def test_a_queue_in_which_much_waits_is_a_note_and_one_that_loses_is_a_reason(instance_id: str) -> None:
    loop_turned(instance_id, 1)
    runtime.write_queue_figures(instance_id, "mqtt", {"depth": 9, "oldest_s": 9.0, "dropped": 0})
    assert (health.reasons(instance_id), health.notes(instance_id)) == ([], [])
    row = {"depth": 12, "oldest_s": 612.4, "dropped": 3, "dropping": False}
    runtime.write_queue_figures(instance_id, "mqtt", row)
    assert health.reasons(instance_id) == []
    assert health.notes(instance_id) == [
        "queue mqtt: 12 entries wait, the oldest for 612 s",
        "queue mqtt: 3 entries were lost since its file was begun",
    ]
    runtime.write_queue_figures(instance_id, "mqtt", {"depth": 0, "missed": 5, "refused": 2})
    assert health.notes(instance_id) == [
        "queue mqtt: 5 entries of the journal never came, of whatever device",
        "queue mqtt: 2 readings were refused for good",
    ]
    runtime.write_queue_figures(instance_id, "mqtt", row | {"dropping": True})
    assert health.reasons(instance_id) == ["queue mqtt is full: 3 entries are lost, 12 wait"]
    runtime.write_queue_figures(instance_id, "mqtt", row | {"dropping": True, "dropped_of": {"telemetry": 3}})
    assert health.reasons(instance_id) == ["queue mqtt is full: 3 entries are lost (telemetry: 3), 12 wait"]
    assert "queue mqtt: 3 entries were lost (telemetry: 3) since its file was begun" in health.notes(
        instance_id
    )


def test_an_output_that_has_not_answered_for_long_is_a_note(instance_id: str) -> None:
    loop_turned(instance_id, 1)
    runtime.write_queue_figures(instance_id, "files", {"state": "up", "depth": 0}, 3600)
    assert health.notes(instance_id) == []
    runtime.write_queue_figures(instance_id, "files", {"state": "deaf", "depth": 0}, 3600)
    (note,) = health.notes(instance_id)
    assert re.fullmatch("queue files: its output does not answer, these figures are 36.. s old", note)
    assert health.reasons(instance_id) == []


def test_a_queue_that_is_not_on_disk_is_a_note(instance_id: str) -> None:
    loop_turned(instance_id, 1)
    runtime.write_queue_figures(instance_id, "files", {"depth": 0, "on_disk": True})
    assert health.notes(instance_id) == []
    runtime.write_queue_figures(instance_id, "files", {"depth": 0, "on_disk": False})
    assert health.notes(instance_id) == ["queue files: it is in memory only, a restart loses what is in it"]
    assert health.reasons(instance_id) == []
