"""What a driver is: it owns one line, validates its own options, reads and writes devices.

A driver is used by one thread at a time (its line's worker). It raises the hub's errors and nothing else; whoever
uses it counts what happened (see `errors`: ReadTimeout, BrokenFrame, DeviceRefused).

A driver whose devices are read whole implements `read`; one that reads points (registers) implements `plan` and
`exchange`. One whose devices speak unasked sets `listens` and implements `listen`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.config.options import Settings as Settings
from sensor_hub.config.options import describe as describe
from sensor_hub.config.options import json_path as json_path
from sensor_hub.config.options import problems_of as problems_of
from sensor_hub.config.options import settings_at as settings_at
from sensor_hub.errors import HubError, Problem
from sensor_hub.properties import PropertySpec as PropertySpec
from sensor_hub.readings import Json


class Point(NamedTuple):
    """One property of one sensor."""

    sensor_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Block:
    """What one transaction reads; all points are of one unit. Drivers add what they need to know."""

    unit_id: int | str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """What a unit asks of its line when everything is read at its interval.

    `share` is the part of the line's time, 1.0 is all of it (frames, silences, delays; no timeouts).
    """

    unit_id: int | str
    transactions_per_s: float
    share: float


class Driver(ABC):
    """One protocol on one line."""

    name: ClassVar[str]
    transport_settings: ClassVar[type[Settings]]
    sensor_settings: ClassVar[type[Settings]]
    listens: ClassVar[bool] = False  # devices of this protocol may speak unasked: see `listen`

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration (see `check_transport`, `check_sensor`); open nothing yet."""
        self.transport = transport

    @abstractmethod
    def unit_id(self, sensor_id: str) -> int | str:
        """Address of the sensor's unit on this line, as `/transports` shows it."""

    @abstractmethod
    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """The sensor's properties by name; a single unnamed one is `value`."""

    @abstractmethod
    def connect(self) -> None:
        """Open the line. Raises TransportDown; must be callable again after that and after `close`."""

    @abstractmethod
    def close(self) -> None:
        """Close the line; never raises; may be called twice."""

    def is_polled(self, sensor_id: str) -> bool:
        """False for a sensor that only speaks unasked: it is never read in the background."""
        return True

    def plan(self, points: Sequence[Point]) -> Sequence[Block]:
        """The transactions that read these points, which are of one unit.

        May leave out points that the device has refused, but never all of a sensor's. After an `exchange` that
        raised DeviceRefused the plan of its block's points may be finer than before.
        """
        sensors = dict.fromkeys(point.sensor_id for point in points)
        return [
            Block(self.unit_id(sensor_id), tuple(point for point in points if point.sensor_id == sensor_id))
            for sensor_id in sensors
        ]

    def plan_all(self, points: Sequence[Point]) -> Sequence[Block]:
        """The same for whoever wants just these: what the device refused before is asked for again."""
        return self.plan(points)

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        """Do one transaction of `plan`'s: the values of its points (more of the same sensors are welcome).

        Raises ReadTimeout, ReadFailed (BrokenFrame), DeviceRefused for the device, TransportDown for the line.
        """
        sensor_id = block.points[0].sensor_id
        return {Point(sensor_id, name): value for name, value in self.read(sensor_id).items()}

    def read(self, sensor_id: str) -> Mapping[str, Json]:
        """Ask the device now, for all its properties at once. Raises as `exchange` does."""
        raise NotImplementedError

    @abstractmethod
    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        """Send checked values; property -> what was sent. Raises as `exchange` does."""

    def listen(self, within_s: float) -> Mapping[str, Mapping[str, Json] | HubError | None]:
        """Wait at most so long for devices that speak unasked: sensor -> values, None: read it now.

        An error where what a device said is no reading.

        Raises TransportDown. Called while the line has nothing else to do, if `listens`.
        """
        raise NotImplementedError

    def load(self) -> Sequence[Load]:
        """How busy each unit keeps the line; empty where the line has no such limit."""
        return ()

    @staticmethod
    def url_problem(url: str) -> str | None:
        """What is wrong with the url of a line, or None."""
        return None if url else "required"

    @classmethod
    def check_transport(cls, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the line's own options and of its url."""
        yield from problems_of(cls.transport_settings, transport.options, transport.path)
        problem = cls.url_problem(transport.url)
        if problem:
            yield Problem(f"{transport.path}.url", problem)

    @classmethod
    def check_sensor(cls, sensor: SensorConfig, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of one sensor's options on this line."""
        yield from problems_of(cls.sensor_settings, options_of(cls, sensor), sensor.path)


def options_of(driver: type[Driver], sensor: SensorConfig) -> Mapping[str, Json]:
    """The sensor's options for its driver; a lenient sensor's unknown keys are left out."""
    if not sensor.lenient:
        return sensor.options
    known = driver.sensor_settings.known_keys()
    return {key: value for key, value in sensor.options.items() if key in known}
