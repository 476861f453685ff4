"""Devices that go on speaking while the receiver of their readings is away, and what it has of them then."""

from __future__ import annotations

import threading
import time

from tests.contract.feed import Feed
from tests.influx import Influx


class Speaking:
    """Devices that say a number each `every_s` between them, all of them different, until `stop`."""

    def __init__(self, feed: Feed, devices: int, every_s: float) -> None:
        self.said = 0
        self._feed, self._devices, self._every_s, self._stop = feed, devices, every_s, threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def _speak(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(max(0.0, began + self.said * self._every_s - time.monotonic())):
            self._feed.says(f"d{self.said % self._devices}", {"value": self.said})
            self.said += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


def times_of_points(influx: Influx, database: str = "db") -> dict[int, int]:
    """Of every number in the database its time in nanoseconds; AssertionError when one is there twice."""
    rows = influx.query("SELECT value FROM temperature", database)
    found = {int(row["value"]): int(row["time"]) for row in rows}
    assert len(found) == len(rows)
    return found
