"""What the machine allows: found out and told in a line, never by a trace."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from sensor_hub import limits


def in_a_process_of_its_own(code: str) -> str:
    line = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; import resource; {code}"]
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 4096, 4096), (4096, 4096, 4096)])
def test_the_limit_on_open_files_is_raised_to_what_is_allowed(soft: int, hard: int, raised: int) -> None:
    found = in_a_process_of_its_own(
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); from sensor_hub import limits;"
        "limits.raise_open_files(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert found == f"{raised} {hard}"


@pytest.mark.parametrize(
    ("error", "reached"),
    [
        (RuntimeError("can't start new thread"), True),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (RuntimeError("something else"), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
    ],
)
def test_an_error_of_too_many_processes_is_told_from_others(error: Exception, reached: bool) -> None:
    assert limits.is_reached(error) is reached


def test_what_is_left_is_no_negative_number() -> None:
    free = limits.free_tasks()
    assert free is None or free >= 0
