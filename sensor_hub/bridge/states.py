"""From snapshots to messages: states, properties and availability (contract, section 3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sensor_hub import wire
from sensor_hub.ages import Ages
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig, SensorConfig
from sensor_hub.errors import HandlerUnreachable, HubError
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Fault, Json, Snapshot, Status, aged

_NOT_PROPERTIES = ("timestamp", "sensor_id", "device_id")


@dataclass(slots=True)
class _Device:
    config: SensorConfig
    snapshot: Snapshot | None = None
    fresh: Snapshot | None = None  # the last one with a value to show; what the broker retains
    sent: str | None = None  # the last state sent, without its timestamp
    sent_properties: dict[str, str | None] = field(default_factory=dict)  # None: to be sent anew
    due_at: float = 0.0  # monotonic: when the state is sent again although nothing changed
    availability: str | None = None
    owes_state: bool = False  # the output did not take all of it
    owes_availability: bool = False


class StatePublisher:
    """Remembers what the broker was told. Belongs to the bridge's loop: not thread-safe, never waits.

    A device whose `bridge` does not name `output` is not published. What the output does not take is sent later.
    While `connected` is false it only keeps up to date; `announce` then tells everything anew.
    """

    def __init__(
        self,
        hub: HubConfig,
        topics: Topics,
        publish: Callable[[Message], bool],
        clock: Clock,
        output: str = "mqtt",
    ) -> None:
        self._hub, self._topics, self._publish, self._clock = hub, topics, publish, clock
        ours = [sensor for sensor in hub.sensors if output in sensor.bridge]
        self._devices = {sensor.sensor_id: _Device(sensor) for sensor in ours if sensor.enabled}
        self._disabled = [sensor.sensor_id for sensor in ours if not sensor.enabled]
        self._ages = Ages(clock)
        self._behind: dict[str, None] = {}  # devices that owe something, the oldest first
        self.connected = False

    def online(self, device_id: str) -> bool:
        """Whether the device has a fresh value."""
        device = self._devices.get(device_id)
        return device is not None and device.availability == "online"

    def publishes(self, device_id: str) -> bool:
        """Whether the device's data goes to this output at all."""
        return device_id in self._devices

    @property
    def sensors(self) -> list[SensorConfig]:
        """The devices that are published."""
        return [device.config for device in self._devices.values()]

    def changed(self, snapshots: Iterable[Snapshot]) -> None:
        """Take news of devices; publish what differs."""
        for snapshot in snapshots:
            device = self._devices.get(snapshot.device_id)
            if device is None or snapshot.status is Status.UNKNOWN:
                continue  # an aggregator that has just started knows less than we do
            device.snapshot = snapshot
            self._ages.note(snapshot)
            if _is_fresh(snapshot):
                device.fresh = snapshot
            self._availability(device)
            self._state(device)

    def lost(self, error: HubError) -> list[Snapshot]:
        """The aggregator is gone: values age. What is true of the devices then."""
        fault = Fault(HandlerUnreachable.code, str(error), self._clock.now())
        snapshots = [
            aged(
                device.snapshot,
                fault,
                self._ages.age_s(device.snapshot),
                device.config.interval_s,
                device.config.stale_after_s,
            )
            for device in self._devices.values()
            if device.snapshot is not None
        ]
        self.changed(snapshots)
        return snapshots

    def tick(self) -> None:
        """Send what was not taken, and again what the update interval asks for."""
        self._catch_up()
        now = self._clock.monotonic()
        for device in self._devices.values():
            if device.due_at <= now and device.sent is not None:
                self._state(device, again=True)

    def _catch_up(self) -> None:
        for device_id in list(self._behind) if self.connected else []:
            device = self._devices[device_id]
            if device.owes_availability:
                self._send_availability(device)
            if device.owes_state:
                self._send_state(device)
            if device.owes_state or device.owes_availability:
                return  # no room yet
            del self._behind[device_id]

    def announce(self) -> None:
        """After a (re)connect: all retained topics once, because the broker may have lost them."""
        for device_id in self._disabled:
            self._send(self._topics.device(device_id, "availability"), "offline", retain=True)
        self._behind.clear()
        for device in self._devices.values():
            device.sent, device.availability = None, None
            device.owes_state = device.owes_availability = False
            device.sent_properties = dict.fromkeys(device.sent_properties)
            if device.snapshot is not None:
                self._availability(device)
                self._send_state(device)

    def found(self, device_id: str, topic: str) -> None:
        """A topic of a published device that the broker keeps from an earlier life of this instance.

        Cleared when nothing retained belongs there: a property that the device does not have any more.
        """
        device, state = self._devices[device_id], self._topics.device(device_id, "state")
        if not self._hub.mqtt.retain:
            if topic == state or topic.startswith(f"{state}/"):
                self._send(topic, "", retain=True)
        elif topic.startswith(f"{state}/") and topic not in device.sent_properties:
            if device.sent is None:
                device.sent_properties[topic] = None  # its first state will tell
            else:
                self._send(topic, "", retain=True)

    def _state(self, device: _Device, *, again: bool = False) -> None:
        if _is_fresh(device.snapshot):  # else: an old value is not sent again as if it were news
            self._send_state(device, again=again)

    def _send_state(self, device: _Device, *, again: bool = False) -> None:
        if not self.connected or device.fresh is None:
            return
        device_id = device.config.sensor_id
        body = wire.reading_body(device.fresh, "device_id")
        facts = {key: value for key, value in body.items() if key != "timestamp"}
        text = json.dumps(facts, sort_keys=True)  # as values, true and 1 would be the same
        if not again and text == device.sent:
            return
        device.due_at = self._clock.monotonic() + self._hub.update_interval_s
        topic, retain = self._topics.device(device_id, "state"), self._hub.mqtt.retain
        taken = self._send(topic, state_payload(device_id, body), retain, can_wait=True)
        taken = self._properties(device, facts) and taken
        device.sent, device.owes_state = text if taken else None, not taken
        if not taken:
            self._behind[device_id] = None

    def _properties(self, device: _Device, facts: Mapping[str, Json]) -> bool:
        """Whether all that differ were taken."""
        device_id, retain = device.config.sensor_id, self._hub.mqtt.retain
        texts = {
            self._topics.state_property(device_id, name): bare(value)
            for name, value in facts.items()
            if name not in _NOT_PROPERTIES
        }
        told: dict[str, str | None] = {}
        for topic, text in texts.items():
            same = device.sent_properties.get(topic) == text
            told[topic] = text if same or self._send(topic, text, retain, can_wait=True) else None
        for topic in device.sent_properties.keys() - texts.keys():
            if not self._send(
                topic, "", retain=True, can_wait=True
            ):  # the device no longer has this property
                told[topic] = None
        device.sent_properties = told
        return None not in told.values()

    def _availability(self, device: _Device) -> None:
        word = "online" if _is_fresh(device.snapshot) else "offline"
        if device.availability == word:
            return
        if device.availability is not None:
            device.sent = None  # back again: say the state even if the value is the old one
        device.availability = word
        self._send_availability(device)

    def _send_availability(self, device: _Device) -> None:
        device_id, word = device.config.sensor_id, device.availability or "offline"
        topic = self._topics.device(device_id, "availability")
        device.owes_availability = not self._send(topic, word, retain=True, can_wait=True)
        if device.owes_availability:
            self._behind[device_id] = None

    def _send(self, topic: str, payload: str, retain: bool = False, *, can_wait: bool = False) -> bool:
        """False when it has to be sent again. What is not sent for want of a connection `announce` will say."""
        return not self.connected or self._publish(Message(topic, payload, retain, can_wait))


def state_payload(device_id: str, body: Mapping[str, Json], names: Iterable[str] = ()) -> str:
    """The payload of a state topic for a reading's body; with `names`, only these properties of it."""
    state = {name: body[name] for name in names} or dict(body)
    return wire.dumps({"timestamp": body.get("timestamp"), "device_id": device_id, "state": state})


def bare(value: Json) -> str:
    """A property's value on its own topic: a JSON literal, or raw text for a string (`""` when empty)."""
    return value if isinstance(value, str) and value else wire.dumps(value)


def _is_fresh(snapshot: Snapshot | None) -> bool:
    return (
        snapshot is not None
        and snapshot.reading is not None
        and snapshot.status in (Status.ONLINE, Status.DEGRADED)
    )
