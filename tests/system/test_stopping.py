"""How a hub ends: in order, in time, whatever hangs."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor_hub import runtime
from tests.broker import Witness
from tests.support import eventually
from tests.system.hub import ROOT, SENSOR_HUB, Hub, environment, instance_file, leftovers, new_id, run_dir_of

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    with Hub(tmp_path, "--demo", instance_id=instance_id) as started:
        started.wait_until_online()
        yield started


def broker_port(hub: Hub) -> int:
    return int(hub.facts()["mqtt"].rsplit(":", 1)[1])


def nothing_left(hub: Hub) -> bool:
    return leftovers(hub.id) == []


@pytest.mark.parametrize("name", ["serial-handler", "mqtt-bridge"])
def test_sigterm_ends_all_within_8_seconds_though_a_program_hangs(hub: Hub, name: str) -> None:
    hanging = hub.program(name)
    for process in [hanging, *hanging.children()]:
        process.suspend()
    topic = f"IoT2mqtt/v1/instances/{hub.id}/status"
    with Witness(broker_port(hub)) as witness:
        witness.wait_for(topic)
        asked_s = time.monotonic()
        assert hub.stop() == 0
        witness.wait_for(topic, after_s=asked_s)
        said = [message.payload for message in witness.seen(topic, after_s=asked_s)]
    assert set(said) == {b"offline"}  # a bridge that hangs is killed: the broker then says its will
    assert eventually(lambda: nothing_left(hub))


def test_sigterm_ends_all_within_8_seconds_though_supervisord_and_the_bridge_hang(hub: Hub) -> None:
    topic = f"IoT2mqtt/v1/instances/{hub.id}/status"
    with Witness(broker_port(hub)) as witness:
        witness.wait_for(topic)
        hub.supervisord().suspend()
        hub.program("mqtt-bridge").suspend()
        asked_s = time.monotonic()
        assert hub.stop() == 0
        # the broker is ended last: as on a machine so busy that everything else is killed at once
        assert witness.wait_for(topic, after_s=asked_s).payload == b"offline"
    assert eventually(lambda: nothing_left(hub))


def test_offline_is_published_while_the_services_still_run(hub: Hub) -> None:
    topic = f"IoT2mqtt/v1/instances/{hub.id}/status"
    with Witness(broker_port(hub)) as witness:
        witness.wait_for(topic)
        services = [hub.program(name) for name in ("serial-handler", "http-poller", "state-aggregator")]
        for process in services:
            process.suspend()  # they take 3 s to be killed, and must not hold up the bridge
        asked_s = time.monotonic()
        hub.process.terminate()
        witness.wait_for(lambda m: (m.topic, m.payload) == (topic, b"offline"), after_s=asked_s)
        assert all(process.is_running() for process in services)
        assert hub.ended() == 0


def test_sigterm_while_everything_is_just_starting_ends_with_0(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    with Hub(tmp_path, "--demo", instance_id=instance_id) as hub:
        hub.wait_for_line("ports reserved")
        assert hub.stop() == 0
        assert "Traceback" not in hub.output
        assert eventually(lambda: nothing_left(hub))


def test_a_program_that_gives_up_while_the_hub_stops_does_not_change_the_exit_code(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    with Hub(tmp_path, "--demo", instance_id=instance_id) as hub:
        hub.wait_for_line("mqtt-broker +listening")
        runtime.write_fatal(instance_id, "http-poller")  # as the guard does when supervisord gives up on it
        assert hub.stop() == 0
        assert "gave up" not in hub.output


def test_a_reader_that_leaves_ends_the_hub_in_good_order(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    line = ["sh", "-c", f"'{SENSOR_HUB}' run --demo | head -1"]
    env = environment(instance_id, tmp_path)
    with run_dir_of(instance_id), (tmp_path / "err").open("w+") as err:
        try:
            done = subprocess.run(
                line, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=err, timeout=120, check=True
            )
            eventually(lambda: leftovers(instance_id) == [])
        finally:
            for process in leftovers(instance_id):
                process.kill()
        err.seek(0)
        assert err.read() == ""
    assert b"ports reserved" in done.stdout


def test_nohup_stays_nohup(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, enabled=False)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hub = Hub(tmp_path, instance_id=instance_id)
    finally:
        signal.signal(signal.SIGHUP, before)
    with hub:
        hub.wait_for_line("instance is disabled")
        hub.process.send_signal(signal.SIGHUP)
        assert hub.command("health").returncode == 0
        assert len(hub.lines) == 1, hub.output
        assert hub.stop() == 0


def test_sighup_of_a_closed_terminal_ends_the_hub_with_0(tmp_path: Path) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id, enabled=False)
    with Hub(tmp_path, instance_id=instance_id) as hub:
        hub.wait_for_line("instance is disabled")
        assert hub.stop(signal.SIGHUP) == 0
