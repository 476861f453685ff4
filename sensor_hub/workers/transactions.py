"""What goes over a line, counted and timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sensor_hub.clock import Clock
from sensor_hub.drivers.base import Block, Driver, Point
from sensor_hub.errors import HubError
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

    def read(self, points: Sequence[Point]) -> Mapping[Point, Json]:
        """Those that read some points of one unit. Raises the first failure."""
        values: dict[Point, Json] = {}
        for block in self._driver.plan(points):
            values.update(self.exchange(block))
        return values

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        """Those of one write; property -> what was sent. Raises what the driver raises."""
        unit_id, began = self._driver.unit_id(sensor_id), self._clock.monotonic()
        try:
            sent = self._driver.write(sensor_id, values)
        except HubError as error:
            self._ledger.written(unit_id, began, error)
            raise
        self._ledger.written(unit_id, began, None)
        self._healthy()
        return sent
