"""The bundled MQTT client against a real mosquitto, and a defect of the stand-in that must be true."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from shared.mqtt_client import WARNING_INTERVAL_S, MQTTClient
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, free_port, mosquitto, password_file
from tests.platform_standin.shared.mqtt_client import MQTTClient as PlatformClient
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]

PREFIX = "IoT2mqtt/v1/instances/hub"
STATUS = f"{PREFIX}/status"


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as running:
        yield running


@pytest.fixture
def witness(broker: Mosquitto) -> Iterator[Witness]:
    with Witness(broker.port) as watching:
        yield watching


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[MQTTClient]:
    made = MQTTClient("hub", host="127.0.0.1", port=broker.port)
    yield made
    made.disconnect()


def statuses(witness: Witness) -> list[bytes]:
    return [message.payload for message in witness.seen(STATUS)]


def test_online_is_published_retained_with_qos_1_after_the_subscription_is_acknowledged(
    broker: Mosquitto, witness: Witness, client: MQTTClient
) -> None:
    client.subscribe("devices/+/cmd", lambda _topic, _payload: None)
    assert client.connect(max_retries=1)
    online = witness.wait_for(STATUS)
    assert (online.payload, online.qos) == (b"online", 1)
    assert witness.retained(STATUS) == {STATUS: b"online"}
    # mosquitto's own log has the order of the packets
    log = broker.log
    suback = log.index("Sending SUBACK to iot2mqtt_hub")
    assert suback < log.index(f"Received PUBLISH from iot2mqtt_hub (d0, q1, r1, m2, '{STATUS}'")


def test_a_client_without_subscriptions_comes_online(witness: Witness, client: MQTTClient) -> None:
    assert client.connect(max_retries=1)
    assert witness.wait_for(STATUS).payload == b"online"


def test_the_will_says_offline_when_the_connection_is_cut(broker: Mosquitto, witness: Witness) -> None:
    client = MQTTClient("hub", host="127.0.0.1", port=broker.port)
    assert client.connect(max_retries=1)
    witness.wait_for(STATUS)
    sock = client.client.socket()
    assert sock is not None
    client.client.reconnect_delay_set(30, 30)
    sock.shutdown(2)  # type: ignore[attr-defined]
    witness.wait_for(lambda message: message.topic == STATUS and message.payload == b"offline")
    assert eventually(lambda: not client.connected)
    client.disconnect()


def test_disconnect_leaves_offline_retained_and_no_connection(
    broker: Mosquitto, witness: Witness, client: MQTTClient
) -> None:
    assert client.connect(max_retries=1)
    client.disconnect()
    assert not client.connected
    assert witness.retained(STATUS) == {STATUS: b"offline"}
    eventually(lambda: "Received DISCONNECT from iot2mqtt_hub" in broker.log)
    eventually(lambda: [message.qos for message in witness.seen(STATUS)] == [1, 1])


def test_connect_works_again_after_disconnect(witness: Witness, client: MQTTClient) -> None:
    assert client.connect(max_retries=1)
    client.disconnect()
    assert client.connect(max_retries=1)
    eventually(lambda: statuses(witness) == [b"online", b"offline", b"online"])


def test_disconnect_takes_a_few_seconds_when_the_broker_answers_nothing(
    broker: Mosquitto, client: MQTTClient
) -> None:
    assert client.connect(max_retries=1)
    broker.freeze()
    started_s = time.monotonic()
    client.disconnect()
    assert time.monotonic() - started_s < 15  # it waits for 3
    broker.thaw()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_status_is_online_and_commands_arrive_again_after_the_broker_restarts(
    broker: Mosquitto, client: MQTTClient, end: str
) -> None:
    received: list[Any] = []
    client.subscribe("devices/+/cmd", lambda _topic, payload: received.append(payload))
    assert client.connect(max_retries=1)
    getattr(broker, end)()
    eventually(lambda: not client.connected)
    broker.start()
    with Witness(broker.port) as witness:
        assert witness.wait_for(STATUS).payload == b"online"
        witness.publish(f"{PREFIX}/devices/lamp/cmd", '{"values": {"on": true}}')
        eventually(lambda: received == [{"values": {"on": True}}])


def test_the_platforms_client_is_not_online_again_after_the_broker_restarts(broker: Mosquitto) -> None:
    platform = PlatformClient("hub", host="127.0.0.1", port=broker.port)
    received: list[Any] = []
    platform.subscriptions[f"{PREFIX}/ping"] = lambda _topic, payload: received.append(payload)

    def ping_arrives(sender: Witness) -> bool:
        sender.publish(f"{PREFIX}/ping", "1")
        return bool(received)

    assert platform.connect()
    with Witness(broker.port) as before:
        eventually(lambda: ping_arrives(before))  # and before it, the acknowledgement of `online`
    broker.kill()
    received.clear()
    broker.start()
    with Witness(broker.port) as after:
        eventually(lambda: ping_arrives(after))
        assert after.retained(STATUS) == {}
    platform.disconnect()


def test_connect_waits_for_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    port = free_port()
    client = MQTTClient("hub", host="127.0.0.1", port=port)
    outcome: list[bool] = []
    waiting = threading.Thread(target=lambda: outcome.append(client.connect(retry_interval=0.1)))
    waiting.start()
    with mosquitto(port) as broker, Witness(broker.port) as witness:
        assert witness.wait_for(STATUS).payload == b"online"
        waiting.join(30)
        assert outcome == [True]
        client.disconnect()


def test_connect_is_false_when_the_attempts_are_used_up(caplog: pytest.LogCaptureFixture) -> None:
    client = MQTTClient("hub", host="127.0.0.1", port=free_port())
    assert client.connect(retry_interval=0.05, max_retries=3) is False
    assert len([record for record in caplog.records if "no connection" in record.message]) == 3


def test_disconnect_ends_a_connect_that_still_waits() -> None:
    client = MQTTClient("hub", host="127.0.0.1", port=free_port())
    outcome: list[bool] = []
    waiting = threading.Thread(target=lambda: outcome.append(client.connect(retry_interval=3600)))
    waiting.start()
    eventually(lambda: client.client.host == "127.0.0.1")  # the first attempt has begun
    client.disconnect()
    waiting.join(30)
    assert outcome == [False]


def test_a_wrong_password_is_refused_and_the_right_one_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = password_file(tmp_path / "users", {"hub": "right", "witness": "w"})
    with mosquitto(config_lines=["allow_anonymous false", f"password_file {users}"]) as broker:
        wrong = MQTTClient("hub", host="127.0.0.1", port=broker.port, username="hub", password="wrong")
        assert wrong.connect(retry_interval=0.1, max_retries=2) is False
        assert "refuses the connection: Not authorized" in caplog.text
        assert "wrong" not in caplog.text
        assert broker.log.count("Sending CONNACK to 127.0.0.1 (0, 5)") == 2
        right = MQTTClient("hub", host="127.0.0.1", port=broker.port, username="hub", password="right")
        assert right.connect(max_retries=1)
        with Witness(broker.port, username="witness", password="w") as witness:
            assert witness.wait_for(STATUS).payload == b"online"
        right.disconnect()


def test_a_refused_subscription_is_logged_by_its_topic(
    client: MQTTClient, caplog: pytest.LogCaptureFixture
) -> None:
    original = client.client.on_subscribe

    def refused(*arguments: Any) -> None:
        original(*arguments[:3], [ReasonCode(PacketTypes.SUBACK, identifier=0x80)], None)  # type: ignore[misc, call-arg]

    client.client.on_subscribe = refused
    client.subscribe("secret", lambda _topic, _payload: None)
    assert client.connect(max_retries=1)
    assert f"refuses the subscription to {PREFIX}/secret" in caplog.text


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"on": true}', {"on": True}),
        (b"21.5", 21.5),
        (b"plain text", "plain text"),
        (b"", ""),
        (b"\xff\xfe21", "��21"),
        (b"[" * 20_000, "[" * 20_000),
    ],
    ids=["object", "number", "text", "empty", "not-utf-8", "too-deep"],
)
def test_a_handler_gets_json_or_else_text(
    witness: Witness, client: MQTTClient, payload: bytes, expected: Any
) -> None:
    received: list[tuple[str, Any]] = []
    client.subscribe("in", lambda topic, value: received.append((topic, value)))
    assert client.connect(max_retries=1)
    witness.publish(f"{PREFIX}/in", payload)
    eventually(lambda: received == [(f"{PREFIX}/in", expected)])


def test_a_failing_handler_is_logged_and_the_next_message_arrives(
    witness: Witness, client: MQTTClient, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[Any] = []

    def handler(_topic: str, payload: Any) -> None:
        received.append(payload)
        if payload == 1:
            raise KeyError("broken on purpose")

    client.subscribe("in", handler)
    assert client.connect(max_retries=1)
    witness.publish(f"{PREFIX}/in", "1")
    witness.publish(f"{PREFIX}/in", "2")
    eventually(lambda: received == [1, 2])
    assert "broken on purpose" in caplog.text
    assert any(record.exc_info for record in caplog.records)


def test_a_failing_chained_callback_does_not_end_the_connection(
    witness: Witness, client: MQTTClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any) -> None:
        raise KeyError("broken on purpose")

    client.client.on_message = broken
    client.subscribe("in", broken)
    assert client.connect(max_retries=1)
    witness.publish(f"{PREFIX}/in", "1")
    eventually(lambda: "broken on purpose" in caplog.text)
    client.publish(f"{PREFIX}/out", "alive")
    assert witness.wait_for(f"{PREFIX}/out").payload == b"alive"


def test_a_chained_callback_sees_the_retain_flag_and_the_handler_still_gets_the_message(
    witness: Witness, client: MQTTClient
) -> None:
    flags: list[bool] = []
    received: list[Any] = []
    original = client.client.on_message

    def chained(*arguments: Any) -> None:
        flags.append(arguments[2].retain)
        original(*arguments)  # type: ignore[misc]

    client.client.on_message = chained
    witness.publish(f"{PREFIX}/in", '"old"', retain=True)
    client.subscribe("in", lambda _topic, payload: received.append(payload))
    assert client.connect(max_retries=1)
    eventually(lambda: received == ["old"])
    witness.publish(f"{PREFIX}/in", '"new"')
    eventually(lambda: received == ["old", "new"])
    assert flags == [True, False]


def test_state_and_its_properties_are_published_as_json_and_raw_text(
    witness: Witness, client: MQTTClient
) -> None:
    assert client.connect(max_retries=1)
    state = {
        "on": True,
        "off": False,
        "value": 21.5,
        "unit": "°C",
        "label": "",
        "gone": None,
        "a/b": 1,
        "sensor_id": "t1",
        "timestamp": "2026-01-01T00:00:00+00:00",
    }
    client.publish_state("t1", state)
    topic = f"{PREFIX}/devices/t1/state"
    witness.wait_for(f"{topic}/a_b")
    retained = witness.retained(f"{topic}/#")
    body = json.loads(retained.pop(topic))
    assert (body["device_id"], body["state"]) == ("t1", state)
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert {name.removeprefix(f"{topic}/"): payload for name, payload in retained.items()} == {
        "on": b"true",
        "off": b"false",
        "value": b"21.5",
        "unit": "°C".encode(),
        "label": b'""',
        "gone": b"null",
        "a_b": b"1",
    }


def test_state_is_not_retained_when_told_so(witness: Witness, client: MQTTClient) -> None:
    assert client.connect(max_retries=1)
    client.publish_state("t1", {"value": 1}, retain=False)
    witness.wait_for(f"{PREFIX}/devices/t1/state/value")
    assert witness.retained(f"{PREFIX}/devices/#") == {}


def test_events_errors_telemetry_and_discoveries_go_to_their_topics(
    witness: Witness, client: MQTTClient
) -> None:
    assert client.connect(max_retries=1)
    client.publish_event("m1", "motion_detected", {"zone": 2})
    client.publish_error("m1", "READ_TIMEOUT", "no answer", "warning", {"retry_in_s": 5})
    client.publish_telemetry("m1", {"reads": 3})
    client.publish_discovered([{"device_id": "m1"}])

    def body(topic: str) -> dict[str, Any]:
        message = witness.wait_for(topic)
        found: dict[str, Any] = json.loads(message.payload)
        assert found.pop("timestamp")
        assert not message.retain
        return found

    event = {"event": "motion_detected", "data": {"zone": 2}}
    assert body(f"{PREFIX}/devices/m1/events") == event
    assert body("IoT2mqtt/v1/global/events") == event | {"source": "hub_m1"}
    error = {"error_code": "READ_TIMEOUT", "message": "no answer", "severity": "warning", "retry_in_s": 5}
    assert body(f"{PREFIX}/devices/m1/error") == error
    assert body(f"{PREFIX}/devices/m1/telemetry") == {"metrics": {"reads": 3}}
    assert body(f"{PREFIX}/discovered") == {"devices": [{"device_id": "m1"}]}


def test_what_is_published_while_disconnected_is_dropped_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert WARNING_INTERVAL_S >= 10
    client = MQTTClient("hub", host="127.0.0.1", port=free_port())
    for number in range(5):
        client.publish(f"{PREFIX}/out", number)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"not connected: 1 messages dropped, the last one for {PREFIX}/out"]


def test_a_command_is_sent_and_its_response_found(witness: Witness, client: MQTTClient) -> None:
    assert client.connect(max_retries=1)
    called: list[Any] = []
    command_id = client.send_command("lamp", {"on": True}, timeout=2.5, callback=called.append)
    command = json.loads(witness.wait_for(f"{PREFIX}/devices/lamp/cmd").payload)
    assert datetime.fromisoformat(command.pop("timestamp")).tzinfo is not None
    assert command == {"id": command_id, "values": {"on": True}, "timeout": 2500}
    response = {"cmd_id": command_id, "status": "success"}
    witness.publish(f"{PREFIX}/devices/lamp/cmd/response", json.dumps(response))
    assert client.wait_for_response(command_id, 30) == response
    eventually(lambda: called == [response])


def test_a_response_after_its_time_to_live_is_dropped(broker: Mosquitto, witness: Witness) -> None:
    client = MQTTClient("hub", host="127.0.0.1", port=broker.port, response_ttl=0)
    called: list[Any] = []
    seen: list[Any] = []
    client.subscribe("devices/+/cmd/response", lambda _topic, payload: seen.append(payload))
    assert client.connect(max_retries=1)
    command_id = client.send_command("lamp", {"on": True}, callback=called.append)
    response = {"cmd_id": command_id, "status": "success"}
    witness.publish(f"{PREFIX}/devices/lamp/cmd/response", json.dumps(response))
    eventually(lambda: seen == [response])
    assert called == []
    assert client.wait_for_response(command_id, 0.05) is None
    client.disconnect()


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_HOST", "broker.example")
    monkeypatch.setenv("MQTT_PORT", "8883")
    monkeypatch.setenv("MQTT_BASE_TOPIC", "Home")
    monkeypatch.setenv("MQTT_CLIENT_PREFIX", "pre")
    monkeypatch.setenv("MQTT_KEEPALIVE", "15")
    monkeypatch.setenv("MQTT_USERNAME", "user")
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    client = MQTTClient("hub", host="127.0.0.1")
    assert (client.host, client.port, client.base_topic, client.keepalive) == ("127.0.0.1", 8883, "Home", 15)
    assert (client.username, client.password) == ("user", "secret")
    assert client.client._client_id == b"pre_hub"
    assert client.client.will_topic == "Home/v1/instances/hub/status"


def test_keepalive_may_be_set_until_connect(broker: Mosquitto, client: MQTTClient) -> None:
    client.keepalive = 7
    assert client.connect(max_retries=1)
    assert "as iot2mqtt_hub (p2, c1, k7)" in broker.log


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_is_set_on_the_paho_client_before_connect(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    tls_port = free_port()
    listener = [f"listener {tls_port} 127.0.0.1", f"certfile {cert}", f"keyfile {key}"]
    with mosquitto(config_lines=listener) as broker, Witness(broker.port) as witness:
        trusting = MQTTClient("hub", host="127.0.0.1", port=tls_port)
        trusting.client.tls_set(ca_certs=str(cert))
        assert trusting.connect(max_retries=1)
        assert witness.wait_for(STATUS).payload == b"online"
        trusting.disconnect()
        wary = MQTTClient("wary", host="127.0.0.1", port=tls_port)
        wary.client.tls_set()  # knows the public authorities only
        assert wary.connect(max_retries=1) is False
