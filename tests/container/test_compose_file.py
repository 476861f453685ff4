"""docker-compose.yml fits together: with the files it mounts, and its services with each other. Starts nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from emulator import scenario
from sensor_hub import config
from sensor_hub.drivers import check_options
from tests.container.compose import KNOWN, Service, services
from tests.container.engine import ROOT

SERVICES = services()
HUBS = [service for service in SERVICES.values() if "INSTANCE_NAME" in service.environment]
NAMES = [hub.name for hub in HUBS]


def test_mosquitto_and_a_hub_start_without_a_profile() -> None:
    assert {service.name for service in SERVICES.values() if not service.profiles} == {"mosquitto", "hub"}


def test_a_pair_starts_with_the_emulator_profile_and_two_with_the_other() -> None:
    def of(profile: str) -> set[str]:
        return {service.name for service in SERVICES.values() if profile in service.profiles}

    assert of("emulator") == {"emulator-1", "hub-1"}
    assert of("pairs") == {"emulator-1", "hub-1", "emulator-2", "hub-2"}


def test_nothing_is_said_that_the_tests_do_not_understand() -> None:
    assert {key for service in SERVICES.values() for key in service.facts} <= KNOWN


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_docker_compose_understands_the_file() -> None:
    compose = ["docker", "compose", "-f", str(ROOT / "docker-compose.yml")]
    if subprocess.run([*compose[:2], "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker has no compose plugin")
    done = subprocess.run(
        [*compose, "--profile", "pairs", "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "mosquitto"])
def test_our_containers_have_no_privileges_and_a_read_only_root(name: str) -> None:
    facts = SERVICES[name].facts
    assert facts["read_only"] is True
    assert facts["tmpfs"] == ["/tmp", "/run"]
    assert facts["cap_drop"] == ["ALL"]
    assert all(mode == "ro" and (ROOT / source).exists() for source, _, mode in SERVICES[name].mounts)


def instance(hub: Service) -> config.model.HubConfig:
    folder = next(source for source, target, _ in hub.mounts if target == "/app/instances")
    file = ROOT / folder / f"{hub.environment['INSTANCE_NAME']}.json"
    report = config.read(hub.environment, root=ROOT / "compose", file=file, check_options=check_options)
    assert report.config is not None, report.problems
    return report.config


@pytest.mark.parametrize("hub", HUBS, ids=NAMES)
def test_a_hub_has_its_instance_file_and_a_broker(hub: Service) -> None:
    found = instance(hub)
    assert found.instance_id == hub.environment["INSTANCE_NAME"]
    assert found.mqtt.host == "mosquitto"
    assert "mosquitto" in hub.facts["depends_on"]


def served(found: scenario.Scenario, name: str) -> set[str]:
    """What an emulator offers to its network, as URLs."""
    assert found.http is not None
    assert {line.tcp_host for line in (*found.lines, *found.text_lines)} | {found.http.host} == {"0.0.0.0"}
    lines = {f"socket://{name}:{line.tcp_port}" for line in (*found.lines, *found.text_lines)}
    return lines | {f"http://{name}:{found.http.port}/sensors/{each}" for each in found.http.motion}


@pytest.mark.parametrize("hub", [hub for hub in HUBS if hub.profiles], ids=lambda hub: hub.name)
def test_a_hub_of_a_pair_reads_all_that_the_emulator_of_its_pair_serves(hub: Service) -> None:
    found = instance(hub)
    assert [line.transport_id for line in found.transports if line.emulated] == []
    urls = {line.url for line in found.transports}
    (name,) = {urlsplit(url).hostname for url in urls}
    emulator = SERVICES[str(name)]
    assert emulator.name == hub.name.replace("hub", "emulator")
    assert emulator.name in hub.facts["depends_on"]
    assert urls == served(scenario.load(ROOT / emulator.mounts[0][0]), emulator.name)
    assert emulator.command[-1] == emulator.mounts[0][1]
    assert "ports" not in emulator.facts  # its control API is for its own network
