"""Lines driven as the serial-handler drives them, with a note of when each reading was taken."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from bench.bus import Bus
from bench.programs import wait_for
from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler, Parallelism, SensorConfig, TransportConfig
from sensor_hub.drivers.base import Block, Driver, Point
from sensor_hub.drivers.modbus import ModbusRtu
from sensor_hub.readings import Json, Snapshot
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire

DriverMaker = Callable[[TransportConfig, Sequence[SensorConfig]], Driver]
STARTS_WITHIN_S = 60
ALWAYS_S = 0.001  # an interval that is over as soon as it has begun


class Noting(Tracker):
    """Notes when (monotonic) each sensor was read."""

    def __init__(self, sensors: Sequence[SensorConfig]) -> None:
        super().__init__(sensors, system_clock(), {})
        self.read_at: dict[str, list[float]] = defaultdict(list)

    def succeeded(
        self,
        sensor_id: str,
        values: Mapping[str, Json],
        round_trip_ms: float,
        taken: tuple[datetime, float] | None = None,
    ) -> Snapshot:
        """As Tracker."""
        if taken is not None:
            self.read_at[sensor_id].append(taken[1])
        return super().succeeded(sensor_id, values, round_trip_ms, taken)


class NotingRtu(ModbusRtu):
    """Notes when (monotonic) each transaction was over; for a line in our own process."""

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        super().__init__(transport, sensors)
        self.done_at: list[float] = []

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        """As ModbusRtu."""
        values = super().exchange(block)
        self.done_at.append(time.monotonic())
        return values


class Crew:
    """A line for each bus, at work."""

    def __init__(
        self,
        buses: Sequence[Bus],
        parallelism: Parallelism,
        interval_s: float,
        driver: DriverMaker = ModbusRtu,
    ) -> None:
        self.interval_s = interval_s
        clock = system_clock()
        configs = [_transport(bus) for bus in buses]
        sensors = [_sensors(bus, interval_s) for bus in buses]
        self.tracker = Noting([sensor for each in sensors for sensor in each])
        self.lines = [
            Line(config, own, parallelism, self.tracker, clock)
            for config, own in zip(configs, sensors, strict=True)
        ]
        setups = [LineSetup(config, own, driver) for config, own in zip(configs, sensors, strict=True)]
        log_setup = LogSetup("bench", "WARNING", "text", "UTC")
        self._workers = hire(list(zip(self.lines, setups, strict=True)), clock, log_setup)
        self.sensors = [sensor.sensor_id for each in sensors for sensor in each]

    def start(self, sensors: int | None = None) -> float:
        """Seconds until so many sensors have been read, or all."""
        began = time.monotonic()
        for worker in self._workers:
            worker.start()
        expected = len(self.sensors) if sensors is None else sensors
        wait_for(lambda: len(self.tracker.read_at) >= expected, STARTS_WITHIN_S)
        return max(times[0] for times in self.tracker.read_at.copy().values()) - began

    def stop(self) -> None:
        """End them all at once."""
        enders = [threading.Thread(target=worker.stop) for worker in self._workers]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def pids(self) -> list[int]:
        """Of the processes that drive lines; without our own."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def take_notes(self, seconds: float) -> dict[str, list[float]]:
        """When each sensor was read, from now on for so long."""
        self.tracker.read_at.clear()
        time.sleep(seconds)
        return {sensor_id: list(times) for sensor_id, times in self.tracker.read_at.copy().items()}


@contextmanager
def at_work(
    buses: Sequence[Bus],
    parallelism: Parallelism,
    interval_s: float,
    sensors: int | None = None,
    driver: DriverMaker = ModbusRtu,
) -> Iterator[Crew]:
    """So many sensors, or all, have been read once; ended at the end."""
    crew = Crew(buses, parallelism, interval_s, driver)
    try:
        crew.start(sensors)
        yield crew
    finally:
        crew.stop()


def _transport(bus: Bus) -> TransportConfig:
    options: dict[str, Json] = {"baudrate": bus.baudrate}
    return TransportConfig(
        bus.path.name, "modbus_rtu", str(bus.path), Handler.SERIAL, "bench", options, timeout_s=0.5
    )


def _sensors(bus: Bus, interval_s: float) -> list[SensorConfig]:
    name = bus.path.name
    return [
        SensorConfig(
            f"{name}.{unit}",
            "generic",
            "",
            name,
            Handler.SERIAL,
            "bench",
            interval_s,
            max(15.0, 3 * interval_s),
            {"unit_id": unit, **bus.options},
        )
        for unit in range(1, bus.units + 1)
    ]
