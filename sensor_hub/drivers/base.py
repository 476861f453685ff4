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
from functools import reduce
from typing import Any, ClassVar, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.config.problems import join
from sensor_hub.config.values import is_blank
from sensor_hub.errors import Problem
from sensor_hub.properties import PropertySpec as PropertySpec
from sensor_hub.readings import Json


class Settings(BaseModel):
    """Base of a driver's settings: unknown keys are errors, blanks are not given, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        """Null and empty text count as not given, as everywhere in the configuration."""
        if not isinstance(given, Mapping):
            return given
        known = cls.known_keys()
        return {
            key: value
            for key, value in given.items()
            if key not in known or not (value is None or is_blank(value))
        }

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Its fields, by their names in the configuration."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


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

    def listen(self, within_s: float) -> Mapping[str, Mapping[str, Json] | None]:
        """Wait at most so long for devices that speak unasked: sensor -> values, None: read it now.

        Raises TransportDown. Called while the line has nothing else to do, if `listens`.
        """
        raise NotImplementedError

    def load(self) -> Sequence[Load]:
        """How busy each unit keeps the line; empty where the line has no such limit."""
        return ()

    @classmethod
    def check_transport(cls, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the line's own options (and of its url)."""
        yield from problems_of(cls.transport_settings, transport.options, transport.path)

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


def problems_of(model: type[Settings], options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Validate `options` and yield each problem with its full JSON path."""
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        for item in error.errors(include_url=False):
            where = item["loc"]
            yield Problem(json_path(path, where), describe(dict(item), settings_at(model, where[:-1])))


def settings_at(model: type[Settings], loc: Sequence[int | str]) -> type[Settings]:
    """The settings that the object at `loc` is read with: ("properties", "pump") -> those of a register."""
    for part in loc:
        field = model.known_keys().get(str(part))
        if field is not None:
            model = next(_settings_in(field.annotation), model)
    return model


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in get_args(annotation):
        yield from _settings_in(inner)


def json_path(path: str, loc: Sequence[int | str]) -> str:
    """`config.sensors[0]` + ("register", "address") -> `config.sensors[0].register.address`."""
    return reduce(join, loc, path)


_KINDS: Mapping[str, str] = {
    "string_type": "a text",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def describe(item: Mapping[str, Any], settings: type[Settings]) -> str:
    """One pydantic error in the configuration's words: what is allowed. `settings`: of the object it is in."""
    kind = str(item["type"])
    if kind == "extra_forbidden":
        return f"unknown key; known are {', '.join(settings.known_keys()) or 'none'}"
    if kind == "missing":
        return "required"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    return str(item["msg"]).removeprefix("Value error, ")
