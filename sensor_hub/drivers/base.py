"""What a driver is: it owns one line, validates its own options, reads and writes devices.

A driver is used by one thread at a time (its line's worker). It raises the hub's errors and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.errors import Problem
from sensor_hub.properties import PropertySpec as PropertySpec
from sensor_hub.readings import Json


class Settings(BaseModel):
    """Base of a driver's settings: unknown keys are errors, values are frozen, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(slots=True)
class LineCounters:
    """What happened on a line since its worker started; the names are the contract's."""

    reads: int = 0
    errors: int = 0
    timeouts: int = 0
    crc_errors: int = 0
    exceptions: int = 0
    commands: int = 0


class Driver(ABC):
    """One protocol on one line."""

    name: ClassVar[str]
    transport_settings: ClassVar[type[Settings]]
    sensor_settings: ClassVar[type[Settings]]

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration (see `check_transport`, `check_sensor`); open nothing yet."""
        self.transport = transport
        self.counters = LineCounters()

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

    @abstractmethod
    def read(self, sensor_id: str) -> Mapping[str, Json]:
        """Ask the device now: property -> value.

        Raises ReadTimeout, ReadFailed, DeviceRefused for the device, TransportDown for the line.
        """

    @abstractmethod
    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        """Send checked values; property -> what was written. Raises as `read` does."""

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
    known = {field.alias or name for name, field in driver.sensor_settings.model_fields.items()}
    return {key: value for key, value in sensor.options.items() if key in known}


def problems_of(model: type[BaseModel], options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Validate `options` and yield each problem with its full JSON path."""
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        for item in error.errors(include_url=False):
            yield Problem(json_path(path, item["loc"]), describe(dict(item)))


def json_path(path: str, loc: Sequence[int | str]) -> str:
    """`config.sensors[0]` + ("register", "address") -> `config.sensors[0].register.address`."""
    return path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def describe(item: Mapping[str, Any]) -> str:
    """One pydantic error in our words: what is wrong and what is allowed."""
    if item["type"] == "extra_forbidden":
        return "unknown key"
    if item["type"] == "missing":
        return "required"
    return str(item["msg"]).removeprefix("Value error, ")
