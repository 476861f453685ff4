"""Whatever stands in the file or the environment: a config or problems, never an exception."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensor_hub.config import SETTINGS
from sensor_hub.config.instance_file import CONFIG_KEYS
from sensor_hub.config.model import Handler, Report
from sensor_hub.sensor_types import SENSOR_TYPES
from tests.unit.test_config import Document, config_of, hub, read_hub

relaxed = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

KEYS = (
    *CONFIG_KEYS,
    "config", "connection", "instance_id", "enabled", "connector_type", "sensor_id", "sensor_type",
    "friendly_name", "transport", "url", "transport_id", "port", "driver", "device_id",
    "device_type", "name", "bridge", "stale_after", "timeout_s", "read_interval", "write",
    "group_id", "auth", "password",
)  # fmt: skip
WORDS = (
    "hub",
    "a",
    "b",
    "motion",
    "generic",
    "mqtt",
    "true",
    "5",
    "",
    "__SECRET__a__",
    "http://u:p@h/",
    "\ud800",
    "\0",
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS),
    st.just(10**400),
)  # fmt: skip
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=30,
)


def assert_config_or_problems(report: Report) -> None:
    assert (report.config is None) == bool(report.problems)
    for problem in report.problems:
        assert str(problem).encode()
        assert problem.path
        assert problem.message


@relaxed
@given(document=anything)
def test_any_json_yields_a_config_or_problems(document: object, tmp_path: Path) -> None:
    assert_config_or_problems(read_hub(tmp_path, document))


@relaxed
@given(
    config=st.dictionaries(st.sampled_from(CONFIG_KEYS), anything),
    connection=st.dictionaries(st.sampled_from(CONFIG_KEYS), anything),
    top=st.dictionaries(keys, anything),
)
def test_any_content_of_any_place_yields_a_config_or_problems(
    config: Document, connection: Document, top: Document, tmp_path: Path
) -> None:
    document = {**top, "instance_id": "hub", "config": config, "connection": connection}
    assert_config_or_problems(read_hub(tmp_path, document))


entries = st.lists(st.dictionaries(st.sampled_from(KEYS), scalars, max_size=6), max_size=4)


@relaxed
@given(content=st.dictionaries(st.sampled_from(("sensors", "devices", "transports", "groups")), entries))
def test_any_entries_yield_a_config_or_problems(content: Document, tmp_path: Path) -> None:
    assert_config_or_problems(read_hub(tmp_path, hub(**content)))


@relaxed
@given(text=st.text())
def test_any_text_yields_a_config_or_problems(text: str, tmp_path: Path) -> None:
    path = tmp_path / "instances"
    path.mkdir(exist_ok=True)
    (path / "hub.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    (tmp_path / ".env").write_bytes(text.encode("utf-8", "surrogatepass"))
    (tmp_path / "secrets").mkdir(exist_ok=True)
    (tmp_path / "secrets" / "hub_creds").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert_config_or_problems(read_hub(tmp_path, hub()))


values = st.one_of(st.text(max_size=12), st.integers().map(str), st.floats().map(str), st.sampled_from(WORDS))
variables = st.dictionaries(st.sampled_from([variable.name for variable in SETTINGS]), values, max_size=6)


@relaxed
@given(environ=variables, overrides=variables)
def test_any_variables_yield_a_config_or_problems(
    environ: Mapping[str, str], overrides: Mapping[str, str], tmp_path: Path
) -> None:
    assert_config_or_problems(read_hub(tmp_path, hub(), environ, overrides=overrides))


@relaxed
@given(lines=st.dictionaries(st.text(max_size=20), values, max_size=4), document=anything)
def test_any_mounted_secrets_yield_a_config_or_problems(
    lines: Mapping[str, str], document: object, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir(exist_ok=True)
    text = "\n".join(f"{key}={value}" for key, value in lines.items())
    (tmp_path / "secrets" / "hub_creds").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert_config_or_problems(read_hub(tmp_path, document))


ids = st.from_regex(r"\A[A-Za-z0-9_.:-]{0,20}[A-Za-z0-9][A-Za-z0-9_.:-]{0,20}\Z")
names = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="_"), min_size=1, max_size=20)
places = st.sampled_from([{"transport": "bus0", "unit_id": 1}, {"url": "http://192.0.2.1/"}, {}])
sensor_lists = st.lists(
    st.tuples(ids, st.sampled_from(list(SENSOR_TYPES)), names, places, st.booleans()),
    unique_by=lambda sensor: sensor[0],
    max_size=8,
)


@relaxed
@given(sensors=sensor_lists)
def test_good_config_becomes_exactly_its_sensors(sensors: list[Any], tmp_path: Path) -> None:
    content = [
        {"sensor_id": id_, "sensor_type": type_, "friendly_name": name, "enabled": enabled, **place}
        for id_, type_, name, place, enabled in sensors
    ]
    bus = {"transport_id": "bus0", "driver": "modbus_rtu", "url": "socket://192.0.2.1:4001"}
    config = config_of(read_hub(tmp_path, json.loads(json.dumps(hub(transports=[bus], sensors=content)))))
    found = [(s.sensor_id, s.sensor_type, s.friendly_name, s.enabled, s.emulated) for s in config.sensors]
    assert found == [(id_, type_, name, enabled, not place) for id_, type_, name, place, enabled in sensors]
    lines = {transport.transport_id: transport for transport in config.transports}
    assert len(lines) == len(config.transports)
    for sensor, (_, type_, _, place, _) in zip(config.sensors, sensors, strict=True):
        line = lines[sensor.transport_id]
        assert sensor.handler == line.handler
        over_http = "url" in place or (not place and type_ == "motion")
        assert line.handler == (Handler.HTTP if over_http else Handler.SERIAL)


@pytest.mark.parametrize("key", CONFIG_KEYS)
def test_null_where_a_value_belongs_is_a_problem(key: str, tmp_path: Path) -> None:
    assert [problem.path for problem in read_hub(tmp_path, hub(**{key: None})).problems] == [f"config.{key}"]
