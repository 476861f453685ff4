"""`get`, groups and what the instance says of itself over MQTT (contract, section 3)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from sensor_hub import __version__
from tests.broker import MOSQUITTO, NO_MOSQUITTO
from tests.contract.bridge import Hub, lasting
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]


# -- get


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"properties": []}', b'{"other": 1}'])
def test_get_publishes_the_whole_state_retained(hub: Hub, payload: bytes) -> None:
    since = hub.now()
    hub.send("devices/cellar/get", payload)
    body = hub.next("devices/cellar/state", after_s=since)
    assert body.keys() == {"timestamp", "device_id", "state"}
    assert body["state"].pop("timestamp") == body["timestamp"]
    assert body["state"].pop("quality") in {
        "good",
        "poor",
    }  # a busy machine may have left it unread for a moment
    assert body["state"] == {
        "device_id": "cellar",
        "type": "temperature",
        "value": 21.5,
        "unit": "°C",
    }

    def is_retained() -> bool:
        """Or a later one, which has been seen too."""
        retained = hub.retained("devices/cellar/state")["devices/cellar/state"]
        return retained in [
            m.payload for m in hub.witness.seen(hub.topic("devices/cellar/state"), after_s=since)
        ]

    eventually(is_retained)


def test_a_filtered_get_is_not_retained_and_the_whole_state_stays(hub: Hub) -> None:
    def retained() -> dict[str, Any]:
        found = hub.retained("devices/boiler/#")
        found.pop("devices/boiler/state/quality")
        state = lasting(json.loads(found.pop("devices/boiler/state"))["state"])
        return {**found, "devices/boiler/state": state}

    since, before = hub.now(), retained()
    hub.send("devices/boiler/get", {"properties": ["pump", "setpoint"]})
    body = hub.next("devices/boiler/state", lambda body: "flow" not in body["state"], since)
    assert body["state"] == {"pump": False, "setpoint": 45.0}
    assert body["device_id"] == "boiler"
    assert retained() == before


@pytest.mark.parametrize(
    ("device", "payload", "code"),
    [
        ("nobody", b"{}", "UNKNOWN_DEVICE"),
        ("off", b"{}", "DISABLED"),
        ("cellar", b'{"properties": ["colour"]}', "INVALID_COMMAND"),
        ("cellar", b'{"properties": ["value", "colour"]}', "INVALID_COMMAND"),
        ("cellar", b'{"properties": "value"}', "INVALID_COMMAND"),
        ("cellar", b'{"properties": [1]}', "INVALID_COMMAND"),
        ("cellar", b"now", "INVALID_COMMAND"),
        ("cellar", b"[]", "INVALID_COMMAND"),
        ("cellar", b"\xff", "INVALID_COMMAND"),
        ("cellar", b"[" * 40_000, "INVALID_COMMAND"),
        ("cellar", b"{" + b" " * 70_000 + b"}", "INVALID_COMMAND"),
    ],
)
def test_a_get_that_fails_is_an_error_of_the_device(hub: Hub, device: str, payload: bytes, code: str) -> None:
    since = hub.now()
    hub.send(f"devices/{device}/get", payload)
    error = hub.next(f"devices/{device}/error", after_s=since)
    assert error.keys() == {"timestamp", "error_code", "message", "severity"}
    assert error["error_code"] == code
    assert error["severity"] in {"info", "warning", "error", "critical"}
    assert hub.told(f"devices/{device}/state", since) == []


def test_a_get_of_a_failing_device_is_the_code_of_its_failure(hub: Hub) -> None:
    since = hub.now()
    hub.http.status["flaky"] = 500
    hub.next("devices/flaky/error", lambda body: body["severity"] == "error", since)
    offline = hub.now()
    hub.send("devices/flaky/get", {})
    assert hub.next("devices/flaky/error", after_s=offline)["error_code"] == "SENSOR_UNAVAILABLE"
    del hub.http.status["flaky"]
    hub.next("devices/flaky/availability", lambda word: word == "online", offline)


# -- groups


def test_a_group_command_is_carried_out_by_all_members(hub: Hub) -> None:
    answer = hub.ask("groups/none", {"values": {"value": 1}})
    assert answer["results"].keys() == {"plain"}
    hub.plc.bits[0] = False
    answer = hub.ask("groups/pumps", {"values": {"pump": True}})
    assert answer.keys() == {"cmd_id", "status", "timestamp", "results"}
    assert answer["status"] == "success"
    result = {"values": {"pump": True}, "outcome": "verified", "outcomes": {"pump": "verified"}}
    assert answer["results"] == {"boiler": {"status": "success", **result}}
    assert hub.plc.bits[0] is True
    assert hub.command("boiler", {"pump": False})["status"] == "success"


@pytest.mark.parametrize(
    ("group", "values", "status", "codes"),
    [
        ("both", {"on": True}, "partial", {"boiler": "INVALID_COMMAND", "lamp": None}),
        ("both", {"on": 5}, "error", {"boiler": "INVALID_COMMAND", "lamp": "INVALID_COMMAND"}),
        ("half", {"on": True}, "partial", {"lamp": None, "plain": "READ_ONLY", "off": "DISABLED"}),
        ("none", {"value": 1}, "error", {"plain": "READ_ONLY"}),
    ],
)
def test_a_group_answer_has_a_result_for_every_member(
    hub: Hub, group: str, values: dict[str, Any], status: str, codes: dict[str, str | None]
) -> None:
    answer = hub.ask(f"groups/{group}", {"values": values})
    assert answer["status"] == status
    assert {device: result.get("error") for device, result in answer["results"].items()} == codes
    for device, code in codes.items():
        assert answer["results"][device]["status"] == ("error" if code else "success")


@pytest.mark.parametrize(
    ("group", "body", "code"),
    [
        ("strangers", {"values": {"on": True}}, "UNKNOWN_GROUP"),
        ("strangers", {"values": {}, "timestamp": 1}, "UNKNOWN_GROUP"),
        ("both", {"values": {"on": True}, "timestamp": 1_000_000_000}, "STALE_COMMAND"),
        ("both", {"values": {"on": True}, "timestamp": "?"}, "INVALID_COMMAND"),
        ("both", {"values": {}}, "INVALID_COMMAND"),
        ("both", {"values": [1]}, "INVALID_COMMAND"),
        ("both", {"values": {"on": True}, "timeout": -1}, "INVALID_COMMAND"),
    ],
)
def test_a_bad_group_command_is_answered_once_for_the_group(
    hub: Hub, group: str, body: dict[str, Any], code: str
) -> None:
    written, cmd_id = len(hub.http.written), uuid.uuid4().hex
    answer = hub.ask(f"groups/{group}", {"id": cmd_id, **body})
    assert (answer["status"], answer["error"], answer["results"]) == ("error", code, {})
    assert hub.ask(f"groups/{group}", {"id": cmd_id})["error"] == code
    hub.ask("groups/both", {"values": {"on": False}})
    assert len(hub.answers(f"groups/{group}", cmd_id)) == 2  # one for each
    assert len(hub.http.written) == written + 1


def test_a_repeated_group_command_is_answered_again_and_not_carried_out(hub: Hub) -> None:
    cmd_id, note = uuid.uuid4().hex, uuid.uuid4().hex
    first = hub.ask("groups/half", {"id": cmd_id, "values": {"note": note}})
    hub.send("groups/half/cmd", {"id": cmd_id, "values": {"note": note}})
    answers = hub.all_answers("groups/half", cmd_id, 2)
    assert answers[1]["results"] == first["results"]
    assert hub.http.writes("lamp/note").count(note) == 1
    # an id of a group is not one of a device
    assert hub.command("lamp", {"note": note}, id=cmd_id)["status"] == "success"
    assert hub.http.writes("lamp/note").count(note) == 2


def test_a_group_command_without_id_is_carried_out_and_not_answered(hub: Hub) -> None:
    since, note = hub.now(), uuid.uuid4().hex
    hub.send("groups/both/cmd", {"note": note})
    assert hub.ask("groups/both", {"values": {"on": True}})["status"] == "partial"
    assert hub.http.writes("lamp/note")[-1] == note
    assert len(hub.witness.seen(hub.topic("groups/both/cmd/response"), after_s=since)) == 1


# -- meta


def test_the_device_list_has_every_device_and_is_retained(hub: Hub) -> None:
    def all_online() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(hub.retained("meta/devices_list")["meta/devices_list"])
        return found if all(row["online"] for row in found["devices"] if row["enabled"]) else {}

    body = eventually(all_online)
    assert body["count"] == len(body["devices"]) == 10
    rows = {row["device_id"]: row for row in body["devices"]}
    assert rows["cellar"] == {
        "device_id": "cellar",
        "global_id": f"{hub.instance_id}_cellar",
        "type": "temperature",
        "model": "T1",
        "friendly_name": "Cellar",
        "handler": "serial",
        "enabled": True,
        "online": True,
    }
    assert (rows["yard"]["type"], rows["yard"]["handler"]) == ("motion", "http_poller")
    assert (rows["off"]["enabled"], rows["off"]["online"]) == (False, False)


@pytest.mark.parametrize("payload", [b"", b"{}", b"nonsense \xff"])
def test_the_device_list_is_published_on_request(hub: Hub, payload: bytes) -> None:
    since = hub.now()
    hub.send("meta/request/devices_list", payload)
    assert hub.next("meta/devices_list", after_s=since)["count"] == 10


def test_info_names_the_instance_its_counts_and_its_services(hub: Hub) -> None:
    def all_are_healthy() -> dict[str, Any]:
        """An earlier test's failing device may have left its handler degraded for some seconds."""
        since = hub.now()
        hub.send("meta/request/info", "{}")
        found: dict[str, Any] = hub.next("meta/info", after_s=since)
        is_healthy = all(each["status"] == "healthy" for each in found["services"].values())
        return found if is_healthy else {}

    body = eventually(all_are_healthy)
    uptime, timestamp = body.pop("uptime"), body.pop("timestamp")
    assert (0 <= uptime < 3600, timestamp[:3]) == (True, "202")
    ports = {
        name: hub.environ[f"{name}_PORT"] for name in ("SERIAL_HANDLER", "HTTP_POLLER", "STATE_AGGREGATOR")
    }
    assert body == {
        "instance_id": hub.instance_id,
        "connector_type": "sensor-hub",
        "status": "online",
        "version": __version__,
        "devices_count": 10,
        "groups_count": 4,
        "update_interval": 3600,
        "services": {
            "serial-handler": {"url": f"http://localhost:{ports['SERIAL_HANDLER']}", "status": "healthy"},
            "http-poller": {"url": f"http://localhost:{ports['HTTP_POLLER']}", "status": "healthy"},
            "state-aggregator": {"url": f"http://localhost:{ports['STATE_AGGREGATOR']}", "status": "healthy"},
        },
    }
    raw = hub.retained("meta/info")["meta/info"]
    assert b'"update_interval":3600,' in raw  # a whole number as people write it


def test_info_says_that_a_service_does_not_answer(hub: Hub) -> None:
    hub.services.stop("state-aggregator")
    since = hub.now()
    hub.send("meta/request/info", "{}")
    body = hub.next(
        "meta/info",
        lambda found: found["services"]["state-aggregator"]["status"] == "unreachable",
        since,
    )
    assert body["status"] == "online"
    hub.services.start("state-aggregator")
    eventually(lambda: hub.command("lamp", {"on": True})["status"] == "success")


def test_discover_answers_with_the_devices_and_is_not_retained(hub: Hub) -> None:
    since = hub.now()
    hub.send("meta/request/discover", "{}")
    body = hub.next("discovered", after_s=since)
    assert body.keys() == {"timestamp", "devices"}
    assert [row["device_id"] for row in body["devices"]][:2] == ["cellar", "boiler"]
    assert hub.retained("discovered") == {}


@pytest.mark.parametrize("rest", ["meta/request/everything", "meta/request/", "devices//cmd", "groups//cmd"])
def test_requests_to_topics_that_mean_nothing_disturb_nobody(hub: Hub, rest: str) -> None:
    hub.send(rest, '{"id": "x", "values": {"on": true}}')
    assert hub.command("lamp", {"on": True})["status"] == "success"


# -- retained requests


def test_a_retained_command_is_ignored_with_a_warning_when_the_bridge_comes(hub: Hub) -> None:
    note = uuid.uuid4().hex
    requests = {
        "devices/lamp/cmd": {"id": note, "values": {"note": note}},
        "groups/both/cmd": {"id": note, "values": {"note": note}},
        "devices/cellar/get": {},
        "meta/request/discover": {},
    }
    hub.end_bridge()
    for rest, body in requests.items():
        hub.send(rest, body, retain=True)
    since = hub.now()
    hub.start_bridge()
    hub.online()
    try:
        assert hub.command("lamp", {"on": True})["status"] == "success"
        assert hub.ask("groups/both", {"values": {"on": True}})["status"] == "partial"
        assert note not in hub.http.writes("lamp/note")
        assert hub.answers("devices/lamp", note) == hub.answers("groups/both", note) == []
        assert hub.witness.seen(hub.topic("discovered"), after_s=since) == []
        warnings = [line for line in hub.log.splitlines() if "retained request ignored" in line]
        assert len(warnings) == 1  # a minute has one, whatever is retained
        assert "WARNING" in warnings[0]
    finally:
        for rest in requests:
            hub.send(rest, "", retain=True)


def test_commands_sent_while_the_hub_was_away_are_lost(hub: Hub) -> None:
    note = uuid.uuid4().hex
    hub.end_bridge()
    hub.send("devices/lamp/cmd", {"id": note, "values": {"note": note}})
    started = hub.now()
    hub.start_bridge()
    hub.online()
    assert hub.command("lamp", {"on": True})["status"] == "success"
    assert note not in hub.http.writes("lamp/note")
    hub.next("status", lambda word: word == "online", started)  # `offline` may arrive after it was said
