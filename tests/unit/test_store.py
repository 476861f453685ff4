"""The store: what is put stays until it is acknowledged, whatever becomes of process and disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from sensor_hub import store as store_module
from sensor_hub import store_queue
from sensor_hub.clock import system_clock
from sensor_hub.store import Queue, Store
from sensor_hub.store_file import KEPT_ASIDE, Item, Limits, StoreFile, why_not_lasting
from sensor_hub.store_queue import DROPPING_S, Figures, total
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

COMMIT_S = 0.02
Lines = list[MutableMapping[str, Any]]


@contextmanager
def opened(path: Path, time: ManualClock | None = None) -> Iterator[Store]:
    store = Store(path, time.clock if time else system_clock(), COMMIT_S)
    store.start()
    try:
        yield store
    finally:
        store.close(20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "bridge.sqlite3"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.05)


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def told(lines: Lines, words: str) -> int:
    return sum(words in line["event"] for line in lines if line["log_level"] in ("error", "warning"))


def items(*payloads: str, device_id: str = "a") -> list[Item]:
    return [Item(device_id, "2026-03-01T12:00:00.000+00:00", "reading", each.encode()) for each in payloads]


def payloads(queue: Queue, **where: int) -> list[str]:
    return [each.item.payload.decode() for each in queue.peek(**where)]


def written(queue: Queue) -> bool:
    return queue.flush(20)


def test_what_is_put_is_given_in_its_order_until_it_is_acknowledged(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx")
        ids = queue.put(items("1", "2", "3", "4"))
        assert written(queue)
        assert payloads(queue) == payloads(queue) == ["1", "2", "3", "4"]
        queue.ack(ids[1:3])
        assert payloads(queue) == ["1", "4"]
        assert payloads(queue, limit=1) == ["1"]
        assert payloads(queue, after=ids[0]) == ["4"]
        assert written(queue)
        assert payloads(queue) == ["1", "4"]


def test_an_entry_comes_back_as_it_was_put(path: Path) -> None:
    item = Item("zähler", "2026-03-01T12:00:00.123+01:00", "event", bytes(range(256)))
    time = ManualClock()
    with opened(path, time) as store:
        queue = store.queue("influx")
        (entry_id,) = queue.put([item])
        assert written(queue)
        (found,) = queue.peek()
        assert (found.id, found.item, found.at) == (entry_id, item, time.now().timestamp())


def test_what_was_not_acknowledged_is_there_after_a_restart_and_what_was_is_not(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx")
        ids = queue.put(items("1", "2", "3"), mark="abc-3")
        queue.ack(ids[:1])
    with opened(path) as store:
        queue = store.queue("influx")
        assert (payloads(queue), queue.mark) == (["2", "3"], "abc-3")
        assert queue.figures().depth == 2


def test_nothing_is_given_to_send_before_it_is_on_the_disk(path: Path) -> None:
    store = Store(path, system_clock(), 3600.0)
    store.start()
    try:
        queue = store.queue("influx")
        queue.put(items("1"))
        assert queue.peek() == []
        queue.put(items("2"), at_once=True)  # takes along what waits
        eventually(lambda: payloads(queue) == ["1", "2"])
    finally:
        store.close(20)


def test_queues_of_one_file_do_not_see_each_other(path: Path) -> None:
    with opened(path) as store:
        one, other = store.queue("influx"), store.queue("mqtt")
        ids = one.put(items("1")) + other.put(items("2"))
        assert written(one)
        one.ack(ids)
        assert (payloads(one), payloads(other)) == ([], ["2"])


@pytest.mark.parametrize("name", ["", "A", "a-b", 'a"b', "1a", "a" * 33])
def test_a_name_that_no_queue_can_have_is_refused(path: Path, name: str) -> None:
    with opened(path) as store, pytest.raises(ValueError, match="queue's name"):
        store.queue(name)


def test_ids_grow_over_restarts_new_files_and_a_clock_that_is_set_back(path: Path) -> None:
    time, ids = ManualClock(), list[int]()
    for ahead_s, fresh in ((0, False), (-86400, False), (0, True), (10, True)):
        time.set_wall(ahead_s)
        if fresh:
            time.set_wall(86400 * 2)
            for part in path.parent.glob("*"):
                part.unlink()
        with opened(path, time) as store:
            queue = store.queue("influx")
            ids += queue.put(items("x", "y"))
            assert written(queue)
            assert [each.id for each in queue.peek()][-2:] == ids[-2:]
    assert ids == sorted(set(ids))


def test_what_waited_while_the_clock_was_behind_comes_after_what_is_on_the_disk(
    path: Path, tmp_path: Path
) -> None:
    time = ManualClock()
    with opened(path, time) as store:
        store.queue("influx").put(items("old"))
    time.set_wall(-3600)
    hidden = path.parent.rename(tmp_path / "elsewhere")
    path.parent.write_text("no folder")
    with opened(path, time) as store:
        queue = store.queue("influx")
        queue.put(items("new"))
        eventually(lambda: store.problem)
        path.parent.unlink()
        hidden.rename(path.parent)
        eventually(lambda: not store.problem)
        assert payloads(queue) == ["old", "new"]


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(3, 1 << 20), Limits(1000, 3 * items("1")[0].size)])
def test_when_it_is_full_the_oldest_go_and_are_counted_and_told(
    path: Path, limits: Limits, lines: Lines
) -> None:
    with opened(path) as store:
        queue = store.queue("influx", limits)
        for each in "12345":
            queue.put(items(each))
            assert written(queue)
        assert payloads(queue) == ["3", "4", "5"]
        figures = queue.figures()
        assert (figures.depth, figures.dropped, figures.size_bytes) == (3, 2, 3 * items("1")[0].size)
        eventually(lambda: told(lines, "queue is full") == 1)
    with opened(path) as store:
        assert store.queue("influx", limits).figures().dropped == 2


def test_more_at_once_than_it_may_hold_leaves_the_newest(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx", Limits(2, 1 << 20))
        queue.put(items("1", "2", "3", "4", "5"))
        assert written(queue)
        assert (payloads(queue), queue.figures().dropped) == (["4", "5"], 3)


def test_an_entry_larger_than_the_whole_queue_is_dropped_and_the_rest_stays(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx", Limits(10, 1000))
        queue.put(items("1"))
        assert written(queue)
        queue.put(items("x" * 2000))
        assert written(queue)
        assert (payloads(queue), queue.figures().dropped) == (["1"], 1)


def test_that_a_queue_is_losing_entries_is_told_for_a_minute(path: Path) -> None:
    time, limits = ManualClock(), Limits(2, 10_000)
    with opened(path, time) as store:
        queue = store.queue("influx", limits)
        queue.put(items("1", "2"))
        assert not queue.figures().dropping
        queue.put(items("3"))
        assert queue.flush(20)
        assert queue.figures().dropping
        time.advance(DROPPING_S - 1)
        assert queue.figures().dropping
        time.advance(1)
        assert not queue.figures().dropping
    with opened(path, time) as store:
        figures = store.queue("influx", limits).figures()
        assert (figures.dropped, figures.dropping) == (1, False)  # that was another life


def test_a_mark_is_kept_without_entries_too(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx")
        queue.put([], mark="here")
        assert queue.flush(20)
    with opened(path) as store:
        assert store.queue("influx").mark == "here"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("", ""),
        ("not/yet/there", ""),
        ("/proc/nowhere", "/proc cannot be written to"),
        ("/data", "/data is no volume, so it ends with the container"),
    ],
)
def test_why_a_folder_will_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, reason: str
) -> None:
    monkeypatch.setattr(os, "access", lambda known, _: known != Path("/proc"))  # root may write everywhere
    assert why_not_lasting(tmp_path / folder) == reason


def test_depth_size_and_age_of_the_oldest_are_told(path: Path) -> None:
    time = ManualClock()
    with opened(path, time) as store:
        queue = store.queue("influx")
        assert queue.figures().body() == {
            "depth": 0,
            "bytes": 0,
            "oldest_s": None,
            "dropped": 0,
            "dropping": False,
            "on_disk": True,
        }
        first = queue.put(items("1"))
        time.advance(10)
        queue.put(items("2"))
        assert written(queue)
        time.advance(5)
        figures = queue.figures()
        assert (figures.depth, figures.oldest_s) == (2, 15.0)
        queue.ack(first)
        assert queue.figures().depth == 1
        assert written(queue)
        assert queue.figures().oldest_s == 5.0


def test_figures_of_several_queues_are_those_of_one() -> None:
    one = Figures(3, 300, None, 1, on_disk=True)
    other = Figures(4, 400, 7.5, 2, on_disk=True, dropping=True)
    assert total([one, other]) == Figures(7, 700, 7.5, 3, on_disk=True, dropping=True)
    assert total([other, Figures(0, 0, 9.0, 0, on_disk=False)]).body()["on_disk"] is False
    assert total([one, one]).oldest_s is None


# -- the file ----------------------------------------------------------------------------------------------------


def test_its_file_and_log_are_for_us_alone_also_those_of_earlier_versions(path: Path) -> None:
    log, modes = path.with_name(path.name + "-wal"), list[int]()
    for _ in range(2):
        with opened(path) as store:
            queue = store.queue("influx")
            queue.put(items("1"))
            assert written(queue)
            modes += [each.stat().st_mode & 0o777 for each in (path, log)]
        path.chmod(0o644)
    assert modes == [0o600] * 4


# as versions before made it
FIRST_LAYOUT = """
PRAGMA journal_mode = WAL;
CREATE TABLE queues (name TEXT PRIMARY KEY, last_id INTEGER, dropped INTEGER, mark TEXT);
CREATE TABLE "q_influx" (id INTEGER PRIMARY KEY, at REAL, device_id TEXT, timestamp TEXT, kind TEXT, payload BLOB);
INSERT INTO queues VALUES ('influx', 12, 5, 'abc-3');
INSERT INTO "q_influx" VALUES (11, 1.0, 'a', '2026-03-01T12:00:00.000+00:00', 'reading', CAST('1' AS BLOB));
INSERT INTO "q_influx" VALUES (12, 2.0, 'a', '2026-03-01T12:00:00.000+00:00', 'reading', CAST('2' AS BLOB));
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_layout_is_taken_over_whole(path: Path) -> None:
    path.parent.mkdir(parents=True)
    db = sqlite3.connect(path)
    db.executescript(FIRST_LAYOUT)
    db.close()
    for put, expected in (("3", ["1", "2", "3"]), ("4", ["1", "2", "3", "4"])):
        with opened(path) as store:
            queue = store.queue("influx")
            assert (queue.figures().depth, queue.figures().dropped) == (len(expected) - 1, 5)
            assert queue.figures().size_bytes == (len(expected) - 1) * items("1")[0].size
            assert queue.mark == "abc-3"
            queue.put(items(put))
            assert written(queue)
            assert payloads(queue) == expected
    assert list(path.parent.glob("*.damaged-*")) == []


def test_a_large_file_is_not_read_when_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as store:
        queue = store.queue("influx", Limits(3, 1 << 20))
        for each in "12345":
            ids = queue.put(items(each))
            assert written(queue)
        queue.ack(ids)
    asked, run = list[str](), StoreFile._run

    def remembered(self: StoreFile, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        asked.append(sql)
        return run(self, sql, *values)

    monkeypatch.setattr(StoreFile, "_run", remembered)
    with opened(path) as store:
        figures = store.queue("influx").figures()
        assert (figures.depth, figures.size_bytes) == (2, 2 * items("1")[0].size)
        assert figures.dropped == 2
    of_entries = [sql for sql in asked if "SELECT" in sql and "q_influx" in sql]
    assert of_entries
    assert all("LIMIT" in sql for sql in of_entries)


# -- disks -------------------------------------------------------------------------------------------------------


def works_in_memory(store: Store, queue: Queue) -> None:
    first, _ = queue.put(items("1", "2"))
    eventually(lambda: store.problem)
    assert payloads(queue) == ["1", "2"]
    queue.ack([first])
    assert payloads(queue) == ["2"]
    assert not queue.flush(0.2)
    assert not queue.figures().on_disk


def a_file_in_place_of_the_folder(path: Path) -> None:
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_text("no folder")


def a_folder_in_place_of_the_file(path: Path) -> None:
    path.mkdir(parents=True)


def a_folder_that_cannot_be_made(path: Path) -> None:
    path.parent.symlink_to("/proc/nothing/here")


@pytest.mark.parametrize(
    "spoil", [a_file_in_place_of_the_folder, a_folder_in_place_of_the_file, a_folder_that_cannot_be_made]
)
def test_without_a_usable_place_queues_go_on_in_memory_and_say_so_once(
    path: Path, spoil: Callable[[Path], None], lines: Lines
) -> None:
    spoil(path)
    with opened(path) as store:
        works_in_memory(store, store.queue("influx"))
        assert told(lines, "queues are in memory only") == 1


def test_a_second_process_on_the_same_file_goes_on_in_memory(path: Path) -> None:
    with opened(path) as first:
        kept = first.queue("influx")
        kept.put(items("mine"))
        assert written(kept)
        with opened(path) as second:
            assert second.problem == "another process uses the file"
            works_in_memory(second, second.queue("influx"))
        assert payloads(kept) == ["mine"]


def test_in_memory_the_oldest_go_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_queue, "MEMORY", Limits(2, 1 << 20))
    a_file_in_place_of_the_folder(path)
    with opened(path) as store:
        queue = store.queue("influx")
        queue.put(items("1", "2", "3"))
        assert (payloads(queue), queue.figures().dropped) == (["2", "3"], 1)


def test_what_waited_in_memory_goes_to_the_disk_when_that_is_back(path: Path, lines: Lines) -> None:
    a_file_in_place_of_the_folder(path)
    with opened(path) as store:
        queue = store.queue("influx")
        works_in_memory(store, queue)
        path.parent.unlink()
        assert written(queue)
        eventually(lambda: not store.problem)
        assert payloads(queue) == ["2"]
        assert [line["event"] for line in lines] == ["queues are in memory only", "queues are on disk again"]
    with opened(path) as store:
        assert payloads(store.queue("influx")) == ["2"]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda _: b"this is not a database at all, and long enough to be one" * 100,
    "half": lambda whole: whole[: len(whole) // 2],
    "zeros inside": lambda whole: whole[:4096] + bytes(len(whole) - 4096),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(
    path: Path, damage: Callable[[bytes], bytes], lines: Lines
) -> None:
    with opened(path) as store:
        queue = store.queue("influx")
        queue.put(items(*(str(number) * 100 for number in range(500))))
    spoilt = damage(path.read_bytes())
    path.write_bytes(spoilt)
    with opened(path) as store:
        queue = store.queue("influx")
        queue.put(items("new"))
        assert written(queue)
        queue.peek(1000)  # some damage shows only when it is read
        queue.put(items("newer"))
        assert written(queue)
        assert payloads(queue)[-1] == "newer"
        (aside,) = path.parent.glob("*.damaged-*Z")
        assert aside.read_bytes() == spoilt
        assert told(lines, "queue file is damaged") == 1
        assert store.problem == ""


def test_a_file_of_another_layout_is_kept_aside(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE queues (something TEXT)")
    db.close()
    with opened(path) as store:
        queue = store.queue("influx")
        queue.put(items("1"))
        assert written(queue)
        assert payloads(queue) == ["1"]
    assert len(list(path.parent.glob("*.damaged-*Z"))) == 1


def test_only_the_newest_damaged_files_are_kept(path: Path) -> None:
    for number in range(KEPT_ASIDE + 2):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"damaged {number}" * 1000)
        with opened(path) as store:
            store.queue("influx")
    kept = sorted(path.parent.glob("*.damaged-*Z"))
    assert [each.read_text()[:9] for each in kept] == ["damaged 2", "damaged 3", "damaged 4"]


def test_a_damaged_file_is_the_newest_whatever_the_clock_says(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    for year in (2096, 2097, 2098):
        path.with_name(f"{path.name}.damaged-{year}0101T000000.000000Z").write_text(f"of {year}")
    path.write_text("damaged now" * 1000)
    with opened(path) as store:
        store.queue("influx")
    kept = sorted(path.parent.glob("*.damaged-*Z"))
    assert [each.read_text()[:11] for each in kept] == ["of 2097", "of 2098", "damaged now"]


def test_an_entry_of_a_commit_that_failed_only_in_word_is_there_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures = StoreFile.commit, iter([True])

    def commit_and_fail(self: StoreFile, *arguments: object) -> object:
        done = commit(self, *arguments)  # type: ignore[arg-type]
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        return done

    monkeypatch.setattr(StoreFile, "commit", commit_and_fail)
    with opened(path) as store:
        queue = store.queue("influx")
        ids = queue.put(items("1", "2"))
        assert written(queue)
        eventually(lambda: not store.problem)
        assert [(each.id, each.item.payload) for each in queue.peek()] == [(ids[0], b"1"), (ids[1], b"2")]
        assert queue.figures().depth == 2


def test_what_is_acknowledged_while_it_is_written_does_not_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, acknowledge = StoreFile.commit, list[Callable[[], None]]()

    def commit_meanwhile(self: StoreFile, *arguments: object) -> object:
        while acknowledge:
            acknowledge.pop()()
        return commit(self, *arguments)  # type: ignore[arg-type]

    with opened(path) as store:
        queue = store.queue("influx")
        monkeypatch.setattr(StoreFile, "commit", commit_meanwhile)
        ids = queue.put(items("1", "2"))
        acknowledge.append(lambda: queue.ack(ids[:1]))
        assert written(queue)
        assert payloads(queue) == ["2"]
    with opened(path) as store:
        assert payloads(store.queue("influx")) == ["2"]


def test_closing_writes_what_waits(path: Path) -> None:
    store = Store(path, system_clock(), 3600.0)
    store.start()
    store.queue("influx").put(items("1"))
    store.close(20)
    with opened(path) as store:
        assert payloads(store.queue("influx")) == ["1"]


# -- a flipped bit


def spoil(path: Path, number: int, column: str, value: str, queue: str = "influx") -> None:
    """What a card did to one row while nobody had the file."""
    with closing(sqlite3.connect(path)) as database, database:
        row = f'(SELECT id FROM "q_{queue}" ORDER BY id LIMIT 1 OFFSET {number})'
        database.execute(f'UPDATE "q_{queue}" SET {column} = {value} WHERE id = {row}')


NOT_UTF_8 = "CAST(x'FF64' AS TEXT)"


@pytest.mark.parametrize("number", [0, 3, 9])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("device_id", NOT_UTF_8),
        ("timestamp", NOT_UTF_8),
        ("kind", NOT_UTF_8),
        ("kind", "NULL"),
        ("payload", "NULL"),
    ],
)
def test_an_entry_that_a_flipped_bit_spoilt_is_left_out_counted_and_told_and_the_others_go_on(
    path: Path, lines: Lines, number: int, column: str, value: str
) -> None:
    with opened(path) as store:
        store.queue("influx").put(items(*"0123456789"))
    spoil(path, number, column, value)
    with opened(path) as store:
        queue = store.queue("influx")
        found = [each for _ in range(3) for each in payloads(queue, limit=100)]
        left = [each for each in "0123456789" if each != str(number)]
        assert found == 3 * left
        assert store.problem == ""
        queue.ack(each.id for each in queue.peek())
        assert written(queue)
        queue.put(items("new"))
        assert written(queue)
        assert payloads(queue) == ["new"]
        figures = queue.figures()
        assert (figures.depth, figures.dropped, figures.dropping) == (1, 1, False)
    assert told(lines, "cannot be read and are left out") == 1
    assert told(lines, "") == 1
    with opened(path) as store:
        assert store.queue("influx").figures().dropped == 1


def test_a_batch_of_which_nothing_can_be_read_is_passed_over(path: Path) -> None:
    with opened(path) as store:
        store.queue("influx").put(items(*"0123456789"))
    for number in range(8):
        spoil(path, number, "payload", "NULL")
    with opened(path) as store:
        queue = store.queue("influx")
        assert payloads(queue, limit=2) == ["8", "9"]


@pytest.mark.parametrize("value", ["'noon'", "NULL", "-1e300", "1e300", "x'00'"])
def test_an_entry_of_which_only_the_time_is_spoilt_is_given_like_any_other(path: Path, value: str) -> None:
    with opened(path) as store:
        store.queue("influx").put(items("0", "1"))
    spoil(path, 0, "at", value)
    with opened(path) as store:
        queue = store.queue("influx")
        assert payloads(queue) == ["0", "1"]
        assert [each.at for each in queue.peek(limit=1)] == [0.0]
        assert queue.figures().oldest_s is None


def test_a_mark_that_is_not_utf_8_any_more_is_given_as_far_as_it_can_be_read(path: Path) -> None:
    with opened(path) as store:
        store.queue("influx").put(items("0"), "abc")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE queues SET mark = CAST(x'61FF63' AS TEXT)")
    with opened(path) as store:
        queue = store.queue("influx")
        assert (queue.mark, payloads(queue), store.problem) == ("a\ufffdc", ["0"], "")


@pytest.mark.parametrize("column", ["last_id", "dropped", "mark"])
def test_a_file_that_does_not_know_its_queue_any_more_is_kept_aside(path: Path, column: str) -> None:
    with opened(path) as store:
        store.queue("influx").put(items("0"))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE queues SET {column} = NULL")
    with opened(path) as store:
        works_on_disk = store.queue("influx")
        works_on_disk.put(items("1"))
        assert written(works_on_disk)
        assert (payloads(works_on_disk), store.problem) == (["1"], "")
    assert len(list(path.parent.glob("*.damaged-*Z"))) == 1


def test_a_queue_that_is_empty_has_no_bytes_also_before_that_is_on_the_disk(path: Path) -> None:
    store = Store(path, system_clock(), 3600)
    store.start()
    try:
        queue = store.queue("influx")
        queue.put(items("0", "1"), at_once=True)
        eventually(lambda: len(queue.peek()) == 2)
        queue.ack(each.id for each in queue.peek())
        figures = queue.figures()
        assert (figures.depth, figures.size_bytes) == (0, 0)
    finally:
        store.close(20)


def test_what_can_never_be_sent_leaves_the_queue_and_counts_as_dropped(path: Path) -> None:
    with opened(path) as store:
        queue = store.queue("influx")
        first, _ = queue.put(items("0", "1"))
        assert written(queue)
        queue.give_up([first])
        queue.give_up([first])
        assert payloads(queue) == ["1"]
        assert written(queue)
        assert (queue.figures().depth, queue.figures().dropped) == (1, 1)
