"""Walks through the flows of setup.json, and the devices that they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract import setup_devices, setup_text_devices
from tests.contract.setup_devices import INPUT_1_IS_225, Emulated, HttpServer, RemotePort
from tests.contract.setup_wizard import Pick
from tests.wire.scripted_peers import on_tcp

HUB = {"friendly_name": "My house", "instance_id": "my_house"}


@dataclass(frozen=True)
class Places:
    """Where the devices of this module are."""

    emulated: Emulated
    tcp: int
    rtu: int
    remote: RemotePort
    http: HttpServer
    charger: str
    printer: str
    scale: str


@dataclass(frozen=True)
class Walk:
    """What a person fills in and chooses, and the devices that come of it."""

    flow: str
    answers: Mapping[str, Mapping[str, Any]]
    expected: Mapping[str, tuple[Any, ...]]  # sensor_id -> type, transport, unit id or url …
    picks: Mapping[str, Pick] = field(default_factory=dict)
    wants: str | None = None  # the Authorization of the HTTP server
    secrets: Mapping[str, str] = field(default_factory=dict)
    own_map: str | None = None  # of the user's, in the hub's folder


MOTION = {"motion_detected": True, "battery_level": 95, "signal_strength": -50}


@contextmanager
def devices(directory: Path) -> Iterator[Places]:
    """All the devices that the walks lead to."""
    routes = {
        "/api/pir": {"pir": {"active": True}, "battery": 77},
        "/api/sensors": [{"id": "attic"}, {"id": "yard"}],
        "/api/sensors/attic": {"climate": {"temperature": 21.5, "humidity": 40}},
        "/api/sensors/yard": MOTION,
    }
    with (
        setup_devices.emulator(directory) as emulated,
        setup_devices.tcp_server() as tcp,
        setup_devices.rtu_server() as rtu,
        on_tcp(*[INPUT_1_IS_225] * 10, kind=RemotePort) as remote,
        HttpServer(routes) as http,
        setup_text_devices.charger() as charger,
        setup_text_devices.printer() as printer,
        setup_text_devices.scale() as scale,
    ):
        assert isinstance(remote, RemotePort)
        text = (charger.path, printer.path, scale.path)
        yield Places(emulated, tcp.port, rtu.port, remote, http, *text)
