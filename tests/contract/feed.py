"""An aggregator without handlers: a test says what devices say, and outputs follow it over HTTP."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from werkzeug.serving import WSGIRequestHandler, make_server

from sensor_hub import config
from sensor_hub.aggregator import Aggregator
from sensor_hub.aggregator_api import aggregator_app
from sensor_hub.clock import system_clock
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs import check_output
from sensor_hub.readings import Json, Quality, Reading, Snapshot, Status
from tests.influx import free_ports

LINE = {
    "transport_id": "bus0",
    "driver": "modbus_tcp",
    "url": "tcp://192.0.2.1:502",
    "device_name": "Heat pump",
    "manufacturer": "Acme, Inc.",
    "model": "HP 5=b",
    "serial_number": "SN-7",
}


def sensor(sensor_id: str, **more: Any) -> dict[str, Any]:
    return {"sensor_id": sensor_id, "sensor_type": "temperature", "transport": "bus0", **more}


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Nothing."""


class Feed:
    """`hub` is what outputs are configured by; `says` is what a device says."""

    def __init__(self, hub: HubConfig, root: Path, environment: Mapping[str, str]) -> None:
        self.hub, self.root, self.environment = hub, root, dict(environment)
        self.aggregator = Aggregator(hub, system_clock(hub.timezone))

    def says(self, device_id: str, values: Mapping[str, Json], when: datetime | None = None) -> None:
        reading = Reading(values, when or self.aggregator.clock.now())
        snapshot = Snapshot(
            device_id, "temperature", Status.ONLINE, reading, quality=Quality.GOOD, extra={"unit": "°C"}
        )
        self.aggregator.board.put(snapshot, (reading.timestamp, snapshot))

    def journal(self) -> list[dict[str, Any]]:
        """Every entry's body, its id in it."""
        texts: list[str] = []
        position: str | None = None
        while (page := self.aggregator.board.since_with_journal(None, position)[1]).texts:
            texts, position = [*texts, *page.texts], page.position
        return [{**(each := json.loads(text))["entry"], "id": each["id"]} for text in texts]


@contextmanager
def feed(
    folder: Path, outputs: object, sensors: list[dict[str, Any]] | None = None, **environment: str
) -> Iterator[Feed]:
    instance_id = f"t{uuid4().hex[:8]}"
    document = {
        "instance_id": instance_id,
        "config": {"transports": [LINE], "sensors": sensors or [sensor("cellar")], "outputs": outputs},
    }
    (folder / "instances").mkdir(parents=True, exist_ok=True)
    (folder / "instances" / f"{instance_id}.json").write_text(json.dumps(document), encoding="utf-8")
    (port,) = free_ports(1)
    environment = {
        "INSTANCE_NAME": instance_id,
        "IOT2MQTT_PATH": str(folder),
        "STATE_AGGREGATOR_PORT": str(port),
        "DATA_DIR": str(folder / "data"),
        **environment,
    }
    made = Feed(config.load(environment, check_output=check_output), folder, environment)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    server = make_server(
        "127.0.0.1", port, aggregator_app(made.aggregator), threaded=True, request_handler=_Quiet
    )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield made
    finally:
        made.aggregator.close()
        server.shutdown()
        server.server_close()
