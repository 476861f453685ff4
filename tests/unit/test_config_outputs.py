"""`outputs` in the instance file, and what `bridge` may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import config
from sensor_hub.config.model import HubConfig, Parallelism, Report
from sensor_hub.outputs import check_output

INFLUX = {"type": "influxdb", "url": "http://192.0.2.7:8086", "database": "home"}
HISTORY = {"output_id": "history", **INFLUX}
LINES = {"output_id": "lines", "type": "json_lines"}
BUS = {"transport_id": "bus0", "driver": "modbus_tcp", "url": "tcp://192.0.2.1:502"}
ON_BUS = {"sensor_id": "on_bus", "sensor_type": "temperature", "transport": "bus0"}
BY_HTTP = {"sensor_id": "by_http", "sensor_type": "motion", "url": "http://192.0.2.2/"}
EMULATED = {"sensor_id": "emulated", "sensor_type": "temperature"}


def read(tmp_path: Path, outputs: object, place: str = "config", **content: Any) -> Report:
    content = {"sensors": [EMULATED], **content, "outputs": outputs}
    document = {"instance_id": "x", **({place: content} if place else content)}
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return config.read({}, root=tmp_path, file=file, secrets_dir=tmp_path, check_output=check_output)


def hub(tmp_path: Path, outputs: object, place: str = "config", **content: Any) -> HubConfig:
    report = read(tmp_path, outputs, place, **content)
    assert report.config is not None, report.problems
    return report.config


def problems(tmp_path: Path, outputs: object, **content: Any) -> dict[str, str]:
    return {each.path: each.message for each in read(tmp_path, outputs, **content).problems}


def test_an_output_has_sensible_defaults(tmp_path: Path) -> None:
    (output,) = hub(tmp_path, [LINES]).outputs
    assert (output.output_id, output.output_type, output.path) == ("lines", "json_lines", "config.outputs[0]")
    assert (output.enabled, output.parallelism, dict(output.options)) == (True, Parallelism.PROCESS, {})
    assert (output.queue_entries, output.queue_bytes) == (1_000_000, 256 * 1024 * 1024)


def test_without_outputs_there_are_none_and_bridge_means_mqtt(tmp_path: Path) -> None:
    found = hub(tmp_path, [])
    assert (found.outputs, found.sensors[0].bridge) == ((), ("mqtt",))


@pytest.mark.parametrize("place", ["config", "connection", ""])
@pytest.mark.parametrize(
    "outputs",
    [
        [{**HISTORY, "queue_mib": "64", "enabled": "true", "parallelism": "Thread", "batch_size": "100"}],
        {**HISTORY, "queue_mib": 64, "parallelism": "thread", "batch_size": 100},
        {"history": {**INFLUX, "queue_mib": 64.0, "parallelism": "thread", "batch_size": 100}},
    ],
    ids=["list", "one", "by id"],
)
def test_the_forms_of_outputs_are_understood_alike(tmp_path: Path, place: str, outputs: object) -> None:
    (output,) = hub(tmp_path, outputs, place).outputs
    assert (output.output_id, output.output_type) == ("history", "influxdb")
    assert (output.queue_bytes, output.parallelism) == (64 * 1024 * 1024, Parallelism.THREAD)


def test_by_default_everything_goes_everywhere(tmp_path: Path) -> None:
    found = hub(tmp_path, [HISTORY, LINES], transports=[BUS], sensors=[ON_BUS, BY_HTTP, EMULATED])
    assert {each.sensor_id: each.bridge for each in found.sensors} == dict.fromkeys(
        ("on_bus", "by_http", "emulated"), ("mqtt", "history", "lines")
    )


def test_bridge_of_a_transport_counts_for_its_sensors_and_theirs_wins(tmp_path: Path) -> None:
    found = hub(
        tmp_path,
        [HISTORY, LINES],
        transports=[{**BUS, "bridge": ["history"]}],
        sensors=[
            ON_BUS,
            {**ON_BUS, "sensor_id": "own", "bridge": ["lines", "MQTT"]},
            {**ON_BUS, "sensor_id": "none", "bridge": []},
            {**BY_HTTP, "bridge": "history"},
            {**EMULATED, "bridge": ["mqtt"]},
        ],
    )
    assert {each.sensor_id: each.bridge for each in found.sensors} == {
        "on_bus": ("history",),
        "own": ("lines", "mqtt"),
        "none": (),
        "by_http": ("history",),
        "emulated": ("mqtt",),
    }


def test_every_problem_is_found_at_once_each_with_its_path(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        [
            {**HISTORY, "output_id": "mqtt"},
            {**HISTORY, "batch_size": 0, "tags": {"a": "{devise}"}, "verify": True, "gzip": "perhaps"},
            {**LINES, "output_id": "History", "keep": "many"},
            {"output_id": "a b", "type": "json_lines"},
            {"output_id": "f", "type": "kafka"},
            {"type": "json_lines", "parallelism": "single", "queue_mib": 0},
            "x",
        ],
        sensors=[{**EMULATED, "bridge": ["history", "f", "nowhere"]}],
    )
    assert found == {
        "config.outputs[0].output_id": "'mqtt' is reserved for the built-in output to MQTT",
        "config.outputs[1].batch_size": "must be a whole number from 1 to 50000, not 0",
        "config.outputs[1].gzip": "must be true or false, not 'perhaps'",
        "config.outputs[1].tags": found["config.outputs[1].tags"],
        "config.outputs[1].verify": found["config.outputs[1].verify"],
        "config.outputs[2].output_id": "'History' is used twice; also at config.outputs[1]",
        "config.outputs[3].output_id": found["config.outputs[3].output_id"],
        "config.outputs[4].type": "unknown type of output 'kafka'; known are influxdb, json_lines",
        "config.outputs[5].output_id": "required",
        "config.outputs[5].parallelism": "must be one of process, thread, not 'single'",
        "config.outputs[5].queue_mib": "must be a whole number from 1 to 1048576, not 0",
        "config.outputs[6]": "must be an object",
        "config.sensors[0].bridge": "must be a list of mqtt, history, f, not 'nowhere'",
    }
    assert "there is no {devise}; there are type, device_id" in found["config.outputs[1].tags"]
    assert found["config.outputs[1].verify"].startswith("unknown key; known are url, database")


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"url": "influx:8086"}, ".url", "must be a URL like"),
        ({"url": "http://u:Geheim77@h:8086"}, ".url", "must be without user and password"),
        ({"url": None}, ".url", "required"),
        ({"bucket": "b"}, "", "must have either a database (InfluxDB 1.x) or a bucket (2.x, 3.x)"),
        ({"database": ""}, "", "must have either a database"),
        ({"token": "t"}, "", "token goes with bucket, not with database"),
        (
            {"database": None, "bucket": "b", "username": "u"},
            "",
            "username goes with database, not with bucket",
        ),
        ({"password": "p"}, "", "has a password and no username"),
        (
            {"database": None, "bucket": "b", "token": "a b"},
            ".token",
            "must be printable ASCII without spaces",
        ),
        ({"tags": {"time": "x"}}, ".tags", "'time' cannot be a tag's name"),
        (
            {"tags": {"a b": "x", "c": "{device_id}", "a\tb": "y"}},
            ".tags",
            "'a b' and 'a\\tb' are the same name",
        ),
        ({"tags": {"a\\b": "{device_id}", "a_b": "y"}}, ".tags", "'a\\\\b' and 'a_b' are the same name"),
        ({"tags": {"site": "North"}}, "", "{device_id} must stand in measurement or in a tag"),
        ({"measurement": "a{b"}, ".measurement", "a brace stands for a placeholder only"),
        ({"precision": "m"}, ".precision", "must be one of ns, us, ms, s"),
        ({"ca_cert": "/nowhere/ca.pem"}, ".ca_cert", "must be an existing, readable file"),
        ({"timeout_s": "soon"}, ".timeout_s", "must be a number from 0.1 to 300"),
    ],
)
def test_a_bad_option_of_influxdb_is_named(
    tmp_path: Path, options: dict[str, Any], path: str, message: str
) -> None:
    given = {key: value for key, value in {**HISTORY, **options}.items() if value is not None}
    (found,) = problems(tmp_path, [given]).items()
    assert found[0] == f"config.outputs[0]{path}"
    assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"path": "a/"}, ".path"),
        ({"path": "-", "keep": 1}, ".keep"),
        ({"path": 5}, ".path"),
        ({"path": "history.sqlite3"}, ".path"),
        ({"path": "/data/x/mqtt-bridge.SQLite3-wal"}, ".path"),
        ({"path": "../x/lines.sqlite3-shm"}, ".path"),
        ({"path": "a.sqlite3.damaged-20260301T120000.000000Z"}, ".path"),
    ],
)
def test_a_bad_option_of_json_lines_is_named(tmp_path: Path, options: dict[str, Any], path: str) -> None:
    assert list(problems(tmp_path, [{**LINES, **options}])) == [f"config.outputs[0]{path}"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "same.jsonl"}, {"path": "sub/../same.jsonl"}),
        ({}, {"path": "one.jsonl"}),
        ({"path": " "}, {"path": " {data}/x/one.jsonl "}),
        ({"path": "{data}/link/some"}, {"path": "{data}/some"}),
    ],
)
def test_two_outputs_do_not_write_to_one_file_and_both_are_named(
    tmp_path: Path, one: dict[str, str], other: dict[str, str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "link").symlink_to(data)
    given = [
        {"type": "json_lines", "output_id": name}
        | {key: text.replace("{data}", str(data)) for key, text in options.items()}
        for name, options in {"one": one, "other": other}.items()
    ]
    (found,) = problems(tmp_path, given).items()
    assert found[0] == "config.outputs[1].path"
    assert found[1].startswith(f"'one' (config.outputs[0]) writes to {data}/")
    assert problems(tmp_path, [given[0], {**given[1], "enabled": False}]) == {}
    assert problems(tmp_path, [given[0], {**given[1], "path": "elsewhere.jsonl"}]) == {}


def test_any_number_of_outputs_write_to_stdout(tmp_path: Path) -> None:
    assert problems(tmp_path, [{**LINES, "path": "-"}, {**LINES, "output_id": "b", "path": "-"}]) == {}


def test_a_link_to_a_queue_is_no_file_for_lines(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("history.sqlite3")
    found = problems(tmp_path, [{**LINES, "path": str(tmp_path / "here")}])
    assert found == {"config.outputs[0].path": f"{tmp_path}/history.sqlite3 is a queue's file"}


def test_secrets_are_in_no_message_and_no_repr(tmp_path: Path) -> None:
    secret = "Tr0ub4dor&3 x"
    given = {"output_id": "h", "type": "influxdb", "url": "http://h:1", "bucket": "b", "token": secret}
    report = read(tmp_path, [given])
    assert report.problems
    assert secret not in str(report)
    good = hub(tmp_path, [{**HISTORY, "username": "u", "password": secret}])
    assert secret not in repr(good)
    assert good.outputs[0].options["password"] == secret


def test_a_placeholder_of_a_secret_is_replaced_or_its_path_is_named(tmp_path: Path) -> None:
    outputs = [{**HISTORY, "username": "u", "password": "__SECRET__outputs.0.password__"}]
    (found,) = problems(tmp_path, outputs).items()
    assert found[0] == "config.outputs[0].password"
    assert "no secret for 'outputs.0.password'" in found[1]
    (tmp_path / "x_creds").write_text("outputs.0.password=hidden", encoding="utf-8")
    assert hub(tmp_path, outputs).outputs[0].options["password"] == "hidden"
