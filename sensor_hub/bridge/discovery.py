"""When Home Assistant is told of the devices, and when it is told that they are gone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from sensor_hub import logs, wire
from sensor_hub.bridge import home_assistant
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.base import Heard, Message, Output
from sensor_hub.outputs.topics import Topics
from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Json

log = logs.get(__name__)

BIRTH_TOPIC = "homeassistant/status"  # its default, whatever the prefix of discovery is
BIRTH_DELAY_S = (1.0, 5.0)  # a random one of these: not all bridges at once
ASK_AGAIN_S = 2.0
SUBSCRIBED_S = 3.0  # by then Home Assistant hears the topics of a device it was told of


class Discovery:
    """Belongs to the bridge's loop: not thread-safe, never waits.

    What this instance has announced in earlier lives is looked for after the first connect, also when discovery is off:
    devices that are no more are cleared, and components that a device has no more are removed.
    """

    def __init__(
        self, hub: HubConfig, topics: Topics, output: Output, clock: Clock, ask: Callable[[], None]
    ) -> None:
        """`ask` for the properties of all devices; they come back by `learn`, nothing when that failed."""
        self._hub, self._topics, self._output, self._clock, self._ask = hub, topics, output, clock, ask
        self._prefix, self._on = hub.home_assistant.prefix, hub.home_assistant.discovery
        self._lines = {line.transport_id: line for line in hub.transports}
        ours = [s for s in hub.sensors if self._on and s.enabled and output.name in s.bridge]
        self._sensors = {self._topic(sensor.sensor_id): sensor for sensor in ours}
        self._specs: Mapping[str, Mapping[str, PropertySpec]] = {}
        self._complete = not ours
        self._ask_at = 0.0
        self._owed: dict[str, None] = {}  # config topics to be written or, of no sensor of today, cleared
        self._earlier: dict[str, dict[str, str]] = {}  # config topic -> component -> platform, as found
        self._looked = False
        self._birth_at: float | None = None
        self._states_at: float | None = None
        self._births = tuple(dict.fromkeys((BIRTH_TOPIC, f"{self._prefix}/status"))) if self._on else ()

    def connected(self) -> None:
        """After a (re)connect: announce everything, because the broker may have lost it."""
        self._owed |= dict.fromkeys(self._sensors)
        if not self._looked:
            self._looked = True
            self._output.listen(f"{self._prefix}/device/+/config")
            for topic in self._births:
                self._output.listen(topic)

    def forget(self) -> None:
        """Whatever there was of earlier lives has been seen."""
        self._output.stop_listening(f"{self._prefix}/device/+/config")

    def learn(self, specs: Mapping[str, Mapping[str, PropertySpec]], *, complete: bool) -> None:
        """Take what the handlers tell of their devices' properties; not `complete`: they are asked again."""
        self._specs, self._complete = {**self._specs, **specs}, complete
        self._ask_at = self._clock.monotonic() + ASK_AGAIN_S

    def heard(self, message: Heard) -> None:
        """Home Assistant has started, or a config that the broker has kept."""
        if message.topic in self._births:
            if message.payload == b"online" and not message.retained and self._birth_at is None:
                self._birth_at = self._clock.monotonic() + random.uniform(*BIRTH_DELAY_S)
        elif message.retained and message.payload:
            self._found(message.topic, message.payload)

    def tick(self) -> bool:
        """Send what is due. True once when states that nobody retains must be said again for Home Assistant."""
        now = self._clock.monotonic()
        if not self._complete and now >= self._ask_at:
            self._ask_at = float("inf")  # until it is answered
            self._ask()
        if self._birth_at is not None and now >= self._birth_at:
            self._birth_at = None
            log.info("Home Assistant has started, announcing the devices", devices=len(self._sensors))
            self._owed |= dict.fromkeys(self._sensors)
        self._send_owed(now)
        if self._states_at is None or now < self._states_at:
            return False
        self._states_at = None
        return True

    def _topic(self, device_id: str) -> str:
        return home_assistant.config_topic(self._prefix, self._topics, device_id)

    def _found(self, topic: str, payload: bytes) -> None:
        components = home_assistant.own_components(payload, self._topics)
        if components is None:
            return
        if topic in self._sensors:
            self._earlier[topic] = components
        else:
            log.info("no longer announced to Home Assistant", topic=topic)
        self._owed[topic] = None

    def _send_owed(self, now: float) -> None:
        for topic in list(self._owed):
            sensor = self._sensors.get(topic)
            if sensor is not None and sensor.sensor_id not in self._specs:
                continue  # its handler has not told yet
            if not (self._announce(topic) if sensor is not None else self._say(topic, "")):
                return
            del self._owed[topic]
            if sensor is not None and not self._hub.mqtt.retain:
                self._states_at = now + SUBSCRIBED_S

    def _announce(self, topic: str) -> bool:
        sensor = self._sensors[topic]
        line, specs = self._lines[sensor.transport_id], self._specs[sensor.sensor_id]
        config = home_assistant.Device(sensor, line, specs, self._topics).config()
        components = config["cmps"]
        if not isinstance(components, dict) or not components:
            return self._say(topic, "")
        gone: dict[str, Json] = {
            key: {"p": platform}
            for key, platform in self._earlier.pop(topic, {}).items()
            if key not in components
        }
        # It only forgets a component that it is told to: one config names those, the next one leaves them out.
        if gone and not self._say(topic, wire.dumps({**config, "cmps": {**components, **gone}})):
            return False
        return self._say(topic, wire.dumps(config))

    def _say(self, topic: str, payload: str) -> bool:
        return self._output.publish(Message(topic, payload, retain=True, can_wait=True))
