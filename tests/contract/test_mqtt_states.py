"""States, properties, availability, errors and events on MQTT (contract, section 3)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import datetime
from typing import Any

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO
from tests.contract.bridge import Hub, odd_values, parsed, since_then
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]


def test_the_bridge_uses_the_client_that_is_mounted(hub: Hub) -> None:
    program = "import shared.mqtt_client as found; print(found.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", program], env=hub.environ, capture_output=True, text=True, check=True
    )
    assert ("platform_standin" in found.stdout) is (hub.client == "platform")


def test_a_state_has_the_reading_and_its_time(hub: Hub) -> None:
    def good() -> Any:
        body = json.loads(hub.retained("devices/cellar/state")["devices/cellar/state"])
        return body if body["state"]["quality"] == "good" else None

    body = eventually(good)
    assert body.keys() == {"timestamp", "device_id", "state"}
    assert body["device_id"] == "cellar"
    assert body["timestamp"] == body["state"].pop("timestamp")
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None
    assert body["state"] == {
        "device_id": "cellar",
        "type": "temperature",
        "value": 21.5,
        "unit": "°C",
        "quality": "good",
    }


def test_a_changed_value_is_published_without_waiting_for_the_interval(hub: Hub) -> None:
    since = hub.now()
    hub.plc.words[1] = 0x10000 - 35
    body = hub.next("devices/cellar/state", lambda b: b["state"]["value"] == -3.5, since)
    assert body["state"]["unit"] == "°C"
    hub.next("devices/cellar/state/value", lambda value: value == -3.5, since)
    hub.plc.words[1] = 215
    hub.next("devices/cellar/state", lambda b: b["state"]["value"] == 21.5, since)


def test_a_reading_that_differs_in_its_time_only_is_not_published_again(hub: Hub) -> None:
    since, reads = hub.now(), hub.http.reads["plain"]
    hub.plc.words[1] = 216  # a change that comes later than several equal readings of `plain`
    eventually(lambda: hub.http.reads["plain"] >= reads + 4)
    hub.plc.words[1] = 215
    hub.next("devices/cellar/state", lambda b: b["state"]["value"] == 21.5, since)
    assert hub.told("devices/plain/#", since) == []


def test_states_are_retained_and_have_the_configured_qos(hub: Hub) -> None:
    since = hub.now()
    hub.http.values["plain"] = {"value": "warm"}
    topic = hub.topic("devices/plain/state/value")
    assert hub.witness.wait_for(topic, after_s=since).qos == 1
    assert hub.retained("devices/plain/state/value") == {"devices/plain/state/value": b"warm"}
    hub.http.values["plain"] = {"value": 1}
    hub.next("devices/plain/state/value", lambda value: value == 1, since)


ODD: list[tuple[str, Any, str, bytes]] = [
    ("true", True, "true", b"true"),
    ("false", False, "false", b"false"),
    ("number", 21.5, "number", b"21.5"),
    ("whole", -7, "whole", b"-7"),
    ("null", None, "null", b"null"),
    ("object", {"a": [1, "ü"]}, "object", '{"a":[1,"ü"]}'.encode()),
    ("list", [1, None], "list", b"[1,null]"),
    ("empty", "", "empty", b'""'),
    ("text", 'on "and" off ü', "text", 'on "and" off ü'.encode()),
    ("a/b", 1, "a_b", b"1"),
    ("c+d", 2, "c_d", b"2"),
    ("e#f", 3, "e_f", b"3"),
    ("g\ufffeh", 4, "g_h", b"4"),  # a broker cuts the connection for such a topic
]


@pytest.fixture
def odd(hub: Hub) -> None:
    hub.http.values["odd"] = odd_values(**{name: value for name, value, _, _ in ODD})
    wanted = {topic: payload for _, _, topic, payload in ODD}

    def published() -> bool:
        found = hub.retained("devices/odd/state/+")
        return all(found.get(f"devices/odd/state/{name}") == payload for name, payload in wanted.items())

    eventually(published)


@pytest.mark.parametrize(("name", "value", "topic", "payload"), ODD, ids=[row[0] for row in ODD])
def test_a_property_topic_has_the_bare_value(
    hub: Hub, odd: None, name: str, value: Any, topic: str, payload: bytes
) -> None:
    assert hub.retained(f"devices/odd/state/{topic}") == {f"devices/odd/state/{topic}": payload}
    state = json.loads(hub.retained("devices/odd/state")["devices/odd/state"])["state"]
    assert state[name] == value


def test_there_is_a_topic_for_every_key_but_time_and_ids(hub: Hub, odd: None) -> None:
    found = {topic.rsplit("/", 1)[1] for topic in hub.retained("devices/odd/state/+")}
    assert found == {topic for _, _, topic, _ in ODD} | {"type", "quality"}


def test_only_the_property_that_changed_is_published(hub: Hub) -> None:
    since = hub.now()
    hub.plc.words[5] = 8
    hub.next("devices/boiler/state", lambda body: body["state"]["flow"] == 8, since)
    hub.plc.words[5] = 7
    hub.next("devices/boiler/state", lambda body: body["state"]["flow"] == 7, since)
    hub.next("devices/boiler/state/flow", lambda value: value == 7, since)
    topics = [m.topic for m in hub.told("devices/boiler/state/+", since)]
    assert set(topics) == {hub.topic("devices/boiler/state/flow")}


@pytest.mark.parametrize("raw", [b'{"value": "\\ud800"}', b'{"value": NaN}', b"\xff", b"[]"])
def test_what_is_no_reading_is_an_error_and_no_state(hub: Hub, raw: bytes) -> None:
    since, began = hub.now(), datetime.now().astimezone()
    hub.http.raw["flaky"] = raw
    assert hub.next("devices/flaky/error", since_then(began), since)["error_code"] == "READ_FAILED"
    assert hub.witness.seen(hub.topic("devices/flaky/state/value"), after_s=since) == []
    back = hub.now()
    del hub.http.raw["flaky"]
    assert (
        hub.next("devices/flaky/state", lambda b: b["state"]["quality"] == "good", back)["state"]["value"]
        == 5
    )


def test_a_failing_device_is_offline_with_an_error_and_comes_back(hub: Hub) -> None:
    since, began = hub.now(), datetime.now().astimezone()
    hub.http.status["flaky"] = 500
    error = hub.next("devices/flaky/error", since_then(began), since)
    assert error.keys() == {"timestamp", "error_code", "message", "severity"}
    assert (error["error_code"], error["severity"]) == ("READ_FAILED", "warning")
    assert "500" in error["message"]
    hub.next("devices/flaky/availability", lambda word: word == "offline", since)
    hub.next("devices/flaky/error", lambda body: body["severity"] == "error", since)
    assert hub.retained("devices/flaky/availability")["devices/flaky/availability"] == b"offline"
    assert hub.retained("devices/flaky/error") == {}
    assert hub.retained("devices/flaky/state/value") == {"devices/flaky/state/value": b"5"}
    assert hub.retained("status")["status"] == b"online"
    hub.next("meta/devices_list", lambda body: not online(body, "flaky"), since)
    back = hub.now()
    del hub.http.status["flaky"]
    hub.next("devices/flaky/availability", lambda word: word == "online", back)
    assert hub.next("devices/flaky/state", after_s=back)["state"]["value"] == 5
    listed = hub.next("meta/devices_list", lambda body: online(body, "flaky"), back)
    assert listed["count"] == 10
    codes = {
        parsed(m.payload)["error_code"]
        for m in hub.witness.seen(hub.topic("devices/flaky/error"), after_s=since)
    }
    assert codes == {"READ_FAILED"}


def online(body: dict[str, Any], device_id: str) -> bool:
    return bool(next(row["online"] for row in body["devices"] if row["device_id"] == device_id))


def errors_until_now(hub: Hub, device_id: str, began: datetime) -> list[str]:
    """The severities of a device's errors since then. One that is asked for comes after all before it."""
    asked = datetime.now().astimezone()
    hub.send(f"devices/{device_id}/get", {"properties": "no list"})
    hub.next(
        f"devices/{device_id}/error",
        lambda body: since_then(asked)(body) and body["error_code"] == "INVALID_COMMAND",
    )
    told = [parsed(m.payload) for m in hub.witness.seen(hub.topic(f"devices/{device_id}/error"))]
    since = [body for body in told if since_then(began)(body)]
    return [body["severity"] for body in since if body["error_code"] != "INVALID_COMMAND"]


def test_an_error_that_stays_is_published_once_per_update_interval(hub: Hub) -> None:
    since, began = hub.now(), datetime.now().astimezone()
    hub.http.status["flaky"] = 404
    hub.next("devices/flaky/availability", lambda word: word == "offline", since)
    reads = hub.http.reads["flaky"]
    eventually(lambda: hub.http.reads["flaky"] >= reads + 5)
    assert errors_until_now(hub, "flaky", began) == ["warning", "error"]
    changed = hub.now()
    hub.http.held["flaky"] = threading.Event()
    assert hub.next("devices/flaky/error", after_s=changed)["error_code"] == "READ_TIMEOUT"
    del hub.http.status["flaky"]
    hub.http.held.pop("flaky").set()
    hub.next("devices/flaky/availability", lambda word: word == "online", changed)


def test_no_state_is_published_while_a_device_is_offline(hub: Hub) -> None:
    since = hub.now()
    hub.http.status["flaky"] = 500
    hub.next("devices/flaky/availability", lambda word: word == "offline", since)
    offline = hub.now()
    reads = hub.http.reads["flaky"]
    eventually(lambda: hub.http.reads["flaky"] >= reads + 3)
    assert hub.witness.seen(hub.topic("devices/flaky/state/#"), after_s=offline) == []
    del hub.http.status["flaky"]
    hub.next("devices/flaky/availability", lambda word: word == "online", offline)


def test_motion_is_an_event_as_soon_as_a_poll_sees_it(hub: Hub) -> None:
    since = hub.now()
    hub.http.values["yard"]["motion_detected"] = True
    # Polls are 0.2 s apart, states are sent every hour; it is here within 0.1 s, or later on a slow machine.
    event = hub.witness.wait_for(hub.topic("devices/yard/events"), after_s=since)
    assert not event.retain
    body = json.loads(event.payload)
    assert body.keys() == {"timestamp", "event", "data"}
    assert body["event"] == "motion_detected"
    assert body["data"] == {"motion_detected": True, "battery_level": 90}
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None
    world = json.loads(hub.witness.wait_for("IoT2mqtt/v1/global/events", after_s=since).payload)
    assert world == body | {"source": f"{hub.instance_id}_yard"}
    hub.http.values["yard"]["motion_detected"] = False
    hub.next("devices/yard/events", lambda found: found["event"] == "motion_cleared", since)
    assert len(hub.witness.seen(hub.topic("devices/yard/events"), after_s=since)) == 2


def test_motion_that_ended_while_the_device_was_offline_is_cleared_when_it_is_back(hub: Hub) -> None:
    since = hub.now()
    hub.http.values["yard"]["motion_detected"] = True
    hub.next("devices/yard/events", lambda found: found["event"] == "motion_detected", since)
    hub.http.status["yard"] = 500
    hub.next("devices/yard/availability", lambda word: word == "offline", since)
    hub.http.values["yard"]["motion_detected"] = False
    del hub.http.status["yard"]
    hub.next("devices/yard/events", lambda found: found["event"] == "motion_cleared", since)
    assert len(hub.witness.seen(hub.topic("devices/yard/events"), after_s=since)) == 2


def test_a_change_of_another_property_is_no_motion(hub: Hub) -> None:
    since = hub.now()
    hub.http.values["yard"]["battery_level"] = 89
    hub.next("devices/yard/state/battery_level", lambda value: value == 89, since)
    hub.http.values["yard"]["battery_level"] = 90
    hub.next("devices/yard/state/battery_level", lambda value: value == 90, since)
    assert errors_until_now(hub, "yard", datetime.now().astimezone()) == []  # events come in order with them
    assert hub.witness.seen(hub.topic("devices/yard/events"), after_s=since) == []


def test_a_property_that_the_device_no_longer_has_is_cleared(hub: Hub) -> None:
    since = hub.now()
    del hub.http.values["yard"]["battery_level"]
    hub.witness.wait_for(
        lambda m: m.topic == hub.topic("devices/yard/state/battery_level") and m.payload == b"", after_s=since
    )
    assert hub.retained("devices/yard/state/battery_level") == {}
    hub.http.values["yard"]["battery_level"] = 90
    hub.next("devices/yard/state/battery_level", lambda value: value == 90, since)


def test_a_disabled_device_is_offline_and_has_no_state(hub: Hub) -> None:
    assert hub.retained("devices/off/#") == {"devices/off/availability": b"offline"}


def test_a_dead_handler_leaves_the_instance_online_and_its_devices_go_offline(hub: Hub) -> None:
    since = hub.now()
    hub.services.stop("http-poller")
    try:
        error = hub.next("devices/flaky/error", lambda body: body["error_code"] == "HANDLER_ERROR", since, 60)
        assert error["severity"] == "critical"
        hub.next("devices/flaky/availability", lambda word: word == "offline", since, 60)
        assert hub.command("lamp", {"on": True})["error"] == "HANDLER_ERROR"
        assert hub.command("boiler", {"pump": False})["status"] == "success"
        assert hub.retained("status")["status"] == b"online"
    finally:
        hub.services.start("http-poller")
    back = hub.now()
    hub.next("devices/flaky/availability", lambda word: word == "online", back, 60)


def test_a_restarted_aggregator_changes_nothing_for_the_bridge(hub: Hub) -> None:
    since = hub.now()
    hub.services.stop("state-aggregator")
    hub.services.start("state-aggregator")
    hub.plc.words[1] = 300
    hub.next("devices/cellar/state", lambda body: body["state"]["value"] == 30.0, since, 60)
    assert hub.retained("status")["status"] == b"online"
    assert hub.command("lamp", {"on": True})["status"] == "success"
