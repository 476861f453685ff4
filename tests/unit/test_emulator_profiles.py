"""What profiles do to a value over time, and who stops them."""

from __future__ import annotations

import math
import random
import threading
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from emulator.controls import Control, Controls, number, switch, whole
from emulator.faults import MODBUS, Faults
from emulator.profile_runner import KEPT, MAX_RUNNING, ProfileRunner, Running, State
from emulator.profiles import MAX_POINTS, Course, Profile, course_of, points_of
from emulator.registry import BadValueError, UnknownNameError
from tests.support import eventually

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))
ADAPTER: TypeAdapter[Any] = TypeAdapter(Profile)


def profile(kind: str, **facts: Any) -> Any:
    return ADAPTER.validate_python({"kind": kind, **facts})


def course(kind: str, *, now: Any = 20.0, **facts: Any) -> Course:
    return course_of(profile(kind, **facts), now, NOON)


class Oven(Controls):
    """A measured number, a whole number, a switch, and something to look at."""

    def __init__(self) -> None:
        super().__init__("oven", "oven", Faults(MODBUS, random.Random(1)))
        self.heat = 20.0
        self.forced: float | None = None
        self.level, self.on = 0, False
        self.controls = {
            "heat": Control(
                lambda: self.heat if self.forced is None else self.forced,
                *number(lambda value: setattr(self, "forced", value), 0, 100),
                lambda: setattr(self, "forced", None),
            ),
            "level": Control(lambda: self.level, *whole(lambda value: setattr(self, "level", value), 0, 9)),
            "on": Control(lambda: self.on, *switch(lambda value: setattr(self, "on", value))),
            "age": Control(lambda: 3),
        }


class Bench:
    """A runner whose time is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.oven = Oven()
        self.runner = ProfileRunner(lambda: NOON, lambda: self.now, threaded=False)

    def run(self, value: str, kind: str, **facts: Any) -> Running:
        return self.runner.run(self.oven, value, profile(kind, **facts))

    def after(self, seconds: float, value: str = "heat") -> Any:
        self.now += seconds
        self.runner.pass_time()
        return self.oven.values()[value]


# -- the course of a value -----------------------------------------------------------------------------------------


def test_steps_come_at_their_times() -> None:
    steps = course("step", steps=[{"at_s": 0, "to": 1}, {"at_s": 10, "to": 2}, {"at_s": 20, "to": None}])
    assert [steps.at(t) for t in (0, 9.9, 10, 19.9, 20, 99)] == [1, 1, 2, 2, None, None]
    assert steps.lasts_s == 20
    assert course("step", steps=[{"at_s": 0, "to": True}], lasts_s=5).lasts_s == 5


def test_a_ramp_goes_evenly_from_what_the_value_is() -> None:
    assert [course("ramp", to=30, lasts_s=10).at(t) for t in (0, 2.5, 10, 50)] == [20, 22.5, 30, 30]
    assert course("ramp", **{"from": 0, "to": -10, "lasts_s": 4}).at(1) == -2.5


def test_a_ramp_of_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="a ramp is for numbers"):
        course("ramp", now=True, to=3, lasts_s=1)


def test_a_day_is_highest_at_its_peak_and_may_be_short() -> None:
    day = course("day", mean=20, swing=5, peak_hour=15)  # it is 12 h
    assert day.at(3 * 3600) == pytest.approx(25)
    assert day.at(15 * 3600) == pytest.approx(15)
    assert day.lasts_s is None
    fast = course("day", mean=20, swing=5, peak_hour=15, day_s=24, lasts_s=48)
    assert [fast.at(t) for t in (3, 15, 27)] == pytest.approx([25, 15, 25])
    assert fast.lasts_s == 48


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0,20\n10,25\n", [(0, 20), (10, 25)]),
        ("time,value\n5,20\n\n# a remark\n15,25.5", [(0, 20), (10, 25.5)]),
        ("t;v\n0;1\n1;2", [(0, 1), (1, 2)]),
        ("0\ttrue\n1\toff", [(0, True), (1, False)]),
        ("2026-11-20T10:00:00Z,1\n2026-11-20T11:00:30+01:00,2", [(0, 1), (30, 2)]),
        ("0,gfci\n3,none\n", [(0, "gfci"), (3, "none")]),
    ],
)
def test_a_csv_is_read(text: str, points: list[tuple[float, Any]]) -> None:
    assert points_of(text) == points


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("time,value\n", "must have 1.."),
        ("0,1\nsoon,2", "row 2 must be a time and a value"),
        ("0,1\n1", "row 2 must be a time and a value"),
        ("5,1\n4,2", "must not go back"),
        ("0,1\n99999999,2", "longer than a year"),
        ("0,nan", "nan is no number"),
        ("\n".join(f"{n},1" for n in range(MAX_POINTS + 1)), f"1..{MAX_POINTS} rows"),
    ],
)
def test_a_csv_that_makes_no_sense_is_refused_with_its_row(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        points_of(text)


def reason_to_refuse(text: str) -> str:
    try:
        points = points_of(text)
    except ValueError as error:
        return str(error)
    return "" if points[0][0] == 0.0 else "it does not begin at 0"


@example("\r0")
@example("\ufeff0,1")
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    assert reason_to_refuse(text)[:6] in ("", "text: ")


def test_a_csv_is_replayed_in_stairs_or_smoothly_and_faster() -> None:
    text = "0,20\n10,30\n20,0"
    assert [course("csv", text=text).at(t) for t in (0, 9, 10, 25)] == [20, 20, 30, 0]
    fast = course("csv", text=text, smooth=True, speed=10)
    assert [fast.at(t) for t in (0, 0.5, 1.5, 3)] == pytest.approx([20, 25, 15, 0])
    assert fast.lasts_s == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "step", "steps": []},
        {"kind": "step", "steps": [{"at_s": 3, "to": 1}, {"at_s": 1, "to": 2}]},
        {"kind": "step", "steps": [{"at_s": 0, "to": 1}], "repeat": True},
        {"kind": "step", "steps": [{"at_s": 0, "to": float("nan")}]},
        {"kind": "step", "steps": [{"at_s": 0, "to": float("inf")}]},
        {"kind": "ramp", "to": 1, "lasts_s": 0},
        {"kind": "ramp", "to": float("nan"), "lasts_s": 1},
        {"kind": "day", "mean": 1, "swing": 1, "peak_hour": 25},
        {"kind": "csv", "text": "0,a\n1,2", "smooth": True},
        {"kind": "csv", "text": "0,1", "repeat": True},
        {"kind": "spiral"},
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(facts)


# -- carrying it out -----------------------------------------------------------------------------------------------


def test_a_ramp_sets_the_value_and_holds_its_end() -> None:
    bench = Bench()
    begun = bench.run("heat", "ramp", to=30, lasts_s=10)
    assert [bench.after(t) for t in (5, 4, 1, 100)] == [25, 29, 30, 30]
    assert (begun.state, bench.oven.held()) == (State.ENDED, ("heat",))


def test_a_value_goes_back_to_its_model_if_it_shall() -> None:
    bench = Bench()
    bench.run("heat", "step", steps=[{"at_s": 0, "to": 80}], lasts_s=5, then="release")
    assert [bench.after(t) for t in (0, 4.9, 0.2)] == [80, 80, 20]
    assert bench.oven.held() == ()


def test_a_profile_that_repeats_begins_anew() -> None:
    bench = Bench()
    begun = bench.run("heat", "csv", text="0,10\n5,20\n10,20", repeat=True)
    assert [bench.after(t) for t in (0, 6, 5, 5, 5)] == [10, 20, 10, 20, 10]
    assert begun.state is State.RUNNING


def test_whole_numbers_and_switches_get_what_they_take() -> None:
    bench = Bench()
    bench.run("level", "ramp", to=4, lasts_s=4)
    bench.run("on", "csv", text="0,0\n3,1")
    assert [(bench.after(t, "level"), bench.oven.on) for t in (1.4, 1.4, 1)] == [
        (1, False),
        (3, False),
        (4, True),
    ]


def test_a_value_taken_in_hand_stops_its_profile_and_no_other() -> None:
    bench = Bench()
    heat, level = bench.run("heat", "ramp", to=30, lasts_s=10), bench.run("level", "ramp", to=9, lasts_s=9)
    bench.runner.set_by_hand(bench.oven, "heat", 55.0)
    assert (bench.after(5), bench.oven.level) == (55, 5)
    assert (heat.state, level.state) == (State.STOPPED, State.RUNNING)


def test_a_value_that_cannot_be_set_stops_nothing() -> None:
    bench = Bench()
    heat = bench.run("heat", "ramp", to=30, lasts_s=10)
    with pytest.raises(BadValueError, match=r"0\.\.100"):
        bench.runner.set_by_hand(bench.oven, "heat", 101)
    assert (bench.after(5), heat.state) == (25, State.RUNNING)


def test_a_value_without_a_model_cannot_be_released_and_its_profile_goes_on() -> None:
    bench = Bench()
    level = bench.run("level", "ramp", to=9, lasts_s=9)
    with pytest.raises(BadValueError, match="level of oven has no model to go back to"):
        bench.runner.set_by_hand(bench.oven, "level", None)
    assert (bench.after(5, "level"), level.state) == (5, State.RUNNING)
    bench.runner.set_by_hand(bench.oven, "heat", None)  # it has one, and is not held
    assert bench.oven.values()["heat"] == 20


def test_a_profile_that_meets_a_mistake_fails_and_the_others_go_on() -> None:
    bench = Bench()
    level, heat = bench.run("level", "ramp", to=9, lasts_s=9), bench.run("heat", "ramp", to=30, lasts_s=10)
    level.course = Course(lambda _: math.nan, 9)
    assert (bench.after(5), heat.state) == (25, State.RUNNING)
    assert (level.state, level.error) == (
        State.FAILED,
        "ValueError('cannot convert float NaN to integer')",
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_profiles_whose_thread_has_died_get_another() -> None:
    ended: list[threading.Thread] = []

    def now() -> float:
        if not ended and threading.current_thread().name == "profiles":
            ended.append(threading.current_thread())
            raise SystemExit
        return time.monotonic()

    oven, runner = Oven(), ProfileRunner(lambda: NOON, now)
    try:
        runner.run(oven, "heat", profile("ramp", to=30, lasts_s=0.01))
        eventually(lambda: ended and not ended[0].is_alive())
        begun = runner.run(oven, "level", profile("ramp", to=4, lasts_s=0.01))
        eventually(lambda: begun.state is State.ENDED)
        assert oven.level == 4
    finally:
        runner.close()


def test_a_new_profile_takes_the_place_of_the_old_one() -> None:
    bench = Bench()
    old = bench.run("heat", "ramp", to=30, lasts_s=10)
    bench.after(5)
    bench.run("heat", "ramp", to=0, lasts_s=5)  # from 25
    assert (bench.after(1), old.state) == (20, State.STOPPED)


def test_a_profile_can_be_stopped_and_all_of_them() -> None:
    bench = Bench()
    first = bench.run("heat", "ramp", to=30, lasts_s=10, then="release")
    bench.after(5)
    assert bench.runner.stop(first.profile_id).state is State.STOPPED
    assert bench.after(1) == 20
    bench.run("heat", "ramp", to=30, lasts_s=10)
    bench.run("level", "ramp", to=9, lasts_s=9)
    assert (bench.runner.stop_all(), bench.runner.stop_all()) == (2, 0)
    with pytest.raises(UnknownNameError, match="no profile 99"):
        bench.runner.stop(99)


def test_a_profile_whose_later_value_cannot_be_fails_with_the_reason() -> None:
    bench = Bench()
    begun = bench.run("heat", "step", steps=[{"at_s": 0, "to": 1}, {"at_s": 5, "to": 1000}])
    assert bench.after(6) == 1
    assert (begun.state, begun.error) == (State.FAILED, "heat of oven must be a number, 0..100, not 1000")


@pytest.mark.parametrize(
    ("value", "kind", "facts", "error", "why"),
    [
        ("cold", "ramp", {"to": 1, "lasts_s": 1}, UnknownNameError, "oven has no cold; it has heat, level"),
        ("age", "ramp", {"to": 1, "lasts_s": 1}, BadValueError, "can only be looked at"),
        ("heat", "step", {"steps": [{"at_s": 0, "to": 101}]}, BadValueError, "0..100"),
        ("on", "ramp", {"to": 1, "lasts_s": 1}, BadValueError, "on of oven: a ramp is for numbers"),
        (
            "level",
            "ramp",
            {"to": 1, "lasts_s": 1, "then": "release"},
            BadValueError,
            "level of oven has no model",
        ),
        (
            "level",
            "step",
            {"steps": [{"at_s": 0, "to": 1}, {"at_s": 5, "to": None}]},
            BadValueError,
            "level of oven has no model to go back to",
        ),
    ],
)
def test_what_cannot_begin_is_refused_at_once(
    value: str, kind: str, facts: dict[str, Any], error: type[Exception], why: str
) -> None:
    bench = Bench()
    with pytest.raises(error, match=why):
        bench.run(value, kind, **facts)
    assert bench.runner.all() == []


def test_there_is_a_bound_to_what_is_kept_and_to_what_runs() -> None:
    bench = Bench()
    for _ in range(KEPT + 20):
        bench.run("heat", "ramp", to=30, lasts_s=10)
    assert len(bench.runner.all()) == KEPT + 1
    for _ in range(MAX_RUNNING - 1):
        bench.runner.run(Oven(), "heat", profile("ramp", to=30, lasts_s=10))
    with pytest.raises(BadValueError, match="profiles run already"):
        bench.runner.run(Oven(), "heat", profile("ramp", to=30, lasts_s=10))


def test_the_runners_own_thread_carries_a_profile_out_and_ends_with_it() -> None:
    oven, runner = Oven(), ProfileRunner(lambda: NOON)
    begun = runner.run(oven, "heat", profile("ramp", to=30, lasts_s=0.3))
    eventually(lambda: begun.state is State.ENDED)
    assert oven.values()["heat"] == 30
    again = runner.run(oven, "heat", profile("ramp", to=40, lasts_s=0.1))
    eventually(lambda: again.state is State.ENDED)
    runner.close()
    assert oven.values()["heat"] == 40
