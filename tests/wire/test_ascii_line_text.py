"""Lines of text: where they end, what is in them, what a command says, which expressions are let in."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub.drivers.ascii_line_frames import Garbage, LineAssembler
from sensor_hub.drivers.ascii_line_regex import regex_problem
from sensor_hub.drivers.ascii_line_settings import TextProperty
from sensor_hub.drivers.ascii_line_values import NoValueError, command_of, values_in
from sensor_hub.errors import InvalidCommand
from sensor_hub.readings import Json

TOO_LONG = Garbage("no end of line within 16 characters")


def lines(*pieces: bytes, terminator: str = "\r\n", encoding: str = "utf-8") -> list[str | Garbage]:
    assembler = LineAssembler(terminator, encoding, 16)
    return [line for piece in pieces for line in assembler.feed(piece)]


# -- where lines end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminator", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_every_usual_end_of_line_ends_a_line(terminator: str, end: bytes) -> None:
    assert lines(b"T=1" + end + end + b"T=2" + end + b"T=", terminator=terminator) == ["T=1", "T=2"]


def test_another_terminator_is_taken_as_it_stands() -> None:
    assert lines(b"a\r\nb;;c;", b";d;;", terminator=";;") == ["a\r\nb", "c", "d"]


@pytest.mark.parametrize(
    ("encoding", "raw", "text"),
    [
        ("utf-8", "22.5 °C".encode(), "22.5 °C"),
        ("latin-1", b"22.5 \xb0C", "22.5 °C"),
        ("ascii", b"22.5 \xb0C", Garbage("no ascii text (7 bytes)")),
        ("utf-8", b"\xff\xfe\x00", Garbage("no utf-8 text (3 bytes)")),
    ],
)
def test_bytes_are_read_in_the_encoding_of_the_line(encoding: str, raw: bytes, text: str | Garbage) -> None:
    assert lines(raw + b"\n", encoding=encoding) == [text]


def test_a_line_as_long_as_allowed_is_one() -> None:
    assert lines(b"x" * 16 + b"\n") == ["x" * 16]
    assert lines("°".encode() * 16 + b"\n") == ["°" * 16]
    assert lines(b"x" * 17 + b"\n") == [TOO_LONG]


def test_an_endless_line_is_one_error_and_the_next_line_is_whole() -> None:
    assert lines(*[b"x" * 100] * 50, b"\nT=1\n") == [TOO_LONG, "T=1"]


def test_the_end_of_an_endless_line_may_come_in_pieces() -> None:
    assert lines(b"x" * 100, b"E", b"N", b"D", b"T=1END", terminator="END") == [TOO_LONG, "T=1"]


def test_the_rest_of_a_line_that_began_earlier_can_be_skipped() -> None:
    assembler = LineAssembler("\r\n", "ascii", 16)
    assembler.skip_line()
    assert assembler.feed(b"2.5\r\nT=1\r\n") == ["T=1"]


@given(st.lists(st.binary(max_size=40)), st.data())
def test_lines_are_the_same_however_they_are_cut(raw: list[bytes], data: Any) -> None:
    whole = b"\n".join(raw)
    pieces, rest = [], whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    at_once, in_pieces = lines(whole + b"\n"), lines(*pieces, b"\n")
    assert in_pieces == at_once
    assert all(isinstance(line, Garbage) or 0 < len(line) <= 16 for line in at_once)


# -- what is in a line ------------------------------------------------------------------------------------------


def value_in(line: str, **options: Any) -> Json:
    return values_in(line, None, {"value": TextProperty.model_validate(options)})["value"]


@pytest.mark.parametrize(
    ("line", "options", "value"),
    [
        ("T=22.5 H=45", {"regex": r"T=([-\d.]+)"}, 22.5),
        ("T=22.5 H=45", {"regex": r"H=(\d+)"}, 45),
        ("+0012.34 kg", {"regex": r"([-+ ]*\d+\.\d+) kg"}, 12.34),
        ("ST,GS,-  12.34kg", {"regex": r",([-+ ]*\d+\.\d+)kg"}, -12.34),
        ("\x02 12.34\x03", {"regex": r"\d+\.\d+"}, 12.34),
        ("225", {"scale": 0.1}, 22.5),
        ("225", {"scale": 2, "offset": 1}, 451),
        ("1e3", {}, 1000.0),
        ("0,5", {"decimal": ","}, 0.5),
        (".5", {}, 0.5),
        ("-40", {}, -40),
        (" 7 ", {}, 7),
        ("door open", {"regex": r"door (\w+)", "type": "boolean", "on": "open", "off": "closed"}, True),
        ("door CLOSED", {"regex": r"door (\w+)", "type": "boolean", "on": "open", "off": "closed"}, False),
        ("1", {"type": "boolean"}, True),
        ("off", {"type": "boolean"}, False),
        ("mode: auto ", {"regex": "mode:(.*)", "type": "text"}, "auto"),
        ("a\x07b", {"type": "text"}, "ab"),
        ('{"t": 22.5}', {"json": "t"}, 22.5),
        ('{"t": 22}', {"json": "t", "scale": 0.1}, 2.2),
        ('{"a": [{"h": "45"}]}', {"json": "a.0.h"}, 45),
        ('{"on": true}', {"json": "on", "type": "boolean"}, True),
        ('{"s": "x"}', {"json": "s", "type": "text"}, "x"),
    ],
)
def test_a_value_is_found_and_typed(line: str, options: dict[str, Any], value: Json) -> None:
    found = value_in(line, **options)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ("H=45", {"regex": r"T=(\d+)"}, "value is not in 'H=45'"),
        ("T=ERR", {"regex": r"T=(\w+)"}, "value in 'T=ERR' is no number"),
        ("1.2.3", {}, "no number"),
        ("nan", {}, "no number"),
        ("inf", {}, "no number"),
        ("1e999", {}, "no number"),
        ("1e99", {"scale": 1e300}, "no number"),
        ("١٢", {}, "no number"),
        ("0x10", {}, "no number"),
        ("maybe", {"type": "boolean"}, "no boolean"),
        ("2", {"type": "boolean"}, "no boolean"),
        ("{", {"json": "t"}, "is not JSON"),
        ('{"t": NaN}', {"json": "t"}, "is not JSON"),
        ("[" * 4000, {"json": "t"}, "is not JSON"),
        ('{"t": {}}', {"json": "t"}, "no number"),
        ('{"t": true}', {"json": "t"}, "no number"),
        ('{"t": 1}', {"json": "t.x"}, "is not in"),
        ('{"t": 1}', {"json": "t", "type": "text"}, "no text"),
    ],
)
def test_what_is_no_value_is_told(line: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(NoValueError, match=re.escape(says)):
        value_in(line, **options)


def test_a_line_must_hold_all_properties_but_the_optional_ones() -> None:
    fields = {
        "t": TextProperty.model_validate({"regex": r"T=([\d.]+)"}),
        "h": TextProperty.model_validate({"regex": r"H=([\d.]+)", "optional": True}),
    }
    assert values_in("T=22.5 H=45", None, fields) == {"t": 22.5, "h": 45}
    assert values_in("T=22.5", None, fields) == {"t": 22.5}
    with pytest.raises(NoValueError, match="t is not in"):
        values_in("H=45", None, fields)


def test_a_line_with_another_beginning_is_somebody_elses() -> None:
    field = {"value": TextProperty.model_validate({"regex": r"\d+$"})}
    assert values_in("A: 5", "A:", field) == {"value": 5}
    with pytest.raises(NoValueError, match="does not start with 'A:'"):
        values_in("B: 5", "A:", field)


@given(st.text(max_size=60), st.sampled_from(["number", "boolean", "text"]), st.booleans())
def test_any_line_is_values_or_none(line: str, kind: str, as_json: bool) -> None:
    options: dict[str, Any] = {"type": kind} | ({"json": "a.0"} if as_json else {})
    try:
        found = value_in(line, **options)
    except NoValueError:
        return
    kinds: dict[str, tuple[type, ...]] = {"number": (int, float), "boolean": (bool,), "text": (str,)}
    assert type(found) in kinds[kind]


# -- what a command says ----------------------------------------------------------------------------------------


def command(value: Json, template: str = "S{value}", **options: Any) -> tuple[str, Json]:
    item = TextProperty.model_validate({"command": template, **options})
    return command_of("x", item, value, ("\r\n", "\r\n"))


@pytest.mark.parametrize(
    ("value", "options", "text", "said"),
    [
        (21.5, {}, "S21.5", 21.5),
        (21, {}, "S21", 21),
        (21.0, {}, "S21", 21.0),
        (100, {}, "S100", 100),
        (-0.0, {}, "S0", 0.0),
        (22.5, {"scale": 0.1}, "S225", 22.5),
        (0.30000000000000004, {"scale": 0.1}, "S3", 0.3),
        (5, {"offset": -40}, "S45", 5),
        (1 / 3, {}, "S0.333333333333333", 0.333333333333333),
        (21.57, {"template": "S{value:.1f}"}, "S21.6", 21.6),
        (7.5, {"template": "S{value:05.1f}!"}, "S007.5!", 7.5),
        (7, {"template": "S{value:03d}"}, "S007", 7),
        (21.5, {"decimal": ","}, "S21,5", 21.5),
        (1e-7, {}, "S0.0000001", 1e-7),
        (True, {"type": "boolean"}, "S1", True),
        (False, {"type": "boolean", "on": "ON", "off": "OFF"}, "SOFF", False),
        ("auto", {"type": "text"}, "Sauto", "auto"),
        ("{value}", {"type": "text"}, "S{value}", "{value}"),
        (r"\1", {"type": "text"}, r"S\1", r"\1"),
    ],
)
def test_a_command_says_its_value(value: Json, options: dict[str, Any], text: str, said: Json) -> None:
    assert command(value, **options) == (text, said)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("x\r\nDELETE", {"type": "text"}),
        ("x\rDELETE", {"type": "text"}),
        ("x\n", {"type": "text"}),
        ("\x00", {"type": "text"}),
        ("\x1b[2J", {"type": "text"}),
        ("\x85", {"type": "text"}),
        ("\u2028", {"type": "text"}),
        ("\ud800", {"type": "text"}),
        (5, {"type": "text"}),
        (1, {"type": "boolean"}),
        ("on", {"type": "boolean"}),
        (True, {}),
        ("5", {}),
        (float("nan"), {}),
        (float("inf"), {}),
        (10**400, {}),
        (None, {}),
        (7.5, {"template": "S{value:03d}"}),
    ],
)
def test_a_value_that_would_be_more_than_a_value_is_refused(value: Json, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidCommand):
        command(value, **options)


def test_a_value_may_not_end_the_command_with_a_printable_terminator_either() -> None:
    item = TextProperty.model_validate({"type": "text", "command": "S;{value}"})
    for value in ("a;;b", ";x"):
        with pytest.raises(InvalidCommand, match="terminator"):
            command_of("x", item, value, (";;", ";;"))
    assert command_of("x", item, "a;b", (";;", ";;")) == ("S;a;b", "a;b")


@given(st.text(max_size=40))
def test_no_text_ever_holds_a_second_command(value: str) -> None:
    try:
        text, _ = command(value, type="text")
    except InvalidCommand:
        return
    assert text == f"S{value}"
    assert text.isprintable() or not re.search(r"[\x00-\x1f\x7f\x85]", text)


# -- expressions ----------------------------------------------------------------------------------------------


HARMLESS = [
    r"T=\s*([-+]?\d+\.?\d*)",
    r"T=([-+]?\d+(?:\.\d+)?)",
    r"([-+]?\d+(?:\.\d+)?)",
    r"^\s*([-+]?\d+\.?\d*)\s*kg\s*$",
    r"([-+]?[\d.]+)\s*kg",
    r"(.*)",
    r".*T=(\d+).*",
    r"^(?:[^,]*,){3}([^,]*)",
    r"(?i)^[^,]*,(on|off|\d+)$",
    r"(?:\d{3},)*(\d+)",
    r"(?P<weight>\d+) kg",
    r"(?=T)T=(\d+)",
    r"\d+",
]
DANGEROUS = [
    r"(a+)+$",
    r"(a|aa)*b",
    r"(?:a?){30}a{30}",
    "a?" * 30 + "a" * 30,
    r".*.*.*x",
    r"(\w+\s?)+$",
    r"(x+x+)+y",
    r"([a-z]+)*\d",
    r"\d*\d*\d*\d*x",
    r".*→.*→.*→.*z",
    r"(?:.*,){11}x",
    r"(?=(a+)+$)a",
    r"(?i:a*)(?i:A*)(?:a|A)*x",
]


@pytest.mark.parametrize("expression", HARMLESS)
def test_a_usual_expression_is_let_in_and_is_quick(expression: str) -> None:
    assert regex_problem(expression, 256) is None
    began = time.monotonic()
    for unit in ("1", "a", "T=", "1.", " ", ",", "on,", "-1", "T=1", "x "):
        re.search(expression, (unit * 256)[:256])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("expression", DANGEROUS)
def test_an_expression_that_may_take_for_ever_is_refused(expression: str) -> None:
    problem = regex_problem(expression, 256)
    assert problem is not None
    assert "may" in problem


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("(", "is no regular expression"),
        ("(a)(b)", "has 2 groups, must have one"),
        (r"(a)\1", "may not refer back"),
        ("a" * 501, "has more than 500 characters"),
        ("a{99999999999999999999}", "is no regular expression"),
        ("*", "is no regular expression"),
    ],
)
def test_what_is_wrong_with_an_expression_is_told(expression: str, says: str) -> None:
    problem = regex_problem(expression, 256)
    assert problem is not None
    assert says in problem


def test_an_expression_for_the_whole_text_is_searched_from_one_place_only_and_its_groups_do_not_count() -> (
    None
):
    assert regex_problem("(a)(b)", 256, whole=True) is None
    assert regex_problem(".*.*.*x", 256, whole=True) is None
    assert regex_problem(".*.*.*x", 256) is not None
    problem = regex_problem(".*.*.*x", 1000, whole=True, limit="length")
    assert problem is not None
    assert problem.endswith("or lower length")


def test_a_longer_line_allows_less() -> None:
    assert regex_problem(r"([-+]?\d+(?:\.\d+)?)", 256) is None
    assert regex_problem(r"\d+\d+$", 256) is None
    assert regex_problem(r"\d+\d+$", 4096) is not None
    assert regex_problem(r"^T=\d+\.\d+$", 4096) is None


@given(st.text(max_size=30))
def test_any_expression_is_let_in_or_refused_with_a_reason(expression: str) -> None:
    problem = regex_problem(expression, 256)
    assert problem is None or problem
    if problem is None:
        assert re.compile(expression).groups <= 1
