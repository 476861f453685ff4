"""The real bridge process through outages of its broker and of itself, while devices say much."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from sensor_hub import runtime
from sensor_hub.bridge.outbox import ANSWER, ANSWERS, EVENTS, TELEMETRY, WINDOW
from sensor_hub.clock import system_clock
from sensor_hub.config.model import BRIDGE
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, mosquitto
from tests.contract.feed import Feed, feed, sensor
from tests.contract.relay import Relay
from tests.support import eventually, free_port

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

ROOT = Path(__file__).resolve().parents[2]
# there are no handlers to wait for
PROGRAM = (
    "from sensor_hub.bridge import loop; loop.HANDLERS_PATIENCE_S = 0; import mqtt_bridge; mqtt_bridge.main()"
)
DEVICES = [f"d{number}" for number in range(10)]
CHANGES_PER_S, OUTAGE_S = 200, 60


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as running:
        yield running


class Bridge:
    """Motion detectors that a test speaks for, the bridge's process, and what arrived at the broker."""

    def __init__(self, says: Feed, relay: Relay, witness: Witness) -> None:
        self.feed, self.relay, self.witness = says, relay, witness
        self.said: dict[str, list[int]] = defaultdict(list)
        self._number = 0
        self._log = says.root / "bridge.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {
            **self.feed.environment,
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(ROOT),
        }
        with self._log.open("wb") as log:
            command = [sys.executable, "-P", "-c", PROGRAM]
            self._process = subprocess.Popen(command, env=environ, cwd=self.feed.root, stdout=log, stderr=log)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def log_has(self, words: str) -> bool:
        return words in self._log.read_text(encoding="utf-8", errors="replace")

    def change(self) -> None:
        """The next device's motion begins or ends, which is an event with the change's number in its data."""
        device = DEVICES[self._number % len(DEVICES)]
        motion = self._number // len(DEVICES) % 2 == 0
        self.feed.says(device, {"motion_detected": motion, "number": self._number})
        self.said[device].append(self._number)
        self._number += 1

    def change_for(self, seconds: float) -> None:
        """CHANGES_PER_S, as many as that are; a slow machine takes longer for them."""
        began, last = time.monotonic(), self._number + round(CHANGES_PER_S * seconds)
        while self._number < last:
            if last - self._number > CHANGES_PER_S * (seconds - (time.monotonic() - began)):
                self.change()
            else:
                threading.Event().wait(0.02)

    def events(self) -> dict[str, list[bytes]]:
        """By device, repetitions too."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for message in self.witness.seen(self.topic("devices/+/events")):
            found[message.topic.split("/")[-2]].append(message.payload)
        return found

    def told(self) -> dict[str, list[int]]:
        """Of each device the numbers of its events, without repetitions, which are the same to the byte."""
        return {
            device: [json.loads(payload)["data"]["number"] for payload in dict.fromkeys(payloads)]
            for device, payloads in self.events().items()
        }

    def all_is_told(self) -> bool:
        arrived = {(each.topic, each.payload) for each in self.witness.seen(self.topic("devices/+/events"))}
        return len(arrived) >= self._number

    def topic(self, rest: str) -> str:
        return f"IoT2mqtt/v1/instances/{self.feed.hub.instance_id}/{rest}"

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = runtime.read_queue_figures(self.feed.hub.instance_id).get("mqtt", {})
        return found


def fill(its: Bridge, queue: str, kind: str, payloads: list[str], mark: str | None = None) -> None:
    store = Store(path_for(its.feed.hub, BRIDGE), system_clock())
    store.start()
    at = "2026-01-01T00:00:00.000+00:00"
    store.queue(queue).put([Item("d0", at, kind, payload.encode()) for payload in payloads], mark)
    store.close(30)


@contextmanager
def bridge(folder: Path, broker: Mosquitto, **environment: str) -> Iterator[Bridge]:
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(broker.port))
        witness = stack.enter_context(Witness(broker.port))
        ports = {"SERIAL_HANDLER_PORT": str(free_port()), "HTTP_POLLER_PORT": str(free_port())}
        through = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(relay.port), **ports, **environment}
        motion = [sensor(device, sensor_type="motion") for device in DEVICES]
        says = stack.enter_context(feed(folder, {}, motion, **through))
        run_dir = runtime.run_dir(says.hub.instance_id)
        run_dir.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        made = Bridge(says, relay, witness)
        # It has followed a journal before: all that it finds is news, whenever it begins.
        fill(made, EVENTS, "event", [], mark='{"had":"0123456789ab-1"}')
        stack.callback(made.kill)
        yield made


def connected(its: Bridge) -> None:
    eventually(lambda: its.log_has("connected to the broker"), 60)
    its.change()
    eventually(its.all_is_told, 60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_event_of_an_outage_arrives_once_and_in_order_at_200_changes_a_second(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with bridge(tmp_path, broker) as its:
        its.start()
        connected(its)
        its.change_for(1)
        its.relay.cut()
        its.change_for(OUTAGE_S)
        eventually(lambda: its.log_has("connection to the broker lost"), 60)
        eventually(lambda: its.figures().get("depth", 0) >= CHANGES_PER_S * OUTAGE_S, 120)
        its.relay.mend()
        its.change_for(1)
        eventually(lambda: its.figures()["depth"] == 0, 300)
        eventually(its.all_is_told, 60)
        assert its.told() == its.said
        repeated = sum(len(payloads) - len(set(payloads)) for payloads in its.events().values())
        assert (
            repeated <= 3 * WINDOW
        )  # what was under way when the connection ended, and no endless resending
        assert (its.figures()["dropped"], its.figures()["missed"]) == (0, 0)


def test_an_answer_and_a_fresh_event_do_not_wait_behind_a_backlog(tmp_path: Path, broker: Mosquitto) -> None:
    with bridge(tmp_path, broker) as its:
        fill(its, TELEMETRY, "telemetry", [f'{{"old":{number}}}' for number in range(1000)])
        fill(its, EVENTS, "event", [f'{{"data":{{"number":-{number}}}}}' for number in range(1, 501)])
        fill(its, ANSWERS, ANSWER, ['{"cmd_id":"c1"}'])
        its.relay.cut()
        its.start()
        eventually(lambda: its.figures().get("depth") == 1501, 60)
        its.feed.says("d9", {"motion_detected": True, "number": 1})
        eventually(lambda: its.figures()["depth"] == 1502, 60)
        its.relay.mend()
        eventually(lambda: len(its.witness.seen(its.topic("devices/d0/telemetry"))) >= 1000, 100)
        kinds = ("cmd/response", "events", "telemetry")
        arrived = [
            (message.topic, message.payload)
            for message in its.witness.seen(its.topic("devices/#"))
            if message.topic.endswith(kinds)
        ]
        order = [topic.removeprefix(its.topic("devices/")) for topic, _ in dict.fromkeys(arrived)]
        wanted = ["d0/cmd/response", *["d0/events"] * 500, "d9/events", *["d0/telemetry"] * 1000]
        assert order == wanted
        assert its.told()["d0"] == list(range(-1, -501, -1))


def test_what_the_journal_no_longer_had_is_counted_where_people_see_it(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with bridge(tmp_path, broker, JOURNAL_ENTRIES="100") as its:
        its.start()
        connected(its)
        its.kill()
        for _ in range(150):
            its.change()
        its.start()
        eventually(lambda: its.figures().get("missed") == 50, 60)
        eventually(lambda: its.log_has("entries of the journal were missed"))
        eventually(lambda: all(its.told().get(name, [0])[-1] == its.said[name][-1] for name in DEVICES), 60)
        url = its.feed.hub.services["state-aggregator"].url
        assert requests.get(f"{url}/health", timeout=20).json()["queues"]["mqtt"]["missed"] == 50
        metrics = requests.get(f"{url}/metrics", timeout=20).text.splitlines()
        assert 'sensor_hub_queue_missed_total{queue="mqtt"} 50' in metrics
        its.kill()
        killed_at = time.monotonic()
        its.start()
        eventually(lambda: its.figures()["reported_s"] < time.monotonic() - killed_at, 60)
        assert its.figures()["missed"] == 50
