"""Many transports at once: who keeps their intervals, and what each costs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil

from bench import figures
from bench.bus import Bus, emulator
from bench.crew import Crew, at_work
from bench.programs import cpu_s
from sensor_hub.config.model import Parallelism

TRANSPORTS = 32
UNITS = 4
INTERVAL_S = 1.0
RUN_S = 12.0
TOLERANCE = 0.10
MIB = 2**20


def crowd(folder: Path) -> None:
    """Intervals that were missed, and the CPU, in both modes."""
    figures.heading(
        f"{TRANSPORTS} transports at once, {UNITS} units with 25 points each, 19200 baud paced, "
        f"every {INTERVAL_S:g} s for {RUN_S:g} s"
    )
    buses = [Bus(folder / f"c{number}", 19200, units=UNITS) for number in range(TRANSPORTS)]
    with emulator(folder, buses) as devices:
        for parallelism in (Parallelism.THREAD, Parallelism.PROCESS):
            with at_work(buses, parallelism, INTERVAL_S) as crew:
                time.sleep(INTERVAL_S)
                _measure(crew, str(parallelism), devices)


def _measure(crew: Crew, mode: str, devices: psutil.Process) -> None:
    us = [psutil.Process(), *(psutil.Process(pid) for pid in crew.pids() if pid != psutil.Process().pid)]
    ours, theirs, began = cpu_s(us), cpu_s([devices]), time.monotonic()
    times = crew.take_notes(RUN_S)
    ended = time.monotonic()
    seconds = ended - began
    ours, theirs = (cpu_s(us) - ours) / seconds, (cpu_s([devices]) - theirs) / seconds
    gaps = [gap for name in crew.sensors for gap in _gaps(times.get(name, []), began, ended, crew.interval_s)]
    late = [gap / crew.interval_s - 1 for gap in gaps]
    missed = sum(each > TOLERANCE for each in late)
    worst, usual = max(late), figures.percentile(late, 0.99)
    figures.row(
        f"{mode}: intervals missed by more than 10 %, of {len(gaps)}", f"{missed / len(gaps):.4f} ({missed})"
    )
    figures.row("    the worst, the 99th percentile, of an interval", f"{worst:+.3f}, {usual:+.3f}")
    figures.row("    cores used: the hub's, the emulator's", f"{ours:.2f}, {theirs:.2f}")


def _gaps(times: list[float], began: float, ended: float, interval_s: float) -> list[float]:
    """Between readings; and the wait for one that was due before the end, or for all."""
    moments = times or [began]
    if ended - moments[-1] > interval_s:
        moments = [*moments, ended]
    return [after - before for before, after in pairwise(moments)]


def prices(folder: Path) -> None:
    """Memory and start of a process of its own for one line, against a thread."""
    figures.heading("what a line of its own costs: process against thread, one after the other, 3 times")
    bus = Bus(folder / "price", 115200, units=1)
    with emulator(folder, [bus]):
        starts: dict[Parallelism, list[float]] = {}
        unique, resident = list[float](), list[float]()
        for parallelism in (Parallelism.THREAD, Parallelism.PROCESS):
            starts[parallelism] = []
            for _ in range(3):
                crew = Crew([bus], parallelism, INTERVAL_S)
                try:
                    starts[parallelism].append(crew.start())
                    if parallelism is Parallelism.PROCESS:
                        memory = psutil.Process(crew.pids()[0]).memory_full_info()
                        unique.append(memory.uss / MIB)
                        resident.append(memory.rss / MIB)
                finally:
                    crew.stop()
        python = [_bare_python_s() for _ in range(3)]
    begun = statistics.median(starts[Parallelism.PROCESS]) / statistics.median(python)
    figures.row(
        "process: start to first reading, in starts of a Python that imports pymodbus", f"{begun:.1f}"
    )
    figures.row("process: start to first reading, s", figures.spread(starts[Parallelism.PROCESS], 2))
    figures.row("thread: start to first reading, s", figures.spread(starts[Parallelism.THREAD], 3))
    figures.row("process: memory of its own, MiB", figures.spread(unique, 0))
    figures.row("process: memory with what it shares, MiB", figures.spread(resident, 0))


def _bare_python_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import pymodbus.client, serial"], check=True)
    return time.monotonic() - began
