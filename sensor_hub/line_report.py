"""A line and its units as `/transports` shows them (contract, section 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sensor_hub.config.model import TransportConfig
from sensor_hub.config.secrets import mask_url
from sensor_hub.drivers.base import LineCounters
from sensor_hub.polling import Unit
from sensor_hub.readings import Json, Status


class LineState(StrEnum):
    """The contract's words in `/transports`."""

    UP = "up"
    CONNECTING = "connecting"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a line is: since when, why, and in how many seconds it is tried again (None: not at all)."""

    state: LineState
    since: datetime
    last_error: str | None
    next_retry_s: float | None


def describe(
    transport: TransportConfig,
    condition: Condition,
    counters: LineCounters,
    units: Iterable[Unit],
    status_of: Callable[[str], Status],
) -> dict[str, Json]:
    """One entry of `/transports`; `status_of` says how a sensor is."""
    retry_s = condition.next_retry_s
    return {
        "transport_id": transport.transport_id,
        "driver": transport.driver,
        "url": mask_url(transport.url),
        "parallelism": "thread",
        "worker_pid": os.getpid(),
        "state": str(condition.state),
        "since": condition.since.isoformat(timespec="milliseconds"),
        "last_error": condition.last_error,
        "next_retry_s": None if retry_s is None else round(max(0.0, retry_s), 3),
        "counters": asdict(counters),
        "units": [_describe_unit(unit, status_of) for unit in units],
    }


def _describe_unit(unit: Unit, status_of: Callable[[str], Status]) -> dict[str, Json]:
    return {
        "unit_id": unit.unit_id,
        "state": str(status_of(unit.sensors[0])),
        "reads": unit.reads,
        "errors": unit.errors,
        "round_trip_ms": None if unit.round_trip_ms is None else round(unit.round_trip_ms, 2),
        "last_error": unit.last_error,
    }
