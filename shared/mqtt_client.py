"""The MQTT client of the checkout, with the surface of the platform's client of the same name.

At run time the platform's own `shared/` hides this file; whoever uses it must work with either (contract,
section 4). Needs paho-mqtt and nothing else. Handlers and callbacks run on paho's network thread.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

logger = logging.getLogger(__name__)

Handler = Callable[[str, Any], None]

CONNECT_WAIT_S = 10.0  # from the TCP connection to the acknowledged subscriptions
OFFLINE_WAIT_S, STOP_WAIT_S = 2.0, 1.0
RECONNECT_MIN_S, RECONNECT_MAX_S = 1, 30
QUEUE_LIMIT = 50_000  # messages kept for a broker that takes none; paho numbers no more than 65,535
WARNING_INTERVAL_S = 60.0
RESPONSES = "devices/+/cmd/response"
NOT_PROPERTIES = frozenset({"timestamp", "sensor_id", "device_id"})
PROPERTY_NAME = str.maketrans("/+#", "___")


@dataclass(slots=True)
class _Pending:
    """A command that may still be answered."""

    sent_s: float
    callback: Callable[[Any], None] | None
    answered: threading.Event = field(default_factory=threading.Event)
    response: dict[str, Any] | None = None


class MQTTClient:
    """One instance's connection to the broker: announces itself, resubscribes and reconnects alone."""

    def __init__(
        self,
        instance_id: str,
        base_topic: str | None = None,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        qos: int = 1,
        retain_state: bool = True,
        response_ttl: float = 300,
    ) -> None:
        """Prepare the connection; what is not given comes from `MQTT_*` in the environment.

        `keepalive` (seconds) and TLS (through `client`) may be set until `connect`, and `announces` to False
        by who says `online` and `offline` itself.
        """
        env = os.environ
        self.instance_id = instance_id
        self.base_topic = base_topic or env.get("MQTT_BASE_TOPIC") or "IoT2mqtt"
        self.host = host or env.get("MQTT_HOST") or "localhost"
        self.port = port or int(env.get("MQTT_PORT") or 1883)
        self.username = username or env.get("MQTT_USERNAME") or None
        self.password = password or env.get("MQTT_PASSWORD") or None
        self.keepalive = int(env.get("MQTT_KEEPALIVE") or 60)
        self.qos = qos
        self.retain_state = retain_state
        self.response_ttl = response_ttl
        self.announces = True
        self.connected = False
        self.subscriptions: dict[str, Handler] = {}
        self._prefix = f"{self.base_topic}/v1/instances/{instance_id}"
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()
        self._asked: dict[int | None, Sequence[str]] = {}  # topics by message id of their SUBSCRIBE
        self._announce_mid: int | None = None
        self._online = threading.Event()
        self._settled = threading.Event()  # the attempt to connect has an outcome
        self._stopping = threading.Event()
        self._dropped = 0
        self._warned_s = -WARNING_INTERVAL_S
        self.client = self._make_client(f"{env.get('MQTT_CLIENT_PREFIX') or 'iot2mqtt'}_{instance_id}")

    def _make_client(self, client_id: str) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.suppress_exceptions = True  # paho logs what a callback raises; else its thread would end
        client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        client.max_queued_messages_set(QUEUE_LIMIT)
        client.will_set(f"{self._prefix}/status", "offline", qos=1, retain=True)
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        return client

    def connect(self, retry_interval: float = 5, max_retries: int | None = None) -> bool:
        """Block until subscribed and `online`; False after `max_retries` attempts or `disconnect()`."""
        self._stopping.clear()
        attempts = 0
        while not self._stopping.is_set():
            if self._try_to_connect():
                return True
            attempts += 1
            if max_retries is not None and attempts >= max_retries:
                break
            self._stopping.wait(retry_interval)
        return False

    def _try_to_connect(self) -> bool:
        self._settled.clear()
        self.client.enable_logger(logger)
        try:
            self.client.connect(self.host, self.port, keepalive=self.keepalive)
        except OSError as error:
            logger.warning("no connection to the broker %s:%s: %s", self.host, self.port, error)
            return False
        self.client.loop_start()
        self._settled.wait(CONNECT_WAIT_S)
        if self._online.is_set():
            return True
        if not self._settled.is_set():
            logger.warning("the broker %s:%s does not answer", self.host, self.port)
        self._stop_loop()
        return False

    def disconnect(self) -> None:
        """Publish `offline`, wait at most 2 s for its acknowledgement, and close."""
        self._stopping.set()
        if self.connected and self.announces:
            info = self.client.publish(f"{self._prefix}/status", "offline", qos=1, retain=True)
            try:
                info.wait_for_publish(OFFLINE_WAIT_S)
            except (RuntimeError, ValueError) as error:
                logger.warning("`offline` was not published: %s", error)
        self._settled.set()
        self._stop_loop()

    def _stop_loop(self) -> None:
        self.connected = False
        self._online.clear()
        self.client.disable_logger()  # paho's loop calls it an error that a closed connection is closed
        self.client.disconnect()
        # loop_stop() waits for ever for a broker that acknowledges nothing any more
        stopper = threading.Thread(target=self.client.loop_stop, name="mqtt-stop", daemon=True)
        stopper.start()
        stopper.join(STOP_WAIT_S)

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        if reason.is_failure:
            logger.error("the broker %s:%s refuses the connection: %s", self.host, self.port, reason)
            self._settled.set()
            return
        self.connected = True
        topics = list(self.subscriptions)
        self._asked.clear()
        if topics:
            self._announce_mid = client.subscribe([(topic, self.qos) for topic in topics])[1]
            self._asked[self._announce_mid] = topics
        else:
            self._announce()

    def _on_subscribe(
        self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _props: Any
    ) -> None:
        topics = self._asked.pop(mid, [])
        for topic, reason in zip(topics, reasons, strict=False):
            if reason.is_failure:
                logger.error("the broker refuses the subscription to %s: %s", topic, reason)
        if mid == self._announce_mid:
            self._announce()

    def _announce(self) -> None:
        self._announce_mid = None
        if self.announces:
            self.client.publish(f"{self._prefix}/status", "online", qos=1, retain=True)
        logger.info("online at the broker %s:%s", self.host, self.port)
        self._online.set()
        self._settled.set()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if self.connected and not self._stopping.is_set():
            logger.warning("connection to the broker %s:%s lost: %s", self.host, self.port, reason)
        self.connected = False
        self._online.clear()
        self._settled.set()

    def subscribe(self, topic_pattern: str, handler: Handler) -> None:
        """Call `handler(topic, payload)` for what arrives below the instance's prefix.

        The payload is parsed JSON, or else text; bytes that are no UTF-8 become U+FFFD.
        """
        topic = f"{self._prefix}/{topic_pattern}"
        self.subscriptions[topic] = handler
        if self.connected:
            self._asked[self.client.subscribe(topic, self.qos)[1]] = [topic]

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        topic, payload = message.topic, _parse(message.payload)
        if topic.endswith("/cmd/response") and isinstance(payload, dict):
            self._take_response(topic, payload)
        for pattern, handler in list(self.subscriptions.items()):
            if mqtt.topic_matches_sub(pattern, topic):
                _call(topic, handler, topic, payload)

    def _topic(self, device_id: str, leaf: str) -> str:
        return f"{self._prefix}/devices/{device_id}/{leaf}"

    def publish(self, topic: str, payload: Any, retain: bool = False) -> None:
        """Publish on a full topic: text and bytes as they are, all else as JSON; dropped while offline."""
        if not self.connected:
            self._warn_dropped(topic, "not connected")
            return
        info = self.client.publish(topic, _encode(payload), qos=self.qos, retain=retain)
        if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            self._warn_dropped(topic, f"{QUEUE_LIMIT} messages are waiting for the broker")

    def _warn_dropped(self, topic: str, reason: str) -> None:
        with self._lock:
            self._dropped += 1
            now_s = time.monotonic()
            if now_s - self._warned_s < WARNING_INTERVAL_S:
                return
            dropped, self._dropped, self._warned_s = self._dropped, 0, now_s
        logger.warning("%s: %d messages dropped, the last one for %s", reason, dropped, topic)

    def publish_state(self, device_id: str, state: Mapping[str, Any], retain: bool | None = None) -> None:
        """Publish a device's state, and each property on its own topic."""
        retain = self.retain_state if retain is None else retain
        topic = self._topic(device_id, "state")
        self.publish(topic, {"timestamp": _now(), "device_id": device_id, "state": dict(state)}, retain)
        for name, value in state.items():
            if name not in NOT_PROPERTIES:
                bare = '""' if value == "" else value
                self.publish(f"{topic}/{name.translate(PROPERTY_NAME)}", bare, retain)

    def publish_event(self, device_id: str, event: str, data: Any = None) -> None:
        """Publish an event of a device, for the instance and on the global event topic."""
        payload = {"timestamp": _now(), "event": event, "data": data}
        self.publish(self._topic(device_id, "events"), payload)
        source = {"source": f"{self.instance_id}_{device_id}"}
        self.publish(f"{self.base_topic}/v1/global/events", source | payload)

    def publish_error(
        self, device_id: str, error_code: str, message: str, severity: str = "error", retry_info: Any = None
    ) -> None:
        """Publish an error of a device; `severity` is info, warning, error or critical."""
        payload = {"timestamp": _now(), "error_code": error_code, "message": message, "severity": severity}
        self.publish(self._topic(device_id, "error"), payload | dict(retry_info or {}))

    def publish_telemetry(self, device_id: str, metrics: Mapping[str, Any]) -> None:
        """Publish counters and durations of a device."""
        self.publish(self._topic(device_id, "telemetry"), {"timestamp": _now(), "metrics": dict(metrics)})

    def publish_discovered(self, devices: Sequence[Any]) -> None:
        """Publish what a discovery found."""
        self.publish(f"{self._prefix}/discovered", {"timestamp": _now(), "devices": list(devices)})

    def send_command(
        self,
        device_id: str,
        command: Mapping[str, Any],
        timeout: float = 5.0,
        callback: Callable[[Any], None] | None = None,
    ) -> str:
        """Send `command` as the values for a device of this instance; return the command's id.

        `timeout` (seconds) goes with it; `callback(response)` is called when the answer comes.
        """
        command_id = str(uuid.uuid4())
        with self._lock:
            self._forget_old_commands()
            self._pending[command_id] = _Pending(time.monotonic(), callback)
        if f"{self._prefix}/{RESPONSES}" not in self.subscriptions:
            self.subscribe(RESPONSES, lambda _topic, _payload: None)
        payload = {"id": command_id, "timestamp": _now(), "values": dict(command)}
        self.publish(self._topic(device_id, "cmd"), payload | {"timeout": int(timeout * 1000)})
        return command_id

    def wait_for_response(self, cmd_id: str, timeout: float = 5.0) -> dict[str, Any] | None:
        """The answer to a sent command, or None after `timeout` seconds. Not for handlers: they block it."""
        pending = self._pending.get(cmd_id)
        if pending is None or not pending.answered.wait(timeout):
            logger.warning("no response to command %s within %s s", cmd_id, timeout)
            return None
        with self._lock:
            self._pending.pop(cmd_id, None)
        return pending.response

    def _take_response(self, topic: str, payload: dict[str, Any]) -> None:
        with self._lock:
            self._forget_old_commands()
            pending = self._pending.get(str(payload.get("cmd_id")))
        if pending is None or pending.answered.is_set():
            return
        pending.response = payload
        pending.answered.set()
        if pending.callback is not None:
            _call(topic, pending.callback, payload)

    def _forget_old_commands(self) -> None:
        oldest_s = time.monotonic() - self.response_ttl
        for command_id in [key for key, pending in self._pending.items() if pending.sent_s < oldest_s]:
            del self._pending[command_id]


def _call(topic: str, handler: Callable[..., None], *arguments: Any) -> None:
    try:
        handler(*arguments)
    except Exception:  # the border to foreign code: what it raises must not end the network thread
        logger.exception("the handler for %s failed", topic)


def _parse(payload: bytes | bytearray) -> Any:
    text = payload.decode("utf-8", errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _encode(payload: Any) -> bytes:
    if isinstance(payload, (bytes, bytearray)):
        return bytes(payload)
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False, default=str)
    return text.encode("utf-8", errors="replace")


def _now() -> str:
    return datetime.now().astimezone().isoformat()
