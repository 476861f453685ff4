"""The bridge with the broker of `make run` (python -m sensor_hub.embedded_broker): the same, in short."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.broker import accepts, free_port
from tests.contract.bridge import CLIENTS, ROOT, Hub, running_hub
from tests.support import eventually


class Embedded:
    """The embedded broker as a process that comes and goes on one port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "sensor_hub.embedded_broker", "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        eventually(lambda: accepts(self.port), 60)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)


@contextmanager
def embedded() -> Iterator[Embedded]:
    broker = Embedded()
    try:
        broker.start()
        yield broker
    finally:
        broker.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def broker() -> Iterator[Embedded]:
    with embedded() as running:
        yield running


@pytest.fixture(scope="module", params=CLIENTS)
def hub(request: pytest.FixtureRequest, broker: Embedded) -> Iterator[Hub]:
    with running_hub(request.param, port=broker.port) as running:
        yield running


def test_the_instance_is_online_and_its_states_are_retained(hub: Hub) -> None:
    found = hub.settled()  # it may be read after we are online
    assert found["status"] == b"online"
    assert found["devices/cellar/state/value"] == b"21.5"
    assert found["devices/cellar/availability"] == b"online"


def test_a_change_a_command_and_an_event_go_through(hub: Hub) -> None:
    since = hub.now()
    assert hub.command("boiler", {"setpoint": 65})["status"] == "success"
    assert hub.plc.words[10] == 650
    hub.next("devices/boiler/state", lambda body: body["state"]["setpoint"] == 65, since)
    hub.http.values["yard"]["motion_detected"] = True
    hub.next("devices/yard/events", lambda body: body["event"] == "motion_detected", since)
    assert hub.ask("groups/both", {"values": {"on": True}})["status"] == "partial"
    hub.send("devices/boiler/get", {"properties": ["setpoint"]})
    hub.next("devices/boiler/state", lambda body: body["state"] == {"setpoint": 65}, since)
    hub.send("meta/request/discover", {})
    assert len(hub.next("discovered", after_s=since)["devices"]) == 10


def test_a_killed_bridge_leaves_its_last_will_and_comes_back(hub: Hub) -> None:
    hub.end_bridge(signal.SIGKILL)
    eventually(lambda: hub.retained("status")["status"] == b"offline")
    hub.start_bridge()
    hub.online()
    eventually(lambda: hub.retained("status")["status"] == b"online")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_all_is_said_again_after_the_broker_was_away(broker: Embedded, hub: Hub, how: signal.Signals) -> None:
    topics = hub.settled().keys()
    before = hub.log.count("connection to the broker lost")  # by the test with the other signal
    broker.end(how)
    eventually(lambda: hub.log.count("connection to the broker lost") > before)
    broker.start()
    hub.witness.wait_until_back()
    eventually(lambda: hub.retained().keys() == topics, 60)
    eventually(lambda: hub.retained("status")["status"] == b"online")
    assert hub.command("lamp", {"on": True})["status"] == "success"


def test_a_stopped_bridge_says_offline(hub: Hub) -> None:
    assert hub.end_bridge() == 0
    eventually(lambda: hub.retained("status")["status"] == b"offline")
    assert [line for line in hub.log.splitlines() if " ERROR " in line] == []
    hub.start_bridge()
    hub.online()
