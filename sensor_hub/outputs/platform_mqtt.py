"""MQTT through the platform's client library, whichever is mounted: the bundled one or the platform's own.

What the platform's client lacks is done here, on the paho client it wraps: `online` after every reconnect once
the subscriptions are acknowledged, keepalive and TLS, payloads as bytes, the retain flag, and callbacks that
only enqueue, so that its network thread never waits for a device.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

from sensor_hub import logs
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.base import Connected, Disconnected, Event, Message, Request, Retained
from sensor_hub.outputs.topics import REQUEST_FILTERS, RETAINED_FILTERS, Topics
from shared.mqtt_client import MQTTClient

log = logs.get(__name__)

RETRY_S = 5
MAX_RETRY_S = 30
GOODBYE_S = 1.5


class PlatformMqtt:
    """The MQTT output. See `outputs.base.Output`."""

    def __init__(self, hub: HubConfig) -> None:
        """Prepare the client; connect to nothing yet."""
        mqtt = hub.mqtt
        self._mqtt = mqtt
        self._topics = Topics(mqtt.base_topic, hub.instance_id)
        self._client = MQTTClient(
            hub.instance_id,
            base_topic=mqtt.base_topic,
            host=mqtt.host,
            port=mqtt.port,
            username=mqtt.username,
            password=mqtt.password,
            qos=mqtt.qos,
            retain_state=mqtt.retain,
        )
        self._paho = self._client.client
        self._take: Callable[[Event], None] = lambda _: None
        self._connected = False
        self._stopping = threading.Event()
        self._own_subscribe: int | None = None
        self._asked_retained = False
        self._last_reason = ""

    @property
    def connected(self) -> bool:
        """Subscribed and announced."""
        return self._connected

    def start(self, take: Callable[[Event], None]) -> None:
        """Connect in the background; `take` is called on paho's thread."""
        self._take = take
        for topic in REQUEST_FILTERS:
            # Entered before connect(), so that the client subscribes too; the messages come to us instead.
            self._client.subscriptions[f"{self._topics.prefix}/{topic}"] = lambda *_: None
        self._chain("on_connect", self._on_connect)
        self._chain("on_disconnect", self._on_disconnect)
        self._chain("on_subscribe", self._on_subscribe)
        self._use_keepalive()
        self._paho.reconnect_delay_set(1, MAX_RETRY_S)
        self._paho.will_set(self._topics.status, "offline", qos=1, retain=True)
        threading.Thread(target=self._connect, name="mqtt-connect", daemon=True).start()

    def publish(self, message: Message) -> None:
        """Queue it with the client."""
        self._client.publish(message.topic, message.payload, retain=message.retain)

    def forget_retained(self) -> None:
        """Unsubscribe from our own retained topics."""
        self._asked_retained = True
        if self._connected:
            self._paho.unsubscribe([f"{self._topics.prefix}/{topic}" for topic in RETAINED_FILTERS])

    def stop(self) -> None:
        """Publish `offline`, wait for its acknowledgement a moment, disconnect."""
        self._stopping.set()
        if self._connected:
            info = self._paho.publish(self._topics.status, "offline", qos=1, retain=True)
            try:
                info.wait_for_publish(GOODBYE_S)
            except (RuntimeError, ValueError) as error:
                log.warning("offline was not published", reason=str(error))
        self._connected = False
        goodbye = threading.Thread(target=self._client.disconnect, name="mqtt-disconnect", daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE_S)

    # -- connecting ---------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Until the first connection stands; after that paho reconnects by itself."""
        while not self._stopping.is_set():
            try:
                self._use_tls()
                if self._client.connect(retry_interval=RETRY_S):
                    return
            except (OSError, ssl.SSLError, ValueError) as error:
                self._tell("no connection to the broker", str(error))
            self._stopping.wait(MAX_RETRY_S)

    def _use_tls(self) -> None:
        mqtt = self._mqtt
        if mqtt.tls and self._paho._ssl_context is None:  # paho refuses a second tls_set
            self._paho.tls_set(
                ca_certs=str(mqtt.ca_cert) if mqtt.ca_cert else None,
                certfile=str(mqtt.client_cert) if mqtt.client_cert else None,
                keyfile=str(mqtt.client_key) if mqtt.client_key else None,
            )

    def _use_keepalive(self) -> None:
        """The platform's client has 60 s built in where it calls paho's connect."""
        connect, keepalive_s = self._paho.connect, self._mqtt.keepalive_s

        def connect_with_keepalive(host: str, port: int = 1883, *_: Any, **__: Any) -> Any:
            return connect(host, port, keepalive_s)

        self._paho.connect = connect_with_keepalive  # type: ignore[method-assign]

    def _chain(self, name: str, ours: Callable[..., None]) -> None:
        """Call the client's own callback first, then ours; both callback versions of paho pass through."""
        theirs = getattr(self._paho, name)

        def both(*args: Any) -> None:
            if theirs is not None:
                theirs(*args)
            ours(*args)

        setattr(self._paho, name, both)

    # -- paho's thread ------------------------------------------------------------------------------------------

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, *_: Any) -> None:
        if getattr(reason, "is_failure", reason != 0):
            self._tell("the broker refuses the connection", str(reason))
            return
        for topic in REQUEST_FILTERS:
            self._paho.message_callback_add(f"{self._topics.prefix}/{topic}", self._on_request)
        wanted = [(f"{self._topics.prefix}/{topic}", 1) for topic in REQUEST_FILTERS]
        self._own_subscribe = self._paho.subscribe(wanted)[1]

    def _on_subscribe(self, _client: Any, _userdata: Any, mid: int, *_: Any) -> None:
        if mid != self._own_subscribe:
            return
        self._own_subscribe = None
        self._connected, self._last_reason = True, ""
        self._paho.publish(self._topics.status, "online", qos=1, retain=True)
        if not self._asked_retained:
            for topic in RETAINED_FILTERS:
                self._paho.message_callback_add(f"{self._topics.prefix}/{topic}", self._on_retained)
            self._paho.subscribe([(f"{self._topics.prefix}/{topic}", 0) for topic in RETAINED_FILTERS])
        log.info("connected to the broker", host=self._mqtt.host, port=self._mqtt.port)
        self._take(Connected())

    def _on_disconnect(self, _client: Any, _userdata: Any, *reason: Any) -> None:
        if self._connected:
            self._connected = False
            text = str(reason[1] if len(reason) > 1 else reason[0])
            if not self._stopping.is_set():
                log.warning("connection to the broker lost", reason=text)
            self._take(Disconnected(text))

    def _on_request(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._take(Request(self._below(message.topic), bytes(message.payload), bool(message.retain)))

    def _on_retained(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.retain and message.payload:
            self._take(Retained(self._below(message.topic)))

    def _below(self, topic: str) -> str:
        return topic.removeprefix(self._topics.prefix + "/")

    def _tell(self, event: str, reason: str) -> None:
        """Once per reason: a broker that is away for a night is one line."""
        if reason != self._last_reason:
            self._last_reason = reason
            log.error(event, host=self._mqtt.host, port=self._mqtt.port, reason=reason)
