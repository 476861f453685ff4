"""MQTT through the platform's client library, whichever is mounted: the bundled one or the platform's own.

What the platform's client lacks is done here, on the paho client it wraps: `online` after every reconnect once
the subscriptions are acknowledged, keepalive and TLS, payloads as bytes, the retain flag, whether a message was
taken, and callbacks that only enqueue, so that its network thread never waits for a device.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

from sensor_hub import logs
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.acknowledgements import Acknowledgements
from sensor_hub.outputs.base import Connected, Disconnected, Event, Heard, Message, Request, Retained
from sensor_hub.outputs.flapping import FIRST_PAUSE_S, Flapping
from sensor_hub.outputs.paho_parts import HandedOver, chain, hang_up, words
from sensor_hub.outputs.topics import REQUEST_FILTERS, RETAINED_FILTERS, Topics
from shared.mqtt_client import MQTTClient

log = logs.get(__name__)

RETRY_S = 5.0
MAX_RETRY_S = 30
GOODBYE_S = 1.5
QUEUE_LIMIT = 50_000  # messages that wait for the broker; paho numbers no more than 65,535
QUEUE_FOR_THE_PATIENT = 10_000  # so that events and answers find room beside states
SILENT_S = 20.0  # a broker that owes an answer for longer is not well


class PlatformMqtt:
    """The MQTT output. See `outputs.base.Output`."""

    name = "mqtt"

    def __init__(self, hub: HubConfig) -> None:
        """Prepare the client; connect to nothing yet."""
        self._mqtt = settings = hub.mqtt
        self._topics = Topics(settings.base_topic, hub.instance_id)
        self._client = MQTTClient(
            hub.instance_id,
            base_topic=settings.base_topic,
            host=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password,
            qos=settings.qos,
            retain_state=settings.retain,
        )
        self._paho = self._client.client
        self._take: Callable[[Event], None] = lambda _: None
        self._connected = False
        self._stopping = threading.Event()
        self._own_subscribe: int | None = None
        self._asked_retained = False
        self._listening: dict[str, None] = {}  # topic filters outside the instance
        self._has_tls = False
        self._client_id = f"{settings.client_prefix}_{hub.instance_id}"
        self._told, self._last_reason = False, ""
        self._why = ""  # there is no connection
        self._answered = self._accepted = False  # whether this attempt had its CONNACK, and a good one
        self._socket_error = ""  # what paho last met
        self._flapping = Flapping()
        self._acknowledgements, self._handed_over = Acknowledgements(), HandedOver()
        self._silent = False
        self._publishing = threading.local()  # whether paho took the message of this thread
        self._often = logs.OncePerMinute()
        logging.getLogger(MQTTClient.__module__).addFilter(self._lets_client_say)

    @property
    def connected(self) -> bool:
        """Subscribed and announced."""
        return self._connected

    def problem(self) -> str:
        """Why messages may not arrive. Asks a broker that has been quiet for an UNSUBACK, which harms nobody."""
        now = time.monotonic()
        if self._flapping.steady(now):
            log.info("connection to the broker is steady again")
        if self._flapping.now:
            return self._flapping_words()
        if not self._connected:
            return self._why
        if self._acknowledgements.asks(now):
            self._paho.unsubscribe(f"{self._topics.prefix}/sign-of-life")
        if self._acknowledgements.is_stuck(now):
            log.warning("a message is not acknowledged, it is sent again over a new connection")
            hang_up(self._paho)
        return self._silence(self._acknowledgements.silent_s(now))

    def _silence(self, silent_s: float) -> str:
        was_silent, self._silent = self._silent, silent_s > SILENT_S
        words = f"the broker has answered nothing for {silent_s:.0f} s" if self._silent else ""
        if self._silent and not was_silent:
            log.warning(words, host=self._mqtt.host, port=self._mqtt.port)
        elif was_silent and not self._silent:
            log.info("the broker answers again")
        return words

    def _flapping_words(self) -> str:
        return (
            f"the broker closes each connection again; is another client using the id {self._client_id!r}? "
            f"({self._why})"
        )

    def start(self, take: Callable[[Event], None]) -> None:
        """Connect in the background; `take` is called on paho's thread."""
        self._take = take
        for topic in REQUEST_FILTERS:
            # Entered before connect(), so that the client subscribes too; the messages come to us instead.
            self._client.subscriptions[f"{self._topics.prefix}/{topic}"] = lambda *_: None
        chain(self._paho, "on_connect", self._on_connect)
        chain(self._paho, "on_disconnect", self._on_disconnect, first=True)
        chain(self._paho, "on_subscribe", self._on_subscribe)
        chain(self._paho, "on_unsubscribe", lambda *_: self._acknowledgements.answered(time.monotonic()))
        chain(self._paho, "on_log", self._on_log)
        self._wrap_connect()
        self._wrap_publish()
        self._paho.max_queued_messages_set(QUEUE_LIMIT)
        self._paho.reconnect_delay_set(FIRST_PAUSE_S, MAX_RETRY_S)
        self._client.announces = False  # that is done here; the platform's client knows no such word
        self._paho.will_set(self._topics.status, "offline", qos=1, retain=True)
        threading.Thread(target=self._connect, name="mqtt-connect", daemon=True).start()

    def publish(self, message: Message) -> bool:
        """Queue it with the client."""
        if not self._connected:
            return self._drops("not connected, a message is dropped", message)
        if message.can_wait and self._acknowledgements.backlog(time.monotonic()) >= QUEUE_FOR_THE_PATIENT:
            return False
        self._publishing.taken = False
        self._client.publish(message.topic, message.payload, retain=message.retain)
        if not self._publishing.taken:
            return self._drops("the client does not take a message", message)
        return True

    def hand_over(self, message: Message) -> int | None:
        """With QoS 1, whatever MQTT_QOS says of states; paho keeps it, also without a connection."""
        if not self._connected:
            return None
        info = self._paho.publish(message.topic, message.payload.encode(), qos=1, retain=message.retain)
        return None if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE else self._handed_over.note(info)

    def confirms(self, number: int) -> bool:
        """For the thread that hands over."""
        return self._handed_over.confirms(number)

    def when_acknowledged(self, call: Callable[[int], None]) -> None:
        """At each PUBACK."""
        chain(self._paho, "on_publish", lambda *args: call(args[2]))

    def _drops(self, event: str, message: Message) -> bool:
        passes, held = (False, 0) if message.can_wait else self._often.passes(event)
        if passes:
            log.warning(event, topic=message.topic, held_back=held)
        return False

    def listen(self, topic_filter: str) -> None:
        """Subscribe, now and after each reconnect; what it brings never reaches the client."""
        self._listening[topic_filter] = None
        self._paho.message_callback_add(topic_filter, self._on_heard)
        if self._connected:
            self._paho.subscribe(topic_filter, 0)

    def stop_listening(self, topic_filter: str) -> None:
        """Unsubscribe."""
        self._listening.pop(topic_filter, None)
        if self._connected:
            self._paho.unsubscribe(topic_filter)

    def forget_retained(self) -> None:
        """Unsubscribe from our own retained topics."""
        self._asked_retained = True
        if self._connected:
            self._paho.unsubscribe([f"{self._topics.prefix}/{topic}" for topic in RETAINED_FILTERS])

    def stop(self) -> None:
        """Publish `offline`, wait for its acknowledgement a moment, disconnect."""
        self._stopping.set()
        if self._paho.is_connected():
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
            self._told = False
            try:
                self._use_tls()
                if self._client.connect(retry_interval=RETRY_S, max_retries=1):
                    return
                if not self._told and not self._stopping.is_set():
                    self._tell("no connection to the broker", "it does not answer")
            except Exception as error:  # noqa: BLE001 - told in a line, once per reason
                # Foreign code that may raise anything: this thread must try again for ever.
                self._tell("no connection to the broker", str(error))
            self._stopping.wait(max(RETRY_S, self._flapping.pause_s))

    def _use_tls(self) -> None:
        settings = self._mqtt
        if settings.tls and not self._has_tls:  # paho refuses a second tls_set
            self._paho.tls_set(
                ca_certs=str(settings.ca_cert) if settings.ca_cert else None,
                certfile=str(settings.client_cert) if settings.client_cert else None,
                keyfile=str(settings.client_key) if settings.client_key else None,
            )
            self._has_tls = True

    def _wrap_connect(self) -> None:
        """The platform's client has 60 s of keepalive built in, and keeps to itself why it cannot connect."""
        connect, keepalive_s = self._paho.connect, self._mqtt.keepalive_s

        def our_connect(host: str, port: int = 1883, *_: Any, **__: Any) -> Any:
            try:
                return connect(host, port, keepalive_s)
            except OSError as error:
                self._tell("no connection to the broker", str(error))
                raise

        self._paho.connect = our_connect  # type: ignore[method-assign]

    def _wrap_publish(self) -> None:
        """Neither client says whether a message was taken, nor whether the broker has acknowledged it."""
        publish = self._paho.publish

        def our_publish(*args: Any, **kwargs: Any) -> mqtt.MQTTMessageInfo:
            info = publish(*args, **kwargs)
            if info.rc == mqtt.MQTT_ERR_SUCCESS:
                self._publishing.taken = True
                qos = kwargs.get("qos", args[2] if len(args) > 2 else 0)
                self._acknowledgements.sent(info, time.monotonic(), survives=bool(qos))
            return info

        self._paho.publish = our_publish  # type: ignore[method-assign]

    # -- paho's thread ------------------------------------------------------------------------------------------

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, *_: Any) -> None:
        self._answered = True
        if getattr(reason, "is_failure", reason != 0):
            self._tell("the broker refuses the connection", words(reason, mqtt.connack_string))
            return
        self._accepted = True
        self._flapping.connected(time.monotonic())
        self._acknowledgements.connected(time.monotonic())
        for topic in REQUEST_FILTERS:
            self._paho.message_callback_add(f"{self._topics.prefix}/{topic}", self._on_request)
        wanted = [(f"{self._topics.prefix}/{topic}", 1) for topic in REQUEST_FILTERS]
        self._own_subscribe = self._paho.subscribe(wanted)[1]

    def _on_subscribe(self, _client: Any, _userdata: Any, mid: int, granted: Any, *_: Any) -> None:
        if mid != self._own_subscribe or self._stopping.is_set():
            return
        self._own_subscribe = None
        if any(getattr(code, "value", code) >= 0x80 for code in granted):
            log.error("the broker refuses the subscription to requests", prefix=self._topics.prefix)
        self._acknowledgements.answered(time.monotonic())
        self._connected, self._last_reason = True, ""
        self._paho.publish(self._topics.status, "online", qos=1, retain=True)
        if not self._asked_retained:
            for topic in RETAINED_FILTERS:
                self._paho.message_callback_add(f"{self._topics.prefix}/{topic}", self._on_retained)
            self._paho.subscribe([(f"{self._topics.prefix}/{topic}", 0) for topic in RETAINED_FILTERS])
        for topic in tuple(self._listening):
            self._paho.subscribe(topic, 0)
        if not self._flapping.now:
            log.info("connected to the broker", host=self._mqtt.host, port=self._mqtt.port)
        self._take(Connected())

    def _on_disconnect(self, _client: Any, _userdata: Any, *reason: Any) -> None:
        answered, self._answered = self._answered, False
        accepted, self._accepted = self._accepted, False
        word = reason[1] if len(reason) > 1 else reason[0]
        text = words(word, mqtt.error_string)
        stood, self._connected = self._connected, False
        if accepted and not self._stopping.is_set() and getattr(word, "is_failure", word != 0):
            self._lost(text)
        if stood:
            self._take(Disconnected(text))
        elif not answered and not self._stopping.is_set():
            # With TLS 1.3 so ends a handshake in which the broker does not like our certificate; what the socket
            # says to that differs from time to time.
            hint = "; does it accept MQTT_CLIENT_CERT?" if self._mqtt.tls else ""
            event = "the broker closes the connection"
            self._tell(event, (self._socket_error or text) + hint, kind=event)

    def _lost(self, reason: str) -> None:
        self._told, self._silent = True, False
        self._why = f"connection lost: {reason}"
        was_flapping = self._flapping.now
        if self._flapping.lost(time.monotonic()):
            log.error(self._flapping_words(), host=self._mqtt.host, port=self._mqtt.port)
        elif not was_flapping:
            log.warning("connection to the broker lost", reason=reason)
        pause_s = self._flapping.pause_s
        self._paho.reconnect_delay_set(pause_s, max(pause_s, MAX_RETRY_S))

    def _on_log(self, _client: Any, _userdata: Any, _level: Any, text: str) -> None:
        if text.startswith("failed to receive"):
            self._socket_error = text.partition(": ")[2]

    def _on_request(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._take(Request(self._below(message.topic), bytes(message.payload), bool(message.retain)))

    def _on_retained(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.retain and message.payload:
            self._take(Retained(self._below(message.topic)))

    def _on_heard(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._take(Heard(message.topic, bytes(message.payload), bool(message.retain)))

    def _below(self, topic: str) -> str:
        return topic.removeprefix(self._topics.prefix + "/")

    def _tell(self, event: str, reason: str, *, kind: str = "") -> None:
        """Once per reason (or kind of it): a broker that is away for a night is one line."""
        self._told = True
        self._why = reason if event.startswith("no connection") else f"{event}: {reason}"
        if (kind or reason) != self._last_reason:
            self._last_reason = kind or reason
            log.error(event, host=self._mqtt.host, port=self._mqtt.port, reason=reason)

    def _lets_client_say(self, record: logging.LogRecord) -> bool:
        """Filter of the client's own log: connecting is told here, anything else once a minute."""
        return self._connected and self._often.passes(record.getMessage())[0]
