"""The platform's side: the folders it mounts, and containers started as it starts them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.broker import Witness
from tests.container.building import IMAGE
from tests.container.engine import ROOT, Engine
from tests.support import eventually

UP_WITHIN_S = 240.0
STANDIN = ROOT / "tests/platform_standin/shared"
SENSORS: Sequence[Mapping[str, Any]] = (
    {
        "sensor_id": "temp_living_room",
        "sensor_type": "temperature",
        "friendly_name": "Living Room Temperature",
    },
    {"sensor_id": "motion_front_door", "sensor_type": "motion", "friendly_name": "Front Door Motion"},
)


class Container:
    """One started container."""

    def __init__(self, engine: Engine, name: str, instance_id: str) -> None:
        self.engine, self.name, self.instance_id = engine, name, instance_id

    @property
    def logs(self) -> str:
        """All it has said, stdout and stderr."""
        return self.engine.shell(f"docker logs {self.name} 2>&1", check=False).stdout

    def exec(self, line: str, *, check: bool = True) -> str:
        """The stdout of a command inside."""
        return self.engine.shell(f"docker exec {self.name} {line}", check=check).stdout

    def curl(self, url: str) -> Any:
        """The JSON that a service answers inside."""
        return json.loads(self.exec(f"curl -s {url}"))

    def is_healthy(self) -> bool:
        """What `sensor-hub health` says."""
        return self.exec("sensor-hub health", check=False).startswith(f"{self.instance_id} is healthy")

    def inspect(self, path: str) -> Any:
        """A fact that the engine knows, by dotted path: `State.ExitCode`."""
        found = json.loads(self.engine.docker("inspect", self.name).stdout)[0]
        for key in path.split("."):
            found = found[key]
        return found

    def main(self) -> psutil.Process:
        """PID 1 of the container, as this machine sees it."""
        return psutil.Process(int(self.inspect("State.Pid")))

    def ended(self, within_s: float) -> int:
        """Its exit code, which must come in time."""
        return int(self.engine.docker("wait", self.name, within_s=within_s).stdout)

    def stop(self) -> None:
        """`docker stop`, with more time than the usual 10 s: a busy machine may need it, or 137 is the exit code."""
        self.engine.docker("stop", "-t", "30", self.name)

    def ports(self) -> list[int]:
        """The block that it says it has reserved last."""
        line = [line for line in self.logs.splitlines() if "ports reserved" in line][-1]
        return [int(word.rstrip(',"')) for word in line.split() if word.rstrip(',"').isdigit()]

    def online(self, witness: Witness, *, after_s: float = 0.0, base: str = "IoT2mqtt") -> None:
        """Return when it has announced itself and all it has to say (`meta/info` comes last)."""
        prefix = f"{base}/v1/instances/{self.instance_id}"

        def announced() -> bool:
            seen = witness.seen(f"{prefix}/status", after_s=after_s)
            return bool(seen) and seen[-1].payload == b"online"

        eventually(announced, UP_WITHIN_S)
        witness.wait_for(f"{prefix}/meta/info", UP_WITHIN_S, after_s=after_s)


class Platform:
    """A machine with the platform on it: one folder, any number of instances."""

    def __init__(self, engine: Engine, folder: Path, name: str = "sensor-hub") -> None:
        self.engine, self.folder = engine, folder
        self.name = name  # its containers' names begin so: modules run side by side in one engine
        self._started: list[Container] = []
        for part in ("instances", "secrets"):
            (folder / part).mkdir()
        self.env()

    def env(self, name: str = ".env", **settings: str) -> None:
        """Write the file that becomes `/app/.env` anew (the name of another one is said to `start`)."""
        rows = {"MQTT_HOST": "127.0.0.1", "EMULATOR_ERROR_RATE": "0"} | settings
        self.write(name, "".join(f"{key}={value}\n" for key, value in rows.items()))

    def instance(
        self, instance_id: str, sensors: Sequence[Mapping[str, Any]] = SENSORS, **config: Any
    ) -> None:
        """Write an instance file as the web interface does: under `connection`, and copied to the top level."""
        content = {"sensors": sensors, **config}
        document = {
            "instance_id": instance_id,
            "instance_type": "device",
            "connector_type": "sensor-hub",
            "friendly_name": instance_id,
            "enabled": True,
            "update_interval": "10",
            "created_at": "2026-01-02T03:04:05Z",
            "connection": content,
            "devices": [],
            "groups": [],
            **content,
        }
        self.write(f"instances/{instance_id}.json", json.dumps(document))

    def write(self, name: str, text: str) -> Path:
        """Write any other file of the platform, readable by everybody."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return path

    def options(self, instance_id: str, *, shared: Path | None = STANDIN, env: str = ".env") -> list[str]:
        """How the platform starts an instance (contract, section 1), on a read-only root."""
        environ = {"INSTANCE_NAME": instance_id, "CONNECTOR_TYPE": "sensor-hub", "MODE": "production"}
        environ |= {"PYTHONUNBUFFERED": "1", "IOT2MQTT_PATH": "/app"}
        mounts = {self.folder / "instances": "/app/instances", self.folder / env: "/app/.env"}
        if shared is not None:
            mounts[shared] = "/app/shared"
        for secret in (self.folder / "secrets").iterdir():
            mounts[secret] = f"/run/secrets/{secret.name}"
        return [
            "--read-only --tmpfs /tmp --tmpfs /run --network host",
            *(f"-e {key}={value}" for key, value in environ.items()),
            *(f"-v {shlex.quote(str(source))}:{target}:ro" for source, target in mounts.items()),
        ]

    def start(
        self, instance_id: str, *more: str, shared: Path | None = STANDIN, env: str = ".env", name: str = ""
    ) -> Container:
        """Start it in the background; `more` are further words of `docker run`."""
        container = Container(self.engine, name or f"{self.name}-{instance_id}", instance_id)
        options = " ".join([*self.options(instance_id, shared=shared, env=env), *more])
        self._started.append(container)
        if self.engine.private:  # one of that name is what a test run that was killed left
            self.engine.docker("rm", "-f", "-v", container.name, check=False)
        self.engine.shell(f"docker run -d --name {container.name} {options} {IMAGE}")
        return container

    def remove(self, container: Container) -> None:
        """Remove it, running or not."""
        self._started.remove(container)
        self.engine.docker("rm", "-f", "-v", container.name)

    def run(self, instance_id: str, *more: str, within_s: float = 180) -> tuple[int, str, str]:
        """Run it to its end: exit code, stdout, stderr."""
        options = " ".join([*self.options(instance_id), *more])
        done = self.engine.shell(f"docker run --rm {options} {IMAGE}", within_s=within_s, check=False)
        return done.returncode, done.stdout, done.stderr

    def clear(self) -> None:
        """Remove every container that was started here."""
        if self._started:
            names = " ".join(container.name for container in self._started)
            self.engine.shell(f"docker rm -f -v {names}", check=False, within_s=180)
        self._started.clear()

    def tell(self) -> None:
        """Print what the containers said, for a test that failed."""
        for container in self._started:
            print(f"--- {container.name}", container.logs[-6000:], sep="\n")
