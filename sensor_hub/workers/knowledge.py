"""What is known of each device of a line, and telling it: values of several turns make one reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sensor_hub.clock import Clock
from sensor_hub.drivers.base import Driver, Point
from sensor_hub.errors import HubError
from sensor_hub.readings import Json
from sensor_hub.workers.messages import LineSetup, Message, Missed, SourceInfo, Taken


class Knowledge:
    """Last values by sensor and property. Belongs to the line's worker."""

    def __init__(
        self, setup: LineSetup, driver: Driver, clock: Clock, emit: Callable[[Message], None]
    ) -> None:
        self._driver, self._clock, self._emit = driver, clock, emit
        self._name, self._source = setup.transport.transport_id, SourceInfo.of(setup.transport)
        self._values: dict[str, dict[str, Json]] = {sensor.sensor_id: {} for sensor in setup.sensors}
        self._stale_after_s = {sensor.sensor_id: sensor.stale_after_s for sensor in setup.sensors}
        self._heard_at: dict[Point, float] = {}

    def of(self, sensor_id: str) -> Mapping[str, Json]:
        """The last value of each property that was read since the line was opened."""
        return self._values[sensor_id]

    def forget(self) -> None:
        """The line is gone: what comes back may be another device."""
        for values in self._values.values():
            values.clear()

    def read(self, sensor_id: str, asked: Iterable[str] | None, found: Mapping[str, Json]) -> None:
        """Properties were read (None: all): what was not found is not known any more."""
        values = self._values[sensor_id]
        for name in list(values if asked is None else asked):
            values.pop(name, None)
        values.update(found)

    def heard(self, sensor_id: str, said: Mapping[str, Json]) -> None:
        """A device may say its values one by one; what it has not said for too long is not known any more."""
        now, values = self._clock.monotonic(), self._values[sensor_id]
        self._heard_at.update({Point(sensor_id, name): now for name in said})
        values.update(said)
        for name in list(values):
            if now - self._heard_at.get(Point(sensor_id, name), now) > self._stale_after_s[sensor_id]:
                del values[name]

    def tell(self, sensor_id: str, spent_s: float) -> None:
        """A reading: all that is known, with the time of its newest part. `spent_s`: of its transactions."""
        values, specs = self._values[sensor_id], self._driver.properties(sensor_id)
        data = {name: values[name] for name in [*specs, *values] if name in values}
        read_at, timestamp = self._clock.monotonic(), self._clock.now()
        self._emit(Taken(self._name, self._source, sensor_id, data, timestamp, read_at, spent_s * 1000))

    def tell_missed(self, sensor_id: str, error: HubError, *, asked: bool) -> None:
        """There is no new reading; `asked`: though the device was asked."""
        self._emit(Missed(self._name, sensor_id, error.again(), asked))
