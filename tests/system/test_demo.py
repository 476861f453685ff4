"""`sensor-hub run --demo` at a terminal: what a newcomer sees, kill -9 of each part, Ctrl-C."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.broker import Witness
from tests.support import eventually
from tests.system.hub import DEVICES, MARKS, UP_WITHIN_S, Hub, instance_file, leftovers, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]


class Demo(NamedTuple):
    hub: Hub
    witness: Witness

    @property
    def prefix(self) -> str:
        return f"IoT2mqtt/v1/instances/{self.hub.id}"

    def status(self) -> bytes | None:
        topic = f"{self.prefix}/status"
        seen = self.witness.seen(topic)
        return seen[-1].payload if seen else None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    root = tmp_path_factory.mktemp("newcomer")
    instance_id = new_id()
    instance_file(root, instance_id, update_interval=1, poll_interval=1)
    with Hub(root, "--demo", instance_id=instance_id, terminal=True) as hub:
        hub.wait_until_online()
        port = int(hub.facts()["mqtt"].rsplit(":", 1)[1])
        with Witness(port) as witness:
            yield Demo(hub, witness)


def pids(demo: Demo) -> dict[str, int]:
    return {program: process.pid for program, process in demo.hub.programs().items()}


def new_states(demo: Demo, since_s: float, within_s: float = UP_WITHIN_S) -> None:
    for device in DEVICES:
        topic = f"{demo.prefix}/devices/{device}/state"
        message = demo.witness.wait_for(topic, within_s, after_s=since_s)
        assert json.loads(message.payload)["device_id"] == device


def test_the_first_lines_say_where_to_look_and_it_is_true(demo: Demo) -> None:
    shown = demo.hub.output
    facts = demo.hub.facts()
    host, port = facts["mqtt"].rsplit(":", 1)
    assert f"mosquitto_sub -h {host} -p {port} -v -t '{demo.prefix}/#'" in shown
    assert [url for url in facts["urls"].values() if f"{url}/health" not in shown] == []
    assert f"{demo.prefix}/devices/{DEVICES[0]}/state" in shown
    assert "Ctrl-C" in shown


def test_states_of_all_devices_come_over_the_embedded_broker(demo: Demo) -> None:
    new_states(demo, 0.0)
    eventually(lambda: demo.status() == b"online")


def test_a_running_demo_is_no_flood(demo: Demo) -> None:
    new_states(demo, time.monotonic())
    before, since_s = len(demo.hub.lines), time.monotonic()
    for _ in range(4):  # four rounds of both devices
        new_states(demo, time.monotonic())
    seconds = time.monotonic() - since_s
    said = demo.hub.lines[before:]
    assert len(said) <= 3 + 2 * seconds, said
    assert [line for line in said if re.search("WARNING|ERROR|CRITICAL", line)] == []


@pytest.mark.parametrize("name", list(MARKS))
def test_after_kill_9_a_program_comes_back_alone_and_states_flow(demo: Demo, name: str) -> None:
    before = eventually(lambda: found if set(found := pids(demo)) == set(MARKS) else None)
    assert before is not None
    demo.hub.program(name).kill()
    killed_s = time.monotonic()
    eventually(lambda: pids(demo).get(name, before[name]) != before[name], UP_WITHIN_S)
    if name == "mqtt-broker":
        demo.witness.wait_until_back(60)
    new_states(demo, killed_s)
    eventually(lambda: demo.status() == b"online")
    eventually(lambda: demo.hub.command("health").returncode == 0, UP_WITHIN_S)
    assert {program for program, pid in pids(demo).items() if pid != before[program]} == {name}


def test_after_kill_9_of_its_worker_gunicorn_starts_another_and_states_flow(demo: Demo) -> None:
    before = pids(demo)
    (worker,) = demo.hub.program("serial-handler").children()
    worker.kill()
    killed_s = time.monotonic()
    eventually(lambda: {c.pid for c in demo.hub.program("serial-handler").children()} - {worker.pid} != set())
    new_states(demo, killed_s)
    assert pids(demo) == before


def test_ctrl_c_publishes_offline_first_and_ends_all_with_exit_code_0(demo: Demo) -> None:
    said = len(demo.hub.lines)
    topic = f"{demo.prefix}/status"
    pressed_s = time.monotonic()
    demo.hub.press_ctrl_c()
    assert demo.hub.ended() == 0
    demo.witness.wait_for(topic, after_s=pressed_s)
    assert {message.payload for message in demo.witness.seen(topic, after_s=pressed_s)} == {b"offline"}
    assert eventually(lambda: leftovers(demo.hub.id) == [])
    stopping = "\n".join(demo.hub.lines[said:])
    assert "Traceback" not in stopping
    # on a busy machine supervisord may not wait for a program's end, and says so
    told = [line for line in stopping.splitlines() if not re.search("supervisord .*SIGKILL", line)]
    assert [line for line in told if re.search("WARNING|ERROR|CRITICAL", line)] == []
