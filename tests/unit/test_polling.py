"""When devices of a line are due, and when a silent unit is left alone. Pure arithmetic."""

from __future__ import annotations

import pytest

from sensor_hub.errors import (
    BrokenFrame,
    CircuitOpen,
    DeviceRefused,
    HubError,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.polling import OPEN_AFTER_FAILURES, Breaker, Counters, Meter, Schedule, Slot, Unit


def slots(*of: tuple[str, float]) -> dict[Slot, int]:
    """Each of a unit of its own."""
    return {Slot(*each): number for number, each in enumerate(of, 1)}


def done(schedule: Schedule, sensor_id: str, now: float, not_before: float = 0.0) -> int:
    [slot] = [slot for slot in schedule._due if slot.sensor_id == sensor_id]
    return schedule.done(slot, now, not_before=not_before)


def due_first(schedule: Schedule) -> tuple[str, float] | None:
    at = schedule.next_at()
    slot = None if at is None else schedule.most_urgent(at)
    return None if at is None or slot is None else (slot.sensor_id, at)


def opened(cost_s: float = 0.5, failures: int = 3) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        breaker.silent(100.0, cost_s)
    return breaker


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_circuit_is_closed_before_the_third_silence_in_a_row(failures: int) -> None:
    assert opened(failures=failures).open_for(100.0) == 0.0


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.5, 10.0), (2.0, 40.0), (60.0, 1200.0)])
def test_a_silent_unit_costs_its_line_at_most_a_twentieth_of_the_time(cost_s: float, pause_s: float) -> None:
    assert opened(cost_s).open_for(100.0) == pause_s


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 16.0), (8, 30.0), (2000, 30.0)]
)
def test_each_further_silence_doubles_the_pause_up_to_30_s(failures: int, pause_s: float) -> None:
    assert opened(0.01, failures).open_for(100.0) == pause_s


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
    assert Unit("host", None, Meter(0.0)).open_for(100.0) == 0.0
    assert Unit(3, opened(0.5), Meter(0.0)).open_for(104.0) == 6.0


@pytest.mark.parametrize(
    ("error", "left_s"),
    [
        (ReadTimeout("silent"), 10.0),
        (BrokenFrame("damaged"), 10.0),  # it costs the line as much
        (ReadFailed("bad"), 0.0),
        (DeviceRefused("no"), 0.0),
    ],
)
def test_only_silence_and_damage_keep_the_circuit_open_and_any_answer_closes_it(
    error: HubError, left_s: float
) -> None:
    unit = Unit(3, opened(0.5), Meter(0.0))
    unit.failed(error, 100.0, 0.5)
    assert unit.open_for(100.0) == left_s


@pytest.mark.parametrize("error", [TransportDown("unplugged"), CircuitOpen("left alone")])
def test_a_lost_line_and_a_refused_question_say_nothing_about_the_unit(error: HubError) -> None:
    alive, dead = Unit(3, Breaker(), Meter(0.0)), Unit(4, opened(0.5), Meter(0.0))
    for _ in range(5):
        alive.failed(error, 100.0, 0.5)
        dead.failed(error, 100.0, 0.5)
    assert (alive.open_for(100.0), dead.open_for(100.0)) == (0.0, 10.0)


def test_everything_is_due_at_once_in_configured_order() -> None:
    schedule = Schedule(slots(("b", 5), ("a", 5)), now=100.0)
    assert due_first(schedule) == ("b", 100.0)
    done(schedule, "b", 100.1)
    assert due_first(schedule) == ("a", 100.0)


def test_a_line_without_sensors_has_nothing_due() -> None:
    schedule = Schedule({}, now=0.0)
    assert (schedule.next_at(), schedule.most_urgent(1e9)) == (None, None)


def test_intervals_are_kept_without_drift() -> None:
    schedule = Schedule(slots(("a", 5)), now=100.0)
    done(schedule, "a", 100.4)
    done(schedule, "a", 105.9)
    assert due_first(schedule) == ("a", 110.0)


def test_a_read_before_its_turn_leaves_the_turn_where_it_is() -> None:
    schedule = Schedule(slots(("a", 5)), now=100.0)
    done(schedule, "a", 100.0)
    for moment in (101.0, 103.0, 104.9):  # somebody asks for fresh reads
        done(schedule, "a", moment)
    assert due_first(schedule) == ("a", 105.0)
    done(schedule, "a", 105.0)
    assert due_first(schedule) == ("a", 110.0)


def test_missed_turns_are_skipped_and_not_caught_up() -> None:
    schedule = Schedule(slots(("a", 5)), now=100.0)
    assert done(schedule, "a", 123.0) == 4
    assert due_first(schedule) == ("a", 128.0)
    assert done(schedule, "a", 128.5) == 0


def test_a_fast_sensor_does_not_starve_a_slow_one() -> None:
    schedule = Schedule(slots(("fast", 0.2), ("slow", 10)), now=0.0)
    now, slow_at = 0.0, []
    while now < 60:
        at = schedule.next_at()
        assert at is not None
        slot = schedule.most_urgent(max(now, at))
        assert slot is not None
        now = max(now, at) + 0.2  # reading takes as long as the fast one's interval
        slow_at += [now] if slot.sensor_id == "slow" else []
        schedule.done(slot, now)
    gaps = [after - before for before, after in zip(slow_at, slow_at[1:], strict=False)]
    assert len(gaps) >= 2
    assert max(gaps) <= 21  # a line that has too much to do reads it late by an interval at most


def test_soon_brings_a_sensor_forward_and_never_delays_it() -> None:
    schedule = Schedule(slots(("a", 5), ("b", 60)), now=100.0)
    done(schedule, "a", 100.0)
    done(schedule, "b", 100.0)
    schedule.soon("b", 101.0)
    assert due_first(schedule) == ("b", 101.0)
    schedule.soon("b", 200.0)
    assert due_first(schedule) == ("b", 101.0)


def test_a_probe_waits_for_its_time() -> None:
    schedule = Schedule(slots(("a", 5)), now=100.0)
    done(schedule, "a", 100.0, 110.0)
    assert due_first(schedule) == ("a", 110.0)


def test_all_is_due_when_the_line_comes_back() -> None:
    schedule = Schedule(slots(("a", 5), ("b", 60)), now=100.0)
    done(schedule, "a", 100.0, 300.0)
    done(schedule, "b", 100.0)
    schedule.all_soon(120.0)
    assert due_first(schedule) == ("a", 120.0)
    done(schedule, "a", 120.0)
    assert due_first(schedule) == ("b", 120.0)


def test_an_open_breaker_probes_at_once_when_the_line_is_new_and_opens_again_on_silence() -> None:
    breaker = Breaker()
    for _ in range(OPEN_AFTER_FAILURES):
        breaker.silent(now=100.0, cost_s=1.0)
    assert breaker.open_for(100.0) == 20.0
    breaker.probe_at_once()
    assert breaker.open_for(100.0) == 0
    breaker.silent(now=101.0, cost_s=1.0)
    assert breaker.open_for(101.0) == 20.0


# -- properties with intervals of their own -------------------------------------------------------------------------


def test_what_is_due_of_one_unit_at_the_same_interval_is_read_together() -> None:
    fast, slow, other = Slot("a", 1.0), Slot("a", 60.0), Slot("c", 1.0)
    neighbour = Slot("b", 1.0)  # another sensor with the same address
    schedule = Schedule({fast: 1, slow: 1, neighbour: 1, other: 2}, now=0.0)
    assert schedule.begin_with(fast, 0.0) == [fast, neighbour]
    assert schedule.most_urgent(0.0) == other  # what is being read has no turn
    for slot in (fast, slow, neighbour, other):
        schedule.done(slot, 0.0)
    assert schedule.begin_with(fast, 1.0) == [fast, neighbour]
    schedule.done(fast, 1.0)
    assert schedule.begin_with(fast, 2.0) == [fast]


def test_of_several_that_are_due_the_one_goes_first_whose_next_turn_comes_first() -> None:
    slow, fast = Slot("a", 60.0), Slot("b", 1.0)
    schedule = Schedule({slow: 1, fast: 2}, now=0.0)
    assert schedule.most_urgent(0.0) == fast
    schedule.done(fast, 0.0)
    assert schedule.most_urgent(0.0) == slow
    assert schedule.most_urgent(58.5) == fast
    schedule.done(fast, 60.0)
    assert schedule.most_urgent(60.5) == slow


def test_what_is_just_being_read_is_read_once_more_when_it_is_wanted_soon() -> None:
    slot = Slot("a", 60.0)
    schedule = Schedule({slot: 1}, now=0.0)
    schedule.begin_with(slot, 0.0)
    schedule.soon("a", 1.0)
    assert schedule.next_at() is None
    schedule.done(slot, 2.0)
    assert schedule.next_at() == 1.0


def test_soon_brings_all_of_a_sensor_forward_and_nothing_of_another() -> None:
    schedule = Schedule({Slot("a", 1.0): 1, Slot("a", 60.0): 1, Slot("b", 60.0): 1}, now=0.0)
    for slot in list(schedule._due):
        schedule.done(slot, 0.0)
    schedule.soon("a", 0.5)
    assert schedule._due == {Slot("a", 1.0): 0.5, Slot("a", 60.0): 0.5, Slot("b", 60.0): 60.0}


# -- how busy a line is ----------------------------------------------------------------------------------------------


def test_a_meter_tells_the_part_of_the_time_since_it_began() -> None:
    meter = Meter(100.0)
    assert meter.share(100.0) == 0.0
    meter.add(101.0, 0.5)
    meter.add(102.0, 0.5)
    assert meter.share(104.0) == 0.25


def test_a_meter_forgets_what_was_a_minute_ago() -> None:
    meter = Meter(0.0)
    meter.add(10.0, 6.0)
    meter.add(65.0, 3.0)
    assert meter.share(69.0) == 0.15
    assert meter.share(71.0) == 0.05
    assert meter.share(200.0) == 0.0


def test_asking_a_meter_changes_nothing() -> None:
    meter = Meter(0.0)
    meter.add(10.0, 6.0)
    assert meter.share(1000.0) == 0.0
    assert meter.share(60.0) == 0.1  # an earlier moment: another thread's look was late


def test_a_meter_of_many_short_transactions_keeps_few_entries() -> None:
    meter, now = Meter(0.0), 0.0
    for _ in range(10_000):
        now += 0.02
        meter.add(now, 0.01)
    assert abs(meter.share(now) - 0.5) < 0.02
    assert len(meter._spent) <= 62


def test_a_share_is_never_more_than_all_of_the_time() -> None:
    meter = Meter(0.0)
    meter.add(100.0, 100.0)
    assert meter.share(100.0) == 1.0


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ReadTimeout("silent"), Counters(errors=1, timeouts=1)),
        (BrokenFrame("checksum"), Counters(errors=1, crc_errors=1)),
        (ReadFailed("no number"), Counters(errors=1)),
        (DeviceRefused("exception 2"), Counters(errors=1, exceptions=1)),
        (TransportDown("unplugged"), Counters(errors=1)),
    ],
)
def test_failures_are_counted_by_their_kind(error: HubError, counted: Counters) -> None:
    counters = Counters()
    counters.failed(error)
    assert counters == counted
