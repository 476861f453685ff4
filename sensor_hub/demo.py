"""What `sensor-hub run --demo` tells a newcomer: where to look, and now and then what the devices say."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from sensor_hub import logs, threads, wire
from sensor_hub.clients import AggregatorClient
from sensor_hub.config.model import HubConfig
from sensor_hub.readings import Snapshot, Status

log = logs.get(__name__)

LINE_EVERY_S = 1.0  # however many devices there are


def where_to_look(hub: HubConfig, *, embedded_broker: bool) -> list[str]:
    """The first lines: what runs where, and how to watch it."""
    prefix = f"{hub.mqtt.base_topic}/v1/instances/{hub.instance_id}"
    broker = f"{'embedded broker' if embedded_broker else 'broker'} {hub.mqtt.host}:{hub.mqtt.port}"
    host = f"-h {hub.mqtt.host} -p {hub.mqtt.port}"
    first = hub.sensors[0].sensor_id if hub.sensors else "DEVICE"
    own = os.path.relpath(Path(sys.executable).parent / "sensor-hub")
    urls = [f"  {name:<17} {service.url}/health" for name, service in hub.services.items()]
    emulator = [f"  emulated devices  http://127.0.0.1:{hub.emulator.port}/"] if hub.emulator else []
    return [
        f"Sensor Hub, instance {hub.instance_id}: {len(hub.sensors)} devices, {broker}",
        *urls,
        f"  MQTT              mosquitto_sub {host} -v -t '{prefix}/#'",
        f"  a device          curl -s {hub.services['state-aggregator'].url}/device/{first}",
        f"  its state         {prefix}/devices/{first}/state",
        f"  all at a glance   {own} --instance {hub.instance_id} watch",
        *emulator,
        "Ctrl-C stops everything. From here on one line per event, and a reading of each device now and then:",
    ]


class Narrator:
    """Follows the aggregator and logs a reading of each device once per update interval."""

    def __init__(self, hub: HubConfig) -> None:
        """Start nothing yet."""
        self._hub = hub
        self._client = AggregatorClient(hub.services["state-aggregator"].url, hub.instance_id)
        self._told_at: dict[str, float] = {}
        self._last_line_at = 0.0
        self._ending = threading.Event()  # never set: it ends with the process

    def start(self) -> None:
        """Narrate in the background until the process ends."""
        threads.start("narrator", self._follow, self._ending)

    def _follow(self) -> None:
        self._client.follow(self._tell, lambda _: None, self._ending)

    def _tell(self, snapshots: list[Snapshot]) -> None:
        for snapshot in snapshots:
            now = time.monotonic()
            told_at = self._told_at.get(snapshot.device_id, -float("inf"))
            if snapshot.status is not Status.ONLINE or snapshot.reading is None:
                continue
            if now - told_at < self._hub.update_interval_s or now - self._last_line_at < LINE_EVERY_S:
                continue
            self._told_at[snapshot.device_id] = self._last_line_at = now
            log.info("reading", service="demo", device=snapshot.device_id, values=_values(snapshot))


def _values(snapshot: Snapshot) -> str:
    """All under one key: a property may be called as one of the line's own."""
    values = snapshot.reading.values if snapshot.reading is not None else {}
    unit = (snapshot.extra or {}).get("unit")
    if values.keys() == {"value"}:
        return f"{wire.dumps(values['value'])} {unit or ''}".rstrip()
    return ", ".join(f"{name}: {wire.dumps(value)}" for name, value in values.items())
