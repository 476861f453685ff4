"""Brokers that let nobody stay, are silent or slow: what the log and health say of them, and what arrives at last."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from sensor_hub import runtime
from sensor_hub.outputs.flapping import LOSSES
from sensor_hub.outputs.platform_mqtt import QUEUE_FOR_THE_PATIENT
from tests.broker import MOSQUITTO, NO_MOSQUITTO
from tests.contract.bridge import Hub, running_hub
from tests.contract.devices import HttpDevices
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

DEVICES, FIELDS = 25, 600


def detail(hub: Hub) -> str:
    """What `sensor-hub health` gets to say about the connection."""
    state = runtime.read_bridge_state(hub.instance_id)
    return state.detail if state is not None else ""


def lines(hub: Hub, *words: str) -> list[str]:
    return [line for line in hub.log.splitlines() if any(word in line for word in words)]


class Ejecting:
    """A broker that accepts each client and closes at once; `attempts` are monotonic times."""

    def __init__(self) -> None:
        self.attempts: list[float] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.attempts.append(time.monotonic())
            with client:
                client.settimeout(10)
                try:
                    client.recv(1000)
                    client.sendall(b"\x20\x02\x00\x00")  # CONNACK, accepted
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def ejecting() -> Iterator[Ejecting]:
    broker = Ejecting()
    try:
        yield broker
    finally:
        broker.close()


@pytest.mark.slow
def test_a_broker_that_closes_each_connection_is_told_once_and_tried_less_often(client: str) -> None:
    with (
        ejecting() as broker,
        running_hub(client, start=False, environ={"MQTT_PORT": str(broker.port)}) as hub,
    ):
        hub.start_bridge()
        eventually(lambda: "is another client using the id" in hub.log, 60)
        eventually(lambda: f"is another client using the id 'iot2mqtt_{hub.instance_id}'" in detail(hub))
        tried = len(broker.attempts)
        eventually(lambda: len(broker.attempts) >= tried + 2, 60)
        assert len(lines(hub, "is another client using the id")) == 1
        assert len(lines(hub, "connection to the broker lost")) < LOSSES
        assert lines(hub, "connected to the broker", "Traceback", "trace=") == []


@pytest.mark.slow
def test_another_client_with_our_id_is_told_once_and_we_come_back_when_it_is_gone(client: str) -> None:
    with running_hub(client) as hub:
        other = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"iot2mqtt_{hub.instance_id}")
        other.reconnect_delay_set(1, 1)
        other.connect("127.0.0.1", hub.port)
        other.loop_start()
        try:
            eventually(lambda: "is another client using the id" in hub.log, 60)
            eventually(lambda: "is another client" in detail(hub))  # it is written every 2 s
        finally:
            other.disconnect()
            other.loop_stop()
        asked = itertools.count()  # ids

        def answered() -> bool:
            """Commands that are sent while we are away are lost."""
            hub.send("devices/lamp/cmd", {"id": next(asked), "values": {"on": True}})
            return bool(hub.witness.seen(hub.topic("devices/lamp/cmd/response")))

        eventually(answered, 60)
        assert len(lines(hub, "is another client using the id")) == 1
        assert len(lines(hub, "connection to the broker lost")) < LOSSES
        assert len(lines(hub, "connected to the broker")) <= LOSSES


@pytest.mark.slow
def test_a_frozen_broker_is_told_without_giving_up_the_connection(client: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        eventually(lambda: runtime.read_bridge_state(hub.instance_id))
        eventually(lambda: detail(hub) == "")
        hub.broker.freeze()
        eventually(lambda: "the broker has answered nothing for" in detail(hub), 60)
        hub.broker.thaw()
        eventually(lambda: detail(hub) == "", 60)
        assert lines(hub, "lost") == []
        assert len(lines(hub, "has answered nothing for")) == 1
        eventually(lambda: lines(hub, "the broker answers again"))
        assert hub.command("lamp", {"on": True})["status"] == "success"


def test_a_quiet_broker_that_is_asked_for_a_sign_of_life_stays_connected() -> None:
    with running_hub(environ={"MQTT_KEEPALIVE": "3600", "MQTT_QOS": "0"}) as hub:
        assert hub.broker is not None
        log = hub.broker
        eventually(lambda: log.log.count("Received UNSUBSCRIBE from iot2mqtt_") >= 2, 90)
        assert detail(hub) == ""
        assert lines(hub, "lost", "WARNING", "ERROR") == []


def test_the_reason_of_a_refused_or_missing_connection_is_told(client: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        hub.broker.stop()
        eventually(lambda: "connection lost" in detail(hub) or "refused" in detail(hub))
        hub.broker.start()
        hub.witness.wait_until_back()
        eventually(lambda: detail(hub) == "", 60)


def test_online_and_offline_are_said_once_with_the_bundled_client() -> None:
    with running_hub("bundled") as hub:
        hub.end_bridge()
        hub.witness.wait_for(
            lambda message: message.topic == hub.topic("status") and message.payload == b"offline"
        )
        words = [message.payload for message in hub.witness.seen(hub.topic("status"))]
        assert words == [b"online", b"offline"]
        assert hub.retained("status") == {"status": b"offline"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_more_changes_than_wait_at_once_all_arrive_when_the_broker_takes_them_again(client: str) -> None:
    assert DEVICES * FIELDS > QUEUE_FOR_THE_PATIENT * 1.4
    fields = {f"p{number}": f"p{number}" for number in range(FIELDS)}
    names = [f"wide{number}" for number in range(DEVICES)]
    with HttpDevices() as http:

        def all_become(value: int) -> None:
            for name in names:
                http.values[name] = dict.fromkeys(fields, value)

        all_become(1)
        sensors = [
            {"sensor_id": name, "sensor_type": "generic", "url": http.url(name), "fields": fields}
            for name in names
        ]
        wide = {"poll_interval": 3, "sensors": sensors, "transports": [], "groups": []}
        with running_hub(client, config=wide) as hub:

            def all_are(value: bytes) -> bool:
                found = hub.witness.retained(hub.topic("devices/+/state/+"))
                return sum(payload == value for payload in found.values()) == DEVICES * FIELDS

            assert hub.broker is not None
            eventually(lambda: all_are(b"1"), 90)
            hub.broker.freeze()
            all_become(2)
            reads = {name: http.reads[name] for name in names}
            eventually(lambda: all(http.reads[name] > reads[name] + 1 for name in names), 60)
            hub.broker.thaw()
            eventually(lambda: all_are(b"2"), 90)
            assert lines(hub, "lost", "Traceback", "trace=") == []
            states = hub.retained("devices/+/state").values()
            assert {json.loads(body)["state"]["p0"] for body in states} == {2}
