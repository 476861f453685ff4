"""From what the wizard's forms hold to the `transports` and `sensors` of an instance; nothing is checked here.

What was left open is left out. Places name what the person filled in, for problems.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from answering import Json, shown
from checks import Problems, blank

LINE_ID = "line"
NUMBER_KEYS = ("data_type", "scale", "offset", "word_order", "min", "max", "step")  # of no use for a bit
REGISTER_KEYS = ("table", "address", *NUMBER_KEYS, "unit", "write")
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
    form, draft = _form(given, "sensor"), Draft()
    draft.add(_kept(form, "sensor_id", "sensor_type", "friendly_name"), "the sensor")
    _more(form, draft, problems, {})
    return draft


def modbus(given: Form, problems: Problems) -> Draft:
    """One line; a sensor by form and more by lines, or one sensor for each unit that was found."""
    form, line = _form(given, "sensor"), _form(given, "line")
    draft = Draft()
    if given.get("units") is None:
        sensor = _kept(form, "sensor_id", "sensor_type", "friendly_name", "unit_id", "stale_after")
        draft.add({**sensor, "transport": LINE_ID, "register": register_of(form)}, "the sensor")
    else:
        _found_units(given["units"], form, draft, problems)
    _more(form, draft, problems, {"transport": LINE_ID})
    writable = any(
        register.get("write") in (True, "true")
        for sensor in draft.sensors
        if isinstance(register := sensor.get("register"), dict)
    )
    draft.transports.append({**line_of(line, given.get("port")), "write": writable})
    return draft


def _found_units(units: Json, form: Form, draft: Draft, problems: Problems) -> None:
    chosen = units if isinstance(units, list) else [] if blank(units) else [units]
    if not chosen:
        problems.add("", "choose at least one unit in the list")
    prefix = form.get("prefix") if not blank(form.get("prefix")) else "unit"
    for unit_id in chosen:
        name = {"friendly_name": f"{form['name']} {shown(unit_id)}"} if not blank(form.get("name")) else {}
        sensor = {
            "sensor_id": f"{prefix}_{unit_id}",
            **_kept(form, "sensor_type", "stale_after"),
            **name,
            "transport": LINE_ID,
            "unit_id": unit_id,
            "register": register_of(form),
        }
        draft.add(sensor, f"unit {shown(unit_id)}")


def line_of(form: Form, port: Json = None) -> Form:
    """The transport that a line form describes; `port` is a serial port chosen from a list."""
    driver = "modbus_rtu" if blank(form.get("driver")) else form["driver"]
    line: Form = {"transport_id": LINE_ID, "driver": driver, **_kept(form, "timeout_s", "read_interval")}
    if driver == "modbus_tcp":
        host = form.get("host")
        address = f"[{host}]" if isinstance(host, str) and host.count(":") > 1 and "[" not in host else host
        number = form.get("tcp_port")
        suffix = "" if blank(number) else f":{number:g}" if isinstance(number, float) else f":{number}"
        return line | ({} if blank(host) else {"url": f"tcp://{address}{suffix}"})
    url = form.get("url") if not blank(form.get("url")) else port
    line |= {} if blank(url) else {"url": url}
    return line | _kept(form, "baudrate", "bytesize", "parity", "stopbits")


def register_of(form: Form) -> Form:
    """The register that a sensor form describes."""
    is_switch = form.get("value_kind") == "switch"
    table = form.get("bit_table" if is_switch else "number_table")
    register = _kept(form, *REGISTER_KEYS)
    if not register.get("write"):
        register = {key: value for key, value in register.items() if key not in ("min", "max", "step")}
    if is_switch:
        register = {key: value for key, value in register.items() if key not in NUMBER_KEYS}
    return register if blank(table) else {"table": table, **register}


def http(given: Form, problems: Problems) -> Draft:
    """One endpoint by form and more by lines, or those that were found."""
    form, draft = _form(given, "sensor"), Draft()
    access = access_of(given, form)
    if given.get("found") is None:
        sensor = _kept(form, "sensor_id", "sensor_type", "friendly_name", "url", "timeout_s", "stale_after")
        fields = _fields_of(form, problems)
        draft.add({**sensor, **access, **({"fields": fields} if fields else {})}, "the sensor")
    else:
        chosen = given["found"] if isinstance(given["found"], list) else []
        if not chosen:
            problems.add("", "choose at least one sensor in the list")
        for number, item in enumerate(chosen, 1):
            known = _kept(item, "sensor_id", "sensor_type", "friendly_name", "url", "fields")
            draft.add({**known, **access}, f"found sensor {number}")
    _more(form, draft, problems, access)
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
        auth = {**_kept(form, "username"), **({} if blank(password) else {"password": password})}
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


def _more(form: Form, draft: Draft, problems: Problems, common: Form) -> None:
    """Sensors as lines of text: an id, a type, then key=value."""
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
            _put(sensor, f"register.{key}" if "transport" in common and key in REGISTER_KEYS else key, value)
        draft.add({**common, **sensor}, place)


def _put(sensor: Form, key: str, value: str) -> None:
    group, dot, name = key.partition(".")
    if not dot:
        sensor[group] = value
    elif isinstance(inner := sensor.setdefault(group, {}), dict):
        inner[name] = value


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


def _form(given: Form, key: str) -> Form:
    form = given.get(key)
    return form if isinstance(form, dict) else {}


def _kept(form: Json, *keys: str) -> Form:
    if not isinstance(form, dict):
        return {}
    return {key: form[key] for key in keys if not blank(form.get(key))}
