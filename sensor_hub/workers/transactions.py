"""What goes over a line, counted and timed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from sensor_hub.clock import Clock
from sensor_hub.drivers.base import Block, Driver, Point
from sensor_hub.errors import DeviceRefused, HubError, InvalidCommand, ValueOutOfRange
from sensor_hub.readings import Json
from sensor_hub.workers.ledger import Ledger


class Transactions:
    """A driver's transactions, with their entries in the books. Belongs to its line's worker."""

    def __init__(self, driver: Driver, ledger: Ledger, clock: Clock, healthy: Callable[[], None]) -> None:
        """`healthy` is told of each that was answered."""
        self._driver, self._ledger, self._clock, self._healthy = driver, ledger, clock, healthy

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        """One that reads. Raises what the driver raises."""
        began = self._clock.monotonic()
        try:
            values = self._driver.exchange(block)
        except HubError as error:
            self._ledger.failed(block.unit_id, began, error)
            raise
        self._ledger.answered(block.unit_id, began)
        self._healthy()
        return values

    def read(self, points: Sequence[Point], *, insist: bool = False) -> Mapping[Point, Json]:
        """Those that read some points of one unit; what is refused in one block is tried in smaller ones.

        `insist`: what was refused before is asked for all the same. Raises the first failure.
        """
        values: dict[Point, Json] = {}
        blocks = deque((self._driver.plan_all if insist else self._driver.plan)(points))
        while blocks:
            block = blocks.popleft()
            try:
                values.update(self.exchange(block))
            except DeviceRefused:
                finer = self._driver.plan(block.points)
                if [each.points for each in finer] == [block.points]:
                    raise
                blocks.extendleft(reversed(finer))
        return values

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        """Those of one write; property -> what was sent. Raises what the driver raises."""
        unit_id, began = self._driver.unit_id(sensor_id), self._clock.monotonic()
        try:
            sent = self._driver.write(sensor_id, values)
        except (InvalidCommand, ValueOutOfRange):
            raise  # nothing was sent: the unit has nothing to do with it
        except HubError as error:
            self._ledger.written(unit_id, began, error)
            raise
        self._ledger.written(unit_id, began, None)
        self._healthy()
        return sent
