"""Every bad input is named by its path, says what is allowed, and never raises."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.config import read
from sensor_hub.sensor_types import SENSOR_TYPES
from tests.unit.test_config import (
    BUS,
    CELLAR,
    LAMP,
    YARD,
    Document,
    hub,
    instance_file,
    platform_form,
    read_hub,
)

LINE = {"transports": [BUS]}
OTHER = {**LAMP, "sensor_id": "other"}

BAD_CONTENT: list[tuple[Document, str, str]] = [
    ({"cache_ttl": -1}, "cache_ttl", "0 to 3600"),
    ({"cache_ttl": True}, "cache_ttl", "not true"),
    ({"cache_ttl": "ten"}, "cache_ttl", "number"),
    ({"cache_ttl": None}, "cache_ttl", "not null"),
    ({"cache_ttl": [1]}, "cache_ttl", "not a list"),
    ({"poll_interval": 0.1}, "poll_interval", "0.2 to 3600"),
    ({"poll_interval": "1e999"}, "poll_interval", "number"),
    ({"poll_interval": "1_0"}, "poll_interval", "number"),
    ({"update_interval": 86401}, "update_interval", "1 to 86400"),
    ({"chace_ttl": 1}, "chace_ttl", "unknown key"),
    ({"weird key": 1}, '["weird key"]', "unknown key"),
    ({"sensors": "lamp"}, "sensors", "list of objects"),
    ({"sensors": None}, "sensors", "list of objects"),
    ({"sensors": ["lamp"]}, "sensors[0]", "object"),
    ({"sensors": [{"sensor_type": "co2"}]}, "sensors[0].sensor_id", "required"),
    ({"sensors": [{"sensor_id": "a"}]}, "sensors[0].sensor_type", "required"),
    ({"sensors": [{**LAMP, "sensor_id": "a/b"}]}, "sensors[0].sensor_id", "A-Z"),
    ({"sensors": [{**LAMP, "sensor_id": "..."}]}, "sensors[0].sensor_id", "letter or digit"),
    ({"sensors": [{**LAMP, "sensor_id": "ä"}]}, "sensors[0].sensor_id", "A-Z"),
    ({"sensors": [{**LAMP, "sensor_id": "a\n"}]}, "sensors[0].sensor_id", "A-Z"),
    ({"sensors": [{**LAMP, "sensor_id": "a" * 65}]}, "sensors[0].sensor_id", "64"),
    ({"sensors": [{**LAMP, "sensor_id": 7}]}, "sensors[0].sensor_id", "not 7"),
    ({"sensors": [LAMP, OTHER, LAMP]}, "sensors[2].sensor_id", "config.sensors[0]"),
    ({"sensors": [{**LAMP, "sensor_type": "smell"}]}, "sensors[0].sensor_type", ", ".join(SENSOR_TYPES)),
    ({"sensors": [{**LAMP, "enabled": 1}]}, "sensors[0].enabled", "true or false"),
    ({"sensors": [{**LAMP, "friendly_name": 5}]}, "sensors[0].friendly_name", "text"),
    ({"sensors": [{**LAMP, "stale_after": 0}]}, "sensors[0].stale_after", "0.1"),
    ({"sensors": [{**LAMP, "stale_after": True}]}, "sensors[0].stale_after", "number"),
    ({"sensors": [{**LAMP, "bridge": ["carrier pigeon"]}]}, "sensors[0].bridge", "mqtt"),
    ({"sensors": [{**LAMP, "unit_id": 4}]}, "sensors[0].unit_id", "transport or a url"),
    ({"sensors": [{**LAMP, "freindly_name": "x"}]}, "sensors[0].freindly_name", "friendly_name"),
    ({"sensors": [{**LAMP, "transport": "bus9"}], **LINE}, "sensors[0].transport", "there are: bus0"),
    ({"sensors": [{**LAMP, "transport": "bus9"}]}, "sensors[0].transport", "there are: none"),
    ({"sensors": [{**YARD, "transport": "bus0"}], **LINE}, "sensors[0]", "both"),
    ({"sensors": [{**YARD, "url": 5}]}, "sensors[0].url", "text"),
    ({"sensors": [{**YARD, "timeout_s": 0}]}, "sensors[0].timeout_s", "0.01"),
    ({"transports": [{**BUS, "transport_id": "#"}]}, "transports[0].transport_id", "A-Z"),
    ({"transports": [{"driver": "x", "url": "y"}]}, "transports[0].transport_id", "required"),
    ({"transports": [{"transport_id": "b", "url": "y"}]}, "transports[0].driver", "required"),
    ({"transports": [{"transport_id": "b", "driver": "x"}]}, "transports[0].url", "required"),
    ({"transports": [{**BUS, "port": "/dev/ttyS9"}]}, "transports[0].port", "leave one out"),
    ({"transports": [BUS, BUS]}, "transports[1].transport_id", "config.transports[0]"),
    ({"transports": [{**BUS, "read_interval": 0.01}]}, "transports[0].read_interval", "0.05 to 86400"),
    ({"transports": [{**BUS, "timeout_s": "soon"}]}, "transports[0].timeout_s", "number"),
    ({"transports": [{**BUS, "write": "bold"}]}, "transports[0].write", "true, false, relaxed or unsafe"),
    ({"transports": [{**BUS, "parallelism": "fork"}]}, "transports[0].parallelism", "auto, single, thread, process"),
    ({"parallelism": 2}, "parallelism", "auto, single, thread, process"),
    ({"transports": [{**BUS, "reconnect_backoff_ms": 0}]}, "transports[0].reconnect_backoff_ms", "10 to"),
    ({"transports": [{**BUS, "reconnect_timeout_sec": -1}]}, "transports[0].reconnect_timeout_sec", "0 to"),
    ({"transports": [{**BUS, "bridge": "influx"}]}, "transports[0].bridge", "mqtt"),
    ({"transports": [{**BUS, "serial_number": {}}]}, "transports[0].serial_number", "text"),
    (
        {"transports": [{**BUS, "transport_id": "emulator-x"}], "sensors": [LAMP]},
        "transports[0].transport_id", "reserved",
    ),
    ({"transports": [{**BUS, "transport_id": "http:yard"}], "sensors": [YARD]}, "sensors[0]", "http:yard"),
    ({"groups": [{"devices": []}]}, "groups[0].group_id", "required"),
    ({"groups": [{"group_id": "g"}]}, "groups[0].devices", "list of device ids"),
    ({"groups": [{"group_id": "g", "devices": ["ghost"]}]}, "groups[0].devices[0]", "no device 'ghost'"),
    ({"groups": [{"group_id": "g", "devices": [[]]}]}, "groups[0].devices[0]", "no device"),
    (
        {"sensors": [LAMP], "groups": [{"group_id": "g", "devices": ["lamp", "lamp"]}]},
        "groups[0].devices[1]", "twice",
    ),
    ({"groups": [{"group_id": "g", "devices": []}] * 2}, "groups[1].group_id", "config.groups[0]"),
    ({"groups": [{"group_id": "g", "devices": [], "scene": 1}]}, "groups[0].scene", "unknown key"),
]  # fmt: skip


def problems_of(root: Path, document: object, **more: Any) -> list[tuple[str, str]]:
    report = read_hub(root, document, **more)
    assert report.config is None
    return [(problem.path, problem.message) for problem in report.problems]


@pytest.mark.parametrize(
    ("content", "path", "word"), BAD_CONTENT, ids=[f"{p}-{w}" for _, p, w in BAD_CONTENT]
)
def test_bad_content_is_one_problem_with_its_path(
    content: Document, path: str, word: str, tmp_path: Path
) -> None:
    [(found, message)] = problems_of(tmp_path, hub(**content))
    assert found == f"config{path if path.startswith('[') else '.' + path}"
    assert word in message


BAD_FILES: list[tuple[str, str, str]] = [
    ("", "FILE", "line 1, column 1"),
    ('{"instance_id": "hub",\n  oops}', "FILE", "line 2, column 3"),
    ("[]", "FILE", "one JSON object"),
    ("null", "FILE", "one JSON object"),
    ("[" * 100_000, "FILE", "too deeply"),
    ('{"instance_id": "hub", "config": {"cache_ttl": NaN}}', "config.cache_ttl", "NaN"),
    ('{"instance_id": "hub", "config": -Infinity}', "config", "Infinity"),
    ('{"instance_id": "hub", "config": {"cache_ttl": 1e999}}', "config.cache_ttl", "too large"),
    ('{"instance_id": "hub", "x": [1' + "0" * 5000 + "]}", "x[0]", "too large"),
    ('{"instance_id": "hub", "instance_id": "hub"}', "instance_id", "twice"),
    ('{"instance_id": "hub", "config": {"cache_ttl": 1, "cache_ttl": 2}}', "config.cache_ttl", "twice"),
    ('{"instance_id": "hub", "x": "\\ud800"}', "x", "surrogate"),
    ('{"instance_id": "hub", "x": {"a\\u0000": 1}}', 'x["a\\u0000"]', "NUL"),
    ('{"instance_id": "hub", "x": ' + "[" * 60 + "]" * 60 + "}", "x" + "[0]" * 51, "too deeply"),
    ("{}", "instance_id", "required"),
    ('{"instance_id": "other"}', "instance_id", "'hub', not 'other'"),
    ('{"instance_id": 5}', "instance_id", "A-Z"),
    ('{"instance_id": "hub", "enabled": "maybe"}', "enabled", "true or false"),
    ('{"instance_id": "hub", "config": []}', "config", "an object"),
    ('{"instance_id": "hub", "connection": "x"}', "connection", "an object"),
    ('{"instance_id": "hub", "update_interval": 0}', "update_interval", "1 to 86400"),
]


@pytest.mark.parametrize(("text", "path", "word"), BAD_FILES, ids=[f"{p[:20]}-{w}" for _, p, w in BAD_FILES])
def test_bad_file_is_one_problem_with_its_place(text: str, path: str, word: str, tmp_path: Path) -> None:
    [(found, message)] = problems_of(tmp_path, text)
    assert found == path.replace("FILE", str(tmp_path / "instances" / "hub.json"))
    assert word in message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"instance_id": "h\xfcb"}', "byte 19"),
    ],
)
def test_file_in_a_wrong_encoding_is_a_problem(content: bytes, word: str, tmp_path: Path) -> None:
    path = instance_file(tmp_path, "")
    path.write_bytes(content)
    [problem] = read({"INSTANCE_NAME": "hub"}, root=tmp_path, secrets_dir=tmp_path).problems
    assert problem.path == str(path)
    assert word in problem.message


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    [problem] = read({"INSTANCE_NAME": "hub"}, root=tmp_path, secrets_dir=tmp_path).problems
    assert (problem.path, "no such file" in problem.message) == (
        str(tmp_path / "instances" / "hub.json"),
        True,
    )


def test_folder_in_place_of_the_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "instances" / "hub.json").mkdir(parents=True)
    [problem] = read({"INSTANCE_NAME": "hub"}, root=tmp_path, secrets_dir=tmp_path).problems
    assert "directory" in problem.message


@pytest.mark.parametrize("name", [None, "", "../hub", "..", "a b", "x" * 65])
def test_unusable_instance_name_is_a_problem(name: str | None, tmp_path: Path) -> None:
    instance_file(tmp_path, hub())
    environ = {} if name is None else {"INSTANCE_NAME": name}
    [problem] = read(environ, root=tmp_path, secrets_dir=tmp_path).problems
    assert (problem.path, "letter or digit" in problem.message) == ("INSTANCE_NAME", True)


def test_problem_in_the_platforms_form_stands_where_its_text_stands_and_only_there(tmp_path: Path) -> None:
    facts = {"cache_ttl": "x", "sensors": {**LAMP, "sensor_type": "smell"}}
    paths = [path for path, _ in problems_of(tmp_path, platform_form(facts))]
    assert paths == ["connection.cache_ttl", "connection.sensors.sensor_type"]


def test_copy_that_says_something_else_is_checked_too(tmp_path: Path) -> None:
    document = {"instance_id": "hub", "update_interval": "soon", "connection": {"update_interval": 5}}
    assert [path for path, _ in problems_of(tmp_path, document)] == ["update_interval"]


def test_bad_device_is_named_where_it_stands(tmp_path: Path) -> None:
    devices = [
        {"device_id": "a", "device_type": "smell"},
        {"name": "b"},
        {"device_id": "c"},
        {"device_id": "c"},
    ]
    paths = [path for path, _ in problems_of(tmp_path, {"instance_id": "hub", "devices": devices})]
    assert paths == ["devices[0].device_type", "devices[1].device_id", "devices[3].device_id"]


def test_bad_transport_is_not_reported_again_by_its_sensors(tmp_path: Path) -> None:
    document = hub(transports=[{**BUS, "timeout_s": 0}], sensors=[CELLAR])
    assert [path for path, _ in problems_of(tmp_path, document)] == ["config.transports[0].timeout_s"]


def test_drivers_are_not_asked_about_what_is_already_wrong(tmp_path: Path) -> None:
    asked: list[object] = []

    def check(*line: object) -> list[Any]:
        asked.append(line)
        return []

    read_hub(tmp_path, hub(transports=[{**BUS, "timeout_s": 0}], sensors=[CELLAR]), check_options=check)
    assert asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    path = instance_file(tmp_path, hub())
    path.chmod(0)
    [problem] = read({"INSTANCE_NAME": "hub"}, root=tmp_path).problems
    assert "Permission denied" in problem.message


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    content = {key: value for content, _, _ in BAD_CONTENT[:1] for key, value in content.items()}
    document = hub(**content, sensors=[{"sensor_id": "a b"}], transports=[{}], groups=[{}])
    problems = problems_of(tmp_path, document, environ={"MQTT_PORT": "0", "TZ": "Mars/Olympus"})
    assert json.dumps(sorted(path for path, _ in problems)) == json.dumps(
        [
            "MQTT_PORT", "TZ", "config.cache_ttl", "config.groups[0].devices", "config.groups[0].group_id",
            "config.sensors[0].sensor_id", "config.sensors[0].sensor_type", "config.transports[0].driver",
            "config.transports[0].transport_id", "config.transports[0].url",
        ]
    )  # fmt: skip
