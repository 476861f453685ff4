"""The journal: nothing taken is skipped; what had to go is counted; what was had is not had again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from sensor_hub import journal as journal_module
from sensor_hub import wire
from sensor_hub.board import Board
from sensor_hub.journal import REMEMBERED_GENERATIONS, Had, Journal, Page
from sensor_hub.readings import Entry, Fault, Quality, Reading, Snapshot, Status
from tests.unit.manual_clock import NOON

GENERATION, OTHER = "0123456789ab", "ba9876543210"


def read(value: float, device_id: str = "a") -> Snapshot:
    return Snapshot(
        device_id, "temperature", Status.ONLINE, Reading({"value": value}, NOON), None, Quality.GOOD, {}
    )


def failed(device_id: str = "a") -> Snapshot:
    fault = Fault("READ_TIMEOUT", "no answer", NOON)
    return Snapshot(device_id, "temperature", Status.DEGRADED, fault=fault, extra={})


def journal(values: int = 0, max_entries: int = 1000, max_bytes: int = 1 << 20) -> Journal:
    its = Journal("sensor_id", max_entries, max_bytes)
    for value in range(values):
        its.take(NOON, read(float(value)))
    return its


def values(page: Page) -> list[float]:
    return [json.loads(text)["entry"]["value"] for text in page.texts]


def ids(page: Page) -> list[str]:
    return [json.loads(text)["id"] for text in page.texts]


def test_every_entry_after_a_position_comes_in_the_order_taken() -> None:
    its = journal(2)
    position = its.after(None).position
    for value in (7.0, 7.0, 8.0):
        its.take(NOON, read(value))
    page = its.after(position)
    assert (values(page), page.missed) == ([7.0, 7.0, 8.0], 0)
    assert its.after(page.position) == Page(page.position, [], 0)


def test_ids_count_from_1_without_gaps_and_name_the_process() -> None:
    its = journal(3)
    assert ids(its.after(None)) == [f"{its.generation}-{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("limits", [{"max_entries": 4}, {"max_bytes": 4 * 300}])
def test_the_oldest_make_room_and_who_was_away_learns_how_many_are_gone(limits: dict[str, int]) -> None:
    its = journal(2, **limits)
    position = its.after(None).position
    for value in range(10):
        its.take(NOON, read(float(value)))
    page = its.after(position)
    assert page.missed is not None
    assert page.missed == 10 - len(page.texts) > 0
    assert values(page) == [float(value) for value in range(page.missed, 10)]
    assert its.size()["entries"] == len(page.texts)
    assert int(str(its.size()["bytes"])) <= limits.get("max_bytes", 1 << 20)


@pytest.mark.parametrize(
    "position", [None, "", "x", "{other}-1", "{own}-4", "{own}-", "{own}--1", "{own}-1 ", "{own}-\u0661"]
)
def test_from_a_position_of_another_process_all_there_is_comes_and_the_loss_is_unknown(
    position: str | None,
) -> None:
    its = journal(3)
    page = its.after(position and position.format(other=OTHER, own=its.generation))
    assert (values(page), page.missed) == ([0.0, 1.0, 2.0], None)


def test_an_answer_is_bounded_and_the_next_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "ANSWER_ENTRIES", 4)
    its, found, position = journal(10), list[float](), None
    sizes = []
    while (page := its.after(position)).texts:
        found += values(page)
        sizes.append(len(page.texts))
        position = page.position
    assert (found, sizes) == ([float(value) for value in range(10)], [4, 4, 2])


def test_an_answer_is_bounded_in_characters_too_but_has_at_least_one_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "ANSWER_CHARS", 10)
    assert values(journal(3).after(None)) == [0.0]


@pytest.mark.parametrize("snapshot", [read(21.5), failed()])
def test_an_entry_is_read_as_it_was_written(snapshot: Snapshot) -> None:
    entry = Entry(f"{GENERATION}-7", NOON + timedelta(seconds=1), snapshot)
    text = wire.journal_text(entry, "device_id")
    assert wire.journal_from_body(json.loads(text), "device_id") == entry


def test_a_reading_that_came_too_late_to_be_fresh_keeps_its_values() -> None:
    late = Snapshot(
        "a", "temperature", Status.OFFLINE, Reading({"value": 21.5}, NOON), None, Quality.POOR, {}
    )
    entry = Entry(f"{GENERATION}-7", NOON, late)
    assert wire.journal_from_body(json.loads(wire.journal_text(entry, "device_id")), "device_id") == entry


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.pop("id"),
        lambda body: body.pop("timestamp"),
        lambda body: body.update(timestamp="noon"),
        lambda body: body.update(entry=[]),
        lambda body: body["entry"].pop("status"),
    ],
)
def test_an_entry_that_is_none_is_refused(spoil: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads(wire.journal_text(Entry(f"{GENERATION}-7", NOON, read(1.0)), "a"))
    spoil(body)
    with pytest.raises((KeyError, ValueError)):
        wire.journal_from_body(body, "a")


# -- beside the board --------------------------------------------------------------------------------------------


def test_the_board_wakes_whoever_waits_for_the_journal_and_both_are_of_one_moment() -> None:
    board = Board([read(0.0)])
    (cursor, _), page = board.since_with_journal(None, None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(board.since_with_journal, cursor, page.position, 60.0)
        board.put(read(1.0), (NOON, read(1.0)))
        (_, changes), page = waiting.result(20)
    assert (changes, values(page)) == ([read(1.0)], [1.0])


def test_what_only_time_has_changed_is_on_the_board_and_not_in_the_journal() -> None:
    board = Board([read(0.0)])
    board.put(read(1.0))
    (_, changes), page = board.since_with_journal(None, None)
    assert (changes, page.texts) == ([read(1.0)], [])


def test_what_another_process_took_wakes_who_waits_keeps_its_id_and_leaves_the_board_as_it_is() -> None:
    board = Board([read(0.0)])
    (cursor, _), page = board.since_with_journal(None, None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(board.since_with_journal, cursor, page.position, 60.0)
        board.record([Entry(f"{OTHER}-5", NOON, read(1.0)), Entry(f"{OTHER}-6", NOON, read(2.0))])
        (newer, changes), page = waiting.result(20)
    assert (newer, changes) == (cursor, [])
    assert (ids(page), values(page)) == ([f"{OTHER}-5", f"{OTHER}-6"], [1.0, 2.0])


def test_nothing_is_lost_or_repeated_between_many_writers_and_a_follower() -> None:
    board = Board([read(0.0, f"d{number}") for number in range(8)])
    seen: list[tuple[str, float]] = []
    done = threading.Event()

    def follow() -> None:
        cursor, position = None, None
        while len(seen) < 1600 and not done.is_set():
            (cursor, _), page = board.since_with_journal(cursor, position, 1.0)
            position = page.position
            seen.extend(
                (entry["sensor_id"], entry["value"])
                for entry in (json.loads(text)["entry"] for text in page.texts)
            )

    def write(number: int) -> None:
        for value in range(200):
            reading = read(float(value), f"d{number}")
            board.put(reading, (NOON, reading))

    with ThreadPoolExecutor(9) as pool:
        follower = pool.submit(follow)
        for writer in [pool.submit(write, number) for number in range(8)]:
            writer.result(60)
        try:
            follower.result(60)
        finally:
            done.set()
    for number in range(8):
        assert [value for device_id, value in seen if device_id == f"d{number}"] == list(range(200))


# -- what a follower has had -------------------------------------------------------------------------------------


def entries(*numbers: int, generation: str = GENERATION) -> list[Entry]:
    return [Entry(f"{generation}-{number}", NOON, read(float(number))) for number in numbers]


def sifted(had: Had, found: list[Entry]) -> tuple[list[str], int]:
    fresh, gaps = had.sift(found)
    had.note(fresh)
    return [entry.id for entry in fresh], gaps


def test_what_was_had_is_not_had_again() -> None:
    had = Had()
    assert sifted(had, entries(1, 2, 3)) == ([f"{GENERATION}-{number}" for number in (1, 2, 3)], 0)
    assert sifted(had, entries(2, 3, 4)) == ([f"{GENERATION}-4"], 0)


def test_skipped_numbers_are_counted_but_not_those_from_before_the_follower_began() -> None:
    had = Had()
    assert sifted(had, entries(101, 102))[1] == 0
    assert sifted(had, entries(105, 106, 109))[1] == 4


def test_generations_are_counted_apart() -> None:
    had = Had()
    sifted(had, entries(1, 2) + entries(1, generation=OTHER))
    assert sifted(had, entries(2, 3, generation=OTHER) + entries(3)) == (
        [f"{OTHER}-2", f"{OTHER}-3", f"{GENERATION}-3"],
        0,
    )


def test_what_was_not_delivered_comes_again() -> None:
    had = Had()
    had.sift(entries(1, 2))
    assert sifted(had, entries(1, 2))[0] == [f"{GENERATION}-1", f"{GENERATION}-2"]


def test_it_goes_on_after_a_restart_with_what_was_kept() -> None:
    had = Had()
    sifted(had, entries(1, 2, 3) + entries(8, generation=OTHER))
    again = Had.load(had.dump())
    assert sifted(again, entries(3, 6) + entries(8, generation=OTHER)) == ([f"{GENERATION}-6"], 2)


@pytest.mark.parametrize("text", ["", "x", "0123456789ab", "0123456789ab-x", "-", "\0"])
def test_a_mark_that_is_none_is_no_mark(text: str) -> None:
    assert Had.load(text).dump() == ""


def test_only_the_generations_that_spoke_last_are_remembered() -> None:
    had = Had()
    sifted(had, entries(1))
    for number in range(REMEMBERED_GENERATIONS + 5):
        sifted(had, entries(1, generation=f"{number:012x}"))
        sifted(had, entries(number + 2))
    assert len(had.dump().split()) == REMEMBERED_GENERATIONS
    assert f"{GENERATION}-{REMEMBERED_GENERATIONS + 6}" in had.dump().split()


@pytest.mark.parametrize("bad", ["", "x-1", "0123456789ab-", "0123456789ab-1-1", "0123456789AB-1"])
def test_an_entry_without_a_proper_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no id of an entry"):
        Had().sift([Entry(bad, NOON, read(1.0))])
