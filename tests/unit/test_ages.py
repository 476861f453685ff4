"""Ages of readings of another process, whatever happens to the wall clock."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sensor_hub.ages import Ages
from sensor_hub.readings import Fault, Reading, Snapshot, Status
from tests.unit.manual_clock import NOON, ManualClock


def snapshot(taken: datetime | None) -> Snapshot:
    reading = None if taken is None else Reading({"value": 1}, taken)
    return Snapshot("a", "generic", Status.ONLINE, reading, Fault("READ_FAILED", "why", NOON))


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -3600.0])
def test_a_reading_ages_by_the_time_that_passes(ahead_s: float) -> None:
    time = ManualClock()
    ages, news = Ages(time.clock), snapshot(NOON - timedelta(seconds=4))
    ages.note(news)
    time.set_wall(ahead_s)
    time.advance(5)
    ages.note(news)  # the same reading once more
    assert ages.age_s(news) == 9.0


def test_a_newer_reading_is_young_whatever_the_wall_clock_said_before() -> None:
    time = ManualClock()
    ages = Ages(time.clock)
    ages.note(snapshot(NOON))
    time.set_wall(-3600)
    time.advance(60)
    newer = snapshot(time.now())
    ages.note(newer)
    assert ages.age_s(newer) == 0.0


def test_a_reading_of_the_future_is_of_now_and_no_reading_has_no_age() -> None:
    ages = Ages(ManualClock().clock)
    assert ages.age_s(snapshot(None)) is None
    future = snapshot(NOON + timedelta(hours=1))
    ages.note(future)
    assert ages.age_s(future) == 0.0
    assert ages.age_s(snapshot(None)) is None
