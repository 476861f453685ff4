"""Which of supervisord's own lines are told, and how; talking to one that is not there."""

from __future__ import annotations

import shutil
import socket
import uuid
from collections.abc import Iterator

import pytest

from sensor_hub import runtime, supervision

STAMP = "2026-01-02 03:04:05,678"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{STAMP} INFO success: mqtt-bridge entered RUNNING", "debug"),
        (f"{STAMP} INFO spawned: 'mqtt-bridge' with pid 4711", "debug"),
        (f"{STAMP} INFO spawnerr: can't find command 'gunicorn'", "error"),
        (
            f"{STAMP} INFO gave up: mqtt-bridge entered FATAL state, too many start retries too quickly",
            "error",
        ),
        (f"{STAMP} WARN exited: http-poller (exit status 3; not expected)", "warning"),
        (f"{STAMP} WARN exited: http-poller (terminated by SIGKILL; not expected)", "warning"),
        (f"{STAMP} ERRO spawn error", "error"),
        (f"{STAMP} CRIT could not write pidfile", "critical"),
        (f"{STAMP} DEBG fd 8 closed", "debug"),
        (f"{STAMP} WARN received SIGTERM indicating exit request", "debug"),
        (f"{STAMP} WARN stopped: hub-guard (terminated by SIGTERM)", "debug"),
        (f"{STAMP} WARN stopped: mqtt-bridge (terminated by SIGKILL)", "warning"),
        (
            f"{STAMP} CRIT Server 'unix_http_server' running without any HTTP authentication checking",
            "",
        ),
    ],
)
def test_a_line_of_supervisord_has_its_level_and_text(line: str, told: str) -> None:
    assert supervision.own_line(line) == (told, line.split(" ", 3)[3])


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-02T03:04:05.678+00:00 INFO    mqtt-bridge      stopped",
        '{"event": "stopped", "level": "info"}',
        "Traceback (most recent call last):",
        "",
    ],
)
def test_a_line_of_a_program_is_not_supervisords(line: str) -> None:
    assert supervision.own_line(line) is None


@pytest.fixture
def instance_id() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    runtime.run_dir(name).mkdir(mode=0o700)
    yield name
    shutil.rmtree(runtime.run_dir(name))


def test_a_supervisord_that_is_not_there_is_an_oserror(instance_id: str) -> None:
    with pytest.raises(FileNotFoundError):
        supervision.program_states(instance_id)


def test_a_supervisord_that_hangs_is_an_oserror_in_time(instance_id: str) -> None:
    path = runtime.run_dir(instance_id) / "supervisor.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(4)
        with pytest.raises(TimeoutError):
            supervision.program_states(instance_id, within_s=0.2)
