"""The drivers' own keys and urls, good and bad: validate_setup and the hub say the same of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.setup_verdicts import Document, hubs_problems, modules_of_the_tools, tools_verdict
from tests.contract.setup_wizard import ROOT

SERIAL_URLS_GOOD = [
    *(
        "/dev/ttyUSB0",
        "/dev/serial/by-id/usb-FTDI_A50285BI-if00-port0",
        "socket://[::1]:4001",
        "socket://h:1/",
    ),
    *(
        "rfc2217://h:1",
        "rfc2217://h:1?ign_set_control&timeout=3",
        "hwgrep://SER=A50285BI",
        "hwgrep://0403:6001&n=2",
    ),
]
SERIAL_URLS_BAD = [
    *("ttyUSB0", "COM3", "tcp://h:1", "socket://h", "socket://h:0", "socket://h:70000", "socket://u@h:1"),
    *("socket://h:1/x", "socket://h:1?timeout=3", "rfc2217://h:1?baud=3", "hwgrep://", "hwgrep://&n=2"),
    *(
        "hwgrep://x&n=0",
        "hwgrep://x&n=two",
        "hwgrep://x&m=1",
        "hwgrep://(",
        "hwgrep://*",
        "loop://",
        "spy:///dev/x",
    ),
]
REGISTER = {"table": "holding", "address": 1}
METER = "eastron_sdm120"


@pytest.fixture(scope="module")
def actions() -> Iterator[Any]:
    with modules_of_the_tools() as import_one:
        yield import_one


def rtu(**line: Any) -> Document:
    sensor = {"sensor_id": "a", "sensor_type": "generic", "transport": "l", "register": REGISTER}
    transport = {"transport_id": "l", "driver": "modbus_rtu", "url": "/dev/ttyUSB0", **line}
    return {"transports": [transport], "sensors": [sensor]}


def unit(driver: str = "modbus_tcp", **sensor: Any) -> Document:
    options = sensor if {"properties", "register_map"} & set(sensor) else {"register": REGISTER, **sensor}
    url = "tcp://h" if driver == "modbus_tcp" else "/dev/ttyS0"
    return {
        "transports": [{"transport_id": "l", "driver": driver, "url": url}],
        "sensors": [{"sensor_id": "a", "sensor_type": "generic", "transport": "l", **options}],
    }


def reg(**keys: Any) -> Document:
    return unit(register={**REGISTER, **keys})


def charger(line: Document | None = None, **sensor: Any) -> Document:
    return {
        "transports": [{"transport_id": "l", "driver": "rapi", "url": "/dev/ttyS0", **(line or {})}],
        "sensors": [{"sensor_id": "a", "sensor_type": "generic", "transport": "l", **sensor}],
    }


def text(line: Document | None = None, **sensor: Any) -> Document:
    options = sensor if {"value", "properties"} & set(sensor) else {"value": {}, **sensor}
    return {
        "transports": [{"transport_id": "l", "driver": "ascii_line", "url": "/dev/ttyS0", **(line or {})}],
        "sensors": [{"sensor_id": "a", "sensor_type": "generic", "transport": "l", **options}],
    }


def val(**keys: Any) -> Document:
    return text(value=keys)


def two_lines(first: str, second: str) -> Document:
    document = charger({"url": first})
    document["transports"].append({"transport_id": "m", "driver": "ascii_line", "url": second})
    return document


GOOD: list[Document] = [
    *(rtu(url=url) for url in SERIAL_URLS_GOOD),
    *(rtu(write=write) for write in (True, False, "true", "no", "relaxed", "UNSAFE", " relaxed ")),
    *(rtu(parallelism=word) for word in ("auto", "single", "thread", "Process")),
    *(rtu(delay_ms=0), rtu(delay_ms="10000", read_interval=20), rtu(baudrate=1200, read_interval=0.2)),
    rtu(url="socket://h:1", read_interval=0.05),
    *(unit(unit_id=number) for number in (0, 1, 247, 248, 255, "255")),
    *(unit("modbus_rtu", unit_id=number) for number in (1, 247)),
    *(unit(max_registers=1), unit(max_registers=125, max_gap=125, delay_ms=50, write_multiple="true")),
    *(unit(register_map=METER), unit(register_map=METER, include=["voltage"])),
    *(unit(register_map=METER, include=[], properties={"x": REGISTER}),),
    *(unit(register_map=METER, properties={"voltage": REGISTER}),),
    *(reg(data_type=word) for word in ("int64", "uint64", "float64", "flags")),
    *(reg(data_type=word, length=125) for word in ("string", "hex")),
    *(reg(bit=15), reg(bit=0, bits=16), reg(data_type="uint32", bit=31), reg(bit=4, values={"0": "a"})),
    *(reg(sign_magnitude=True, byte_order="little"), reg(values={"-1": "a", "0x10": "b"}, truncate=True)),
    *(reg(data_type="flags", flags={"b0": "a", "1": "b", "b0&b1": "c"}), reg(data_type="flags", length=2, bit=31)),
    *(reg(write=True, allowed=[0, 2.5], scale=0.5), reg(write=True, read=False), reg(read_interval=0.05)),
    *(reg(data_type="string", length=2, pattern="[a-z]+"), reg(description="x", bit=None, unit="")),
    *(reg(table="coil", scale=2, min=-1, data_type="float32"), reg(data_type="int64", min=-1e15, max=1e15)),
    *(charger(), charger(stop="disable"), charger({"profile": "Emulator", "baudrate": 9600, "write": "unsafe"})),
    *(charger({"url": url}) for url in SERIAL_URLS_GOOD),
    *(text(), text(request="W", match="W=", unit_id=7), text(request="{unit_id}?", unit_id="A"), text(request="W ")),
    *(text({"terminator": word}) for word in ("LF", "\r", ";", "\r\n", " ", "END.")),
    *(text({"send_terminator": word}) for word in ("none", "cr", "!")),
    text({"encoding": "latin-1", "max_line_length": 4096}, request="°"),
    *(val(regex=r"T=\s*([-+]?\d+\.?\d*)"), val(regex=r"^(?:[^,]*,){3}([^,]*)")),
    *(val(json="air.0.t"), val(type="text")),
    *(val(type="boolean", on="RUN", off="STOP"), val(type="Number", scale=-1, offset=1, decimal=",", min=0, max=0)),
    *(val(regex="x", command="P{value}", answer="^OK"), val(json="x", command="P{value:05.1f}", step=0.5)),
    text(properties={"a": {}, "b": {"command": "B{value:03d}"}}),
    *(two_lines("/dev/ttyS0", "/dev/ttyS1"), two_lines("socket://h:1", "socket://h:2")),
]  # fmt: skip
BAD: list[Document] = [
    *(rtu(url=url) for url in SERIAL_URLS_BAD),
    *(rtu(write=write) for write in ("maybe", 1, ["x"])),
    *(rtu(parallelism=word) for word in ("fork", True, 1)),
    *(rtu(delay_ms=-1), rtu(delay_ms=10_001), rtu(delay_ms=True), rtu(profile="auto"), rtu(terminator="cr")),
    rtu(baudrate=300, read_interval=0.1),
    *(unit(unit_id=number) for number in (-1, 256, 1.5, True, "x")),
    *(unit("modbus_rtu", unit_id=number) for number in (0, 248, 255)),
    *(unit(max_registers=0), unit(max_registers=126)),
    *(unit(max_gap=-1), unit(write_multiple="maybe"), unit(include=["x"])),
    *(unit(register_map=""), unit(register_map=5, properties=None)),
    *(unit(register_map="../x"), unit(register_map="...")),
    *(unit(register_map=METER, include=[]), unit(register_map=METER, include=["co2"])),
    *(unit(register_map=METER, include="voltage"), unit(register_map=METER, include=[1])),
    *(unit(register_map=METER, register=REGISTER), unit(register_map=METER, properties={})),
    *(unit(register_map=METER, properties={"unit": REGISTER}),),
    *(unit(register=REGISTER, properties={"x": REGISTER}),),
    *(unit(properties={"error_timestamp": REGISTER}), unit(properties={"a/b": REGISTER, "a+b": REGISTER})),
    *(reg(data_type=word) for word in ("int8", "string", "hex", "double", 16)),
    *(reg(length=2), reg(data_type="string", length=126), reg(address=65535, data_type="int64")),
    *(reg(bit=16), reg(bit=8, bits=9), reg(bit=1, scale=2), reg(data_type="float32", bit=1)),
    *(reg(bits=0), reg(bits=1, sign_magnitude=True), reg(values={"x": "a"}), reg(values={"0": 1})),
    *(reg(values={"1": "a", "0x1": "b"}), reg(values=["a"]), reg(truncate=True), reg(flags={"b0": "a"})),
    *(reg(data_type="flags", flags={"b16": "a"}), reg(data_type="flags", flags={"b0&b1": "a", "b1&b0": "b"})),
    *(reg(write=True, allowed=[0.5]), reg(allowed=[70_000]), reg(allowed=1), reg(allowed=["x"])),
    *(reg(read=False), reg(read_interval=0.01), reg(pattern="x"), reg(byte_order="middle")),
    *(reg(data_type="string", length=2, pattern="("), reg(table="coil", values={"0": "a"})),
    *(reg(table="input", write=True), reg(data_type="float32", max=1e39), reg(max=70_000)),
    *(charger(stop="never"), charger({"profile": "x"})),
    *(charger(register=REGISTER), charger(unit_id=1), charger({"delay_ms": 1})),
    *(charger({"url": url}) for url in SERIAL_URLS_BAD),
    charger({"baudrate": 300}),
    *(text(value=None), text(value={}, properties={"a": {}}), text(properties={}), text(properties={"type": {}})),
    *(text({"terminator": "none"}), text({"terminator": "x" * 9}), text({"terminator": "°", "encoding": "ascii"})),
    *(text({"encoding": "utf-16"}), text({"max_line_length": 15})),
    *(text({"max_line_length": 5000}), text({"delay_ms": 1})),
    *(text({"terminator": "lf"}, request="W\n"), text({"encoding": "ascii"}, request="°")),
    *(text(request="{unit_id}"), text(request="x" * 257)),
    *(text(match=5), text(unit_id=True), text(unit_id="x" * 65), text(register=REGISTER), text(value=[])),
    *(val(regex="("), val(regex="(a)(b)"), val(regex="(a+)+")),
    *(val(regex=".*.*.*x"), val(regex=r"(a)\1"), val(regex=5)),
    *(val(regex="x", json="y"), val(json="a..b"), val(type="date"), val(scale=0), val(decimal=";"), val(step=0)),
    *(val(type="text", scale=2), val(on="x")),
    *(val(type="boolean", on="A", off="a"), val(min=2, max=1), val(answer="x")),
    *(val(regex="x", command="P"), val(regex="x", command="{value}{value}"), val(command="P{value}")),
    *(val(type="text", json="x", command="{value:.1f}"),),
    *(text({"terminator": "cr"}, value={"regex": "x", "command": "P{value}\r"}), val(optional="maybe")),
    *(val(regex="x", command="P{value}", answer="(x*)*"), reg(data_type="string", length=9, pattern="(a+)+")),
    *(two_lines("/dev/ttyS0", "/dev/ttyS0"), two_lines("socket://h:1", "rfc2217://h:1")),
]  # fmt: skip


def shown(document: Document) -> str:
    return str({**document["transports"][-1], **document["sensors"][-1]})


def test_what_is_good_is_good_for_both(actions: Any, tmp_path: Path) -> None:
    refused = []
    for document in GOOD:
        problems, result = tools_verdict(actions, document)
        hub = hubs_problems(document, tmp_path) + hubs_problems(result or document, tmp_path)
        if problems or hub:
            refused.append((shown(document), problems, hub))
    assert not refused, "\n".join(map(str, refused))


def test_what_is_bad_is_bad_for_both(actions: Any, tmp_path: Path) -> None:
    taken = []
    for document in BAD:
        problems, _ = tools_verdict(actions, document)
        hub = hubs_problems(document, tmp_path)
        if not problems or not hub:
            taken.append((shown(document), problems, hub))
    assert not taken, "\n".join(map(str, taken))


def test_the_tools_know_expressions_as_the_hub_does() -> None:
    copy, own = ROOT / "actions/expressions.py", ROOT / "sensor_hub/drivers/ascii_line_regex.py"
    assert copy.read_bytes() == own.read_bytes(), f"copy {own} to {copy}"


def test_a_map_of_the_users_is_left_to_the_hub(actions: Any, tmp_path: Path) -> None:
    document = unit(register_map="boiler controller", include=["mode"])
    assert tools_verdict(actions, document)[0] == ""
    assert "there is no such map" in str(hubs_problems(document, tmp_path))
    maps = tmp_path / "register_maps"
    maps.mkdir()
    (maps / "boiler controller.json").write_text(
        '{"registers": {"mode": {"table": "holding", "address": 10}}}'
    )
    assert hubs_problems(document, tmp_path) == []
