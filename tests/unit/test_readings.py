"""Status and quality as the contract defines them (section 2, time and quality)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sensor_hub.readings import Fault, Quality, Reading, Snapshot, Status, aged, assess
from tests.unit.manual_clock import NOON

ONLINE, DEGRADED, OFFLINE, UNKNOWN = Status.ONLINE, Status.DEGRADED, Status.OFFLINE, Status.UNKNOWN
GOOD, FAIR, POOR = Quality.GOOD, Quality.FAIR, Quality.POOR


@pytest.mark.parametrize(
    ("age_s", "failed", "plausible", "expected"),
    [
        (None, False, True, (UNKNOWN, None)),
        (None, True, True, (OFFLINE, None)),
        (0.0, False, True, (ONLINE, GOOD)),
        (0.0, False, False, (ONLINE, POOR)),
        (0.0, True, True, (DEGRADED, FAIR)),
        (0.0, True, False, (DEGRADED, POOR)),
        (10.0, False, True, (ONLINE, GOOD)),
        (10.0, True, True, (DEGRADED, FAIR)),
        (10.1, False, True, (ONLINE, POOR)),
        (10.1, True, True, (DEGRADED, POOR)),
        (15.0, False, True, (ONLINE, POOR)),
        (15.0, True, True, (DEGRADED, POOR)),
        (15.1, False, True, (OFFLINE, POOR)),
        (15.1, True, True, (OFFLINE, POOR)),
    ],
)
def test_status_and_quality_with_an_interval_of_5_s_and_stale_after_15_s(
    age_s: float | None, failed: bool, plausible: bool, expected: tuple[Status, Quality | None]
) -> None:
    found = assess(age_s=age_s, failed=failed, plausible=plausible, interval_s=5, stale_after_s=15)
    assert found == expected


def test_a_value_is_offline_after_stale_after_even_within_two_intervals() -> None:
    assert assess(age_s=3.1, failed=False, plausible=True, interval_s=5, stale_after_s=3) == (OFFLINE, POOR)


def snapshot(quality: Quality | None = GOOD, fault: Fault | None = None) -> Snapshot:
    return Snapshot("a", "temperature", ONLINE, Reading({"value": 21.5}, NOON), fault, quality)


def lost(before: Snapshot, after_s: float) -> Snapshot:
    fault = Fault("HANDLER_ERROR", "gone", NOON + timedelta(seconds=after_s))
    age_s = after_s if before.reading is not None else None
    return aged(before, fault, age_s, interval_s=5, stale_after_s=15)


@pytest.mark.parametrize(
    ("after_s", "status", "quality"), [(4, DEGRADED, FAIR), (12, DEGRADED, POOR), (16, OFFLINE, POOR)]
)
def test_a_value_grows_old_when_its_handler_is_gone(after_s: float, status: Status, quality: Quality) -> None:
    after = lost(snapshot(), after_s)
    assert (after.status, after.quality) == (status, quality)
    assert after.reading == Reading({"value": 21.5}, NOON)
    assert after.fault is not None
    assert after.fault.code == "HANDLER_ERROR"


def test_a_poor_value_gets_no_better_when_its_handler_is_gone() -> None:
    assert lost(snapshot(quality=POOR), 1).quality is POOR


def test_a_fault_that_goes_on_keeps_the_time_it_began() -> None:
    first = lost(snapshot(), 4)
    second = lost(first, 9)
    assert second.fault is not None
    assert second.fault.timestamp == NOON + timedelta(seconds=4)


def test_another_fault_begins_now() -> None:
    before = snapshot(fault=Fault("READ_TIMEOUT", "no answer", NOON))
    after = lost(before, 4)
    assert after.fault is not None
    assert after.fault.timestamp == NOON + timedelta(seconds=4)


def test_a_device_that_was_never_read_is_offline_without_its_handler() -> None:
    before = Snapshot("a", "temperature", UNKNOWN, fault=Fault("SENSOR_UNAVAILABLE", "not read yet", NOON))
    after = lost(before, 1)
    assert (after.status, after.quality) == (OFFLINE, None)


def test_a_fault_is_the_same_error_again() -> None:
    error = Fault("READ_TIMEOUT", "no answer", NOON).as_error()
    assert (error.code, error.status, str(error)) == ("READ_TIMEOUT", 503, "no answer")
