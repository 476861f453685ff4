"""Whether a command's values fit a device's properties: writable, known, type, range, step, in that order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub.drivers.modbus_settings import Register
from sensor_hub.errors import HubError
from sensor_hub.properties import PropertySpec, check_range, check_shape, check_values, is_relative, number_of

SPECS = {
    "setpoint": PropertySpec("number", True, "°C", 30.0, 75.0, 0.5),
    "free": PropertySpec("number", True),
    "tenths": PropertySpec("number", True, step=0.1),
    "pump": PropertySpec("boolean", True),
    "label": PropertySpec("text", True),
    "led": PropertySpec("any", True),
    "measured": PropertySpec("number"),
}


def code_of(values: Any, specs: dict[str, PropertySpec] | None = None) -> str | None:
    try:
        assert check_values(values, specs or SPECS) == values
    except HubError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "values",
    [
        {"setpoint": 30},
        {"setpoint": 75},
        {"setpoint": 54.5},
        {"free": -1e308},
        {"tenths": 0.3},
        {"tenths": 0.1 + 0.2},
        {"tenths": -12.7},
        {"tenths": 1e22},
        {"pump": True},
        {"label": ""},
        {"led": {"on": [1, None]}},
        {"led": None},
        {"setpoint": 30, "pump": False, "label": "x"},
    ],
)
def test_values_that_fit(values: dict[str, Any]) -> None:
    assert code_of(values) is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (None, "INVALID_COMMAND"),
        ([], "INVALID_COMMAND"),
        ("on", "INVALID_COMMAND"),
        (5, "INVALID_COMMAND"),
        ({}, "INVALID_COMMAND"),
        ({"": 1}, "INVALID_COMMAND"),
        ({"unknown": 1}, "INVALID_COMMAND"),
        ({"setpoint": 40, "unknown": 1}, "INVALID_COMMAND"),
        ({"setpoint": "40"}, "INVALID_COMMAND"),
        ({"setpoint": True}, "INVALID_COMMAND"),
        ({"setpoint": None}, "INVALID_COMMAND"),
        ({"setpoint": [40]}, "INVALID_COMMAND"),
        ({"pump": 1}, "INVALID_COMMAND"),
        ({"pump": "on"}, "INVALID_COMMAND"),
        ({"label": 5}, "INVALID_COMMAND"),
        ({"setpoint": 29.5}, "VALUE_OUT_OF_RANGE"),
        ({"setpoint": 75.5}, "VALUE_OUT_OF_RANGE"),
        ({"setpoint": 54.3}, "VALUE_OUT_OF_RANGE"),
        ({"tenths": 0.35}, "VALUE_OUT_OF_RANGE"),
        ({"free": 10**400}, "VALUE_OUT_OF_RANGE"),
        ({"free": -(10**400)}, "VALUE_OUT_OF_RANGE"),
        ({"measured": 1}, "READ_ONLY"),
        ({"measured": 1, "setpoint": 40}, "READ_ONLY"),
        ({"measured": 1, "unknown": 1}, "INVALID_COMMAND"),
        ({"setpoint": 99, "pump": "on"}, "INVALID_COMMAND"),
    ],
)
def test_the_first_thing_wrong_is_the_answer(values: Any, code: str) -> None:
    assert code_of(values) == code


@pytest.mark.parametrize("values", [{"measured": 1}, {"unknown": 1}, {}, None, "x"])
def test_a_device_without_a_writable_property_is_read_only_whatever_is_sent(values: Any) -> None:
    assert code_of(values, {"measured": PropertySpec("number")}) == "READ_ONLY"


@pytest.mark.parametrize(("value", "code"), [(21.5, None), (21.0, None), (21.3, "VALUE_OUT_OF_RANGE")])
def test_steps_of_a_register_without_a_minimum_count_from_0(value: float, code: str | None) -> None:
    register = Register.model_validate(
        {"table": "holding", "address": 0, "data_type": "int16", "scale": 0.1, "write": True, "step": 0.5}
    )
    assert code_of({"value": value}, {"value": register.spec(writable=True)}) == code


@pytest.mark.parametrize(("value", "code"), [(1, None), (3, None), (2, "VALUE_OUT_OF_RANGE")])
def test_steps_count_from_the_minimum(value: float, code: str | None) -> None:
    assert code_of({"x": value}, {"x": PropertySpec("number", True, None, 1.0, 9.0, 2.0)}) == code


def test_the_message_names_what_is_allowed() -> None:
    with pytest.raises(HubError, match=r"setpoint must lie in 30\.\.75, not 80"):
        check_values({"setpoint": 80}, SPECS)
    with pytest.raises(HubError, match=r"setpoint must be a multiple of 0\.5 from 30, not 54\.3"):
        check_values({"setpoint": 54.3}, SPECS)
    with pytest.raises(HubError, match=r"unknown property 'x'; writable: setpoint, free"):
        check_values({"x": 1}, SPECS)


@pytest.mark.parametrize(
    ("raw", "number"),
    [(1, 1.0), (-2.5, -2.5), (10**400, float("inf")), (True, None), ("1", None), (None, None), ([], None)],
)
def test_only_json_numbers_are_numbers(raw: Any, number: float | None) -> None:
    assert number_of(raw) == number


def test_values_with_something_in_them_are_handed_on() -> None:
    assert check_shape({"a": None}) == {"a": None}


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, st.sampled_from(sorted(SPECS)))
def test_any_number_is_accepted_or_refused_with_a_code(number: float, name: str) -> None:
    assert code_of({name: number}) in (None, "INVALID_COMMAND", "VALUE_OUT_OF_RANGE", "READ_ONLY")


@given(st.integers(-1000, 1000), st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0, 0.001]))
def test_every_multiple_of_the_step_fits(count: int, step: float) -> None:
    assert code_of({"x": count * step}, {"x": PropertySpec("number", True, step=step)}) is None


# -- relative values, choices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["+10", "-0.5", "+0", " +1 ", "-12.75"])
def test_a_signed_number_in_a_text_is_relative_for_a_number(value: str) -> None:
    assert is_relative(value, SPECS["setpoint"])
    assert code_of({"setpoint": value}) is None  # its limits are checked when it is known what it amounts to
    assert code_of({"label": value}) is None
    assert not is_relative(value, SPECS["label"])


@pytest.mark.parametrize(
    "value", ["10", "+", "+1e3", "--1", "+ 1", "+0x10", "+1.", "+.5", "+inf", "+" + "9" * 16, "toggle"]
)
def test_other_texts_are_no_numbers(value: str) -> None:
    assert code_of({"setpoint": value}) == "INVALID_COMMAND"


@pytest.mark.parametrize("value", ["toggle", "Toggle", " toggle "])
def test_toggle_is_relative_for_a_boolean(value: str) -> None:
    assert code_of({"pump": value}) is None
    assert not is_relative(value, SPECS["label"])


@pytest.mark.parametrize(("spec", "value"), [("number", "+1"), ("boolean", "toggle")])
def test_what_cannot_be_read_cannot_be_changed_relatively(spec: Any, value: str) -> None:
    with pytest.raises(HubError, match="cannot be read, so it cannot be changed by") as caught:
        check_values({"x": value}, {"x": PropertySpec(spec, True, readable=False)})
    assert caught.value.code == "INVALID_COMMAND"


@pytest.mark.parametrize(
    ("value", "code"), [("eco", None), ("ECO", "VALUE_OUT_OF_RANGE"), (1, "INVALID_COMMAND")]
)
def test_a_text_with_choices_is_one_of_them(value: Any, code: str | None) -> None:
    assert code_of({"x": value}, {"x": PropertySpec("text", True, choices=("eco", "boost"))}) == code


def test_without_ranges_only_the_types_are_checked() -> None:
    assert check_values({"setpoint": 500}, SPECS, ranges=False) == {"setpoint": 500}
    with pytest.raises(HubError):
        check_values({"setpoint": "500"}, SPECS, ranges=False)


@pytest.mark.parametrize("number", [float("inf"), float("nan"), -float("inf")])
def test_what_is_no_finite_number_is_out_of_range(number: float) -> None:
    with pytest.raises(HubError, match="must lie in") as caught:
        check_range("x", number, PropertySpec("number", True))
    assert caught.value.code == "VALUE_OUT_OF_RANGE"
