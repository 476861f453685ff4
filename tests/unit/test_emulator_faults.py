"""When a fault strikes: by chance, for a while, for the next N exchanges."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from emulator.faults import HTTP, MODBUS, RAPI, SERIAL, TEXT, Fault, Faults, Kind, NotPossibleError


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def faults_of(*first: Fault, clock: Clock | None = None, seed: int = 1) -> Faults:
    return Faults(MODBUS, random.Random(seed), first, clock or Clock())


def test_without_faults_nothing_strikes() -> None:
    assert faults_of().strike() == {}


def test_a_fault_without_bounds_strikes_always() -> None:
    silence = Fault(kind=Kind.SILENCE)
    faults = faults_of(silence)
    assert [faults.strike() for _ in range(5)] == [{Kind.SILENCE: silence}] * 5


def test_a_counted_fault_strikes_the_next_n_and_is_gone() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, count=3))
    assert [bool(faults.strike()) for _ in range(5)] == [True, True, True, False, False]
    assert faults.active() == []


def test_a_fault_with_a_duration_is_over_then() -> None:
    clock = Clock()
    faults = faults_of(Fault(kind=Kind.DELAY, duration_s=5, seconds=0.5), clock=clock)
    assert faults.strike()[Kind.DELAY].lasts_s == 0.5
    clock.now += 3
    (active,) = faults.active()
    assert (active.struck, active.remaining_s) == (1, 2.0)
    clock.now += 2
    assert (faults.strike(), faults.active()) == ({}, [])


def test_a_share_of_exchanges_is_struck_and_the_same_seed_strikes_the_same() -> None:
    runs = [
        [bool(faults.strike()) for _ in range(2000)]
        for faults in (faults_of(Fault(kind=Kind.SILENCE, probability=0.3), seed=seed) for seed in (1, 1, 2))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert 0.25 < sum(runs[0]) / 2000 < 0.35


def test_a_counted_fault_with_a_probability_counts_what_it_struck() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, probability=0.5, count=10))
    assert sum(bool(faults.strike()) for _ in range(200)) == 10


def test_the_newest_of_a_kind_wins_and_kinds_come_together() -> None:
    faults = faults_of(Fault(kind=Kind.EXCEPTION, code=1), Fault(kind=Kind.CRC_ERROR))
    faults.inject(Fault(kind=Kind.EXCEPTION, code=6))
    struck = faults.strike()
    assert set(struck) == {Kind.EXCEPTION, Kind.CRC_ERROR}
    assert struck[Kind.EXCEPTION].says == 6


def test_a_fault_is_taken_back_by_its_id() -> None:
    faults = faults_of()
    first, second = (faults.inject(Fault(kind=kind)) for kind in (Kind.SILENCE, Kind.ECHO))
    assert faults.remove(first)
    assert not faults.remove(first)
    assert [active.fault_id for active in faults.active()] == [second]
    faults.clear()
    assert faults.active() == []


def test_only_what_is_possible_can_be_injected() -> None:
    with pytest.raises(NotPossibleError, match="hang is not one of crc_error, delay"):
        faults_of().inject(Fault(kind=Kind.HANG))


def test_every_kind_is_possible_somewhere() -> None:
    assert set(Kind) == SERIAL | TEXT | RAPI | MODBUS | HTTP


@pytest.mark.parametrize(
    ("kind", "lasts_s"), [(Kind.DELAY, 1.0), (Kind.HANG, 8.0), (Kind.DISCONNECT, 1.0), (Kind.ECHO, 0.0)]
)
def test_a_strike_lasts_as_long_as_its_kind_unless_it_is_said(kind: Kind, lasts_s: float) -> None:
    assert Fault(kind=kind).lasts_s == lasts_s


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "tired"}, "kind"),
        ({"kind": "silence", "probability": 1.1}, "probability"),
        ({"kind": "silence", "count": 0}, "count"),
        ({"kind": "silence", "duration_s": 0}, "duration_s"),
        ({"kind": "silence", "seconds": 1}, "seconds means nothing for silence"),
        ({"kind": "delay", "code": 1}, "code means nothing for delay"),
        ({"kind": "exception", "code": 256}, r"code of exception must be 1\.\.255"),
        ({"kind": "http_error", "code": 200}, r"code of http_error must be 400\.\.599"),
        ({"kind": "echo", "size_bytes": 3}, "size_bytes means nothing for echo"),
        ({"kind": "silence", "weather": 1}, "weather"),
    ],
)
def test_a_wrong_fault_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Fault.model_validate(wrong)


def test_a_counted_fault_strikes_no_more_often_from_many_threads() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, count=500))
    struck: list[int] = []

    def ask() -> None:
        struck.append(sum(bool(faults.strike()) for _ in range(400)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(struck) == 500
