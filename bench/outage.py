"""A real InfluxDB that is away for a minute under 200 readings a second: what is there then, and what it took."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from bench import figures
from sensor_hub.clock import system_clock
from sensor_hub.outputs.followers import Followers
from tests.contract.feed import feed, sensor
from tests.influx import INFLUXD, Influx
from tests.integration.outage import Speaking, times_of_points
from tests.support import eventually

DEVICES, PER_S, AWAY_S = 20, 200, 60.0
WITHIN_S = 300.0


def main() -> None:
    """One run, about 90 seconds. Not part of `make bench`: it needs influxd."""
    if INFLUXD is None:
        raise SystemExit("influxd is missing (Debian: apt install influxdb)")
    figures.heading(f"InfluxDB away for {AWAY_S:g} s, {DEVICES} devices with {PER_S} readings/s between them")
    with tempfile.TemporaryDirectory(prefix="outage-") as folder, Influx(Path(folder) / "influx") as influx:
        _run(Path(folder), influx)


def _run(folder: Path, influx: Influx) -> None:
    options = {"type": "influxdb", "url": influx.url, "database": influx.database("db")}
    with feed(folder, {"history": options}, [sensor(f"d{number}") for number in range(DEVICES)]) as its_feed:
        followers = Followers(its_feed.hub, system_clock())
        followers.start()
        speaking = Speaking(its_feed, DEVICES, 1 / PER_S)
        try:
            eventually(lambda: len(times_of_points(influx)) > PER_S, WITHIN_S)
            process = psutil.Process(int(str(followers.report()["history"]["pid"])))
            influx.stop()
            said, used = speaking.said, sum(process.cpu_times()[:2])
            time.sleep(AWAY_S)
            figures.row("readings said in the outage", str(speaking.said - said))
            queue = followers.report()["history"]["queue"]
            assert isinstance(queue, dict)
            figures.row("in the queue at its end; bytes", f"{queue['depth']}; {queue['bytes']}")
            figures.row("processor time of the output, s", f"{sum(process.cpu_times()[:2]) - used:.1f}")
            figures.row("its memory, MB", f"{process.memory_info().rss / 1e6:.0f}")
            influx.start()
            began = time.monotonic()
            eventually(lambda: followers.report()["history"]["state"] == "up", WITHIN_S)
            figures.row("delivers again after, s", f"{time.monotonic() - began:.1f}")
            began = time.monotonic()
            eventually(lambda: _depth(followers) < 2 * PER_S, WITHIN_S)
            figures.row("backlog gone after, s", f"{time.monotonic() - began:.1f}")
            speaking.stop()
            eventually(lambda: _depth(followers) == 0, WITHIN_S)
            report = followers.report()["history"]
        finally:
            speaking.stop()
            followers.join()
        figures.row("said; points in the database", f"{speaking.said}; {len(times_of_points(influx))}")
        figures.row(
            "numbers that are missing", str(len(set(range(speaking.said)) - set(times_of_points(influx))))
        )
        figures.row(
            "refused, missed, restarts", f"{report['refused']}, {report['missed']}, {report['restarts']}"
        )


def _depth(followers: Followers) -> int:
    queue = followers.report()["history"].get("queue")
    return int(str(queue["depth"])) if isinstance(queue, dict) else -1
