"""Whose turn it is on a line, and who waits for which answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sensor_hub.crew.messages import Answer
from sensor_hub.crew.pending import Pending
from sensor_hub.errors import DeviceRefused, HubError, TransportDown
from sensor_hub.workers.jobs import COMMANDS_IN_A_ROW, Jobs, Turn
from sensor_hub.workers.messages import LineRequest
from tests.support import eventually


def request(number: int, kind: Any = "command", sensor_id: str = "a", deadline: float = 10.0) -> LineRequest:
    return LineRequest(str(number), deadline, False, "bus0", kind, sensor_id)


def turns(jobs: Jobs, count: int, *, is_due: bool) -> str:
    """Whose turns come next, each taken: Command, Asked, Background, - nobody."""
    found = ""
    for _ in range(count):
        turn = jobs.turn(is_due=is_due)
        if turn is Turn.COMMAND:
            jobs.pop_command()
        elif turn is Turn.ASKED:
            jobs.pop_asked()
        found += "-" if turn is None else turn.name[0]
    return found


def flooded(commands: int, reads: int = 0) -> Jobs:
    jobs = Jobs()
    for number in range(commands):
        jobs.add(request(number))
    for number in range(reads):
        jobs.add(request(number, "read", f"sensor{number}"))
    return jobs


@pytest.mark.parametrize(
    ("commands", "reads", "is_due", "expected"),
    [
        (0, 0, False, "----"),
        (0, 0, True, "BBBB"),
        (0, 3, False, "AAA-"),
        (0, 3, True, "ABABABBB"),
        (3, 0, False, "CCC-"),
        (2, 2, True, "CCABABBB"),
        (10, 0, False, "CCCCCCCCCC-"),
        (10, 0, True, "CCCCBCCCCBCCBBB"),
        (10, 2, True, "CCCCACCCCBCCAB"),
        (10, 2, False, "CCCCACCCCACC-"),
    ],
)
def test_the_order_of_turns(commands: int, reads: int, is_due: bool, expected: str) -> None:
    assert turns(flooded(commands, reads), len(expected), is_due=is_due) == expected


def test_a_flood_of_commands_starves_no_read_and_delays_it_by_four_of_them() -> None:
    jobs = flooded(1000, 1)
    assert turns(jobs, COMMANDS_IN_A_ROW + 1, is_due=False).endswith("A")


def test_a_command_after_a_pause_goes_first_however_many_there_were_before() -> None:
    jobs = flooded(COMMANDS_IN_A_ROW)
    assert turns(jobs, COMMANDS_IN_A_ROW + 1, is_due=False) == "CCCC-"
    jobs.add(request(99))
    assert jobs.turn(is_due=True) is Turn.COMMAND


def test_commands_keep_their_order() -> None:
    jobs = flooded(3)
    assert [jobs.pop_command().id for _ in range(3)] == ["0", "1", "2"]


def test_reads_of_one_sensor_are_one_turn() -> None:
    jobs = Jobs()
    for number in range(5):
        jobs.add(request(number, "read"))
    sensor_id, waiting = jobs.pop_asked()
    assert (sensor_id, [each.id for each in waiting], len(jobs)) == ("a", list("01234"), 0)


def test_reads_of_what_only_speaks_unasked_have_no_turn_and_are_given_up_in_time() -> None:
    jobs = Jobs({"quiet"})
    jobs.add(request(1, "read", "quiet", 10.0))
    jobs.add(request(2, "read", "quiet", 20.0))
    assert (jobs.turn(is_due=False), len(jobs)) == (None, 0)
    assert [each.id for each in jobs.pop_unheard(10.0)] == ["1"]
    assert [each.id for each in jobs.pop_hearing("quiet")] == ["2"]
    assert jobs.pop_hearing("quiet") == []


def test_everything_that_waits_is_given_up_together() -> None:
    jobs = Jobs({"quiet"})
    for each in (request(1), request(2, "read"), request(3, "read", "quiet")):
        jobs.add(each)
    assert sorted(each.id for each in jobs.pop_all()) == ["1", "2", "3"]
    assert jobs.pop_all() == []


# -- answers --------------------------------------------------------------------------------------------------------


def test_each_of_many_callers_gets_its_own_answer_in_whatever_order_they_come() -> None:
    pending, sent = Pending(), dict[str, int]()

    def ask(number: int) -> Any:
        return pending.ask(lambda request_id: sent.update({request_id: number}), 30)

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, number) for number in range(20)]
        eventually(lambda: len(sent) == 20)
        for request_id, number in sorted(sent.items()):  # by chance
            pending.settle(Answer(request_id, number * 2))
        assert [each.result(30) for each in asked] == [number * 2 for number in range(20)]
    assert (len(pending), pending.late) == (0, 0)


def test_an_answer_may_come_before_sending_it_has_returned() -> None:
    pending = Pending()
    assert pending.ask(lambda request_id: pending.settle(Answer(request_id, "fast")), 5) == "fast"


def test_an_answer_that_nobody_waits_for_is_dropped_and_counted() -> None:
    pending, ids = Pending(), list[str]()
    with pytest.raises(TimeoutError):
        pending.ask(ids.append, 0.01)
    assert len(pending) == 0
    pending.settle(Answer(ids[0], "late"))
    pending.settle(Answer("never asked", 1))
    assert pending.late == 2


def test_a_second_answer_to_the_same_request_is_dropped() -> None:
    pending = Pending()

    def twice(request_id: str) -> None:
        pending.settle(Answer(request_id, 1))
        pending.settle(Answer(request_id, 2))

    assert pending.ask(twice, 5) == 1
    assert pending.late == 1


def test_an_error_is_raised_where_it_was_asked_for() -> None:
    pending = Pending()
    with pytest.raises(DeviceRefused, match="exception 2"):
        pending.ask(lambda each: pending.settle(Answer(each, error=DeviceRefused("exception 2"))), 5)


def test_what_cannot_be_sent_leaves_nothing_behind() -> None:
    pending = Pending()

    def fail(_: str) -> None:
        raise TransportDown("no process")

    with pytest.raises(TransportDown, match="no process"):
        pending.ask(fail, 5)
    assert len(pending) == 0


def test_the_end_of_a_worker_is_told_to_who_waits_and_to_who_comes() -> None:
    pending, sent = Pending(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pending.ask, lambda _: sent.set(), 30)
        assert sent.wait(10)
        pending.close(TransportDown("worker lost"))
        with pytest.raises(TransportDown, match="worker lost"):
            waiting.result(5)
    with pytest.raises(HubError, match="worker lost"):
        pending.ask(lambda _: None, 5)
    assert len(pending) == 0


def test_ids_are_never_used_twice() -> None:
    first, second = Pending(), Pending()
    ids: list[str] = []
    for pending in (first, second, first):

        def send(request_id: str, to: Pending = pending) -> None:
            ids.append(request_id)
            to.settle(Answer(request_id))

        pending.ask(send, 5)
    assert len(set(ids)) == 3
