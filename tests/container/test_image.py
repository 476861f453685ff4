"""The image as it is: what it says of itself, what is in it and what is not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sensor_hub import __version__
from tests.container.building import BASE, IMAGE, OWN_BASE
from tests.container.engine import ROOT, Engine

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
LAYERS_ALLOWED, MIB_ALLOWED = 3, 80


@pytest.fixture(scope="module")
def facts(engine: Engine, image: str) -> dict[str, Any]:
    found = json.loads(engine.docker("inspect", "--type", "image", image).stdout)[0]
    assert isinstance(found, dict)
    return found


def inside(engine: Engine, script: str) -> str:
    """What a shell script prints in a container without a network."""
    return engine.docker("run", "--rm", "--network", "none", "--read-only", IMAGE, "sh", "-c", script).stdout


def test_the_image_says_how_it_is_run(facts: dict[str, Any]) -> None:
    said = facts["Config"]
    assert said["Cmd"] == ["sensor-hub", "run"]
    assert said["User"] == "hub"
    assert set(said["ExposedPorts"]) == {"5001/tcp", "5002/tcp", "5003/tcp"}
    assert said["StopSignal"] in ("SIGTERM", "15")
    assert "Volumes" not in said or not said["Volumes"]
    health = facts.get("Healthcheck") or said["Healthcheck"]
    assert health["Test"] == ["CMD", "sensor-hub", "health"]


def test_the_image_says_what_it_is(facts: dict[str, Any]) -> None:
    prefix = "org.opencontainers.image."
    said = {key.removeprefix(prefix): text for key, text in facts["Config"]["Labels"].items()}
    assert said["title"] == "Sensor Hub"
    assert said["version"] == __version__
    assert said["licenses"] == "MIT"
    assert said["description"]


def test_the_hub_adds_three_layers_and_less_than_80_mib_to_its_base(
    engine: Engine, facts: dict[str, Any]
) -> None:
    bases = [name for name in (BASE, OWN_BASE) if engine.docker("inspect", name, check=False).returncode == 0]
    found = [json.loads(engine.docker("inspect", name).stdout)[0] for name in bases]
    layers = facts["RootFS"]["Layers"]
    base = next(one for one in found if layers[: len(one["RootFS"]["Layers"])] == one["RootFS"]["Layers"])
    assert len(layers) - len(base["RootFS"]["Layers"]) <= LAYERS_ALLOWED
    assert (facts["Size"] - base["Size"]) / 2**20 < MIB_ALLOWED


def test_it_runs_as_a_user_without_privileges_that_may_open_serial_devices(
    engine: Engine, image: str
) -> None:
    who, data, app = inside(engine, "id; stat -c %U /data /app").splitlines()
    assert "uid=1000(hub)" in who
    assert "(dialout)" in who
    assert (data, app) == ("hub", "root")


def test_nothing_is_in_it_that_compiles_or_installs(engine: Engine, image: str) -> None:
    assert inside(engine, "for tool in gcc cc make pip git; do command -v $tool; done; true") == ""
    assert (
        inside(engine, "python -c 'import importlib.util as u; print(u.find_spec(\"setuptools\"))'")
        == "None\n"
    )
    assert re.match(r"curl \d", inside(engine, "curl --version"))


def test_only_what_runs_is_in_it(engine: Engine, image: str) -> None:
    there = set(inside(engine, "ls -A /app").split())
    assert {"sensor_hub", "services", "emulator", "shared", "mqtt_bridge.py", "supervisord.conf"} <= there
    assert not there & {
        ".git",
        ".env",
        ".venv",
        "tests",
        "bench",
        "docs",
        "Dockerfile",
        "requirements-dev.lock",
    }


def test_its_packages_are_the_locked_ones(engine: Engine, image: str) -> None:
    listing = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name.lower(), d.version)"
    installed = dict(line.split() for line in inside(engine, f"python -c '{listing}'").splitlines())
    installed = {name.replace("_", "-"): version for name, version in installed.items()}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.M)}
    assert installed.pop("sensor-hub") == __version__
    assert len(installed) > 15
    assert {name: locked.get(name) for name in installed} == installed


def test_every_module_has_its_byte_code_so_that_a_start_compiles_nothing(engine: Engine, image: str) -> None:
    lines = inside(engine, "python -v -c 'import sensor_hub.cli, mqtt_bridge' 2>&1 | grep 'code object from'")
    ours = [line for line in lines.splitlines() if "/app/" in line or "/opt/venv" in line]
    assert len(ours) > 200
    assert [line for line in ours if not line.rstrip("'").endswith(".pyc")] == []


def test_what_a_build_needed_to_know_of_its_machine_is_not_in_the_image(engine: Engine, image: str) -> None:
    script = "cat /etc/pip.conf /etc/apt/apt.conf.d/99machine 2>/dev/null; env"
    found = inside(engine, script)
    assert not re.search(r"index-url|find-links|[Pp]roxy|Acquire", found)
    history = engine.docker("history", "--no-trunc", IMAGE).stdout
    assert not re.search(r"index-url|find-links|[Pp]roxy", history)
