"""The line protocol: the reference's own examples, then anything, read back by a parser of its own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub.outputs.line_protocol import line
from sensor_hub.readings import Json

NO_TAGS: dict[str, str] = {}


@pytest.mark.parametrize(
    ("measurement", "tags", "fields", "expected"),
    [
        (
            "measurementName",
            {"tagKey": "tagValue"},
            {"fieldKey": "fieldValue"},
            'measurementName,tagKey=tagValue fieldKey="fieldValue" 1465839830100400200',
        ),
        (
            "myMeasurement",
            {"tag1": "value1", "tag2": "value2"},
            {"fieldKey": "fieldValue"},
            'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1465839830100400200',
        ),
        (
            "my Measurement",
            NO_TAGS,
            {"fieldKey": "string value"},
            r'my\ Measurement fieldKey="string value" 1465839830100400200',
        ),
        (
            "myMeasurement",
            NO_TAGS,
            {"fieldKey": '"string" within a string'},
            r'myMeasurement fieldKey="\"string\" within a string" 1465839830100400200',
        ),
        (
            "myMeasurement",
            {"tagKey1": "tag Value1", "tag Key2": "tagValue2"},
            {"fieldKey": 100},
            r"myMeasurement,tag\ Key2=tagValue2,tagKey1=tag\ Value1 fieldKey=100.0 1465839830100400200",
        ),
        (
            "myMeasurement",
            {"tagKey": "🍭"},
            {"fieldKey": "Launch 🚀"},
            'myMeasurement,tagKey=🍭 fieldKey="Launch 🚀" 1465839830100400200',
        ),
        (
            "m,e=a",
            {"t,a=g": "v,a=l"},
            {"f,i=e l": True},
            r"m\,e=a,t\,a\=g=v\,a\=l f\,i\=e\ l=true 1465839830100400200",
        ),
        ("m", NO_TAGS, {"path": r"C:\data"}, r'm path="C:\\data" 1465839830100400200'),
        ("m", {"empty": "", "t": "x"}, {"v": False}, "m,t=x v=false 1465839830100400200"),
        ("m", NO_TAGS, {"list": [1, "a"]}, r'm list="[1,\"a\"]" 1465839830100400200'),
        ("m", NO_TAGS, {"time": 1, "none": None}, "m time_=1.0 1465839830100400200"),
    ],
)
def test_a_point_as_the_reference_writes_it(
    measurement: str, tags: dict[str, str], fields: dict[str, Json], expected: str
) -> None:
    assert line(measurement, tags, fields, 1465839830100400200) == expected


@pytest.mark.parametrize(
    ("value", "integers", "expected"),
    [
        (21, False, "21.0"),
        (21, True, "21i"),
        (21.5, True, "21.5"),
        (-0.0, False, "-0.0"),
        (1e-300, False, "1e-300"),
        (2**63 - 1, True, "9223372036854775807i"),
        (2**63, True, None),
        (10**400, False, None),
        (math.nan, False, None),
        (math.inf, False, None),
        (None, False, None),
        (True, True, "true"),
    ],
)
def test_a_value_is_of_the_type_that_its_field_has(value: Json, integers: bool, expected: str | None) -> None:
    found = line("m", NO_TAGS, {"v": value}, 7, integers=integers)
    assert found == (None if expected is None else f"m v={expected} 7")


@pytest.mark.parametrize(
    ("name", "said"), [("a\\", "a_"), ("a\\ b", r"a_\ b"), ("a\nb", r"a\ b"), ("#a", "_a"), ("", "_")]
)
def test_a_name_that_cannot_be_said_does_not_break_the_line(name: str, said: str) -> None:
    assert line(name, NO_TAGS, {"v": True}, 1) == f"{said} v=true 1"


# -- anything, read back -------------------------------------------------------------------------------------------

NASTY = st.text(st.sampled_from("a=, \\\"'\n#é🚀1"), max_size=6) | st.text(max_size=6)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | NASTY


def until(text: str, index: int, ends: str) -> tuple[str, int]:
    """A name from there on, unescaped, and where one of `ends` stands that no backslash protects."""
    found = ""
    while text[index] not in ends:
        if text[index] == "\\" and text[index + 1] in ",= ":
            index += 1
        found += text[index]
        index += 1
    return found, index


def quoted(text: str, index: int) -> tuple[str, int]:
    found = ""
    while text[index] != '"':
        if text[index] == "\\" and text[index + 1] in '"\\':
            index += 1
        found += text[index]
        index += 1
    return found, index + 1


def parse(text: str) -> tuple[str, dict[str, str], dict[str, Json], int]:
    """A point, read one character after the other as the reference describes it."""
    tags: dict[str, str] = {}
    fields: dict[str, Json] = {}
    measurement, index = until(text, 0, ", ")
    while text[index] == ",":
        key, index = until(text, index + 1, "=")
        tags[key], index = until(text, index + 1, ", ")
    while text[index] == "," or not fields:
        key, index = until(text, index + 1, "=")
        if text[index + 1] == '"':
            fields[key], index = quoted(text, index + 2)
        else:
            word, index = until(text, index + 1, ", ")
            fields[key] = {"true": True, "false": False}[word] if word in ("true", "false") else float(word)
    assert text[index] == " "
    return measurement, tags, fields, int(text[index + 1 :])


def said(name: str) -> str:
    """What a name becomes that cannot be said."""
    return name.translate(str.maketrans("\\\n\r\t\0", "_    "))


def kept(value: Json) -> Json:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", " ")
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def is_storable(value: Json) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is not None
    return abs(value) < 2**1023 and not math.isnan(value)


@given(NASTY, st.dictionaries(NASTY, NASTY, max_size=3), st.dictionaries(NASTY, VALUES, max_size=3))
def test_whatever_is_written_is_read_back(
    measurement: str, tags: dict[str, str], fields: dict[str, Json]
) -> None:
    storable = {key: value for key, value in sorted(fields.items()) if key and is_storable(value)}
    found = line(measurement, tags, storable, 5)
    assert (found is None) == (not storable)
    if found is None:
        return
    wanted = said(measurement)
    read = parse(found)
    assert read[0] == (("_" + wanted[1:] if wanted.startswith("#") else wanted) or "_")
    wanted_tags = {said(key): said(value) for key, value in sorted(tags.items()) if key and value}
    assert read[1] == wanted_tags
    assert read[2] == {said(key): kept(value) for key, value in storable.items()}
    assert read[3] == 5


def test_a_number_that_no_float_holds_is_left_out_and_the_others_stay() -> None:
    assert line("m", NO_TAGS, {"a": math.nan, "b": 10**400, "c": 1}, 1) == "m c=1.0 1"
