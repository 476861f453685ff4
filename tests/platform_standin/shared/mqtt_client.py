"""A double of the platform's MQTT client: the same surface and the same defects, written for our tests.

It is foreign territory: its defects (contract, section 4) are its purpose and stay.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

logger = logging.getLogger(__name__)

Handler = Callable[[str, Any], None]


class MQTTClient:
    """Connects once with care; after that whatever paho does by itself."""

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
        response_ttl: int = 300,
    ) -> None:
        """Take `MQTT_*` from the environment for what is not given; there is no keepalive and no TLS."""
        self.instance_id = instance_id
        self.base_topic = base_topic or os.environ.get("MQTT_BASE_TOPIC", "IoT2mqtt")
        self.host = host or os.environ.get("MQTT_HOST", "localhost")
        self.port = port or int(os.environ.get("MQTT_PORT", "1883"))
        self.username = username or os.environ.get("MQTT_USERNAME")
        self.password = password or os.environ.get("MQTT_PASSWORD")
        self.qos = qos
        self.retain_state = retain_state
        self.response_ttl = response_ttl
        self.connected = False
        self.subscriptions: dict[str, Handler] = {}
        self._callbacks: dict[str, Callable[[Any], None] | None] = {}
        client_id = f"{os.environ.get('MQTT_CLIENT_PREFIX', 'iot2mqtt')}_{instance_id}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.client = mqtt.Client(CallbackAPIVersion.VERSION1, client_id=client_id)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        if self.username and self.password:
            self.client.username_pw_set(self.username, self.password)
        self.client.will_set(self._below("status"), "offline", qos=1, retain=True)

    def _below(self, rest: str) -> str:
        return f"{self.base_topic}/v1/instances/{self.instance_id}/{rest}"

    def connect(self, retry_interval: int = 5, max_retries: int | None = None) -> bool:
        """Defects: `online` only here; raises at the last failure; refused logins are tried for ever."""
        failures = 0
        while not self.connected:
            try:
                self.client.connect(self.host, self.port, keepalive=60)
            except OSError as error:
                logger.error("connect failed: %s", error)
                failures += 1
                if max_retries is not None and failures >= max_retries:
                    raise
                threading.Event().wait(retry_interval)
                continue
            self.client.loop_start()
            deadline_s = time.monotonic() + 10
            while not self.connected and time.monotonic() < deadline_s:
                threading.Event().wait(0.1)
        self.client.publish(self._below("status"), "online", qos=1, retain=True)
        return True

    def disconnect(self) -> None:
        """Defect: loop_stop() waits without limit for a broker that acknowledges nothing."""
        self.client.publish(self._below("status"), "offline", qos=1, retain=True)
        self.client.loop_stop()
        self.client.disconnect()
        self.connected = False

    def _on_connect(self, client: mqtt.Client, _userdata: Any, _flags: dict[str, int], rc: int) -> None:
        if rc != 0:
            logger.error("connection refused: %s", rc)
            return
        self.connected = True
        for topic in self.subscriptions:
            client.subscribe(topic, qos=self.qos)

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, rc: int) -> None:
        self.connected = False
        if rc != 0:
            logger.warning("disconnected: %s", rc)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self._dispatch(message.topic, message.payload)
        except Exception as error:  # defect: a payload that is no UTF-8 ends here, unseen by any handler
            logger.error("message not processed: %s", error)

    def _dispatch(self, topic: str, raw: bytes | bytearray) -> None:
        try:
            payload = json.loads(raw.decode())
        except ValueError:
            payload = raw.decode()
        if "/cmd/response" in topic and isinstance(payload, dict):
            callback = self._callbacks.pop(payload.get("cmd_id", ""), None)
            if callback is not None:
                callback(payload)
        for pattern, handler in self.subscriptions.items():
            if mqtt.topic_matches_sub(pattern, topic):
                try:
                    handler(topic, payload)
                except Exception as error:  # defect: what a handler raises is lost but for its text
                    logger.error("handler: %s", error)

    def subscribe(self, topic_pattern: str, handler: Handler) -> None:
        """Add a handler for topics below the instance's prefix."""
        topic = self._below(topic_pattern)
        self.subscriptions[topic] = handler
        if self.connected:
            self.client.subscribe(topic, qos=self.qos)

    def publish(self, topic: str, payload: Any, retain: bool = False) -> None:
        """Defects: dropped while disconnected; a boolean becomes `True`, None `None`."""
        if not self.connected:
            logger.warning("not connected, dropped: %s", topic)
            return
        if isinstance(payload, dict | list):
            payload = json.dumps(payload)
        elif not isinstance(payload, str | bytes):
            payload = str(payload)
        self.client.publish(topic, payload, qos=self.qos, retain=retain)

    def publish_state(self, device_id: str, state: dict[str, Any], retain: bool | None = None) -> None:
        """Publish the state and a topic for every key, whatever its name."""
        retain = self.retain_state if retain is None else retain
        topic = self._below(f"devices/{device_id}/state")
        self.publish(topic, {"timestamp": _now(), "device_id": device_id, "state": state}, retain)
        for key, value in state.items():
            self.publish(f"{topic}/{key}", value, retain)

    def publish_event(self, device_id: str, event: str, data: Any = None) -> None:
        """Publish an event, on the global topic too."""
        body = {"timestamp": _now(), "event": event, "data": data}
        self.publish(self._below(f"devices/{device_id}/events"), body)
        source = f"{self.instance_id}_{device_id}"
        self.publish(f"{self.base_topic}/v1/global/events", {"source": source, **body})

    def publish_error(
        self,
        device_id: str,
        error_code: str,
        message: str,
        severity: str = "error",
        retry_info: dict[str, Any] | None = None,
    ) -> None:
        """Publish an error."""
        body = {"timestamp": _now(), "error_code": error_code, "message": message, "severity": severity}
        self.publish(self._below(f"devices/{device_id}/error"), {**body, **(retry_info or {})})

    def publish_telemetry(self, device_id: str, metrics: dict[str, Any]) -> None:
        """Publish metrics."""
        self.publish(self._below(f"devices/{device_id}/telemetry"), {"timestamp": _now(), "metrics": metrics})

    def publish_discovered(self, devices: list[Any]) -> None:
        """Publish found devices."""
        self.publish(self._below("discovered"), {"timestamp": _now(), "devices": devices})

    def send_command(
        self,
        device_id: str,
        command: dict[str, Any],
        timeout: float = 5.0,
        callback: Callable[[Any], None] | None = None,
    ) -> str:
        """Defect: subscribes to no response; who wants one must subscribe first."""
        command_id = str(uuid.uuid4())
        self._callbacks[command_id] = callback
        body = {"id": command_id, "timestamp": _now(), "values": command, "timeout": int(timeout * 1000)}
        self.publish(self._below(f"devices/{device_id}/cmd"), body)
        return command_id

    def wait_for_response(self, cmd_id: str, timeout: float = 5.0) -> dict[str, Any] | None:
        """Defect: a response that came before this call is lost."""
        responses: queue.Queue[dict[str, Any]] = queue.Queue()
        if cmd_id in self._callbacks:
            self._callbacks[cmd_id] = responses.put
        try:
            return responses.get(timeout=timeout)
        except queue.Empty:
            return None


def _now() -> str:
    return datetime.now().isoformat()  # zone-less, as the platform's are
