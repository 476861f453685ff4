"""What becomes of a hub when its own machinery is killed, or a program gives up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.support import eventually
from tests.system.hub import Hub, instance_file, leftovers, new_id

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    # a port of its own: the blocks from 5001 on may go to another test's hub the moment this one is dead
    env = {"SERIAL_HANDLER_PORT": str(free_port())}
    with Hub(tmp_path, "--demo", instance_id=instance_id, env=env) as started:
        started.wait_until_online()
        yield started


def nothing_left(hub: Hub) -> bool:
    return leftovers(hub.id) == []


def test_kill_9_of_supervisord_ends_the_hub_non_zero_with_nothing_left(hub: Hub) -> None:
    hub.supervisord().kill()
    assert hub.ended() == 1
    assert "supervisord ended unexpectedly" in hub.lines[-1]
    assert eventually(lambda: nothing_left(hub))


def test_kill_9_of_the_launcher_ends_everything_and_frees_its_ports(hub: Hub) -> None:
    port = hub.url("serial-handler").rsplit(":", 1)[1]
    hub.process.kill()
    eventually(lambda: nothing_left(hub), 60)
    root = Path(hub.env["IOT2MQTT_PATH"])
    # the same run directory, with all that the crash left in it, and the same port, set by hand
    with Hub(root, "--demo", instance_id=hub.id, env={"SERIAL_HANDLER_PORT": port}) as again:
        again.wait_until_online()
        assert again.url("serial-handler").endswith(f":{port}")
        assert again.stop() == 0


BROKEN = {
    "mqtt-bridge": "if 'mqtt_bridge.py' in sys.orig_argv: sys.exit('this library is broken')",
    # gunicorn itself is well, its worker cannot start the app
    "state-aggregator": "if 'state-aggregator' in sys.orig_argv: sys.modules['services.state_aggregator'] = None",
}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("mqtt-bridge", "this library is broken"),
        ("state-aggregator", "No module named 'services.state_aggregator.app'"),
    ],
)
def test_a_program_that_cannot_start_ends_the_hub_after_five_attempts_and_is_named(
    tmp_path: Path, program: str, reason: str
) -> None:
    instance_id = new_id()
    instance_file(tmp_path, instance_id)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{BROKEN[program]}\n")
    with Hub(tmp_path, "--demo", instance_id=instance_id, env={"PYTHONPATH": str(tmp_path)}) as hub:
        assert hub.ended(240) == 1
        assert f"program gave up, ending the hub program={program}" in hub.output
        assert f"ended because a program gave up program={program}" in hub.lines[-1]
        assert reason in hub.output
        assert eventually(lambda: nothing_left(hub))
