"""When devices of a line are due, and when a silent unit is left alone. Pure arithmetic."""

from __future__ import annotations

import pytest

from sensor_hub.config.model import Handler, SensorConfig
from sensor_hub.errors import (
    CircuitOpen,
    DeviceRefused,
    HubError,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.polling import OPEN_AFTER_FAILURES, PROBE_COST_FACTOR, Breaker, Schedule, Unit


def sensor(sensor_id: str, interval_s: float) -> SensorConfig:
    return SensorConfig(
        sensor_id, "generic", "", "bus0", Handler.SERIAL, "x", interval_s=interval_s, stale_after_s=15
    )


def opened(cost_s: float = 0.5, failures: int = 3) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        breaker.silent(100.0, cost_s)
    return breaker


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_circuit_is_closed_before_the_third_silence_in_a_row(failures: int) -> None:
    assert opened(failures=failures).open_for(100.0) == 0.0


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.5, 10.0), (2.0, 40.0), (60.0, 300.0)])
def test_a_silent_unit_costs_its_line_a_twentieth_of_the_time_and_is_asked_every_300_s_at_least(
    cost_s: float, pause_s: float
) -> None:
    assert opened(cost_s).open_for(100.0) == pause_s


def test_a_probe_is_allowed_after_the_pause_and_a_failed_one_opens_it_again() -> None:
    breaker = opened(0.5)
    assert breaker.open_for(109.0) == 1.0
    assert breaker.open_for(110.0) == 0.0
    breaker.silent(110.0, 0.5)
    assert breaker.open_for(110.0) == 10.0


def test_one_answer_closes_the_circuit_and_counting_begins_anew() -> None:
    breaker = opened()
    breaker.answered()
    assert (breaker.open_for(100.0), breaker.failures) == (0.0, 0)
    breaker.silent(101.0, 0.5)
    assert breaker.open_for(101.0) == 0.0


def test_a_unit_without_a_breaker_may_always_be_asked() -> None:
    assert Unit("host", None).open_for(100.0) == 0.0
    assert Unit(3, opened(0.5)).open_for(104.0) == 6.0


@pytest.mark.parametrize(
    ("error", "left_s"),
    [(ReadTimeout("silent"), 10.0), (ReadFailed("bad"), 0.0), (DeviceRefused("no"), 0.0)],
)
def test_only_silence_keeps_the_circuit_open_and_any_answer_closes_it(error: HubError, left_s: float) -> None:
    unit = Unit(3, opened(0.5))
    unit.failed(error, 100.0, 0.5)
    assert unit.open_for(100.0) == left_s


@pytest.mark.parametrize("error", [TransportDown("unplugged"), CircuitOpen("left alone")])
def test_a_lost_line_and_a_refused_question_say_nothing_about_the_unit(error: HubError) -> None:
    alive, dead = Unit(3, Breaker()), Unit(4, opened(0.5))
    for _ in range(5):
        alive.failed(error, 100.0, 0.5)
        dead.failed(error, 100.0, 0.5)
    assert (alive.open_for(100.0), dead.open_for(100.0)) == (0.0, 10.0)


def test_everything_is_due_at_once_in_configured_order() -> None:
    schedule = Schedule([sensor("b", 5), sensor("a", 5)], now=100.0)
    assert schedule.next() == ("b", 100.0)
    schedule.done("b", 100.1)
    assert schedule.next() == ("a", 100.0)


def test_a_line_without_sensors_has_nothing_due() -> None:
    assert Schedule([], now=0.0).next() is None


def test_intervals_are_kept_without_drift() -> None:
    schedule = Schedule([sensor("a", 5)], now=100.0)
    schedule.done("a", 100.4)
    schedule.done("a", 105.9)
    assert schedule.next() == ("a", 110.0)


def test_a_read_before_its_turn_leaves_the_turn_where_it_is() -> None:
    schedule = Schedule([sensor("a", 5)], now=100.0)
    schedule.done("a", 100.0)
    for moment in (101.0, 103.0, 104.9):  # somebody asks for fresh reads
        schedule.done("a", moment)
    assert schedule.next() == ("a", 105.0)
    schedule.done("a", 105.0)
    assert schedule.next() == ("a", 110.0)


def test_missed_turns_are_skipped_and_not_caught_up() -> None:
    schedule = Schedule([sensor("a", 5)], now=100.0)
    schedule.done("a", 123.0)
    assert schedule.next() == ("a", 128.0)


def test_a_fast_sensor_does_not_starve_a_slow_one() -> None:
    schedule = Schedule([sensor("fast", 0.2), sensor("slow", 10)], now=0.0)
    now, slow_at = 0.0, []
    while now < 60:
        planned = schedule.next()
        assert planned is not None
        now = max(now, planned[1]) + 0.2  # reading takes as long as the fast one's interval
        slow_at += [now] if planned[0] == "slow" else []
        schedule.done(planned[0], now)
    assert [round(at) for at in slow_at] == [0, 10, 20, 30, 40, 50]


def test_soon_brings_a_sensor_forward_and_never_delays_it() -> None:
    schedule = Schedule([sensor("a", 5), sensor("b", 60)], now=100.0)
    schedule.done("a", 100.0)
    schedule.done("b", 100.0)
    schedule.soon("b", 101.0)
    assert schedule.next() == ("b", 101.0)
    schedule.soon("b", 200.0)
    assert schedule.next() == ("b", 101.0)


def test_a_probe_waits_for_its_time() -> None:
    schedule = Schedule([sensor("a", 5)], now=100.0)
    schedule.done("a", 100.0, not_before=110.0)
    assert schedule.next() == ("a", 110.0)


def test_all_is_due_when_the_line_comes_back() -> None:
    schedule = Schedule([sensor("a", 5), sensor("b", 60)], now=100.0)
    schedule.done("a", 100.0, not_before=300.0)
    schedule.done("b", 100.0)
    schedule.all_soon(120.0)
    assert schedule.next() == ("a", 120.0)
    schedule.done("a", 120.0)
    assert schedule.next() == ("b", 120.0)


def test_an_open_breaker_probes_at_once_when_the_line_is_new_and_opens_again_on_silence() -> None:
    breaker = Breaker()
    for _ in range(OPEN_AFTER_FAILURES):
        breaker.silent(now=100.0, cost_s=1.0)
    assert breaker.open_for(100.0) == PROBE_COST_FACTOR
    breaker.probe_at_once()
    assert breaker.open_for(100.0) == 0
    breaker.silent(now=101.0, cost_s=1.0)
    assert breaker.open_for(101.0) == PROBE_COST_FACTOR
