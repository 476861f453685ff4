"""What a hub makes of the surroundings it is started in: variables, limits, a /tmp that takes nothing, a port thief."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.broker import free_port
from tests.support import eventually
from tests.system.hub import ROOT, SENSOR_HUB, UP_WITHIN_S, Hub, environment, instance_file, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]
SERVICES = ("serial-handler", "http-poller", "state-aggregator")
UNKIND = {
    "GUNICORN_CMD_ARGS": "--workers 3 --bind 127.0.0.1:1",
    "WEB_CONCURRENCY": "4",
    "LISTEN_FDS": "1",
    "PYTHONWARNINGS": "error",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One that was started in a hostile environment with few open files allowed, and ports of its own."""
    root, instance_id = tmp_path_factory.mktemp("surroundings"), new_id()
    instance_file(root, instance_id)
    ports = {f"{name.upper().replace('-', '_')}_PORT": str(free_port()) for name in SERVICES}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        started = Hub(root, "--demo", instance_id=instance_id, env=UNKIND | ports)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with started:
        started.wait_until_online()
        yield started


def worker(hub: Hub, service: str) -> psutil.Process:
    """The process that has the service's port, and its master's only child."""
    (found,) = hub.program(service).children()
    return found


def port_of(hub: Hub, service: str) -> int:
    return int(hub.url(service).rsplit(":", 1)[1])


def answers(hub: Hub, service: str) -> bool:
    try:
        return requests.get(f"{hub.url(service)}/health", timeout=10).status_code == 200
    except requests.RequestException:
        return False


@pytest.mark.parametrize("service", SERVICES)
def test_variables_of_gunicorn_and_python_give_no_further_worker(hub: Hub, service: str) -> None:
    assert len(hub.program(service).children()) == 1
    assert (
        not {"GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PYTHONWARNINGS"} & worker(hub, service).environ().keys()
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_program_may_open_as_many_files_as_the_machine_allows(hub: Hub, service: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert worker(hub, service).rlimit(psutil.RLIMIT_NOFILE)[0] >= min(hard, 65_536)


def test_a_stopped_worker_ends_with_its_master_and_leaves_the_port_to_the_next(hub: Hub) -> None:
    master, stopped = hub.program("http-poller"), worker(hub, "http-poller")
    stopped.suspend()
    master.kill()
    eventually(lambda: not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: hub.programs().get("http-poller") not in {None, master}, UP_WITHIN_S)
    assert eventually(lambda: answers(hub, "http-poller"), UP_WITHIN_S)


@contextmanager
def stolen_port(hub: Hub, service: str) -> Iterator[int]:
    """Kill the service and listen on its port before supervisord starts it again."""
    port, supervisord = port_of(hub, service), hub.supervisord()
    master, owner = hub.program(service), worker(hub, service)
    supervisord.suspend()
    try:
        for process in (owner, master):
            process.kill()
        psutil.wait_procs([owner], timeout=30)
        thief = eventually(lambda: listening(port))
    finally:
        supervisord.resume()
    assert thief is not None
    with thief:
        yield port


def listening(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_a_handler_whose_port_was_stolen_says_by_whom_and_tries_until_it_is_free(hub: Hub) -> None:
    already = len(hub.lines)
    with stolen_port(hub, "http-poller") as port:
        line = hub.wait_for_line("http-poller +the port has been taken", after=already)
        assert f" port={port} " in line
        assert f"(pid {os.getpid()})" in line
        again = hub.lines.index(line) + 1
        hub.wait_for_line("http-poller +the port has been taken", after=again)
        assert "FATAL" not in hub.output
    assert eventually(lambda: answers(hub, "http-poller"), UP_WITHIN_S)


def test_an_aggregator_whose_port_stays_stolen_gives_up_after_five_attempts(hub: Hub) -> None:
    """The last test of this hub: it ends."""
    already = len(hub.lines)
    with stolen_port(hub, "state-aggregator"):
        assert hub.ended(240) == 1
    output = hub.lines[already:]
    assert sum("state-aggregator the port has been taken" in line for line in output) >= 5
    assert any("ERROR   supervisord      gave up: state-aggregator entered FATAL" in line for line in output)
    assert any("ended because a program gave up program=state-aggregator" in line for line in output)


def test_sigterm_while_the_hub_still_loads_ends_it_with_0(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    early = """if name == "sensor_hub.cli": os.kill(os.getpid(), signal.SIGTERM)"""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        f"class Early:\n  def find_spec(self, name, *_):\n    {early}\n"
        "sys.meta_path.insert(0, Early())\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [SENSOR_HUB, "run"],
        env=environment(instance_id, tmp_path, PYTHONPATH=path),
        cwd=ROOT,
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


FULL = "mount -t tmpfs -o size=4k none /tmp && { cat /dev/zero > /tmp/fill 2>/dev/null; true; }"
READ_ONLY = "mount -t tmpfs -o ro none /tmp"


def may_mount() -> bool:
    return (
        subprocess.run(["unshare", "-rm", "sh", "-c", READ_ONLY], check=False, capture_output=True).returncode
        == 0
    )


@pytest.mark.skipif(not may_mount(), reason="needs a mount namespace")
@pytest.mark.parametrize(
    ("mount", "reason", "remedy"),
    [
        (FULL, "No space left on device", "make room there"),
        (READ_ONLY, "Read-only file system", "mount it writable"),
    ],
    ids=["full", "read-only"],
)
def test_a_tmp_that_takes_nothing_is_one_line_with_path_and_remedy(
    mount: str, reason: str, remedy: str
) -> None:
    env = environment("sensor_hub_01", ROOT)  # the sample: a folder of ours in /tmp would be hidden
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount}; exec '{SENSOR_HUB}' run --demo"],
        env=env,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if "CRITICAL" in line]
    assert "launcher         cannot start reason=" in line
    assert reason in line
    assert "/tmp/sensor-hub-sensor_hub_01" in line
    assert remedy in line
