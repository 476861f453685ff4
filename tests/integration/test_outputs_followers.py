"""Outputs follow the journal, each in a process or thread of its own: what one suffers no other notices."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import runtime
from sensor_hub.clock import system_clock
from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs import follower
from sensor_hub.outputs.counts import CountedQueue
from sensor_hub.outputs.delivery import Delivery
from sensor_hub.outputs.follower import QUEUE, FollowerSetup, item_of, message_of
from sensor_hub.outputs.followers import Followers
from sensor_hub.outputs.json_lines import JsonLines
from sensor_hub.readings import Entry, Quality, Reading, Snapshot, Status
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item
from tests.contract.feed import Feed, feed, sensor
from tests.influx import free_ports
from tests.support import eventually

NOON = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
PARALLELISM = ["process", "thread"]
THREE = [sensor("cellar"), sensor("attic", bridge=["files", "mqtt"]), sensor("garage", bridge=["mqtt"])]


class Running:
    """An instance's outputs."""

    def __init__(self, its_feed: Feed, folder: Path) -> None:
        self.feed, self._folder = its_feed, folder
        self.followers = self.start()

    def start(self) -> Followers:
        self.followers = Followers(self.feed.hub, system_clock())
        self.followers.start()
        return self.followers

    def report(self, output_id: str) -> dict[str, Any]:
        return self.followers.report()[output_id]

    def lines(self, output_id: str) -> list[dict[str, Any]]:
        path = self._folder / "data" / self.feed.hub.instance_id / f"{output_id}.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""  # one may be just written
        return [json.loads(line) for line in whole.splitlines()]

    def is_again(self, output_id: str, restarts: int) -> bool:
        shown = self.report(output_id)
        return bool(shown["restarts"] == restarts and shown["pid"])

    def has_about(self, output_id: str, count: int) -> bool:
        return len(self.lines(output_id)) > count - 40

    def fails(self, output_id: str) -> bool:
        return bool(self.report(output_id)["state"] == "failing")

    def waits(self, output_id: str, depth: int) -> bool:
        return bool(self.report(output_id)["queue"]["depth"] == depth)

    def values(self, output_id: str) -> list[object]:
        return [line["data"]["value"] for line in self.lines(output_id)]


Begin = Callable[..., Running]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with ExitStack() as stack:

        def start(
            outputs: object, sensors: list[dict[str, Any]] | None = None, **environment: str
        ) -> Running:
            its_feed = stack.enter_context(feed(tmp_path, outputs, sensors, **environment))
            running = Running(its_feed, tmp_path)
            stack.callback(lambda: running.followers.join(10))
            return running

        yield start


def files(parallelism: str, **more: Any) -> dict[str, Any]:
    return {"files": {"type": "json_lines", "parallelism": parallelism}, **more}


@pytest.mark.parametrize("parallelism", PARALLELISM)
def test_an_output_gets_every_reading_of_its_devices_and_all_that_belongs_to_it(
    begin: Begin, parallelism: str
) -> None:
    running = begin(files(parallelism), THREE)
    for number in range(30):
        for each in ("cellar", "attic", "garage"):
            running.feed.says(each, {"value": number / 2, "on": number % 2 == 0, "mode": "ä\n"})
    eventually(lambda: len(running.lines("files")) == 60, 30)
    taken = [each for each in running.feed.journal() if each["device_id"] != "garage"]
    assert [line["id"] for line in running.lines("files")] == [each["id"] for each in taken]
    line = running.lines("files")[3]
    assert line == {
        "id": taken[3]["id"],
        "timestamp": taken[3]["timestamp"],
        "device_id": "attic",
        "type": "temperature",
        "data": {"value": 0.5, "on": False, "mode": "ä\n"},
        "quality": "good",
        "unit": "°C",
        "source_transport": "bus0",
        "target_transport": "files",
        "source_transport_info": {
            "name": "Heat pump",
            "device_identifier": "sn-7",
            "manufacturer": "Acme, Inc.",
            "model": "HP 5=b",
            "serial_number": "SN-7",
        },
    }
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
    eventually(lambda: running.report("files")["sent"] == 60, 30)
    shown = running.report("files")
    assert (shown["type"], shown["parallelism"], shown["state"]) == ("json_lines", parallelism, "up")
    assert (shown["pid"] == os.getpid()) == (parallelism == "thread")


@pytest.mark.parametrize("parallelism", PARALLELISM)
def test_after_a_stop_and_a_start_it_goes_on_where_it_was(begin: Begin, parallelism: str) -> None:
    running = begin(files(parallelism))
    for number in range(20):
        running.feed.says("cellar", {"value": number})
    eventually(lambda: running.values("files") == list(range(20)), 30)
    running.followers.join(20)
    for number in range(20, 40):
        running.feed.says("cellar", {"value": number})
    running.start()
    eventually(lambda: running.values("files") == list(range(40)), 30)
    assert running.report("files")["missed"] == 0


def test_one_that_is_killed_begins_again_and_has_every_reading_and_its_neighbour_notices_nothing(
    begin: Begin,
) -> None:
    running = begin(files("process", other={"type": "json_lines"}))
    said = 0
    for killed in range(2):
        for _ in range(50):
            running.feed.says("cellar", {"value": said})
            said += 1
        eventually(partial(running.is_again, "files", killed), 30)
        eventually(partial(running.has_about, "files", said), 30)
        os.kill(running.report("files")["pid"], signal.SIGKILL)
    eventually(lambda: set(running.values("files")) == set(range(said)), 30)
    once = {line["id"]: line["data"]["value"] for line in running.lines("files")}
    assert list(once.values()) == list(range(said))
    times = Counter(line["id"] for line in running.lines("files"))
    assert max(times.values()) <= 3  # a kill brings back what was not acknowledged then, once
    eventually(lambda: running.values("other") == list(range(said)), 30)
    eventually(lambda: running.report("files")["restarts"] == 2, 30)
    assert running.report("other")["restarts"] == 0


@pytest.mark.parametrize("parallelism", PARALLELISM)
def test_an_output_that_cannot_deliver_keeps_everything_and_the_others_go_on(
    begin: Begin, tmp_path: Path, parallelism: str
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    broken = {"type": "influxdb", "url": url, "database": "x", "parallelism": parallelism}
    full = tmp_path / "no-folder"
    full.write_text("")
    no_room = {"type": "json_lines", "path": str(full / "x.jsonl"), "parallelism": parallelism}
    running = begin(files(parallelism, broken=broken, no_room=no_room))
    for number in range(100):
        running.feed.says("cellar", {"value": number})
    eventually(lambda: running.values("files") == list(range(100)), 30)
    for name, reason in (("broken", "not reachable: Connection refused"), ("no_room", "File exists")):
        eventually(partial(running.fails, name), 30)
        shown = running.report(name)
        assert reason in shown["problem"]
        eventually(partial(running.waits, name, 100), 30)
        assert shown["queue"]["on_disk"] is True
    full.unlink()
    eventually(lambda: running.report("no_room")["queue"]["depth"] == 0, 60)
    assert len((full / "x.jsonl").read_text().splitlines()) == 100


def test_readings_that_the_journal_no_longer_had_are_counted(begin: Begin) -> None:
    running = begin(files("thread"), JOURNAL_ENTRIES="500")
    running.feed.says("cellar", {"value": 0})
    eventually(lambda: running.values("files") == [0], 30)
    running.followers.join(20)
    limit = running.feed.hub.journal_entries
    for number in range(1, limit + 101):
        running.feed.says("cellar", {"value": number})
    running.start()
    eventually(lambda: running.report("files").get("missed") == 100, 60)
    eventually(lambda: len(running.lines("files")) == limit + 1, 60)
    eventually(lambda: running.report("files")["sent"] == limit + 1, 30)
    running.followers.join(20)
    running.start()
    eventually(lambda: "since" in running.report("files"), 30)  # it has said something itself
    shown = running.report("files")
    assert (shown["missed"], shown["sent"], shown["interrupted"]) == (100, limit + 1, 0)


def test_what_was_counted_and_what_waits_is_shown_while_its_process_is_deaf_or_begins_again(
    begin: Begin, tmp_path: Path
) -> None:
    full = tmp_path / "no-folder"
    full.write_text("")
    running = begin({"files": {"type": "json_lines", "path": str(full / "x.jsonl")}})
    for number in range(30):
        running.feed.says("cellar", {"value": number})
    eventually(partial(running.fails, "files"), 30)
    eventually(partial(running.waits, "files", 30), 30)
    pid = running.report("files")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: running.report("files")["state"] == "deaf", 30)
        shown = running.report("files")
        assert (shown["queue"]["depth"], shown["sent"], shown["refused"], shown["missed"]) == (30, 0, 0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
    seen: list[dict[str, Any]] = []

    def it_works_again() -> bool:
        seen.append(running.report("files"))
        return bool(seen[-1]["restarts"] and seen[-1]["state"] not in ("starting", "deaf"))

    eventually(it_works_again, 60)
    assert all(each.keys() >= {"sent", "refused", "missed", "interrupted"} for each in seen)
    assert {each["queue"]["depth"] for each in seen[:-1]} <= {30}
    eventually(partial(running.waits, "files", 30), 30)


KIB = 1024


def test_one_that_hangs_is_ended_and_has_every_reading(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "HUNG_AFTER_S", 10.0)  # it says that it lives every 5 s
    running = begin(files("process"))
    running.feed.says("cellar", {"value": 0})
    eventually(lambda: running.values("files") == [0], 30)
    os.kill(running.report("files")["pid"], signal.SIGSTOP)
    running.feed.says("cellar", {"value": 1})
    eventually(lambda: running.report("files")["restarts"] >= 1, 60)
    eventually(lambda: 1 in running.values("files"), 60)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("device_id", "CAST(x'FF64' AS TEXT)"),
        ("payload", "NULL"),
        ("payload", "12"),
        ("payload", "CAST('{}' AS BLOB)"),
        ("payload", """CAST('{"id":"zz"}' AS BLOB)"""),
        ("timestamp", "'noon'"),
        ("timestamp", "'2026-03-01T12:00:00'"),
        ("at", "'noon'"),
    ],
)
def test_a_reading_that_a_flipped_bit_spoilt_in_the_queue_stops_no_other(
    tmp_path: Path, column: str, value: str
) -> None:
    path, clock = tmp_path / "files.sqlite3", system_clock()
    with ExitStack() as stack:
        entries = [Entry(f"0123456789ab-{number}", NOON, read(number)) for number in range(9)]
        with_five_spoilt(path, [item_of(each, "bus0") for each in entries], column, value)
        store = Store(path, clock)
        store.start()
        stack.callback(store.close, 30)
        counted = CountedQueue(store.queue(QUEUE))
        output = OutputConfig("files", "json_lines", "outputs.files", {})
        setup = FollowerSetup(output, "hub", "http://127.0.0.1:1", {}, {}, path)
        delivery = Delivery(
            "files", JsonLines(output, "hub", tmp_path), counted, partial(message_of, setup=setup), clock
        )
        stopping = threading.Event()
        thread = threading.Thread(target=delivery.run, args=(stopping, lambda: 0.5), daemon=True)
        thread.start()
        stack.callback(thread.join, 30)
        stack.callback(delivery.wake)
        stack.callback(stopping.set)
        eventually(lambda: counted.queue.figures().depth == 0, 30)
        lost = counted.queue.figures().dropped + counted.counts.refused
        assert (counted.counts.sent, lost) == ((9, 0) if column == "at" else (8, 1))
    lines = [
        json.loads(line)["data"]["value"] for line in (tmp_path / "files.jsonl").read_text().splitlines()
    ]
    assert lines == [number for number in range(9) if number != 5 or column == "at"]


def with_five_spoilt(path: Path, items: list[Item], column: str, value: str) -> None:
    store = Store(path, system_clock())
    store.start()
    ids = store.queue(QUEUE).put(items)
    store.close(30)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f'UPDATE "q_{QUEUE}" SET {column} = {value} WHERE id = ?', (ids[5],))


def read(value: float) -> Snapshot:
    return Snapshot(
        "cellar", "generic", Status.ONLINE, Reading({"value": value}, NOON), None, Quality.GOOD, {}
    )


def test_on_a_disk_that_is_full_and_has_room_again_every_reading_is_written_once(begin: Begin) -> None:
    """Limits on the size of its files are a full disk to a process, for its queue and for what it writes."""
    running = begin(files("process"))
    running.feed.says("cellar", {"value": 0})
    eventually(lambda: running.values("files") == [0], 30)
    eventually(lambda: running.report("files").get("sent") == 1, 30)
    pid = running.report("files")["pid"]
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (32 * KIB, most))
    for number in range(1, 1001):
        running.feed.says("cellar", {"value": number})
    eventually(partial(running.fails, "files"), 30)
    assert running.report("files")["problem"].endswith("File too large")
    eventually(lambda: not running.report("files")["queue"]["on_disk"], 30)
    eventually(lambda: running.report("files")["store_problem"], 30)
    values = running.values("files")
    assert 0 < len(values) < 1001
    assert values == list(range(len(values)))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
    eventually(lambda: running.values("files") == list(range(1001)), 60)
    eventually(lambda: running.report("files")["queue"]["on_disk"], 60)
    eventually(lambda: running.report("files")["queue"]["depth"] == 0, 30)
    shown = running.report("files")
    assert (shown["restarts"], shown["pid"], shown["queue"]["dropped"], shown["missed"]) == (0, pid, 0, 0)


def test_how_an_output_is_stands_where_health_looks_for_it(begin: Begin) -> None:
    running = begin(files("process"))
    instance_id = running.feed.hub.instance_id
    folder = runtime.run_dir(instance_id)
    folder.mkdir(mode=0o700)
    try:
        running.feed.says("cellar", {"value": 1})
        eventually(
            lambda: runtime.read_queue_figures(instance_id).get("files", {}).get("sent") == 1,
            30,
        )
        shown = runtime.read_queue_figures(instance_id)["files"]
        assert (shown["depth"], shown["dropped"], shown["on_disk"], shown["state"]) == (0, 0, True, "up")
    finally:
        running.followers.join(10)
        for path in [*(folder / "queues").iterdir(), folder / "queues"]:
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()


def test_the_empty_queue_of_an_output_that_has_left_the_configuration_is_removed(begin: Begin) -> None:
    running = begin(files("thread"))
    running.followers.join(20)
    forgotten = Store(path_for(running.feed.hub, "cloud"), system_clock(), 0.01)
    forgotten.start()
    forgotten.queue(QUEUE)
    forgotten.close(30)
    assert forgotten.path.exists()
    running.start()
    eventually(lambda: not forgotten.path.exists(), 30)


def test_an_output_that_is_not_enabled_does_not_run(begin: Begin) -> None:
    running = begin({"files": {"type": "json_lines", "enabled": "false"}})
    assert running.followers.report() == {}
