"""What `GET /metrics` says, in Prometheus' words; the handlers of this aggregator do not answer."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sensor_hub import __version__, runtime
from sensor_hub.aggregator import Aggregator
from sensor_hub.aggregator_api import aggregator_app
from sensor_hub.config import load
from sensor_hub.metrics import CONTENT_TYPE, Family, exposition
from sensor_hub.readings import Json
from tests.unit.manual_clock import ManualClock

# https://prometheus.io/docs/instrumenting/exposition_formats/#comments-help-text-and-type-information
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = rf'{NAME}="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(\{{{LABEL}(?:,{LABEL})*\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)")
FIGURES: dict[str, Json] = {
    "depth": 3,
    "bytes": 420,
    "oldest_s": 1.5,
    "dropped": 7,
    "expired": 1,
    "sent": 90,
    "refused": 2,
    "missed": 11,
    "interrupted": 4,
}


@pytest.fixture
def aggregator(tmp_path: Path) -> Iterator[Aggregator]:
    hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path)
    name = f"t{uuid.uuid4().hex[:8]}"
    services = {each: replace(service, url="http://127.0.0.1:9") for each, service in hub.services.items()}
    runtime.run_dir(name).mkdir(mode=0o700)
    yield Aggregator(replace(hub, instance_id=name, services=services), ManualClock().clock)
    shutil.rmtree(runtime.run_dir(name))


def lines(aggregator: Aggregator) -> list[str]:
    answer = aggregator_app(aggregator).test_client().get("/metrics")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, CONTENT_TYPE)
    assert answer.text.endswith("\n")
    return answer.text.splitlines()


def test_every_line_is_in_the_format_and_every_sample_has_its_type(aggregator: Aggregator) -> None:
    runtime.write_queue_figures(aggregator.config.instance_id, "mqtt", FIGURES | {"on_disk": True})
    kinds: dict[str, str] = {}
    seen: list[str] = []
    for line in lines(aggregator):
        if line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split(" ")
            assert name not in seen
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] in kinds
            seen.append(sample[1])
    assert set(seen) == kinds.keys()
    assert all((kind == "counter") is name.endswith("_total") for name, kind in kinds.items())


@pytest.mark.parametrize(
    "line",
    [
        'sensor_hub_queue_entries{queue="mqtt"} 3',
        'sensor_hub_queue_bytes{queue="mqtt"} 420',
        'sensor_hub_queue_oldest_seconds{queue="mqtt"} 1.5',
        'sensor_hub_queue_dropped_total{queue="mqtt"} 7',
        'sensor_hub_queue_expired_total{queue="mqtt"} 1',
        'sensor_hub_queue_sent_total{queue="mqtt"} 90',
        'sensor_hub_queue_refused_total{queue="mqtt"} 2',
        'sensor_hub_queue_missed_total{queue="mqtt"} 11',
        'sensor_hub_queue_interrupted_total{queue="mqtt"} 4',
        'sensor_hub_queue_on_disk{queue="mqtt"} 0',
        'sensor_hub_handler_up{handler="serial"} 0',
        'sensor_hub_devices{handler="serial",status="unknown"} 1',
        "sensor_hub_cache_entries 0",
        "sensor_hub_cache_hits_total 0",
        "sensor_hub_cache_misses_total 0",
        "sensor_hub_journal_entries 0",
        "sensor_hub_journal_missed_total 0",
        "# TYPE sensor_hub_queue_dropped_total counter",
        "# TYPE sensor_hub_queue_entries gauge",
    ],
)
def test_a_figure_is_there(aggregator: Aggregator, line: str) -> None:
    runtime.write_queue_figures(aggregator.config.instance_id, "mqtt", FIGURES | {"on_disk": False})
    assert line in lines(aggregator)


def test_the_instance_and_its_version_are_labels(aggregator: Aggregator) -> None:
    name = aggregator.config.instance_id
    assert f'sensor_hub_info{{instance_id="{name}",version="{__version__}"}} 1' in lines(aggregator)


def test_a_queue_of_an_output_that_tells_less_has_no_sample_for_the_rest(aggregator: Aggregator) -> None:
    runtime.write_queue_figures(aggregator.config.instance_id, "influx", {"depth": 2, "oldest_s": None})
    found = lines(aggregator)
    assert 'sensor_hub_queue_entries{queue="influx"} 2' in found
    assert 'sensor_hub_queue_oldest_seconds{queue="influx"} 0' in found
    assert not [line for line in found if "queue_bytes" in line]


def test_the_counts_of_a_handler_are_those_of_its_devices(
    aggregator: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[str, Json] = {
        "temp_living_room": {"reads": 5, "errors": 2, "round_trip_ms": 1.5},
        "motion_front_door": {"reads": 7, "errors": 0},
        "stranger": {"reads": 100, "errors": 100},
    }
    monkeypatch.setattr(aggregator, "telemetry", lambda: rows)
    found = lines(aggregator)
    assert 'sensor_hub_reads_total{handler="serial"} 5' in found
    assert 'sensor_hub_reads_total{handler="http_poller"} 7' in found
    assert 'sensor_hub_read_errors_total{handler="serial"} 2' in found


def test_labels_and_help_are_escaped() -> None:
    text = exposition([Family("x", "one\\two\nthree", [({"a": 'b"c\\d\ne'}, 0.25)])])
    assert text == (
        "# HELP sensor_hub_x one\\\\two\\nthree\n"
        "# TYPE sensor_hub_x gauge\n"
        'sensor_hub_x{a="b\\"c\\\\d\\ne"} 0.25\n'
    )
