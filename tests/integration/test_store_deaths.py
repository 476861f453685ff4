"""The store in processes that are killed, on disks that are full, limited or read-only."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.store import Store

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = [sys.executable, "-m", "tests.integration.store_programs"]
KILLS = 20


def killed_after(lines: int, path: Path, first: int) -> dict[str, set[int]]:
    """What the writer told before it was killed, by its words."""
    command = [*PROGRAMS, "write_and_acknowledge", str(path), str(first)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told: dict[str, set[int]] = defaultdict(set)
    try:
        heard = [process.stdout.readline() for _ in range(lines)]
    finally:
        process.kill()
        heard_late, _ = process.communicate()
    for line in [*heard, *heard_late.splitlines(keepends=True)]:
        word, *rest = line.split() or [""]
        if line.endswith("\n"):
            told[word] |= set(map(int, rest))
    return told


def test_20_kills_lose_nothing_that_was_put_and_bring_back_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    path, first = tmp_path / "q.sqlite3", 0
    owed, settled, ids = set[int](), set[int](), dict[int, int]()
    for _ in range(KILLS):
        told = killed_after(random.randint(2, 40), path, first)
        assert owed <= told["began"] or not told["began"], sorted(owed - told["began"])
        owed = (owed | told["put"]) - told["acknowledging"]
        settled |= told["acknowledged"]
        store = Store(path, system_clock())
        store.start()
        try:
            queue = store.queue("q")
            assert not store.problem
            found = {entry.id: int(entry.item.payload) for entry in queue.peek(1_000_000)}
            mark = int(queue.mark)
        finally:
            store.close(30)
        there = list(found.values())
        assert owed <= set(there), f"lost: {sorted(owed - set(there))}"
        assert not settled & set(there), f"came back: {sorted(settled & set(there))}"
        assert there == sorted(set(there))
        assert list(found) == sorted(found)
        assert all(ids.setdefault(number, entry_id) == entry_id for entry_id, number in found.items())
        assert mark >= max(there)
        first = (mark // 20 + 1) * 20
    assert len(settled) > KILLS
    assert list(tmp_path.glob("*damaged*")) == []


def run(which: str, path: Path, *before: str) -> str:
    done = subprocess.run(
        [*before, *PROGRAMS, which, str(path)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def mounting(options: str, where: Path) -> list[str]:
    """A command that runs another with a small disk at `where`, which is gone with it."""
    script = f'mount -t tmpfs -o "{options}" none "{where}" && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "-", "true"], check=False, capture_output=True
    )
    if probe.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {probe.stderr.decode()[:200]}")
    return ["unshare", "-rm", "sh", "-c", script, "-"]


def test_on_a_full_disk_nothing_is_lost_and_it_recovers_when_there_is_room(tmp_path: Path) -> None:
    said = run("fill_the_disk", tmp_path / "q.sqlite3", *mounting("size=4m", tmp_path))
    assert said.count("queues are in memory only") == said.count("queues are on disk again") == 2


def test_a_limit_on_file_sizes_is_a_full_disk_too(tmp_path: Path) -> None:
    said = run("limit_files", tmp_path / "q.sqlite3")
    assert said.count("queues are in memory only") == said.count("queues are on disk again") >= 1


def test_in_a_read_only_folder_queues_are_in_memory(tmp_path: Path) -> None:
    said = run("find_it_read_only", tmp_path / "hub" / "q.sqlite3", *mounting("ro", tmp_path))
    assert said.count("queues are in memory only") == 1
