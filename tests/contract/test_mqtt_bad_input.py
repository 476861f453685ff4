"""Whatever arrives over MQTT: the bridge goes on, answers what can be answered, and does not flood its log."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.broker import MOSQUITTO, NO_MOSQUITTO
from tests.contract.bridge import Hub
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

FLOOD = 5000
KINDS = (
    ("devices/lamp/cmd", b""),
    ("devices/lamp/cmd", b"\xff\xfe"),
    ("devices/lamp/cmd", b'{"values": {"on": NaN}}'),
    ("devices/lamp/cmd", b"[" * 1000),
    ("devices/lamp/cmd", b'{"id": [], "values": {}}'),
    ("devices/nobody/cmd", b'{"values": {"on": true}}'),
    ("devices/lamp/cmd", b'{"values": {"colour": 1}}'),
    ("groups/nobody/cmd", b'{"values": {"on": true}}'),
    ("groups/both/cmd", b"17"),
    ("devices/lamp/get", b"garbage"),
    ("devices/nobody/get", b"{}"),
    ("meta/request/nonsense", b"\x00"),
)


@pytest.fixture
def quiet(hub: Hub) -> Iterator[None]:
    """Checks that a test's input left no trace in the log, and the bridge alive."""
    yield
    assert hub.bridge is not None
    assert hub.bridge.poll() is None
    assert [line for line in hub.log.splitlines() if "trace=" in line or "Traceback" in line] == []


def test_log_lines_cannot_be_forged(hub: Hub, quiet: None) -> None:
    hub.send("meta/request/x\u2028FORGED", b"{}")
    eventually(lambda: "FORGED" in hub.log)
    assert [line for line in hub.log.splitlines() if line.startswith("FORGED")] == []


# Before the flood, which may take so long that a second line is due.
def test_what_cannot_be_answered_is_logged_once_a_minute_per_kind(hub: Hub, quiet: None) -> None:
    for _ in range(20):
        hub.send("devices/lamp/cmd", b"not json")
    hub.command("lamp", {"on": True})
    lines = [line for line in hub.log.splitlines() if "command refused: not JSON" in line]
    assert len(lines) == 1
    assert "WARNING" in lines[0]


@pytest.mark.timeout(300)
def test_a_flood_of_garbage_neither_blocks_nor_fills_the_log(hub: Hub, quiet: None) -> None:
    began, before = hub.now(), len(hub.log.splitlines())
    assert hub.bridge is not None
    process = psutil.Process(hub.bridge.pid)
    sent = [
        hub.witness.client.publish(hub.topic(rest), payload, qos=1)
        for rest, payload in islice(cycle(KINDS), FLOOD)
    ]
    since = hub.now()
    assert hub.ask("devices/boiler", {"values": {"pump": True}}, within_s=100)["status"] == "success"
    hub.plc.words[1] = 444
    hub.next("devices/cellar/state", lambda body: body["state"]["value"] == 44.4, since, 60)
    hub.plc.words[1] = 215
    for info in sent:
        info.wait_for_publish(30)
    eventually(lambda: process.num_threads() < 30)
    assert hub.ask("devices/lamp", {"values": {"on": True}}, within_s=60)["status"] == "success"
    minutes = (hub.now() - began) // 60  # in each a kind is logged once
    assert len(hub.log.splitlines()) - before < (2 + minutes) * len(KINDS)


texts = st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
envelopes = st.fixed_dictionaries(
    {},
    optional={"id": values, "timestamp": values, "timeout": values, "values": values, "on": values},
)
payloads = st.binary(max_size=64) | st.one_of(envelopes, values).map(lambda body: json.dumps(body).encode())
targets = st.sampled_from(
    ["devices/lamp/cmd", "devices/plain/cmd", "devices/x/cmd", "groups/both/cmd", "devices/lamp/get"]
)


@pytest.mark.timeout(400)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(st.tuples(targets, payloads), min_size=1, max_size=5))
def test_any_payload_leaves_the_bridge_answering(
    hub: Hub, quiet: None, batch: list[tuple[str, bytes]]
) -> None:
    for rest, payload in batch:
        hub.send(rest, payload, qos=0)
    answer = hub.command("lamp", {"on": True})
    assert answer["status"] == "success"


@pytest.mark.timeout(400)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=envelopes, cmd_id=st.integers() | st.text(min_size=1, max_size=128))
def test_any_command_with_a_usable_id_is_answered_exactly_once(
    hub: Hub, quiet: None, body: dict[str, Any], cmd_id: int | str
) -> None:
    unique = f"{uuid.uuid4().hex}{cmd_id}"[:128]
    raw = json.dumps({**body, "id": unique})
    raw = raw.replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
    unique = json.loads(raw)["id"]
    since = hub.now()
    hub.send("devices/lamp/cmd", raw)
    assert hub.command("lamp", {"on": True})["status"] == "success"
    assert len(hub.witness.seen(hub.topic("devices/lamp/cmd/response"), after_s=since)) == 2
    (answer,) = hub.answers("devices/lamp", unique)
    assert answer["status"] in {"success", "error"}
    assert ("error" in answer) is (answer["status"] == "error")
