"""What a good instance file becomes: the documented form, the platform's form, emulated sensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator import scenario
from sensor_hub.config import load, read
from sensor_hub.config.model import GroupConfig, Handler, HubConfig, Report, SensorConfig, TransportConfig
from sensor_hub.errors import ConfigError, Problem

CHECKOUT = Path(__file__).parents[2]
Document = dict[str, Any]


def instance_file(root: Path, document: object, name: str = "hub") -> Path:
    """Write `document` (JSON, or text as it is) as the file of instance `name` below `root`."""
    path = root / "instances" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def read_hub(root: Path, document: object, environ: Mapping[str, str] | None = None, **more: Any) -> Report:
    """Read `document` as the file of the instance `hub`."""
    instance_file(root, document)
    more.setdefault("secrets_dir", root / "secrets")
    return read({"INSTANCE_NAME": "hub", **(environ or {})}, root=root, **more)


def config_of(report: Report) -> HubConfig:
    """The config of a report without problems."""
    assert list(report.problems) == []
    assert report.config is not None
    return report.config


def hub(**content: Any) -> Document:
    """A file in the documented form with this `config`."""
    return {"instance_id": "hub", "connector_type": "sensor-hub", "config": content}


BUS = {"transport_id": "bus0", "driver": "modbus_rtu", "url": "/dev/ttyUSB0", "baudrate": 9600}
CELLAR = {"sensor_id": "cellar", "sensor_type": "temperature", "transport": "bus0", "unit_id": 3}
YARD = {"sensor_id": "yard", "sensor_type": "motion", "url": "http://192.0.2.20/api/pir"}
LAMP = {"sensor_id": "lamp", "sensor_type": "generic"}


@pytest.mark.parametrize("name", ["sensor_hub_01", "example_hardware"])
def test_shipped_instance_file_has_no_problems(name: str, tmp_path: Path) -> None:
    config = config_of(read({"INSTANCE_NAME": name}, root=CHECKOUT, secrets_dir=tmp_path))
    assert config.instance_id == name


def test_sample_is_a_temperature_on_a_line_and_a_motion_sensor_over_http() -> None:
    config = load({"INSTANCE_NAME": "sensor_hub_01"}, root=CHECKOUT)
    assert [(s.sensor_id, s.sensor_type, s.friendly_name, s.handler, s.emulated) for s in config.sensors] == [
        ("temp_living_room", "temperature", "Living Room Temperature", Handler.SERIAL, True),
        ("motion_front_door", "motion", "Front Door Motion", Handler.HTTP, True),
    ]
    assert (config.update_interval_s, config.cache_ttl_s, config.poll_interval_s) == (10.0, 10.0, 5.0)


def test_hardware_example_says_the_defaults_of_a_line() -> None:
    config = load({"INSTANCE_NAME": "example_hardware"}, root=CHECKOUT)
    bus, plc, yard = config.transports
    plain = TransportConfig("bus0", "modbus_rtu", "/dev/ttyUSB0", Handler.SERIAL, "config.transports[0]")
    assert replace(bus, options={}) == replace(plain, register_maps=CHECKOUT / "register_maps")
    assert bus.options == {"baudrate": 19200, "bytesize": 8, "parity": "N", "stopbits": 1}
    assert (plc.driver, plc.url, plc.write) == ("modbus_tcp", "tcp://192.0.2.10:502", True)
    assert (yard.driver, yard.url, yard.handler) == ("http_json", "http://192.0.2.20/api/pir", Handler.HTTP)
    assert config.groups == (GroupConfig("heating", ("boiler",)),)
    assert config.emulator is None


def test_sensor_on_a_line_takes_its_interval_and_hands_other_keys_to_the_driver(tmp_path: Path) -> None:
    config = config_of(
        read_hub(tmp_path, hub(transports=[{**BUS, "read_interval": "2.5"}], sensors=[CELLAR]))
    )
    assert config.sensors == (
        SensorConfig(
            sensor_id="cellar",
            sensor_type="temperature",
            friendly_name="cellar",
            transport_id="bus0",
            handler=Handler.SERIAL,
            path="config.sensors[0]",
            interval_s=2.5,
            stale_after_s=7.5,
            options={"unit_id": 3},
        ),
    )


def test_port_is_another_word_for_a_transports_url(tmp_path: Path) -> None:
    bus = {"transport_id": "bus0", "driver": "modbus_rtu", "port": "/dev/ttyS1"}
    config = config_of(read_hub(tmp_path, hub(transports=[bus])))
    assert (config.transports[0].url, config.transports[0].options) == ("/dev/ttyS1", {})


def test_sensor_with_a_url_has_a_line_of_its_own_polled_every_poll_interval(tmp_path: Path) -> None:
    yard = {**YARD, "timeout_s": "1.5", "headers": {"X": "1"}}
    config = config_of(read_hub(tmp_path, hub(poll_interval="0.5", sensors=[yard])))
    line, sensor = config.transports[0], config.sensors[0]
    assert (line.transport_id, line.timeout_s, line.read_interval_s, line.write, line.path) == (
        "http:yard", 1.5, 0.5, True, "config.sensors[0]"
    )  # fmt: skip
    assert (sensor.transport_id, sensor.interval_s, sensor.stale_after_s) == ("http:yard", 0.5, 1.5)
    assert sensor.options == {"headers": {"X": "1"}, "timeout_s": 1.5}


def test_bridge_of_a_sensor_is_its_lines_unless_it_says_otherwise(tmp_path: Path) -> None:
    bus = {**BUS, "bridge": []}
    sensors = [CELLAR, {**CELLAR, "sensor_id": "attic", "bridge": "mqtt"}]
    config = config_of(read_hub(tmp_path, hub(transports=[bus], sensors=sensors)))
    assert [sensor.bridge for sensor in config.sensors] == [(), ("mqtt",)]


# The platform's form


FACTS: Document = {
    "cache_ttl": 20,
    "poll_interval": 2,
    "transports": [BUS],
    "sensors": [CELLAR, YARD, LAMP],
    "groups": [{"group_id": "all", "devices": ["cellar", "lamp"]}],
}


def platform_form(facts: Document) -> Document:
    """The same facts under `connection` and copied to the top level, numbers as texts, and more around it."""
    texts = {key: str(value) if isinstance(value, int) else value for key, value in facts.items()}
    around = {"instance_type": "device", "created_at": "2026-01-01", "connector_type": "sensor-hub"}
    return {"instance_id": "hub", "enabled": True, **around, "connection": texts, **texts}


def without_paths(config: HubConfig) -> HubConfig:
    return replace(
        config,
        transports=[replace(transport, path="") for transport in config.transports],
        sensors=[replace(sensor, path="") for sensor in config.sensors],
    )


def test_platform_form_means_the_same_as_the_documented_form(tmp_path: Path) -> None:
    documented = config_of(read_hub(tmp_path, hub(**FACTS)))
    platforms = config_of(read_hub(tmp_path, platform_form(FACTS)))
    assert without_paths(platforms) == without_paths(documented)
    assert platforms.sensors[0].path == "connection.sensors[0]"


def test_top_level_alone_means_the_same_as_the_documented_form(tmp_path: Path) -> None:
    documented = config_of(read_hub(tmp_path, hub(**FACTS)))
    flat = config_of(read_hub(tmp_path, {"instance_id": "hub", **FACTS}))
    assert without_paths(flat) == without_paths(documented)
    assert flat.sensors[1].path == "sensors[1]"


def test_one_object_counts_as_a_list_of_one(tmp_path: Path) -> None:
    listed = config_of(read_hub(tmp_path, hub(transports=[BUS], sensors=[CELLAR])))
    single = config_of(read_hub(tmp_path, hub(transports=BUS, sensors=CELLAR)))
    assert without_paths(single) == without_paths(listed)
    assert single.sensors[0].path == "config.sensors"


def test_devices_are_another_spelling_of_sensors_and_their_unknown_keys_are_ignored(tmp_path: Path) -> None:
    device = {
        "device_id": "cellar",
        "name": "Cellar",
        "transport": "bus0",
        "unit_id": "3",
        "port": 55443,
        "ip": "x",
    }
    config = config_of(read_hub(tmp_path, {"instance_id": "hub", "transports": [BUS], "devices": [device]}))
    sensor = config.sensors[0]
    assert (sensor.sensor_id, sensor.sensor_type, sensor.friendly_name) == ("cellar", "generic", "Cellar")
    assert (sensor.lenient, sensor.options, sensor.transport_id) == (
        True,
        {"unit_id": "3", "ip": "x"},
        "bus0",
    )


def test_device_without_a_place_is_emulated_whatever_else_it_says(tmp_path: Path) -> None:
    device = {
        "device_id": "hall",
        "friendly_name": "Hall",
        "device_type": "humidity",
        "room": "hall",
        "port": 55443,
    }
    config = config_of(read_hub(tmp_path, {"instance_id": "hub", "devices": [device]}))
    sensor = config.sensors[0]
    assert (sensor.sensor_type, sensor.friendly_name, sensor.emulated) == ("humidity", "Hall", True)
    assert set(sensor.options) == {"unit_id", "register"}


def test_device_with_the_id_of_a_sensor_is_that_sensor(tmp_path: Path) -> None:
    devices = [{"device_id": "lamp", "name": "Other"}, {"device_id": "door", "device_type": "motion"}]
    config = config_of(read_hub(tmp_path, {**hub(sensors=[LAMP]), "devices": devices}))
    assert [(s.sensor_id, s.friendly_name) for s in config.sensors] == [("lamp", "lamp"), ("door", "door")]


def test_config_wins_over_connection_and_connection_over_the_top_level(tmp_path: Path) -> None:
    document = hub(cache_ttl=1) | {
        "cache_ttl": 3, "poll_interval": 3, "update_interval": 3,
        "connection": {"cache_ttl": 2, "poll_interval": 2},
    }  # fmt: skip
    config = config_of(read_hub(tmp_path, document))
    assert (config.cache_ttl_s, config.poll_interval_s, config.update_interval_s) == (1.0, 2.0, 3.0)


def test_blank_form_fields_count_as_not_given(tmp_path: Path) -> None:
    sensor = {**LAMP, "transport": "", "url": " ", "friendly_name": "", "stale_after": None, "bridge": ""}
    config = config_of(read_hub(tmp_path, hub(sensors=[sensor], cache_ttl="")))
    assert (config.sensors[0].emulated, config.sensors[0].friendly_name, config.cache_ttl_s) == (
        True,
        "lamp",
        10.0,
    )


@pytest.mark.parametrize("word", [False, "false", "no", "0", "OFF"])
def test_instance_and_sensor_can_be_switched_off(tmp_path: Path, word: object) -> None:
    document = {**hub(sensors=[{**LAMP, "enabled": word}]), "enabled": word}
    config = config_of(read_hub(tmp_path, document))
    assert (config.enabled, config.sensors[0].enabled) == (False, False)


# Emulated sensors


def scenario_of(config: HubConfig) -> scenario.Scenario:
    """The scenario as the emulator itself understands it."""
    assert config.emulator is not None
    return scenario.parse(json.loads(json.dumps(config.emulator.scenario)))


def test_emulated_sensors_get_units_in_file_order_and_motion_goes_over_http(tmp_path: Path) -> None:
    sensors = [
        LAMP,
        {"sensor_id": "door", "sensor_type": "motion"},
        {"sensor_id": "hall", "sensor_type": "humidity"},
    ]
    config = config_of(read_hub(tmp_path, hub(sensors=sensors), {"SERIAL_HANDLER_PORT": "6001"}))
    line, http = config.transports
    assert (line.transport_id, line.url) == ("emulator", "/tmp/sensor-hub-hub/emulator-0.pty")
    assert (line.driver, line.options, line.write, line.emulated) == (
        "modbus_rtu",
        {"baudrate": 19200},
        True,
        True,
    )
    assert (http.url, http.driver, http.emulated) == ("http://127.0.0.1:6004/sensors/door", "http_json", True)
    register = {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1}
    assert [dict(s.options) for s in config.sensors] == [
        {"unit_id": 1, "register": register}, {}, {"unit_id": 2, "register": register}
    ]  # fmt: skip


def test_emulator_understands_its_scenario(tmp_path: Path) -> None:
    sensors = [LAMP, {"sensor_id": "door", "sensor_type": "motion"}]
    environ = {"EMULATOR_SEED": "7", "EMULATOR_PORT": "7001", "TZ": "Europe/Berlin"}
    config = config_of(read_hub(tmp_path, hub(sensors=sensors), environ))
    scenario_of(config)
    assert config.emulator is not None
    assert config.emulator.scenario == {
        "instance_id": "hub",
        "seed": 7,
        "timezone": "Europe/Berlin",
        "lines": [
            {
                "pty_path": "/tmp/sensor-hub-hub/emulator-0.pty",
                "baudrate": 19200,
                "error_rate": 0.05,
                "units": [{"unit_id": 1, "sensor_id": "lamp", "kind": "generic"}],
            }
        ],
        "http": {"host": "127.0.0.1", "port": 7001, "error_rate": 0.03, "motion": ["door"]},
        "ignore_environment": True,
    }


def test_error_rate_holds_for_both_kinds_of_emulated_devices(tmp_path: Path) -> None:
    sensors = [LAMP, {"sensor_id": "door", "sensor_type": "motion"}]
    config = config_of(read_hub(tmp_path, hub(sensors=sensors), {"EMULATOR_ERROR_RATE": "0"}))
    assert config.emulator is not None
    content: Any = config.emulator.scenario
    assert (content["lines"][0]["error_rate"], content["http"]["error_rate"]) == (0.0, 0.0)


def test_emulated_line_holds_a_hundred_units(tmp_path: Path) -> None:
    sensors = [{"sensor_id": f"s{index}", "sensor_type": "co2"} for index in range(201)]
    config = config_of(read_hub(tmp_path, hub(sensors=sensors)))
    assert [line.transport_id for line in config.transports] == ["emulator", "emulator-2", "emulator-3"]
    assert [line.url[-14:] for line in config.transports] == [f"emulator-{n}.pty" for n in range(3)]
    last = config.sensors[-1]
    assert (last.transport_id, last.options["unit_id"]) == ("emulator-3", 1)
    assert [len(line.units) for line in scenario_of(config).lines] == [100, 100, 1]


def test_disabled_emulated_sensor_keeps_its_place_and_is_not_served(tmp_path: Path) -> None:
    sensors = [{**LAMP, "enabled": False}, {"sensor_id": "hall", "sensor_type": "humidity"}]
    config = config_of(read_hub(tmp_path, hub(sensors=sensors)))
    assert [sensor.options["unit_id"] for sensor in config.sensors] == [1, 2]
    assert config.emulator is not None
    content: Any = config.emulator.scenario
    assert [unit["sensor_id"] for unit in content["lines"][0]["units"]] == ["hall"]
    assert content["http"]["motion"] == []


def test_nothing_to_emulate_means_no_emulator(tmp_path: Path) -> None:
    config = config_of(read_hub(tmp_path, hub(sensors=[{**LAMP, "enabled": False}, YARD])))
    assert config.emulator is None


# Drivers' part, and the two ways in


def test_drivers_are_asked_about_every_line_with_its_sensors(tmp_path: Path) -> None:
    asked: list[tuple[str, list[str]]] = []

    def check(transport: TransportConfig, sensors: Sequence[SensorConfig]) -> Iterator[Problem]:
        asked.append((transport.transport_id, [sensor.sensor_id for sensor in sensors]))
        if transport.transport_id == "bus0":
            yield Problem(f"{sensors[0].path}.unit_id", "must be 1 to 247")

    report = read_hub(tmp_path, hub(transports=[BUS], sensors=[CELLAR, YARD, LAMP]), check_options=check)
    assert asked == [("bus0", ["cellar"]), ("http:yard", ["yard"]), ("emulator", ["lamp"])]
    assert report.problems == (Problem("config.sensors[0].unit_id", "must be 1 to 247"),)
    assert report.config is None


def test_file_in_instances_is_named_as_its_instance(tmp_path: Path) -> None:
    path = instance_file(tmp_path, {**hub(), "instance_id": "other"}, "draft")
    [problem] = read({}, root=tmp_path, file=path, secrets_dir=tmp_path).problems
    assert problem == Problem("instance_id", "must be the file's name without .json, 'draft', not 'other'")


def test_file_to_check_says_its_instance_when_the_variable_is_unset(tmp_path: Path) -> None:
    path = instance_file(tmp_path, {**hub(), "instance_id": "other"}, "draft")
    path = path.rename(tmp_path / "draft.json")  # in `instances` its name would count
    config = config_of(read({}, root=tmp_path, file=path, secrets_dir=tmp_path))
    assert config.instance_id == "other"
    assert "file" in [
        s.origin for s in read({}, root=tmp_path, file=path).settings if s.name == "INSTANCE_NAME"
    ]


def test_load_raises_all_problems_at_once(tmp_path: Path) -> None:
    instance_file(tmp_path, hub(cache_ttl=-1, sensors=[{"sensor_id": "+"}]))
    with pytest.raises(ConfigError) as raised:
        load({"INSTANCE_NAME": "hub", "MQTT_PORT": "x"}, root=tmp_path)
    assert {problem.path for problem in raised.value.problems} == {
        "MQTT_PORT", "config.cache_ttl", "config.sensors[0].sensor_id", "config.sensors[0].sensor_type"
    }  # fmt: skip


def test_load_reads_this_process_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_file(tmp_path, hub(sensors=[LAMP]))
    monkeypatch.setenv("INSTANCE_NAME", "hub")
    monkeypatch.setenv("IOT2MQTT_PATH", str(tmp_path))
    config = load()
    assert (config.instance_id, config.root) == ("hub", tmp_path)
