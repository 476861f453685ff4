"""How near one line comes to what its wire carries, and to what pymodbus does alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench import figures
from bench.bus import Bus, bare_bytes, bare_pymodbus, emulator
from bench.crew import ALWAYS_S, STARTS_WITHIN_S, NotingRtu, at_work
from bench.programs import wait_for
from sensor_hub.config.model import Parallelism, SensorConfig, TransportConfig

BAUDRATES = (9600, 19200, 115200)
ROUNDS = 3
RUN_S = 1.5
BYTES_S = 0.5
UNPACED_S = 0.8
TRANSACTIONS_MIN = 10  # a rate is taken between the first and the last


def paced(folder: Path) -> None:
    """Of the wire's theoretical maximum, with bytes that take their time."""
    figures.heading(
        "one bus, 8 units with 25 points each, paced; of the transactions that frames and silences allow"
    )
    buses = [Bus(folder / f"{b}-{o}", b, one_by_one=o) for b in BAUDRATES for o in (False, True)]
    shares: dict[Bus, list[float]] = {bus: [] for bus in buses}
    limits: dict[Bus, list[float]] = {bus: [] for bus in buses}
    costs: dict[Bus, list[float]] = {bus: [] for bus in buses}
    with emulator(folder, buses):
        for _ in range(ROUNDS):
            for bus in buses:
                per_s, cpu_s = line_at_work(bus, RUN_S)
                shares[bus].append(per_s * bus.fastest_s)
                costs[bus].append(cpu_s)
                limits[bus].append(bare_bytes(bus, BYTES_S) * bus.fastest_s)
    for bus in buses:
        how = "each point by itself" if bus.one_by_one else "a block for each unit"
        what = f"{bus.baudrate} baud, {how} (of {1 / bus.fastest_s:.1f}/s)"
        figures.row(what, figures.spread(shares[bus]))
        figures.row(
            "    bytes alone, which is the emulator's and the machine's share", figures.spread(limits[bus])
        )
        pairs = [share / limit for share, limit in zip(shares[bus], limits[bus], strict=True)]
        figures.row("    the hub, of bytes alone", figures.spread(pairs))
        figures.row("    CPU of a transaction, ms", f"{statistics.median(costs[bus]) * 1000:.2f}")


def unpaced(folder: Path) -> None:
    """Against pymodbus in a bare loop, on a terminal that takes no time."""
    figures.heading("one bus, 8 units with 25 points each, not paced; of what a bare pymodbus loop does")
    buses = [
        Bus(folder / f"u{b}-{o}", b, paced=False, one_by_one=o)
        for b in (19200, 115200)
        for o in (False, True)
    ]
    with emulator(folder, buses):
        for bus in buses:
            pairs = [(line_at_work(bus, UNPACED_S), bare_pymodbus(bus, UNPACED_S)) for _ in range(ROUNDS)]
            how = "point by point" if bus.one_by_one else "blocks"
            rates = [ours[0] / bare[0] for ours, bare in pairs]
            costs = [ours[1] / bare[1] for ours, bare in pairs]
            silent = statistics.median(ours[0] for ours, _ in pairs) * bus.silence_s
            figures.row(f"set to {bus.baudrate} baud, {how}: transactions", figures.spread(rates, 2))
            figures.row("    CPU of each", figures.spread(costs, 1))
            figures.row("    share of its time that the line was kept silent, as it must be", f"{silent:.2f}")


def line_at_work(bus: Bus, seconds: float) -> tuple[float, float]:
    """Transactions per second of a line that always has something to read, and CPU seconds of each, all of ours."""
    drivers: list[NotingRtu] = []

    def new_driver(transport: TransportConfig, sensors: Sequence[SensorConfig]) -> NotingRtu:
        drivers.append(NotingRtu(transport, sensors))
        return drivers[-1]

    with at_work([bus], Parallelism.THREAD, ALWAYS_S, sensors=1, driver=new_driver):
        done_at = next(
            driver.done_at for driver in drivers if driver.done_at
        )  # one is made only to be looked at
        before, cpu_began = len(done_at), time.process_time()
        time.sleep(seconds)
        wait_for(lambda: len(done_at) >= before + TRANSACTIONS_MIN, STARTS_WITHIN_S)
        cpu_s, times = time.process_time() - cpu_began, done_at[before:]
    return (len(times) - 1) / (times[-1] - times[0]), cpu_s / len(times)
