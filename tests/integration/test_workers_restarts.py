"""Start, stop, start again, any number of times: nothing is left behind."""

from __future__ import annotations

import threading

import psutil
import pytest

from sensor_hub.config.model import Parallelism
from tests.integration.crew import ROOT, Crew
from tests.support import eventually


@pytest.fixture(autouse=True)
def children_find_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def leftovers() -> tuple[int, int, int]:
    """Threads, file descriptors and children (zombies too) of this process."""
    me = psutil.Process()
    return threading.active_count(), me.num_fds(), len(me.children(recursive=True))


def nothing_is_left(before: tuple[int, int, int]) -> bool:
    return all(now <= then for now, then in zip(leftovers(), before, strict=True))


@pytest.mark.parametrize(
    ("mode", "times"), [(Parallelism.SINGLE, 200), (Parallelism.THREAD, 200), (Parallelism.PROCESS, 10)]
)
def test_restarts_leave_nothing_behind(mode: Parallelism, times: int) -> None:
    """200 of processes take about two minutes, of which 10 say the same."""
    before, crew = leftovers(), Crew(mode, 2)
    for number in range(times):
        crew.start()
        assert crew.command(number % 2, echo=number) == {"echo": number}
        crew.stop()
    eventually(lambda: nothing_is_left(before), 30)


def test_a_stop_right_after_a_start_leaves_nothing_behind() -> None:
    before, crew = leftovers(), Crew(Parallelism.PROCESS)
    for number in range(12):
        crew.workers[0].start()
        threading.Event().wait(number * 0.005)  # wherever it is by then
        crew.stop()
    eventually(lambda: nothing_is_left(before), 30)
    assert crew.workers[0].restarts == 0
