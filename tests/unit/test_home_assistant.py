"""What is announced of a device: Home Assistant takes it, and its templates say and send what is meant."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub import commands, property_facts, wire
from sensor_hub.bridge import home_assistant
from sensor_hub.bridge.home_assistant import Device
from sensor_hub.bridge.home_assistant_numbers import UNITS
from sensor_hub.bridge.states import bare
from sensor_hub.config.model import Handler, SensorConfig, TransportConfig
from sensor_hub.outputs.topics import Topics
from sensor_hub.properties import PropertySpec, check_values
from sensor_hub.sensor_types import SENSOR_TYPES
from tests import home_assistant as rules

TOPICS = Topics("IoT2mqtt", "hub")
LINE = TransportConfig("line", "modbus_rtu", "/dev/ttyUSB0", Handler.SERIAL, "config.transports[0]")


def device(specs: dict[str, PropertySpec], kind: str = "generic", **changes: Any) -> Device:
    sensor = SensorConfig("boiler", kind, "Boiler", "line", Handler.SERIAL, "config.sensors[0]", 5, 15)
    return Device(replace(sensor, **changes), LINE, specs, TOPICS)


def config_of(*args: Any, **changes: Any) -> dict[str, Any]:
    """The config as Home Assistant reads it, after its rules have passed it."""
    told = device(*args, **changes)
    topic = home_assistant.config_topic("homeassistant", TOPICS, told.sensor.sensor_id)
    payload = wire.dumps(told.config())
    assert rules.problems(topic, payload) == []
    return rules.spelled_out(json.loads(payload))


def component(spec: PropertySpec, kind: str = "generic", name: str = "value") -> dict[str, Any]:
    (found,) = config_of({name: spec}, kind)["components"].values()
    return dict(found)


def facts(spec: PropertySpec, kind: str = "generic", name: str = "value") -> tuple[Any, ...]:
    keys = ("platform", "device_class", "unit_of_measurement", "state_class")
    found = component(spec, kind, name)
    return tuple(found.get(key) for key in keys)


# -- what becomes of a property ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "device_class", "unit", "digits"),
    [
        ("temperature", "temperature", "°C", 2),
        ("humidity", "humidity", "%", 1),
        ("pressure", "atmospheric_pressure", "hPa", 1),
        ("illuminance", "illuminance", "lx", 0),
        ("co2", "carbon_dioxide", "ppm", 0),
    ],
)
@pytest.mark.parametrize("spec", [PropertySpec("number"), PropertySpec("any")], ids=["register", "http"])
def test_the_value_of_a_typed_sensor_has_its_types_class_unit_and_digits(
    kind: str, device_class: str, unit: str, digits: int, spec: PropertySpec
) -> None:
    assert facts(spec, kind) == ("sensor", device_class, unit, "measurement")
    assert component(spec, kind)["suggested_display_precision"] == digits


@pytest.mark.parametrize(
    ("spec", "kind", "name", "expected"),
    [
        (
            PropertySpec("number", unit="K"),
            "temperature",
            "value",
            ("sensor", "temperature", "K", "measurement"),
        ),
        (PropertySpec("number", unit="R"), "temperature", "value", ("sensor", None, "R", "measurement")),
        (PropertySpec("number", unit="V"), "generic", "u1", ("sensor", "voltage", "V", "measurement")),
        (PropertySpec("number", unit="kWh"), "generic", "e", ("sensor", "energy", "kWh", "total_increasing")),
        (PropertySpec("number", unit="%"), "generic", "load", ("sensor", None, "%", "measurement")),
        (PropertySpec("number", unit="%"), "generic", "Battery", ("sensor", "battery", "%", "measurement")),
        (PropertySpec("number", unit=" "), "generic", "n", ("sensor", None, None, "measurement")),
        (PropertySpec("number"), "generic", "n", ("sensor", None, None, "measurement")),
        (PropertySpec("any"), "generic", "value", ("sensor", None, None, None)),
        (PropertySpec("text"), "generic", "serial", ("sensor", None, None, None)),
        (PropertySpec("text", choices=("on", "off")), "generic", "mode", ("sensor", "enum", None, None)),
        (PropertySpec("boolean"), "generic", "alarm", ("binary_sensor", None, None, None)),
        (PropertySpec("boolean"), "motion", "motion_detected", ("binary_sensor", "motion", None, None)),
        (PropertySpec("any"), "motion", "motion_detected", ("binary_sensor", "motion", None, None)),
        (PropertySpec("any"), "motion", "battery_level", ("sensor", "battery", "%", "measurement")),
        (
            PropertySpec("any"),
            "motion",
            "signal_strength",
            ("sensor", "signal_strength", "dBm", "measurement"),
        ),
        (PropertySpec("boolean", True), "generic", "pump", ("switch", None, None, None)),
        (PropertySpec("number", True, "A"), "generic", "limit", ("number", "current", "A", None)),
        (PropertySpec("number", True, "kWh"), "generic", "limit", ("number", "energy", "kWh", None)),
        (PropertySpec("text", True, choices=("a", "b")), "generic", "mode", ("select", None, None, None)),
        (PropertySpec("text", True), "generic", "label", ("text", None, None, None)),
        (PropertySpec("any", True), "generic", "note", ("text", None, None, None)),
    ],
)
def test_a_property_becomes_the_component_that_fits(
    spec: PropertySpec, kind: str, name: str, expected: tuple[Any, ...]
) -> None:
    assert facts(spec, kind, name) == expected


@pytest.mark.parametrize("unit", sorted({unit for units in UNITS.values() for unit in units}))
@pytest.mark.parametrize("writable", [False, True], ids=["sensor", "number"])
def test_every_unit_that_is_known_goes_with_the_class_it_gets(unit: str, writable: bool) -> None:
    assert component(PropertySpec("number", writable, unit))["unit_of_measurement"] == unit


def test_what_a_device_is_for_has_its_name_and_other_properties_their_own() -> None:
    specs = {name: PropertySpec("number") for name in ("value", "flow_rate", "Σ energy", "\x01")}
    names = [body["name"] for body in config_of(specs)["components"].values()]
    assert component(PropertySpec("boolean"), "motion", "motion_detected")["name"] is None
    assert names == [None, "Flow rate", "Σ energy", r"'\x01'"]


def test_a_device_says_who_it_is_and_what_must_be_online_for_it() -> None:
    config = config_of({"value": PropertySpec("number")}, model="T1")
    assert config["device"] == {"identifiers": [device({}).object_id], "name": "Boiler", "model": "T1"}
    assert config["origin"]["name"] == "sensor-hub"
    assert config["availability_mode"] == "all"
    prefix = "IoT2mqtt/v1/instances/hub"
    topics = [f"{prefix}/status", f"{prefix}/devices/boiler/availability"]
    assert [each["topic"] for each in config["availability"]] == topics
    assert "command_topic" not in config


def test_values_come_from_the_topic_of_their_property_and_commands_go_to_the_devices() -> None:
    config = config_of({"a/b": PropertySpec("number", writable=True)})
    (number,) = config["components"].values()
    assert number["state_topic"] == "IoT2mqtt/v1/instances/hub/devices/boiler/state/a_b"
    assert config["command_topic"] == "IoT2mqtt/v1/instances/hub/devices/boiler/cmd"


@pytest.mark.parametrize("kind", ["boolean", "number", "text"])
def test_what_can_only_be_written_has_no_state(kind: Any) -> None:
    assert not {"state_topic", "value_template"} & component(PropertySpec(kind, True, readable=False)).keys()


def test_what_can_neither_be_read_nor_written_is_not_shown() -> None:
    specs = {"a": PropertySpec("number", readable=False), "b": PropertySpec("number")}
    assert list(config_of(specs)["components"]) == ["sensor_b"]


# -- ids -----------------------------------------------------------------------------------------------------------


def test_ids_are_legal_and_differ_where_topics_differ() -> None:
    pairs = [("a_b", "c"), ("a", "b_c"), ("a", "b.c"), ("a", "b:c"), ("A", "b_c"), ("x" * 64, "y" * 64)]
    found = [home_assistant.object_id(Topics(base, i), d) for base in ("base", "b/c") for i, d in pairs]
    assert len(set(found)) == 2 * len(pairs)
    assert all(rules._ID.fullmatch(each) for each in found)


def test_ids_stay_the_same_for_ever() -> None:
    # Whoever changes this makes new entities of everybody's old ones.
    config = config_of({"value": PropertySpec("number"), "a/b": PropertySpec("boolean", True)})
    assert device({}).object_id == "hub_boiler_66c16d9a"
    assert {key: body["unique_id"] for key, body in config["components"].items()} == {
        "sensor_value": "hub_boiler_66c16d9a_value",
        "switch_a_b_c14cdd": "hub_boiler_66c16d9a_a_b_c14cdd",
    }


def test_names_that_look_alike_as_ids_stay_apart() -> None:
    names = ["a b", "a/b", "a_b", "a.b", "ä", "ö", " "]
    assert len(config_of({name: PropertySpec("number") for name in names})["components"]) == len(names)


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (PropertySpec("number", True, None, 30, 75, 0.5), (30, 75, 0.5)),
        (PropertySpec("number", True, None, 30, 75, 0.5, 0.0), (30, 75, 0.5)),
        (PropertySpec("number", True, None, -3276.8, 3276.7, 0.5, 0.0), (-3276.5, 3276.5, 0.5)),
        (PropertySpec("number", True, None, 0.1, 1, 0.3), (0.1, 1, 0.3)),
        (PropertySpec("number", True, None, 0.1, 0.9, 0.3), (0.1, 0.7, 0.3)),
        (PropertySpec("number", True, None, 31, 34, 5, 0.0), (31, 34, 5)),
        (PropertySpec("number", True, None, 0, 1, 0.0003), (0, 0.9996, 0.0012)),
        (PropertySpec("number", True, None, -3276.8, 3276.7, tolerance=0.05), (-3276.8, 3276.7, 0.1)),
        (PropertySpec("number", True, None, 0, 65535, tolerance=0.5), (0, 65535, 1)),
        (PropertySpec("number", True), (-1e15, 1e15, 0.001)),
        (PropertySpec("number", True, None, 5, 5, 0.5), (5, 5.5, 0.5)),
        (PropertySpec("number", True, None, -3.4e38, 3.4e38), (-3.4e38, 3.4e38, 0.001)),
    ],
)
def test_limits_and_step_of_a_number_hold_for_every_value_between(
    spec: PropertySpec, expected: tuple[float, float, float]
) -> None:
    found = component(spec)
    assert (found["min"], found["max"], found["step"]) == expected


@pytest.mark.parametrize(
    ("spec", "digits"),
    [
        (PropertySpec("number", tolerance=0.05), 1),
        (PropertySpec("number", tolerance=0.5), 0),
        (PropertySpec("number", tolerance=0.0005), 3),
        (PropertySpec("number", step=0.25), 2),
        (PropertySpec("number", tolerance=1 / 3), 6),
        (PropertySpec("number"), None),
    ],
)
def test_as_many_digits_are_shown_as_the_register_can_tell_apart(
    spec: PropertySpec, digits: int | None
) -> None:
    assert component(spec).get("suggested_display_precision") == digits


# -- templates -----------------------------------------------------------------------------------------------------

UNKNOWN = "None"  # what Home Assistant takes for: the state is not known


@pytest.mark.parametrize(
    ("spec", "value", "shown"),
    [
        (PropertySpec("number"), 21.5, "21.5"),
        (PropertySpec("number"), -1e-07, "-1e-07"),
        (PropertySpec("any", unit="V"), None, UNKNOWN),
        (PropertySpec("any", unit="V"), "low", UNKNOWN),
        (PropertySpec("any", unit="V"), True, UNKNOWN),
        (PropertySpec("any"), {"a": 1}, '{"a":1}'),
        (PropertySpec("any"), None, UNKNOWN),
        (PropertySpec("any"), "x" * 300, "x" * 255),
        (PropertySpec("text"), "", ""),
        (PropertySpec("text"), "{{ 7 }}", "{{ 7 }}"),
        (PropertySpec("text", choices=("on", "off")), "off", "off"),
        (PropertySpec("text", choices=("on", "off")), 7, UNKNOWN),
        (PropertySpec("text", choices=('"}}{%', "\\n\U0001f600")), '"}}{%', '"}}{%'),
        (PropertySpec("text", choices=('"}}{%', "\\n\U0001f600")), "\\n\U0001f600", "\\n\U0001f600"),
        (PropertySpec("boolean"), True, "true"),
        (PropertySpec("boolean"), False, "false"),
        (PropertySpec("boolean"), None, UNKNOWN),
        (PropertySpec("boolean"), 1, UNKNOWN),
        (PropertySpec("boolean", True), True, "true"),
        (PropertySpec("number", True, None, 30, 75), 45, "45"),
        (PropertySpec("number", True, None, 30, 75), 29.9, UNKNOWN),
        (PropertySpec("number", True, None, -1.5, 1e38), -1.5, "-1.5"),
        (PropertySpec("number", True, None, -1.5, 1e38), None, UNKNOWN),
        (PropertySpec("text", True, choices=("a", "b")), "c", UNKNOWN),
        (PropertySpec("text", True), "", ""),
        (PropertySpec("text", True), None, ""),
        (PropertySpec("text", True), "x" * 300, "x" * 255),
    ],
)
def test_what_the_device_says_is_what_is_shown_or_it_is_unknown(
    spec: PropertySpec, value: Any, shown: str
) -> None:
    assert rules.rendered(component(spec)["value_template"], bare(value)) == shown


@pytest.mark.parametrize("name", ["pump", 'a"b', "{{ x }}", "{% x", "a'b\\c", "ä/\U0001f600", "\x01\n"])
@pytest.mark.parametrize(
    ("spec", "set_to"),
    [
        (PropertySpec("number", True, None, 0, 100, 0.5), 21.5),
        (PropertySpec("number", True, None, 0, 100, 0.5), 21),
        (PropertySpec("text", True, choices=("a", 'b"c')), 'b"c'),
        (PropertySpec("text", True), 'x"}}{{ y }}\n'),
        (PropertySpec("any", True), ""),
    ],
)
def test_what_is_set_arrives_as_a_command_that_passes_the_checks(
    name: str, spec: PropertySpec, set_to: Any
) -> None:
    payload = rules.rendered(component(spec, name=name)["command_template"], set_to)
    command = commands.parse(payload.encode())
    assert command.values == {name: set_to}
    assert check_values(command.values, {name: spec}) == {name: set_to}


@pytest.mark.parametrize("name", ["pump", 'a"b', "{{ x }}"])
@pytest.mark.parametrize(("option", "value"), [("payload_on", True), ("payload_off", False)])
def test_a_switch_sends_true_and_false(name: str, option: str, value: bool) -> None:
    payload = component(PropertySpec("boolean", True), name=name)[option]
    assert commands.parse(payload.encode()).values == {name: value}


# -- anything ------------------------------------------------------------------------------------------------------

_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_LIMITS = st.none() | st.floats(-1e9, 1e9) | st.sampled_from([0.0, 0.1, 30.0, -3276.8, 1.8e19, -3.4e38])
_UNITS = st.none() | _NAMES | st.sampled_from(["°C", "%", "kWh", "", "ppm", "W", "hPa"])
_SPECS = st.builds(
    PropertySpec,
    kind=st.sampled_from(["number", "boolean", "text", "any"]),
    writable=st.booleans(),
    unit=_UNITS,
    minimum=_LIMITS,
    maximum=_LIMITS,
    step=st.none() | st.floats(1e-6, 1e6),
    step_from=_LIMITS,
    choices=st.none() | st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4).map(tuple),
    readable=st.booleans(),
    tolerance=st.none() | st.floats(1e-9, 1e6),
).filter(lambda s: s.minimum is None or s.maximum is None or s.minimum <= s.maximum)


@given(
    st.dictionaries(
        _NAMES | st.sampled_from(["value", "motion_detected", "battery_level"]), _SPECS, max_size=6
    ),
    st.sampled_from(list(SENSOR_TYPES)),
    _NAMES,
)
def test_whatever_a_device_has_home_assistant_takes_it(
    specs: dict[str, PropertySpec], kind: str, friendly_name: str
) -> None:
    shown = [spec for spec in specs.values() if spec.readable or spec.writable]
    if shown:
        assert len(config_of(specs, kind, friendly_name=friendly_name)["components"]) == len(shown)


@given(st.dictionaries(_NAMES, _SPECS, max_size=4))
def test_what_a_handler_tells_of_properties_arrives_as_it_was(specs: dict[str, PropertySpec]) -> None:
    told = {"boiler": {n: property_facts.body_of(spec, writable=spec.writable) for n, spec in specs.items()}}
    found = property_facts.specs_of(wire.loads(wire.dumps(told), wire.INNER_NESTING))["boiler"]
    assert found == {name: replace(spec, unit=spec.unit or None) for name, spec in specs.items()}


@pytest.mark.parametrize(
    "rows", [None, [], {"a": 1}, {"a": {"b": None}}, {"a": {"b": {"kind": "pump"}}}, {"a": {"b": {}}}]
)
def test_what_is_no_list_of_properties_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"not an object|no kind"):
        property_facts.specs_of(rows)


def test_a_device_of_a_thousand_properties_is_one_message_of_moderate_size() -> None:
    specs = {f"register_{n}": PropertySpec("number", unit="V", tolerance=0.05) for n in range(1000)}
    assert len(wire.dumps(device(specs).config())) < 400_000


# -- whose config it is --------------------------------------------------------------------------------------------


def test_a_config_of_ones_own_is_known_with_its_components() -> None:
    payload = wire.dumps(device({"a": PropertySpec("number"), "b": PropertySpec("boolean", True)}).config())
    found = home_assistant.own_components(payload.encode(), TOPICS)
    assert found == {"sensor_a": "sensor", "switch_b": "switch"}


@pytest.mark.parametrize(
    "topics", [Topics("IoT2mqtt", "hub2"), Topics("other", "hub"), Topics("IoT2mqtt/v1/instances/hub", "hub")]
)
def test_a_config_of_another_instance_is_not_ones_own(topics: Topics) -> None:
    payload = wire.dumps(device({"a": PropertySpec("number")}).config())
    assert home_assistant.own_components(payload.encode(), topics) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"sensor-hub",
        b'"sensor-hub"',
        b'{"o":"sensor-hub"}',
        b'{"o":{"name":"sensor-hub"},"avty":7,"cmps":{}}',
        b'{"o":{"name":"other"},"x":"sensor-hub","avty":[{"t":"IoT2mqtt/v1/instances/hub/status"}],"cmps":{}}',
        b"\xff sensor-hub",
    ],
)
def test_what_others_write_is_not_ones_own(payload: bytes) -> None:
    assert home_assistant.own_components(payload, TOPICS) is None
