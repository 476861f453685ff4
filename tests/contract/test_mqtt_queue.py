"""What must not be lost on its way to the broker: events, errors, answers, telemetry, with either client."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from sensor_hub import health, runtime
from sensor_hub.clock import system_clock
from sensor_hub.store import Store
from sensor_hub.store_file import Item
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Message, Mosquitto, mosquitto
from tests.contract.bridge import Hub, parsed, running_hub
from tests.contract.relay import Relay
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

EVENTS = "devices/yard/events"
PROGRAM = "from sensor_hub.bridge import loop; loop.TELEMETRY_S = {}; import mqtt_bridge; mqtt_bridge.main()"
NO_TELEMETRY, TELL_OFTEN = PROGRAM.format(3600.0), PROGRAM.format(0.5)  # none is in the queue; much is
WORDS = {True: "motion_detected", False: "motion_cleared"}


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as running:
        yield running


@contextmanager
def behind_a_relay(
    broker: Mosquitto, client: str, *, start: bool = True, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[Hub, Relay]]:
    """A hub whose bridge reaches the broker by a line that can be cut; its witness is beside it."""
    with Relay(broker.port) as relay:
        through = {"MQTT_PORT": str(relay.port), **(environ or {})}
        with running_hub(client, port=broker.port, start=False, environ=through) as hub:
            if start:
                hub.start_bridge(NO_TELEMETRY)
                hub.online()
                # what happens once it has told a state is news to it
                hub.witness.wait_for(hub.topic("devices/yard/state/motion_detected"))
            yield hub, relay


def cut(hub: Hub, relay: Relay) -> None:
    relay.cut()
    eventually(lambda: "connection to the broker lost" in hub.log)


def now() -> datetime:
    """As timestamps are: in whole milliseconds."""
    moment = datetime.now().astimezone()
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Yard:
    """The motion detector; each of its changes is seen by at least one poll."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self.told = hub, list[str]()
        self._motion = False

    def change(self, times: int) -> None:
        values, reads = self._hub.http.values["yard"], self._hub.http.reads
        for _ in range(times):
            self._motion = not self._motion
            values["motion_detected"] = self._motion
            self.told.append(WORDS[self._motion])
            seen = reads["yard"]
            eventually(lambda seen=seen: reads["yard"] >= seen + 2)  # type: ignore[misc]


def events(hub: Hub) -> list[dict[str, Any]]:
    """Those that arrived, without repetitions: a repetition is the same to the byte."""
    payloads = dict.fromkeys(message.payload for message in hub.witness.seen(hub.topic(EVENTS)))
    return [json.loads(payload) for payload in payloads]


def words(hub: Hub) -> list[str]:
    return [str(body["event"]) for body in events(hub)]


def figures(hub: Hub) -> dict[str, Any]:
    found: dict[str, Any] = runtime.read_queue_figures(hub.instance_id).get("mqtt", {})
    return found


def waiting(hub: Hub) -> int:
    """Entries of the queue, once their age is told."""
    found = figures(hub)
    return int(found["depth"]) if (found.get("oldest_s") or 0) > 0 else 0


def queue_file(hub: Hub) -> Path:
    return hub.directory / "data" / hub.instance_id / "mqtt-bridge.sqlite3"


def test_events_of_an_outage_arrive_once_in_order_and_with_their_time(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client) as (hub, relay):
        cut(hub, relay)
        began, yard = now(), Yard(hub)
        yard.change(7)
        ended, since = datetime.now().astimezone(), hub.now()
        assert words(hub) == []
        eventually(lambda: waiting(hub) == 7)
        relay.mend()
        eventually(lambda: len(words(hub)) >= 7, 30)
        assert words(hub) == yard.told
        times = [datetime.fromisoformat(body["timestamp"]) for body in events(hub)]
        assert times == sorted(times)
        assert all(began <= time <= ended for time in times)
        assert len(hub.witness.seen(hub.topic(EVENTS))) == 7
        # each is told to the world after it was told as the device's
        eventually(lambda: len(hub.witness.seen("IoT2mqtt/v1/global/events", after_s=since)) >= 7)
        world = hub.witness.seen("IoT2mqtt/v1/global/events", after_s=since)
        source = {"source": f"{hub.instance_id}_yard"}
        assert [json.loads(m.payload) for m in world] == [body | source for body in events(hub)]
        assert {(m.qos, m.retain) for m in hub.witness.seen(hub.topic(EVENTS))} == {(1, False)}
        # of states only the latest came
        eventually(lambda: hub.witness.seen(hub.topic("devices/yard/state/motion_detected"), after_s=since))
        states = hub.witness.seen(hub.topic("devices/yard/state/motion_detected"), after_s=since)
        assert [m.payload for m in states] == [b"true"]
        eventually(lambda: figures(hub)["depth"] == 0)


def test_a_killed_bridge_tells_all_that_happened_before_and_while_it_was_dead(
    broker: Mosquitto, client: str
) -> None:
    with behind_a_relay(broker, client) as (hub, relay):
        yard = Yard(hub)
        yard.change(2)
        eventually(lambda: words(hub) == yard.told)
        cut(hub, relay)
        yard.change(3)
        hub.end_bridge(signal.SIGKILL)
        yard.change(3)
        hub.start_bridge()
        eventually(lambda: "services are ready" in hub.log, 30)
        yard.change(2)
        relay.mend()
        eventually(lambda: len(words(hub)) >= len(yard.told), 40)
        assert words(hub) == yard.told


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_reorder_nothing(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client) as (hub, _):
        yard = Yard(hub)
        yard.change(2)
        eventually(lambda: words(hub) == yard.told)  # so how far it was is on the disk
        for pause_s in (0.0, 0.05, 0.3, 0.6):
            changing = threading.Thread(target=yard.change, args=(4,))
            changing.start()
            threading.Event().wait(pause_s)
            hub.end_bridge(signal.SIGKILL)
            hub.start_bridge()
            changing.join(30)
            eventually(lambda: "connected to the broker" in hub.log, 30)
        eventually(lambda: len(words(hub)) >= len(yard.told), 30)
        assert words(hub) == yard.told


def test_an_error_that_came_and_went_during_an_outage_is_told(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client) as (hub, relay):
        cut(hub, relay)
        began = now()
        reads = hub.http.reads
        hub.http.status["plain"] = 500
        seen = reads["plain"]
        eventually(lambda: reads["plain"] >= seen + 2)
        del hub.http.status["plain"]
        seen = reads["plain"]
        eventually(lambda: reads["plain"] >= seen + 2)
        ended = datetime.now().astimezone()
        relay.mend()
        error = hub.next("devices/plain/error", within_s=30)
        assert (error["error_code"], error["severity"]) == ("READ_FAILED", "warning")
        assert began <= datetime.fromisoformat(error["timestamp"]) <= ended


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_the_answer_to_a_command_arrives_after_the_outage(
    broker: Mosquitto, client: str, killed: bool
) -> None:
    with behind_a_relay(broker, client) as (hub, relay):
        hub.http.held["slow/on"] = threading.Event()
        hub.send("devices/slow/cmd", {"id": "c1", "values": {"on": 1}, "timeout": 30000})
        eventually(lambda: hub.http.posts["slow/on"] == 1)
        cut(hub, relay)
        hub.http.held.pop("slow/on").set()
        eventually(lambda: figures(hub).get("depth") == 1, 30)
        if killed:
            hub.end_bridge(signal.SIGKILL)
            hub.start_bridge()
        relay.mend()
        answer = hub.answer_of("slow", "c1")
        assert (answer["status"], answer["values"]) == ("success", {"on": 1})


def test_telemetry_of_an_outage_arrives_with_its_time_and_the_figures_of_the_queue(
    broker: Mosquitto, client: str
) -> None:
    with behind_a_relay(broker, client, start=False) as (hub, relay):
        hub.start_bridge(TELL_OFTEN)
        hub.online()
        cut(hub, relay)
        since, began = hub.now(), now()
        eventually(lambda: figures(hub).get("depth", 0) >= 3 * 9, 30)
        ended = datetime.now().astimezone()
        relay.mend()
        topic = hub.topic("devices/lamp/telemetry")

        def of_the_outage() -> list[dict[str, Any]]:
            found = [parsed(message.payload) for message in hub.witness.seen(topic, after_s=since)]
            return [body for body in found if began <= datetime.fromisoformat(body["timestamp"]) <= ended]

        eventually(lambda: len(of_the_outage()) >= 3, 30)
        bodies = of_the_outage()
        assert all(body.keys() == {"timestamp", "metrics"} for body in bodies)
        assert {"reads", "errors", "round_trip_ms"} < bodies[0]["metrics"].keys()
        depths = [body["metrics"]["queue_depth"] for body in bodies]
        assert depths == sorted(depths)
        assert depths[-1] > 0
        assert {body["metrics"]["queue_dropped"] for body in bodies} == {0}


def test_a_full_queue_loses_the_oldest_counts_them_and_says_so(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client, environ={"QUEUE_ENTRIES": "10"}) as (hub, relay):
        cut(hub, relay)
        yard = Yard(hub)
        yard.change(14)
        eventually(lambda: figures(hub).get("dropped") == 4)
        found = figures(hub)
        assert (found["depth"], found["dropping"]) == (10, True)
        eventually(lambda: "queue is full, its oldest entries are dropped" in hub.log)
        assert "queue mqtt is full: 4 entries are lost (events: 4), 10 wait" in health._queues(
            hub.instance_id
        )
        relay.mend()
        eventually(lambda: len(words(hub)) >= 10, 30)
        assert words(hub) == yard.told[4:]


def test_a_damaged_file_is_kept_aside_and_told_and_the_bridge_goes_on(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client) as (hub, _):
        yard = Yard(hub)
        yard.change(1)
        eventually(lambda: words(hub) == yard.told)
        hub.end_bridge(signal.SIGKILL)
        queue_file(hub).with_name(queue_file(hub).name + "-wal").unlink()  # it would mend the file
        queue_file(hub).write_bytes(b"no database " * 1000)
        hub.start_bridge()
        eventually(lambda: "connected to the broker" in hub.log, 30)
        yard.change(1)
        eventually(lambda: words(hub)[-1] == "motion_cleared")
        assert hub.log.count("queue file is damaged, a new one is begun") == 1
        aside = [path for path in queue_file(hub).parent.iterdir() if ".damaged-" in path.name]
        assert [path.read_bytes()[:12] for path in aside] == [b"no database "]


def test_without_a_disk_the_queue_is_in_memory_and_that_is_said_once(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client, environ={"DATA_DIR": "/proc/nowhere"}) as (hub, relay):
        cut(hub, relay)
        yard = Yard(hub)
        yard.change(3)
        eventually(lambda: figures(hub).get("depth") == 3)
        assert figures(hub)["on_disk"] is False
        relay.mend()
        eventually(lambda: len(words(hub)) >= 3, 30)
        assert words(hub) == yard.told
        said = [line for line in hub.log.splitlines() if "queues are in memory only" in line]
        assert [" WARNING " in line for line in said] == [True]
        assert hub.command("lamp", {"on": True})["status"] == "success"


OLD = 1500


def test_states_do_not_wait_behind_many_old_events(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client, start=False) as (hub, relay):
        store = Store(queue_file(hub), system_clock())
        store.start()
        at = "2026-01-01T00:00:00.000+00:00"
        bodies = [f'{{"timestamp":"{at}","event":"old","data":{number}}}' for number in range(OLD)]
        store.queue("mqtt").put([Item("yard", at, "event", body.encode()) for body in bodies])
        store.close(30)
        relay.cut()
        hub.start_bridge(NO_TELEMETRY)
        eventually(lambda: waiting(hub) >= OLD)
        Yard(hub).change(1)
        eventually(lambda: waiting(hub) > OLD)  # it has read the devices
        relay.mend()
        topic = hub.topic(EVENTS)
        eventually(lambda: len(hub.witness.seen(topic)) > OLD, 100)
        arrived = list(hub.witness.messages)
        order = [parsed(m.payload)["data"] for m in arrived if m.topic == topic]
        assert order[:-1] == list(range(OLD))

        def place(message: Message) -> int:
            """How many of the old events came before it."""
            return sum(m.topic == topic for m in itertools.takewhile(lambda m: m is not message, arrived))

        states = [m for m in arrived if m.topic.endswith("/state") and m.topic.startswith(hub.prefix)]
        assert {m.topic.split("/")[-2] for m in states} >= {"cellar", "boiler", "yard", "lamp"}
        assert all(place(m) < OLD / 4 for m in states[:4])


def test_health_and_metrics_of_the_aggregator_have_the_figures(broker: Mosquitto, client: str) -> None:
    with behind_a_relay(broker, client) as (hub, relay):
        cut(hub, relay)
        Yard(hub).change(1)
        eventually(lambda: waiting(hub) == 1)
        url = f"http://127.0.0.1:{hub.environ['STATE_AGGREGATOR_PORT']}"
        found = requests.get(f"{url}/health", timeout=10).json()["queues"]["mqtt"]
        assert (found["depth"], found["dropped"], found["on_disk"]) == (1, 0, True)
        assert found["oldest_s"] > 0
        answer = requests.get(f"{url}/metrics", timeout=20)
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'sensor_hub_queue_entries{queue="mqtt"} 1' in answer.text.splitlines()
