"""The platform's tools and input that was made to hurt them: each time a refusal in plain words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.setup_wizard import connector_folder
from tests.integration.test_actions import TOOLS, ask, refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


HOSTILE: list[Any] = [
    *({}, {"what": "everything"}, {"what": ["serial_ports"]}, {"what": {"a": 1}}, {"kind": "x"}, {"kind": []}),
    *({"kind": "modbus"}, {"kind": "modbus", "line": 1, "sensor": [], "hub": "x"}, {"kind": "http", "sensor": 5}),
    *({"kind": "modbus", "sensor": {"more": 5}}, {"kind": "emulated", "sensor": {"more": '"' * 9}}),
    {"kind": "modbus", "line": {"url": ["/dev/null"]}, "sensor": {"sensor_id": {}, "address": "0x10"}},
    *({"kind": "modbus", "units": {"a": 1}, "sensor": {}}, {"kind": "modbus", "units": [None, {}, "x", 1e30]}),
    *({"kind": "http", "found": "x"}, {"kind": "http", "found": [1, None, {"url": {}}]}),
    *({"sensors": 5}, {"sensors": [None]}, {"sensors": [[]]}, {"sensors": {"sensor_id": "a"}}, {"transports": "x"}),
    {"sensors": [{"sensor_id": "\ud800", "sensor_type": "\u0000", "url": "http://[::1"}], "hub": {"instance_id": {}}},
    {"sensors": [{"sensor_id": "a", "sensor_type": "generic", "url": 5, "fields": [], "headers": 5, "auth": "x"}]},
    {"sensors": [{"sensor_id": "a", "sensor_type": "generic", "transport": {}, "register": {"table": []}}]},
    {"sensors": [{"sensor_id": "a", "sensor_type": "generic"}], "timeout_s": [], "hub": []},
    *({"what": "modbus_units", "line": line} for line in (
        None, {}, {"url": "/etc/passwd"}, {"url": "/dev/null"}, {"url": "/dev/zero"}, {"url": "/no/such"},
        {"url": "/"}, {"url": "/dev/ptmx\u0000x"}, {"url": "socket://x"}, {"url": "/dev/ptmx", "baudrate": "12345"},
        {"driver": "modbus_tcp", "host": "x" * 300}, {"driver": "modbus_tcp", "host": {}, "tcp_port": []},
        {"driver": "http_json", "url": "http://h/"},
    )),
    {"what": "modbus_units", "line": {"driver": "modbus_tcp", "host": "127.0.0.1"}, "first": 9, "last": 3},
    *({"what": "http_sensors", "base_url": url} for url in (None, 5, "ftp://h", "http://h h/", "http://h:99999/")),
    {"what": "http_sensors", "base_url": "http://h", "within_s": "x"},
    {"what": "http_sensors", "base_url": "http://h", "auth_kind": "bearer", "token": "a\nb"},
]  # fmt: skip


MEANT_FOR: dict[str, Callable[[Any], bool]] = {
    "validate_setup": lambda given: "what" not in given,
    "discover": lambda given: not given or "what" in given,
    "test_sensor": lambda given: not given or "sensors" in given,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_hostile_input_is_refused_in_plain_words(folder: Path, tool: str) -> None:
    for given in filter(MEANT_FOR[tool], HOSTILE):
        code, message = refusal(ask(folder, tool, given))  # `ask` sees to exit code, form and traceback
        assert code not in ("internal_error", "timeout"), (given, message)
        assert len(message) > 10, given


LINE = {"transport_id": "l", "driver": "ascii_line", "url": "/no/such"}
SENSOR = {"sensor_id": "a", "sensor_type": "generic", "transport": "l"}
BITS = {"table": "input", "address": 1}
BAD_FORMS: list[dict[str, Any]] = [
    *({"kind": kind, "line": 5, "sensor": "x"} for kind in ("charger", "text")),
    {"kind": "charger", "line": {"url": []}, "sensor": {"sensor_id": {}, "write": "x"}},
    {"kind": "text", "line": {"url": []}, "sensor": {"sensor_id": {}, "more": 7, "two": True}},
    {
        "kind": "text",
        "line": {"url": "/x"},
        "sensor": {"sensor_id": "a", "find": [], "two": True, "name": {}},
    },
    {
        "kind": "text",
        "line": {"url": "/x"},
        "sensor": {"sensor_id": "a", "find": "regex", "regex": "(" * 5000},
    },
    {
        "kind": "text",
        "line": {"url": "/x"},
        "sensor": {"sensor_id": "a", "more": "b generic value.a.b=1 value=2"},
    },
    {
        "kind": "modbus",
        "line": {"url": "/x"},
        "sensor": {"sensor_id": "a", "registers": "map", "register_map": ["x"]},
    },
    {
        "kind": "modbus",
        "line": {"url": "/x"},
        "sensor": {"sensor_id": "a", "registers": "map", "register_map": "own"},
    },
    {"kind": "modbus", "units": [1], "sensor": {"registers": "map", "include": 5, "register_map": {}}},
]
BAD_OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"value": {"regex": each}}, {}) for each in ("(a+)+$", "(?:" * 400, "a?" * 240, "(" * 100_000)),
    *(({"value": {"command": each}}, {}) for each in ("{value:9999f}", "{value!r}", "{value.__class__}")),
    *(
        ({"value": {}}, {"url": f"hwgrep://{each}"})
        for each in ("(", "*", "x&n=" + "9" * 5000, "(?P<a>b)(?P<a>c)")
    ),
    *(({"value": {}}, {"terminator": each}) for each in ("\ud800", "x" * 10_000)),
    *(({"value": {}}, {"terminator": []}), ({"value": {}}, {"terminator": {}})),
    *(({"stop": []}, {"driver": "rapi"}), ({}, {"driver": "rapi", "profile": {}})),
    *(({"value": {}, "request": "\ud800"}, {}), ({"properties": {"": {}, "a/b": {}, "a+b": []}}, {})),
    *(
        ({"register_map": each}, {"driver": "modbus_rtu"})
        for each in ("../../x", "/etc/passwd", "x" * 200, 5)
    ),
    *(
        ({"register": BITS | more}, {"driver": "modbus_rtu"})
        for more in (
            {"flags": {"b" * 999: "x"}},
            {"values": {"9" * 400: "x"}},
            {"data_type": "float32", "allowed": [1e308]},
            {"scale": 1e-300, "min": 1e300},
            {"data_type": "string", "length": 2, "pattern": "(" * 3000},
        )
    ),
]
HOPELESS: list[dict[str, Any]] = [  # good setups, but nothing is there
    *(
        {"driver": driver, "url": url}
        for driver in ("rapi", "ascii_line", "modbus_rtu")
        for url in ("/dev/null", "/")
    ),
    *({"driver": "rapi", "url": f"hwgrep://{each}"} for each in ("(.*)*x", "a?" * 40 + "a" * 40, "(a|a)*b")),
    {"driver": "ascii_line", "url": "/etc/passwd"},
    {"driver": "rapi", "url": "socket://127.0.0.1:1"},
]


def test_forms_that_hurt_are_refused_in_plain_words(folder: Path) -> None:
    for given in BAD_FORMS:
        code, message = refusal(ask(folder, "validate_setup", given))
        assert code == "invalid_setup", (given, message)
        assert len(message) < 5000


@pytest.mark.parametrize("tool", ["validate_setup", "test_sensor"])
def test_options_that_hurt_are_refused_in_plain_words(folder: Path, tool: str) -> None:
    for sensor, line in BAD_OPTIONS:
        code, message = refusal(ask(folder, tool, {"sensors": SENSOR | sensor, "transports": LINE | line}))
        assert code == "invalid_setup", (sensor, line, message)
        assert len(message) < 5000


def test_places_where_nothing_is_are_named(folder: Path) -> None:
    options: dict[str, dict[str, Any]] = {"ascii_line": {"value": {}}, "modbus_rtu": {"register": BITS}}
    for line in HOPELESS:
        given = {"sensors": SENSOR | options.get(line["driver"], {}), "transports": LINE | line}
        assert refusal(ask(folder, "test_sensor", given))[0] in ("no_port", "unreachable"), line


@pytest.mark.parametrize(
    "line", [{"driver": "rapi"}, {"driver": "ascii_line"}, {"driver": "modbus_rtu", "first": 0}]
)
def test_units_are_searched_for_on_modbus_lines_only(folder: Path, line: dict[str, Any]) -> None:
    first = {"first": line["first"]} if "first" in line else {}
    transport = {"transport_id": "l", "url": "/dev/null", "driver": line["driver"]}
    code, _ = refusal(ask(folder, "discover", {"what": "modbus_units", "line": transport, **first}))
    assert code == ("invalid_input" if first else "invalid_setup")
