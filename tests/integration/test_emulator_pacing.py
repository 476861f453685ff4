"""A paced line carries no more than its baud rate allows, hardly less, and that at little cost."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emulator.frames import framed
from tests.integration.emulated import Emulator, Raw, Start, emulators, free_port, scenario_of

START_DATA_STOP_BITS = 10


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with emulators(tmp_path) as begin:
        yield begin


def paced(start: Start, place: Path | int, baudrate: int) -> Emulator:
    """A line with unit 1, which has 125 registers."""
    unit = {"unit_id": 1, "sensor_id": "meter", "kind": "registers", "holding": {"0": [7] * 125}}
    where = {"tcp_port": place} if isinstance(place, int) else {"pty_path": str(place)}
    return start(scenario_of(where | {"baudrate": baudrate, "paced": True, "units": [unit]}))


def exchange_s(client: Raw, count: int) -> float:
    begin = time.monotonic()
    heard = client.ask(framed(1, struct.pack(">BHH", 3, 0, count)), 5 + 2 * count, 30)
    took_s = time.monotonic() - begin
    assert heard == framed(1, struct.pack(f">BB{count}H", 3, 2 * count, *[7] * count))
    return took_s


def ideal_s(baudrate: int, count: int) -> float:
    """Request, silence, answer."""
    char_s = START_DATA_STOP_BITS / baudrate
    return (8 + 5 + 2 * count) * char_s + (3.5 * char_s if baudrate <= 19200 else 0.00175)


def is_paced(place: Path | int, baudrate: int, count: int) -> bool:
    """Never too fast, and in time: a busy machine may be late, but not every time."""
    with Raw(place) as client:
        took_s: list[float] = []
        for _ in range(100):  # 1.02 on a machine with nothing else to do, at once
            took_s.append(exchange_s(client, count))
            assert took_s[-1] >= ideal_s(baudrate, count)
            if len(took_s) >= 5 and min(took_s) < ideal_s(baudrate, count) * 1.25 + 0.002:
                return True
    pytest.fail(f"never in time: {took_s}")


@pytest.mark.parametrize(("baudrate", "count"), [(2400, 1), (9600, 30), (19200, 125), (115200, 125)])
def test_an_exchange_takes_as_long_as_on_a_line_of_that_speed(
    start: Start, tmp_path: Path, baudrate: int, count: int
) -> None:
    paced(start, tmp_path / "bus", baudrate)
    assert is_paced(tmp_path / "bus", baudrate, count)


def test_a_port_is_paced_as_a_terminal_is(start: Start) -> None:
    port = free_port()
    paced(start, port, 4800)
    assert is_paced(port, 4800, 20)


def test_bytes_of_an_answer_come_one_after_the_other(start: Start, tmp_path: Path) -> None:
    paced(start, tmp_path / "bus", 1200)
    char_s = START_DATA_STOP_BITS / 1200
    tries: list[list[tuple[int, float]]] = []
    with Raw(tmp_path / "bus") as client:
        for _ in range(10):  # a busy machine may let us hear late, but not ten times
            begin = time.monotonic()
            client.send(framed(1, bytes.fromhex("030000000a")))
            heard: list[tuple[int, float]] = []  # so many bytes in all, at that time
            while not heard or heard[-1][0] < 25:
                piece = client.hear(1)
                assert piece
                heard.append(((heard[-1][0] if heard else 0) + len(piece), time.monotonic() - begin))
            assert all(at_s >= (8 + 3.5 + count) * char_s for count, at_s in heard)
            tries.append(heard)
            if len(heard) > 5 and heard[-1][1] < (8 + 3.5 + 25) * char_s * 1.25:
                return
    pytest.fail(f"never piece by piece, or never in time: {tries}")


def test_pacing_costs_little(start: Start, tmp_path: Path) -> None:
    emulator = paced(start, tmp_path / "bus", 9600)
    process = psutil.Process(emulator.process.pid)
    with Raw(tmp_path / "bus") as client:
        exchange_s(client, 1)
        before, begin = process.cpu_times(), time.monotonic()
        while time.monotonic() - begin < 2:
            exchange_s(client, 10)
        after, took_s = process.cpu_times(), time.monotonic() - begin
    used_s = after.user + after.system - before.user - before.system
    assert used_s / took_s < 0.2  # 0.02 on a machine with nothing else to do
