"""What `transports` and `sensors` of an instance may say: the hub's own rules, told before it starts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import checks
from answering import Json, shown
from checks import Entry, Problems, WrongError

MODBUS_DRIVERS = ("modbus_rtu", "modbus_tcp")
HTTP_DRIVER = "http_json"
REGISTERS = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2}
BIT_TABLES = ("coil", "discrete")
TABLES = ("holding", "input", *BIT_TABLES)
NAME_MAX_CHARS = 64
RESERVED_NAMES = (
    *("cache_age", "cached", "device_id", "emulated", "error", "message"),
    *("quality", "sensor_id", "status", "timestamp", "type", "unit"),
)
_FLOAT32_MAX = Decimal("3.4028235e38")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_BEARER = re.compile(r"[\x21-\x7e]+")


def items(value: Json, where: str, problems: Problems) -> list[Json]:
    """A list; one object instead of a list counts as a list of one."""
    if checks.blank(value):
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        problems.add(where, f"must be a list of objects, not {shown(value)}")
        return []
    return value


def check_transports(
    given: Sequence[Json], places: Sequence[str], problems: Problems
) -> list[dict[str, Json]]:
    """The transports with clean values; a problem for all that is wrong."""
    seen: dict[str, str] = {}
    return [_transport(content, place, seen, problems) for content, place in zip(given, places, strict=True)]


def _transport(content: Json, place: str, seen: dict[str, str], problems: Problems) -> dict[str, Json]:
    checks.note_unusable(content, place, problems)
    entry = Entry(_with_url(content), place, problems)
    _unique(entry, "transport_id", seen)
    driver = entry.need("driver", checks.choice([*MODBUS_DRIVERS, HTTP_DRIVER]))
    entry.need(
        "url", {"modbus_tcp": checks.tcp_url, HTTP_DRIVER: checks.http_url}.get(driver, checks.serial_url)
    )
    entry.take("timeout_s", checks.number(0.01, 300))
    entry.take("read_interval", checks.number(0.05, 86400))
    entry.take("write", checks.boolean)
    entry.take("reconnect_backoff_ms", checks.number(10, 600_000))
    entry.take("reconnect_timeout_sec", checks.number(0, 31_536_000))
    entry.take("bridge", _bridge)
    for key in ("device_name", "manufacturer", "model", "serial_number"):
        entry.take(key, checks.text)
    if driver == "modbus_rtu":
        entry.take("baudrate", checks.integer(50, 4_000_000))
        entry.take("bytesize", checks.integer(7, 8))
        entry.take("parity", checks.choice("NEO"))
        entry.take("stopbits", checks.integer(1, 2))
    entry.refuse_rest()
    return entry.kept


def _with_url(content: Json) -> Json:
    """`port` is another word for `url`."""
    if not isinstance(content, dict) or checks.blank(content.get("port")):
        return content
    rest = {key: value for key, value in content.items() if key != "port"}
    if checks.blank(rest.get("url")):
        return {**rest, "url": content["port"]}
    return rest if rest["url"] == content["port"] else content


def check_sensors(
    given: Sequence[Json],
    places: Sequence[str],
    transports: Sequence[dict[str, Json]],
    types: Iterable[str],
    problems: Problems,
) -> list[dict[str, Json]]:
    """The sensors with clean values; a problem for all that is wrong."""
    drivers = {str(t.get("transport_id")): t.get("driver") for t in transports}
    seen: dict[str, str] = {}
    sensors = []
    for content, place in zip(given, places, strict=True):
        checks.note_unusable(content, place, problems)
        entry = Entry(content, place, problems)
        _unique(entry, "sensor_id", seen)
        sensor_type = entry.need("sensor_type", checks.choice(types))
        for key, check in _COMMON.items():
            entry.take(key, check)
        _place(entry, drivers, sensor_type)
        entry.refuse_rest()
        sensors.append(entry.kept)
    if any("transport" not in sensor and "url" not in sensor for sensor in sensors):
        for transport_id in filter(lambda name: name.startswith("emulator"), drivers):
            problems.add(f"transport {transport_id}", "ids starting with 'emulator' are reserved")
    return sensors


def _unique(entry: Entry, key: str, seen: dict[str, str]) -> None:
    own = entry.need(key, checks.identifier)
    if own in seen:
        entry.fail(key, f"{own!r} is used twice; also by {seen[own]}")
    elif own is not None:
        seen[own] = entry.where


def _place(entry: Entry, drivers: dict[str, Json], sensor_type: str | None) -> None:
    """Where the sensor lives, and what is said about it there."""
    own_line = f"http:{entry.kept.get('sensor_id')}"
    has_own_line = entry.has("url") or (sensor_type == "motion" and not entry.has("transport"))
    if has_own_line and own_line in drivers:
        entry.fail("", f"its own line is called {own_line!r}; a transport may not be called so")
    if entry.has("url") and entry.has("transport"):
        entry.fail("", "has both a transport and a url; leave one out")
    if entry.has("url"):
        entry.take("url", checks.http_url)
        _http(entry)
    elif entry.has("transport"):
        transport = entry.take("transport", checks.identifier)
        if transport is not None and transport not in drivers:
            known = ", ".join(sorted(drivers)) or "none"
            entry.fail("transport", f"there is no transport {transport!r}; there are: {known}")
        if drivers.get(transport) == HTTP_DRIVER:
            _http(entry)
        else:
            _modbus(entry)


def _modbus(entry: Entry) -> None:
    entry.take("unit_id", checks.integer(1, 247))
    register, properties = entry.pop("register"), entry.pop("properties")
    if (register is None) == (properties is None):
        entry.fail("", "exactly one of register and properties is required")
    if register is not None:
        entry.kept["register"] = _register(register, f"{entry.where}.register", entry)
    if properties is not None:
        named = _named(entry, "properties", properties)
        if not named:
            entry.fail("properties", "must have at least one property")
        entry.kept["properties"] = {
            name: _register(content, f"{entry.where}.properties.{name}", entry)
            for name, content in named.items()
        }


def _register(content: Json, where: str, owner: Entry) -> dict[str, Json]:
    entry = Entry(content, where, owner.problems)
    table = entry.need("table", _table)
    address = entry.need("address", checks.integer(0, 65535))
    data_type = entry.take("data_type", checks.choice(REGISTERS)) or "uint16"
    scale, offset = entry.take("scale", checks.finite), entry.take("offset", checks.finite)
    entry.take("unit", checks.text)
    entry.take("word_order", checks.choice(("big", "little")))
    write = entry.take("write", checks.boolean)
    low, high = entry.take("min", checks.finite), entry.take("max", checks.finite)
    entry.take("step", checks.positive)
    entry.refuse_rest()
    if scale == 0:
        entry.fail("scale", "must not be 0")
        scale = 1
    if write and table in ("input", "discrete"):
        entry.fail("write", f"{table} is read-only; only holding and coil can be written")
    if low is not None and high is not None and low > high:
        entry.fail("min", f"{low:g} is greater than max {high:g}")
    if table not in BIT_TABLES:
        if address is not None and address + REGISTERS[data_type] > 65536:
            entry.fail("address", f"{data_type} takes two registers, so it is at most 65534")
        for key, value in (("min", low), ("max", high)):
            _fits(entry, key, value, data_type, 1 if scale is None else scale, offset or 0)
    return entry.kept


def _fits(entry: Entry, key: str, value: float | None, data_type: str, scale: float, offset: float) -> None:
    """Whether the register can hold the limit at all."""
    if value is None:
        return
    raw = (Decimal(repr(value)) - Decimal(repr(offset))) / Decimal(repr(scale))
    bits = 16 * REGISTERS[data_type]
    if data_type == "float32":
        lowest, highest = -_FLOAT32_MAX, _FLOAT32_MAX
    elif data_type.startswith("u"):
        lowest, highest = Decimal(0), Decimal(2**bits - 1)
    else:
        lowest, highest = Decimal(-(2 ** (bits - 1))), Decimal(2 ** (bits - 1) - 1)
    if not lowest <= raw <= highest:
        entry.fail(key, f"{value:g} does not fit {data_type} with this scale and offset")


def _table(value: Json) -> str:
    word = value.strip().lower() if isinstance(value, str) else value
    return str(checks.choice(TABLES)("discrete" if word == "discrete_input" else word))


def _http(entry: Entry) -> None:
    entry.take("timeout_s", checks.number(0.1, 60))
    entry.take("headers", _headers)
    entry.take("verify_tls", checks.boolean)
    auth, fields, commands = entry.pop("auth"), entry.pop("fields"), entry.pop("commands")
    if isinstance(auth, dict):
        entry.kept["auth"] = _auth(auth, entry)
    elif auth is not None:
        entry.fail("auth", "must be an object")  # what it is instead may be a secret
    names: dict[str, Json] = {}
    if fields is not None:
        names |= _named(entry, "fields", fields)
        if not names:
            entry.fail("fields", "must have at least one field")
        for name, path in names.items():
            if not isinstance(path, str) or not all(path.split(".")):
                entry.fail(f"fields.{name}", f"{shown(path)} is no path like list.0.x")
        entry.kept["fields"] = dict(names)
    if commands is not None:
        named = _named(entry, "commands", commands, {**dict.fromkeys(names)})
        entry.kept["commands"] = {
            name: _command(content, f"{entry.where}.commands.{name}", entry)
            for name, content in named.items()
        }


def _auth(content: dict[str, Json], owner: Entry) -> dict[str, Json]:
    entry = Entry(content, f"{owner.where}.auth", owner.problems)
    username = entry.take("username", checks.secret)
    password, bearer = entry.take("password", checks.secret), entry.take("bearer", checks.secret)
    entry.refuse_rest()
    if (username is None) == (bearer is None) or (password is not None and username is None):
        entry.fail("", "must be username and password, or bearer")
    if bearer is not None and not _BEARER.fullmatch(bearer):
        entry.fail("bearer", "must be printable ASCII without spaces")
    return entry.kept


def _command(content: Json, where: str, owner: Entry) -> dict[str, Json]:
    entry = Entry(content, where, owner.problems)
    entry.take("method", checks.choice(("POST", "PUT", "PATCH", "GET")))
    entry.take("url", lambda value: checks.http_url(value) if _plain(value) else None)
    entry.take("headers", _headers)
    kind = entry.take("kind", checks.choice(("number", "boolean", "text", "any")))
    low, high = entry.take("min", checks.finite), entry.take("max", checks.finite)
    step = entry.take("step", checks.positive)
    body = entry.pop("body")
    if body is not None:
        entry.kept["body"] = body
    entry.refuse_rest()
    if low is not None and high is not None and low > high:
        entry.fail("min", f"{low:g} is greater than max {high:g}")
    if kind != "number" and (low, high, step) != (None, None, None):
        entry.fail("kind", "min, max and step need the kind number")
    return entry.kept


def _plain(url: Json) -> bool:
    """`{value}` may stand in the path and the query only."""
    head = url.split("://", 1)[-1].split("/", 1)[0] if isinstance(url, str) else ""
    if "{value}" in head:
        raise WrongError("{value} may stand in the path and the query only")
    return True


def _named(entry: Entry, key: str, value: Json, taken: dict[str, Json] | None = None) -> dict[str, Json]:
    """An object whose keys are names of properties."""
    if not isinstance(value, dict):
        entry.fail(key, f"must be an object, not {shown(value)}")
        return {}
    topics = {_topic(name): name for name in taken or {}}
    for name in value:
        topic = _topic(name)
        if not name.strip() or len(name) > NAME_MAX_CHARS:
            entry.fail(key, f"property name {name[:70]!r} must have 1 to {NAME_MAX_CHARS} characters")
        elif any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
            entry.fail(key, f"property name {name!r} has control characters")
        elif topic in RESERVED_NAMES:
            entry.fail(key, f"property name {name!r} is reserved; taken are {', '.join(RESERVED_NAMES)}")
        elif topics.get(topic, name) != name:
            entry.fail(key, f"property names {topics[topic]!r} and {name!r} are the same MQTT topic")
        topics[topic] = name
    return value


def _topic(name: str) -> str:
    return re.sub(r"[/+#]", "_", name)


def _headers(value: Json) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongError("must be an object of names and texts")
    clean = {}
    for name, given in value.items():
        content = str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given
        if not _HEADER_NAME.fullmatch(name):
            raise WrongError(f"{name[:60]!r} is no header name")
        if not isinstance(content, str) or not _HEADER_VALUE.fullmatch(content):
            raise WrongError(f"the value of {name} has characters that no header may have")
        clean[name] = content.strip()
    return clean


def _bridge(value: Json) -> Any:
    known = checks.choice(("mqtt",))
    return [known(name) for name in (value if isinstance(value, list) else [value])]


_COMMON = {
    "friendly_name": checks.text,
    "enabled": checks.boolean,
    "model": checks.text,
    "stale_after": checks.number(0.1, 604_800),
    "bridge": _bridge,
}
