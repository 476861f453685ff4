"""A real InfluxDB that is away for a minute, while devices say 200 readings a second."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.outputs.followers import Followers
from sensor_hub.readings import Json
from tests.contract.feed import feed, sensor
from tests.influx import Influx, needs_influxd
from tests.integration.outage import Speaking, times_of_points
from tests.support import eventually

pytestmark = needs_influxd

DEVICES, PER_S, OUTAGE_S = 20, 200, 60.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_a_minute_without_the_database_every_single_reading_is_there_once_with_its_own_time(
    tmp_path: Path,
) -> None:
    with Influx(tmp_path / "influx") as influx:
        options = {"type": "influxdb", "url": influx.url, "database": influx.database("db")}
        sensors = [sensor(f"d{number}") for number in range(DEVICES)]
        with feed(tmp_path, {"history": options}, sensors, JOURNAL_ENTRIES="50000") as its_feed:
            followers = Followers(its_feed.hub, system_clock())

            def report() -> dict[str, Json]:
                return followers.report()["history"]

            followers.start()
            speaking = Speaking(its_feed, DEVICES, 1 / PER_S)
            try:
                eventually(lambda: len(times_of_points(influx)) > PER_S, 60)
                influx.stop()
                before = speaking.said
                threading.Event().wait(OUTAGE_S)
                eventually(lambda: speaking.said >= before + PER_S * OUTAGE_S, 120)
                eventually(lambda: "not reachable" in str(report().get("problem")), 60)
                influx.start()
                eventually(lambda: report()["state"] == "up", 120)
                speaking.stop()
                eventually(lambda: report().get("sent") == speaking.said, 300)
                found = report()
            finally:
                speaking.stop()
                followers.join()
            times = times_of_points(influx)
            assert sorted(times) == list(range(speaking.said))
            assert (found["sent"], found["restarts"]) == (speaking.said, 0)
            assert (found["refused"], found["missed"]) == (0, 0)
            taken = {
                entry["value"]: datetime.fromisoformat(entry["timestamp"]) for entry in its_feed.journal()
            }
            assert len(taken) == speaking.said
            in_time = {number: time // 1_000_000 for number, time in times.items()}
            assert in_time == {number: round(when.timestamp() * 1000) for number, when in taken.items()}
