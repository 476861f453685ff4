"""Facts about a running instance that its processes and the command line share, as small files in /tmp.

None of them holds a secret. The directory is the launcher's: it locks it for as long as the instance runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sensor_hub.readings import Json
from sensor_hub.regular_file import read_regular

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_PIDS = range(1, 2**22 + 1)  # what Linux gives at most


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
    """The bridge's sign of life. `loop_turned_at` is monotonic (the same clock for all processes of a host).

    `detail`: what is wrong with the connection to the broker, empty when nothing is.
    """

    connected: bool
    loop_turned_at: float
    detail: str = ""


def write_instance(instance: Instance) -> None:
    """Publish it; replaces an earlier one at once or not at all."""
    _write(run_dir(instance.instance_id) / "instance.json", asdict(instance))


def write_scenario(instance_id: str, scenario: Mapping[str, Json]) -> None:
    """What the emulator shall play."""
    _write(run_dir(instance_id) / "emulator.json", scenario)


def read_instance(instance_id: str) -> Instance | None:
    """The running instance's facts, None when it is not running (or never was)."""
    facts = _read(run_dir(instance_id) / "instance.json")
    try:
        found = Instance(**facts) if facts else None  # type: ignore[arg-type]
    except TypeError:
        return None
    return found if found is not None and _is_sound(found, instance_id) else None


def _is_sound(found: Instance, instance_id: str) -> bool:
    """Whether the facts are such as a launcher writes: anybody may make a folder of that name in /tmp."""
    texts: list[object] = [found.mqtt]
    texts += [*found.urls, *found.urls.values()] if isinstance(found.urls, dict) else [None]
    return (
        found.instance_id == instance_id
        and _ID.fullmatch(instance_id) is not None
        and type(found.launcher_pid) is int
        and found.launcher_pid in _PIDS
        and type(found.enabled) is bool
        and all(isinstance(text, str) and text.isprintable() for text in texts)
    )


def running_instances() -> list[str]:
    """Ids of the instances that run on this machine for this user, as far as their files tell."""
    found: list[str] = []
    for path in sorted(Path("/tmp").glob("sensor-hub-*/instance.json")):  # noqa: S108
        instance = read_instance(path.parent.name.removeprefix("sensor-hub-"))
        if instance is not None and os.access(f"/proc/{instance.launcher_pid}", os.F_OK):
            found.append(instance.instance_id)
    return found


def write_bridge_state(instance_id: str, connected: bool, detail: str = "") -> None:
    """The bridge's loop has turned just now. Raises OSError (disk full, directory gone)."""
    state = BridgeState(connected, time.monotonic(), detail)
    _write(run_dir(instance_id) / "bridge.json", asdict(state))


def read_bridge_state(instance_id: str) -> BridgeState | None:
    """The last sign of life, None when there is none."""
    facts = _read(run_dir(instance_id) / "bridge.json")
    try:
        found = BridgeState(**facts) if facts else None  # type: ignore[arg-type]
    except TypeError:
        return None
    return found if found is not None and isinstance(found.loop_turned_at, int | float) else None


def write_queue_figures(instance_id: str, name: str, body: Mapping[str, Json], age_s: float = 0.0) -> None:
    """How an output's queue is (`store_queue.Figures.body()` and what else it tells), every few seconds.

    `name` is the output's, unique in the instance; `age_s`: how long ago it said so.
    Raises OSError (disk full, directory gone), ValueError.
    """
    if _ID.fullmatch(name) is None or not any(map(str.isalnum, name)):
        raise ValueError(f"{name!r} cannot be a queue's name")
    path = run_dir(instance_id) / "queues" / f"{name}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _write(path, {"written_at": time.monotonic() - age_s, "figures": dict(body)})


def read_queue_figures(instance_id: str) -> dict[str, dict[str, Json]]:
    """What each queue's process said last, by the queue's name; `reported_s`: how long ago."""
    found: dict[str, dict[str, Json]] = {}
    for path in sorted((run_dir(instance_id) / "queues").glob("*.json")):
        facts = _read(path) or {}
        written_at, figures = facts.get("written_at"), facts.get("figures")
        if isinstance(written_at, int | float) and isinstance(figures, dict):
            reported_s = round(max(0.0, time.monotonic() - written_at), 1)
            found[path.name.removesuffix(".json")] = {**figures, "reported_s": reported_s}
    return found


def write_fatal(instance_id: str, program: str) -> None:
    """Leave word for the launcher that this program gave up; the first one is the reason."""
    if read_fatal(instance_id) is None:
        _write(run_dir(instance_id) / "fatal.json", {"program": program})


def read_fatal(instance_id: str) -> str | None:
    """The program that gave up, None when none did."""
    facts = _read(run_dir(instance_id) / "fatal.json")
    return str(facts["program"]) if facts and "program" in facts else None


def _write(path: Path, facts: Mapping[str, Json]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.write_text(json.dumps(facts))
        draft.replace(path)
    except OSError as error:  # a full disk does not say whose it is
        error.filename = error.filename or str(path)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Json] | None:
    try:
        owner = path.lstat().st_uid
        if os.geteuid() not in {0, owner}:  # somebody else wants us to believe it
            return None
        facts = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None
