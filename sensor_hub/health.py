"""`sensor-hub health`: is this instance well, and if not, why not."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil

from sensor_hub import runtime, supervision
from sensor_hub.clients import ServiceClient
from sensor_hub.config.model import BRIDGE
from sensor_hub.config.services import SERVICE_VARIABLES
from sensor_hub.errors import HubError
from sensor_hub.readings import Json

PROGRAMS = (*SERVICE_VARIABLES, BRIDGE)
RUNS = (
    "RUNNING",
    "STARTING",
)  # supervisord calls it RUNNING after seconds; whether it answers is asked of itself
LOOP_LIMIT_S = 30.0
LONG_S = 10.0  # what waits longer in a queue is worth a line


def reasons(instance_id: str) -> list[str]:
    """Why the instance is not healthy; empty when it is."""
    instance = runtime.read_instance(instance_id)
    if instance is None or not psutil.pid_exists(instance.launcher_pid):
        return [f"{instance_id} is not running"]
    if not instance.enabled:
        return []
    return [
        *_programs(instance_id),
        *_services(instance),
        *_bridge(instance_id, instance.mqtt),
        *_queues(instance_id),
    ]


def _programs(instance_id: str) -> list[str]:
    try:
        states = supervision.program_states(instance_id)
    except OSError as error:
        return [f"supervisord does not answer: {error}"]
    return [f"{name} is {states.get(name, 'missing')}" for name in PROGRAMS if states.get(name) not in RUNS]


def _services(instance: runtime.Instance) -> list[str]:
    found: list[str] = []
    for name, url in instance.urls.items():
        try:
            ServiceClient(url, instance.instance_id, "device_id").health()
        except HubError as error:
            found.append(f"{name}: {error}")
    return found


def _bridge(instance_id: str, mqtt: str) -> list[str]:
    state = runtime.read_bridge_state(instance_id)
    if state is None:
        return ["mqtt-bridge has not started its loop yet"]
    found: list[str] = []
    if not state.connected:
        found.append(f"no MQTT connection to {mqtt}" + (f": {state.detail}" if state.detail else ""))
    elif state.detail:
        found.append(f"MQTT broker {mqtt}: {state.detail}")
    idle_s = time.monotonic() - state.loop_turned_at
    if idle_s > LOOP_LIMIT_S:
        found.append(f"mqtt-bridge's loop has not turned for {idle_s:.0f} s")
    return found


def _queues(instance_id: str) -> list[str]:
    """Entries that wait, even many, are what a queue is for; that some are being lost is a reason."""
    return [
        f"queue {name} is full: {row.get('dropped')} entries are lost{_of(row)}, {row.get('depth')} wait"
        for name, row in runtime.read_queue_figures(instance_id).items()
        if row.get("dropping") is True
    ]


def _of(row: Mapping[str, Json]) -> str:
    """Which of several queues lost how many."""
    found = row.get("dropped_of")
    each = [f"{name}: {count}" for name, count in found.items()] if isinstance(found, dict) else []
    return f" ({', '.join(each)})" if each else ""


def notes(instance_id: str) -> list[str]:
    """What is worth knowing and no reason to be ill: what has waited long for its receiver, and what was lost."""
    found: list[str] = []
    for name, row in runtime.read_queue_figures(instance_id).items():
        oldest_s, dropped = row.get("oldest_s"), row.get("dropped")
        if isinstance(oldest_s, int | float) and oldest_s > LONG_S:
            found.append(f"queue {name}: {row.get('depth')} entries wait, the oldest for {oldest_s:.0f} s")
        if isinstance(dropped, int) and dropped:
            found.append(f"queue {name}: {dropped} entries were lost{_of(row)} since its file was begun")
        silent_s = row.get("reported_s")
        if row.get("state") == "deaf" and isinstance(silent_s, int | float) and silent_s > LONG_S:
            found.append(f"queue {name}: its output does not answer, these figures are {silent_s:.0f} s old")
        if row.get("on_disk") is False:
            found.append(f"queue {name}: it is in memory only, a restart loses what is in it")
        missed, refused = row.get("missed"), row.get("refused")
        if isinstance(missed, int) and missed:
            found.append(f"queue {name}: {missed} entries of the journal never came, of whatever device")
        if isinstance(refused, int) and refused:
            found.append(f"queue {name}: {refused} readings were refused for good")
    return found
