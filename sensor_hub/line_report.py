"""A line and its units as `/transports` shows them (contract, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from sensor_hub.config.model import TransportConfig
from sensor_hub.config.secrets import mask_url
from sensor_hub.polling import PROBE_SHARE, Counters, Unit
from sensor_hub.readings import Json, Status


class LineState(StrEnum):
    """The contract's words in `/transports`."""

    UP = "up"
    CONNECTING = "connecting"
    DOWN = "down"


# A unit is shown as its worst sensor.
_BADNESS = (Status.DISABLED, Status.ONLINE, Status.UNKNOWN, Status.DEGRADED, Status.OFFLINE)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a line is: since when, why, and in how many seconds it is tried again (None: not at all)."""

    state: LineState
    since: datetime
    last_error: str | None
    next_retry_s: float | None


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What a worker counted for one unit; `utilisation` is its part of the line's last minute."""

    unit_id: int | str
    sensor_ids: tuple[str, ...]
    counters: Counters
    round_trip_ms: float | None
    utilisation: float
    next_probe_s: float | None  # None: it is not left alone
    last_error: str | None

    @classmethod
    def of(cls, unit: Unit, now: float) -> UnitReport:
        """The unit at this moment."""
        return cls(
            unit.unit_id,
            tuple(unit.sensors),
            replace(unit.counters),
            unit.round_trip_ms,
            unit.meter.share(now),
            unit.open_for(now) or None,
            unit.last_error,
        )


@dataclass(frozen=True, slots=True)
class LineReport:
    """What a worker counted on its line."""

    utilisation: float = 0.0
    missed_turns: int = 0
    counters: Counters = field(default_factory=Counters)
    units: tuple[UnitReport, ...] = ()
    round_trip_ms: float | None = None  # of its last transactions, averaged


def describe(
    transport: TransportConfig,
    condition: Condition,
    report: LineReport,
    worker: Mapping[str, Json],
    status_of: Callable[[str], Status],
) -> dict[str, Json]:
    """One entry of `/transports`; `worker`: facts of what drives it, `status_of` says how a sensor is."""
    retry_s = condition.next_retry_s
    return {
        "transport_id": transport.transport_id,
        "driver": transport.driver,
        "url": mask_url(transport.url),
        **worker,
        "state": str(condition.state),
        "since": condition.since.isoformat(timespec="milliseconds"),
        "last_error": condition.last_error,
        "next_retry_s": None if retry_s is None else round(max(0.0, retry_s), 3),
        "utilisation": round(report.utilisation, 4),
        "round_trip_ms": None if report.round_trip_ms is None else round(report.round_trip_ms, 2),
        "missed_turns": report.missed_turns,
        "counters": asdict(report.counters),
        "units": [_describe_unit(unit, status_of) for unit in report.units],
    }


def telemetry(report: LineReport, sensor_ids: Iterable[str]) -> dict[str, dict[str, Json]]:
    """The metrics of each sensor's unit and line, by sensor."""
    wanted = set(sensor_ids)
    return {
        sensor_id: {
            "timeouts": unit.counters.timeouts,
            "crc_errors": unit.counters.crc_errors,
            "exceptions": unit.counters.exceptions,
            "unit_utilisation": round(unit.utilisation, 4),
            "line_round_trip_ms": None if report.round_trip_ms is None else round(report.round_trip_ms, 2),
            "line_utilisation": round(report.utilisation, 4),
        }
        for unit in report.units
        for sensor_id in unit.sensor_ids
        if sensor_id in wanted
    }


def _describe_unit(unit: UnitReport, status_of: Callable[[str], Status]) -> dict[str, Json]:
    counters = asdict(unit.counters)
    row: dict[str, Json] = {
        "unit_id": unit.unit_id,
        "state": str(max(map(status_of, unit.sensor_ids), key=_BADNESS.index)),
        **counters,
        "round_trip_ms": None if unit.round_trip_ms is None else round(unit.round_trip_ms, 2),
        "utilisation": round(unit.utilisation, 4),
        "last_error": unit.last_error,
    }
    if unit.next_probe_s is not None:
        # A dead unit: asked again then, which costs the line at most this share of its time.
        row |= {"next_probe_s": round(unit.next_probe_s, 3), "probe_share_max": PROBE_SHARE}
    return row
