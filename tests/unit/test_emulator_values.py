"""The emulated sensors' value model."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from emulator.values import GENERIC, PROFILES, Signal, curve, register_of, stream

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
DAY = [MIDNIGHT + timedelta(minutes=minute) for minute in range(24 * 60)]


def values(kind: str, seed: int | None = 1, times: list[datetime] = DAY) -> list[float]:
    signal = Signal(kind, UTC, stream(seed, kind))
    return [signal.at(when) for when in times]


def test_temperature_is_22_plus_minus_3_over_the_day_with_noise_of_half_a_degree() -> None:
    day = values("temperature")
    assert min(day) >= 18.5
    assert max(day) <= 25.5
    assert min(day) < 19.2
    assert max(day) > 24.8
    assert curve(PROFILES["temperature"], MIDNIGHT.replace(hour=15)) == pytest.approx(25.0)
    assert curve(PROFILES["temperature"], MIDNIGHT.replace(hour=3)) == pytest.approx(19.0)


def test_humidity_is_45_plus_minus_10_over_the_day() -> None:
    day = values("humidity")
    assert 34.5 <= min(day) < 35.5
    assert 54.5 < max(day) <= 55.5


def test_humidity_never_leaves_20_to_80() -> None:
    profile = PROFILES["humidity"]
    assert (profile.low, profile.high) == (20.0, 80.0)


def test_illuminance_is_dark_at_night_and_never_negative() -> None:
    day = values("illuminance")
    assert min(day) == 0.0
    assert max(day) > 1490
    assert max(values("illuminance", times=DAY[:240])) == 0.0


@pytest.mark.parametrize("kind", [*PROFILES, "something_new"])
def test_every_kind_fits_an_int16_register_of_scale_0_1(kind: str) -> None:
    assert all(-3276.8 <= value <= 3276.7 for value in values(kind))


def test_an_unknown_kind_behaves_as_generic() -> None:
    signal, generic = Signal("x", UTC, random.Random(3)), Signal("generic", UTC, random.Random(3))
    assert [signal.at(when) for when in DAY] == [generic.at(when) for when in DAY]
    assert GENERIC is PROFILES["generic"]


def test_the_same_seed_gives_the_same_sequence_and_another_seed_another() -> None:
    assert values("temperature", seed=5) == values("temperature", seed=5)
    assert values("temperature", seed=5) != values("temperature", seed=6)
    assert values("temperature", seed=None) != values("temperature", seed=None)


def test_two_devices_of_one_seed_have_streams_of_their_own() -> None:
    assert stream(5, "value", "a").random() != stream(5, "value", "b").random()


def test_the_value_holds_for_a_second_and_changes_after_it() -> None:
    signal = Signal("temperature", UTC, stream(1, "t"))
    first = signal.at(MIDNIGHT)
    assert signal.at(MIDNIGHT + timedelta(seconds=0.9)) == pytest.approx(first, abs=0.001)
    assert abs(signal.at(MIDNIGHT + timedelta(seconds=1)) - first) > 0.001


def test_the_value_goes_on_changing_after_the_wall_clock_was_set_back() -> None:
    signal = Signal("temperature", UTC, stream(1, "t"))
    first = signal.at(MIDNIGHT)
    assert abs(signal.at(MIDNIGHT - timedelta(days=1)) - first) > 0.001


def test_the_day_follows_the_time_zone() -> None:
    tokyo = Signal("temperature", ZoneInfo("Asia/Tokyo"), stream(1, "t"))
    utc = Signal("temperature", UTC, stream(1, "t"))
    at_15_in_tokyo = MIDNIGHT.replace(hour=6)
    assert tokyo.at(at_15_in_tokyo) == pytest.approx(utc.at(MIDNIGHT.replace(hour=15)))


@pytest.mark.parametrize(
    ("value", "register"),
    [
        (22.5, 225),
        (0.0, 0),
        (-0.1, 65535),
        (-10.0, 65436),
        (3276.7, 32767),
        (9999.0, 32767),
        (-9999.0, 32768),
    ],
)
def test_a_value_becomes_a_twos_complement_register(value: float, register: int) -> None:
    assert register_of(value) == register
