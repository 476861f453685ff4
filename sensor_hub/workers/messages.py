"""What the worker of lines and its owner say to each other; see `crew.messages`.

A worker begins with the setup of its lines. Its news are readings, missed ones, and states of lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.crew.messages import Answer, Request
from sensor_hub.drivers.base import Driver
from sensor_hub.errors import HubError
from sensor_hub.line_report import LineState
from sensor_hub.readings import Json
from sensor_hub.sources import SourceInfo as SourceInfo


@dataclass(frozen=True, slots=True)
class LineSetup:
    """A line, its enabled sensors, and who makes its driver (for a worker in a process: the driver's class)."""

    transport: TransportConfig
    sensors: Sequence[SensorConfig]
    driver: Callable[[TransportConfig, Sequence[SensorConfig]], Driver]

    def new_driver(self) -> Driver:
        """One that nobody has used."""
        return self.driver(self.transport, self.sensors)


@dataclass(frozen=True, slots=True)
class LineRequest(Request):
    """Read a device now, or write checked values to it; or report, at once, what was counted."""

    transport_id: str = ""
    kind: Literal["read", "command", "report"] = "read"
    sensor_id: str = ""
    values: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """A device was read: all its values, when (`read_at` is monotonic, the same clock in all processes)."""

    source_transport: str
    source_transport_info: SourceInfo
    sensor_id: str
    data: Mapping[str, Json]
    timestamp: datetime
    read_at: float
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A device has no new reading; `asked` is false when it was not even tried (line down, unit left alone)."""

    source_transport: str
    sensor_id: str
    error: HubError
    asked: bool


@dataclass(frozen=True, slots=True)
class LineNews:
    """How the line is now; `retry_at` is monotonic, None: not at all, or not needed."""

    transport_id: str
    state: LineState
    since: datetime
    last_error: str | None
    retry_at: float | None


Message = Answer | Taken | Missed | LineNews
