"""What Home Assistant takes as a device's discovery config: its documented rules as a validator of our own.

Sources, as of Home Assistant 2025.10 (device-based discovery came with 2024.12):
- https://www.home-assistant.io/integrations/mqtt/ (discovery topic, device discovery payload, abbreviations,
  availability)
- https://www.home-assistant.io/integrations/sensor.mqtt/ and binary_sensor.mqtt, switch.mqtt, number.mqtt, select.mqtt,
  text.mqtt (options of each component)
- https://www.home-assistant.io/integrations/sensor/#device-class and number/#device-class (classes and their units)
- https://developers.home-assistant.io/docs/core/entity/sensor/ (state classes that go with a device class)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, TemplateError

# Short and long spelling are the same option; only abbreviations of the documented list count.
LONG = {
    "dev": "device",
    "o": "origin",
    "cmps": "components",
    "avty": "availability",
    "avty_mode": "availability_mode",
    "cmd_t": "command_topic",
    "stat_t": "state_topic",
    "p": "platform",
    "uniq_id": "unique_id",
    "dev_cla": "device_class",
    "unit_of_meas": "unit_of_measurement",
    "stat_cla": "state_class",
    "val_tpl": "value_template",
    "cmd_tpl": "command_template",
    "ops": "options",
    "ent_cat": "entity_category",
    "pl_on": "payload_on",
    "pl_off": "payload_off",
    "stat_on": "state_on",
    "stat_off": "state_off",
    "t": "topic",
}
LONG_OF_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sn": "serial_number"}
LONG_OF_ORIGIN = {"sw": "sw_version", "url": "support_url"}

ROOT = {"device", "origin", "components", "availability", "availability_mode", "command_topic", "qos"}
ROOT |= {"state_topic", "encoding"}  # anything else, `~` too, makes Home Assistant refuse the whole device
_ENTITY = {"platform", "unique_id", "name", "state_topic", "value_template", "entity_category"}
_COMMAND = _ENTITY | {"command_topic", "command_template"}
OPTIONS = {
    "sensor": _ENTITY
    | {"device_class", "unit_of_measurement", "state_class", "options", "suggested_display_precision"},
    "binary_sensor": _ENTITY | {"device_class", "payload_on", "payload_off"},
    "switch": _COMMAND | {"device_class", "payload_on", "payload_off", "state_on", "state_off"},
    "number": _COMMAND | {"device_class", "unit_of_measurement", "min", "max", "step", "mode"},
    "select": _COMMAND | {"options"},
    "text": _COMMAND | {"min", "max", "mode", "pattern"},
}
WITH_COMMAND = {"switch", "number", "select", "text"}

_PRESSURE = {"cbar", "bar", "hPa", "mmHg", "inHg", "kPa", "mbar", "Pa", "psi"}
_DISTANCE = {"km", "m", "cm", "mm", "mi", "nmi", "yd", "in", "ft"}
_SPEED = {"ft/s", "in/d", "in/h", "in/s", "km/h", "kn", "m/s", "mph", "mm/d", "mm/s", "m/min"}
UNITS: Mapping[str, set[str | None]] = {
    "apparent_power": {"VA"},
    "atmospheric_pressure": {*_PRESSURE},
    "battery": {"%"},
    "carbon_dioxide": {"ppm"},
    "current": {"A", "mA"},
    "distance": {*_DISTANCE},
    "duration": {"d", "h", "min", "s", "ms"},
    "energy": {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal"},
    "enum": {None},
    "frequency": {"Hz", "kHz", "MHz", "GHz"},
    "humidity": {"%"},
    "illuminance": {"lx"},
    "irradiance": {"W/m²", "BTU/(h⋅ft²)"},
    "moisture": {"%"},
    "power": {"mW", "W", "kW", "MW", "GW", "TW"},
    "pressure": {*_PRESSURE},
    "reactive_power": {"var", "kvar"},
    "signal_strength": {"dB", "dBm"},
    "speed": {*_SPEED},
    "temperature": {"°C", "°F", "K"},
    "voltage": {"V", "mV", "µV", "kV", "MV"},
    "volume_flow_rate": {"m³/h", "m³/s", "ft³/min", "L/h", "L/min", "L/s", "gal/min", "mL/s"},
    "weight": {"kg", "g", "mg", "µg", "oz", "lb", "st"},
}
ONLY_SENSORS = {"enum"}  # no device class of a number
BINARY_CLASSES = {"motion", "occupancy", "door", "window", "moisture", "smoke", "problem", "power", "battery"}
MEASURED = {"measurement"}
TOTALS = {"total", "total_increasing"}
STATE_CLASSES: Mapping[str | None, set[str]] = {
    None: MEASURED | TOTALS,
    **dict.fromkeys(UNITS, MEASURED),
    "energy": TOTALS,
    "enum": set(),
    **dict.fromkeys(("distance", "duration", "weight"), MEASURED | TOTALS),
}

_TOPIC = re.compile(r"[^+#\0]{1,65535}")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_COMPONENT_ID = re.compile(r"\S+")  # it is joined to others with spaces


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def templates() -> Environment:
    """Templates as Home Assistant has them, as far as ours go."""
    environment = Environment()
    environment.globals["is_number"] = _is_number
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment


def rendered(template: str, value: object) -> str:
    """What it makes of a payload (text) or of what somebody set (text or number)."""
    return templates().from_string(template).render(value=value).strip()


def spelled_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with long names."""
    full = _long(config, LONG)
    full["device"] = _long(full.get("device", {}), LONG_OF_DEVICE)
    full["origin"] = _long(full.get("origin", {}), LONG_OF_ORIGIN)
    full["availability"] = [_long(each, LONG) for each in full.get("availability", [])]
    full["components"] = {key: _long(body, LONG) for key, body in full.get("components", {}).items()}
    return full


def _long(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in body.items()}


def problems(topic: str, payload: str | bytes, prefix: str = "homeassistant") -> list[str]:
    """Everything that Home Assistant would not take, or would take for something else."""
    return list(_problems(topic, payload, prefix))


def _problems(topic: str, payload: str | bytes, prefix: str) -> Iterator[str]:
    head, tail = f"{prefix}/device/", "/config"
    own_id = topic.removeprefix(head).removesuffix(tail)
    if topic != f"{head}{own_id}{tail}" or not _ID.fullmatch(own_id):
        yield f"no discovery topic: {topic}"
    config = spelled_out(json.loads(payload))
    yield from (f"{key}: no option of a device" for key in config.keys() - ROOT)
    device, origin, components = config["device"], config["origin"], config["components"]
    if not (isinstance(device.get("identifiers"), list) and device["identifiers"]):
        yield "device: no identifiers"
    yield from (f"device: {key} is no text" for key, v in device.items() if key != "identifiers" and not v)
    if not origin.get("name"):
        yield "origin: no name"
    if config.get("qos", 0) not in (0, 1, 2):
        yield "qos: not 0, 1 or 2"
    if config.get("availability_mode", "latest") not in ("all", "any", "latest"):
        yield "availability_mode: not all, any or latest"
    for each in config["availability"]:
        if not _TOPIC.fullmatch(each.get("topic", "")):
            yield f"availability: no topic in {each}"
    if not components:
        yield "components: none"
    ids = [body.get("unique_id") for body in components.values()]
    if len(ids) != len(set(ids)):
        yield "unique_id: not unique"
    for key, body in components.items():
        if not _COMPONENT_ID.fullmatch(key):
            yield f"{key!r}: no component id"
        yield from (f"{key}: {problem}" for problem in _of_component(body, config))


def _of_component(body: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    platform = body.get("platform")
    if platform not in OPTIONS:
        yield f"no platform: {platform}"
        return
    yield from (f"{option} is no option of {platform}" for option in body.keys() - OPTIONS[platform])
    if not isinstance(body.get("unique_id"), str) or not body["unique_id"]:
        yield "no unique_id"
    if "name" in body and body["name"] is not None and not str(body["name"]).strip():
        yield "an empty name"
    state, command = body.get("state_topic"), body.get("command_topic", shared.get("command_topic"))
    if (state is None and platform not in WITH_COMMAND) or (
        state is not None and not _TOPIC.fullmatch(state)
    ):
        yield f"no state topic: {state}"
    if platform in WITH_COMMAND and not _TOPIC.fullmatch(command or ""):
        yield f"no command topic: {command}"
    for option in ("value_template", "command_template"):
        try:
            templates().parse(body.get(option, ""))
        except TemplateError as error:
            yield f"{option}: {error}"
    if body.get("entity_category") not in (None, "config", "diagnostic"):
        yield f"no category: {body['entity_category']}"
    if body.get("entity_category") == "config" and platform not in WITH_COMMAND:
        yield "only what can be set is of the category config"
    yield from _OF_PLATFORM.get(platform, lambda _: iter(()))(body)


def _of_sensor(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _class_and_unit(body)
    state_class, device_class = body.get("state_class"), body.get("device_class")
    if state_class is not None and state_class not in STATE_CLASSES.get(device_class, set()):
        yield f"state class {state_class} does not go with {device_class}"
    if "options" in body:
        if device_class != "enum" or state_class or body.get("unit_of_measurement"):
            yield "options are for the device class enum, without unit and state class"
        yield from _options(body)
    precision = body.get("suggested_display_precision", 0)
    if not isinstance(precision, int) or precision < 0:
        yield f"no display precision: {precision}"


def _class_and_unit(body: Mapping[str, Any]) -> Iterator[str]:
    device_class, unit = body.get("device_class"), body.get("unit_of_measurement")
    if "unit_of_measurement" in body and not str(unit).strip():
        yield "an empty unit"
    if device_class is None:
        return
    if device_class not in UNITS:
        yield f"no device class: {device_class}"
    elif unit not in UNITS[device_class]:
        yield f"{unit} is no unit of {device_class}"


def _of_number(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _class_and_unit(body)
    if body.get("device_class") in ONLY_SENSORS:
        yield f"{body['device_class']} is no device class of a number"
    if body.get("min", 1) >= body.get("max", 100):
        yield "min is not less than max"
    if body.get("step", 1) < 0.001:
        yield "a step must be at least 0.001"
    if body.get("mode", "auto") not in ("auto", "box", "slider"):
        yield f"no mode: {body['mode']}"


def _of_binary(body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("device_class") not in (None, *BINARY_CLASSES):
        yield f"no device class of a binary sensor: {body['device_class']}"
    if body.get("payload_on", "ON") == body.get("payload_off", "OFF"):
        yield "on and off are the same"


def _of_switch(body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("device_class") not in (None, "outlet", "switch"):
        yield f"no device class of a switch: {body['device_class']}"


def _of_select(body: Mapping[str, Any]) -> Iterator[str]:
    if "options" not in body:
        yield "no options"
    yield from _options(body)


def _options(body: Mapping[str, Any]) -> Iterator[str]:
    options = body.get("options", ["-"])
    if not options or not all(isinstance(option, str) and 0 < len(option) <= 255 for option in options):
        yield "options must be texts that a state can hold, at least one"


def _of_text(body: Mapping[str, Any]) -> Iterator[str]:
    if not 0 <= body.get("min", 0) < body.get("max", 255) <= 255:
        yield "0 <= min < max <= 255 is not so"


_OF_PLATFORM = {
    "sensor": _of_sensor,
    "binary_sensor": _of_binary,
    "switch": _of_switch,
    "number": _of_number,
    "select": _of_select,
    "text": _of_text,
}
