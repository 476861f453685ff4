"""docker-compose.yml as data, and as `docker run` where there is no compose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.container.engine import ROOT

KNOWN = {
    "build", "image", "restart", "read_only", "tmpfs", "cap_drop", "security_opt", "environment", "volumes",
    "depends_on", "profiles", "command", "healthcheck", "ports",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Service:
    """One service with its merge keys resolved and the defaults of its variables in place."""

    name: str
    facts: Mapping[str, Any]

    @property
    def profiles(self) -> list[str]:
        """Empty: it always starts."""
        return list(self.facts.get("profiles", []))

    @property
    def environment(self) -> dict[str, str]:
        """What it is told."""
        return {key: str(value) for key, value in self.facts.get("environment", {}).items()}

    @property
    def mounts(self) -> list[tuple[str, str, str]]:
        """Source, target, mode of what is mounted from the host."""
        found = [volume.split(":") for volume in self.facts.get("volumes", [])]
        return [(each[0], each[1], each[2]) for each in found if each[0].startswith((".", "/"))]

    @property
    def volumes(self) -> dict[str, str]:
        """Target -> name of what is the engine's to keep."""
        found = [volume.split(":") for volume in self.facts.get("volumes", [])]
        return {each[1]: each[0] for each in found if not each[0].startswith((".", "/"))}

    def run_options(self) -> list[str]:
        """The same as words of `docker run`; the image and `command` come after them."""
        words = [f"--tmpfs={path}" for path in self.facts.get("tmpfs", [])]
        words += ["--read-only"] if self.facts.get("read_only") else []
        words += [f"--cap-drop={name}" for name in self.facts.get("cap_drop", [])]
        words += [
            f"--security-opt={text.replace(':true', '')}" for text in self.facts.get("security_opt", [])
        ]
        words += [f"--env={key}={value}" for key, value in self.environment.items()]
        words += [
            f"--volume={(ROOT / source).resolve()}:{target}:{mode}" for source, target, mode in self.mounts
        ]
        words += [
            f"--volume={target}" for target in self.volumes
        ]  # one without a name goes with its container
        return words

    @property
    def command(self) -> list[str]:
        """What it runs instead of the image's own command."""
        return shlex.split(self.facts.get("command", ""))


def services() -> dict[str, Service]:
    """All services of the file."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return {name: Service(name, facts) for name, facts in yaml.safe_load(text)["services"].items()}
