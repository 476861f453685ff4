"""A hub whose log nobody takes works on, and ends when it is told to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support import eventually
from tests.system.hub import (
    ROOT,
    SENSOR_HUB,
    STOPPED_WITHIN_S,
    UP_WITHIN_S,
    command,
    environment,
    instance_file,
    leftovers,
    new_id,
    run_dir_of,
)

pytestmark = [pytest.mark.system, pytest.mark.slow]


@contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that nobody reads, full to the brim."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"." * 512):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    with open("/dev/full", "wb") as full:
        yield full.fileno()


@contextmanager
def nothing() -> Iterator[int]:
    """No stdout and no stderr at all."""
    yield -1


def start(instance_id: str, root: Path, stdout: int) -> subprocess.Popen[bytes]:
    closed = " >&- 2>&-" if stdout < 0 else ""
    return subprocess.Popen(
        ["sh", "-c", f"exec '{SENSOR_HUB}' run --demo{closed}"],
        env=environment(instance_id, root),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=None if stdout < 0 else stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize("stdout", [full_pipe, full_disk, nothing])
def test_a_hub_whose_stdout_takes_nothing_is_healthy_and_stops_in_time(
    tmp_path: Path, stdout: Callable[[], AbstractContextManager[int]]
) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    env = environment(instance_id, tmp_path)
    with run_dir_of(instance_id), stdout() as descriptor:
        hub = start(instance_id, tmp_path, descriptor)
        try:
            eventually(lambda: hub.poll() is not None or healthy(env), UP_WITHIN_S)
            assert hub.poll() is None
            hub.terminate()
            assert hub.wait(STOPPED_WITHIN_S) == 0
            assert eventually(lambda: leftovers(instance_id) == [])
        finally:
            for process in leftovers(instance_id):
                process.kill()
            hub.wait(10)


def healthy(env: dict[str, str]) -> bool:
    return command("health", env=env).returncode == 0
