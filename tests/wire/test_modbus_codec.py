"""Registers <-> values, by worked examples first and then by every number there is."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub.drivers.modbus_codec import DataType, Layout, Order, decode, encode
from sensor_hub.errors import ReadFailed, ValueOutOfRange

WORDS = st.integers(0, 0xFFFF)
ORDERS: st.SearchStrategy[Order] = st.sampled_from(["big", "little"])
WHOLE_TYPES: st.SearchStrategy[DataType] = st.sampled_from(["int16", "uint16", "int32", "uint32"])
SCALES = st.sampled_from(["1", "0.1", "0.01", "0.001", "0.5", "10", "-1", "3", "1e-5", "1e6"]).map(Decimal)
OFFSETS = st.sampled_from(["0", "-40", "273.15", "0.1", "1000000"]).map(Decimal)


def layout(data_type: DataType, scale: str = "1", offset: str = "0", order: Order = "big") -> Layout:
    return Layout(data_type, Decimal(scale), Decimal(offset), order)


@pytest.mark.parametrize(
    ("registers", "how", "value"),
    [
        ([0x00E1], layout("int16", "0.1"), 22.5),
        ([0xFF9C], layout("int16", "0.1"), -10.0),
        ([0xFFFF], layout("int16"), -1),
        ([0xFFFF], layout("uint16"), 65535),
        ([0x0003], layout("uint16", "0.1"), 0.3),
        ([0x0000], layout("uint16", "0.1", "-40"), -40.0),
        ([0x0258], layout("uint16", "0.1", "-40"), 20.0),
        ([0x0007], layout("uint16", "10"), 70),
        ([0x0001, 0x86A0], layout("uint32"), 100000),
        ([0x86A0, 0x0001], layout("uint32", order="little"), 100000),
        ([0xFFFF, 0xFFFE], layout("int32"), -2),
        ([0xFFFF, 0xFFFF], layout("uint32", "0.001"), 4294967.295),
        ([0x41AC, 0x0000], layout("float32"), 21.5),
        ([0x0000, 0x41AC], layout("float32", order="little"), 21.5),
        ([0x3DCC, 0xCCCD], layout("float32"), 0.1),
        ([0x8000, 0x0000], layout("float32"), 0.0),
        ([0x3DCC, 0xCCCD], layout("float32", "10"), 1.0),
    ],
)
def test_registers_decode_to_the_value_without_float_dust(
    registers: list[int], how: Layout, value: float
) -> None:
    decoded = decode(registers, how)
    assert decoded == value
    assert repr(decoded) == repr(value)


def test_every_tenth_of_an_int16_is_exactly_what_people_write() -> None:
    how = layout("int16", "0.1")
    for raw in range(-32768, 32768, 7):
        sign = "-" if raw < 0 else ""
        assert repr(decode([raw & 0xFFFF], how)) == repr(float(f"{sign}{abs(raw) // 10}.{abs(raw) % 10}"))


@pytest.mark.parametrize("words", [[0x7FC0, 0], [0x7F80, 0], [0xFF80, 0], [0x7F80, 1]])
def test_a_float_that_is_no_finite_number_is_no_reading(words: list[int]) -> None:
    with pytest.raises(ReadFailed, match="float32"):
        decode(words, layout("float32"))


def test_a_float_that_its_scale_makes_infinite_is_no_reading() -> None:
    with pytest.raises(ReadFailed, match="too large"):
        decode([0x7F7F, 0xFFFF], layout("float32", "1e300"))


@pytest.mark.parametrize(
    ("value", "how", "registers"),
    [
        (54, layout("uint16", "0.1"), [540]),
        (21.5, layout("uint16", "0.1"), [215]),
        (0.1 + 0.2, layout("uint16", "0.1"), [3]),
        (-10, layout("int16", "0.1"), [0xFF9C]),
        (20, layout("uint16", "0.1", "-40"), [600]),
        (100000, layout("uint32"), [0x0001, 0x86A0]),
        (100000, layout("uint32", order="little"), [0x86A0, 0x0001]),
        (21.5, layout("float32"), [0x41AC, 0]),
        (4294967.295, layout("uint32", "0.001"), [0xFFFF, 0xFFFF]),
    ],
)
def test_values_encode_to_their_registers(value: float, how: Layout, registers: list[int]) -> None:
    assert encode(value, how) == registers


@pytest.mark.parametrize(
    ("value", "how", "says"),
    [
        (21.37, layout("uint16", "0.1"), "21.37 is not on the step of 0.1"),
        (10, layout("uint16", "3"), "10 is not on the step of 3"),
        (-1, layout("uint16"), r"does not fit uint16: 0\.\.65535"),
        (6553.6, layout("uint16", "0.1"), r"does not fit uint16: 0\.\.6553\.5"),
        (32768, layout("int16"), "does not fit int16"),
        (1e30, layout("int32"), "does not fit int32"),
        (10**400, layout("uint32"), "does not fit uint32"),
        (1e39, layout("float32"), "does not fit float32"),
        (10**400, layout("float32"), "does not fit float32"),
        (math.inf, layout("float32"), "no finite number|not a finite number"),
        (math.nan, layout("uint16"), "not a finite number"),
    ],
)
def test_what_a_register_cannot_hold_is_refused(value: float, how: Layout, says: str) -> None:
    with pytest.raises(ValueOutOfRange, match=says):
        encode(value, how)


@given(WHOLE_TYPES, SCALES, OFFSETS, ORDERS, WORDS, WORDS)
def test_whole_registers_survive_decode_and_encode(
    data_type: DataType, scale: Decimal, offset: Decimal, order: Order, first: int, second: int
) -> None:
    how = Layout(data_type, scale, offset, order)
    registers = [first, second][: how.count]
    assert encode(decode(registers, how), how) == registers


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), ORDERS)
def test_floats_survive_encode_and_decode_to_seven_digits(number: float, order: Order) -> None:
    how = Layout("float32", word_order=order)
    assert decode(encode(number, how), how) == pytest.approx(number, rel=1e-6)


@given(WORDS, WORDS)
def test_any_two_registers_are_a_finite_float_or_no_reading(first: int, second: int) -> None:
    (raw,) = struct.unpack(">f", struct.pack(">HH", first, second))
    if math.isfinite(raw):
        assert decode([first, second], layout("float32")) == pytest.approx(raw, rel=1e-6, abs=1e-45)
    else:
        with pytest.raises(ReadFailed):
            decode([first, second], layout("float32"))


@given(st.floats() | st.integers(), WHOLE_TYPES, SCALES, OFFSETS)
def test_any_number_is_encoded_faithfully_or_refused(
    value: float, data_type: DataType, scale: Decimal, offset: Decimal
) -> None:
    how = Layout(data_type, scale, offset)
    try:
        registers = encode(value, how)
    except ValueOutOfRange:
        return
    assert decode(registers, how) == pytest.approx(value, rel=1e-6, abs=float(abs(scale)) * 1e-5)
