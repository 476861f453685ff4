"""Text devices on a pseudo-terminal: a scale that is asked, an Arduino that prints, both on one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from sensor_hub.config.model import SensorConfig
from sensor_hub.drivers import ascii_line, check_options
from sensor_hub.drivers.ascii_line import AsciiLine
from sensor_hub.drivers.ascii_line_complaints import Complaints
from sensor_hub.drivers.base import PropertySpec
from sensor_hub.errors import (
    BrokenFrame,
    DeviceRefused,
    HubError,
    InvalidCommand,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.readings import Json
from tests.support import eventually
from tests.wire.scripted_peers import line, sensor
from tests.wire.text_peers import Answers, Hears, TextPeer, peer_that

WEIGHT: dict[str, Json] = {"regex": r"([-+ ]*\d+\.\d+) kg", "unit": "kg"}
SCALE = sensor("scale", request="W", value=WEIGHT)
ARDUINO = sensor(
    "arduino",
    properties={
        "t": {"regex": r"T=([-\d.]+)", "unit": "°C"},
        "h": {"regex": r"H=(\d+)", "unit": "%"},
    },
)
LONG_S = 5.0


@pytest.fixture(autouse=True)
def lines_are_whole_from_the_start(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What a test says right after opening is no rest of a line, but where that is the point."""
    if "begins" not in request.node.name:
        monkeypatch.setattr(ascii_line, "_QUIET_S", 0.0)


@contextmanager
def device(
    hears: Hears,
    *sensors: SensorConfig,
    timeout_s: float = 0.6,
    read_interval_s: float = 5.0,
    **options: Any,
) -> Iterator[tuple[AsciiLine, TextPeer]]:
    with peer_that(hears) as peer:
        transport = line(peer.path, "ascii_line", timeout_s=timeout_s, **options)
        driver = AsciiLine(replace(transport, read_interval_s=read_interval_s), sensors)
        driver.connect()
        try:
            yield driver, peer
        finally:
            driver.close()


def silent(_: bytes) -> bytes:
    return b""


def failure(driver: AsciiLine, sensor_id: str) -> HubError:
    with pytest.raises(HubError) as caught:
        driver.read(sensor_id)
    return caught.value


# -- asked -------------------------------------------------------------------------------------------------------


def test_a_scale_is_asked_for_its_weight() -> None:
    with device(Answers({"W": b"+0012.34 kg\r\n"}), SCALE) as (driver, peer):
        assert driver.read("scale") == {"value": 12.34}
        assert peer.heard == b"W\r\n"
        assert driver.properties("scale") == {"value": PropertySpec("number", unit="kg")}
        assert driver.is_polled("scale")


@pytest.mark.parametrize(
    ("options", "heard"),
    [
        ({}, b"W\r\n"),
        ({"terminator": "cr"}, b"W\r"),
        ({"terminator": "\n"}, b"W\n"),
        ({"terminator": "lf", "send_terminator": "CRLF"}, b"W\r\n"),
        ({"terminator": "cr", "send_terminator": "none"}, b"W"),
        ({"terminator": ";"}, b"W;"),
    ],
)
def test_a_request_ends_as_the_device_wants_it(options: dict[str, Any], heard: bytes) -> None:
    with device(silent, SCALE, timeout_s=0.05, **options) as (driver, peer):
        assert isinstance(failure(driver, "scale"), ReadTimeout)
        eventually(lambda: peer.heard == heard)


def test_the_unit_id_stands_in_the_request_and_in_what_its_lines_begin_with() -> None:
    sensors = [
        sensor(
            f"s{number}",
            unit_id=number,
            request="#{unit_id}?",
            match="{unit_id}:",
            value={"regex": r":(\d+)"},
        )
        for number in (1, 2)
    ]
    with device(Answers({"#1?": b"2:20\r\n1:10\r\n", "#2?": b"2:20\r\n"}), *sensors) as (driver, peer):
        assert driver.read("s1") == {"value": 10}
        assert driver.read("s2") == {"value": 20}
        assert [driver.unit_id("s1"), driver.unit_id("s2")] == ["1", "2"]
        assert peer.requests == ["#1?", "#2?"]


@pytest.mark.parametrize(
    "before",
    [b"W\r\n", b"\r\n\r\n", b"READY\r\n", b"\x00\xff\xfe\r\n", b"T=22.5 H=45\r\n", b"x" * 300 + b"\r\n"],
)
def test_what_is_not_the_answer_is_passed_over(before: bytes) -> None:
    with device(Answers({"W": before + b"+0012.34 kg\r\n"}), SCALE, ARDUINO, timeout_s=LONG_S) as (driver, _):
        assert driver.read("scale") == {"value": 12.34}


def test_noise_without_an_end_before_the_request_does_not_spoil_the_answer() -> None:
    with device(
        Answers({"W": b"+0012.34 kg\r\n"}), sensor("scale", request="W", value={"regex": "^[+](.*) kg$"})
    ) as (
        driver,
        peer,
    ):
        peer.say(b"+00")
        eventually(lambda: driver.listen(0.05) == {} and driver._assembler._pending == b"+00")
        assert driver.read("scale") == {"value": 12.34}


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"", ReadTimeout, "no line within 0.6 s"),
        (b"+0012.3", ReadTimeout, "no line within 0.6 s"),
        (b"ERR 5\r\n", ReadFailed, "value is not in 'ERR 5'"),
        (b"\xff\xfe\r\n", BrokenFrame, "no utf-8 text (2 bytes)"),
        (b"9" * 5000, BrokenFrame, "no end of line within 256 characters"),
        (b"1" * 257 + b".5 kg\r\n", BrokenFrame, "no end of line within 256 characters"),
    ],
)
def test_what_goes_wrong_is_named(answer: bytes, kind: type[HubError], says: str) -> None:
    with device(Answers({"W": answer}), SCALE) as (driver, _):
        error = failure(driver, "scale")
        assert type(error) is kind
        assert says in str(error)


def test_a_late_answer_is_not_the_answer_to_the_next_request() -> None:
    sensors = [sensor(name, request=name, value={"regex": r"^(\d+)$"}) for name in ("A", "B")]
    with device(Answers({"A": b"", "B": b"1\r\n2\r\n"}), *sensors, timeout_s=0.5) as (driver, _):
        assert isinstance(failure(driver, "A"), ReadTimeout)
        assert driver.read("B") == {"value": 2}


def test_a_late_answer_that_came_meanwhile_is_not_the_answer_either() -> None:
    sensors = [sensor(name, request=name, value={"regex": r"^(\d+)$"}) for name in ("A", "B")]
    with device(Answers({"A": b"", "B": b"2\r\n"}), *sensors, timeout_s=0.5) as (driver, peer):
        assert isinstance(failure(driver, "A"), ReadTimeout)
        peer.say(b"1\r\n")
        assert driver.read("B") == {"value": 2}


def test_json_lines_are_read_by_path() -> None:
    fields: dict[str, Json] = {
        "t": {"json": "air.t"},
        "ok": {"json": "ok", "type": "boolean"},
        "name": {"json": "n", "type": "text"},
    }
    answer = b'{"air": {"t": 22.5}, "ok": true, "n": "cellar"}\n'
    with device(Answers({"?": answer}), sensor("j", request="?", properties=fields)) as (driver, _):
        assert driver.read("j") == {"t": 22.5, "ok": True, "name": "cellar"}


# -- unasked --------------------------------------------------------------------------------------------------


def test_an_arduino_that_prints_is_heard() -> None:
    with device(silent, ARDUINO) as (driver, peer):
        assert not driver.is_polled("arduino")
        assert driver.listen(0.0) == {}
        peer.say(b"T=22.5 ", b"H=45\r\n")
        assert eventually(lambda: driver.listen(0.1)) == {"arduino": {"t": 22.5, "h": 45}}
        assert driver.listen(0.0) == {}
        assert peer.heard == b""


def test_of_several_lines_the_last_counts() -> None:
    with device(silent, ARDUINO) as (driver, peer):
        peer.say(b"T=20.5 H=40\r\nT=21.5 H=41\r\nT=22")
        assert eventually(lambda: driver.listen(0.1)) == {"arduino": {"t": 21.5, "h": 41}}


def test_several_sensors_on_one_line_are_told_apart_by_what_their_lines_begin_with() -> None:
    sensors = [sensor(name, match=f"{name}:", value={"regex": r"(\d+)$"}) for name in ("in", "out")]
    with device(silent, *sensors) as (driver, peer):
        peer.say(b"in: 21\r\nout: 7\r\nelse: 5\r\nin 3\r\n")
        heard: dict[str, Any] = {}

        def both() -> bool:
            heard.update(driver.listen(0.1))
            return len(heard) == 2

        eventually(both)
        assert heard == {"in": {"value": 21}, "out": {"value": 7}}


@pytest.mark.parametrize(
    "said", [b"T=ERR H=45\r\n", b"T=22.5\r\n", b"\xff\xfe\r\n", b"x" * 9999 + b"\r\n", b"{}\r\n"]
)
def test_a_line_that_is_not_whole_is_no_reading(said: bytes) -> None:
    with device(silent, ARDUINO) as (driver, peer):
        peer.say(said)
        assert driver.listen(0.2) == {}
        peer.say(b"T=22.5 H=45\r\n")
        assert eventually(lambda: driver.listen(0.1)) == {"arduino": {"t": 22.5, "h": 45}}


def test_a_print_between_request_and_answer_is_told_to_who_listens() -> None:
    with device(Answers({"W": b"T=22.5 H=45\r\n+0012.34 kg\r\n"}), SCALE, ARDUINO) as (driver, _):
        assert driver.read("scale") == {"value": 12.34}
        assert driver.listen(0.0) == {"arduino": {"t": 22.5, "h": 45}}


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        (b"T=nan H=45\r\n", ReadFailed, "t is not in 'T=nan H=45'"),
        (b"T=--5 H=45\r\n", ReadFailed, "t in 'T=--5 H=45' is no number"),
        (b"\xff\xfe\r\n", BrokenFrame, "no utf-8 text (2 bytes)"),
        (b"T=22.5 " * 100, BrokenFrame, "no end of line within 256 characters"),
    ],
)
def test_a_device_that_says_only_what_is_no_reading_is_told_with_the_reason(
    said: bytes, kind: type[HubError], says: str
) -> None:
    with device(silent, ARDUINO, read_interval_s=0.2) as (driver, peer):

        def told() -> object:
            peer.say(said)
            return driver.listen(0.02)

        for _ in range(2):
            found = eventually(told)
            assert isinstance(found, dict)
            assert type(found["arduino"]) is kind
            assert says in str(found["arduino"])


def test_of_several_that_speak_the_one_whose_lines_are_bad_is_told_by_how_they_begin() -> None:
    sensors = [
        sensor(name, match=f"{name}:", value={"regex": r":(\d+)", "unit": "kg"}) for name in ("a", "b")
    ]
    with device(silent, *sensors, read_interval_s=0.2) as (driver, peer):

        def told() -> object:
            peer.say(b"a:nan\r\n\xff\r\n")
            return driver.listen(0.02)

        found = eventually(told)
        assert isinstance(found, dict)
        assert list(found) == ["a"]


def test_other_lines_between_values_are_no_failure_however_seldom_the_values_come() -> None:
    complaints = Complaints(["a"], 5.0, 0.0)
    why = ReadFailed("no value")
    complaints.good("a", 1.0)
    complaints.good("a", 61.0)
    complaints.bad("a", why)
    assert complaints.due(180.0) == {}
    assert complaints.due(181.0) == {"a": why}
    assert complaints.due(400.0) == {}  # nothing was said since
    complaints.bad("a", why)
    assert complaints.due(401.0) == {"a": why}


def test_who_listens_is_told_at_once() -> None:
    with device(silent, ARDUINO) as (driver, peer):
        peer.say(b"T=22.5 H=45\r\n")
        began = time.monotonic()
        assert driver.listen(30.0) == {"arduino": {"t": 22.5, "h": 45}}
        assert time.monotonic() - began < 15


def test_a_line_that_begins_before_we_listen_is_left_out() -> None:
    with device(silent, sensor("n", value={}), timeout_s=LONG_S) as (driver, peer):
        peer.say(b"22.5\r\n23.5\r\n")  # of 1022.5, perhaps
        assert eventually(lambda: driver.listen(0.1)) == {"n": {"value": 23.5}}


def test_a_device_that_begins_to_speak_after_a_silence_is_heard_from_its_first_line() -> None:
    with device(silent, sensor("n", value={})) as (driver, peer):
        assert driver.listen(ascii_line._QUIET_S * 2) == {}
        peer.say(b"22.5\r\n")
        assert eventually(lambda: driver.listen(0.1)) == {"n": {"value": 22.5}}


# -- writing ------------------------------------------------------------------------------------------------


def heater(**more: Any) -> SensorConfig:
    setpoint: dict[str, Json] = {
        "regex": r"SP=([\d.]+)",
        "command": "SP {value:.1f}",
        "unit": "°C",
        "min": 5,
        "max": 30,
        "step": 0.5,
        **more,
    }
    lamp: dict[str, Json] = {"command": "LED {value}", "type": "boolean", "on": "ON", "off": "OFF"}
    name: dict[str, Json] = {
        "regex": "NAME=(.*)",
        "type": "text",
        "optional": True,
        "command": "NAME {value}",
    }
    return sensor("heater", request="?", properties={"setpoint": setpoint, "lamp": lamp, "name": name})


def test_a_value_is_sent_as_its_command() -> None:
    with device(silent, heater()) as (driver, peer):
        values: dict[str, Json] = {"setpoint": 21.5, "lamp": True, "name": "Küche"}
        assert driver.write("heater", values) == values
        eventually(lambda: peer.heard == "SP 21.5\r\nLED ON\r\nNAME Küche\r\n".encode())


def test_an_expected_answer_is_waited_for() -> None:
    with device(Answers({"SP 21.5": b"SP 21.5\r\nOK 21.5\r\n"}), heater(answer="^OK")) as (driver, _):
        assert driver.write("heater", {"setpoint": 21.5}) == {"setpoint": 21.5}


def test_another_answer_is_a_refusal_with_the_devices_words() -> None:
    with (
        device(Answers({"SP 21.5": b"ERR range\r\n"}), heater(answer="^OK")) as (driver, _),
        pytest.raises(DeviceRefused, match="setpoint was answered with 'ERR range'"),
    ):
        driver.write("heater", {"setpoint": 21.5})


def test_a_print_of_another_device_is_no_refusal() -> None:
    answers = Answers({"SP 21.5": b"T=22.5 H=45\r\nOK\r\n"})
    with device(answers, heater(answer="^OK"), ARDUINO) as (driver, _):
        assert driver.write("heater", {"setpoint": 21.5}) == {"setpoint": 21.5}
        assert driver.listen(0.0) == {"arduino": {"t": 22.5, "h": 45}}


def test_no_answer_to_a_command_that_has_one_is_a_timeout() -> None:
    with device(silent, heater(answer="^OK")) as (driver, _), pytest.raises(ReadTimeout):
        driver.write("heater", {"setpoint": 21.5})


@pytest.mark.parametrize("value", ["x\r\nSP 99", "x\nSP 99", "x\x00", "\x1b[2J"])
def test_a_value_cannot_smuggle_in_a_second_command(value: str) -> None:
    with device(silent, heater()) as (driver, peer):
        with pytest.raises(InvalidCommand):
            driver.write("heater", {"setpoint": 21.5, "name": value})
        assert peer.heard == b""


def test_a_text_that_the_line_cannot_say_is_refused() -> None:
    with device(silent, heater(unit=None), encoding="ascii") as (driver, _):
        with pytest.raises(InvalidCommand, match="no ascii"):
            driver.write("heater", {"name": "Küche"})
        with pytest.raises(InvalidCommand, match="512 characters"):
            driver.write("heater", {"name": "x" * 600})


def test_what_has_a_command_is_writable_and_what_has_nothing_to_read_is_not_readable() -> None:
    specs = AsciiLine(line("/dev/x", "ascii_line"), [heater()]).properties("heater")
    assert specs["setpoint"] == PropertySpec("number", True, "°C", 5, 30, 0.5)
    assert specs["lamp"] == PropertySpec("boolean", True, readable=False)
    assert specs["name"] == PropertySpec("text", True)


# -- the line ---------------------------------------------------------------------------------------------------


def test_an_unplugged_line_is_down() -> None:
    with device(silent, SCALE, ARDUINO) as (driver, peer):
        peer.unplug()
        for ask in (lambda: driver.read("scale"), lambda: driver.listen(0.1), driver.connect):
            with pytest.raises(TransportDown):
                ask()
        driver.close()
        driver.close()


def test_a_flood_does_not_hold_a_read_up() -> None:
    with device(lambda _: b"x\r\n" * 2000, SCALE, timeout_s=0.2) as (driver, _):
        began = time.monotonic()
        for _ in range(3):
            assert isinstance(failure(driver, "scale"), ReadFailed)
        assert time.monotonic() - began < 20


def test_the_load_is_at_least_that_of_the_requests() -> None:
    driver = AsciiLine(line("/dev/x", "ascii_line", baudrate=1200), [SCALE, ARDUINO])
    (load,) = driver.load()
    assert (load.unit_id, load.transactions_per_s) == ("scale", 0.2)
    assert load.share == pytest.approx(6 * 10 / 1200 / 5)  # W CR LF and a character, CR, LF, every 5 s
    assert AsciiLine(line("socket://h:1", "ascii_line"), [SCALE]).load() == ()


# -- options ------------------------------------------------------------------------------------------------


def problems(line_options: dict[str, Any] | None = None, **options: Any) -> list[str]:
    transport = line("/dev/ttyUSB0", "ascii_line", **(line_options or {}))
    return [f"{each.path}: {each.message}" for each in check_options(transport, [sensor(**options)])]


@pytest.mark.parametrize(
    "options",
    [
        {"request": "W", "value": WEIGHT},
        {"value": {}},
        {"value": {"type": "text"}, "request": "", "match": None},
        {"properties": {"t": {"json": "a.0.b"}, "h": {"regex": r"H=(\d+)"}}},
        {
            "unit_id": 7,
            "request": "#{unit_id}",
            "value": {"command": "S{unit_id} {value:03d}", "regex": r"(\d+)"},
        },
    ],
)
def test_good_options_have_no_problem(options: dict[str, Any]) -> None:
    assert problems(**options) == []
    assert (
        problems({"terminator": "\r", "encoding": "ASCII", "baudrate": 1200, "parity": "e"}, **options) == []
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "sensors[0]: exactly one of value and properties is required"),
        ({"value": {}, "properties": {"t": {}}}, "exactly one of value and properties"),
        ({"properties": {}}, "properties: must have at least one property"),
        ({"properties": {"status": {}}}, "'status' is reserved"),
        ({"value": {"regex": "(", "request": "x"}}, "value.request: unknown key"),
        ({"value": {"regex": "("}}, "value.regex: is no regular expression"),
        ({"value": {"regex": "(a)(b)"}}, "value.regex: has 2 groups"),
        (
            {"properties": {"t": {"regex": "(a+)+"}}},
            "properties.t.regex: may not repeat what is itself variable",
        ),
        ({"value": {"command": "{value}", "regex": "a", "answer": "(a+)+"}}, "value.answer: may not repeat"),
        ({"value": {"regex": "a", "json": "b"}}, "has both regex and json"),
        ({"value": {"json": "a..b"}}, "no path like"),
        ({"value": {"type": "float"}}, "value.type: must be one of number, boolean, text"),
        ({"value": {"type": "text", "scale": 2}}, "are for numbers only"),
        ({"value": {"on": "1"}}, 'on and off need "type": "boolean"'),
        ({"value": {"type": "boolean", "on": "x", "off": "X"}}, "on and off must differ"),
        ({"value": {"scale": 0}}, "scale must not be 0"),
        ({"value": {"min": 5, "max": 4}}, "min 5 is greater than max 4"),
        ({"value": {"answer": "OK"}}, "answer needs a command"),
        ({"value": {"command": "S"}}, "command must hold {value} once"),
        ({"value": {"command": "S{value}{value}"}}, "command must hold {value} once"),
        ({"value": {"command": "S{value.__class__}"}}, "command must hold {value} once"),
        ({"value": {"command": "S{value:9999999f}"}}, "command must hold {value} once"),
        ({"value": {"command": "S{value:.1f}", "type": "text", "regex": "a"}}, "is for numbers only"),
        ({"value": {"command": "S{value}"}}, "has nothing that can be read"),
        ({"request": "#{unit_id}", "value": {}}, "unit_id is required"),
        ({"request": "W\r\n", "value": {}}, "sensors[0].request: may not hold the terminator"),
        (
            {"request": "→", "value": {}, "line_options": {"encoding": "latin-1"}},
            "characters that are no latin-1",
        ),
        ({"value": {}, "line_options": {"terminator": "none"}}, "none is for send_terminator only"),
        (
            {"value": {}, "line_options": {"terminator": "→", "encoding": "ascii"}},
            "characters that are no ascii",
        ),
        (
            {"value": {}, "line_options": {"max_line_length": 9999}},
            "max_line_length: must be a whole number from 16",
        ),
        (
            {"value": {}, "line_options": {"encoding": "utf-16"}},
            "encoding: must be one of ascii, utf-8, latin-1",
        ),
        (
            {"value": {"regex": r"\d+\d+$"}, "line_options": {"max_line_length": 4096}},
            "lower max_line_length",
        ),
    ],
)
def test_a_bad_option_is_named_with_its_path(options: dict[str, Any], says: str) -> None:
    (problem,) = problems(**options)
    assert says in problem
