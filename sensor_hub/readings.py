"""What a device said (Reading), that it said nothing (Fault), and how good the news is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sensor_hub.errors import HubError, from_code

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Quality(StrEnum):
    """How far to trust a value; see `assess`."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"


class Status(StrEnum):
    """State of a device, the same word in every service and topic."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Reading:
    """Values of one device, read at one moment.

    `values` maps property to JSON value; a device with a single property has it as `value`, beside `unit`.
    `timestamp` is aware: when the device was read. `plausible` is false outside its type's limits.
    """

    values: Mapping[str, Json]
    timestamp: datetime
    plausible: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no new reading: wire code, message for people, and since when."""

    code: str
    message: str
    timestamp: datetime

    @classmethod
    def of(cls, error: HubError, timestamp: datetime) -> Fault:
        """The fault that an error leaves behind."""
        return cls(error.code, str(error), timestamp)

    def as_error(self) -> HubError:
        """The error that this fault came from."""
        return from_code(self.code, self.message)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known of one device now; what a board holds and the feed carries.

    `reading` is the last good one (None: never read), `fault` the failure since then (None: last read was good),
    `quality` is None without a reading. `extra` are further facts beside the values (unit, emulated).
    """

    device_id: str
    sensor_type: str
    status: Status
    reading: Reading | None = None
    fault: Fault | None = None
    quality: Quality | None = None
    extra: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to a device: it was read (`snapshot` has a reading), or could not be (a fault only).

    `id` is `<generation>-<number>`: the process that took it, and its number there, from 1 on without gaps. It stays
    the same wherever the entry travels. `timestamp` is when it happened; a fault's own says since when.
    """

    id: str
    timestamp: datetime
    snapshot: Snapshot


def assess(
    *, age_s: float | None, failed: bool, plausible: bool, interval_s: float, stale_after_s: float
) -> tuple[Status, Quality | None]:
    """Status and quality of a device whose last good reading is `age_s` old (None: none yet).

    good; fair: last read failed, value younger than two intervals; poor: older, or implausible.
    Without a value younger than `stale_after_s` the device is offline (contract, section 2).
    """
    if age_s is None:
        return (Status.OFFLINE if failed else Status.UNKNOWN), None
    quality = Quality.FAIR if failed else Quality.GOOD
    if age_s > 2 * interval_s or not plausible:
        quality = Quality.POOR
    if age_s > stale_after_s:
        return Status.OFFLINE, Quality.POOR
    return (Status.DEGRADED if failed else Status.ONLINE), quality


def aged(
    before: Snapshot, fault: Fault, age_s: float | None, interval_s: float, stale_after_s: float
) -> Snapshot:
    """What is left of a device's snapshot when whoever reads it is gone: its value grows old, the fault stays.

    `age_s` is the age of its reading (see `ages`), None when it has none.
    """
    if before.fault is not None and before.fault.code == fault.code:
        fault = replace(fault, timestamp=before.fault.timestamp)
    status, quality = assess(
        age_s=age_s,
        failed=True,
        plausible=before.quality is not Quality.POOR,  # the wire does not say why; it gets no better unread
        interval_s=interval_s,
        stale_after_s=stale_after_s,
    )
    return replace(before, status=status, quality=quality, fault=fault)
