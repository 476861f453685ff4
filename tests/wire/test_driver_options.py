"""What drivers say about their options: every problem, where it is, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from sensor_hub.drivers import DRIVERS, check_options
from sensor_hub.drivers.base import PropertySpec
from sensor_hub.drivers.modbus import ModbusRtu
from sensor_hub.drivers.modbus_settings import tcp_address
from tests.wire.scripted_peers import line, register, sensor

BUS = line("/dev/ttyUSB0")
PLACE = "config.sensors[0]"
GOOD = register()


def problems(driver: str = "modbus_rtu", url: str = "/dev/ttyUSB0", **options: Any) -> dict[str, str]:
    """Path -> message, for one sensor with these options."""
    found = check_options(line(url, driver), [sensor(**options)])
    return {problem.path: problem.message for problem in found}


def line_problems(url: str = "/dev/ttyUSB0", driver: str = "modbus_rtu", **options: Any) -> dict[str, str]:
    found = check_options(line(url, driver, **options), [])
    return {problem.path: problem.message for problem in found}


def test_the_drivers_of_the_contract_are_known() -> None:
    assert set(DRIVERS) == {"modbus_rtu", "modbus_tcp", "rapi", "ascii_line", "http_json"}


def test_an_unknown_driver_is_told_which_are_known() -> None:
    (problem,) = check_options(line("/dev/x", "modbus"), [sensor(nonsense=1)])
    assert problem.path == "config.transports[0].driver"
    assert "http_json, modbus_rtu, modbus_tcp" in problem.message


@pytest.mark.parametrize(
    "options",
    [
        {"register": GOOD},
        {
            "unit_id": "3",
            "register": register(address="0", data_type="int16", scale="0.1", min="-5", max="5", step="0.5"),
        },
        {"properties": {"a": GOOD, "b": register("coil", 65535, write=True)}},
        {"register": register("holding", 65534, data_type="float32", word_order="little", write="true")},
        {"register": register("holding", scale=0.1, min=0, max=6553.5)},
    ],
)
def test_good_options_have_no_problem(options: dict[str, Any]) -> None:
    assert problems(**options) == {}


@pytest.mark.parametrize(
    ("options", "path", "says"),
    [
        ({}, "", "either register, or properties or a register_map, is required"),
        ({"register": GOOD, "properties": {"a": GOOD}}, "", "either register, or properties"),
        ({"register": GOOD, "register_map": "eastron_sdm120"}, "", "either register, or properties"),
        ({"register_map": "nonesuch"}, ".register_map", "there is no such map; known are"),
        ({"register_map": "../eastron_sdm120"}, ".register_map", "there is no such map"),
        ({"register_map": "eastron_sdm120", "include": ["x"]}, ".register_map", "has no register 'x'"),
        ({"register_map": "eastron_sdm120", "include": []}, ".register_map", "has no Modbus registers"),
        (
            {"register_map": "eastron_sdm120", "properties": {"a/b": GOOD, "a+b": GOOD}},
            ".properties",
            "same MQTT topic 'a_b'",
        ),
        ({"register": GOOD, "include": ["x"]}, "", "include: names registers of a register_map"),
        ({"register": GOOD, "max_registers": 126}, ".max_registers", "from 1 to 125, not 126"),
        ({"register": GOOD, "max_gap": -1}, ".max_gap", "from 0 to 125, not -1"),
        ({"register": GOOD, "delay_ms": 10001}, ".delay_ms", "from 0 to 10000, not 10001"),
        ({"register": GOOD, "write_multiple": 1}, ".write_multiple", "must be true or false, not 1"),
        ({"register": GOOD, "speed": 1}, ".speed", "unknown key; known are unit_id, register, properties"),
        ({"register": GOOD, "unit_id": 0}, ".unit_id", "must be a whole number from 1 to 247, not 0"),
        ({"register": GOOD, "unit_id": 248}, ".unit_id", "must be a whole number from 1 to 247, not 248"),
        ({"register": GOOD, "unit_id": True}, ".unit_id", "not true"),
        ({"register": {"table": "input"}}, ".register.address", "required"),
        (
            {"register": register(address=65536)},
            ".register.address",
            "must be a whole number from 0 to 65535, not 65536",
        ),
        ({"register": register(address=False)}, ".register.address", "not false"),
        ({"register": register(address=65535, data_type="int32")}, ".register", "at most 65534"),
        (
            {"register": register("relay")},
            ".register.table",
            "must be one of holding, input, coil, discrete, not 'relay'",
        ),
        (
            {"register": register(data_type="int8")},
            ".register.data_type",
            "must be one of int16, uint16, int32, uint32, int64, uint64, float32, float64, string, hex, flags",
        ),
        ({"register": register(scale=0)}, ".register.scale", "must not be 0"),
        ({"register": register(scale="nan")}, ".register.scale", "must be a number, not 'nan'"),
        ({"register": register(scale=True)}, ".register.scale", "must be a number, not true"),
        ({"register": register(step=0)}, ".register.step", "must be a number greater than 0, not 0"),
        ({"register": register(step=-1)}, ".register.step", "greater than 0"),
        ({"register": register(min=5, max=4)}, ".register", "min 5 is greater than max 4"),
        ({"register": register(max=70000)}, ".register", r"max 70000 does not fit uint16: 0..65535"),
        ({"register": register(min=-1)}, ".register", "min -1 does not fit uint16"),
        ({"register": register(data_type="float32", max=1e39)}, ".register", "does not fit float32"),
        ({"register": register("input", write=True)}, ".register", "input is read-only"),
        ({"register": register("discrete", write=True)}, ".register", "discrete is read-only"),
        ({"register": register(colour="red")}, ".register.colour", "unknown key; known are table, address,"),
        ({"register": register(write=1)}, ".register.write", "must be true or false, not 1"),
        ({"register": register(write="N")}, ".register.write", "must be true or false, not 'N'"),
        ({"register": 5}, ".register", "must be an object"),
        ({"register": register(unit=5)}, ".register.unit", "must be a text"),
        ({"properties": {"a b": register(colour="red")}}, '.properties["a b"].colour', "known are table"),
        ({"properties": {"unit": 5}}, ".properties.unit", "must be an object"),
        ({"properties": {}}, ".properties", "at least one"),
        ({"properties": {"": GOOD}}, ".properties", "1 to 64 characters"),
        ({"properties": {"x" * 65: GOOD}}, ".properties", "1 to 64 characters"),
        ({"properties": {"timestamp": GOOD}}, ".properties", "reserved"),
        ({"properties": {"cache/age": GOOD}}, ".properties", "reserved"),
        ({"properties": {"a\n": GOOD}}, ".properties", "control characters"),
        ({"properties": {"a/b": GOOD, "a+b": GOOD}}, ".properties", "same MQTT topic 'a_b'"),
        (
            {"properties": {"a": register(address=-1)}},
            ".properties.a.address",
            "must be a whole number from 0 to 65535, not -1",
        ),
    ],
)
def test_a_bad_sensor_option_is_named_with_its_path(options: dict[str, Any], path: str, says: str) -> None:
    found = problems(**options)
    assert list(found) == [PLACE + path]
    assert says in found[PLACE + path]


BLANK = {"": "empty", " ": "a space", None: "null"}


@pytest.mark.parametrize("blank", BLANK, ids=BLANK.values())
def test_a_blank_option_counts_as_not_given(blank: Any) -> None:
    keys = ("data_type", "scale", "offset", "unit", "word_order", "write", "min", "max", "step")
    where = register(**dict.fromkeys(keys, blank))
    assert problems(unit_id=blank, register=where, properties=blank) == {}
    assert problems(properties={"a": where}) == {}
    assert problems(register=register(address=blank)) == {f"{PLACE}.register.address": "required"}
    assert line_problems(baudrate=blank, bytesize=blank, parity=blank, stopbits=blank) == {}
    http = ("headers", "timeout_s", "auth", "fields", "verify_tls", "commands")
    command = dict.fromkeys(("method", "url", "body", "headers", "kind", "min", "max", "step"), blank)
    for options in (dict.fromkeys(http, blank), {"commands": {"led": command}}):
        assert problems("http_json", "http://192.0.2.20/api", **options) == {}


def test_a_blank_option_leaves_the_default() -> None:
    blank = sensor(unit_id="", register=register(data_type="", scale="", unit=" "))
    driver = ModbusRtu(BUS, [blank])
    assert driver.unit_id("s1") == 1
    assert driver.properties("s1") == ModbusRtu(BUS, [sensor(register=register())]).properties("s1")


def test_a_blank_under_an_unknown_key_is_still_an_unknown_key() -> None:
    assert list(problems(register=GOOD, speed="")) == [f"{PLACE}.speed"]


@pytest.mark.parametrize("word", ["true", "Yes", "on", "1"])
def test_flags_are_the_words_that_the_configuration_knows(word: str) -> None:
    where = sensor(register=register("holding", write=word))
    assert ModbusRtu(BUS, [where]).properties("s1")["value"].writable
    assert problems("http_json", "http://192.0.2.20/api", verify_tls=word) == {}


def test_all_problems_are_told_at_once() -> None:
    found = problems(unit_id=0, register=register(address=-1, scale=0), speed=1)
    assert set(found) == {
        f"{PLACE}.unit_id",
        f"{PLACE}.register.address",
        f"{PLACE}.register.scale",
        f"{PLACE}.speed",
    }


def test_unknown_keys_of_a_platform_device_are_left_alone() -> None:
    lenient = sensor(lenient=True, ip="192.0.2.1", register=GOOD, unit_id=7)
    assert list(check_options(BUS, [lenient])) == []
    assert ModbusRtu(BUS, [lenient]).unit_id("s1") == 7


@pytest.mark.parametrize(
    "url",
    [
        "/dev/ttyUSB0",
        "socket://192.0.2.1:4001",
        "rfc2217://gateway:2217",
        "rfc2217://[::1]:2217?ign_set_control",
        "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
        "hwgrep://A50285BI",
        "hwgrep://0403:6001.*SER=A5.*&n=2",
    ],
)
def test_a_serial_url_may_be_a_path_or_a_network_port(url: str) -> None:
    assert line_problems(url) == {}


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "ttyUSB0",
            "loop://",
            "spy:///dev/ttyUSB0",
            "socket://host",
            "socket://:4001",
            "tcp://host:502",
        ),
        *("socket://host:99999", "socket://host:4001/x", "socket://host:4001?logging=debug", "socket://[x"),
        *("hwgrep://", "hwgrep://(", "hwgrep://FTDI&n=0", "hwgrep://FTDI&skip_busy"),
    ],
)
def test_another_serial_url_is_refused(url: str) -> None:
    assert list(line_problems(url)) == ["config.transports[0].url"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://192.0.2.10", ("192.0.2.10", 502)),
        ("tcp://plc:1502", ("plc", 1502)),
        ("plc:1502", ("plc", 1502)),
        ("plc", ("plc", 502)),
        ("tcp://[::1]:1502", ("::1", 1502)),
    ],
)
def test_a_tcp_url_says_host_and_port(url: str, address: tuple[str, int]) -> None:
    assert tcp_address(url) == address
    assert line_problems(url, "modbus_tcp") == {}


@pytest.mark.parametrize(
    "url", ["", "tcp://", "tcp://:502", "tcp://h:0", "tcp://h:x", "http://h", "tcp://h/x", "tcp://u@h", "a b"]
)
def test_another_tcp_url_is_refused(url: str) -> None:
    assert list(line_problems(url, "modbus_tcp")) == ["config.transports[0].url"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("baudrate", 0),
        ("baudrate", True),
        ("bytesize", 9),
        ("parity", "X"),
        ("stopbits", 3),
        ("speed", 1),
        ("delay_ms", -1),
    ],
)
def test_a_bad_line_option_is_named_with_its_path(name: str, value: Any) -> None:
    assert list(line_problems(**{name: value})) == [f"config.transports[0].{name}"]


def test_line_options_may_be_texts() -> None:
    assert line_problems(baudrate="9600", bytesize="8", parity="e", stopbits="2") == {}


def test_properties_carry_kind_unit_and_limits() -> None:
    boiler = sensor(
        properties={
            "setpoint": register("holding", 10, scale=0.1, unit="°C", write=True, min=30, max=75, step=0.5),
            "raw": register("holding", 11, data_type="int16", scale=0.1, write=True),
            "pump": register("coil", 0, write=True),
            "flow": register("input", 3, data_type="float32"),
        }
    )
    assert ModbusRtu(BUS, [boiler]).properties("s1") == {
        "setpoint": PropertySpec("number", True, "°C", 30, 75, 0.5),
        "raw": PropertySpec("number", True, None, -3276.8, 3276.7, tolerance=0.05),
        "pump": PropertySpec("boolean", True),
        "flow": PropertySpec("number"),
    }


# -- http_json --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"headers": {"X-Id": 5}, "timeout_s": "3", "fields": {"a": "b.0.c"}, "verify_tls": False},
        {"auth": {"username": "u", "password": "p"}},
        {"auth": {"bearer": "t0ken"}},
        {"commands": {"led": {"method": "put", "url": "http://h/led/{value}", "body": {"on": "{value}"}}}},
        {"commands": {"dim": {"kind": "number", "min": 0, "max": 100, "step": 5}}},
    ],
)
def test_good_http_options_have_no_problem(options: dict[str, Any]) -> None:
    assert problems("http_json", "http://192.0.2.20/api", **options) == {}


@pytest.mark.parametrize(
    ("options", "path", "says"),
    [
        ({"timeout_s": 0.05}, ".timeout_s", "must be a number from 0.1 to 60, not 0.05"),
        ({"timeout_s": 61}, ".timeout_s", "must be a number from 0.1 to 60, not 61"),
        ({"timeout_s": True}, ".timeout_s", "not true"),
        ({"verify_tls": 1}, ".verify_tls", "must be true or false, not 1"),
        (
            {"commands": {"a": {"kind": "bool"}}},
            ".commands.a.kind",
            "must be one of number, boolean, text, any",
        ),
        (
            {"commands": {"a": {"colour": 1}}},
            ".commands.a.colour",
            "unknown key; known are method, url, body",
        ),
        ({"auth": {"user": "u", "bearer": "t"}}, ".auth.user", "known are username, password, bearer"),
        ({"headers": {"a b": "x"}}, ".headers", "no header name"),
        ({"headers": {"X": "a\r\nY: b"}}, ".headers", "characters that no header may have"),
        ({"auth": {}}, ".auth", "username and password, or bearer"),
        ({"auth": {"bearer": "t", "username": "u"}}, ".auth", "username and password, or bearer"),
        ({"auth": {"password": "p"}}, ".auth", "username and password, or bearer"),
        ({"fields": {}}, ".fields", "at least one"),
        ({"fields": {"a": "b..c"}}, ".fields", "no path"),
        ({"fields": {"type": "a"}}, "", "reserved"),
        ({"commands": {"status": {}}}, "", "reserved"),
        (
            {"commands": {"a": {"method": "DELETE"}}},
            ".commands.a.method",
            "must be one of POST, PUT, PATCH, GET, not 'DELETE'",
        ),
        ({"commands": {"a": {"url": "ftp://h/"}}}, ".commands.a.url", "http://"),
        ({"commands": {"a": {"url": "http://{value}/"}}}, ".commands.a.url", "http"),
        ({"commands": {"a": {"url": "http://h{value}/"}}}, ".commands.a.url", "path and the query only"),
        ({"commands": {"a": {"body": [float("nan")]}}}, ".commands.a.body", "no finite number"),
        ({"commands": {"a": {"min": 1}}}, ".commands.a", "number"),
        ({"commands": {"a": {"kind": "number", "min": 2, "max": 1}}}, ".commands.a", "greater than max"),
        ({"register": GOOD}, ".register", "unknown key"),
    ],
)
def test_a_bad_http_option_is_named_with_its_path(options: dict[str, Any], path: str, says: str) -> None:
    found = problems("http_json", "http://192.0.2.20/api", **options)
    assert list(found) == [PLACE + path]
    assert says in found[PLACE + path]


@pytest.mark.parametrize(
    "url", ["", "ftp://h/x", "http://", "http://h:0/", "http://h:x/", "http://a b/", "/x", "http://h/\ud800"]
)
def test_a_bad_endpoint_is_refused_without_repeating_it(url: str) -> None:
    assert list(line_problems(url, "http_json")) == ["config.transports[0].url"]


def test_secrets_are_in_no_problem() -> None:
    found = check_options(
        line("htp://user:hunter2@h/?key=hunter2", "http_json"),
        [
            sensor(
                auth={"bearer": "hunter2 x"},
                headers={"X-Key": "hunter2\n"},
                commands={"a": {"url": "htp://h/?key=hunter2"}},
            )
        ],
    )
    messages = [str(problem) for problem in found]
    assert len(messages) == 4
    assert not [message for message in messages if "hunter2" in message]
