"""From what the wizard's forms hold to the `transports` and `sensors` of an instance; nothing is checked here.

What was left open is left out. Places name what the person filled in, for problems.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from answering import Json, shown
from checks import Problems, blank

LINE_ID = "line"
LINE_KEYS = ("timeout_s", "read_interval", "delay_ms")
SERIAL_KEYS = ("baudrate", "bytesize", "parity", "stopbits")
LIMIT_KEYS = ("min", "max", "step")
NUMBER_KEYS = ("data_type", "scale", "offset", "word_order", "byte_order", *LIMIT_KEYS)  # of no use for a bit
REGISTER_KEYS = ("table", "address", *NUMBER_KEYS, "unit", "write")
# What a line of "more sensors" may say beside them.
MORE_REGISTER_KEYS = (
    *("length", "bit", "bits", "sign_magnitude", "values", "truncate", "flags"),
    *("allowed", "pattern", "read", "read_interval", "description"),
)
LIST_KEYS = ("allowed", "include")  # values with commas between them
_DEEP = ("register.", "value.", "properties.")  # keys below which there are objects of objects
OWN_MAP = "own"  # the option for a definition of the user's
LINES_MAX = 500

Form = dict[str, Json]


@dataclass(slots=True)
class Draft:
    """Lists as the instance file has them, each with the places of its entries."""

    transports: list[Json] = field(default_factory=list)
    sensors: list[Json] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # of the sensors

    def add(self, sensor: Json, place: str) -> None:
        """Another sensor."""
        self.sensors.append(sensor)
        self.places.append(place)


def emulated(given: Form, problems: Problems) -> Draft:
    """Sensors without a place: the hub's emulator serves them."""
    form, draft = form_of(given, "sensor"), Draft()
    draft.add(kept(form, "sensor_id", "sensor_type", "friendly_name"), "the sensor")
    more(form, draft, problems, {})
    return draft


def modbus(given: Form, problems: Problems) -> Draft:
    """One line; a sensor by form and more by lines, or one sensor for each unit that was found."""
    form, line = form_of(given, "sensor"), form_of(given, "line")
    draft = Draft()
    if given.get("units") is None:
        sensor = kept(form, "sensor_id", "friendly_name", "unit_id", "stale_after")
        draft.add({**sensor, "transport": LINE_ID, **device_of(form)}, "the sensor")
    else:
        _found_units(given["units"], form, draft, problems)
    prefixes = dict.fromkeys((*REGISTER_KEYS, *MORE_REGISTER_KEYS), "register")
    more(form, draft, problems, {"transport": LINE_ID}, prefixes)
    writes = any(item.get("write") in (True, "true") for item in properties_of(draft, "register"))
    of_map = form.get("registers") == "map" and form.get("write") is True
    draft.transports.append({**line_of(line, given.get("port")), "write": writes or of_map})
    return draft


def properties_of(draft: Draft, single: str) -> Iterator[Form]:
    """What is said of each value of each sensor; `single`: the key of a sensor's only one."""
    for sensor in draft.sensors:
        properties = sensor.get("properties")
        several = properties.values() if isinstance(properties, dict) else ()
        yield from (item for item in (sensor.get(single), *several) if isinstance(item, dict))


def device_of(form: Form) -> Form:
    """Type and registers: one register, or those of a device definition."""
    if form.get("registers") != "map":
        return {**kept(form, "sensor_type"), "register": register_of(form)}
    own = form.get("register_map") == OWN_MAP
    name = form.get("own_map" if own else "register_map")
    wanted = _listed(form.get("include"))
    return {"sensor_type": "generic", "register_map": name} | ({"include": wanted} if wanted else {})


def _found_units(units: Json, form: Form, draft: Draft, problems: Problems) -> None:
    chosen = units if isinstance(units, list) else [] if blank(units) else [units]
    if not chosen:
        problems.add("", "choose at least one unit in the list")
    prefix = form.get("prefix") if not blank(form.get("prefix")) else "unit"
    for unit_id in chosen:
        name = {"friendly_name": f"{form['name']} {shown(unit_id)}"} if not blank(form.get("name")) else {}
        sensor = {
            "sensor_id": f"{prefix}_{unit_id}",
            **kept(form, "stale_after"),
            **name,
            "transport": LINE_ID,
            "unit_id": unit_id,
            **device_of(form),
        }
        draft.add(sensor, f"unit {shown(unit_id)}")


def line_of(form: Form, port: Json = None) -> Form:
    """The transport that a line form describes; `port` is a serial port chosen from a list."""
    driver = "modbus_rtu" if blank(form.get("driver")) else form["driver"]
    line: Form = {"transport_id": LINE_ID, "driver": driver, **kept(form, *LINE_KEYS)}
    if driver == "modbus_tcp":
        host = form.get("host")
        address = f"[{host}]" if isinstance(host, str) and host.count(":") > 1 and "[" not in host else host
        number = form.get("tcp_port")
        suffix = "" if blank(number) else f":{number:g}" if isinstance(number, float) else f":{number}"
        return line | ({} if blank(host) else {"url": f"tcp://{address}{suffix}"})
    url = form.get("url") if not blank(form.get("url")) else port
    line |= {} if blank(url) else {"url": url}
    return line | kept(form, *SERIAL_KEYS)


def register_of(form: Form) -> Form:
    """The register that a sensor form describes."""
    is_switch = form.get("value_kind") == "switch"
    table = form.get("bit_table" if is_switch else "number_table")
    register = kept(form, *REGISTER_KEYS)
    if not register.get("write"):
        register = {key: value for key, value in register.items() if key not in LIMIT_KEYS}
    if is_switch:
        register = {key: value for key, value in register.items() if key not in NUMBER_KEYS}
    return register if blank(table) else {"table": table, **register}


def http(given: Form, problems: Problems) -> Draft:
    """One endpoint by form and more by lines, or those that were found."""
    form, draft = form_of(given, "sensor"), Draft()
    access = access_of(given, form)
    if given.get("found") is None:
        sensor = kept(form, "sensor_id", "sensor_type", "friendly_name", "url", "timeout_s", "stale_after")
        fields = _fields_of(form, problems)
        draft.add({**sensor, **access, **({"fields": fields} if fields else {})}, "the sensor")
    else:
        chosen = given["found"] if isinstance(given["found"], list) else []
        if not chosen:
            problems.add("", "choose at least one sensor in the list")
        for number, item in enumerate(chosen, 1):
            known = kept(item, "sensor_id", "sensor_type", "friendly_name", "url", "fields")
            draft.add({**known, **access}, f"found sensor {number}")
    more(form, draft, problems, access)
    for sensor, place in zip(draft.sensors, draft.places, strict=True):
        if blank(sensor.get("url")):
            problems.add(f"{place}.url", "required")  # without one it would be an emulated sensor
    return draft


def access_of(given: Form, form: Form) -> Form:
    """How the endpoints let us in; password and token may stand beside the form."""
    access: Form = {} if form.get("verify_tls") in (None, "", True) else {"verify_tls": form["verify_tls"]}
    kind = form.get("auth_kind")
    password, token = (given.get(key) or form.get(key) for key in ("password", "token"))
    if kind == "basic":
        auth = {**kept(form, "username"), **({} if blank(password) else {"password": password})}
        access["auth"] = auth or {"username": None}
    elif kind == "bearer":
        access["auth"] = {} if blank(token) else {"bearer": token}
    return access


def _fields_of(form: Form, problems: Problems) -> Form:
    """Property -> path in the answer."""
    if form.get("sensor_type") == "motion":
        named = {
            "motion_detected": "motion_path",
            "battery_level": "battery_path",
            "signal_strength": "signal_path",
        }
        fields = {name: form[key] for name, key in named.items() if not blank(form.get(key))}
        if fields and "motion_detected" not in fields:
            fields = {"motion_detected": "motion_detected", **fields}
    else:
        fields = {} if blank(form.get("value_path")) else {"value": form["value_path"]}
    for number, line in _lines(form.get("fields"), "fields", problems):
        name, equals, path = (part.strip() for part in line.partition("="))
        if not equals:
            problems.add(f"fields, line {number}", "must be name=path")
        fields[name] = path
    return fields


def more(
    form: Form, draft: Draft, problems: Problems, common: Form, prefixes: Mapping[str, str] | None = None
) -> None:
    """Sensors as lines of text: an id, a type, then key=value. `prefixes`: where a key stands below the sensor."""
    for number, line in _lines(form.get("more"), "more sensors", problems):
        place = f"more sensors, line {number}"
        try:
            words = shlex.split(line)
        except ValueError:
            problems.add(place, "a quotation mark is not closed")
            continue
        plain = [word for word in words if not re.match(r"[\w.]+=", word)]
        if len(plain) != 2 or words[:2] != plain:
            problems.add(place, "must begin with an id and a type, then key=value; quote a value with spaces")
            continue
        sensor: Any = {"sensor_id": plain[0], "sensor_type": plain[1]}
        for word in words[2:]:
            key, _, value = word.partition("=")
            prefix = (prefixes or {}).get(key.partition(".")[0])
            is_list = prefixes is not None and key.rpartition(".")[2] in LIST_KEYS
            content = _listed(value) if is_list else value
            _put(sensor, f"{prefix}.{key}" if prefix else key, content)
        draft.add({**common, **sensor}, place)


def _put(sensor: Form, path: str, value: Json) -> None:
    *groups, name = path.split(".", 2 if path.startswith(_DEEP) else 1)
    for group in groups:
        inner = sensor.setdefault(group, {})
        if not isinstance(inner, dict):
            return
        sensor = inner
    sensor[name] = value


def _listed(given: Json) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else []


def _lines(given: Json, place: str, problems: Problems) -> list[tuple[int, str]]:
    """Numbered lines of a text, without empty ones and comments."""
    if blank(given):
        return []
    if not isinstance(given, str):
        problems.add(place, f"must be a text, not {shown(given)}")
        return []
    lines = given.splitlines()
    if len(lines) > LINES_MAX:
        problems.add(place, f"at most {LINES_MAX} lines")
    numbered = [(number, line.strip()) for number, line in enumerate(lines[:LINES_MAX], 1)]
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def form_of(given: Form, key: str) -> Form:
    """The form of that name; empty where there is none."""
    form = given.get(key)
    return form if isinstance(form, dict) else {}


def kept(form: Json, *keys: str) -> Form:
    """What was filled in of these."""
    if not isinstance(form, dict):
        return {}
    return {key: form[key] for key in keys if not blank(form.get(key))}
