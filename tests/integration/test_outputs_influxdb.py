"""Readings in a real InfluxDB 1.x, read back by query."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs.influxdb import InfluxDb
from sensor_hub.outputs.sink import NO_INFO, Message, NotTakenError
from sensor_hub.readings import Json
from tests.influx import Influx, needs_influxd

pytestmark = needs_influxd

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
NOON_NS = 1_772_366_400_123_000_000


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with Influx(tmp_path_factory.mktemp("influx")) as running:
        yield running


@pytest.fixture
def database(influx: Influx) -> Iterator[str]:
    name = influx.database(f"db{uuid4().hex[:8]}")
    yield name
    influx.query(f'DROP DATABASE "{name}"')


def sink(influx: Influx, database: str, **options: Json) -> InfluxDb:
    options = {"url": influx.url, "database": database, **options}
    return InfluxDb(OutputConfig("history", "influxdb", "x", options), "hub1", Path("."))


def message(number: int, data: dict[str, Json], when: datetime = NOON, **facts: Any) -> Message:
    given = {
        "id": f"0123456789ab-{number}",
        "device_id": "cellar",
        "device_type": "temperature",
        "timestamp": when.isoformat(timespec="milliseconds"),
        "quality": "good",
        "source_transport": "bus0",
        "target_transport": "history",
        "data": data,
        "source_transport_info": {**NO_INFO, "manufacturer": "Acme, Inc.", "model": "HP 5=b c"},
        "extra": {},
    }
    return Message(**{**given, **facts})


def test_values_types_tags_and_times_are_those_of_the_reading(influx: Influx, database: str) -> None:
    data: dict[str, Json] = {
        "value": 21,
        "pump": True,
        "mode": 'say "hi", a=b \\ c\n🚀',
        'odd, na=me "x"': -0.5,
        "nothing": None,
        "list": [1, 2],
        "time": 3,
    }
    assert sink(influx, database).send([message(7, data)]) is None
    (row,) = influx.query("SELECT * FROM temperature GROUP BY *", database)
    assert row == {
        "time": NOON_NS + 7,
        "device_id": "cellar",
        "instance": "hub1",
        "source_transport": "bus0",
        "value": 21,
        "pump": True,
        "mode": 'say "hi", a=b \\ c\n🚀',
        'odd, na=me "x"': -0.5,
        "list": "[1,2]",
        "time_": 3,
        "quality": "good",
    }
    kinds = {each["fieldKey"]: each["fieldType"] for each in influx.query("SHOW FIELD KEYS", database)}
    assert (kinds["value"], kinds["pump"], kinds["mode"]) == ("float", "boolean", "string")


def test_measurement_tags_precision_and_integers_are_as_configured(influx: Influx, database: str) -> None:
    its = sink(
        influx,
        database,
        measurement="hub {device_id}",
        tags={"made by": "{manufacturer}", "model": "{model}", "empty": "{unit}", "site": "North, 1"},
        precision="ms",
        integers=True,
        gzip=False,
    )
    assert its.send([message(7, {"value": 21, "other": 0.5})]) is None
    (row,) = influx.query('SELECT * FROM "hub cellar" GROUP BY *', database)
    expected = {"made by": "Acme, Inc.", "model": "HP 5=b c", "site": "North, 1"}
    assert row == {"time": NOON_NS, **expected, "value": 21, "other": 0.5, "quality": "good"}
    kinds = {each["fieldKey"]: each["fieldType"] for each in influx.query("SHOW FIELD KEYS", database)}
    assert (kinds["value"], kinds["other"]) == ("integer", "float")


def test_readings_of_the_same_millisecond_stay_apart_and_a_repeated_one_is_one(
    influx: Influx, database: str
) -> None:
    its = sink(influx, database)
    batch = [message(number, {"value": number}) for number in range(20)]
    its.send(batch)
    its.send(batch[5:])
    rows = influx.query("SELECT value FROM temperature", database)
    assert [row["value"] for row in rows] == list(range(20))


def test_of_a_batch_with_a_conflict_of_types_the_good_points_are_kept_and_the_bad_ones_counted(
    influx: Influx, database: str
) -> None:
    its = sink(influx, database)
    its.send([message(0, {"value": 1.5})])
    refused = its.send(
        [message(1, {"value": 2.5}), message(2, {"value": "two"}), message(3, {"value": 3.5})]
        + [message(4, {"value": True}), message(5, {"nothing": None})]
    )
    assert refused is not None
    assert refused.count == 3
    assert "field type conflict" in refused.reason
    rows = influx.query("SELECT value FROM temperature", database)
    assert [row["value"] for row in rows] == [1.5, 2.5, 3.5]


def test_what_is_older_than_the_retention_policy_keeps_is_refused_for_good(
    influx: Influx, database: str
) -> None:
    influx.query(f'CREATE RETENTION POLICY "short" ON "{database}" DURATION 1h REPLICATION 1')
    now = datetime.now(UTC)
    its = sink(influx, database, retention_policy="short")
    batch = [message(1, {"value": 1}, now), message(2, {"value": 2}, now - timedelta(days=2))]
    refused = its.send(batch)
    assert refused is not None
    assert refused.count == 1
    assert [row["value"] for row in influx.query("SELECT value FROM short.temperature", database)] == [1]


def test_a_missing_database_is_said_and_nothing_is_lost_until_it_is_there(influx: Influx) -> None:
    name = f"db{uuid4().hex[:8]}"
    its = sink(influx, name)
    with pytest.raises(NotTakenError, match="HTTP 404.*no such database.*database not found"):
        its.send([message(1, {"value": 1})])
    influx.database(name)
    assert its.send([message(1, {"value": 1})]) is None
    influx.query(f'DROP DATABASE "{name}"')


def test_a_wrong_retention_policy_is_said_and_costs_nothing(influx: Influx, database: str) -> None:
    with pytest.raises(NotTakenError, match="no such retention policy in the database: .*not found: nope"):
        sink(influx, database, retention_policy="nope").send([message(1, {"value": 1})])


def test_points_that_the_database_cannot_read_are_left_out_however_much_it_says_of_them(
    influx: Influx, database: str
) -> None:
    bad = [message(number, {"value": 1}, device_id="x" * 70_000) for number in range(3)]  # a key has 64 KiB
    refused = sink(influx, database).send([*bad, message(3, {"value": 3})])
    assert refused is not None
    assert refused.count == 3
    assert [row["value"] for row in influx.query("SELECT value FROM temperature", database)] == [3]


@pytest.mark.parametrize("limit", ["max-series-per-database", "max-values-per-tag"])
def test_a_limit_of_the_database_costs_no_reading_and_all_are_there_when_it_is_raised(
    tmp_path: Path, limit: str
) -> None:
    batch = [message(number, {"value": number}, device_id=f"d{number}") for number in range(6)]
    with Influx(tmp_path / "influx", limits=f'index-version = "inmem"\n{limit} = 3') as limited:
        limited.database("db")
        its = sink(limited, "db")
        assert its.send(batch[:3]) is None
        with pytest.raises(NotTakenError, match=f"HTTP 400.*{limit} limit exceeded"):
            its.send(batch)
        limited.stop()
        limited.configure("")
        limited.start()
        assert its.send(batch) is None
        rows = limited.query("SELECT value FROM temperature", "db")
        assert sorted(row["value"] for row in rows) == list(range(6))


def test_wrong_credentials_are_said_and_right_ones_work(tmp_path: Path) -> None:
    with Influx(tmp_path / "influx", auth=True) as guarded:
        guarded.database("db")
        with pytest.raises(NotTakenError, match="HTTP 401.*wrong or missing"):
            sink(guarded, "db", username="root", password="Wrong").send([message(1, {"value": 1})])
        with pytest.raises(NotTakenError, match="HTTP 401"):
            sink(guarded, "db").send([message(1, {"value": 1})])
        assert (
            sink(guarded, "db", username="root", password="secret").send([message(1, {"value": 1})]) is None
        )
        assert len(guarded.query("SELECT value FROM temperature", "db")) == 1
