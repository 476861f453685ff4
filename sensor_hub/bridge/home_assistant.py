"""One device as Home Assistant's device-based MQTT discovery wants it. Pure; the rules are in docs/home-assistant.md.

A component is shown as unknown when the device says something that the component cannot hold: Home Assistant itself
would go on showing the value before that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sensor_hub import __version__, wire
from sensor_hub.bridge import home_assistant_numbers as numbers
from sensor_hub.bridge.home_assistant_numbers import Quantity
from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.outputs.topics import Topics
from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Json
from sensor_hub.sensor_types import SENSOR_TYPES

ORIGIN = "sensor-hub"
MAX_STATE = 255  # characters that a state of Home Assistant may have
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

# Of payloads as `states.bare` writes them.
_NUMBER = "{{ value if is_number(value) else None }}"
_BOOLEAN = "{{ value if value in ('true', 'false') else None }}"
_TEXT = "{{ None if value == 'null' else '' if value == '\"\"' else value[:255] }}"
_EDITED_TEXT = "{{ '' if value in ('null', '\"\"') else value[:255] }}"

# What motion detectors say beside motion has no declared unit.
_OF_MOTION = {
    "battery_level": Quantity("%", "battery", "measurement"),
    "signal_strength": Quantity("dBm", "signal_strength", "measurement"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """A device to be announced."""

    sensor: SensorConfig
    transport: TransportConfig
    specs: Mapping[str, PropertySpec]
    topics: Topics

    @property
    def object_id(self) -> str:
        """Its id for Home Assistant; the hash of its topic keeps `a_b`/`c` and `a`/`b_c` apart."""
        device_id = self.sensor.sensor_id
        return object_id(self.topics, device_id)

    def config(self) -> dict[str, Json]:
        """The payload of its config topic."""
        device: dict[str, Json] = {
            "ids": [self.object_id],
            "name": self.sensor.friendly_name or self.sensor.sensor_id,
            "mf": self.transport.manufacturer,
            "mdl": self.sensor.model or self.transport.model,
        }
        config: dict[str, Json] = {
            "dev": {key: value for key, value in device.items() if value},
            "o": {"name": ORIGIN, "sw": __version__},
            "avty": [
                {"t": self.topics.status},
                {"t": self.topics.device(self.sensor.sensor_id, "availability")},
            ],
            "avty_mode": "all",
            "qos": 1,
        }
        if any(spec.writable for spec in self.specs.values()):
            config["cmd_t"] = self.topics.device(self.sensor.sensor_id, "cmd")
        return {**config, "cmps": self._components()}

    def _components(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name, spec in self.specs.items():
            if spec.readable or spec.writable:
                component = self._component(name, spec)
                found[f"{component['p']}_{_slug(name)}"] = component
        return found

    def _component(self, name: str, spec: PropertySpec) -> dict[str, Json]:
        body = self._writable(name, spec) if spec.writable else self._read_only(name, spec)
        body["uniq_id"] = f"{self.object_id}_{_slug(name)}"
        is_main = name == "value" or name in SENSOR_TYPES[self.sensor.sensor_type].events
        body["name"] = None if is_main else _pretty(name)  # None: it is called as its device
        if spec.readable:
            body["stat_t"] = self.topics.state_property(self.sensor.sensor_id, name)
        else:
            body.pop("val_tpl", None)
        return body

    def _read_only(self, name: str, spec: PropertySpec) -> dict[str, Json]:
        kind = SENSOR_TYPES[self.sensor.sensor_type]
        if spec.kind == "boolean" or name in kind.events:
            body: dict[str, Json] = {"p": "binary_sensor", "pl_on": "true", "pl_off": "false"}
            if name in kind.events and kind.device_class:
                body["dev_cla"] = kind.device_class
            return {**body, "val_tpl": _BOOLEAN}
        options = _options(spec)
        if options:
            return {"p": "sensor", "dev_cla": "enum", "ops": options, "val_tpl": _one_of(options)}
        quantity = self._quantity(name, spec)
        if quantity is None:
            return {"p": "sensor", "val_tpl": _TEXT}
        body = {"p": "sensor", "val_tpl": _NUMBER, **quantity.facts(), "stat_cla": quantity.state_class}
        digits = numbers.digits_of(spec)
        if digits is None and name == "value":
            digits = kind.digits
        if digits is not None:
            body["suggested_display_precision"] = digits
        if quantity.is_diagnostic:
            body["ent_cat"] = "diagnostic"
        return body

    def _writable(self, name: str, spec: PropertySpec) -> dict[str, Json]:
        if spec.kind == "boolean":
            switch: dict[str, Json] = {"p": "switch", "val_tpl": _BOOLEAN}
            switch |= {"pl_on": _values(name, True), "pl_off": _values(name, False)}
            return {**switch, "stat_on": "true", "stat_off": "false"}
        if spec.kind == "number":
            low, high, step = numbers.range_of(spec)
            guard = f"{{{{ value if is_number(value) and {low!r} <= value|float <= {high!r} else None }}}}"
            number: dict[str, Json] = {"p": "number", "min": low, "max": high, "step": step, "val_tpl": guard}
            quantity = self._quantity(name, spec)
            return {**number, **(quantity.facts() if quantity else {}), "cmd_tpl": _command(name)}
        options = _options(spec)
        if options:
            return {"p": "select", "ops": options, "val_tpl": _one_of(options), "cmd_tpl": _command(name)}
        return {"p": "text", "max": MAX_STATE, "val_tpl": _EDITED_TEXT, "cmd_tpl": _command(name)}

    def _quantity(self, name: str, spec: PropertySpec) -> Quantity | None:
        """What a number means; None when it need not be one."""
        kind = SENSOR_TYPES[self.sensor.sensor_type]
        unit = spec.unit
        if name == "value" and not unit:
            unit = kind.unit
        if self.sensor.sensor_type == "motion" and not unit and name in _OF_MOTION and spec.kind == "any":
            return _OF_MOTION[name]
        if spec.kind != "number" and not (spec.kind == "any" and unit):
            return None
        return numbers.quantity_of(unit, kind.device_class if name == "value" else None, name)


def object_id(topics: Topics, device_id: str) -> str:
    """The id that Home Assistant knows a device by: the same after every restart, another for another instance."""
    own = f"{topics.instance_id}_{device_id}"
    digest = hashlib.sha256(topics.device(device_id, "").encode()).hexdigest()[:8]
    return f"{_NOT_IN_AN_ID.sub('_', own)}_{digest}"


def config_topic(prefix: str, topics: Topics, device_id: str) -> str:
    """Where a device is announced."""
    return f"{prefix}/device/{object_id(topics, device_id)}/config"


def own_components(payload: bytes, topics: Topics) -> dict[str, str] | None:
    """Component -> platform of a config that this instance has written, None for anybody else's."""
    if ORIGIN.encode() not in payload:
        return None
    try:
        config = wire.loads(payload)
    except wire.MalformedJson:
        return None
    if not isinstance(config, dict) or {"t": topics.status} not in _list(config.get("avty")):
        return None
    origin, components = config.get("o"), config.get("cmps")
    if not isinstance(origin, dict) or origin.get("name") != ORIGIN or not isinstance(components, dict):
        return None
    return {key: str(body["p"]) for key, body in components.items() if isinstance(body, dict) and "p" in body}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _slug(name: str) -> str:
    """A property's name as part of an id: what had to be replaced is made up for by a hash."""
    slug = _NOT_IN_AN_ID.sub("_", name)
    return slug if slug == name else f"{slug}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _pretty(name: str) -> str:
    words = _CONTROL.sub(" ", name).replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else ascii(name)


def _options(spec: PropertySpec) -> list[Json]:
    """The texts it may hold, as far as a state of Home Assistant can be one."""
    if spec.kind in {"boolean", "number"}:
        return []
    return [text for text in spec.choices or () if text and text == text.strip() and len(text) <= MAX_STATE]


def _one_of(options: list[Json]) -> str:
    return f"{{{{ value if value in {_literal(options)} else None }}}}"


def _values(name: str, value: Json) -> str:
    """The payload of a command."""
    return wire.dumps({"values": {name: value}})


def _command(name: str) -> str:
    return f"{{{{ {{'values': {{{_literal(name)}: value}}}}|tojson }}}}"


def _literal(value: Json) -> str:
    """A text or a list of texts inside a template: JSON's escapes are the template language's."""
    return json.dumps(value, ensure_ascii=False)
