"""The emulated motion detector's model."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from emulator.motion import MotionModel, MotionState

START = datetime(2026, 11, 20, tzinfo=UTC)


def day_of(model: MotionModel) -> list[MotionState]:
    return [model.at(START + timedelta(seconds=second)) for second in range(24 * 3600)]


def moving_s(day: list[MotionState], hours: range) -> int:
    return sum(state.motion_detected for state in day[hours.start * 3600 : hours.stop * 3600])


def lengths_s(day: list[MotionState]) -> list[int]:
    flags = "".join("1" if state.motion_detected else "0" for state in day)
    return [len(run) for run in flags.split("0") if run]


def test_motion_is_likelier_between_8_and_22_hours() -> None:
    day = day_of(MotionModel(START, UTC, random.Random(1)))
    assert moving_s(day, range(8, 22)) > 14 * 400
    assert moving_s(day, range(0, 8)) / 8 < moving_s(day, range(8, 22)) / 14 / 4


def test_a_motion_lasts_10_to_30_seconds() -> None:
    lengths = lengths_s(day_of(MotionModel(START, UTC, random.Random(2))))
    assert len(lengths) > 100
    # a pause below a second is not seen by this sampling: two motions then look like one
    assert min(lengths) >= 9
    assert sorted(lengths)[len(lengths) * 9 // 10] <= 31


def test_active_hours_are_local_ones() -> None:
    model = MotionModel(START, ZoneInfo("Asia/Tokyo"), random.Random(3))
    day = day_of(model)  # 14 to 22 UTC is 23 to 7 there
    assert moving_s(day, range(14, 22)) < moving_s(day, range(0, 8)) / 4


def test_the_same_seed_gives_the_same_day() -> None:
    days = [day_of(MotionModel(START, UTC, random.Random(seed))) for seed in (4, 4, 5)]
    assert days[0] == days[1] != days[2]


def test_the_battery_falls_slowly_and_never_below_its_floor() -> None:
    model = MotionModel(START, UTC, random.Random(6))
    levels = [model.at(START + timedelta(days=days)).battery_level for days in (0, 10, 20, 1000)]
    assert 85.0 <= levels[0] <= 100.0
    assert levels == sorted(levels, reverse=True)
    assert 4.0 < levels[0] - levels[1] < 6.0
    assert levels[3] == 5.0


def test_the_signal_jitters_around_a_level_in_dbm() -> None:
    signals = {state.signal_strength for state in day_of(MotionModel(START, UTC, random.Random(7)))}
    assert len(signals) == 7
    assert max(signals) - min(signals) == 6
    assert -70 < min(signals) < max(signals) < -40


def test_forced_motion_stays_until_it_is_released() -> None:
    model, natural = (MotionModel(START, UTC, random.Random(8)) for _ in range(2))
    model.force(True)
    assert all(model.at(START + timedelta(hours=hour)).motion_detected for hour in range(24))
    model.force(False)
    assert not any(
        model.at(START + timedelta(hours=24, minutes=minute)).motion_detected for minute in range(600)
    )
    model.force(None)
    later = [START + timedelta(hours=34, seconds=second) for second in range(7200)]
    natural_flags = [natural.at(when).motion_detected for when in later]
    assert any(natural_flags)
    assert any(model.at(when).motion_detected for when in later)


def test_a_clock_set_back_holds_the_state() -> None:
    model = MotionModel(START, UTC, random.Random(9))
    later = model.at(START + timedelta(hours=12)).motion_detected
    assert model.at(START - timedelta(days=2)).motion_detected is later
