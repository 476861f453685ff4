"""Facts about a running instance that its processes and the command line share, as small files in /tmp.

None of them holds a secret. The directory is the launcher's: it locks it for as long as the instance runs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sensor_hub.readings import Json


def run_dir(instance_id: str) -> Path:
    """Where a running instance keeps its sockets, links and state. The same in every process and namespace."""
    return Path("/tmp") / f"sensor-hub-{instance_id}"  # noqa: S108 - owner and mode are checked by the launcher


@dataclass(frozen=True, slots=True)
class Instance:
    """What the launcher decided: where the services are, or that the instance is switched off."""

    instance_id: str
    launcher_pid: int
    urls: Mapping[str, str]  # program name -> base URL
    mqtt: str  # host:port
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class BridgeState:
    """The bridge's sign of life. `loop_turned_at` is monotonic (the same clock for all processes of a host)."""

    connected: bool
    loop_turned_at: float
    detail: str = ""


def write_instance(instance: Instance) -> None:
    """Publish it; replaces an earlier one at once or not at all."""
    _write(run_dir(instance.instance_id) / "instance.json", asdict(instance))


def read_instance(instance_id: str) -> Instance | None:
    """The running instance's facts, None when it is not running (or never was)."""
    facts = _read(run_dir(instance_id) / "instance.json")
    try:
        return Instance(**facts) if facts else None  # type: ignore[arg-type]
    except TypeError:
        return None


def running_instances() -> list[str]:
    """Ids of the instances that run on this machine for this user, as far as their files tell."""
    found: list[str] = []
    for path in sorted(Path("/tmp").glob("sensor-hub-*/instance.json")):  # noqa: S108
        facts = _read(path)
        if facts and os.access(f"/proc/{facts.get('launcher_pid')}", os.F_OK):
            found.append(str(facts.get("instance_id")))
    return found


def write_bridge_state(instance_id: str, connected: bool, detail: str = "") -> None:
    """The bridge's loop has turned just now. Raises OSError (disk full, directory gone)."""
    state = BridgeState(connected, time.monotonic(), detail)
    _write(run_dir(instance_id) / "bridge.json", asdict(state))


def read_bridge_state(instance_id: str) -> BridgeState | None:
    """The last sign of life, None when there is none."""
    facts = _read(run_dir(instance_id) / "bridge.json")
    try:
        return BridgeState(**facts) if facts else None  # type: ignore[arg-type]
    except TypeError:
        return None


def write_fatal(instance_id: str, program: str) -> None:
    """Leave word for the launcher that this program gave up; the first one is the reason."""
    if read_fatal(instance_id) is None:
        _write(run_dir(instance_id) / "fatal.json", {"program": program})


def read_fatal(instance_id: str) -> str | None:
    """The program that gave up, None when none did."""
    facts = _read(run_dir(instance_id) / "fatal.json")
    return str(facts["program"]) if facts and "program" in facts else None


def _write(path: Path, facts: Mapping[str, Json]) -> None:
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.write_text(json.dumps(facts))
    draft.replace(path)


def _read(path: Path) -> dict[str, Json] | None:
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
