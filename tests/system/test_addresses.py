"""A hub started with relative paths, on one address; its file edited while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support import eventually
from tests.system.hub import DEVICES, UP_WITHIN_S, Hub, instance_file, new_id, run_dir_of

pytestmark = [pytest.mark.system, pytest.mark.slow]

HOST = "127.0.0.2"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("relative")
    instance_id = new_id()
    instance_file(root / "mine", instance_id)
    (root / "ca.pem").touch()
    env = {"IOT2MQTT_PATH": "mine", "MQTT_CA_CERT": "ca.pem", "SERVICE_HOST": HOST}
    with Hub(root, "--demo", instance_id=instance_id, env=env, cwd=root) as started:
        started.wait_until_online()
        yield started


def test_every_program_of_a_hub_on_one_address_finds_the_others(hub: Hub) -> None:
    assert {url.rsplit(":", 1)[0] for url in hub.facts()["urls"].values()} == {f"http://{HOST}"}
    eventually(lambda: hub.command("health").stdout.startswith(f"{hub.id} is healthy\n"), UP_WITHIN_S)
    url = f"{hub.url('state-aggregator')}/device/{DEVICES[0]}"
    answer = eventually(lambda: requests.get(url, timeout=30))  # truthy when it is 200
    assert answer.json()["unit"] == "°C"


def test_a_port_set_by_hand_on_that_address_is_refused_with_the_hubs_name(hub: Hub, tmp_path: Path) -> None:
    other = new_id()
    instance_file(tmp_path, other)
    port = hub.url("http-poller").rsplit(":", 1)[1]
    env = {"IOT2MQTT_PATH": str(tmp_path), "MQTT_CA_CERT": "", "HTTP_POLLER_PORT": port}
    with run_dir_of(other):
        answer = hub.command("run", INSTANCE_NAME=other, **env)
    assert answer.returncode == 78
    assert f"port {port} is in use by the sensor hub instance '{hub.id}'" in answer.stderr


def test_a_file_broken_while_the_hub_runs_is_told_by_the_program_that_starts_again_until_it_is_mended(
    hub: Hub,
) -> None:
    path = hub.cwd / "mine" / "instances" / f"{hub.id}.json"
    good, said = path.read_text(), len(hub.lines)
    path.write_text(good.replace('"motion"', '"mood"'))
    (worker,) = hub.program("http-poller").children()
    worker.kill()
    problem = r"http-poller +configuration problem path=config.sensors\[1\].sensor_type problem=.*mood"
    hub.wait_for_line(problem, after=said)
    hub.wait_for_line(r"exited: http-poller \(exit status 78", after=said)
    path.write_text(good)
    hub.wait_for_line("http-poller +device online", after=said)
    eventually(lambda: hub.command("health").returncode == 0, UP_WITHIN_S)
    assert [line for line in hub.lines[said:] if "Traceback" in line] == []
    assert hub.stop() == 0
