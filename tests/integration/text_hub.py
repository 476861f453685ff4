"""A serial-handler with one text line, as an instance file says it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sensor_hub import config
from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler
from sensor_hub.drivers import check_options
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Json


@contextmanager
def running(
    folder: Path, transport: Mapping[str, Json], sensors: list[dict[str, Json]]
) -> Iterator[HandlerService]:
    """The handler while it reads."""
    line = {"transport_id": "bus", "write": True, "parallelism": "thread", **transport}
    devices = [{"sensor_type": "generic", "transport": "bus", **sensor} for sensor in sensors]
    file = folder / "instance.json"
    document = {"instance_id": "text", "config": {"transports": [line], "sensors": devices}}
    file.write_text(json.dumps(document), encoding="utf-8")
    report = config.read({}, root=folder, file=file, secrets_dir=folder, check_options=check_options)
    assert report.config is not None, report.problems
    service = HandlerService("serial-handler", Handler.SERIAL, report.config, system_clock())
    service.start()
    try:
        yield service
    finally:
        service.close()


def command(service: HandlerService, sensor_id: str, **values: Json) -> dict[str, Any]:
    """Send a command as REST does."""
    return service.command(sensor_id, json.dumps({"values": values, "timeout": 8000}).encode())
