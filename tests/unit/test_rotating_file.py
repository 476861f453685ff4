"""The file of JSON lines: whole lines, put aside in time, whatever happens to it."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sensor_hub.clock import Clock
from sensor_hub.outputs.rotating_file import RotatingFile, Rotation

NEVER = Rotation(0, 0, 3)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Wall:
    """A clock on the wall that a test sets."""

    def __init__(self) -> None:
        self.time, self._leapt = START, timedelta()
        self.clock = Clock(lambda: self.time, self._ran_s)

    def _ran_s(self) -> float:
        return (self.time - START - self._leapt).total_seconds()

    def leap(self, to: datetime) -> None:
        """Somebody sets it."""
        self._leapt += to - self.time
        self.time = to


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some" / "folder" / "out.jsonl"


def lines(*numbers: int) -> list[bytes]:
    return [b'{"id":%d}\n' % number for number in numbers]


def numbers_in(path: Path) -> list[int]:
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]


def aside(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.iterdir() if each != path)


def test_the_folder_is_made_and_lines_are_appended_also_by_the_next(path: Path, wall: Wall) -> None:
    for number in (1, 3):
        file = RotatingFile(path, NEVER, wall.clock)
        file.append(lines(number, number + 1))
        file.close()
    assert numbers_in(path) == [1, 2, 3, 4]


def test_a_file_that_would_grow_too_large_is_put_aside_and_the_oldest_go(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, Rotation(30, 0, 2), wall.clock)  # three lines of 9 bytes
    for number in range(1, 10):
        wall.time += timedelta(seconds=1)
        file.append(lines(number))
    assert numbers_in(path) == [7, 8, 9]
    assert [numbers_in(each) for each in aside(path)] == [[1, 2, 3], [4, 5, 6]]
    assert aside(path)[1].name == "out.jsonl.20260301T120007.000000Z"
    for number in range(10, 17):
        wall.time += timedelta(seconds=1)
        file.append(lines(number % 10))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_batch_larger_than_a_file_goes_into_several(path: Path, wall: Wall) -> None:
    RotatingFile(path, Rotation(30, 0, 9), wall.clock).append(lines(*range(8)))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_a_line_larger_than_a_file_is_a_file(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, Rotation(5, 0, 9), wall.clock)
    file.append(lines(1, 2))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1], [2]]


def test_a_file_is_put_aside_when_it_is_old_enough(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, Rotation(0, 3600, 9), wall.clock)
    file.append(lines(1))
    wall.time += timedelta(seconds=3599)
    file.append(lines(2))
    wall.time += timedelta(seconds=1)
    file.append(lines(3))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1, 2], [3]]


def test_its_age_is_known_after_a_restart_by_its_first_line(path: Path, wall: Wall) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"id":1,"timestamp":"2026-03-01T12:59:00.000+02:00"}\n')  # 10:59 UTC
    RotatingFile(path, Rotation(0, 3600, 9), wall.clock).append(lines(2))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1], [2]]


# -- a clock that is wrong until the network is there -----------------------------------------------------------------

UNSET = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


def read_at(when: datetime, number: int) -> list[bytes]:
    return [b'{"id":%d,"timestamp":"%s"}\n' % (number, when.isoformat().encode())]


def test_with_a_clock_that_is_unset_the_newest_files_are_kept_all_the_same(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, Rotation(10, 0, 3), wall.clock)
    for number in range(5):
        file.append(lines(number))
    wall.leap(UNSET)
    for number in range(5, 8):
        file.append(lines(number))
        assert [numbers_in(each)[0] for each in [*aside(path), path]] == [*range(number - 3, number + 1)]
    wall.leap(START)
    file.append(lines(8))
    assert [numbers_in(each)[0] for each in [*aside(path), path]] == [5, 6, 7, 8]


def test_a_file_that_is_put_aside_stays_whatever_others_are_called(path: Path, wall: Wall) -> None:
    path.parent.mkdir(parents=True)
    for stamp in ("99990101T000000.000000Z", "20269999T000000.000000Z"):
        path.with_name(f"{path.name}.{stamp}").write_bytes(b'{"id":0}\n')
    file = RotatingFile(path, Rotation(10, 0, 1), wall.clock)
    file.append(lines(1, 2))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1], [2]]


def test_the_clock_that_is_set_makes_a_file_of_an_earlier_run_neither_older_nor_younger(
    path: Path, wall: Wall
) -> None:
    file = RotatingFile(path, Rotation(0, 3600, 9), wall.clock)
    file.append(read_at(START, 1))
    file.close()
    wall.leap(UNSET)  # the machine starts anew
    file = RotatingFile(path, Rotation(0, 3600, 9), wall.clock)
    file.append(read_at(UNSET, 2))
    wall.leap(START + timedelta(seconds=3000))
    file.append(read_at(wall.time, 3))
    assert (numbers_in(path), aside(path)) == ([1, 2, 3], [])
    wall.time += timedelta(seconds=600)
    file.append(read_at(wall.time, 4))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1, 2, 3], [4]]


@pytest.mark.parametrize("wrong", [UNSET, START - timedelta(days=700), START + timedelta(days=30_000)])
def test_a_file_that_was_begun_with_a_wrong_clock_is_as_old_as_it_is(
    path: Path, wall: Wall, wrong: datetime
) -> None:
    wall.leap(wrong)
    file = RotatingFile(path, Rotation(0, 3600, 9), wall.clock)
    file.append(read_at(wrong, 1))
    wall.time += timedelta(seconds=1800)
    wall.leap(START)
    file.append(read_at(START, 2))
    assert (numbers_in(path), aside(path)) == ([1, 2], [])
    wall.time += timedelta(seconds=1800)
    file.append(read_at(wall.time, 3))
    assert [numbers_in(each) for each in [*aside(path), path]] == [[1, 2], [3]]


def test_a_first_line_of_an_unset_clock_does_not_make_a_file_old_after_a_restart(
    path: Path, wall: Wall
) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(read_at(UNSET, 1)[0])
    RotatingFile(path, Rotation(0, 3600, 9), wall.clock).append(read_at(START, 2))
    assert (numbers_in(path), aside(path)) == ([1, 2], [])


def test_it_is_readable_for_its_owner_only(path: Path, wall: Wall) -> None:
    before = os.umask(0)
    try:
        RotatingFile(path, NEVER, wall.clock).append(lines(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_with_none_to_keep_what_is_put_aside_is_gone(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, Rotation(10, 0, 0), wall.clock)
    for number in range(3):
        file.append(lines(number))
    assert (numbers_in(path), aside(path)) == ([2], [])


def test_other_files_of_the_folder_are_let_alone(path: Path, wall: Wall) -> None:
    path.parent.mkdir(parents=True)
    other = path.with_name("out.jsonl.bak")
    other.write_text("mine", encoding="ascii")
    file = RotatingFile(path, Rotation(10, 0, 0), wall.clock)
    for number in range(3):
        file.append(lines(number))
    assert other.read_text(encoding="ascii") == "mine"


def test_a_last_line_that_was_torn_is_ended_and_disturbs_no_other(path: Path, wall: Wall) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"id":1}\n{"id"')
    RotatingFile(path, NEVER, wall.clock).append(lines(2))
    assert path.read_bytes() == b'{"id":1}\n{"id"\n{"id":2}\n'


def test_one_that_somebody_moves_or_empties_is_begun_anew(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, NEVER, wall.clock)
    file.append(lines(1))
    path.rename(path.with_name("moved"))
    file.append(lines(2))
    assert (numbers_in(path), numbers_in(path.with_name("moved"))) == ([2], [1])
    os.truncate(path, 0)
    file.append(lines(3))
    assert numbers_in(path) == [3]


def test_two_do_not_write_to_one_file(path: Path, wall: Wall) -> None:
    first, second = (RotatingFile(path, NEVER, wall.clock) for _ in range(2))
    first.append(lines(1))
    with pytest.raises(OSError, match="another process or output writes to it"):
        second.append(lines(2))
    first.close()
    second.append(lines(2))
    assert numbers_in(path) == [1, 2]


def test_what_is_no_file_is_refused_and_nobody_waits_for_it(path: Path, wall: Wall) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"no regular file|No such device"):
        RotatingFile(path, NEVER, wall.clock).append(lines(1))
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.fixture
def half_a_disk() -> Iterator[None]:
    """No file may be larger than 100 bytes: as on a full disk a part of what is written fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("half_a_disk")
def test_of_lines_that_do_not_fit_nothing_is_left_in_the_file(path: Path, wall: Wall) -> None:
    file = RotatingFile(path, NEVER, wall.clock, fsync=True)
    file.append(lines(1, 2, 3))
    with pytest.raises(OSError, match="File too large"):
        file.append(lines(*range(9, 20)))
    assert numbers_in(path) == [1, 2, 3]
    file.append(lines(4))
    assert numbers_in(path) == [1, 2, 3, 4]


WRITER = """
import sys
from pathlib import Path
from sensor_hub.clock import system_clock
from sensor_hub.outputs.rotating_file import RotatingFile, Rotation
file = RotatingFile(Path(sys.argv[1]), Rotation(200_000, 0, 1000), system_clock())
number = int(sys.argv[2])
while True:
    file.append([b'{"id":%d}\\n' % each for each in range(number, number + 500)])
    number += 500
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_lines_but_for_the_last(path: Path) -> None:
    written = 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(written)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(20 + 13 * round_):
            written = int(process.stdout.readline())
        process.kill()
        process.wait(10)
        written = max([written, *(int(line) for line in process.stdout.read().split())])
        process.stdout.close()
    found, torn = set[int](), 0
    for each in [*aside(path), path]:
        for line in each.read_bytes().splitlines():
            try:
                found.add(json.loads(line)["id"])
            except ValueError:
                torn += 1
    assert set(range(written)) <= found
    assert torn <= 4
