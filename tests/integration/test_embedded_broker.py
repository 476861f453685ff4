"""The embedded broker as MQTT clients see it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support import eventually, free_port

ROOT = Path(__file__).parents[2]
Message = tuple[str, bytes, int, bool]


class Server:
    """A broker process on a free port of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sensor_hub.embedded_broker", "--port", str(self.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        eventually(lambda: self.lines or self.process.poll() is not None, 60)
        assert f"mqtt-broker listening host=127.0.0.1 port={self.port}" in " ".join(self.lines[0].split())

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Return the exit code and the seconds it took."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        took_s = time.monotonic() - begin
        self._reader.join(30)
        return code, took_s


class Client:
    """A paho client that notes what it gets."""

    def __init__(
        self, server: Server, client_id: str = "", will: Message | None = None, keepalive: int = 60
    ) -> None:
        self.messages: list[Message] = []
        self.disconnects = 0
        self._acknowledged: set[int | None] = set()
        self.paho = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        if will is not None:
            self.paho.will_set(*will)
        self.paho.on_message = self._on_message
        self.paho.on_subscribe = self._on_subscribe
        self.paho.on_disconnect = self._on_disconnect
        self.paho.connect("127.0.0.1", server.port, keepalive)
        self.paho.loop_start()
        eventually(self.paho.is_connected)

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload), message.qos, message.retain))

    def _on_subscribe(self, _: mqtt.Client, __: Any, packet_id: int, *___: Any) -> None:
        self._acknowledged.add(packet_id)

    def _on_disconnect(self, *_: Any) -> None:
        self.disconnects += 1

    def subscribe(self, topic: str, qos: int = 1) -> Client:
        _, packet_id = self.paho.subscribe(topic, qos)
        eventually(lambda: packet_id in self._acknowledged)
        return self

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        self.paho.publish(topic, payload, qos, retain).wait_for_publish(10)

    def wait_for(self, count: int, within_s: float = 30) -> list[Message]:
        eventually(lambda: len(self.messages) >= count, within_s)
        return self.messages

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@contextlib.contextmanager
def running() -> Iterator[Server]:
    found = Server()
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.communicate()


@contextlib.contextmanager
def client_of(server: Server, *args: Any, **kwargs: Any) -> Iterator[Client]:
    client = Client(server, *args, **kwargs)
    try:
        yield client
    finally:
        client.close()


def run_client(server: Server, program: str) -> subprocess.Popen[bytes]:
    """Start a paho client in a process of its own; returns when it has printed a line."""
    head = f"""
        import os, sys, threading
        import paho.mqtt.client as mqtt
        pause = threading.Event().wait
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="other-process")
        port = {server.port}
    """
    arguments = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(program)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_arrives_at_each_qos(server: Server, qos: int) -> None:
    with client_of(server) as witness, client_of(server) as sender:
        witness.subscribe(f"qos/{qos}", qos)
        sender.publish(f"qos/{qos}", b"hello", qos)
        assert witness.wait_for(1) == [(f"qos/{qos}", b"hello", qos, False)]


def test_a_retained_message_comes_after_subscribing_and_an_empty_one_clears_it(server: Server) -> None:
    with client_of(server) as sender:
        sender.publish("kept/a", b"1", retain=True)
        sender.publish("kept/a", b"2", retain=True)
        with client_of(server) as witness:
            assert witness.subscribe("kept/#").wait_for(1) == [("kept/a", b"2", 1, True)]
            sender.publish("kept/a", b"", retain=True)
            assert witness.wait_for(2)[1] == ("kept/a", b"", 1, False)
        sender.publish("kept/b", b"mark", retain=True)
        with client_of(server) as witness:
            assert witness.subscribe("kept/#").wait_for(1) == [("kept/b", b"mark", 1, True)]
        sender.publish("kept/b", b"", retain=True)


def test_a_new_client_gets_no_retained_messages_of_other_clients_subscriptions(server: Server) -> None:
    with client_of(server) as other, client_of(server) as sender:
        other.subscribe("own/#")
        sender.publish("own/kept", b"1", retain=True)
        other.wait_for(1)
        with client_of(server) as witness:
            witness.subscribe("own/mark")
            sender.publish("own/mark", b"2")
            assert witness.wait_for(1) == [("own/mark", b"2", 1, False)]
        sender.publish("own/kept", b"", retain=True)


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("wild/+/state", ["wild/a/state"]),
        ("wild/a/#", ["wild/a", "wild/a/state", "wild/a/state/x"]),
        ("wild/+", ["wild/a"]),
        ("wild/a/state", ["wild/a/state"]),
    ],
)
def test_wildcards_match_the_levels_they_should(server: Server, pattern: str, matching: list[str]) -> None:
    with client_of(server) as witness, client_of(server) as sender:
        witness.subscribe(pattern)
        witness.subscribe("end")
        for topic in ("wild/a", "wild/a/state", "wild/a/state/x", "end"):
            sender.publish(topic, b"x")
        eventually(lambda: any(message[0] == "end" for message in witness.messages))
        assert [topic for topic, *_ in witness.messages] == [*matching, "end"]


def test_the_will_of_a_killed_client_is_sent_and_retained(server: Server) -> None:
    with client_of(server) as witness:
        witness.subscribe("will/status")
        process = run_client(
            server,
            """
            client.will_set("will/status", "offline", 1, True)
            client.connect("127.0.0.1", port)
            client.loop_start()
            client.publish("will/status", "online", 1, True).wait_for_publish()
            print("ready", flush=True)
            pause(60)
            """,
        )
        assert [payload for _, payload, *_ in witness.wait_for(1)] == [b"online"]
        process.kill()
        process.communicate()
        assert [payload for _, payload, *_ in witness.wait_for(2)] == [b"online", b"offline"]
        with client_of(server) as later:
            assert later.subscribe("will/status").wait_for(1) == [("will/status", b"offline", 1, True)]
        witness.publish("will/status", b"", retain=True)


def test_the_will_is_not_sent_after_a_clean_disconnect(server: Server) -> None:
    with client_of(server) as witness:
        witness.subscribe("clean/#")
        with client_of(server, will=("clean/will", b"gone", 1, False)) as leaving:
            leaving.publish("clean/mark", b"1")
        with client_of(server) as after:
            after.publish("clean/mark", b"2")
        assert [payload for _, payload, *_ in witness.wait_for(2)] == [b"1", b"2"]


def test_a_silent_client_is_gone_after_one_and_a_half_keepalives(server: Server) -> None:
    with client_of(server) as witness:
        witness.subscribe("silent/will")
        process = run_client(
            server,
            """
            client.will_set("silent/will", "gone", 1)
            client.connect("127.0.0.1", port, keepalive=1)
            client.loop_start()
            while not client.is_connected():
                pause(0.01)
            print("ready", flush=True)
            pause(60)
            """,
        )
        process.send_signal(signal.SIGSTOP)
        assert witness.wait_for(1)[0][1] == b"gone"
        process.kill()
        process.communicate()


def test_500_messages_at_once_arrive_complete_and_in_order(server: Server) -> None:
    with client_of(server) as witness, client_of(server) as sender:
        witness.subscribe("burst", 1)
        sent = [sender.paho.publish("burst", str(number), 1) for number in range(500)]
        received = witness.wait_for(500)
        assert [int(payload) for _, payload, *_ in received] == list(range(500))
        eventually(lambda: all(info.is_published() for info in sent))


@pytest.mark.parametrize("qos", [0, 1])
def test_nothing_is_lost_when_the_sender_disconnects_right_after_sending(server: Server, qos: int) -> None:
    lines = "".join(f"{number}\n" for number in range(300))
    command = ["mosquitto_pub", "-p", str(server.port), "-t", "leave", "-l", "-q", str(qos)]
    with client_of(server) as witness:
        witness.subscribe("leave", qos)
        subprocess.run(command, input=lines, text=True, check=True, timeout=60)
        assert [int(payload) for _, payload, *_ in witness.wait_for(300)] == list(range(300))


@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_client_sent_before_it_closed_without_reading_an_answer_counts(
    server: Server, qos: int
) -> None:
    will = b"\x00\x01w\x00\x04gone"
    connect = b"\x10\x16\x00\x04MQTT\x04\x06\x00\x3c\x00\x01c" + will
    messages = [
        bytes([0x30 | qos << 1, 5 + 2 * qos])
        + b"\x00\x01w"
        + number.to_bytes(2, "big") * qos
        + b"%02d" % number
        for number in range(1, 51)
    ]
    with client_of(server) as witness:
        witness.subscribe("w")
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(connect + b"".join(messages) + b"\xe0\x00")
        witness.wait_for(50)
        with client_of(server) as after:
            after.publish("w", b"51")
        received = [payload for _, payload, *_ in witness.wait_for(51)]
        assert received == [b"%02d" % number for number in range(1, 52)]  # and no will


def test_mosquitto_clients_get_along_with_it(server: Server) -> None:
    port = ["-p", str(server.port)]
    subprocess.run(
        ["mosquitto_pub", *port, "-t", "cli/a", "-m", "21.5", "-r", "-q", "2"], check=True, timeout=60
    )
    found = subprocess.run(
        ["mosquitto_sub", *port, "-t", "cli/+", "-C", "1", "-W", "30", "-F", "%t %p %r"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout == "cli/a 21.5 1\n"
    subprocess.run(["mosquitto_pub", *port, "-t", "cli/a", "-n", "-r"], check=True, timeout=60)


def test_a_client_id_in_use_closes_the_earlier_connection_and_the_later_one_works(server: Server) -> None:
    with client_of(server) as witness, client_of(server) as sender:
        witness.subscribe("twice/will")
        will = ("twice/will", b"first gone", 1, False)
        with client_of(server, "twice", will) as first:
            first.paho.reconnect_delay_set(60, 60)  # else the two would take turns
            first.subscribe("twice/x")
            with client_of(server, "twice") as second:
                assert witness.wait_for(1)[0][1] == b"first gone"
                eventually(lambda: not first.paho.is_connected())
                second.subscribe("twice/x")
                sender.publish("twice/x", b"1")
                assert second.wait_for(1) == [("twice/x", b"1", 1, False)]
                assert first.messages == []
                assert second.disconnects == 0


def test_a_client_that_leaves_cleanly_and_comes_right_back_sends_no_will(server: Server) -> None:
    with client_of(server) as witness:
        witness.subscribe("back/will")
        said = len(server.lines)
        for _ in range(30):
            Client(server, "back", ("back/will", b"gone", 1, False)).close()
        with client_of(server, "back") as last:
            last.publish("back/will", b"mark")
        assert witness.wait_for(1) == [("back/will", b"mark", 1, False)]
        assert server.lines[said:] == []


def test_unsubscribing_ends_the_delivery(server: Server) -> None:
    with client_of(server) as witness, client_of(server) as sender:
        witness.subscribe("un/a").subscribe("un/b")
        done = threading.Event()
        witness.paho.on_unsubscribe = lambda *_: done.set()
        witness.paho.unsubscribe("un/a")
        assert done.wait(30)
        sender.publish("un/a", b"1")
        sender.publish("un/b", b"2")
        assert witness.wait_for(1) == [("un/b", b"2", 1, False)]


def test_probes_and_nonsense_do_not_disturb_it(server: Server) -> None:
    said = len(server.lines)
    for data in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\x02ab",
        b"\x10\xff\xff\xff\xff\xff",
        b"\x00" * 50,
        b"\x30\x05",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as probe:
            probe.sendall(data)
    with client_of(server) as client:
        client.subscribe("still/there").publish("still/there", b"yes")
        client.wait_for(1)
    assert server.lines[said:] == []


def test_a_publish_to_a_topic_of_the_brokers_own_closes_the_connection(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as raw:
        raw.sendall(bytes.fromhex("100d00044d5154540402003c000161") + b"\x30\x05\x00\x02$ax")
        assert raw.recv(4) == bytes.fromhex("20020000")
        assert raw.recv(1) == b""


def test_300_reconnects_leave_nothing_behind(server: Server) -> None:
    process = psutil.Process(server.process.pid)

    def visit(count: int) -> None:
        for number in range(count):
            with socket.create_connection(("127.0.0.1", server.port), 30) as raw:
                raw.sendall(bytes.fromhex("100d00044d5154540402003c000162"))  # always the same client id
                assert raw.recv(4) == bytes.fromhex("20020000")
                if number % 2:
                    raw.sendall(bytes.fromhex("e000"))

    visit(50)
    eventually(lambda: process.num_fds() < 20)
    descriptors, memory = process.num_fds(), process.memory_info().rss
    visit(300)
    eventually(lambda: process.num_fds() <= descriptors)
    assert process.memory_info().rss - memory < 4_000_000


def test_it_writes_nothing_but_warnings_after_listening() -> None:
    with running() as server:
        with client_of(server) as witness, client_of(server) as sender:
            witness.subscribe("#")
            for number in range(20):
                sender.publish(f"quiet/{number}", b"x", number % 3, retain=True)
            witness.wait_for(20)
        assert server.stop()[0] == 0
        assert len(server.lines) == 1
        assert os.path.basename(server.lines[0].split()[2]) == "mqtt-broker"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_with_code_0_whatever_its_clients_do(number: int) -> None:
    with running() as server:
        stopped = run_client(
            server,
            """
            client.connect("127.0.0.1", port)
            client.subscribe("flood", 0)
            client.loop_start()
            while not client.is_connected():
                pause(0.01)
            print("ready", flush=True)
            pause(60)
            """,
        )
        stopped.send_signal(signal.SIGSTOP)
        with client_of(server) as sender:
            for _ in range(100):
                sender.publish("flood", b"x" * 100_000, 0)
            sender.publish("other", b"x", 1)  # acknowledged in order: the flood has been taken
            code, took_s = server.stop(number)
        stopped.kill()
        stopped.communicate()
        assert code == 0
        assert took_s < 10


def test_the_will_of_who_was_killed_right_before_the_broker_ends_is_sent() -> None:
    with running() as server, client_of(server) as witness:
        witness.paho.reconnect_delay_set(60, 60)
        witness.subscribe("late/will")
        process = run_client(
            server,
            """
            client.will_set("late/will", "gone", 1)
            client.connect("127.0.0.1", port)
            client.loop_start()
            while not client.is_connected():
                pause(0.01)
            print("ready", flush=True)
            pause(60)
            """,
        )
        server.process.send_signal(signal.SIGSTOP)  # it hears of both at once
        process.kill()
        process.communicate()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert witness.wait_for(1) == [("late/will", b"gone", 1, False)]
        assert server.process.wait(30) == 0


def test_a_taken_port_is_an_error_with_a_clear_message(server: Server) -> None:
    command = [sys.executable, "-m", "sensor_hub.embedded_broker", "--port", str(server.port)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"mqtt-broker cannot listen host=127.0.0.1 port={server.port}" in " ".join(second.stdout.split())
    assert "Address already in use" in second.stdout
    assert len(second.stdout.splitlines()) == 1
