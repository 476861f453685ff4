"""Devices and groups: building them from `sensors`, from the platform's `devices`, and from `groups`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sensor_hub.config import values
from sensor_hub.config.emulated import LINE_ID, Emulation
from sensor_hub.config.instance_file import Document
from sensor_hub.config.model import GroupConfig, OutputConfig, SensorConfig, TransportConfig
from sensor_hub.config.outputs import MQTT, output_names, parse_outputs
from sensor_hub.config.problems import Fields, Problems, join
from sensor_hub.config.transports import (
    HTTP_TIMEOUT_S,
    TIMEOUT_RANGE_S,
    Common,
    http_transport,
    http_transport_id,
    parse_transports,
)
from sensor_hub.readings import Json
from sensor_hub.sensor_types import SENSOR_TYPES

_SENSOR_KEYS = "sensor_id, sensor_type, friendly_name, transport, url, enabled, model, stale_after, bridge"
_STALE_RANGE_S = (0.1, 604_800.0)


@dataclass(slots=True)
class Inventory:
    """What an instance file names: lines, devices, groups, outputs.

    `transport_ids`, `sensor_paths` (id to path) and `output_names` also name what is not well formed.
    """

    transports: dict[str, TransportConfig]
    sensors: list[SensorConfig] = field(default_factory=list)
    groups: list[GroupConfig] = field(default_factory=list)
    transport_ids: set[str] = field(default_factory=set)
    sensor_paths: dict[str, str] = field(default_factory=dict)
    outputs: list[OutputConfig] = field(default_factory=list)
    output_names: tuple[str, ...] = (MQTT,)

    def lines(self) -> Iterator[tuple[TransportConfig, list[SensorConfig]]]:
        """Each line with its devices."""
        for transport in self.transports.values():
            yield transport, [s for s in self.sensors if s.transport_id == transport.transport_id]


def take_inventory(
    document: Document, emulation: Emulation, poll_interval_s: float, problems: Problems, common: Common
) -> Inventory:
    """Everything in the file, with a problem for all that is wrong. Emulated sensors get their place."""
    entries = list(_entries(document, problems))
    is_emulated = [not fields.has("transport") and not fields.has("url") for fields, _ in entries]
    outputs, names = parse_outputs(document, problems)
    common = replace(common, outputs=names)
    transports, ids = parse_transports(document, problems, (LINE_ID,) if any(is_emulated) else (), common)
    inventory = Inventory(transports, transport_ids=ids, outputs=outputs, output_names=names)
    for fields, lenient in entries:
        sensor = _Builder(fields, lenient, inventory, emulation, poll_interval_s).build()
        if sensor is not None:
            inventory.sensors.append(sensor)
    inventory.transports.update(emulation.transports)
    inventory.groups.extend(_groups(document, inventory, problems))
    return inventory


def _entries(document: Document, problems: Problems) -> Iterator[tuple[Fields, bool]]:
    """Every device's keys, and whether unknown ones are ignored. A device listed twice counts once."""
    sensor_ids: list[Json] = []
    for path, content in document.objects("sensors", problems):
        sensor_ids.append(content.get("sensor_id"))
        yield Fields(content, path, problems), False
    for path, content in document.objects("devices", problems):
        device_id = content.get("device_id", content.get("sensor_id"))
        if not isinstance(device_id, str) or device_id not in sensor_ids:
            yield Fields(content, path, problems), True


class _Builder:
    """Builds one sensor from its keys."""

    def __init__(
        self,
        fields: Fields,
        lenient: bool,
        inventory: Inventory,
        emulation: Emulation,
        poll_interval_s: float,
    ) -> None:
        self._fields = fields
        self._lenient = lenient
        self._inventory = inventory
        self._emulation = emulation
        self._poll_interval_s = poll_interval_s

    def build(self) -> SensorConfig | None:
        """The sensor; None after a problem."""
        fields = self._fields
        sensor_id = self._take_id()
        sensor_type = self._take_type()
        name = fields.take("friendly_name", values.text, "")
        if self._lenient:
            name = name or fields.take("name", values.text, "")
            fields.drop("name", "port")
        enabled = fields.take("enabled", values.boolean, True)
        model = fields.take("model", values.text, "")
        stale_after_s = fields.take("stale_after", values.number(*_STALE_RANGE_S), 0.0)
        bridge = fields.take("bridge", output_names(self._inventory.output_names), None)
        emulated = not fields.has("transport") and not fields.has("url")
        transport, options = self._line(sensor_id, sensor_type, enabled, bridge)
        if emulated and bridge is None:
            bridge = self._inventory.output_names
        if transport is None or not fields.ok or sensor_id is None or sensor_type is None:
            return None
        return SensorConfig(
            sensor_id=sensor_id,
            sensor_type=sensor_type,
            friendly_name=name or sensor_id,
            transport_id=transport.transport_id,
            handler=transport.handler,
            path=fields.path,
            interval_s=transport.read_interval_s,
            stale_after_s=stale_after_s or 3 * transport.read_interval_s,
            options=options,
            model=model,
            enabled=enabled,
            emulated=emulated,
            lenient=self._lenient,
            bridge=transport.bridge if bridge is None else bridge,
        )

    def _take_id(self) -> str | None:
        key = "sensor_id"
        if self._lenient:
            key = (
                "sensor_id"
                if self._fields.has("sensor_id") and not self._fields.has("device_id")
                else "device_id"
            )
        sensor_id = self._fields.need(key, values.identifier)
        places = self._inventory.sensor_paths
        if sensor_id in places:
            self._fields.fail(key, f"{sensor_id!r} is used twice; also at {places[sensor_id]}")
        elif sensor_id is not None:
            places[sensor_id] = self._fields.path
        if self._lenient:
            self._fields.drop("sensor_id")
        return sensor_id

    def _take_type(self) -> str | None:
        parse = values.choice(SENSOR_TYPES)
        if not self._lenient:
            return self._fields.need("sensor_type", parse)
        sensor_type = self._fields.take("sensor_type", parse, "")
        return self._fields.take("device_type", parse, sensor_type or "generic")

    def _line(
        self, sensor_id: str | None, sensor_type: str | None, enabled: bool, bridge: tuple[str, ...] | None
    ) -> tuple[TransportConfig | None, dict[str, Json]]:
        fields = self._fields
        if fields.has("transport") and fields.has("url"):
            fields.fail(None, "has both a transport and a url; leave one out")
            return None, {}
        if fields.has("transport"):
            fields.drop("url")
            return self._configured_line()
        has_url = fields.has("url")
        if (has_url or sensor_type == "motion") and sensor_id is not None:
            self._refuse_taken_line(http_transport_id(sensor_id))
        if has_url:
            fields.drop("transport")
            return self._own_line(sensor_id, bridge)
        fields.drop("transport", "url")
        if not self._lenient:
            self._refuse_driver_keys()
        if not fields.ok or sensor_id is None or sensor_type is None:
            return None, {}
        return self._emulation.place(sensor_id, sensor_type, fields.path, enabled=enabled)

    def _configured_line(self) -> tuple[TransportConfig | None, dict[str, Json]]:
        transport_id = self._fields.take("transport", values.identifier, "")
        if transport_id and transport_id not in self._inventory.transport_ids:
            known = ", ".join(sorted(self._inventory.transport_ids)) or "none"
            self._fields.fail("transport", f"there is no transport {transport_id!r}; there are: {known}")
        return self._inventory.transports.get(transport_id), self._fields.leftover()

    def _own_line(
        self, sensor_id: str | None, bridge: tuple[str, ...] | None
    ) -> tuple[TransportConfig | None, dict[str, Json]]:
        fields = self._fields
        url = fields.take("url", values.text, "")
        has_timeout = fields.has("timeout_s")
        timeout_s = fields.take("timeout_s", values.number(*TIMEOUT_RANGE_S), HTTP_TIMEOUT_S)
        if sensor_id is None or not fields.ok:
            return None, {}
        transport = http_transport(
            sensor_id,
            url=url,
            path=fields.path,
            poll_interval_s=self._poll_interval_s,
            timeout_s=timeout_s,
            bridge=self._inventory.output_names if bridge is None else bridge,
        )
        self._inventory.transports[transport.transport_id] = transport
        timeout: dict[str, Json] = {"timeout_s": timeout_s} if has_timeout else {}
        return transport, {**fields.leftover(), **timeout}

    def _refuse_taken_line(self, transport_id: str) -> None:
        if transport_id in self._inventory.transport_ids:
            self._fields.fail(
                None, f"its own line is called {transport_id!r}; a transport may not be called so"
            )

    def _refuse_driver_keys(self) -> None:
        for key in self._fields.leftover():
            self._fields.fail(
                key,
                f"the sensor needs a transport or a url for this; else its keys are {_SENSOR_KEYS}",
            )


def _groups(document: Document, inventory: Inventory, problems: Problems) -> Iterator[GroupConfig]:
    places: dict[str, str] = {}
    for path, content in document.objects("groups", problems):
        fields = Fields(content, path, problems)
        group_id = fields.need("group_id", values.identifier)
        if group_id in places:
            fields.fail("group_id", f"{group_id!r} is used twice; also at {places[group_id]}")
        elif group_id is not None:
            places[group_id] = path
        members = content.get("devices")
        fields.drop("devices", "name", "friendly_name")
        fields.refuse_leftover(("group_id", "devices", "name", "friendly_name"))
        devices = _members(members, join(path, "devices"), inventory.sensor_paths, problems)
        if fields.ok and group_id is not None:
            yield GroupConfig(group_id, devices)


def _members(given: Json, path: str, sensor_paths: Mapping[str, str], problems: Problems) -> tuple[str, ...]:
    if not isinstance(given, list):
        problems.add(path, "must be a list of device ids")
        return ()
    found: list[str] = []
    for index, device_id in enumerate(given):
        if not isinstance(device_id, str) or device_id not in sensor_paths:
            problems.add(join(path, index), f"there is no device {values.shown(device_id)}")
        elif device_id in found:
            problems.add(join(path, index), f"{device_id!r} stands twice in the group")
        else:
            found.append(device_id)
    return tuple(found)
