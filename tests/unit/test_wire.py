"""Readings, faults and errors as JSON, and JSON as we accept it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub import wire
from sensor_hub.drivers.settings import check_property_names
from sensor_hub.errors import BY_CODE, Busy, HandlerUnreachable, ReadTimeout, SensorUnavailable, from_code
from sensor_hub.readings import Fault, Quality, Reading, Snapshot, Status
from tests.unit.manual_clock import NOON


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (b'{"a": [1, -2.5, true, false, null, "\xc3\xa4"]}', {"a": [1, -2.5, True, False, None, "ä"]}),
        (' "x" ', "x"),
        ("1e308", 1e308),
        ("-0", 0),
        (nested(32), json.loads(nested(32))),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_json_is_read(text: str | bytes, value: Any) -> None:
    assert wire.loads(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        b"",
        " ",
        "{",
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": 1} x',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e400",
        "[-1e999]",
        "01",
        "+1",
        ".5",
        "0x10",
        "True",
        "None",
        "\ufeff{}",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\xed\xa0\x80"',
        '{}'.encode("utf-16"),
        '"\t"',
        "9" * 5000,
        nested(33),
        nested(100_000),
        '{"a":' * 33 + "1" + "}" * 33,
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str | bytes) -> None:
    with pytest.raises(wire.MalformedJson):
        wire.loads(text)


def test_services_may_nest_deeper_than_others() -> None:
    assert wire.loads(nested(wire.INNER_NESTING), wire.INNER_NESTING)
    with pytest.raises(wire.MalformedJson, match="nested deeper than 64"):
        wire.loads(nested(wire.INNER_NESTING + 1), wire.INNER_NESTING)


@given(st.binary() | st.text() | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u'))
def test_any_input_is_read_or_refused(text: str | bytes) -> None:
    try:
        value = wire.loads(text)
    except wire.MalformedJson:
        return
    assert wire.loads(wire.dumps(value)) == value


def test_text_stays_readable_unless_it_cannot_be_utf_8() -> None:
    assert wire.dumps({"unit": "°C"}) == '{"unit":"°C"}'
    assert wire.dumps({"name": "\ud800"}) == '{"name":"\\ud800"}'


def test_no_number_that_json_does_not_have_is_ever_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        wire.dumps({"value": math.nan})


def test_timestamps_have_milliseconds_and_their_offset() -> None:
    moment = datetime(2026, 3, 1, 13, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    assert wire.timestamp_text(moment) == "2026-03-01T13:00:00.123+01:00"


@pytest.mark.parametrize("name", sorted(wire.RESERVED))
def test_no_property_may_be_called_as_a_key_of_a_reading(name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        check_property_names([name])


READING = Reading({"value": 21.5}, NOON)
FAULT = Fault("READ_TIMEOUT", "no answer", NOON + timedelta(seconds=5))


def test_a_reading_as_the_contract_shows_it() -> None:
    snapshot = Snapshot(
        "a", "temperature", Status.ONLINE, READING, None, Quality.GOOD, {"unit": "°C", "emulated": True}
    )
    assert wire.entry_body(snapshot, "sensor_id") == {
        "sensor_id": "a",
        "type": "temperature",
        "value": 21.5,
        "unit": "°C",
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "quality": "good",
        "emulated": True,
        "status": "online",
    }


def test_several_properties_stand_beside_the_type() -> None:
    reading = Reading({"setpoint": 54.5, "pump": True}, NOON)
    snapshot = Snapshot("boiler", "generic", Status.ONLINE, reading, None, Quality.GOOD)
    assert wire.reading_body(snapshot, "device_id") == {
        "device_id": "boiler",
        "type": "generic",
        "setpoint": 54.5,
        "pump": True,
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "quality": "good",
    }


def test_a_failed_device_shows_no_value() -> None:
    snapshot = Snapshot("a", "temperature", Status.OFFLINE, READING, FAULT, Quality.POOR, {"unit": "°C"})
    assert wire.entry_body(snapshot, "sensor_id") == {
        "sensor_id": "a",
        "type": "temperature",
        "status": "offline",
        "error": "READ_TIMEOUT",
        "message": "no answer",
        "timestamp": "2026-03-01T12:00:05.000+00:00",
    }


def test_a_degraded_device_shows_its_last_value_with_its_own_time_and_why_there_is_no_newer_one() -> None:
    snapshot = Snapshot("a", "temperature", Status.DEGRADED, READING, FAULT, Quality.FAIR)
    body = wire.entry_body(snapshot, "sensor_id")
    assert (body["value"], body["timestamp"], body["quality"], body["status"]) == (
        21.5,
        "2026-03-01T12:00:00.000+00:00",
        "fair",
        "degraded",
    )
    assert (body["error"], body["error_timestamp"]) == ("READ_TIMEOUT", "2026-03-01T12:00:05.000+00:00")


def test_a_device_without_a_reading_has_no_reading_body() -> None:
    with pytest.raises(ValueError, match="no reading"):
        wire.reading_body(Snapshot("a", "generic", Status.UNKNOWN), "sensor_id")
    with pytest.raises(ValueError, match="neither"):
        wire.entry_body(Snapshot("a", "generic", Status.UNKNOWN), "sensor_id")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.text(min_size=1, max_size=12).filter(lambda name: name not in wire.RESERVED)
moments = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9))]),
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
readings = st.builds(Reading, st.dictionaries(names, values, min_size=1, max_size=4), moments)
faults = st.builds(Fault, st.sampled_from(sorted(BY_CODE)), st.text(max_size=30), moments)
extras = st.fixed_dictionaries({}, optional={"unit": st.text(max_size=5), "emulated": st.just(True)})
told = st.builds(
    Snapshot,
    st.text(min_size=1, max_size=10),
    st.sampled_from(["temperature", "generic"]),
    st.sampled_from([Status.ONLINE, Status.DEGRADED]),
    readings,
    st.none() | faults,
    st.sampled_from(Quality),
    extras,
)
failed = st.builds(
    Snapshot,
    st.text(min_size=1, max_size=10),
    st.just("temperature"),
    st.sampled_from([Status.OFFLINE, Status.UNKNOWN]),
    st.none(),
    faults,
    st.none(),
    st.fixed_dictionaries({}, optional={"emulated": st.just(True)}),
)


@given(told | failed, st.sampled_from(["sensor_id", "device_id"]))
def test_what_goes_over_the_wire_comes_back_the_same(snapshot: Snapshot, id_key: str) -> None:
    body = wire.loads(wire.dumps(wire.entry_body(snapshot, id_key)))
    assert isinstance(body, dict)
    assert wire.entry_from_body(body, id_key) == snapshot


@given(st.dictionaries(st.sampled_from(sorted(wire.RESERVED)), values, max_size=8))
def test_any_object_is_an_entry_or_refused(body: dict[str, Any]) -> None:
    try:
        snapshot = wire.entry_from_body(body, "sensor_id")
    except (ValueError, KeyError):
        return
    assert snapshot.device_id == str(body["sensor_id"])


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_code_becomes_the_same_error_on_the_other_side(code: str) -> None:
    error = from_code(code, "why", status="offline") if code != "INTERNAL_ERROR" else from_code(code, "why")
    assert (type(error), error.code, str(error)) == (BY_CODE[code], code, "why")


def test_a_busy_service_is_one_that_does_not_answer_for_the_other_side() -> None:
    busy = Busy("32 wait already")
    assert (busy.code, busy.status) == ("HANDLER_ERROR", 503)
    assert type(from_code(busy.code, str(busy))) is HandlerUnreachable


def test_an_unknown_code_is_a_failed_handler() -> None:
    error = from_code("TEAPOT", "short and stout")
    assert (error.code, error.status, str(error)) == ("HANDLER_ERROR", 503, "TEAPOT: short and stout")


def test_an_error_body_names_code_message_time_and_id() -> None:
    assert wire.error_body(ReadTimeout("no answer"), NOON, sensor_id="a") == {
        "error": "READ_TIMEOUT",
        "message": "no answer",
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "sensor_id": "a",
    }
    assert SensorUnavailable("x", status="offline").extra == {"status": "offline"}


# The contract's table of codes (section 2), and the two of MQTT commands and defects.
STATUS_OF = {
    "INVALID_COMMAND": 400,
    "VALUE_OUT_OF_RANGE": 400,
    "STALE_COMMAND": 400,
    "READ_ONLY": 403,
    "UNKNOWN_SENSOR": 404,
    "UNKNOWN_DEVICE": 404,
    "UNKNOWN_GROUP": 404,
    "NO_CACHE": 404,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "INTERNAL_ERROR": 500,
    "DEVICE_REFUSED": 502,
    "READ_TIMEOUT": 503,
    "READ_FAILED": 503,
    "TRANSPORT_DOWN": 503,
    "SENSOR_UNAVAILABLE": 503,
    "HANDLER_ERROR": 503,
    "CIRCUIT_OPEN": 503,
    "DISABLED": 503,
    "COMMAND_TIMEOUT": 504,
}


def test_codes_and_their_http_status_are_the_contracts() -> None:
    assert {code: error.status for code, error in BY_CODE.items()} == STATUS_OF
