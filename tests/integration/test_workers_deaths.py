"""Workers in processes: how they end, by themselves and with their service, and what others notice of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pytest

from sensor_hub.config.model import Parallelism
from sensor_hub.crew import worker
from sensor_hub.errors import TransportDown
from sensor_hub.workers.messages import LineRequest
from tests.integration.crew import ROOT, Crew
from tests.support import eventually


@pytest.fixture(autouse=True)
def children_find_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def crew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    """Two lines in processes; a parameter is the pause before a lost one is started again."""
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", getattr(request, "param", worker.FIRST_PAUSE_S))
    made = Crew(Parallelism.PROCESS, 2).start()
    yield made
    for number in range(2):
        with suppress(AssertionError, ProcessLookupError):
            os.kill(made.pid(number), signal.SIGCONT)
    made.stop()


@pytest.mark.parametrize("crew", [4.0], indirect=True)  # long enough to look at what is lost meanwhile
def test_a_killed_worker_fails_who_waits_at_once_and_comes_back_and_the_other_line_does_not_notice(
    crew: Crew,
) -> None:
    first, other = crew.pid(0), crew.pid(1)
    with ThreadPoolExecutor(1) as pool:
        waiting, _ = crew.hang(pool, 30.0)
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(TransportDown, match="its worker was lost: its process ended with signal 9"):
            waiting.result(20)
        assert time.monotonic() - killed < 15  # it would hang for 30 s
    eventually(lambda: str(crew.lines[0].state) == "down" and crew.status(0) == "offline")
    described = crew.shown()
    assert (described["pending"], described["worker_pid"]) == (0, None)
    assert described["last_error"] == "worker of line0 was lost: its process ended with signal 9"
    assert 0 <= float(str(described["next_retry_s"])) <= 4
    assert (crew.status(0), crew.status(1)) == ("offline", "online")
    with pytest.raises(TransportDown):
        crew.command(echo=1)
    assert crew.command(1, echo="not disturbed") == {"echo": "not disturbed"}
    crew.eventually_online()
    assert crew.pid(0) != first
    assert crew.shown()["restarts"] == 1
    assert (crew.pid(1), crew.shown(1)["restarts"]) == (other, 0)
    assert crew.command(echo="back") == {"echo": "back"}


def test_a_worker_that_dies_again_and_again_is_started_after_longer_and_longer_pauses(crew: Crew) -> None:
    pauses = []
    for deaths in (1, 2, 3):
        died = time.monotonic()
        with pytest.raises(TransportDown, match="its process ended with exit code 3"):
            crew.command(exit=3)
        eventually(lambda deaths=deaths: crew.shown()["restarts"] == deaths)  # type: ignore[misc]
        crew.eventually_online()
        pauses.append(time.monotonic() - died)
    assert pauses[0] >= 1
    assert pauses[1] >= 2
    assert pauses[2] >= 4


def test_a_deaf_worker_is_given_up_when_its_connection_is_full_and_blocks_nobody(crew: Crew) -> None:
    """Stopped, it takes nothing; callers' timeouts hold, and what is too much ends it."""
    os.kill(crew.pid(0), signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        crew.workers[0].ask(lambda each: _command(each, "small"), 0.2)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(crew.command, echo="x" * 300_000) for _ in range(4)]
        for each in asked:
            with pytest.raises(TransportDown):
                each.result(25)
    assert time.monotonic() - began < 25  # a command's own patience is 30 s
    assert crew.command(1, echo="not disturbed") == {"echo": "not disturbed"}
    crew.eventually_online()


def test_a_stopped_worker_costs_a_look_at_its_line_half_a_second_and_its_end_about_one(crew: Crew) -> None:
    pid = crew.pid(0)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert crew.shown()["worker_pid"] == pid
    assert time.monotonic() - began < 8
    began = time.monotonic()
    crew.stop()
    assert time.monotonic() - began < 15
    eventually(lambda: not psutil.pid_exists(pid))


def test_a_service_that_starts_again_counts_from_its_first_reading(crew: Crew) -> None:
    assert crew.command(value=7) == {"value": 7}
    crew.stop()
    crew.start()
    assert crew.read()["value"] == 1  # a new driver
    assert crew.shown()["restarts"] == 0


def _command(request_id: str, value: Any) -> Any:
    until = time.monotonic() + 5
    return LineRequest(request_id, until, False, "line0", "command", "line0.a", {"echo": value})


def test_what_a_worker_logs_looks_like_its_services_lines(capfd: pytest.CaptureFixture[str]) -> None:
    crew = Crew(Parallelism.PROCESS, reconnect_backoff_s=600.0).start()
    try:
        with pytest.raises(TransportDown):
            crew.command(unplug=True)
        eventually(lambda: str(crew.lines[0].state) == "down")
        with pytest.raises(TransportDown):
            crew.command(echo=1)
    finally:
        crew.stop()
    lines = [line for line in capfd.readouterr().out.splitlines() if "line lost" in line]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    assert len(lines) == 1
    assert re.fullmatch(rf"{stamp} WARNING crew +line lost +transport=line0 reason=unplugged", lines[0])


# -- with their service ---------------------------------------------------------------------------------------------


class Service:
    """The crew's program, in a process group of its own as supervisord makes it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.integration.crew_service"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        pids = next(line for line in self.process.stdout if line.startswith("pids "))
        self.workers = [psutil.Process(int(word)) for word in pids.split()[1:]]

    def workers_are_gone(self) -> bool:
        return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in self.workers)

    def last_words(self) -> str:
        rest, _ = self.process.communicate(timeout=60)
        return rest


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    with suppress(ProcessLookupError):
        os.killpg(made.process.pid, signal.SIGKILL)
    made.process.communicate()
    eventually(made.workers_are_gone)


def kill_service(service: Service) -> None:
    service.process.kill()


def kill_service_with_a_stopped_worker(service: Service) -> None:
    service.workers[0].send_signal(signal.SIGSTOP)
    service.process.kill()


def kill_service_that_is_stopped(service: Service) -> None:
    service.process.send_signal(signal.SIGSTOP)
    service.process.kill()


def crash_service(service: Service) -> None:
    service.process.send_signal(signal.SIGSEGV)


@pytest.mark.parametrize(
    "end", [kill_service, kill_service_with_a_stopped_worker, kill_service_that_is_stopped, crash_service]
)
def test_workers_end_with_their_service_however_it_dies(
    service: Service, end: Callable[[Service], None]
) -> None:
    assert not service.workers_are_gone()
    end(service)
    eventually(service.workers_are_gone)


@pytest.mark.parametrize("to", ["service", "group", "everybody"])
def test_a_service_that_is_told_to_end_says_nothing_ugly_and_starts_nobody_again(
    service: Service, to: str
) -> None:
    if to == "everybody":
        for each in service.workers:
            each.send_signal(signal.SIGTERM)
            each.send_signal(signal.SIGINT)
    if to == "group":
        os.killpg(service.process.pid, signal.SIGTERM)
    else:
        service.process.send_signal(signal.SIGTERM)
    assert service.last_words() == "ended in order\n"
    assert service.process.returncode == 0
    eventually(service.workers_are_gone)
