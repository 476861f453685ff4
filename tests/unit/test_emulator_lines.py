"""The pure parts of emulated lines: how long bytes take, when a caller tries again, whose a path is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.pacing import Direction, Speed
from emulator.ptys import Claim, PathTakenError, Pty
from emulator.reconnecting import Retries


@pytest.mark.parametrize(
    ("speed", "char_ms", "silence_ms"),
    [
        (Speed(9600), 1.0417, 3.646),
        (Speed(9600, "E"), 1.1458, 4.010),
        (Speed(19200, "N", 2), 0.5729, 2.005),
        (Speed(115200), 0.0868, 1.75),
    ],
)
def test_a_character_and_a_silence_take_their_time(speed: Speed, char_ms: float, silence_ms: float) -> None:
    assert speed.char_s * 1000 == pytest.approx(char_ms, rel=1e-3)
    assert speed.silence_s * 1000 == pytest.approx(silence_ms, rel=1e-3)


def test_bytes_follow_each_other_on_a_line() -> None:
    direction = Direction(0.001)
    assert [direction.take(at, 10) for at in (5.0, 5.0, 5.002, 6.0)] == pytest.approx([5.0, 5.01, 5.02, 6.0])
    assert Direction(0.0).take(5.0, 1000) == 5.0


def test_bytes_come_in_groups_of_four_milliseconds_and_at_once_on_a_line_without_pace() -> None:
    assert [Direction(Speed(baud).char_s).chunk(100) for baud in (300, 9600, 115200)] == [1, 3, 46]
    assert Direction(0.0).chunk(1000) == 1000


def test_pauses_double_from_the_backoff_up_to_30_s() -> None:
    retries = Retries(1.0, 0)
    assert [retries.failed(float(n)) for n in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    retries.connection_ended(0.1, used=True)
    assert retries.failed(100.0) == 1


def test_who_calls_gives_up_when_his_time_since_the_first_failure_is_over() -> None:
    retries = Retries(1.0, 10)
    assert [retries.failed(at) for at in (100.0, 101.0, 103.0, 107.0)] == [1, 2, 4, 3]
    assert retries.failed(110.0) is None


@pytest.mark.parametrize(
    ("stood_s", "used", "pause_s"),
    [(0.0, True, 1), (1.0, False, 1), (0.99, False, None)],
    ids=["a byte went", "it stood", "neither"],
)
def test_a_connection_that_was_of_use_makes_his_time_begin_anew(
    stood_s: float, used: bool, pause_s: float | None
) -> None:
    retries = Retries(1.0, 10)
    retries.failed(100.0)
    retries.connection_ended(stood_s, used=used)
    assert retries.failed(200.0) == pause_s


def test_who_has_no_time_limit_never_gives_up() -> None:
    patient = Retries(1.0, 0)
    patient.failed(0.0)
    assert patient.failed(1e9) == 2


def test_a_path_belongs_to_one_and_is_free_again_when_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bus"
    claim = Claim(path)
    with pytest.raises(PathTakenError, match="belongs to another emulator that runs"):
        Claim(path)
    claim.release()
    Claim(path).release()
    assert list(path.parent.iterdir()) == []


def test_a_refused_path_is_not_kept_locked(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    path.write_text("mine")
    with pytest.raises(PathTakenError, match="exists and is not a link"):
        Claim(path)
    assert [each.name for each in tmp_path.iterdir()] == ["bus"]


def test_a_link_to_nothing_is_replaced_and_one_to_a_living_terminal_of_others_is_not(tmp_path: Path) -> None:
    path, pty = tmp_path / "bus", Pty()
    path.symlink_to("/dev/pts/99999")
    claim = Claim(path)
    claim.link("/dev/pts/99998")
    claim.unlink("/dev/pts/99999")
    assert os.readlink(path) == "/dev/pts/99998"
    claim.release()
    path.unlink()
    path.symlink_to(pty.name)
    with pytest.raises(PathTakenError, match="not one of the emulator's"):
        Claim(path)
    assert os.readlink(path) == pty.name
    pty.close()


@pytest.mark.parametrize("kind", ["file", "living terminal"])
def test_what_came_to_the_path_after_it_was_claimed_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "bus", Pty()
    claim = Claim(path)
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(other.name)
    with pytest.raises(PathTakenError):
        claim.link("/dev/pts/99999")
    assert path.read_text() == "mine" if kind == "file" else os.readlink(path) == other.name
    claim.release()
    other.close()


def test_a_link_that_a_dead_emulator_left_is_replaced_though_its_number_lives_again(tmp_path: Path) -> None:
    path, pty = tmp_path / "bus", Pty()
    path.symlink_to(pty.name)
    (tmp_path / ".bus.lock").touch()
    Claim(path).release()
    pty.close()
    assert not (tmp_path / ".bus.lock").exists()
