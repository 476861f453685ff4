"""When longer pauses begin and end."""

from __future__ import annotations

import pytest

from sensor_hub.outputs.flapping import MAX_PAUSE_S, STEADY_S, Flapping


def losses(*moments: float) -> tuple[Flapping, list[bool]]:
    """A connection each second before these moments, lost at them."""
    flapping = Flapping()
    told = []
    for at in moments:
        flapping.connected(at - 1)
        told.append(flapping.lost(at))
    return flapping, told


def test_the_third_loss_within_15_seconds_is_told_once() -> None:
    flapping, told = losses(1, 3, 16, 18, 20)
    assert told == [False, False, True, False, False]
    assert flapping.now


@pytest.mark.parametrize("moments", [(1,), (1, 2), (1, 3, 17), (1, 100, 200, 300)])
def test_losses_now_and_then_are_an_accident(moments: tuple[float, ...]) -> None:
    flapping, told = losses(*moments)
    assert not any(told)
    assert (flapping.now, flapping.pause_s) == (False, 1)


def test_pauses_grow_to_a_minute() -> None:
    flapping, _ = losses(1, 2)
    pauses = []
    for at in range(3, 12):
        flapping.connected(at - 0.5)
        flapping.lost(at)
        pauses.append(flapping.pause_s)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert pauses[-1] == MAX_PAUSE_S


def test_a_connection_that_stands_for_a_minute_ends_it() -> None:
    flapping, _ = losses(1, 2, 3)
    flapping.connected(10)
    assert not flapping.steady(10 + STEADY_S - 0.1)
    assert flapping.steady(10 + STEADY_S)
    assert not flapping.steady(10 + STEADY_S)
    assert (flapping.now, flapping.pause_s) == (False, 1)
    assert not flapping.lost(80)


def test_a_minute_counts_even_if_nobody_looked_before_the_next_loss() -> None:
    flapping, _ = losses(1, 2, 3)
    flapping.connected(10)
    assert not flapping.lost(10 + STEADY_S)
    assert (flapping.now, flapping.pause_s) == (False, 1)


def test_no_connection_at_all_is_not_steady() -> None:
    flapping, _ = losses(1, 2, 3)
    assert not flapping.steady(1000)
