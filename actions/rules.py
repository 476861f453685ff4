"""What `transports` and `sensors` of an instance may say: the hub's own rules, told before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import checks
import rules_http
import rules_modbus
import rules_text
from answering import Json, shown
from checks import Check, Entry, Problems
from urls import held_alone, http_url, serial_url, tcp_url

MODBUS_DRIVERS = ("modbus_rtu", "modbus_tcp")
SERIAL_DRIVERS = ("modbus_rtu", "rapi", "ascii_line")
HTTP_DRIVER = "http_json"
DRIVERS = (*MODBUS_DRIVERS, "rapi", "ascii_line", HTTP_DRIVER)


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
    owners: dict[str, str] = {}  # port -> where it is used
    found = []
    for content, place in zip(given, places, strict=True):
        transport = _transport(content, place, seen, problems)
        port = held_alone(str(transport.get("url", "")))
        if port is not None and owners.setdefault(port, place) != place:
            problems.add(f"{place}.url", f"is the same line as {owners[port]}; put its sensors there")
        found.append(transport)
    return found


def _transport(content: Json, place: str, seen: dict[str, str], problems: Problems) -> dict[str, Json]:
    checks.note_unusable(content, place, problems)
    entry = Entry(_with_url(content), place, problems)
    _unique(entry, "transport_id", seen)
    driver = entry.need("driver", checks.choice(DRIVERS))
    entry.need("url", {"modbus_tcp": tcp_url, HTTP_DRIVER: http_url}.get(str(driver), serial_url))
    for key, check in _OF_LINES.items():
        entry.take(key, check)
    if driver in SERIAL_DRIVERS:
        for key, check in _OF_SERIAL_LINES.items():
            entry.take(key, check)
    if driver in MODBUS_DRIVERS:
        entry.take("delay_ms", rules_modbus.DELAY_MS)
    elif driver == "rapi":
        entry.take("profile", checks.choice(("auto", "firmware", "emulator")))
    elif driver == "ascii_line":
        rules_text.check_line(entry)
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
    lines = {str(transport.get("transport_id")): transport for transport in transports}
    seen: dict[str, str] = {}
    sensors = []
    for content, place in zip(given, places, strict=True):
        checks.note_unusable(content, place, problems)
        entry = Entry(content, place, problems)
        _unique(entry, "sensor_id", seen)
        sensor_type = entry.need("sensor_type", checks.choice(types))
        for key, check in _COMMON.items():
            entry.take(key, check)
        _place(entry, lines, sensor_type)
        entry.refuse_rest()
        sensors.append(entry.kept)
    if any("transport" not in sensor and "url" not in sensor for sensor in sensors):
        for transport_id in filter(lambda name: name.startswith("emulator"), lines):
            problems.add(f"transport {transport_id}", "ids starting with 'emulator' are reserved")
    return sensors


def _unique(entry: Entry, key: str, seen: dict[str, str]) -> None:
    own = entry.need(key, checks.identifier)
    if own in seen:
        entry.fail(key, f"{own!r} is used twice; also by {seen[own]}")
    elif own is not None:
        seen[own] = entry.where


def _place(entry: Entry, lines: Mapping[str, dict[str, Json]], sensor_type: str | None) -> None:
    """Where the sensor lives, and what is said about it there."""
    own_line = f"http:{entry.kept.get('sensor_id')}"
    has_own_line = entry.has("url") or (sensor_type == "motion" and not entry.has("transport"))
    if has_own_line and own_line in lines:
        entry.fail("", f"its own line is called {own_line!r}; a transport may not be called so")
    if entry.has("url") and entry.has("transport"):
        entry.fail("", "has both a transport and a url; leave one out")
    if entry.has("url"):
        entry.take("url", http_url)
        rules_http.check_endpoint(entry)
    elif entry.has("transport"):
        transport = entry.take("transport", checks.identifier)
        if transport is not None and transport not in lines:
            known = ", ".join(sorted(lines)) or "none"
            entry.fail("transport", f"there is no transport {transport!r}; there are: {known}")
        _options(entry, lines.get(str(transport), {}))


def _options(entry: Entry, line: dict[str, Json]) -> None:
    """What its line's driver lets a sensor say."""
    match line.get("driver"):
        case "http_json":
            rules_http.check_endpoint(entry)
        case "rapi":
            entry.take("stop", checks.choice(("sleep", "disable")))
        case "ascii_line":
            rules_text.check_sensor(entry, line)
        case driver:
            rules_modbus.check_unit(entry, is_tcp=driver == "modbus_tcp")


def _bridge(value: Json) -> Any:
    known = checks.choice(("mqtt",))
    return [known(name) for name in (value if isinstance(value, list) else [value])]


_COMMON: Mapping[str, Check] = {
    "friendly_name": checks.text,
    "enabled": checks.boolean,
    "model": checks.text,
    "stale_after": checks.number(0.1, 604_800),
    "bridge": _bridge,
}
_OF_LINES: Mapping[str, Check] = {
    "timeout_s": checks.number(0.01, 300),
    "read_interval": checks.number(0.05, 86400),
    "write": checks.write_mode,
    "parallelism": checks.choice(("auto", "single", "thread", "process")),
    "reconnect_backoff_ms": checks.number(10, 600_000),
    "reconnect_timeout_sec": checks.number(0, 31_536_000),
    "bridge": _bridge,
    **dict.fromkeys(("device_name", "manufacturer", "model", "serial_number"), checks.text),
}
_OF_SERIAL_LINES: Mapping[str, Check] = {
    "baudrate": checks.integer(50, 4_000_000),
    "bytesize": checks.integer(7, 8),
    "parity": checks.choice("NEO"),
    "stopbits": checks.integer(1, 2),
}
