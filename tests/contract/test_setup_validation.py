"""validate_setup against the hub itself: what the tool lets through, the hub takes, and what it refuses is wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.setup_verdicts import Document, hubs_problems, modules_of_the_tools, tools_verdict

GOOD: Document = {
    "transports": [
        {
            **{
                "transport_id": "bus0",
                "driver": "modbus_rtu",
                "url": "/dev/ttyUSB0",
                "baudrate": 9600,
                "parity": "E",
            },
            **{"bytesize": 8, "stopbits": 2, "timeout_s": 0.5, "read_interval": 5, "write": True},
            **{
                "reconnect_backoff_ms": 1000,
                "reconnect_timeout_sec": 0,
                "bridge": ["mqtt"],
                "device_name": "x",
            },
        },
        {"transport_id": "plc", "driver": "modbus_tcp", "url": "tcp://192.0.2.10:502"},
        {"transport_id": "gate", "driver": "http_json", "url": "http://192.0.2.11/all"},
        {
            **{
                "transport_id": "wallbox",
                "driver": "rapi",
                "url": "hwgrep://SER=A5&n=2",
                "profile": "firmware",
            },
            **{"baudrate": 57600, "write": "relaxed", "parallelism": "thread"},
        },
        {
            **{"transport_id": "desk", "driver": "ascii_line", "url": "rfc2217://192.0.2.12:4001"},
            **{"terminator": "cr", "send_terminator": "none", "encoding": "latin-1", "max_line_length": 80},
        },
    ],
    "sensors": [
        {
            **{"sensor_id": "cellar", "sensor_type": "temperature", "transport": "bus0", "unit_id": 3},
            **{"friendly_name": "Cellar", "model": "M", "enabled": True, "stale_after": 30, "bridge": "mqtt"},
            "register": {
                **{
                    "table": "holding",
                    "address": 1,
                    "data_type": "int16",
                    "scale": 0.1,
                    "offset": 1,
                    "unit": "°C",
                },
                **{"word_order": "big", "write": True, "min": 5, "max": 50, "step": 0.5},
            },
        },
        {
            **{"sensor_id": "boiler", "sensor_type": "generic", "transport": "plc"},
            "properties": {
                "flow": {"table": "input", "address": 10, "data_type": "float32"},
                "pump": {"table": "coil", "address": 0},
            },
        },
        {
            **{
                "sensor_id": "yard",
                "sensor_type": "motion",
                "url": "http://192.0.2.20/api/pir",
                "timeout_s": 3,
            },
            **{"headers": {"X-Key": "k"}, "auth": {"username": "u", "password": "p"}, "verify_tls": False},
            "fields": {"motion_detected": "pir.active", "battery_level": "battery"},
            "commands": {
                "led": {
                    **{"method": "PUT", "url": "http://192.0.2.20/led?to={value}", "body": {"on": "{value}"}},
                    **{"kind": "number", "min": 0, "max": 9, "step": 1, "headers": {"X-Key": "l"}},
                },
            },
        },
        {"sensor_id": "gate1", "sensor_type": "co2", "transport": "gate", "fields": {"value": "a.0.b"}},
        {"sensor_id": "lamp", "sensor_type": "generic"},
        {
            **{"sensor_id": "meter", "sensor_type": "generic", "transport": "plc", "unit_id": 255},
            **{"register_map": "eastron_sdm120", "include": ["voltage"], "max_registers": 20, "max_gap": 0},
            **{"delay_ms": 5, "write_multiple": True},
            "properties": {
                "mode": {
                    **{
                        "table": "holding",
                        "address": 3,
                        "bit": 4,
                        "bits": 2,
                        "values": {"0": "off", "0x1": "on"},
                    },
                    **{"write": True, "allowed": [0, 1], "read_interval": 60, "description": "x"},
                },
                "name": {
                    "table": "holding",
                    "address": 9,
                    "data_type": "string",
                    "length": 8,
                    "pattern": "[a-z]*",
                },
                "alarms": {
                    "table": "input",
                    "address": 4,
                    "data_type": "flags",
                    "flags": {"b0": "hot", "b1&b2": "y"},
                },
                "start": {"table": "holding", "address": 5, "write": True, "read": False},
                "big": {"table": "input", "address": 20, "data_type": "int64", "sign_magnitude": True},
            },
        },
        {"sensor_id": "ev", "sensor_type": "generic", "transport": "wallbox", "stop": "disable"},
        {
            **{"sensor_id": "scale", "sensor_type": "generic", "transport": "desk", "unit_id": "A1"},
            **{"request": "W{unit_id} ", "match": "{unit_id}"},
            "value": {
                **{"regex": r"([-+]\d+,\d+) kg", "type": "number", "scale": 0.1, "offset": 1, "decimal": ","},
                **{"unit": "kg", "min": 0, "max": 9, "step": 0.5, "command": "P{value:.2f}", "answer": "^OK"},
            },
        },
        {
            **{"sensor_id": "air", "sensor_type": "generic", "transport": "desk"},
            "properties": {
                "t": {"json": "air.0.t"},
                "fan": {"json": "fan", "type": "boolean", "on": "RUN", "off": "STOP", "optional": True},
            },
        },
    ],
}
VALUES: list[Any] = [
    *(None, "", "x", "X y", "1", "1e1", "a/b", "\u0000", "\ud800", "x" * 70, "x" * 300, " ", "\r", "kg\r"),
    *(True, 0, 1, -1, 2, 7, 0.5, 15, 250, 255, 256, 65535, 65536, 1e9, 10**20, 10**30, -5000.5, 1e39, 1e308),
    *("coil", "DISCRETE_INPUT", "Float32", "uint16", "Little", "modbus_tcp", "http_json", "motion", "float64"),
    *("string", "hex", "flags", "INT64", "rapi", "ascii_line", "Relaxed", "unsafe", "process", "firmware"),
    *("bus0", "lamp", "cellar", "emulator1", "http:yard", "a..b", "{value}", "true", "POST", "N", "mqtt"),
    *("/dev/ttyS0", "socket://h:1", "socket://h", "rfc2217://h:1?poll_modem", "socket://h:1?x=1", "h:1"),
    *("hwgrep://", "hwgrep://(", "hwgrep://a b&n=1", "hwgrep://x&n=0", "hwgrep://x&y", "HWGREP://x", "/dev/ttyUSB0"),
    *("http://h", "https://u:p@h:8/x?y=1", "http://h:0/", "http://h h/", "ftp://h/", "http://{value}/"),
    *([], {}, [1], ["mqtt"], {"x": "y"}, {"value": "v"}, {"unit": "v"}, {"a/b": "v", "a+b": "w"}, ["voltage"]),
    *({"bearer": "t"}, {"bearer": "t t"}, {"username": "u", "bearer": "t"}, {"password": "p"}, {"b3": "x"}),
    *(["x"], [0, "1"], [0.5], {"0": "x"}, {"0": 1}, {"0": "x", "0x0": "y"}, {"b0": "x"}, {"b0&b1": "x", "b1&b0": "y"}),
    *("(a+)+", ".*.*.*x", "(a)(b)", "(", r"(\d)\1", "crlf", "NONE", "ascii"),
    *("{value:03d}", "{value}{value}", "€{value}"),
    *("eastron_sdm120", "emulator_co2", "{unit_id}", ",", "Boolean", "sleep"),
]  # fmt: skip


@pytest.fixture(scope="module")
def actions() -> Iterator[Any]:
    with modules_of_the_tools() as import_one:
        yield import_one


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places_in(inner, (*path, key))


def changed(path: tuple[Any, ...], value: Any) -> Document:
    document = copy.deepcopy(GOOD)
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return document


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


STEP = 17  # of 1, all values are tried in all places: minutes


def is_stricter(path: tuple[Any, ...], value: Any) -> bool:
    """What the tool refuses though the hub would take it: no form makes it, so it is a mistake."""
    is_flag = path[-1] in ("write", "verify_tls") and (value in (0, 1) or value == "N")
    no_user = path[-1] == "username" and not str(value).strip()
    return is_flag or no_user or (path, value) == (("sensors",), [])


PLACES = list(places_in(GOOD))


def test_the_good_setup_is_good_for_both(actions: Any, tmp_path: Path) -> None:
    problems, result = tools_verdict(actions, GOOD)
    assert problems == ""
    assert result["transports"] == GOOD["transports"]
    assert [item["sensor_id"] for item in result["sensors"]] == [
        item["sensor_id"] for item in GOOD["sensors"]
    ]
    assert hubs_problems(GOOD, tmp_path) == []


@pytest.mark.parametrize("top", ["transports", "sensors"])
def test_the_tool_and_the_hub_agree_on_every_change_of_one_value(
    top: str, actions: Any, tmp_path: Path
) -> None:
    disagreements = []
    places = [path for path in PLACES if path[0] == top]
    assert len(places) > 15
    for index, path in enumerate(places):
        for value in VALUES[index % STEP :: STEP]:
            document = changed(path, value)
            problems, result = tools_verdict(actions, document)
            hub = hubs_problems(document if problems else result, tmp_path)
            may_be_own = path[-1] == "register_map" and not problems  # the tool does not see users' maps
            if bool(problems) != bool(hub) and not may_be_own and not is_stricter(path, value):
                disagreements.append((".".join(map(str, path)), value, problems, hub))
    assert not disagreements, "\n".join(map(repr, disagreements[:40]))


@pytest.mark.parametrize(
    "path",
    [
        ("transports", 0),
        ("transports", 1),
        ("transports", 2),
        ("sensors", 0),
        ("sensors", 0, "register"),
        ("sensors", 1, "properties", "flow"),
        ("sensors", 2),
        ("sensors", 2, "auth"),
        ("sensors", 2, "commands", "led"),
        ("sensors", 3),
        ("sensors", 4),
        ("sensors", 5),
        ("sensors", 5, "properties", "mode"),
        ("sensors", 6),
        ("sensors", 7),
        ("sensors", 7, "value"),
        ("transports", 3),
        ("transports", 4),
    ],
)
@pytest.mark.parametrize("key", ["surprise", "register", "fields", "baudrate"])
def test_a_key_that_does_not_belong_there_is_refused_by_both(
    path: tuple[Any, ...], key: str, actions: Any, tmp_path: Path
) -> None:
    place = at(GOOD, path)
    if key in place:
        return
    document = changed(path, {**place, key: "x"})
    problems, result = tools_verdict(actions, document)
    assert bool(problems) == bool(hubs_problems(document if problems else result, tmp_path))
    assert problems
