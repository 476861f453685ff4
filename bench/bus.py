"""Emulated buses, the theory of them, and what is compared with: pymodbus in a bare loop, bytes in a barer one."""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pymodbus.client import ModbusSerialClient
from pymodbus.framer import FramerRTU

from bench.programs import program, wait_for

POINTS = 25
STRIDE = 20  # between points that are read one by one: further than a hole that is read over
BITS_PER_CHARACTER = 10  # start, eight data, stop
REQUEST_BYTES = WRITE_ANSWER_BYTES = 8
ANSWER_OVERHEAD_BYTES = 5
STARTS_WITHIN_S = 30


@dataclass(frozen=True)
class Bus:
    """A line of `units` units with `POINTS` holding registers each. Not paced: bytes take no time."""

    path: Path
    baudrate: int
    units: int = 8
    paced: bool = True
    one_by_one: bool = False

    @property
    def character_s(self) -> float:
        """One character on the wire."""
        return BITS_PER_CHARACTER / self.baudrate

    @property
    def silence_s(self) -> float:
        """Between two frames, as the standard wants it: 3.5 characters, a fixed 1.75 ms above 19200 baud."""
        return 3.5 * self.character_s if self.baudrate <= 19200 else 0.00175

    @property
    def registers(self) -> int:
        """Of one transaction."""
        return 1 if self.one_by_one else POINTS

    @property
    def transactions(self) -> int:
        """That read one unit."""
        return POINTS if self.one_by_one else 1

    @property
    def addresses(self) -> list[int]:
        """Of the points."""
        return [number * (STRIDE if self.one_by_one else 1) for number in range(POINTS)]

    @property
    def fastest_s(self) -> float:
        """What a transaction takes at least: request, silence, answer, silence; the device needs no time to think."""
        count = REQUEST_BYTES + ANSWER_OVERHEAD_BYTES + 2 * self.registers
        return count * self.character_s + 2 * self.silence_s

    @property
    def options(self) -> dict[str, Any]:
        """Of a sensor, but for its unit id."""
        registers = {f"p{a}": {"table": "holding", "address": a, "write": True} for a in self.addresses}
        return {"properties": registers}

    def scenario(self) -> dict[str, Any]:
        """For the emulator."""
        values = list(range(self.addresses[-1] + 1))
        units = [
            {
                "unit_id": n,
                "sensor_id": f"{self.path.name}.{n}",
                "kind": "registers",
                "holding": {"0": values},
            }
            for n in range(1, self.units + 1)
        ]
        return {"pty_path": str(self.path), "baudrate": self.baudrate, "paced": self.paced, "units": units}


@contextmanager
def emulator(folder: Path, buses: Sequence[Bus]) -> Iterator[psutil.Process]:
    """One process for all the buses."""
    scenario = {"instance_id": "bench", "seed": 1, "lines": [bus.scenario() for bus in buses]}
    path = folder / f"{buses[0].path.name}.json"
    path.write_text(json.dumps({**scenario, "ignore_environment": True}))
    with program([sys.executable, "-m", "emulator", path], LOG_LEVEL="WARNING") as process:
        wait_for(lambda: all(bus.path.exists() for bus in buses), STARTS_WITHIN_S)
        yield process


@contextmanager
def pymodbus_client(bus: Bus) -> Iterator[ModbusSerialClient]:
    """As its documentation has it."""
    client = ModbusSerialClient(str(bus.path), baudrate=bus.baudrate, timeout=0.5, retries=0)
    if not client.connect():
        raise SystemExit(f"pymodbus cannot open {bus.path}")
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]


def bare_pymodbus(bus: Bus, seconds: float) -> tuple[float, float]:
    """Transactions per second, and CPU seconds of each, of a loop that reads all there is to read."""
    count = 0
    with pymodbus_client(bus) as client:
        began, cpu_began = time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < seconds:
            for unit in range(1, bus.units + 1):
                for address in bus.addresses[: bus.transactions]:
                    answer = client.read_holding_registers(address, count=bus.registers, device_id=unit)
                    if answer.isError():
                        raise SystemExit(f"the emulator refuses {unit}/{address}")
                    count += 1
        return count / (time.perf_counter() - began), (time.thread_time() - cpu_began) / count


def bare_bytes(bus: Bus, seconds: float) -> float:
    """Transactions per second of a loop that knows nothing but bytes and spins through the silences.

    What it lacks of the theory is the emulator's lateness, or the machine's.
    """
    descriptor = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(descriptor)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
        requests = [_read_request(unit, bus.registers) for unit in range(1, bus.units + 1)]
        length, count = ANSWER_OVERHEAD_BYTES + 2 * bus.registers, 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            _exchange(descriptor, requests[count % len(requests)], length)
            silent_until = time.perf_counter() + bus.silence_s
            count += 1
            while time.perf_counter() < silent_until:
                pass
        return count / (time.perf_counter() - began)
    finally:
        os.close(descriptor)


def _read_request(unit_id: int, count: int) -> bytes:
    body = bytes([unit_id, 3, 0, 0, 0, count])
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def _exchange(descriptor: int, request: bytes, length: int) -> None:
    os.write(descriptor, request)
    heard = 0
    while heard < length:
        if not select.select([descriptor], [], [], 1.0)[0]:
            raise SystemExit("the emulator does not answer")
        heard += len(os.read(descriptor, length - heard))
