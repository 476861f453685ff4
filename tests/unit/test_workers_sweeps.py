"""Reading points: several transactions, several intervals, and what becomes of what could not be read."""

from __future__ import annotations

import pytest

from sensor_hub.crew.messages import Answer
from sensor_hub.drivers.base import PropertySpec
from sensor_hub.errors import DeviceRefused, HubError, ReadFailed, ReadTimeout, TransportDown
from sensor_hub.line_report import LineState
from sensor_hub.workers.messages import LineNews, Taken
from tests.unit.scripted_line import SILENCE_S, Bare, ByPoints

NUMBER = PropertySpec("number")


def bare(**names: float | None) -> Bare:
    """Points by name, with their intervals (None: the device's, which is 10 s); each holds its place."""
    specs = {name: PropertySpec("number", interval_s=interval_s) for name, interval_s in names.items()}
    made = Bare(specs, ByPoints)
    made.driver.holds = {name: number for number, name in enumerate(names, 1)}
    return made


def test_all_points_of_a_device_are_one_reading_however_many_transactions_it_takes() -> None:
    line = bare(p=None, q=None, r=None)
    line.driver.at_once = 1
    line.work()
    assert line.driver.blocks == [("p",), ("q",), ("r",)]
    assert line.taken() == [{"p": 1, "q": 2, "r": 3}]
    assert line.missed() == []


def test_commands_and_questions_come_between_the_transactions_of_a_background_read() -> None:
    specs = {"p": NUMBER, "q": NUMBER, "x": PropertySpec("number", writable=True, readable=False)}
    line = Bare(specs, ByPoints)
    line.driver.holds, line.driver.at_once = {"p": 1, "q": 2}, 1
    line.engine.turn()  # opens the line and reads the first
    assert line.driver.blocks == [("p",)]
    line.command(x=5)
    line.engine.turn()
    assert (line.driver.done[-1], line.driver.blocks) == (("write", "a"), [("p",)])
    line.work()
    assert line.driver.blocks[1] == ("q",)


def test_a_device_that_was_written_during_its_background_read_is_read_again_at_once() -> None:
    specs = {"p": NUMBER, "q": NUMBER, "x": PropertySpec("number", writable=True, readable=False)}
    line = Bare(specs, ByPoints)
    line.driver.holds, line.driver.at_once = {"p": 1, "q": 2}, 1
    line.engine.turn()
    line.command(x=5)
    line.engine.turn()
    line.driver.holds = {"p": 5, "q": 2}
    line.work()
    assert line.taken() == [{"p": 1, "q": 2}, {"p": 5, "q": 2}]


def test_a_refused_block_is_read_in_finer_pieces_in_the_same_turn() -> None:
    line = bare(p=None, q=None, r=None, s=None)
    line.driver.refuses = {"never alone"}
    line.driver.refuses = {"s"}
    line.work()
    assert line.driver.blocks[:3] == [("p", "q", "r", "s"), ("p", "q"), ("r", "s")]
    assert line.taken() == [{"p": 1, "q": 2, "r": 3}]  # without what it has not got
    assert line.missed() == []
    line.driver.blocks.clear()
    line.later(10)
    assert ("s",) not in line.driver.blocks
    assert line.taken() == [{"p": 1, "q": 2, "r": 3}]


def test_a_device_that_refuses_everything_says_so() -> None:
    line = Bare({"p": NUMBER})
    line.driver.fails["a"] = DeviceRefused("exception 2")
    line.work()
    assert line.missed() == [("a", "DEVICE_REFUSED", True)]
    assert line.taken() == []


@pytest.mark.parametrize("error", [ReadFailed("bad"), ReadTimeout("silent"), DeviceRefused("busy")])
def test_one_failed_transaction_makes_the_reading_fail_and_half_of_it_is_not_told(error: HubError) -> None:
    line = bare(p=None, q=None)
    line.driver.at_once = 1
    line.engine.turn()
    line.driver.fails["a"] = error
    line.work()
    assert line.taken() == []
    assert line.missed() == [("a", error.code, True)]
    line.driver.fails.clear()
    line.later(10)
    assert line.taken() == [{"p": 1, "q": 2}]


def test_a_unit_found_dead_is_not_asked_for_the_rest() -> None:
    line = bare(p=None, q=None, r=None, s=None, t=None)
    line.driver.at_once = 1
    line.driver.fails["a"] = ReadTimeout("silent")
    line.work()
    assert len(line.driver.blocks) == 3
    assert line.missed() == [("a", "READ_TIMEOUT", True)]


def test_what_has_no_value_is_left_out_of_the_reading() -> None:
    line = bare(p=None, q=None)
    line.work()
    assert line.taken() == [{"p": 1, "q": 2}]
    line.driver.vanished = {"q"}
    line.later(10)
    assert line.taken() == [{"p": 1}]


def test_a_device_that_sends_none_of_its_values_was_not_read() -> None:
    line = bare(p=None)
    line.driver.vanished = {"p"}
    asked = line.ask()
    line.work()
    assert line.answer(asked).error is not None
    assert ("a", "READ_FAILED", True) in line.missed()


# -- intervals of properties ----------------------------------------------------------------------------------------


def test_properties_are_read_at_their_own_intervals_and_the_others_keep_their_values() -> None:
    line = bare(fast=1.0, slow=60.0)
    line.work()
    assert line.taken() == [{"fast": 1, "slow": 2}]
    line.driver.holds = {"fast": 10, "slow": 20}
    line.driver.blocks.clear()
    line.later(1)
    assert (line.driver.blocks, line.taken()) == ([("fast",)], [{"fast": 10, "slow": 2}])
    line.later(59)
    assert line.taken() == [{"fast": 10, "slow": 2}, {"fast": 10, "slow": 20}]  # the faster ones first


def test_a_question_reads_everything() -> None:
    line = bare(fast=1.0, slow=60.0).work()
    line.driver.blocks.clear()
    line.ask()
    line.work()
    assert line.driver.blocks == [("fast", "slow")]


def test_the_old_value_of_what_has_vanished_is_not_told_with_a_new_time() -> None:
    line = bare(fast=1.0, other=1.0, slow=60.0).work()
    line.taken()
    line.driver.vanished = {"other"}
    line.later(1)
    assert line.taken() == [{"fast": 1, "slow": 3}]


def test_the_old_value_of_what_could_not_be_read_is_not_told_with_a_new_time() -> None:
    line = bare(fast=1.0, slow=5.0).work()
    line.taken()
    line.driver.at_once = 1
    line.later(1)  # fast
    line.time.advance(4)
    line.engine.turn()  # fast, of both that are due
    line.driver.fails["a"] = ReadFailed("bad")
    line.work()  # slow
    line.driver.fails.clear()
    assert line.missed() == [("a", "READ_FAILED", True)]
    line.taken()
    line.later(1)
    assert line.taken() == [{"fast": 1}, {"fast": 1, "slow": 2}]  # both were read anew
    assert line.driver.blocks[-2:] == [("fast",), ("slow",)]


def test_a_fast_property_is_read_between_the_transactions_of_a_slow_ones() -> None:
    slow = {f"s{number}": PropertySpec("number", interval_s=60.0) for number in range(6)}
    line = Bare({"fast": PropertySpec("number", interval_s=1.0), **slow}, ByPoints)
    line.driver.holds = dict.fromkeys(["fast", *slow], 1)
    line.driver.at_once = 1
    line.engine.turn()
    for _ in range(5):
        line.engine.turn()
        line.time.advance(0.6)  # each transaction takes so long
    assert [block[0] for block in line.driver.blocks].count("fast") == 3
    line.work()
    assert line.driver.blocks.count(("s5",)) == 1


def test_a_command_goes_between_the_transactions_of_a_read_that_somebody_waits_for() -> None:
    specs = {"p": NUMBER, "q": NUMBER, "x": PropertySpec("number", writable=True, readable=False)}
    line = Bare(specs, ByPoints, interval_s=1000.0)
    line.driver.holds, line.driver.at_once = {"p": 1, "q": 2}, 1
    line.work()
    line.driver.blocks.clear()
    asked = line.ask()
    line.engine.turn()
    line.command(x=5)
    line.engine.turn()
    assert (line.driver.blocks, line.driver.done[-1]) == ([("p",)], ("write", "a"))
    line.work()
    assert line.answer(asked).error is None


def test_a_turn_of_which_everything_is_left_out_does_no_harm() -> None:
    line = bare(fast=1.0, missing=5.0)
    line.driver.known_refused = {"missing"}
    line.work()
    line.taken()
    line.driver.blocks.clear()
    for _ in range(10):
        line.later(1)
    assert set(line.driver.blocks) == {("fast",)}
    assert line.taken() == [{"fast": 1}] * 10
    assert line.missed() == []


def test_after_the_line_was_lost_nothing_of_before_is_told() -> None:
    line = bare(fast=1.0, slow=60.0).work()
    line.taken()
    line.driver.fails["a"] = TransportDown("unplugged")
    line.later(1)
    assert line.missed() == [("a", "TRANSPORT_DOWN", False)]
    line.driver.fails.clear()
    line.driver.vanished = {"slow"}
    line.later(1)
    assert line.taken() == [{"fast": 1}]


# -- order of what is told ------------------------------------------------------------------------------------------


def test_a_reading_is_told_before_the_answer_to_who_asked_for_it() -> None:
    line = bare(p=None)
    asked = line.ask()
    line.work()
    kinds = [type(each) for each in line.told if isinstance(each, Taken | Answer)]
    assert kinds.index(Taken) < kinds.index(Answer)
    assert line.answer(asked).error is None


def test_a_line_is_told_as_down_and_its_devices_as_missed_before_who_waited_has_an_answer() -> None:
    line = bare(p=None).work()
    line.driver.fails["a"] = TransportDown("unplugged")
    asked = line.ask()
    line.told.clear()
    line.work()
    assert [type(each).__name__ for each in line.told] == ["LineNews", "Missed", "Answer"]
    assert [each.state for each in line.told if isinstance(each, LineNews)] == [LineState.DOWN]
    assert str(line.answer(asked).error) == "unplugged"
    assert line.missed() == [("a", "TRANSPORT_DOWN", False)]


def test_exactly_one_answer_goes_to_each_even_when_the_driver_has_a_defect() -> None:
    line = Bare(
        {"p": NUMBER, "x": PropertySpec("number", writable=True, readable=False)}, units={"a": 1, "b": 1}
    )
    line.work()
    line.driver.fails = {"a": ZeroDivisionError("defect")}
    ids = [line.command("a", x=1), line.ask("a"), line.ask("b"), line.command("b", x=1)]
    line.work()
    assert sorted(str(line.answer(each).error) for each in ids) == ["internal error, see the log"] * 4
    again = line.command("b", x=2)
    line.later(1)
    assert line.answer(again).error is None
    line.driver.fails["b"] = ZeroDivisionError("defect")
    line.later(10)
    line.answer(again)  # still its only one


def test_a_question_that_nobody_waits_for_any_more_costs_nothing() -> None:
    line = bare(p=None).work()
    line.driver.blocks.clear()
    line.ask(patience_s=1.0)
    line.later(1)
    assert line.driver.blocks == []


def test_a_dead_unit_costs_its_line_at_most_a_twentieth_of_its_time() -> None:
    line = Bare({"p": NUMBER}, units={"dead": 1, "alive": 2}, interval_s=1.0)
    line.driver.fails["dead"] = ReadTimeout("silent")
    line.work()
    line.later(10)
    asked, began = line.driver.count("read", "dead"), line.time.seconds
    alive = line.driver.count("read", "alive")
    while line.time.seconds < began + 600:
        line.later(0.25)
    spent_s = (line.driver.count("read", "dead") - asked) * SILENCE_S
    assert 0 < spent_s / (line.time.seconds - began) <= 0.05
    assert line.driver.count("read", "alive") - alive > 500
