"""Reading some points of one unit, transaction by transaction, and what becomes of each sensor's values."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sensor_hub.config.model import SensorConfig
from sensor_hub.drivers.base import Block, Driver, Point
from sensor_hub.errors import DeviceRefused, HubError
from sensor_hub.polling import Slot
from sensor_hub.readings import Json
from sensor_hub.workers.messages import LineRequest


@dataclass(slots=True)
class Sweep:
    """The blocks still to read, and what was read so far. `slots` are the turns that it serves.

    `waiting`: who asked before it began, by sensor. `deadline`: when the next turn of its slots comes.
    """

    unit_id: int | str
    slots: list[Slot]
    blocks: deque[Block]
    open_points: dict[str, set[Point]]  # by sensor: what is still to come
    deadline: float = 0.0
    values: dict[Point, Json] = field(default_factory=dict)
    failed: dict[str, HubError] = field(default_factory=dict)
    waiting: dict[str, list[LineRequest]] = field(default_factory=dict)
    spent_s: dict[str, float] = field(default_factory=dict)  # by sensor: seconds of its transactions

    @classmethod
    def of(
        cls, driver: Driver, slots: Sequence[Slot], points: Sequence[Point], deadline: float = 0.0
    ) -> Sweep:
        """Ask the driver how to read these points, which are of one unit."""
        blocks = driver.plan(points)
        planned: dict[str, set[Point]] = {point.sensor_id: set() for point in points}
        for block in blocks:
            for point in block.points:
                planned[point.sensor_id].add(point)
        return cls(driver.unit_id(points[0].sensor_id), list(slots), deque(blocks), planned, deadline)

    def take(self, block: Block, values: Mapping[Point, Json], seconds: float) -> None:
        """A transaction was answered. A planned point without a value is no longer waited for."""
        self.values.update(values)
        self._over(block, seconds)

    def fail(self, block: Block, error: HubError, driver: Driver, seconds: float) -> None:
        """A transaction failed. What the device refused may be read in smaller pieces, or left out; else it is lost."""
        if isinstance(error, DeviceRefused):
            finer = driver.plan(block.points)
            if [each.points for each in finer] != [block.points]:
                self._replace(block, finer, seconds)
                return
        for sensor_id in {point.sensor_id for point in block.points}:
            self.failed.setdefault(sensor_id, error)
        self._over(block, seconds)

    def abandon(self, error: HubError) -> None:
        """The rest is not read: its unit or its line is gone."""
        self.blocks.clear()
        for sensor_id, points in self.open_points.items():
            if points:
                self.failed.setdefault(sensor_id, error)
            points.clear()

    def had_a_turn(self, now: float) -> None:
        """One that takes longer than its interval is not more urgent than all others for that."""
        if self.deadline <= now:
            self.deadline = now + min(slot.interval_s for slot in self.slots)

    def finished(self) -> list[str]:
        """Sensors of which nothing is to come any more; each is named once."""
        ready = [sensor_id for sensor_id, points in self.open_points.items() if not points]
        for sensor_id in ready:
            del self.open_points[sensor_id]
        return ready

    def everybody(self) -> list[LineRequest]:
        """All who still wait."""
        return [request for each in self.waiting.values() for request in each]

    def of_sensor(self, sensor_id: str) -> dict[str, Json]:
        """What was read of it: property -> value."""
        return {point.name: value for point, value in self.values.items() if point.sensor_id == sensor_id}

    def _over(self, block: Block, seconds: float) -> None:
        for point in block.points:
            self.open_points[point.sensor_id].discard(point)
        self._spend(block, seconds)

    def _replace(self, block: Block, finer: Iterable[Block], seconds: float) -> None:
        finer = list(finer)
        kept = {point for each in finer for point in each.points}
        for point in block.points:
            if point not in kept:
                self.open_points[point.sensor_id].discard(point)
        self.blocks.extendleft(reversed(finer))
        self._spend(block, seconds)

    def _spend(self, block: Block, seconds: float) -> None:
        for sensor_id in {point.sensor_id for point in block.points}:
            self.spent_s[sensor_id] = self.spent_s.get(sensor_id, 0.0) + seconds


def slots_of(sensor: SensorConfig, driver: Driver) -> dict[Slot, list[Point]]:
    """The sensor's readable properties by interval; a device without any is read whole."""
    slots: dict[Slot, list[Point]] = {}
    for name, spec in driver.properties(sensor.sensor_id).items():
        if spec.readable:
            slot = Slot(sensor.sensor_id, spec.interval_s or sensor.interval_s)
            slots.setdefault(slot, []).append(Point(sensor.sensor_id, name))
    whole = Slot(sensor.sensor_id, sensor.interval_s)
    return slots or {whole: [Point(sensor.sensor_id, "")]}
