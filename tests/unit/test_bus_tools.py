"""Guessing what registers mean, addresses as manuals write them, and the order and length of a scan."""

from __future__ import annotations

import json
import struct
from decimal import Decimal

import pytest

from sensor_hub.bus_tools.expectation import expectation_of
from sensor_hub.bus_tools.guesses import Guess, Held, guesses, still_fitting
from sensor_hub.bus_tools.places import Place, places_of, statement
from sensor_hub.bus_tools.scan_plan import Plan, duration_text, in_order, named, units_of
from sensor_hub.drivers.modbus_register import Register, Table
from sensor_hub.drivers.modbus_settings import RtuSettings

HERE = [Place("holding", 10)]


def words(kind: str, number: float) -> list[int]:
    """Registers of a number, the high word first."""
    data = struct.pack(f">{kind}", number)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def held(*registers: int, address: int = 10, table: Table = "holding") -> Held:
    """These registers from `address` on, others around them."""
    raw = dict.fromkeys(range(address - 3, address + 7), 0xBEEF)
    return {table: raw | dict(enumerate(registers, address))}


def found(of: Held, expect: str) -> list[Guess]:
    return guesses(of, HERE, expectation_of(expect))


# -- what the display shows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "tolerance"),
    [
        ("22.5", "22.5", "0.05"),
        ("22,5", "22.5", "0.05"),
        ("22.50", "22.50", "0.005"),
        ("-7", "-7", "0.5"),
        (" 230 ", "230", "0.5"),
        ("1e3", "1e3", "500"),
    ],
)
def test_a_number_means_half_of_its_last_digit_more_or_less(text: str, value: str, tolerance: str) -> None:
    expected = expectation_of(text)
    assert (expected.value, expected.tolerance) == (Decimal(value), Decimal(tolerance))
    assert expected.fits(float(Decimal(value) + Decimal(tolerance)))
    assert not expected.fits(float(Decimal(value) + Decimal(tolerance) * Decimal("1.01")))


def test_a_tolerance_can_be_given() -> None:
    assert expectation_of("22.5", 0.3).fits(22.8)
    assert not expectation_of("22.5", 0.3).fits(22.81)


@pytest.mark.parametrize(("text", "state"), [("on", True), ("OFF", False), ("true", True), ("no", False)])
def test_switches_are_on_or_off(text: str, state: bool) -> None:
    assert expectation_of(text).state is state
    assert expectation_of(text).fits(state)
    assert not expectation_of(text).fits(int(state))


@pytest.mark.parametrize("text", ["", "  ", "NaN", "Infinity", "1e99", "1e-99", "x" * 65, "a\x07b", "9" * 40])
def test_what_no_display_shows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="display"):
        expectation_of(text)


# -- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "table", "places"),
    [
        ("10", None, [("holding", 10, 0), ("input", 10, 0)]),
        ("0x000A", "input", [("input", 10, 0)]),
        ("40011", None, [("holding", 10, 0), ("holding", 40011, 1), ("input", 40011, 1)]),
        ("40011", "holding", [("holding", 10, 0), ("holding", 40011, 1)]),
        ("40011", "input", [("input", 40011, 0)]),
        ("30001", None, [("input", 0, 0), ("holding", 30001, 1), ("input", 30001, 1)]),
        ("400011", None, [("holding", 10, 0)]),
        ("365536", None, [("input", 65535, 0)]),
        ("0x9C4B", None, [("holding", 40011, 0), ("input", 40011, 0)]),
        ("5", "coil", [("coil", 5, 0)]),
    ],
)
def test_addresses_are_understood_as_manuals_write_them(
    text: str, table: Table | None, places: list[tuple[Table, int, int]]
) -> None:
    assert [(place.table, place.address, place.doubt) for place in places_of(text, table)] == places


@pytest.mark.parametrize("text", ["", "-1", "65536", "400000", "465537", "0x10000", "1.5", "ten", "٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="65535|65536"):
        places_of(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "address 10, counted from 0, in holding and input"),
        ("40011", "40011 is holding register 10 (counted from 0) in the notation of manuals; also read:"),
        ("400011", "400011 is holding register 10, counted from 0"),
    ],
)
def test_it_is_said_what_is_read(text: str, said: str) -> None:
    assert statement(text, places_of(text)).startswith(said)


def test_the_ends_of_a_table_are_the_ends_of_what_is_read() -> None:
    assert Place("holding", 1).around(3, 6) == range(8)
    assert Place("holding", 65534).around(3, 6) == range(65531, 65536)


# -- guesses -----------------------------------------------------------------------------------------------------

FLOAT = words("f", 22.48)
CASES = [
    ("tenths", [225], "22.5", {"data_type": "int16", "scale": 0.1}, 22.5),
    ("below zero", [65461], "-7.5", {"data_type": "int16", "scale": 0.1}, -7.5),
    ("hundredths", [2253], "22.5", {"data_type": "int16", "scale": 0.01}, 22.53),
    ("as it is", [230], "230", {"data_type": "int16"}, 230),
    ("unsigned", [50000], "50000", {"data_type": "uint16"}, 50000),
    ("tens", [23], "230", {"data_type": "int16", "scale": 10}, 230),
    ("float", FLOAT, "22.5", {"data_type": "float32"}, 22.48),
    ("float, words swapped", FLOAT[::-1], "22.5", {"data_type": "float32", "word_order": "little"}, 22.48),
    ("double", words("d", 22.48), "22.5", {"data_type": "float64"}, 22.48),
    ("int32", words("i", 1234567), "1234.567", {"data_type": "int32", "scale": 0.001}, 1234.567),
    ("int32 below zero", words("i", -70000), "-70000", {"data_type": "int32"}, -70000),
    ("int64", words("q", 5_000_000_000), "5000000000", {"data_type": "int64"}, 5_000_000_000),
    ("bytes swapped", [0xE100], "22.5", {"data_type": "int16", "byte_order": "little", "scale": 0.1}, 22.5),
    ("from -40 on", [625], "22.5", {"data_type": "int16", "scale": 0.1, "offset": -40}, 22.5),
    ("high byte", [0x2A17], "42", {"bit": 8, "bits": 8}, 42),
]


@pytest.mark.parametrize(
    ("registers", "expect", "options", "value"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_the_best_guess_is_the_plain_one(
    registers: list[int], expect: str, options: dict[str, object], value: float
) -> None:
    best = found(held(*registers), expect)[0]
    assert best.options == {"table": "holding", "address": 10, **options}
    assert best.value == value


@pytest.mark.parametrize("expect", ["22.5", "0", "-1", "65535", "1", "on", "12"])
def test_every_guess_is_a_register_that_the_hub_reads_as_shown(expect: str) -> None:
    raw = held(225, 0, 1, 65535, 12, *FLOAT)
    some = found(raw, expect)
    assert some
    for guess in some:
        register = Register.model_validate(json.loads(json.dumps(guess.options)))
        read = [raw["holding"][register.address + step] for step in range(register.count)]
        assert register.decode(read) == guess.value
        assert expectation_of(expect).fits(guess.value)
    assert [guess.penalty for guess in some] == sorted(guess.penalty for guess in some)
    assert len({json.dumps(guess.options) for guess in some}) == len(some)


@pytest.mark.parametrize("address", [9, 11])
def test_a_number_beside_the_address_is_found_after_one_at_it(address: int) -> None:
    raw: Held = {"holding": {9: 1, 10: 1, 11: 1} | {address: 225}}
    assert found(raw, "22.5")[0].options["address"] == address
    both: Held = {"holding": {9: 225, 10: 225, 11: 225}}
    assert [
        guess.options["address"] for guess in found(both, "22.5") if guess.options["data_type"] == "int16"
    ] == [
        10,
        9,
        11,
    ]


def test_a_guess_needs_all_of_its_registers() -> None:
    assert found({"holding": {10: FLOAT[0]}}, "22.5") == []


def test_nothing_that_fits_is_no_guess() -> None:
    assert found(held(0xBEEF), "3.14159") == []


def test_zero_is_not_every_scale_of_nothing() -> None:
    assert {guess.register.scale for guess in found(held(0, 0, 0, 0), "0")} == {1}


def test_a_text_is_found_with_its_length() -> None:
    best = found(held(0x534E, 0x3132), "SN12")[0]
    assert best.options == {"table": "holding", "address": 10, "data_type": "string", "length": 2}


def test_on_is_every_bit_that_is_set_and_off_narrows_it_down() -> None:
    first = found({"holding": {10: 0b1001}}, "on")
    assert [guess.options["bit"] for guess in first] == [0, 3]
    left = still_fitting(first, {"holding": {10: 0b0001}}, expectation_of("off"))
    assert [guess.options for guess in left] == [{"table": "holding", "address": 10, "bit": 3}]


def test_a_coil_is_on_or_off() -> None:
    raw: Held = {"coil": {4: 0, 5: 1, 6: 0}}
    some = guesses(raw, [Place("coil", 5)], expectation_of("on"))
    assert [guess.options for guess in some] == [{"table": "coil", "address": 5}]


def test_a_second_reading_leaves_what_fits_both() -> None:
    first = found(held(225, 225), "22.5")
    assert {guess.register.address for guess in first} == {10, 11}
    left = still_fitting(first, held(231, 225), expectation_of("23.1"))
    assert {guess.register.address for guess in left} == {10}
    assert {guess.value for guess in left} == {23.1}


def test_a_second_reading_without_the_register_leaves_nothing() -> None:
    assert still_fitting(found(held(225), "22.5"), {}, expectation_of("22.5")) == []


# -- the plan of a scan ------------------------------------------------------------------------------------------


def test_common_settings_come_first_and_each_once() -> None:
    given = [
        RtuSettings(baudrate=baudrate, parity=parity)
        for baudrate in (19200, 9600, 4800, 9600)
        for parity in ("O", "E", "N")
    ]
    ordered = [named(each) for each in in_order(given)]
    assert ordered[:4] == ["9600 8N1", "19200 8E1", "9600 8E1", "19200 8N1"]
    assert len(ordered) == 9


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("1-3,100", [1, 2, 3, 100]),
        ("7", [7]),
        (" 5 , 1-2 ", [5, 1, 2]),
        ("3,1-4", [3, 1, 2, 4]),
        ("247", [247]),
    ],
)
def test_units_are_ranges_and_numbers(text: str, units: list[int]) -> None:
    assert units_of(text, 247) == units


@pytest.mark.parametrize("text", ["0", "0-5", "248", "1-248", "5-1", "", "a", "1-", "1,,2", "-1", "1-2-3"])
def test_broadcast_and_what_is_no_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unit id|must lie in 1..247|broadcasts are refused"):
        units_of(text, 247)


def test_the_estimate_is_what_silence_costs() -> None:
    plan = Plan([RtuSettings(baudrate=9600)], range(1, 11), timeout_s=0.1, delay_s=0.02, open_s=0)
    assert plan.questions == 20
    frames_s = 15 * 10 / 9600
    assert plan.estimate_s == pytest.approx(20 * (frames_s + 0.02 + 0.1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (44.4, "44 s"), (60, "1 min"), (200, "3 min 20 s"), (3700, "1 h 1 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
