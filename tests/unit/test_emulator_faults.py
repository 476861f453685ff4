"""When a fault strikes: by chance, for a while, for the next N exchanges."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from emulator.faults import (
    HTTP,
    MODBUS,
    RAPI,
    SERIAL,
    TEXT,
    Fault,
    Faults,
    Kind,
    NotPossibleError,
    Strikes,
)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def faults_of(*first: Fault, clock: Clock | None = None, seed: int = 1) -> Faults:
    return Faults(MODBUS, random.Random(seed), first, clock or Clock())


def strike(*owners: Faults) -> dict[Kind, Fault]:
    """What strikes an exchange on which all kinds can act."""
    return dict(Strikes(*owners))


def test_without_faults_nothing_strikes() -> None:
    assert strike(faults_of()) == {}


def test_a_fault_without_bounds_strikes_always() -> None:
    silence = Fault(kind=Kind.SILENCE)
    faults = faults_of(silence)
    assert [strike(faults) for _ in range(5)] == [{Kind.SILENCE: silence}] * 5


def test_a_counted_fault_strikes_the_next_n_and_is_gone() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, count=3))
    assert [bool(strike(faults)) for _ in range(5)] == [True, True, True, False, False]
    assert faults.active() == []


def test_a_fault_with_a_duration_is_over_then() -> None:
    clock = Clock()
    faults = faults_of(Fault(kind=Kind.DELAY, duration_s=5, seconds=0.5), clock=clock)
    assert strike(faults)[Kind.DELAY].lasts_s == 0.5
    clock.now += 3
    (active,) = faults.active()
    assert (active.struck, active.remaining_s) == (1, 2.0)
    clock.now += 2
    assert (strike(faults), faults.active()) == ({}, [])


def test_a_share_of_exchanges_is_struck_and_the_same_seed_strikes_the_same() -> None:
    runs = [
        [bool(strike(faults)) for _ in range(2000)]
        for faults in (faults_of(Fault(kind=Kind.SILENCE, probability=0.3), seed=seed) for seed in (1, 1, 2))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert 0.25 < sum(runs[0]) / 2000 < 0.35


def test_a_counted_fault_with_a_probability_counts_what_it_struck() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, probability=0.5, count=10))
    assert sum(bool(strike(faults)) for _ in range(200)) == 10


def test_the_newest_of_a_kind_wins_and_kinds_come_together() -> None:
    faults = faults_of(Fault(kind=Kind.EXCEPTION, code=1), Fault(kind=Kind.CRC_ERROR))
    faults.inject(Fault(kind=Kind.EXCEPTION, code=6))
    struck = strike(faults)
    assert set(struck) == {Kind.EXCEPTION, Kind.CRC_ERROR}
    assert struck[Kind.EXCEPTION].says == 6


def test_only_the_fault_that_strikes_is_counted_and_the_one_before_it_follows() -> None:
    faults = faults_of(Fault(kind=Kind.EXCEPTION, code=1, count=1))
    faults.inject(Fault(kind=Kind.EXCEPTION, code=6, count=2))
    said = [struck[Kind.EXCEPTION].says for _ in range(4) if (struck := Strikes(faults))]
    assert said == [6, 6, 1]


def test_a_newer_fault_that_chance_spares_lets_the_older_strike() -> None:
    faults = faults_of(Fault(kind=Kind.EXCEPTION, code=1))
    faults.inject(Fault(kind=Kind.EXCEPTION, code=6, probability=0.5))
    assert {strike(faults)[Kind.EXCEPTION].says for _ in range(100)} == {1, 6}


@pytest.mark.parametrize("newest_is_the_lines", [False, True])
def test_the_newest_wins_whether_it_is_the_devices_or_the_lines(newest_is_the_lines: bool) -> None:
    device, line = faults_of(), faults_of()
    for owner, code in ((device, 1), (line, 2), (device, 3)) + (((line, 4),) if newest_is_the_lines else ()):
        owner.inject(Fault(kind=Kind.EXCEPTION, code=code, count=1))
    struck = Strikes(device, line)[Kind.EXCEPTION]
    assert struck.says == (4 if newest_is_the_lines else 3)
    assert sum(active.struck for owner in (device, line) for active in owner.active()) == 0  # it was the last


def test_a_kind_that_nobody_asks_for_is_not_spent() -> None:
    faults = faults_of(Fault(kind=Kind.EXCEPTION, count=1), Fault(kind=Kind.SILENCE, count=1))
    assert Kind.SILENCE in Strikes(faults)
    assert [(each.fault.kind, each.struck) for each in faults.active()] == [(Kind.EXCEPTION, 0)]
    assert Kind.EXCEPTION in Strikes(faults)
    assert faults.active() == []


def test_an_exchange_is_struck_once_however_often_it_is_asked() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, count=2))
    struck = Strikes(faults)
    assert (Kind.SILENCE in struck, struck[Kind.SILENCE].count, len(struck)) == (True, 2, 1)
    assert [active.struck for active in faults.active()] == [1]


@pytest.mark.parametrize(("size", "left"), [(None, b"abc"), (0, b""), (2, b"ab"), (9, b"abcde")])
def test_a_truncation_leaves_half_or_as_much_as_was_asked_for(size: int | None, left: bytes) -> None:
    assert Fault(kind=Kind.TRUNCATION, size_bytes=size).left_of(b"abcde") == left


def test_a_fault_is_taken_back_by_its_id() -> None:
    faults = faults_of()
    first, second = (faults.inject(Fault(kind=kind)) for kind in (Kind.SILENCE, Kind.ECHO))
    assert faults.remove(first)
    assert not faults.remove(first)
    assert [active.fault_id for active in faults.active()] == [second]
    faults.clear()
    assert faults.active() == []


@pytest.mark.parametrize("how", ["clear", "remove"])
def test_who_waits_out_a_strike_is_woken_when_its_fault_is_taken_back(how: str) -> None:
    device, line = faults_of(), faults_of()
    device.inject(Fault(kind=Kind.SILENCE))
    fault_id = device.inject(Fault(kind=Kind.DELAY))
    woken: list[str] = []
    struck = Strikes(device, line)
    with struck.waiting(Kind.DELAY, lambda: woken.append("awake")):
        line.clear()
        device.remove(fault_id - 1)
        assert woken == []
        if how == "clear":
            device.clear()
        else:
            device.remove(fault_id)
    device.clear()
    assert woken == ["awake"]


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
        ({"kind": "garbage", "size_bytes": 65537}, r"size_bytes of garbage must be 0\.\.65536"),
    ],
)
def test_a_wrong_fault_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Fault.model_validate(wrong)


def test_a_counted_fault_strikes_no_more_often_from_many_threads() -> None:
    faults = faults_of(Fault(kind=Kind.SILENCE, count=500))
    struck: list[int] = []

    def ask() -> None:
        struck.append(sum(bool(strike(faults)) for _ in range(400)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(struck) == 500
