"""Pauses between tries, and giving up. Pure arithmetic."""

from __future__ import annotations

import pytest

from sensor_hub.reconnecting import Backoff


@pytest.mark.parametrize(
    ("first_s", "expected"),
    [(1.0, [1, 2, 4, 8, 16, 30, 30]), (0.25, [0.25, 0.5, 1, 2]), (45.0, [45, 45, 45])],
)
def test_pauses_double_up_to_30_s(first_s: float, expected: list[float]) -> None:
    backoff, now, pauses = Backoff(first_s, 0), 100.0, []
    for _ in expected:
        backoff.failed(now)
        pauses.append(backoff.retry_at - now)
        assert not backoff.may_try(now)
        now = backoff.retry_at
        assert backoff.may_try(now)
    assert pauses == expected


def failed_at(*moments: float) -> Backoff:
    backoff = Backoff(1.0, 0)
    for now in moments:
        backoff.failed(now)
    return backoff


def test_an_answer_makes_the_next_pause_a_short_one() -> None:
    backoff = failed_at(0.0, 1.0, 3.0)
    backoff.connected(7.0)
    backoff.healthy()
    backoff.failed(7.1)
    assert round(backoff.retry_at - 7.1, 6) == 1.0


def test_a_line_that_opens_and_breaks_at_once_is_tried_less_and_less_often() -> None:
    backoff = failed_at(0.0, 1.0, 3.0)
    backoff.connected(7.0)
    backoff.failed(7.1)
    assert round(backoff.retry_at - 7.1, 6) == 8.0


@pytest.mark.parametrize(("lost_at", "pause_s"), [(66.9, 8.0), (67.0, 1.0)])
def test_a_minute_of_being_open_is_health_too(lost_at: float, pause_s: float) -> None:
    backoff = failed_at(0.0, 1.0, 3.0)
    backoff.connected(7.0)
    backoff.failed(lost_at)
    assert round(backoff.retry_at - lost_at, 6) == pause_s


def test_the_time_for_giving_up_counts_from_the_first_failure_in_a_row_and_is_told_once() -> None:
    backoff = Backoff(4.0, 10.0)
    backoff.failed(95.0)
    backoff.connected(96.0)
    backoff.healthy()
    backoff.failed(100.0)
    backoff.failed(104.0)  # next try at 112, giving up at 110
    assert backoff.pause_s(104.0) == 6.0
    assert [backoff.gives_up(now) for now in (109.9, 110.0, 110.1)] == [False, True, False]
    assert (backoff.pause_s(111.0), backoff.may_try(1e9)) == (None, False)


def test_without_a_limit_nothing_is_given_up() -> None:
    backoff = Backoff(1.0, 0)
    backoff.failed(0.0)
    assert not backoff.gives_up(1e9)
    assert backoff.pause_s(0.25) == 0.75
