"""Definitions in Python Protocol Gateway's format: worked examples to the right value, its defects not reproduced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensor_hub.drivers import ppg_cells, ppg_tables, register_maps
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.ppg_map import Tables, definition_of
from sensor_hub.drivers.register_maps import MapError, RegisterMap
from sensor_hub.errors import ReadFailed, ValueOutOfRange
from sensor_hub.properties import check_range
from sensor_hub.readings import Json

HEADER = "variable name,documented name,data type,register,unit,values,writable,read interval"
DOWNLOADED = Path(__file__).resolve().parents[3] / "shared/data/register-maps"
OUR_OWN = Path(__file__).resolve().parent / "register_maps"


def rows(*lines: str, header: str = HEADER, file: str = "x.csv") -> list[ppg_tables.Row]:
    return ppg_tables.rows_of("\n".join((header, *lines)), file)


def loaded(*lines: str, header: str = HEADER, at: float = 5.0, **settings_: Any) -> RegisterMap:
    """A map with these rows of holding registers."""
    return definition_of("x", settings_, Tables(holding=rows(*lines, header=header))).at(at)


def messages(*lines: str, **settings_: Any) -> RegisterMap:
    return definition_of("x", settings_, Tables(messages=rows(*lines))).at(5.0)


def only(found: RegisterMap) -> Register:
    (register,) = found.registers.values()
    return register


def quoted(codes: dict[str, str]) -> str:
    return '"' + json.dumps(codes).replace('"', '""') + '"'


def problems(*lines: str, **settings_: Any) -> tuple[str, ...]:
    with pytest.raises(MapError) as caught:
        loaded(*lines, **settings_)
    return caught.value.problems


# -- the worked examples -----------------------------------------------------------------------------------------

FLAGS = quoted({"b0": "StandBy", "b1": "On", "b15": "Fault"})
EXAMPLES = [
    ("USHORT", "x10", "0.1V", "", [0x0901], 230.5),
    ("INT", "5", "1W", "", [0xFFFF, 0xFF38], -200),
    ("INT", "5", "1W", "", [0x0000, 0x00C8], 200),
    ("SHORT", "7", "0.1C", "", [0xFFCE], -5.0),
    ("SHORT", "7", "0.1C", "", [0x00FA], 25.0),
    ("UINT", "8", "0.1kWh", "", [0x0001, 0x86A0], 10000.0),
    ("ASCII", "7~9", "", "", [0x4142, 0x4344, 0], "ABCD"),
    ("ASCII", "r20~22", "", "", [0x4142, 0x4344, 0x4546], "EFCDAB"),
    ("ASCII_LE", "30~31", "", "", [0x4142, 0x4344], "BADC"),
    ("3BIT", "4.b2", "", "", [0xABCD], 3),
    ("4BIT", "4.b12", "", "", [0xABCD], 10),
    ("BYTE", "4.b0", "", "", [0xABCD], 205),
    ("BYTE", "4.b8", "", "", [0xABCD], 171),
    ("8BIT", "4.8", "", "", [0xABCD], 205),
    ("16BIT_FLAGS", "12", "", FLAGS, [0x8003], "StandBy,On,Fault"),
    ("16BIT_FLAGS", "13", "", "", [0x8003], "1100000000000001"),
    ("8BIT_FLAGS", "14.b8", "", "", [0xA5F0], "10100101"),
    ("8BIT_FLAGS", "14.b4", "", quoted({"b0": "z", "b3": "t"}), [0xA5F0], "z,t"),
    ("USHORT", "2", "", quoted({"0": "Off", "1": "On", "2": "Auto"}), [1], "On"),
    ("USHORT", "2", "", quoted({"0": "Off", "1": "On", "2": "Auto"}), [9], 9),
    ("HEX", "40", "", "", [0x0A1B], "0a1b"),
    ("HEX", "41~42", "", "", [0x1234, 0x5678], "12345678"),
    ("HEX_LE", "43", "", "", [0x0A1B], "1b0a"),
]


@pytest.mark.parametrize(("data_type", "register", "unit", "values", "words", "value"), EXAMPLES)
def test_a_worked_example_of_registers_is_decoded(
    data_type: str, register: str, unit: str, values: str, words: list[int], value: Any
) -> None:
    point = only(loaded(f",Doc,{data_type},{register},{unit},{values},,"))
    assert point.count == len(words)
    assert point.decode(words) == value


MESSAGES = {
    0x355: "5A00640000000000",
    0x356: "4C14CEFF00FA0000",
    0x359: "0082000000000000",
    0x35E: b"PYLONXab".hex(),
    0x360: "01020304",
    0x361: "A000",
}


@pytest.mark.parametrize(
    ("data_type", "register", "unit", "values", "value"),
    [
        ("USHORT", "x355", "", "", 90),
        ("USHORT", "x355.2", "", "", 100),
        ("SHORT", "x356", "0.01V", "", 51.96),
        ("SHORT", "x356.2", "0.1A", "", -5.0),
        ("SHORT_BE", "x356.4", "0.1C", "", 25.0),
        ("8BIT_FLAGS", "x359.1", "", quoted({"b1": "OverVolt", "b7": "OverTemp"}), "OverVolt,OverTemp"),
        ("ASCII.5", "x35E", "", "", "PYLON"),
        ("HEX.2", "x35E.6", "", "", "6162"),
        ("UINT", "x360", "", "", 67305985),
        ("UINT_BE", "x360", "", "", 16909060),
        ("3bit", "x361.b5", "", "", 5),
    ],
)
def test_a_worked_example_of_messages_is_decoded(
    data_type: str, register: str, unit: str, values: str, value: Any
) -> None:
    (field,) = messages(
        f",Doc,{data_type},{register},{unit},{values},,", byteorder="little"
    ).messages.values()
    data = bytes.fromhex(MESSAGES[field.ids[0]])
    assert field.decode(data) == value
    assert field.unit == (unit.lstrip("0.1") or None)


@pytest.mark.parametrize(
    ("data_type", "register", "data", "value"),
    [
        ("8BIT_FLAGS", "x359.b8", b"\x00\x82", "01000001"),
        ("2SBIT", "1.b6", b"\xc0", -1),
        ("8SMBIT", "1", b"\x85", -5),
        ("BYTE", "1.3", b"\x00\x01\x02\x03", 3),
        ("HEX", "1~2", b"\x0a\x0b", "0a0b"),
        ("INT", "1", b"\xff\xff\xff\xfe", -2),
    ],
)
def test_other_fields_of_messages(data_type: str, register: str, data: bytes, value: Any) -> None:
    (field,) = messages(f",Doc,{data_type},{register},,,,").messages.values()
    assert field.decode(data) == value


def test_a_message_that_is_too_short_is_no_reading() -> None:
    (field,) = messages(",Doc,UINT,1.2,,,,").messages.values()
    with pytest.raises(ReadFailed, match="only 5 bytes"):
        field.decode(b"12345")


# -- defects that are not reproduced -----------------------------------------------------------------------------


def test_a_map_that_relies_on_the_inverted_sign_says_so() -> None:
    line = ",Grid,SHORT,1,-0.1V,,,"
    plain = loaded(line)
    assert only(plain).decode([0xFF9C]) == 10.0
    assert any('"compat": "ppg"' in note for note in plain.notes)
    inverted = loaded(line, compat="ppg")
    assert only(inverted).decode([0xFF9C]) == -10.0
    assert only(inverted).decode([100]) == 10.0
    assert inverted.notes == ()


def test_both_words_of_a_number_are_asked_for() -> None:
    assert only(loaded(",Energy,UINT,44,,,,")).count == 2


def test_what_is_disabled_is_no_property_and_is_never_read() -> None:
    found = loaded(
        ",A,,0,,,,", ",B,,1,,,RD,", ",C,,2,,,DISABLED,", ",D,1BIT,3.b1,,,D,", ",E,,3,,,R,", ",F,,9,,,D,"
    )
    assert set(found.registers) == {"a", "e"}
    assert found.never_read == (Span("holding", 1, 2), Span("holding", 9, 1))


def test_what_may_only_be_written_is_never_read() -> None:
    found = loaded(",Reset,,5,,,WO,")
    assert (only(found).read, only(found).write) == (False, True)
    assert only(found).spec(writable=True).readable is False
    assert found.never_read == (Span("holding", 5, 1),)


@pytest.mark.parametrize(
    ("access", "write"),
    [("W", True), ("rw", True), ("R/W", True), ("yes", True), ("R", False), ("", False), ("WD", False)],
)
def test_only_what_may_be_written_is_writable(access: str, write: bool) -> None:
    assert only(loaded(f",A,,0,,,{access},")).write is write


def test_an_unknown_access_word_is_read_only_and_told() -> None:
    found = loaded(",A,,0,,,WRITE,")
    assert only(found).write is False
    assert found.notes == ("x.csv, line 2, writable: access 'WRITE' is no known word: read-only",)


def test_input_registers_are_never_written() -> None:
    found = definition_of("x", {}, Tables(input=rows(",A,,0,,,W,"))).at(5)
    assert (only(found).table, only(found).write) == ("input", False)
    assert "input registers cannot be written" in found.notes[0]


def test_two_maps_share_nothing() -> None:
    first, second = loaded(",A,,0,,,,"), loaded(",B,,1,,,,")
    assert (set(first.registers), set(second.registers)) == ({"a"}, {"b"})


def test_numbers_are_written_by_rounding_and_within_their_range() -> None:
    point = only(loaded(",A,,0,0.1V,400-580,W,"))
    assert point.encode(57.3) == [573]
    spec = point.spec(writable=True)
    assert (spec.minimum, spec.maximum, spec.tolerance) == (40.0, 58.0, 0.05)


@pytest.mark.parametrize(
    ("data_type", "value", "words"),
    [
        ("SHORT", -5, [0xFFFB]),
        ("INT", -2, [0xFFFF, 0xFFFE]),
        ("UINT", 65536, [1, 0]),
        ("ASCII.4", "AB", [0x4142, 0]),
        ("HEX.2", "0a1b", [0x0A1B]),
    ],
)
def test_every_type_can_be_written(data_type: str, value: Any, words: list[int]) -> None:
    assert only(loaded(f",A,{data_type},0,,,W,")).encode(value) == words


def test_lists_and_character_classes_are_enforced() -> None:
    found = loaded(',A,,0,,"0,1,5-7,x10",W,', ",B,ASCII,1~2,,[A-Z]{4},W,", ",C,ASCII,3~4,,[A-Z0-9]+,W,")
    a, b, c = found.registers.values()
    assert a.allowed == [0, 1, 5, 6, 7, 16]
    assert b.encode("ABCD") == [0x4142, 0x4344]
    assert c.encode("A1") == [0x4131, 0]
    for point, bad in ((a, 2), (b, "ABC"), (c, "a")):
        with pytest.raises(ValueOutOfRange):
            point.encode(bad)


def test_texts_for_several_bits_stand_for_those_bits() -> None:
    codes = quoted({"b0": "low", "b1": "high", "b0&b1": "both"})
    point = only(loaded(f",A,8BIT_FLAGS,0,,{codes},,"))
    assert [point.decode([word]) for word in (1, 2, 3)] == ["low", "high", "both"]


def test_flags_over_two_registers_are_numbered_through_and_joined_by_commas() -> None:
    codes = quoted({"b0": "zero", "b3": "three", "b16": "sixteen", "b19": "nineteen"})
    point = only(loaded(f",A,32BIT_FLAGS,20~21,,{codes},,"))
    assert point.decode([0x0009, 0x0009]) == "zero,three,sixteen,nineteen"
    assert only(loaded(",A,32BIT_FLAGS,20~21,,,,")).decode([1, 0x8000]) == "1" + "0" * 30 + "1"


def test_flags_that_are_counted_from_the_registers_first_bit_are_understood() -> None:
    found = loaded(f",A,8BIT_FLAGS,1.b8,,{quoted({'b8': 'x', 'b15': 'y'})},,")
    assert only(found).decode([0x81FF]) == "x,y"
    assert "counted from bit 0" in found.notes[0]


def test_signed_bit_fields_are_signed() -> None:
    found = loaded(",A,4SBIT,0.b4,,,,", ",B,8SMBIT,0.b8,,,,")
    assert [point.decode([0x85F0]) for point in found.registers.values()] == [-1, -5]


def test_a_byte_offset_in_a_register_counts_its_bytes() -> None:
    found = loaded(",A,BYTE,4.1,,,,", ",B,BYTE_LE,4.1,,,,", ",C,BYTE,4.2,,,,")
    assert [point.decode([0xABCD]) for point in found.registers.values()] == [0xCD, 0xAB, 0xCD]
    assert found.notes == (
        "x.csv, line 4, register: byte 2 is not in the register: left out (bit 2 is written .b2)",
    )


@pytest.mark.parametrize(
    ("unit", "scale", "symbol"),
    [
        ("0.1V", 0.1, "V"),
        ("10mV", 10, "mV"),
        ("-0.1A", -0.1, "A"),
        ("0.01 Hz", 0.01, "Hz"),
        ("%", 1, "%"),
        ("m3", 1, "m3"),
        ("0.1V/0.2A", 0.1, "V/0.2A"),
        ("1e-3V", 1, "e-3V"),
        ("0.1 hour", 0.1, "hour"),
        ("0.5Torr", 0.5, "Torr"),
        ("0V", 1, "V"),
        ("0.1V Or 1%", 1, "0.1V Or 1%"),
        ("0: off", 1, "0: off"),
        ("", 1, None),
    ],
)
def test_a_unit_is_scale_and_symbol(unit: str, scale: float, symbol: str | None) -> None:
    point = only(loaded(f",A,,0,{unit},,,"))
    assert (point.scale, point.unit) == (scale, symbol)


def test_three_steps_of_a_tenth_are_exactly_0_3() -> None:
    assert repr(only(loaded(",A,,0,0.1V,,,")).decode([3])) == "0.3"


def test_names_that_come_twice_or_are_reserved_get_a_name_of_their_own() -> None:
    found = loaded("Power,A,,0,,,,", ",Power,,1,,,,", ",Status,,2,,,,", ",power ,,3,,,,")
    assert list(found.registers) == ["power", "power_2", "status_value", "power_3"]
    assert [note.partition(": ")[2] for note in found.notes] == [
        "'power' is taken: it is called 'power_2'",
        "'status' is taken: it is called 'status_value'",
        "'power' is taken: it is called 'power_3'",
    ]


def test_the_same_note_of_many_rows_is_told_once() -> None:
    found = loaded(*(f",A{number},,{number},01.c,,," for number in range(16)))
    assert found.notes == (
        "x.csv, line 2 (and 15 more), unit: unit '01.c' is read as scale 1; a decimal point may be misplaced",
    )


# -- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_delimiter_spaces_and_spelling_of_the_header_do_not_matter(delimiter: str) -> None:
    header = f" Variable_Name {delimiter} DOCUMENTED name{delimiter}Register {delimiter} unit"
    text = "\n".join(
        [
            "# made by hand",
            header,
            delimiter * 3,
            f"#comment{delimiter * 3}",
            f"A b{delimiter}x{delimiter}7{delimiter}V",
        ]
    )
    (row,) = ppg_tables.rows_of(text, "x.csv")
    assert (row["variable name"], row["register"], row["unit"], row.line) == ("A b", "7", "V", 5)


def test_comments_are_accepted_but_not_inside_a_quoted_cell() -> None:
    found = rows("# a, comment", ',A,,1,,"first', '# no comment",,', "", ",B,,2,,,,")
    assert [(row["documented name"], row.line) for row in found] == [("A", 3), ("B", 6)]
    assert found[0]["values"] == "first\n# no comment"


def test_the_write_column_wins_over_writable() -> None:
    header = "variable name,documented name,register,writable,write"
    assert only(loaded(",A,0,R,W", header=header)).write is True


def test_two_halves_of_a_number_are_one() -> None:
    found = loaded(",Grid Energy H,,100,,,,10x", ",Grid Energy L,,101,0.1kWh,,,")
    assert list(found.registers) == ["grid_energy"]
    point = found.registers["grid_energy"]
    assert (point.decode([2, 3]), point.unit, point.interval_s) == (13107.5, "kWh", 50)


def test_halves_in_the_other_order_and_signed_ones_are_joined_too() -> None:
    found = loaded(",A H,,11,,,,", ",A L,,10,,,,", ",B H,INT,20,,,,", ",B L,,21,,,,")
    a, b = found.registers.values()
    assert (a.address, a.decode([2, 1])) == (10, 65538)
    assert b.decode([0xFFFF, 0xFFFE]) == -2


def test_halves_that_do_not_lie_side_by_side_stay_two() -> None:
    found = loaded(",A H,,11,,,,", ",A L,,20,,,,")
    assert list(found.registers) == ["a_h", "a_l"]
    assert "not joined" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "line_s", "interval_s"),
    [("10x", 0.5, 5), ("1.5s", 5, 1.5), ("500ms", 5, 0.5), ("", 5, None), ("1ms", 5, 0.05)],
)
def test_an_interval_is_told_in_seconds(text: str, line_s: float, interval_s: float | None) -> None:
    assert only(loaded(f",A,,0,,,,{text}", at=line_s)).interval_s == interval_s


def test_the_definitions_interval_is_in_milliseconds_and_a_rows_own_wins() -> None:
    found = loaded(",A,,0,,,,", ",B,,1,,,,2s", read_interval=1500)
    assert [point.interval_s for point in found.registers.values()] == [1.5, 2]


def test_codes_of_the_json_file_win_over_those_of_the_table() -> None:
    cell = quoted({"1": "FromCsv"})
    assert only(loaded(f",X,,0,,{cell},,", x_codes={"1": "One"})).decode([1]) == "One"
    assert only(loaded(f",X,,0,,{cell},,")).decode([1]) == "FromCsv"
    assert only(loaded(",Y,,0,,{{x_codes}},,", x_codes={"1": "One"})).decode([1]) == "One"


def test_codes_of_scaled_numbers_are_looked_up_without_the_fraction() -> None:
    point = only(loaded(f",X,,0,0.1V,{quoted({'2': 'two'})},,"))
    assert [point.decode([raw]) for raw in (25, 35)] == ["two", 3.5]


def test_settings_of_the_definition_are_for_its_line() -> None:
    found = loaded(",A,,0,,,,", baud="19200", batch_size="40", batch_delay=0.85, transport="modbus_rtu")
    assert (found.line.baudrate, found.line.max_registers, found.line.delay_ms) == (19200, 40, 850)


def test_a_space_that_is_not_to_be_sent_is_left_out() -> None:
    tables = Tables(holding=rows(",A,,0,,,,"), input=rows(",B,,0,,,,"))
    found = definition_of("x", {"send_holding_register": "false"}, tables).at(5)
    assert list(found.registers) == ["b"]


OVERRIDE = [
    "voltage,Alpha,,,0.01V,,,",  # by name: renamed, another scale
    ",,SHORT,2,,,,",  # by register: another type
    ",New,,9,,,,7s",  # a new row
    ",Nothing,,,,,,",  # neither
]


def test_an_override_changes_rows_by_name_or_register_and_adds_new_ones() -> None:
    notes: list[str] = []
    base = rows(",Alpha,,1,0.1V,,,", ",Beta,,2,,,,")
    merged = ppg_tables.overridden(base, rows(*OVERRIDE, file="x.override.csv"), notes)
    found = definition_of("x", {}, Tables(holding=merged)).at(5)
    assert list(found.registers) == ["voltage", "beta", "new"]
    voltage, beta, new = found.registers.values()
    assert (voltage.address, voltage.scale, beta.data_type, new.interval_s) == (1, 0.01, "int16", 7)
    assert notes == [
        "x.override.csv, line 5, documented name: overrides no row: neither its name nor its register is there"
    ]


# -- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (",A,,,,,,", "x.csv, line 2, register: must be like 16, x10"),
        (",A,,12-,,,,", "not '12-'"),
        (",A,,65536,,,,", "is beyond 65535"),
        (",A,ASCII,0~200,,,,", "more than 125 registers"),
        (",A,FLOATY,0,,,,", "line 2, data type: unknown type 'FLOATY'; known are BYTE"),
        (",A,1SBIT,0,,,,", "no bit beside the sign"),
        (",A,ASCII.0,0,,,,", "has no length"),
        (",A,,0,1.2.3V,,,", "line 2, unit: '1.2.3' in '1.2.3V' is no number"),
        (",A,,0,.,,,", "is no number"),
        (",A,BYTE,0.b16,,,,", "bit 16 is not in a register of 16 bits"),
        (",A,UINT,65535,,,,", "at most 65534"),
        (",A,USHORT,1~3,,,,", "3 registers are not the 16 bits of its type"),
    ],
)
def test_a_bad_cell_is_named_with_file_line_and_column(line: str, says: str) -> None:
    (found,) = problems(line)
    assert says in found


def test_all_problems_are_told_at_once() -> None:
    found = problems(",A,,x,,,,", ",B,,0,,,,", ",C,what,1,..,,,", baud="fast", x_codes=[])
    assert [text.partition(":")[0] for text in found] == [
        "x.json, baud",
        "x.json, x_codes",
        "x.csv, line 2, register",
        "x.csv, line 4, data type",
        "x.csv, line 4, unit",
    ]


def test_a_table_without_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x\.csv, line 1: the header must have the columns 'register'"):
        ppg_tables.rows_of("name,address\na,1\n", "x.csv")


# -- anything at all ---------------------------------------------------------------------------------------------

CELL_ALPHABET = "0123456789abcdefxrbBIT_FLAGSushortASCII.~-,;&{}[]\"'%V :#\n\r\t\x00é"
cells = st.text(CELL_ALPHABET, max_size=30) | st.text(max_size=10)


def refusal(call: Callable[[], object]) -> str | None:
    """The words of the error that it raises, if it does."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


@given(st.text(CELL_ALPHABET, max_size=40))
def test_any_cell_is_understood_or_refused_in_words(text: str) -> None:
    assert refusal(lambda: ppg_cells.place_of(text, 65535)) != ""
    assert refusal(lambda: ppg_cells.type_of(text)) != ""
    assert refusal(lambda: ppg_cells.unit_of(text)) != ""
    assert refusal(lambda: ppg_cells.interval_of(text)) != ""
    assert ppg_cells.access_of(text)[0] in ("read", "disabled", "write", "writeonly")
    assert ppg_cells.values_of(text, is_text=False).pattern is None
    assert ppg_cells.values_of(text, is_text=True).codes == {}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(cells, min_size=8, max_size=8), max_size=6), st.dictionaries(cells, cells, max_size=4)
)
def test_any_table_is_a_map_or_a_named_error(table: list[list[str]], told: dict[str, str]) -> None:
    codes: dict[str, Json] = {f"{key}_codes": {text: text} for key, text in told.items()}
    found: list[RegisterMap] = []

    def load() -> None:
        lines = rows(*"\n".join(",".join(row) for row in table).split("\n"))
        found.append(definition_of("x", codes, Tables(holding=lines, messages=lines)).at(5))

    problem = refusal(load)
    if problem is not None:
        assert re.match(r"x\.csv|register map 'x'", problem)
        return
    for register in found[0].registers.values():
        value = register.decode([0] * register.count)
        assert isinstance(value, int | float | str)


def _take_notes(line: str, notes: list[str]) -> None:
    notes += loaded(line).notes


@pytest.mark.parametrize(
    "cell",
    [
        "0" * 100_000,
        "0~" * 50_000,
        "1 " * 50_000,
        "[a]" * 30_000,
        "{" * 100_000,
        "9." * 50_000,
        "1,2-900," * 10_000,
    ],
    ids=lambda cell: cell[:6],
)
@pytest.mark.timeout(20)
def test_a_huge_cell_is_read_in_time(cell: str) -> None:
    for column in range(3, 8):
        line = [",A", "", "0", "", "", "", ""]
        line[column - 1] = f'"{cell}"'
        notes: list[str] = []
        problem = refusal(partial(_take_notes, ",".join(line), notes))
        assert sum(map(len, [problem or "", *notes])) < 5000


def test_a_table_of_too_many_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 5000 rows"):
        rows(*[f",A{number},,{number},,,," for number in range(5001)])


# -- real ones ---------------------------------------------------------------------------------------------------

EXPLAINED = (
    "is no range, list or codes: not enforced",
    "is taken: it is called",
    "a decimal point may be misplaced",
    "is taken as hexadecimal",
    "is longer than 64 characters: it is called",
    "reads like prose: taken as it stands, scale 1",
    "is no known word: read-only",
)


def test_a_definition_in_files_is_loaded_with_its_settings_codes_and_override() -> None:
    """One of our own making in tests/wire/register_maps."""
    found = register_maps.load("example_pump_v1.2", OUR_OWN, read_interval_s=1.0)
    registers = found.registers
    raw = {"setpoint": [0xFFCE], "mode": [2], "fan_level": [0x0903], "serial_number": [0x4142, 0x3031, 0, 0]}
    raw |= {"status_value": [3], "flow": [7], "heat": [1, 2], "outside_temperature": [0x8500]}
    assert {name: item.decode(raw[name]) for name, item in registers.items()} == {
        "setpoint": -5.0,
        "mode": "cool",
        "fan_level": 3,
        "serial_number": "AB01",
        "status_value": "defrost,alarm",
        "flow": 3.5,
        "heat": 6553.8,
        "outside_temperature": -5,
    }
    assert {name: item.unit for name, item in registers.items() if item.unit} == {
        "setpoint": "°C",
        "flow": "l/min",
        "heat": "kWh",
        "outside_temperature": "°C",
    }
    assert [name for name, item in registers.items() if item.write] == list(registers)[:4]
    assert {name: item.interval_s for name, item in registers.items() if item.interval_s != 2} == {
        "serial_number": 60,
        "heat": 10,
    }
    assert (found.line.max_registers, found.line.delay_ms, found.line.baudrate) == (20, 100, 9600)
    assert found.never_read == (Span("holding", 30, 1),)
    assert [note.rpartition(", ")[2] for note in found.notes] == [
        "documented name: 'status' is taken: it is called 'status_value'"
    ]


def written(name: str, value: Json, point: Register) -> bool | list[int]:
    check_range(name, value, point.spec(writable=True))
    return point.encode(value, [0] * point.count)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("setpoint", 30.0, 30.1),
        ("mode", "heat", 3),
        ("fan_level", 4, 2),
        ("serial_number", "AB01CD23", "ab01cd23"),
    ],
)
def test_what_a_definition_in_files_allows_is_all_that_can_be_written(
    name: str, good: Json, bad: Json
) -> None:
    point = register_maps.load("example_pump_v1.2", OUR_OWN).registers[name]
    assert written(name, good, point)
    with pytest.raises(ValueOutOfRange):
        written(name, bad, point)


PUBLISHED = sorted(path.name.removesuffix(".json") for path in DOWNLOADED.glob("*.json"))


@pytest.mark.skipif(not PUBLISHED, reason="needs published definitions beside the checkout")
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_definition_loads_and_every_note_is_explained(name: str) -> None:
    """All that are there."""
    found = register_maps.load(name, DOWNLOADED)
    assert found.registers
    assert all(item.decode([0] * item.count) is not None for item in found.registers.values())
    assert [note for note in found.notes if not any(words in note for words in EXPLAINED)] == []


@pytest.mark.skipif(not PUBLISHED, reason="needs published definitions beside the checkout")
def test_values_of_published_definitions() -> None:
    inverter = register_maps.load("v0.14", DOWNLOADED, read_interval_s=2).registers
    assert inverter["system_status"].decode([3]) == "Fault"
    assert inverter["battery_input_watts"].decode([0xFFFF, 0xFF38]) == -20.0
    assert inverter["pv1_kwh_today"].interval_s == 20
    charger = register_maps.load("srne_v3.9", DOWNLOADED).registers
    assert charger["controller_temperature"].decode([0x1985]) == -5
    battery = register_maps.load("pace_bms_v1.3", DOWNLOADED).registers
    assert battery["warning_flag"].decode([0x8001]) == "battery cell overvoltage alarm,SOC Low alarm"
    assert battery["current"].decode([0xFFFE]) == -20
