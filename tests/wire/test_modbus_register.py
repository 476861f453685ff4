"""A register's configuration: what it refuses, what its registers mean, what a command makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sensor_hub.drivers.modbus_register import Register
from sensor_hub.errors import HubError, InvalidCommand, ReadFailed, ValueOutOfRange
from sensor_hub.properties import PropertySpec

WORDS = st.integers(0, 0xFFFF)


def register(**keys: Any) -> Register:
    return Register.model_validate({"table": "holding", "address": 0, **keys})


def problem(**keys: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        register(**keys)
    return str(caught.value)


MODES = {"0": "Off", "1": "On", "0x10": "Auto"}
ALARMS = {"b0": "Hot", "b1": "Cold", "b15": "Broken"}


@pytest.mark.parametrize(
    ("keys", "registers", "value"),
    [
        ({"data_type": "uint64"}, [0, 0, 1, 0x86A0], 100_000),
        ({"data_type": "uint64"}, [0xFFFF] * 4, 2**64 - 1),
        ({"data_type": "int64"}, [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], -2),
        ({"data_type": "int64", "word_order": "little"}, [0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF], -2),
        ({"data_type": "float64"}, [0x3FB9, 0x9999, 0x9999, 0x999A], 0.1),
        ({"data_type": "float64", "scale": 10}, [0x3FB9, 0x9999, 0x9999, 0x999A], 1.0),
        ({"data_type": "uint32"}, [0x0102, 0x0304], 0x01020304),
        ({"data_type": "uint32", "word_order": "little"}, [0x0102, 0x0304], 0x03040102),
        ({"data_type": "uint32", "byte_order": "little"}, [0x0102, 0x0304], 0x02010403),
        (
            {"data_type": "uint32", "byte_order": "little", "word_order": "little"},
            [0x0102, 0x0304],
            0x04030201,
        ),
        ({"bit": 2, "bits": 3}, [0xABCD], 3),
        ({"bit": 12, "bits": 4}, [0xABCD], 10),
        ({"bit": 8, "bits": 8, "data_type": "int16"}, [0xFE00], -2),
        ({"bit": 8, "bits": 8, "data_type": "int16", "sign_magnitude": True}, [0x8500], -5),
        ({"bits": 8, "data_type": "int16", "sign_magnitude": True, "scale": 0.1}, [0x0085], -0.5),
        ({"data_type": "uint32", "bit": 12, "bits": 8}, [0x000A, 0xB000], 0xAB),
        ({"bit": 3}, [0b1000], True),
        ({"bit": 3}, [0b0111], False),
        ({"values": MODES}, [1], "On"),
        ({"values": MODES}, [16], "Auto"),
        ({"values": MODES}, [9], 9),
        ({"values": {"2": "two"}, "scale": 0.1}, [25], 2.5),
        ({"values": {"2": "two"}, "scale": 0.1, "truncate": True}, [25], "two"),
        ({"values": MODES, "bit": 0}, [1], "On"),
        ({"data_type": "string", "length": 3}, [0x4142, 0x4344, 0], "ABCD"),
        ({"data_type": "string", "length": 3}, [0x4142, 0x0043, 0x2020], "AB C"),
        ({"data_type": "string", "length": 2, "word_order": "little"}, [0x4142, 0x4344], "CDAB"),
        ({"data_type": "string", "length": 2, "byte_order": "little"}, [0x4142, 0x4344], "BADC"),
        ({"data_type": "string", "length": 1}, [0xC2B5], "µ"),
        ({"data_type": "string", "length": 1}, [0xB541], "µA"),
        ({"data_type": "hex", "length": 2}, [0x0A1B, 0xFFFF], "0a1bffff"),
        ({"data_type": "flags", "flags": ALARMS}, [0x8003], "Hot,Cold,Broken"),
        ({"data_type": "flags", "flags": ALARMS}, [0x7FFC], ""),
        ({"data_type": "flags"}, [0x8003], "1100000000000001"),
        ({"data_type": "flags", "bit": 8, "bits": 8}, [0xA5F0], "10100101"),
        ({"data_type": "flags", "bit": 4, "flags": {"0": "z", "3": "t"}}, [0x0090], "z,t"),
        ({"data_type": "flags", "length": 2, "flags": {"b16": "x", "b31": "y"}}, [0x8001, 0], "x,y"),
        ({"data_type": "flags", "flags": {"b0": "a", "b1": "b", "b0&b1": "both"}}, [3], "both"),
        ({"data_type": "flags", "flags": {"b0": "a", "b1": "b", "b0&b1": "both"}}, [2], "b"),
        ({"data_type": "flags", "flags": {"b2": "c", "b1&b3": "d", "b0": "a"}}, [15], "a,d,c"),
    ],
)
def test_registers_mean_a_value(keys: dict[str, Any], registers: list[int], value: Any) -> None:
    decoded = register(**keys).decode(registers)
    assert (decoded, type(decoded)) == (value, type(value))


def test_a_coil_is_a_boolean() -> None:
    coil = register(table="coil", write=True)
    assert (coil.is_boolean, coil.count, coil.needs_current) == (True, 1, False)
    assert coil.decode([1]) is True
    assert coil.encode(False) is False
    with pytest.raises(InvalidCommand, match="true or false"):
        coil.encode(1)


@pytest.mark.parametrize(
    ("keys", "value", "current", "registers"),
    [
        ({"data_type": "uint64"}, 2**64 - 1, None, [0xFFFF] * 4),
        ({"data_type": "int64", "word_order": "little"}, -2, None, [0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF]),
        ({"data_type": "float64"}, 0.1, None, [0x3FB9, 0x9999, 0x9999, 0x999A]),
        ({"data_type": "uint32", "byte_order": "little"}, 0x02010403, None, [0x0102, 0x0304]),
        ({"bit": 4, "bits": 4}, 5, [0xFFFF], [0xFF5F]),
        ({"bit": 8, "bits": 8, "data_type": "int16"}, -2, [0x1234], [0xFE34]),
        ({"bit": 8, "bits": 8, "data_type": "int16", "sign_magnitude": True}, -5, [0x1234], [0x8534]),
        ({"bit": 0}, True, [0xFFFE], [0xFFFF]),
        ({"bit": 15}, False, [0xFFFF], [0x7FFF]),
        ({"values": MODES}, "auto", None, [16]),
        ({"values": MODES}, 1, None, [1]),
        ({"values": MODES, "bit": 8, "bits": 8}, "Auto", [0x00FF], [0x10FF]),
        ({"data_type": "string", "length": 3}, "ABC", None, [0x4142, 0x4300, 0]),
        ({"data_type": "string", "length": 2, "byte_order": "little"}, "BADC", None, [0x4142, 0x4344]),
        ({"data_type": "hex", "length": 1}, "0A1b", None, [0x0A1B]),
        ({"data_type": "flags", "bit": 8, "bits": 8}, "11110000", [0x00FF], [0x0FFF]),
        ({"data_type": "flags", "flags": ALARMS}, "Cold, Broken", [0x0005], [0x8006]),
        ({"data_type": "flags", "flags": ALARMS}, "", [0x8007], [0x0004]),
        ({"allowed": [0, 5, 7.5], "scale": 0.5}, 7.5, None, [15]),
    ],
)
def test_a_command_makes_registers(
    keys: dict[str, Any], value: Any, current: list[int] | None, registers: list[int]
) -> None:
    point = register(**keys, write=True)
    assert point.needs_current == (current is not None)
    assert point.encode(value, current) == registers


@pytest.mark.parametrize(
    ("keys", "value", "error", "says"),
    [
        ({}, True, InvalidCommand, "must be a number"),
        ({}, "5", InvalidCommand, "must be a number"),
        ({}, float("nan"), InvalidCommand, "finite"),
        ({"data_type": "uint64"}, 2**64, ValueOutOfRange, "does not fit uint64"),
        ({"bits": 4}, 16, ValueOutOfRange, r"does not fit 4 bits of uint16: 0\.\.15"),
        ({"bits": 8, "data_type": "int16", "sign_magnitude": True}, -128, ValueOutOfRange, r"-127\.\.127"),
        ({"bit": 0}, 1, InvalidCommand, "true or false"),
        ({"values": MODES}, "Fast", InvalidCommand, "must be one of Off, On, Auto, not 'Fast'"),
        ({"values": MODES}, 9, ValueOutOfRange, "must be one of Off, On, Auto, not 9"),
        (
            {"values": {"0": "Low", "4": "Low"}},
            "low",
            InvalidCommand,
            "is the text of 0, 4; write the number",
        ),
        ({"allowed": [1, 2]}, 3, ValueOutOfRange, "must be one of 1, 2, not 3"),
        ({"data_type": "string", "length": 1}, "ABC", ValueOutOfRange, "3 characters is too long, 2 fit"),
        ({"data_type": "string", "length": 1}, "µ", InvalidCommand, "ASCII"),
        ({"data_type": "string", "length": 1}, 5, InvalidCommand, "must be a text"),
        ({"data_type": "string", "length": 1, "pattern": "[A-Z]*"}, "a", ValueOutOfRange, "must match"),
        ({"data_type": "hex", "length": 1}, "0a1", InvalidCommand, "4 hexadecimal digits"),
        ({"data_type": "flags"}, "Hot", InvalidCommand, "16 digits 0 or 1, lowest bit first"),
        ({"data_type": "flags", "flags": ALARMS}, "Warm", InvalidCommand, "of Hot, Cold, Broken joined"),
        ({"data_type": "flags", "flags": {"b0": "x", "b1": "x"}}, "x", InvalidCommand, "16 digits"),
    ],
)
def test_what_a_command_may_not_say_is_refused(
    keys: dict[str, Any], value: Any, error: type[HubError], says: str
) -> None:
    with pytest.raises(error, match=says):
        register(**keys, write=True).encode(value, [0] * 4)


@pytest.mark.parametrize(
    ("keys", "value", "registers"),
    [
        ({"values": MODES}, 9, [9]),
        ({"allowed": [1, 2]}, 3, [3]),
        ({"data_type": "string", "length": 1, "pattern": "[A-Z]*"}, "a", [0x6100]),
    ],
)
def test_an_unchecked_command_needs_only_to_fit(
    keys: dict[str, Any], value: Any, registers: list[int]
) -> None:
    assert register(**keys, write=True).encode(value, checked=False) == registers


def test_a_part_of_a_register_is_never_written_blindly() -> None:
    for keys, value in (({"bits": 4}, 1), ({"data_type": "flags"}, "0" * 16)):
        with pytest.raises(ValueError, match="together with what the register"):
            register(**keys, write=True).encode(value)


@pytest.mark.parametrize(
    ("keys", "spec"),
    [
        ({"scale": 0.1, "unit": "V"}, PropertySpec("number", True, "V", 0, 6553.5, tolerance=0.05)),
        ({"scale": -2, "bits": 8}, PropertySpec("number", True, None, -510, 0, tolerance=1)),
        ({"step": 5}, PropertySpec("number", True, None, 0, 65535, 5, 0.0)),
        ({"min": 7}, PropertySpec("number", True, None, 7, 65535, tolerance=0.5, limited=True)),
        ({"max": 7}, PropertySpec("number", True, None, 0, 7, tolerance=0.5, limited=True)),
        (
            {"data_type": "float32", "allowed": [0, 7.5]},
            PropertySpec("number", True, limited=True, allowed=[0, 7.5]),
        ),
        ({"data_type": "float64"}, PropertySpec("number", True)),
        ({"bit": 1}, PropertySpec("boolean", True)),
        ({"values": MODES}, PropertySpec("any", True, choices=("Off", "On", "Auto"), limited=True)),
        ({"data_type": "hex", "length": 1, "read": False}, PropertySpec("text", True, readable=False)),
        ({"data_type": "flags", "read_interval": 60}, PropertySpec("text", True, interval_s=60)),
    ],
)
def test_the_spec_says_kind_limits_interval_and_how_exactly_it_reads_back(
    keys: dict[str, Any], spec: PropertySpec
) -> None:
    assert register(**keys, write=True).spec(writable=True) == spec


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"data_type": "string"}, "length: a string needs it, in registers"),
        ({"length": 2}, "length: is not for data_type uint16"),
        ({"data_type": "string", "length": 126}, "whole number from 1 to 125"),
        ({"data_type": "string", "length": 2, "scale": 0.1}, "scale: is not for data_type string"),
        ({"data_type": "float32", "bit": 1}, "bit: is not for data_type float32"),
        ({"bit": 16}, "1 bits from bit 16 on do not fit uint16 of 16 bits"),
        ({"bit": 9, "bits": 8}, "8 bits from bit 9 on do not fit"),
        ({"bit": 1, "scale": 0.1}, "scale: is not for one bit"),
        ({"bits": 1, "data_type": "int16", "sign_magnitude": True}, "at least two bits"),
        ({"data_type": "flags", "bits": 8, "flags": {"b8": "x"}}, "'b8' must be a bit from b0 to b7"),
        ({"data_type": "flags", "flags": {"b0&": "x"}}, "must be a bit"),
        ({"data_type": "flags", "flags": {"b0": "x", "0": "y"}}, "another key"),
        ({"flags": {"b0": "x"}}, "flags: is not for data_type uint16"),
        ({"values": {"on": "x"}}, "code 'on' must be a whole number"),
        ({"values": {"1": "x", "01": "y"}}, "code '01' comes twice"),
        ({"truncate": True}, "truncate: has no meaning without values"),
        ({"allowed": [0.5]}, "allowed 0.5 is not on the step of 1"),
        ({"allowed": [70000]}, "allowed 70000 does not fit uint16"),
        ({"data_type": "string", "length": 1, "pattern": "("}, "pattern: is no regular expression"),
        ({"data_type": "string", "length": 9, "pattern": "(a+)+b"}, "may not repeat what is itself variable"),
        ({"data_type": "string", "length": 125, "pattern": ".*.*.*.*x"}, "too long on 250 characters"),
        ({"data_type": "string", "length": 125, "pattern": ".*.*.*.*x"}, "or lower length"),
        ({"pattern": "x"}, "pattern: is not for data_type uint16"),
        ({"read": False}, "neither read nor written"),
        ({"read_interval": 0}, "0.05"),
        ({"data_type": "int64", "address": 65533}, "takes 4 registers, so it is at most 65532"),
        ({"table": "coil", "bit": 3}, "bit: is not for table coil"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(keys: dict[str, Any], says: str) -> None:
    assert says in problem(**keys)


def test_a_pattern_may_have_groups_and_is_matched_with_the_whole_text() -> None:
    name = register(data_type="string", length=4, pattern="(ab|cd)(x*)", write=True)
    assert name.encode("cdxx") == [0x6364, 0x7878, 0, 0]
    for text in ("cdxxy", "ycdx"):
        with pytest.raises(ValueOutOfRange, match="must match"):
            name.encode(text)


@given(
    st.sampled_from(["int16", "uint16", "int32", "uint32", "int64", "uint64"]),
    st.sampled_from(["big", "little"]),
    st.sampled_from(["big", "little"]),
    st.integers(0, 63),
    st.integers(1, 64),
    st.booleans(),
    st.lists(WORDS, min_size=4, max_size=4),
    st.lists(WORDS, min_size=4, max_size=4),
)
def test_a_bit_field_survives_and_its_neighbours_do(
    data_type: str,
    words: str,
    octets: str,
    bit: int,
    bits: int,
    magnitude: bool,
    held: list[int],
    other: list[int],
) -> None:
    size = int(data_type[-2:])
    bits = min(bits, size)
    bit = min(bit, size - bits)
    keys = {"word_order": words, "byte_order": octets, "bit": bit, "bits": bits}
    point = register(data_type=data_type, **keys, sign_magnitude=magnitude and bits > 1)
    count = size // 16
    value = point.decode(held[:count])
    written = point.encode(value, other[:count])
    assert isinstance(written, list)
    assert point.decode(written) == value
    rest = register(data_type="flags", length=count, word_order=words, byte_order=octets)
    before, after = rest.decode(other[:count]), rest.decode(written)
    assert isinstance(before, str)
    assert isinstance(after, str)
    assert before[:bit] + before[bit + bits :] == after[:bit] + after[bit + bits :]


@given(
    st.lists(WORDS, min_size=4, max_size=4), st.sampled_from(["float32", "float64", "string", "hex", "flags"])
)
def test_any_registers_are_a_value_or_no_reading(words: list[int], data_type: str) -> None:
    texts = data_type in ("string", "hex", "flags")
    point = register(data_type=data_type, **({"length": 4} if texts else {}))
    try:
        value = point.decode(words[: point.count])
    except ReadFailed:
        assert not texts
    else:
        assert isinstance(value, str if texts else float)
