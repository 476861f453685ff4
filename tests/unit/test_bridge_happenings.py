"""Which events and errors are told of journal and board, and with what time; time is ours here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import wire
from sensor_hub.bridge.happenings import Happenings
from sensor_hub.bridge.outbox import ERROR_GOES_ON
from sensor_hub.config import load
from sensor_hub.journal import News
from sensor_hub.readings import Entry, Fault, Quality, Reading, Snapshot, Status
from sensor_hub.store_file import Item
from tests.unit.manual_clock import ManualClock

DEVICE, GENERATION = "motion_front_door", "0123456789ab"
INTERVAL_S = 10.0  # of the shipped instance


class World:
    """What happened to the motion detector of the shipped instance; each reading counts in the journal."""

    def __init__(self, folder: Path, mark: str = "", time: ManualClock | None = None) -> None:
        self.time = time or ManualClock()
        self._hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=folder)
        self._numbers = count(1)
        self.happenings = Happenings(self._hub, self._hub.sensors, self.time.clock)
        self.had = self.happenings.load(mark)
        self.happenings.connected = True

    def snapshot(self, motion: bool | None = None, code: str = "", at: datetime | None = None) -> Snapshot:
        now = at or self.time.now()
        status = Status.OFFLINE if motion is None else Status.DEGRADED if code else Status.ONLINE
        reading = None if motion is None else Reading({"motion_detected": motion}, now)
        fault = Fault(code, "why", now) if code else None
        return Snapshot(DEVICE, "motion", status, reading, fault, Quality.GOOD)

    def entry(self, motion: bool | None = None, code: str = "", ago_s: float = 0.0) -> Entry:
        at = self.time.now() - timedelta(seconds=ago_s)
        return Entry(f"{GENERATION}-{next(self._numbers)}", at, self.snapshot(motion, code, at))

    def news(self, *entries: Entry, board: Snapshot | None = None, is_behind: bool = False) -> list[Item]:
        """Of these entries and what the board has after them."""
        mark = entries[-1].id if entries else ""
        changes = [board] if board else [entries[-1].snapshot] if entries else []
        return self.happenings.news(News(changes, entries, mark=mark, is_behind=is_behind))

    def followed(self) -> World:
        """Past its beginning: what there was is known."""
        self.news()
        self.time.advance(1)
        self.news(self.entry(False))
        self.time.advance(1)
        return self

    def board(self, motion: bool | None = None, code: str = "", **more: Any) -> list[Item]:
        return self.happenings.board([replace(self.snapshot(motion, code), **more)])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def words(items: list[Item]) -> list[str]:
    """Events and error codes in order."""
    return [str(body(item).get("event") or body(item).get("error_code")) for item in items]


def body(item: Item) -> dict[str, Any]:
    found = wire.loads(item.payload)
    assert isinstance(found, dict)
    return found


# -- events


def test_each_change_of_motion_is_an_event_with_the_time_of_its_reading(world: World) -> None:
    world.followed()
    entries = [world.entry(motion, ago_s=ago_s) for motion, ago_s in ((True, 0.9), (False, 0.6), (True, 0.3))]
    items = world.news(*entries)
    assert words(items) == ["motion_detected", "motion_cleared", "motion_detected"]
    assert [item.timestamp for item in items] == [wire.timestamp_text(each.timestamp) for each in entries]
    assert all((item.kind, item.device_id) == ("event", DEVICE) for item in items)
    assert body(items[0]) == {
        "timestamp": items[0].timestamp,
        "event": "motion_detected",
        "data": {"motion_detected": True},
    }


@pytest.mark.parametrize(("motion", "events"), [(True, ["motion_detected"]), (False, [])])
def test_a_first_reading_is_an_event_when_it_has_motion(
    world: World, motion: bool, events: list[str]
) -> None:
    assert words(world.news(world.entry(motion))) == events


def test_without_a_mark_what_the_journal_has_from_before_is_no_news(world: World) -> None:
    old = [world.entry(motion, ago_s=60) for motion in (True, False, True)]
    assert words(world.news(*old, board=world.snapshot(False), is_behind=True)) == []
    assert words(world.news(world.entry(True, ago_s=30), board=world.snapshot(False))) == []
    assert words(world.news(world.entry(True))) == ["motion_detected"]


def test_while_it_reads_what_there_was_the_board_tells_what_changes(world: World) -> None:
    old = [world.entry(motion, ago_s=60) for motion in (True, False, True)]
    assert words(world.news(*old, board=world.snapshot(True), is_behind=True)) == ["motion_detected"]
    assert words(world.news(world.entry(False), is_behind=True)) == ["motion_cleared"]
    assert words(world.news(world.entry(True))) == ["motion_detected"]
    assert words(world.news(world.entry(False))) == ["motion_cleared"]


def test_a_clock_that_is_set_back_silences_nothing(world: World) -> None:
    world.followed()
    world.time.set_wall(-7200)
    assert words(world.news(world.entry(True))) == ["motion_detected"]
    assert words(world.news(world.entry(False))) == ["motion_cleared"]


def test_what_happened_between_a_mark_and_a_restart_is_told_once(world: World, tmp_path: Path) -> None:
    world.followed()
    assert words(world.news(world.entry(True))) == ["motion_detected"]
    again = World(tmp_path, world.happenings.mark(), world.time)
    assert again.had == f"{GENERATION}-2"
    world.time.advance(60)
    missed = [again.entry(motion, ago_s=50 - n) for n, motion in enumerate((True, False, True, False))]
    assert words(again.news(*missed)) == ["motion_cleared", "motion_detected", "motion_cleared"]


def test_what_was_no_news_before_a_restart_is_none_after_it(world: World, tmp_path: Path) -> None:
    old = [world.entry(motion, ago_s=60) for motion in (True, False, True)]
    assert words(world.news(old[0], board=world.snapshot(False), is_behind=True)) == []
    again = World(tmp_path, world.happenings.mark(), world.time)
    assert words(again.news(*old[1:], board=world.snapshot(False))) == []
    world.time.advance(1)
    assert words(again.news(again.entry(True))) == ["motion_detected"]


def test_after_a_restart_the_board_repeats_no_event_that_the_journal_tells(
    world: World, tmp_path: Path
) -> None:
    world.followed()
    mark = world.happenings.mark()
    again = World(tmp_path, mark, world.time)
    assert words(again.news(board=again.snapshot(True))) == []
    assert words(again.news(again.entry(True))) == ["motion_detected"]


@pytest.mark.parametrize(
    "mark", ["", "{", "[]", '{"had": 1}', '{"told": {}}', '{"had": "", "is_behind": false}']
)
def test_a_mark_that_says_nothing_is_none(tmp_path: Path, mark: str) -> None:
    world = World(tmp_path, mark)
    assert world.had == ""
    assert words(world.news(world.entry(True, ago_s=60), board=world.snapshot(False))) == []


def test_what_the_journal_no_longer_had_is_counted_and_kept_with_the_mark(
    world: World, tmp_path: Path
) -> None:
    world.followed()
    for missed in (3, 0, 4):
        world.happenings.news(News([], [world.entry(False)], missed, mark=f"{GENERATION}-9"))
    assert world.happenings.missed == 7
    assert World(tmp_path, world.happenings.mark()).happenings.missed == 7
    assert World(tmp_path, '{"had": "0123456789ab-1", "missed": "many"}').happenings.missed == 0


# -- errors


def test_an_error_is_told_when_it_begins_or_changes_and_once_per_interval(world: World) -> None:
    world.followed()

    def after(advance_s: float, motion: bool | None = False, code: str = "") -> list[str]:
        world.time.advance(advance_s)
        return words(world.news(world.entry(motion, code)))

    assert after(0, code="READ_FAILED") == ["READ_FAILED"]
    assert after(1, code="READ_FAILED") == []
    assert after(1, code="READ_TIMEOUT") == ["READ_TIMEOUT"]
    assert after(INTERVAL_S - 1, code="READ_TIMEOUT") == []
    assert after(1, code="READ_TIMEOUT") == ["READ_TIMEOUT"]
    assert after(1) == []
    assert after(1, code="READ_TIMEOUT") == ["READ_TIMEOUT"]


def test_only_that_an_error_goes_on_may_wait_for_the_disk(world: World) -> None:
    world.followed()
    [began] = world.news(world.entry(False, "READ_FAILED"))
    world.time.advance(INTERVAL_S)
    [goes_on] = world.news(world.entry(False, "READ_FAILED"))
    world.time.advance(1)
    [changed] = world.news(world.entry(None, "READ_FAILED"))
    assert [began.kind, goes_on.kind, changed.kind] == ["error", ERROR_GOES_ON, "error"]


def test_that_an_error_goes_on_is_not_kept_for_a_broker_that_is_away(world: World) -> None:
    world.followed()
    world.happenings.connected = False
    began = world.news(world.entry(False, "READ_FAILED"))
    assert words(began) == ["READ_FAILED"]
    assert began[0].timestamp == wire.timestamp_text(world.time.now())
    world.time.advance(10 * INTERVAL_S)
    assert world.news(world.entry(False, "READ_FAILED")) == []
    world.happenings.connected = True
    assert words(world.news(world.entry(False, "READ_FAILED"))) == ["READ_FAILED"]


def test_an_error_that_came_and_went_between_two_answers_is_told_with_its_time(world: World) -> None:
    world.followed()
    items = world.news(world.entry(False, "READ_FAILED", ago_s=0.5), world.entry(False))
    assert words(items) == ["READ_FAILED"]
    assert items[0].timestamp == wire.timestamp_text(world.time.now() - timedelta(seconds=0.5))


@pytest.mark.parametrize(
    ("motion", "code", "severity"),
    [
        (False, "READ_FAILED", "warning"),
        (None, "READ_FAILED", "error"),
        (None, "TRANSPORT_DOWN", "critical"),
        (None, "HANDLER_ERROR", "critical"),
    ],
)
def test_the_severity_of_an_error(world: World, motion: bool | None, code: str, severity: str) -> None:
    [item] = world.news(board=world.snapshot(motion, code))
    assert body(item) == {
        "timestamp": item.timestamp,
        "error_code": code,
        "message": "why",
        "severity": severity,
    }
    assert (item.kind, item.device_id) == ("error", DEVICE)


@pytest.mark.parametrize("code", ["HANDLER_ERROR", "SENSOR_UNAVAILABLE"])
def test_what_no_journal_has_the_board_tells_and_its_end_too(world: World, code: str) -> None:
    world.followed()
    assert words(world.board(False, code)) == [code]
    assert world.board(False, code) == []
    assert world.board(False) == []
    assert words(world.board(False, code)) == [code]


def test_a_fault_on_the_board_is_left_to_the_journal_that_is_behind(world: World) -> None:
    world.followed()
    assert world.board(False, "READ_FAILED") == []
    older, newest = world.entry(False, "READ_TIMEOUT", ago_s=1), world.entry(False, "READ_FAILED")
    assert words(world.news(older, newest)) == ["READ_TIMEOUT", "READ_FAILED"]


def test_a_fault_that_has_grown_worse_with_time_alone_is_told_by_the_board(world: World) -> None:
    world.followed()
    assert words(world.news(world.entry(False, "READ_FAILED"))) == ["READ_FAILED"]
    [item] = world.board(None, "READ_FAILED")
    assert body(item)["severity"] == "error"


def test_an_error_that_was_told_before_a_restart_has_not_begun_again(world: World, tmp_path: Path) -> None:
    world.followed()
    assert words(world.news(world.entry(False, "READ_FAILED"))) == ["READ_FAILED"]
    again = World(tmp_path, world.happenings.mark(), world.time)
    again.happenings.connected = False
    assert again.news(again.entry(False, "READ_FAILED")) == []


def test_an_aggregator_that_has_just_started_tells_nothing(world: World) -> None:
    assert world.board(None, "SENSOR_UNAVAILABLE", status=Status.UNKNOWN) == []


def test_a_device_that_is_not_published_here_makes_no_events(world: World) -> None:
    stranger = replace(world.entry(True), snapshot=replace(world.snapshot(True), device_id="elsewhere"))
    assert world.followed().news(stranger, board=replace(world.snapshot(True), device_id="elsewhere")) == []
