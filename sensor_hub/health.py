"""`sensor-hub health`: is this instance well, and if not, why not."""

from __future__ import annotations

import time

import psutil

from sensor_hub import runtime, supervision
from sensor_hub.clients import ServiceClient
from sensor_hub.config.services import SERVICE_VARIABLES
from sensor_hub.errors import HubError

PROGRAMS = (*SERVICE_VARIABLES, "mqtt-bridge")
LOOP_LIMIT_S = 30.0


def reasons(instance_id: str) -> list[str]:
    """Why the instance is not healthy; empty when it is."""
    instance = runtime.read_instance(instance_id)
    if instance is None or not psutil.pid_exists(instance.launcher_pid):
        return [f"{instance_id} is not running"]
    if not instance.enabled:
        return []
    return [*_programs(instance_id), *_services(instance), *_bridge(instance_id, instance.mqtt)]


def _programs(instance_id: str) -> list[str]:
    try:
        states = supervision.program_states(instance_id)
    except OSError as error:
        return [f"supervisord does not answer: {error}"]
    return [f"{name} is {states.get(name, 'missing')}" for name in PROGRAMS if states.get(name) != "RUNNING"]


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
