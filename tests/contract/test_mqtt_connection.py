"""`status`, Last Will, reconnecting and what is said again then (contract, sections 3 and 4)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from shared.mqtt_client import MQTTClient
from tests.broker import MOSQUITTO, NO_MOSQUITTO, free_port, mosquitto, password_file
from tests.contract.bridge import Hub, running_hub
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line or "trace=" in line]


def broker_log(hub: Hub) -> str:
    assert hub.broker is not None
    return hub.broker.log


def status(hub: Hub) -> bytes | None:
    return hub.retained("status").get("status")


def test_online_comes_with_qos_1_and_is_retained(client: str) -> None:
    with running_hub(client) as hub:
        message = hub.witness.wait_for(hub.topic("status"))
        assert (message.payload, message.qos) == (b"online", 1)
        eventually(lambda: status(hub) == b"online")


def test_online_is_said_when_requests_are_subscribed_to(client: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        log = hub.broker.log
        wanted = [f"{hub.prefix}/{rest}" for rest in ("devices/+/cmd", "devices/+/get", "groups/+/cmd")]
        assert all(f"{topic} (QoS 1)" in log for topic in wanted)
        acknowledged = log.index(f"Sending SUBACK to iot2mqtt_{hub.instance_id}")
        online = log.rindex(f"'{hub.topic('status')}', ... (6 bytes))", 0, log.index("meta/devices_list"))
        assert acknowledged < online


def test_a_killed_bridge_leaves_its_last_will(client: str) -> None:
    with running_hub(client) as hub:
        hub.end_bridge(signal.SIGKILL)
        assert hub.next("status", lambda word: word == "offline") == "offline"
        eventually(lambda: status(hub) == b"offline")
        hub.start_bridge()
        hub.online()
        assert eventually(lambda: status(hub) == b"online")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_bridge_says_offline_itself_and_exits_with_0(client: str, how: signal.Signals) -> None:
    with running_hub(client) as hub:
        assert hub.end_bridge(how) == 0
        eventually(lambda: status(hub) == b"offline")
        eventually(lambda: f"Received DISCONNECT from iot2mqtt_{hub.instance_id}" in broker_log(hub))
        assert errors(hub.log) == []
        assert hub.log.splitlines()[-1].endswith("stopped")


def test_a_bridge_stops_in_time_when_the_broker_answers_nothing(client: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        hub.broker.freeze()
        started = time.monotonic()
        code = hub.end_bridge()
        took_s = time.monotonic() - started
        hub.broker.thaw()
        assert code == 0
        assert took_s < 15  # at most 4 s of waiting, and what a slow machine needs beside that
        eventually(lambda: status(hub) == b"offline")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_a_broker_that_lost_everything_all_is_said_again(client: str, end: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        hub.settled()
        mark = hub.now()
        hub.http.status["flaky"] = 500  # offline by then, and its last value is still to be had
        hub.next("devices/flaky/availability", lambda word: word == "offline", mark)
        hub.next("meta/devices_list", after_s=mark)
        before = hub.retained()
        getattr(hub.broker, end)()
        eventually(lambda: "connection to the broker lost" in hub.log)
        hub.broker.start()
        hub.witness.wait_until_back()
        eventually(lambda: hub.retained().keys() == before.keys(), 60)
        after = hub.retained()
        assert after["status"] == b"online"
        assert after["devices/flaky/availability"] == b"offline"
        same = [topic for topic in before if topic.startswith("devices/") and "/state/" in topic]
        same = [topic for topic in same if not topic.endswith("/quality")]  # a busy machine changes some
        assert {topic: after[topic] for topic in same} == {topic: before[topic] for topic in same}
        assert after["devices/flaky/state"] == before["devices/flaky/state"]
        assert hub.command("lamp", {"on": True})["status"] == "success"
        lost = [line for line in hub.log.splitlines() if "lost" in line]
        assert len(lost) == 1
        assert errors(hub.log) == []


def test_a_bridge_waits_for_a_broker_that_comes_later(client: str) -> None:
    port = free_port()
    with mosquitto(port) as first, running_hub(client, port=port, start=False) as hub:
        first.stop()
        hub.start_bridge()
        refused = eventually(lambda: [line for line in hub.log.splitlines() if "no connection" in line])
        assert len(refused) == 1
        assert f"port={port}" in refused[0]
        first.start()
        hub.witness.wait_until_back()
        assert hub.next("status", within_s=60) == "online"
        assert hub.command("lamp", {"on": True})["status"] == "success"


def test_a_bridge_is_not_online_before_the_aggregator_answers(client: str) -> None:
    with running_hub(client, start=False) as hub:
        hub.services.stop("state-aggregator")
        hub.start_bridge()
        eventually(lambda: "waiting for the state-aggregator" in hub.log)
        assert status(hub) is None
        hub.services.start("state-aggregator")
        assert hub.next("status", within_s=60) == "online"


def test_a_first_reading_with_motion_is_an_event(client: str) -> None:
    with running_hub(client, start=False) as hub:
        hub.http.values["yard"]["motion_detected"] = True
        eventually(lambda: hub.http.reads["yard"] > 3)
        hub.start_bridge()
        assert hub.next("devices/yard/events", within_s=60)["event"] == "motion_detected"


def test_motion_while_the_broker_was_away_is_an_event_afterwards(client: str) -> None:
    with running_hub(client) as hub:
        assert hub.broker is not None
        hub.broker.stop()
        eventually(lambda: "connection to the broker lost" in hub.log)
        reads = hub.http.reads["yard"]
        hub.http.values["yard"]["motion_detected"] = True
        eventually(lambda: hub.http.reads["yard"] > reads + 3)
        assert hub.topic("devices/yard/events") not in broker_log(hub)
        hub.broker.start()  # the bridge may be back before the witness, so the broker is asked
        eventually(lambda: f"'{hub.topic('devices/yard/events')}'" in broker_log(hub), 60)
        assert "motion detected" in hub.log


def test_a_wrong_password_is_one_clear_line_and_no_crash(client: str, tmp_path: Path) -> None:
    users = password_file(tmp_path / "users", {"hub": "right", "witness": "w"})
    lines = ("allow_anonymous false", f"password_file {users}")
    with running_hub(
        client,
        start=False,
        environ={"MQTT_USERNAME": "hub", "MQTT_PASSWORD": "wr0ng"},
        broker_lines=lines,
        witness_login={"username": "witness", "password": "w"},
    ) as hub:
        hub.start_bridge()
        assert hub.bridge is not None
        eventually(lambda: broker_log(hub).count("Sending CONNACK to 127.0.0.1 (0, 5)") >= 2, 60)
        assert hub.bridge.poll() is None
        assert len(errors(hub.log)) == 1
        assert "the broker refuses the connection" in errors(hub.log)[0]
        assert "not authori" in errors(hub.log)[0].lower()
        assert "wr0ng" not in hub.log
        hub.end_bridge()
        hub.environ["MQTT_PASSWORD"] = "right"
        hub.start_bridge()
        hub.online()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, and a server's certificate for 127.0.0.1 signed by it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca",
        f"req {key} -keyout server.key -out server.csr -subj /CN=broker",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def tls_lines(folder: Path, port: int) -> tuple[str, ...]:
    return (
        f"listener {port} 127.0.0.1",
        f"cafile {folder}/ca.crt",
        f"certfile {folder}/server.crt",
        f"keyfile {folder}/server.key",
    )


def test_tls_with_our_own_authority(client: str, certificates: Path) -> None:
    port = free_port()
    environ = {"MQTT_PORT": str(port), "MQTT_TLS": "true", "MQTT_CA_CERT": str(certificates / "ca.crt")}
    with running_hub(client, broker_lines=tls_lines(certificates, port), environ=environ) as hub:
        assert hub.command("lamp", {"on": True})["status"] == "success"
        assert hub.broker is not None
        hub.broker.stop()
        eventually(lambda: "connection to the broker lost" in hub.log)
        hub.broker.start()
        hub.witness.wait_until_back()
        eventually(lambda: hub.log.count("connected to the broker") >= 2, 60)
        eventually(lambda: status(hub) == b"online")


def test_an_unknown_authority_is_one_clear_line(client: str, certificates: Path) -> None:
    port = free_port()
    environ = {"MQTT_PORT": str(port), "MQTT_TLS": "true"}
    with running_hub(client, broker_lines=tls_lines(certificates, port), environ=environ, start=False) as hub:
        hub.start_bridge()
        found = eventually(lambda: errors(hub.log))
        assert len(found) == 1
        assert "certificate verify failed" in found[0]
        assert hub.end_bridge() == 0


def test_topics_of_devices_that_left_the_configuration_are_cleared(client: str) -> None:
    with running_hub(client, start=False) as hub:
        gone = ["devices/gone/state", "devices/gone/state/value", "devices/gone/availability"]
        gone += ["devices/off/state", "devices/off/state/value"]
        for rest in gone:
            hub.send(rest, "1", retain=True)
        hub.send("devices/plain/state", "old", retain=True)
        stranger = hub.prefix.replace(hub.instance_id, "other") + "/devices/gone/state"
        hub.witness.publish(stranger, "kept", retain=True)
        hub.start_bridge()
        hub.online()
        eventually(lambda: not [rest for rest in hub.retained("devices/#") if rest in gone])
        plain = "devices/plain/state"  # it may not have been read until now
        eventually(lambda: hub.retained(plain)[plain] != b"old")
        assert json.loads(hub.retained(plain)[plain])["device_id"] == "plain"
        assert hub.retained("devices/off/#") == {"devices/off/availability": b"offline"}
        assert hub.witness.retained(stranger) == {stranger: b"kept"}


def test_a_retained_property_that_a_device_has_no_more_is_cleared(client: str) -> None:
    with running_hub(client, start=False) as hub:
        gone = ["devices/plain/state/humidity", "devices/cellar/state/setpoint"]
        for rest in gone:
            hub.send(rest, "1", retain=True)
        hub.start_bridge()
        hub.online()
        eventually(lambda: not [rest for rest in hub.retained("devices/#") if rest in gone])
        eventually(lambda: hub.retained("devices/plain/#").get("devices/plain/state/value") == b"1")


def test_leftover_topics_are_one_line_in_the_log(client: str) -> None:
    with running_hub(client, start=False) as hub:
        for number in range(20):
            hub.send(f"devices/gone{number}/state", "1", retain=True)
        hub.start_bridge()
        found = eventually(lambda: [line for line in hub.log.splitlines() if "leftover" in line], 60)
        assert len(found) == 1
        assert "count=20" in found[0]


def test_keepalive_and_client_id_are_the_configured_ones(client: str) -> None:
    environ = {"MQTT_KEEPALIVE": "7", "MQTT_CLIENT_PREFIX": "house"}
    with running_hub(client, environ=environ) as hub:
        assert hub.broker is not None
        assert f"as house_{hub.instance_id} (p2, c1, k7)" in hub.broker.log


def test_a_broker_that_answers_nothing_any_more_is_noticed(client: str) -> None:
    with running_hub(client, environ={"MQTT_KEEPALIVE": "1"}) as hub:
        assert hub.broker is not None
        hub.broker.freeze()
        eventually(lambda: "connection to the broker lost" in hub.log, 60)
        hub.broker.thaw()
        eventually(lambda: hub.log.count("connected to the broker") >= 2, 60)
        eventually(lambda: status(hub) == b"online")


def test_states_are_not_retained_when_told_so(client: str) -> None:
    with running_hub(client, environ={"MQTT_RETAIN": "false", "MQTT_QOS": "0"}) as hub:
        message = hub.witness.wait_for(hub.topic("devices/plain/state"))
        assert message.qos == 0
        found = hub.retained()
        assert not [rest for rest in found if "/state" in rest]
        assert found["status"] == b"online"
        assert found["devices/plain/availability"] == b"online"


def test_the_bundled_client_closes_without_an_error_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    with mosquitto() as broker:
        client = MQTTClient("hub", host="127.0.0.1", port=broker.port)
        for _ in range(2):
            assert client.connect(max_retries=1)
            client.disconnect()
    assert [record.getMessage() for record in caplog.records if record.name == "shared.mqtt_client"] == []
