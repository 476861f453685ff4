"""What MQTT is told regularly: states, errors and telemetry, each at its period (contract, section 3)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import datetime

import pytest

from sensor_hub.bridge import loop
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Message
from tests.contract.bridge import CLIENTS, Hub, parsed, running_hub
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

INTERVAL_S = 1


@pytest.fixture(scope="module", params=CLIENTS)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with running_hub(request.param, update_interval=INTERVAL_S, start=False) as running:
        running.start_bridge(
            "import mqtt_bridge; from sensor_hub.bridge import loop; loop.TELEMETRY_S = 1.0; mqtt_bridge.main()"
        )
        running.online()
        yield running


def some(hub: Hub, rest: str, count: int, after_s: float) -> list[Message]:
    """The first `count` messages on a topic."""
    topic = hub.topic(rest)
    eventually(lambda: len(hub.witness.seen(topic, after_s=after_s)) >= count, 20)
    return hub.witness.seen(topic, after_s=after_s)[:count]


def test_an_unchanged_state_is_published_every_update_interval(hub: Hub) -> None:
    messages = some(hub, "devices/plain/state", 4, hub.now())
    pauses_s = [later.time_s - earlier.time_s for earlier, later in itertools.pairwise(messages)]
    assert max(pauses_s) < 4 * INTERVAL_S
    # the fourth cannot come before three intervals have passed; the broker may deliver the first one late
    assert sum(pauses_s) > 1.5 * INTERVAL_S
    assert len({json.loads(message.payload)["state"]["value"] for message in messages}) == 1


def test_the_timestamp_is_when_the_device_was_read_not_when_it_was_sent(hub: Hub) -> None:
    since = hub.now()
    messages = some(hub, "devices/meter/state", 2, since)
    moments = [datetime.fromisoformat(json.loads(message.payload)["timestamp"]) for message in messages]
    assert moments[0] <= moments[1] <= datetime.now().astimezone()
    hub.http.status["plain"] = 500
    hub.next("devices/plain/state", lambda body: body["state"]["quality"] != "good", since)
    degraded = hub.now()
    kept = [json.loads(m.payload)["timestamp"] for m in hub.witness.seen(hub.topic("devices/plain/state"))][
        -1
    ]
    hub.next("devices/plain/availability", lambda word: word == "offline", degraded - 1)
    last = json.loads(hub.retained("devices/plain/state")["devices/plain/state"])
    assert last["timestamp"] == kept  # a failed read never gives an old number a new time


def test_properties_are_not_repeated_with_the_state(hub: Hub) -> None:
    since = hub.now()
    some(hub, "devices/lamp/state", 3, since)
    assert hub.witness.seen(hub.topic("devices/lamp/state/+"), after_s=since) == []


def test_an_error_that_stays_is_repeated_at_most_once_per_interval(hub: Hub) -> None:
    hub.http.status["flaky"] = 500
    since = hub.now()
    hub.next("devices/flaky/error", lambda body: body["severity"] == "error", since)
    offline = hub.now()
    messages = some(hub, "devices/flaky/error", 3, offline)
    assert {parsed(message.payload)["error_code"] for message in messages} == {"READ_FAILED"}
    assert (
        messages[-1].time_s - messages[0].time_s > INTERVAL_S
    )  # two intervals, less what the first came late


def test_telemetry_has_the_counters_of_every_enabled_device(hub: Hub) -> None:
    first = hub.next("devices/cellar/telemetry")
    assert first.keys() == {"timestamp", "metrics"}
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() is not None
    metrics = first["metrics"]
    assert (metrics["reads"] > 0, metrics["errors"], 0 < metrics["round_trip_ms"] < 5000) == (True, 0, True)
    later = hub.next("devices/cellar/telemetry", lambda body: body["metrics"]["reads"] > metrics["reads"])
    assert later["metrics"]["reads"] > metrics["reads"]
    assert hub.next("devices/yard/telemetry")["metrics"]["reads"] > 0
    assert hub.witness.seen(hub.topic("devices/off/telemetry")) == []
    assert hub.retained("devices/+/telemetry") == {}


def test_telemetry_is_told_every_60_s_where_no_test_makes_it_quicker() -> None:
    assert loop.TELEMETRY_S == 60


def test_telemetry_counts_failures(hub: Hub) -> None:
    hub.http.status["flaky"] = 500
    assert hub.next("devices/flaky/telemetry", lambda body: body["metrics"]["errors"] > 0)


def test_a_whole_update_interval_is_printed_without_a_point(hub: Hub) -> None:
    assert b'"update_interval":1,' in hub.retained("meta/info")["meta/info"]
