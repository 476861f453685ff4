"""The guard speaks supervisor's event listener protocol, and calls for the end when it must."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from sensor_hub import guard, runtime, stopping


def event(name: str, payload: str = "", serial: int = 1) -> bytes:
    head = f"ver:3.0 server:supervisor serial:{serial} pool:hub-guard poolserial:{serial} eventname:{name}"
    return f"{head} len:{len(payload)}\n{payload}".encode()


TICK = event("TICK_5", "when:1201063880")
FATAL = event(
    "PROCESS_STATE_FATAL", "processname:mqtt-bridge groupname:mqtt-bridge from_state:BACKOFF", serial=21
)
READY, OK = b"READY\n", b"RESULT 2\nOK"


@pytest.fixture
def instance_id() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    runtime.run_dir(name).mkdir(mode=0o700)
    yield name
    shutil.rmtree(runtime.run_dir(name))


@dataclass
class Served:
    answers: bytes = b""
    ended: list[str] = field(default_factory=list)
    left: bytes = b""


def serve(events: bytes, instance_id: str, *, launcher_lives: bool = True) -> Served:
    served = Served()
    source, answers = io.BytesIO(events), io.BytesIO()
    guard.serve(source, answers, instance_id, lambda: served.ended.append("hub"), lambda: launcher_lives)
    served.answers, served.left = answers.getvalue(), source.read()
    return served


@pytest.mark.parametrize(
    ("events", "answers"),
    [
        (b"", READY),
        (TICK, READY + OK + READY),
        (TICK + TICK, READY + OK + READY + OK + READY),
        (event("TICK_5"), READY + OK + READY),
        (event("PROCESS_STATE_EXITED", "processname:http-poller x"), READY + OK + READY),
    ],
    ids=["end of file", "tick", "two ticks", "no payload", "an event of no interest"],
)
def test_each_event_is_acknowledged_and_ends_nothing(events: bytes, answers: bytes, instance_id: str) -> None:
    served = serve(events, instance_id)
    assert (served.answers, served.ended) == (answers, [])
    assert runtime.read_fatal(instance_id) is None


def test_a_fatal_program_ends_the_hub_and_is_left_as_word_for_the_launcher(instance_id: str) -> None:
    served = serve(TICK + FATAL + TICK, instance_id)
    assert served.ended == ["hub"]
    assert runtime.read_fatal(instance_id) == "mqtt-bridge"
    assert served.answers == READY + (OK + READY) * 3


def test_programs_that_become_fatal_while_the_hub_ends_are_not_the_reason(instance_id: str) -> None:
    other = event("PROCESS_STATE_FATAL", "processname:http-poller from_state:BACKOFF", serial=22)
    served = serve(FATAL + other, instance_id)
    assert served.ended == ["hub"]
    assert runtime.read_fatal(instance_id) == "mqtt-bridge"
    assert served.answers == READY + (OK + READY) * 2


@pytest.mark.parametrize("events", [TICK + TICK, FATAL + TICK], ids=["tick", "fatal"])
def test_without_its_launcher_the_guard_stops_listening_at_the_first_event(
    events: bytes, instance_id: str
) -> None:
    served = serve(events, instance_id, launcher_lives=False)
    assert (served.answers, served.left, served.ended) == (READY, TICK, [])


def test_a_session_that_the_hub_does_not_lead_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stopping.end_session(other.pid)
        assert psutil.Process(other.pid).is_running()
        assert other.poll() is None
        other.kill()


def test_a_session_that_the_hub_leads_is_ended_all_of_it() -> None:
    nobody = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    member = (
        "import os, sys; sys.path[:0] = sys.argv[2:]; from sensor_hub import stopping;"
        "stopping.end_session(int(sys.argv[1]))"
    )
    leader = (
        f"{nobody}; print(p.pid, flush=True); import os; subprocess.call([sys.executable, '-c', {member!r},"
    )
    leader += " str(os.getpid()), *sys.path]); print('alive', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", leader], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        bystander = psutil.Process(int(process.stdout.readline()))
        assert process.stdout.read() == ""  # the pipe is closed when all who hold it are gone
        assert process.wait(10) == -9
    psutil.wait_procs([bystander], timeout=10)
    assert not bystander.is_running() or bystander.status() == psutil.STATUS_ZOMBIE
