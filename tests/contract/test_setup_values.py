"""What the tools read once means the same to them as to the hub: registers and lines of text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.drivers.ascii_line_settings import AsciiSensor
from sensor_hub.drivers.ascii_line_values import NoValueError, values_in
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.errors import HubError
from tests.contract.setup_verdicts import hubs_problems, modules_of_the_tools, tools_verdict

REGISTERS: list[dict[str, Any]] = [
    *({"data_type": kind} for kind in ("int16", "uint16", "int32", "uint32", "int64", "uint64")),
    *({"data_type": kind, "word_order": "little"} for kind in ("int32", "uint64", "float32", "float64")),
    *({"data_type": kind, "byte_order": "little"} for kind in ("int16", "float32", "float64")),
    *({"data_type": kind, "scale": 0.1, "offset": -5} for kind in ("int16", "int64", "float32", "float64")),
    *({"data_type": "int16", "sign_magnitude": True}, {"bit": 3}, {"bit": 3, "bits": 5}, {"bits": 16, "scale": 0.5}),
    {"data_type": "int32", "bit": 8, "bits": 8, "word_order": "little"},
    {"values": {"0": "off", "0x01": "on"}, "bits": 2},
    {"values": {"1": "one"}, "scale": 0.5, "truncate": True, "bits": 3},
    *({"data_type": kind, "length": 3} for kind in ("string", "hex", "flags")),
    {"data_type": "string", "length": 2, "byte_order": "little", "word_order": "little"},
    {"data_type": "flags", "flags": {"b0": "a", "b1": "b", "b0&b1": "both", "15": "last"}},
    {"data_type": "flags", "length": 2, "bit": 4, "bits": 6},
    {"table": "coil"},
]  # fmt: skip
LINES = [
    *(
        "22.5",
        " 7 ",
        "-3",
        "+ 12.50 kg",
        "1e3",
        "1,5",
        "T=22.5 H=45",
        "T=x",
        "",
        "abc",
        "nan",
        "1e999",
        "0x10",
    ),
    *(
        "on",
        "RUN",
        "stop",
        "1",
        '{"a": [1, {"t": 2.5}], "b": true}',
        '{"a": "7"}',
        "[1]",
        "{",
        "\x07bell\u200b",
    ),
]
FIELDS: list[dict[str, Any]] = [
    *({"value": item} for item in (
        {}, {"scale": 0.1, "offset": 1}, {"decimal": ","}, {"type": "text"}, {"type": "boolean"},
        {"type": "boolean", "on": "run", "off": "Stop"}, {"regex": r"T=([-\d.]+)"}, {"regex": "[0-9]+"},
        {"json": "a.1.t"}, {"json": "b", "type": "boolean"}, {"json": "a"}, {"regex": "(T)?x", "type": "text"},
    )),
    {"match": "T=", "properties": {"t": {"regex": r"T=([\d.]+)"}, "h": {"regex": r"H=(\d+)", "optional": True}}},
    {"properties": {"t": {"regex": "t(.)", "optional": True}, "b": {"command": "{value}"}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def actions() -> Iterator[Any]:
    with modules_of_the_tools() as import_one:
        yield import_one


@pytest.mark.parametrize("keys", REGISTERS, ids=str)
def test_registers_mean_the_same(keys: dict[str, Any], actions: Any) -> None:
    content = {"table": "holding", "address": 0, **keys}
    tool, register = actions("register_values"), Register.model_validate(content)
    problems = actions("checks").Problems()
    checked = actions("rules_register").check_register(content, "x", problems)
    assert len(problems) == 0
    rng = random.Random(str(keys))
    words = [[0] * register.count, [0xFFFF] * register.count, [0x7FC0, *[0] * 3][: register.count]]
    words += [[rng.randrange(1 << 16) for _ in range(register.count)] for _ in range(40)]
    words += [[rng.randrange(0x20, 0x7F) << 8 | 0x41 for _ in range(register.count)] for _ in range(3)]
    for registers in [[0], [1]] if register.is_boolean else words:
        data = (
            bytes(registers)
            if register.is_boolean
            else b"".join(word.to_bytes(2, "big") for word in registers)
        )
        try:
            wanted = register.decode(registers)
        except HubError:
            with pytest.raises(actions("answering").ToolError):
                tool.decoded(data, checked)
        else:
            assert tool.decoded(data, checked) == wanted, registers


@pytest.mark.parametrize("sensor", FIELDS, ids=str)
def test_lines_of_text_mean_the_same(sensor: dict[str, Any], actions: Any) -> None:
    settings, tool = AsciiSensor.model_validate(sensor), actions("text_wire")
    for line in LINES:
        try:
            wanted = values_in(line, settings.match, settings.fields)
        except NoValueError:
            with pytest.raises(tool._NoValueError):
                tool.values_in(line, sensor.get("match", ""), sensor)
        else:
            assert tool.values_in(line, sensor.get("match", ""), sensor) == wanted, line


@pytest.mark.parametrize(("units", "good"), [(15, True), (30, False)])
def test_a_line_with_too_many_units_is_too_busy_for_both(
    units: int, good: bool, actions: Any, tmp_path: Path
) -> None:
    line = {"transport_id": "l", "driver": "modbus_rtu", "url": "/dev/ttyS0", "baudrate": 1200}
    sensors = [
        {
            **{"sensor_id": f"u{unit}", "sensor_type": "generic", "transport": "l", "unit_id": unit},
            "properties": {
                name: {"table": "input", "address": address} for name, address in (("a", 0), ("b", 5))
            },
        }
        for unit in range(1, units + 1)
    ]
    document = {"transports": [line], "sensors": sensors}
    problems, _ = tools_verdict(actions, document)
    assert (problems == "") == good
    assert (hubs_problems(document, tmp_path) == []) == good
    assert good or "would be busy 1" in problems
