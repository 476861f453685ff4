"""What the machine allows a hub: open files, processes and threads."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path

import psutil

FILES = 65_536  # enough for any hub; more would only make some programs' tables larger
BASE_TASKS = 60  # measured: processes and threads of a hub without devices, some of them answering
REACHED = "the limit on processes and threads is reached (ulimit -u, the container's pids limit): raise it"
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids"))


def raise_open_files() -> None:
    """Raise this process's soft limit on open files towards the hard one; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_reached(error: BaseException) -> bool:
    """Whether a process or thread could not be started because there are too many."""
    if isinstance(error, RuntimeError):
        return "can't start new thread" in str(error)
    return isinstance(error, OSError) and error.errno == errno.EAGAIN


def free_tasks() -> int | None:
    """How many processes and threads this user may still start here; None when nothing limits them."""
    found = [left for left in (_left_of_user(), *map(_left_of_group, _CGROUPS)) if left is not None]
    return min(found) if found else None


def _left_of_user() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:  # root is not bound by it
        return None
    used = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            used += process.num_threads() if process.uids().real == os.getuid() else 0
    return max(0, soft - used)


def _left_of_group(folder: Path) -> int | None:
    try:
        return max(0, int((folder / "pids.max").read_text()) - int((folder / "pids.current").read_text()))
    except (OSError, ValueError):  # no such limit, or `max`
        return None
