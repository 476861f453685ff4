"""The books of a line: what is counted, for the line and for each unit, and who is left alone."""

from __future__ import annotations

import threading

import pytest

from sensor_hub.errors import BrokenFrame, CircuitOpen, DeviceRefused, HubError, ReadTimeout
from sensor_hub.polling import Counters
from sensor_hub.workers.ledger import Ledger
from tests.unit.manual_clock import ManualClock


class Books:
    """Two sensors of unit 1, one of unit 2."""

    def __init__(self, *, with_breakers: bool = True) -> None:
        self.time = ManualClock()
        self.ledger = Ledger({"a": 1, "b": 1, "c": 2}, self.time.clock, with_breakers=with_breakers)

    def answered(self, unit_id: int, seconds: float) -> None:
        began = self.time.seconds
        self.time.advance(seconds)
        self.ledger.answered(unit_id, began)

    def failed(self, unit_id: int, seconds: float, error: HubError) -> None:
        began = self.time.seconds
        self.time.advance(seconds)
        self.ledger.failed(unit_id, began, error)


def test_transactions_are_counted_and_timed_for_the_line_and_for_their_unit() -> None:
    books = Books()
    books.answered(1, 0.5)
    books.answered(2, 0.25)
    books.failed(1, 1.0, BrokenFrame("checksum"))
    books.failed(1, 0.25, DeviceRefused("exception 2"))
    books.time.advance(8.0)
    report = books.ledger.report()
    assert report.counters == Counters(reads=4, errors=2, crc_errors=1, exceptions=1)
    assert report.utilisation == 0.2
    first, second = report.units
    assert (first.unit_id, first.sensor_ids) == (1, ("a", "b"))
    assert first.counters == Counters(reads=3, errors=2, crc_errors=1, exceptions=1)
    assert (first.round_trip_ms, first.utilisation, first.last_error) == (500.0, 0.175, "exception 2")
    assert (second.round_trip_ms, second.utilisation, second.last_error) == (250.0, 0.025, None)


def test_a_write_is_a_command_and_no_read() -> None:
    books = Books()
    books.ledger.written(1, 0.0, None)
    books.ledger.written(1, 0.0, ReadTimeout("silent"))
    assert books.ledger.report().counters == Counters(commands=2, errors=1, timeouts=1)


def test_a_report_is_of_its_moment() -> None:
    books = Books()
    before = books.ledger.report()
    books.answered(1, 0.5)
    assert (before.counters.reads, before.units[0].counters.reads) == (0, 0)


def test_a_unit_is_left_alone_after_three_silences_and_the_others_are_not() -> None:
    books = Books()
    for _ in range(3):
        books.ledger.refuse_left_alone(1)
        books.failed(1, 0.5, ReadTimeout("silent"))
    with pytest.raises(CircuitOpen, match=r"unit 1 did not answer 3 times in a row; next try in 10\.0 s"):
        books.ledger.refuse_left_alone(1)
    books.ledger.refuse_left_alone(2)
    report = books.ledger.report()
    assert [unit.next_probe_s for unit in report.units] == [10.0, None]
    assert str(books.ledger.silence_of(1)) == "silent"
    books.ledger.heard(1)
    books.ledger.refuse_left_alone(1)


def test_a_new_line_asks_everybody_at_once() -> None:
    books = Books()
    for _ in range(3):
        books.failed(1, 0.5, ReadTimeout("silent"))
    books.ledger.new_line()
    assert books.ledger.left_alone_s(1) == 0.0


def test_without_breakers_nobody_is_left_alone() -> None:
    books = Books(with_breakers=False)
    for _ in range(10):
        books.failed(1, 0.5, ReadTimeout("silent"))
    books.ledger.refuse_left_alone(1)
    assert books.ledger.left_alone_s(1) == 0.0


def test_reports_may_be_taken_while_the_line_works() -> None:
    """A report of another thread once emptied the meter under the hands of its worker."""
    books, failures = Books(), list[BaseException]()
    over = threading.Event()

    def look() -> None:
        try:
            while not over.is_set():
                books.ledger.report()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    looking = [threading.Thread(target=look) for _ in range(3)]
    for each in looking:
        each.start()
    for _ in range(5000):
        books.answered(1, 1.5)
    over.set()
    for each in looking:
        each.join()
    assert failures == []
    assert books.ledger.report().utilisation == 1.0
