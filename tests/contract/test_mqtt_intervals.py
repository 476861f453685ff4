"""What MQTT is told regularly: states, errors and telemetry, each at its period (contract, section 3)."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from sensor_hub.bridge import loop
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Message
from tests.contract.bridge import CLIENTS, Hub, parsed, running_hub
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

INTERVAL_S = 1
A_PERIOD = timedelta(seconds=INTERVAL_S, milliseconds=-1)


@pytest.fixture(scope="module", params=CLIENTS)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with running_hub(request.param, update_interval=INTERVAL_S, start=False) as running:
        running.start_bridge(
            "import mqtt_bridge; from sensor_hub.bridge import loop; loop.TELEMETRY_S = 1.0; mqtt_bridge.main()"
        )
        running.settled()
        yield running


def some(hub: Hub, rest: str, count: int, after_s: float) -> list[Message]:
    """The first `count` messages on a topic."""
    topic = hub.topic(rest)
    eventually(lambda: len(hub.witness.seen(topic, after_s=after_s)) >= count, 60)
    return hub.witness.seen(topic, after_s=after_s)[:count]


def test_an_unchanged_state_is_published_every_update_interval(hub: Hub) -> None:
    since = hub.now()

    def pauses() -> list[float]:
        """Between a state and the same one again."""
        told = hub.witness.seen(hub.topic("devices/plain/state"), after_s=since)
        states = [json.loads(message.payload)["state"] for message in told]
        assert {state["value"] for state in states} <= {1}
        return [
            told[place + 1].time_s - told[place].time_s
            for place, (state, again) in enumerate(itertools.pairwise(states))
            if state["quality"] == again["quality"]
        ]

    eventually(lambda: len(pauses()) >= 3, 60)
    pauses_s = pauses()[:3]
    assert statistics.median(pauses_s) < 10 * INTERVAL_S  # it is 10 s where nothing else is said
    # The fourth cannot come before three intervals have passed, and it is read five times in each; but the broker
    # may deliver the first one late.
    assert sum(pauses_s) > INTERVAL_S


def test_the_timestamp_is_when_the_device_was_read_not_when_it_was_sent(hub: Hub) -> None:
    since = hub.now()
    messages = some(hub, "devices/meter/state", 2, since)
    moments = [datetime.fromisoformat(json.loads(message.payload)["timestamp"]) for message in messages]
    assert moments[0] <= moments[1] <= datetime.now().astimezone()
    hub.http.status["plain"] = 500
    reads = hub.http.reads["plain"]
    eventually(lambda: hub.http.reads["plain"] > reads)
    failing = datetime.now().astimezone()  # from here on each read fails
    hub.next("devices/plain/availability", lambda word: word == "offline", since)
    last = json.loads(hub.retained("devices/plain/state")["devices/plain/state"])
    # a failed read never gives an old number a new time
    assert datetime.fromisoformat(last["timestamp"]) <= failing


def test_properties_are_not_repeated_with_the_state(hub: Hub) -> None:
    since = hub.now()
    some(hub, "devices/lamp/state", 3, since)
    assert hub.told("devices/lamp/state/+", since) == []


def test_an_error_that_stays_is_repeated_at_most_once_per_interval(hub: Hub) -> None:
    hub.http.status["flaky"] = 500
    since = hub.now()
    hub.next("devices/flaky/error", lambda body: body["severity"] == "error", since)
    offline = hub.now()
    messages = some(hub, "devices/flaky/error", 3, offline)
    bodies = [parsed(message.payload) for message in messages]
    assert {body["error_code"] for body in bodies} == {"READ_FAILED"}
    times = [datetime.fromisoformat(body["timestamp"]) for body in bodies]
    # as they were said, whenever they arrived; in whole milliseconds
    assert all(abs(later - earlier) >= A_PERIOD for earlier, later in itertools.pairwise(times))


def test_telemetry_has_the_counters_of_every_enabled_device(hub: Hub) -> None:
    def is_read(body: Any) -> bool:
        return bool(body["metrics"]["reads"] > 0)

    first = hub.next("devices/cellar/telemetry", is_read)
    assert first.keys() == {"timestamp", "metrics"}
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() is not None
    metrics = first["metrics"]
    assert (metrics["errors"], 0 < metrics["round_trip_ms"] < 5000) == (0, True)
    later = hub.next("devices/cellar/telemetry", lambda body: body["metrics"]["reads"] > metrics["reads"])
    assert later["metrics"]["reads"] > metrics["reads"]
    assert hub.next("devices/yard/telemetry", is_read)
    assert hub.witness.seen(hub.topic("devices/off/telemetry")) == []
    assert hub.retained("devices/+/telemetry") == {}


def test_telemetry_is_told_every_60_s_where_no_test_makes_it_quicker() -> None:
    assert loop.TELEMETRY_S == 60


def test_telemetry_counts_failures(hub: Hub) -> None:
    hub.http.status["flaky"] = 500
    assert hub.next("devices/flaky/telemetry", lambda body: body["metrics"]["errors"] > 0)


def test_a_whole_update_interval_is_printed_without_a_point(hub: Hub) -> None:
    assert b'"update_interval":1,' in hub.retained("meta/info")["meta/info"]
