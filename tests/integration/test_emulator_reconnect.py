"""Hub and emulator come, go and come again in any order; nobody has to be first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.errors import HubError
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Json, Status
from tests.integration.emulated import Emulator, Start, emulators, free_port, scenario_of
from tests.integration.text_hub import running
from tests.support import eventually

KINDS = ("modbus", "charger")
PLACES = ("pty", "tcp")
PATIENCE_S = 40.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


class Pair:
    """A device at a place, and how a hub reads it."""

    def __init__(self, start: Start, folder: Path, kind: str, place: str) -> None:
        self._start, self._folder = start, folder
        port, path = free_port(), folder / "line"
        self.path = path
        url = str(path) if place == "pty" else f"socket://127.0.0.1:{port}"
        line: dict[str, Any] = {"pty_path": str(path)} if place == "pty" else {"tcp_port": port}
        self.transport: dict[str, Json] = {"url": url, "timeout_s": 1, "read_interval": 0.1}
        self.sensor: dict[str, Json] = {"sensor_id": "device"}
        if kind == "modbus":
            unit = {"unit_id": 1, "sensor_id": "device", "kind": "temperature"}
            self.scenario = scenario_of(line | {"units": [unit]})
            self.transport |= {"driver": "modbus_rtu"}
            self.sensor |= {"unit_id": 1, "register": {"table": "input", "address": 0, "scale": 0.1}}
        else:
            self.scenario = scenario_of() | {"text_lines": [line | {"kind": "openevse"}]}
            self.transport |= {"driver": "rapi"}

    def emulator(self) -> Emulator:
        return self._start(self.scenario)

    def hub(self) -> Any:
        return running(self._folder, self.transport, [self.sensor])


@pytest.fixture(params=[(kind, place) for kind in KINDS for place in PLACES], ids="-".join)
def pair(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Pair:
    return Pair(start, tmp_path, *request.param)


def is_read(service: HandlerService) -> bool:
    """A reading that is younger than this question."""
    try:
        service.read("device")
    except HubError:
        return False
    return service.status("device") is Status.ONLINE


def is_lost(service: HandlerService) -> bool:
    return service.status("device") is Status.OFFLINE


def end(emulator: Emulator, number: int, path: Path, held: ExitStack) -> None:
    """Its terminal's number stays in use: a link that it leaves leads nowhere, not to the terminal of another test."""
    if path.is_symlink():
        held.callback(os.close, os.open(path, os.O_RDWR | os.O_NOCTTY))
    emulator.process.send_signal(number)
    emulator.process.wait(10)


def test_either_may_be_first_and_an_emulator_that_was_killed_or_ended_is_read_again(pair: Pair) -> None:
    with ExitStack() as held, pair.hub() as service:
        eventually(lambda: is_lost(service), PATIENCE_S)
        for number in (signal.SIGKILL, signal.SIGTERM):
            emulator = pair.emulator()
            eventually(lambda: is_read(service), PATIENCE_S)
            end(emulator, number, pair.path, held)
            eventually(lambda: is_lost(service), PATIENCE_S)


def test_a_hub_that_comes_again_reads_the_emulator_that_stayed(pair: Pair) -> None:
    pair.emulator()
    for _ in range(3):
        with pair.hub() as service:
            eventually(lambda: is_read(service), PATIENCE_S)


def test_a_cable_that_is_pulled_and_plugged_in_again_is_read_again(pair: Pair) -> None:
    fault = {"kind": "disconnect", "seconds": 0.5, "probability": 0.1, "count": 2}
    for kind in ("lines", "text_lines"):
        for line in pair.scenario.get(kind, []):
            line["faults"] = [fault]
    emulator = pair.emulator()
    with pair.hub() as service:
        eventually(lambda: sum("line connected again" in line for line in emulator.lines) == 2, PATIENCE_S)
        eventually(lambda: is_read(service), PATIENCE_S)
