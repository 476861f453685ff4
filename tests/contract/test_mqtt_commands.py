"""Commands to devices over MQTT: checks in order, one answer per id, order and independence (contract, section 3)."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO
from tests.contract.bridge import Hub
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]


def text_of(age_s: float, *, zone: bool = True) -> str:
    moment = datetime.now().astimezone() - timedelta(seconds=age_s)
    return (moment if zone else moment.replace(tzinfo=None)).isoformat()


def fresh_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def held(hub: Hub) -> Iterator[threading.Event]:
    """Until it is set, commands to the device `slow` hang."""
    event = hub.http.held["slow/on"] = threading.Event()
    yield event
    event.set()
    assert hub.command("slow", {"on": 0}, timeout=30_000)["status"] == "success"
    del hub.http.held["slow/on"]


def test_a_command_is_carried_out_and_answered(hub: Hub) -> None:
    since = hub.now()
    answer = hub.command("boiler", {"setpoint": 55.5, "pump": True})
    assert answer.keys() == {"cmd_id", "status", "timestamp", "values", "outcome", "outcomes"}
    assert (answer["status"], answer["outcome"]) == ("success", "verified")
    assert answer["outcomes"] == {"setpoint": "verified", "pump": "verified"}
    assert answer["values"] == {"setpoint": 55.5, "pump": True}
    assert datetime.fromisoformat(answer["timestamp"]).utcoffset() is not None
    assert (hub.plc.words[10], hub.plc.bits[0]) == (555, True)
    assert (
        hub.next("devices/boiler/state", lambda b: b["state"]["setpoint"] == 55.5, since)["device_id"]
        == "boiler"
    )
    hub.next("devices/boiler/state/pump", lambda value: value is True, since)
    assert hub.retained("devices/boiler/cmd/response") == {}


def test_without_values_all_other_keys_are_the_values(hub: Hub) -> None:
    body = {"timestamp": text_of(0), "timeout": 3000, "level": 41, "note": "x"}
    assert hub.ask("devices/lamp", body)["values"] == {"level": 41, "note": "x"}
    assert (hub.http.writes("lamp/level")[-1], hub.http.writes("lamp/note")[-1]) == (41, "x")


@pytest.mark.parametrize("cmd_id", [7, 0, -1, 10**100, "7", "ü/+#", "x" * 128, "\ud800"])
def test_the_id_comes_back_as_it_was(hub: Hub, cmd_id: object) -> None:
    since = hub.now()
    hub.send("devices/lamp/cmd", {"id": cmd_id, "values": {"on": True}})
    answer = hub.next("devices/lamp/cmd/response", lambda b: b["cmd_id"] == cmd_id, since)
    assert type(answer["cmd_id"]) is type(cmd_id)
    assert answer["status"] == "success"


@pytest.mark.parametrize("envelope", [{}, {"id": None}], ids=["none", "null"])
def test_without_an_id_a_command_is_carried_out_and_not_answered(hub: Hub, envelope: dict[str, Any]) -> None:
    since, note = hub.now(), fresh_id()
    hub.send("devices/lamp/cmd", {**envelope, "values": {"note": note}})
    assert hub.command("lamp", {"on": True})["status"] == "success"
    assert hub.http.writes("lamp/note")[-1] == note
    assert len(hub.witness.seen(hub.topic("devices/lamp/cmd/response"), after_s=since)) == 1


BAD = fresh_id()  # an id in a payload that cannot be answered
UNANSWERABLE: dict[str, bytes] = {
    "empty": b"",
    "text": b"on",
    "list": b'[{"id": "%s"}]' % BAD.encode(),
    "number": b"1",
    "half": b'{"id": "%s", "values": {"on": true}' % BAD.encode(),
    "nan": b'{"id": "%s", "values": {"level": NaN}}' % BAD.encode(),
    "infinite": b'{"id": "%s", "values": {"level": 1e999}}' % BAD.encode(),
    "not-utf-8": b'{"id": "%s", "values": {"note": "\xff"}}' % BAD.encode(),
    "empty-id": b'{"id": "", "values": {"note": "bad"}}',
    "long-id": b'{"id": "%s", "values": {"note": "bad"}}' % (b"x" * 129),
    "huge-id": b'{"id": %s, "values": {"note": "bad"}}' % (b"9" * 129),
    "float-id": b'{"id": 1.5, "values": {"note": "bad"}}',
    "boolean-id": b'{"id": true, "values": {"note": "bad"}}',
    "list-id": b'{"id": [1], "values": {"note": "bad"}}',
    "nested": b'{"id": "%s", "values": {"note": %s}}' % (BAD.encode(), b"[" * 31 + b"]" * 31),
    "very-nested": b"[" * 60_000,
    "large": b'{"id": "%s", "values": {"note": "%s"}}' % (BAD.encode(), b"x" * 65_536),
}


@pytest.mark.parametrize("payload", UNANSWERABLE.values(), ids=UNANSWERABLE.keys())
def test_what_cannot_be_answered_is_neither_carried_out_nor_answered(hub: Hub, payload: bytes) -> None:
    since, written = hub.now(), len(hub.http.written)
    hub.send("devices/lamp/cmd", payload)
    assert hub.command("lamp", {"note": "after"})["status"] == "success"
    assert len(hub.http.written) == written + 1
    assert len(hub.witness.seen(hub.topic("devices/lamp/cmd/response"), after_s=since)) == 1


def test_a_payload_of_64_kib_with_a_nesting_of_32_is_taken(hub: Hub) -> None:
    cmd_id = fresh_id()
    nested = "[" * 30 + "]" * 30
    start = json.dumps({"id": cmd_id})[:-1] + f', "values": {{"note": {nested}, "on": true}}'
    payload = start + " " * (65_536 - len(start) - 1) + "}"
    assert len(payload) == 65_536
    hub.send("devices/lamp/cmd", payload)
    assert eventually(lambda: hub.answers("devices/lamp", cmd_id))[0]["status"] == "success"


@pytest.mark.parametrize("text", ["é" * 32_000, "1E5," * 16_000])
def test_a_payload_of_64_kib_is_taken_however_it_grows_on_its_way(hub: Hub, text: str) -> None:
    cmd_id = fresh_id()
    value = f"[{text}1]" if text.startswith("1") else f'"{text}"'
    payload = f'{{"id": "{cmd_id}", "note": {value}}}'.encode()
    assert 64_000 < len(payload) <= 65_536
    hub.send("devices/lamp/cmd", payload)
    assert eventually(lambda: hub.answers("devices/lamp", cmd_id))[0]["status"] == "success"
    assert hub.http.writes("lamp/note")[-1] == json.loads(value)


def test_without_values_a_nesting_of_32_is_taken(hub: Hub) -> None:
    cmd_id = fresh_id()
    nested = "[" * 31 + "]" * 31
    hub.send("devices/lamp/cmd", f'{{"id": "{cmd_id}", "note": {nested}}}')
    assert eventually(lambda: hub.answers("devices/lamp", cmd_id))[0]["status"] == "success"
    assert hub.http.writes("lamp/note")[-1] == json.loads(nested)


# device, command, code of the answer
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("nobody", {"values": {"on": True}}, "UNKNOWN_DEVICE"),
    ("nobody", {"values": {}, "timestamp": 1}, "UNKNOWN_DEVICE"),
    ("off", {"values": {"on": True}}, "DISABLED"),
    ("off", {"values": {}, "timestamp": 1}, "DISABLED"),
    ("plain", {"values": {"value": 1}, "timestamp": text_of(31)}, "STALE_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": text_of(45, zone=False)}, "STALE_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": time.time() - 45}, "STALE_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": (time.time() - 45) * 1000}, "STALE_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": "2001-01-01T00:00:00Z"}, "STALE_COMMAND"),
    ("plain", {"values": {"value": 1}, "timestamp": "yesterday"}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": [1]}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": True}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timestamp": 10**400}, "INVALID_COMMAND"),
    ("plain", {"values": {"value": 1}}, "READ_ONLY"),
    ("plain", {"values": {}}, "READ_ONLY"),
    ("plain", {"values": "x"}, "READ_ONLY"),
    ("meter", {"values": {"reset": True}}, "READ_ONLY"),
    ("boiler", {"values": {"flow": 1}}, "READ_ONLY"),
    ("lamp", {"values": {}}, "INVALID_COMMAND"),
    ("lamp", {}, "INVALID_COMMAND"),
    ("lamp", {"values": None}, "INVALID_COMMAND"),
    ("lamp", {"values": [True]}, "INVALID_COMMAND"),
    ("lamp", {"values": {"colour": 1}}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": 1}}, "INVALID_COMMAND"),
    ("lamp", {"values": {"level": "5"}}, "INVALID_COMMAND"),
    ("lamp", {"values": {"level": True}}, "INVALID_COMMAND"),
    ("lamp", {"values": {"level": 101, "on": 1}}, "INVALID_COMMAND"),
    ("lamp", {"values": {"level": 100.5}}, "VALUE_OUT_OF_RANGE"),
    ("lamp", {"values": {"on": True, "level": -1}}, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"values": {"setpoint": 29.5}}, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"values": {"setpoint": 50.3}}, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"values": {"setpoint": 10**400}}, "VALUE_OUT_OF_RANGE"),
    ("lamp", {"values": {"on": True}, "timeout": "soon"}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timeout": 0}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timeout": -5}, "INVALID_COMMAND"),
    ("lamp", {"values": {"on": True}, "timeout": False}, "INVALID_COMMAND"),
]


@pytest.mark.parametrize(("device", "body", "code"), REFUSED)
def test_the_first_check_that_fails_is_the_one_answer(
    hub: Hub, device: str, body: dict[str, Any], code: str
) -> None:
    written, set_before = len(hub.http.written), list(hub.plc.written)
    cmd_id = fresh_id()
    answer = hub.ask(f"devices/{device}", {"id": cmd_id, **body})
    assert answer.keys() == {"cmd_id", "status", "timestamp", "error", "message"}
    assert (answer["status"], answer["error"]) == ("error", code)
    assert answer["message"]
    assert hub.command("lamp", {"on": True})["status"] == "success"  # whatever was to come has come
    assert len(hub.answers(f"devices/{device}", cmd_id)) == 1
    assert (len(hub.http.written), hub.plc.written) == (written + 1, set_before)


@pytest.mark.parametrize(
    "timestamp",
    [
        text_of(5),
        text_of(5, zone=False),
        text_of(-3600),
        time.time(),
        round(time.time() * 1000),
        time.time() + 1e6,
        None,
    ],
    ids=["zoned", "local", "future", "seconds", "milliseconds", "future-seconds", "null"],
)
def test_a_young_or_future_timestamp_is_accepted(hub: Hub, timestamp: object) -> None:
    # the module was loaded a while ago: what counts is made young again
    if isinstance(timestamp, float | int) and timestamp < time.time() * 1.01:
        timestamp = time.time()
    elif isinstance(timestamp, int):
        timestamp = round(time.time() * 1000)
    elif isinstance(timestamp, str) and timestamp < text_of(0):
        timestamp = text_of(1, zone="+" in timestamp[10:])
    assert hub.command("lamp", {"on": True}, timestamp=timestamp)["status"] == "success"


def test_a_duplicate_is_answered_again_whatever_it_says_and_not_carried_out(hub: Hub) -> None:
    cmd_id, note = fresh_id(), fresh_id()
    first = hub.ask("devices/lamp", {"id": cmd_id, "values": {"note": note}})
    for again in ({"values": {"note": note}}, {"values": {"colour": 1}}, {"timestamp": 1}, {}):
        hub.send("devices/lamp/cmd", {"id": cmd_id, **again})
    answers = hub.all_answers("devices/lamp", cmd_id, 5)
    assert all(without_time(answer) == without_time(first) for answer in answers)
    assert hub.http.writes("lamp/note").count(note) == 1


def test_a_refused_command_is_remembered_too(hub: Hub) -> None:
    cmd_id, note = fresh_id(), fresh_id()
    assert hub.ask("devices/lamp", {"id": cmd_id, "values": {"colour": 1}})["error"] == "INVALID_COMMAND"
    hub.send("devices/lamp/cmd", {"id": cmd_id, "values": {"note": note}})
    answers = hub.all_answers("devices/lamp", cmd_id, 2)
    assert [answer["error"] for answer in answers] == ["INVALID_COMMAND"] * 2
    assert note not in hub.http.writes("lamp/note")


def test_ids_are_remembered_per_device_and_type(hub: Hub) -> None:
    note = fresh_id()
    number = int(uuid.uuid4()) >> 80
    assert hub.command("lamp", {"note": note}, id=number)["status"] == "success"
    assert hub.command("lamp", {"note": note}, id=str(number))["status"] == "success"
    assert hub.command("slow", {"on": note}, id=number)["status"] == "success"
    assert hub.http.writes("lamp/note").count(note) == 2
    assert hub.http.writes("slow/on").count(note) == 1


def test_a_duplicate_of_a_command_under_way_waits_for_the_first_answer(
    hub: Hub, held: threading.Event
) -> None:
    cmd_id, value = fresh_id(), fresh_id()
    for _ in range(3):
        hub.send("devices/slow/cmd", {"id": cmd_id, "values": {"on": value}, "timeout": 60_000})
    assert hub.command("lamp", {"on": True})["status"] == "success"
    assert hub.answers("devices/slow", cmd_id) == []
    held.set()
    answers = hub.all_answers("devices/slow", cmd_id, 3)
    assert {answer["status"] for answer in answers} == {"success"}
    assert hub.http.writes("slow/on").count(value) == 1


def test_commands_to_one_device_are_carried_out_in_order(hub: Hub) -> None:
    run = fresh_id()
    for number in range(30):
        hub.send("devices/lamp/cmd", {"id": f"{run}-{number}", "values": {"note": f"{run}-{number}"}})
    eventually(lambda: hub.answers("devices/lamp", f"{run}-29"), 60)
    done = [note for note in hub.http.writes("lamp/note") if str(note).startswith(run)]
    assert done == [f"{run}-{number}" for number in range(30)]


def test_a_slow_device_delays_only_itself(hub: Hub, held: threading.Event) -> None:
    since, cmd_id = hub.now(), fresh_id()
    hub.send("devices/slow/cmd", {"id": cmd_id, "values": {"on": 1}, "timeout": 60_000})
    for device, values in (("lamp", {"on": True}), ("boiler", {"pump": True})):
        assert hub.command(device, values)["status"] == "success"
    hub.plc.words[1] = 333
    hub.next("devices/cellar/state", lambda body: body["state"]["value"] == 33.3, since)
    assert hub.ask("groups/both", {"values": {"on": True}})["status"] == "partial"
    assert hub.answers("devices/slow", cmd_id) == []
    held.set()
    assert eventually(lambda: hub.answers("devices/slow", cmd_id))[0]["status"] == "success"
    hub.plc.words[1] = 215


def test_a_device_that_does_not_answer_in_time_is_a_command_timeout(hub: Hub, held: threading.Event) -> None:
    assert hub.command("slow", {"on": 1}, timeout=300)["error"] == "COMMAND_TIMEOUT"


def test_a_device_that_says_no_is_device_refused(hub: Hub) -> None:
    hub.http.status["lamp/on"] = 409
    answer = hub.command("lamp", {"on": True})
    assert (answer["error"], "409" in answer["message"]) == ("DEVICE_REFUSED", True)
    del hub.http.status["lamp/on"]
    hub.plc.refuses = True
    assert hub.command("boiler", {"pump": True})["error"] == "DEVICE_REFUSED"
    hub.plc.refuses = False


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "timestamp"}
