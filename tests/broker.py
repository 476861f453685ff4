"""A real mosquitto for tests, and a second MQTT client as witness of what it saw."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from tests.support import eventually
from tests.support import free_port as free_port

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/homebrew/sbin"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SYSTEM_PATH)
NO_MOSQUITTO = "mosquitto is not installed"  # reason for a skip


class Mosquitto:
    """One broker process on a loopback port; stop, start, kill and freeze it at will."""

    def __init__(
        self, directory: Path, port: int | None, config_lines: Sequence[str], persistence: bool
    ) -> None:
        """Write the configuration into `directory`; a port of None is any free one."""
        self.directory = directory
        self.port = port or free_port()
        self._config_lines = tuple(config_lines)
        self._persistence = persistence
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that the broker has logged so far."""
        return (self.directory / "mosquitto.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start on the same port as before and return when connections are accepted."""
        if MOSQUITTO is None:
            raise RuntimeError(NO_MOSQUITTO)
        config = self.directory / "mosquitto.conf"
        config.write_text(self._config(), encoding="utf-8")
        with (self.directory / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-v", "-c", str(config)], stdout=log, stderr=log)
        eventually(self._accepts, 60)

    def stop(self) -> None:
        """End in good order: sessions are closed, retained messages saved if persistent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, as a power cut does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Answer nothing more, without closing a connection."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the broker was not started"
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(30)  # it may have much to save
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def _accepts(self) -> bool:
        if self._running().poll() is not None:
            raise RuntimeError(f"mosquitto ended with {self._running().returncode}:\n{self.log}")
        return accepts(self.port)

    def _config(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",  # else a mosquitto started by root cannot read this directory
            "max_queued_messages 0",
            f"persistence {'true' if self._persistence else 'false'}",
            f"persistence_location {self.directory}/",
        ]
        if not any(line.startswith("allow_anonymous") for line in self._config_lines):
            lines.append("allow_anonymous true")
        return "\n".join([*lines, *self._config_lines, ""])


@contextmanager
def mosquitto(
    port: int | None = None, *, config_lines: Sequence[str] = (), persistence: bool = False
) -> Iterator[Mosquitto]:
    """A running broker in its own temporary directory; gone at the end, with all it stored."""
    with tempfile.TemporaryDirectory(prefix="mosquitto-") as directory:
        broker = Mosquitto(Path(directory), port, config_lines, persistence)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


def password_file(path: Path, users: Mapping[str, str]) -> Path:
    """Write `users` (name -> password) as mosquitto's `password_file`; return `path`."""
    tool = shutil.which("mosquitto_passwd") or shutil.which("mosquitto_passwd", path=_SYSTEM_PATH)
    assert tool is not None, "mosquitto_passwd is not installed"
    path.write_text("".join(f"{name}:{password}\n" for name, password in users.items()), encoding="utf-8")
    path.chmod(0o600)
    subprocess.run([tool, "-U", str(path)], check=True)
    return path


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the witness saw it; `time_s` is monotonic."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    time_s: float


class Witness:
    """A client that subscribes to everything (again after each reconnect) and remembers it in order."""

    def __init__(self, port: int, *, topic_filter: str = "#", username: str = "", password: str = "") -> None:
        """Connect to the broker on loopback and return when the subscription is acknowledged."""
        self.port = port
        self.messages: list[Message] = []
        self._login = (username, password) if username else None
        self._arrived = threading.Condition()
        self.client = self._connected([topic_filter, "witness/#"], self._on_message, qos=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        """Publish and wait until the broker has it (until it is sent, for QoS 0)."""
        self.client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(30)

    def seen(
        self, topic_or_predicate: str | Callable[[Message], bool], *, after_s: float = 0.0
    ) -> list[Message]:
        """What has arrived so far: by topic filter or predicate, later than the monotonic time `after_s`."""
        matches = _matcher(topic_or_predicate)
        with self._arrived:
            return [message for message in self.messages if message.time_s > after_s and matches(message)]

    def wait_for(
        self,
        topic_or_predicate: str | Callable[[Message], bool],
        within_s: float = 30.0,
        *,
        after_s: float = 0.0,
    ) -> Message:
        """The first such message, already here or yet to come; AssertionError after `within_s`."""
        deadline_s = time.monotonic() + within_s
        with self._arrived:
            while not (found := self.seen(topic_or_predicate, after_s=after_s)):
                if not self._arrived.wait(max(0.0, deadline_s - time.monotonic())):
                    last = [(message.topic, message.payload) for message in self.messages[-5:]]
                    raise AssertionError(f"no {topic_or_predicate!r} within {within_s} s; last were {last}")
        return found[0]

    def retained(self, topic_filter: str = "#") -> dict[str, bytes]:
        """What the broker retains now, topic -> payload, asked over a connection of its own."""
        found: dict[str, bytes] = {}
        marker, complete = f"witness/{uuid.uuid4()}", threading.Event()

        def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
            if message.topic == marker:
                complete.set()
            elif message.retain:
                found[message.topic] = bytes(message.payload)

        client = self._connected([topic_filter, marker], on_message, qos=0)
        try:
            client.publish(marker, b"", qos=0)  # comes back after all that the subscription brought
            assert complete.wait(30), "the broker did not send the marker back"
        finally:
            client.disconnect()
            client.loop_stop()
        return found

    def _connected(
        self,
        topics: Sequence[str],
        on_message: Callable[[mqtt.Client, Any, mqtt.MQTTMessage], None],
        qos: int,
    ) -> mqtt.Client:
        subscribed = threading.Event()

        def on_connect(client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
            if not reason.is_failure:
                client.subscribe([(topic, qos) for topic in topics])

        def on_subscribe(_client: Any, _data: Any, _mid: int, _reasons: Any, _props: Any) -> None:
            subscribed.set()

        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
        client.reconnect_delay_set(1, 1)
        if self._login:
            client.username_pw_set(*self._login)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert subscribed.wait(30), "the witness was not subscribed within 30 s"
        return client

    def wait_until_back(self, within_s: float = 30.0) -> None:
        """After the broker was away: return when the witness is subscribed again."""
        marker = f"witness/{uuid.uuid4()}"
        self.client.publish(marker, b"", qos=1)  # paho sends it (again) after the next connection
        self.wait_for(marker, within_s)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        seen = Message(message.topic, bytes(message.payload), message.qos, message.retain, time.monotonic())
        with self._arrived:
            self.messages.append(seen)
            self._arrived.notify_all()


def _matcher(topic_or_predicate: str | Callable[[Message], bool]) -> Callable[[Message], bool]:
    if isinstance(topic_or_predicate, str):
        return lambda message: mqtt.topic_matches_sub(topic_or_predicate, message.topic)
    return topic_or_predicate
