"""What one handler knows of its devices: last reading, last fault, counters; kept on its board."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sensor_hub import logs
from sensor_hub.board import Board, Happened
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, SensorConfig
from sensor_hub.errors import HubError, SensorUnavailable, TransportDown
from sensor_hub.journal import Journal
from sensor_hub.readings import Fault, Json, Reading, Snapshot, Status, assess
from sensor_hub.sensor_types import SENSOR_TYPES

log = logs.get(__name__)

HTTP_OFFLINE_AFTER_FAILURES = 3
UNTOLD = 10_000  # changes that wait for a log that does not take them


@dataclass(slots=True)
class History:
    """Counters of one sensor since the service started; the times are of the device, not of the asker."""

    total_reads: int = 0
    total_failures: int = 0
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    last_success: datetime | None = None
    last_failure: datetime | None = None
    round_trip_ms: float | None = None


@dataclass(slots=True)
class _Device:
    config: SensorConfig
    history: History
    reading: Reading | None = None
    read_at: float = 0.0  # monotonic
    fault: Fault | None = None


class Tracker:
    """Thread-safe. Turns outcomes of reads into snapshots: status, quality and staleness of the contract."""

    def __init__(
        self,
        sensors: Iterable[SensorConfig],
        clock: Clock,
        units: Mapping[str, str | None],
        journal: Journal | None = None,
    ) -> None:
        """`sensors` are the handler's enabled ones; each starts as `unknown` on the board.

        `units`: sensor_id -> unit of its single value, where the configuration names one. `journal`: the board's,
        for what becomes of every read.
        """
        self._clock, self._units = clock, units
        self._started = clock.now()
        self._lock = threading.Lock()
        self._untold: deque[tuple[Snapshot, Status]] = deque(maxlen=UNTOLD)
        self._telling = threading.Lock()
        self._devices = {sensor.sensor_id: _Device(sensor, History()) for sensor in sensors}
        self.board = Board((self._snapshot(device) for device in self._devices.values()), journal=journal)

    def succeeded(
        self,
        sensor_id: str,
        values: Mapping[str, Json],
        round_trip_ms: float,
        taken: tuple[datetime, float] | None = None,
    ) -> Snapshot:
        """The device was read; `taken`: when, as aware time and monotonic (None: just now)."""
        with self._changing():
            device = self._devices[sensor_id]
            now, read_at = taken or (self._clock.now(), self._clock.monotonic())
            history = device.history
            history.total_reads += 1
            history.consecutive_failures = 0
            history.consecutive_successes += 1
            history.last_success, history.round_trip_ms = now, round(round_trip_ms, 2)
            values = _rounded(device.config.sensor_type, values)
            device.reading = Reading(values, now, plausible(device.config.sensor_type, values))
            device.read_at, device.fault = read_at, None
            return self._put(device, (now, replace(self._snapshot(device), fault=None)))

    def failed(self, sensor_id: str, error: HubError) -> Snapshot:
        """The device was asked just now and could not be read."""
        with self._changing():
            history = self._devices[sensor_id].history
            history.total_reads += 1
            history.total_failures += 1
            history.consecutive_failures += 1
            history.consecutive_successes = 0
            now = history.last_failure = self._clock.now()
            return self._fault(sensor_id, error, now, is_read=True)

    def unreachable(self, sensor_id: str, error: HubError) -> Snapshot:
        """The device cannot be read, and was not asked: its line is down, or its unit is left alone.

        A fault of the same kind keeps the time it began, and only its beginning is for the journal.
        """
        with self._changing():
            return self._fault(sensor_id, error, self._clock.now(), is_read=False)

    def refresh(self) -> None:
        """Put again whatever time alone has changed (value too old, quality worse)."""
        with self._changing():
            for device in self._devices.values():
                before, now = self.board.get(device.config.sensor_id), self._snapshot(device)
                if before is None or (before.status, before.quality) != (now.status, now.quality):
                    self._put(device)

    def snapshot(self, sensor_id: str) -> Snapshot:
        """All that is known of the device at this moment. KeyError for an unknown or disabled one."""
        with self._lock:
            return self._snapshot(self._devices[sensor_id])

    def age_s(self, sensor_id: str) -> float | None:
        """Seconds since the last good reading, None without one."""
        with self._lock:
            device = self._devices[sensor_id]
            return None if device.reading is None else self._clock.monotonic() - device.read_at

    def history(self, sensor_id: str) -> History:
        """A copy of the device's counters."""
        with self._lock:
            return replace(self._devices[sensor_id].history)

    def known(self, sensor_id: str) -> tuple[Snapshot, History]:
        """`snapshot` and `history`, of the same moment."""
        with self._lock:
            device = self._devices[sensor_id]
            return self._snapshot(device), replace(device.history)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock, and tell afterwards what has changed: a log that does not take it must delay no reading."""
        with self._lock:
            yield
        while self._untold and self._telling.acquire(
            blocking=False
        ):  # else somebody is at it, and takes ours along
            try:
                while self._untold:
                    _tell(*self._untold.popleft())
            finally:
                self._telling.release()

    def _fault(self, sensor_id: str, error: HubError, now: datetime, *, is_read: bool) -> Snapshot:
        device = self._devices[sensor_id]
        fault = Fault.of(error, now)
        before = device.fault
        begins = before is None or before.code != fault.code
        if before is not None and not begins:
            fault = replace(fault, timestamp=before.timestamp)
        device.fault = fault
        if not is_read and not begins:
            return self._put(device)
        return self._put(device, (now, replace(self._snapshot(device), reading=None, quality=None)))

    def _put(self, device: _Device, happened: Happened | None = None) -> Snapshot:
        """`happened`: what came of a read, None when only time has passed."""
        sensor_id = device.config.sensor_id
        before, snapshot = self.board.get(sensor_id), self._snapshot(device)
        self.board.put(snapshot, happened)
        if before is not None and before.status != snapshot.status:
            self._untold.append((snapshot, before.status))
        return snapshot

    def _snapshot(self, device: _Device) -> Snapshot:
        config, reading, fault = device.config, device.reading, device.fault
        age_s = None if reading is None else self._clock.monotonic() - device.read_at
        status, quality = assess(
            age_s=age_s,
            failed=fault is not None,
            plausible=reading is None or reading.plausible,
            interval_s=config.interval_s,
            stale_after_s=config.stale_after_s,
        )
        if fault is not None and self._is_down(device):
            status = Status.OFFLINE
        if status is Status.UNKNOWN:
            fault = Fault(SensorUnavailable.code, "not read yet", self._started)
        elif status is Status.OFFLINE and fault is None and reading is not None:
            since = reading.timestamp + timedelta(seconds=config.stale_after_s)
            fault = Fault(SensorUnavailable.code, f"no reading for {config.stale_after_s:g} s", since)
        extra = self._extra(device)
        return Snapshot(config.sensor_id, config.sensor_type, status, reading, fault, quality, extra)

    def _extra(self, device: _Device) -> dict[str, Json]:
        config, extra = device.config, dict[str, Json]()
        if device.reading is not None and set(device.reading.values) == {"value"}:
            extra["unit"] = self._units.get(config.sensor_id) or SENSOR_TYPES[config.sensor_type].unit
        if config.emulated:
            extra["emulated"] = True
        return extra

    @staticmethod
    def _is_down(device: _Device) -> bool:
        if device.fault is not None and device.fault.code == TransportDown.code:
            return True
        over = device.history.consecutive_failures >= HTTP_OFFLINE_AFTER_FAILURES
        return device.config.handler is Handler.HTTP and over


def plausible(sensor_type: str, values: Mapping[str, Json]) -> bool:
    """Whether a single-value sensor's number lies within its type's limits."""
    limits, value = SENSOR_TYPES[sensor_type], values.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    above = limits.low is None or value >= limits.low
    return above and (limits.high is None or value <= limits.high)


def _rounded(sensor_type: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
    digits, value = SENSOR_TYPES[sensor_type].digits, values.get("value")
    if digits is None or not isinstance(value, float):
        return values
    return {**values, "value": round(value, digits)}


def _tell(snapshot: Snapshot, before: Status) -> None:
    if snapshot.fault is not None and snapshot.status is not Status.ONLINE:
        log.warning(
            f"device {snapshot.status}",
            device=snapshot.device_id,
            error=snapshot.fault.code,
            reason=snapshot.fault.message,
        )
    elif before in (Status.DEGRADED, Status.OFFLINE):
        log.info("device back online", device=snapshot.device_id)
    else:
        log.info("device online", device=snapshot.device_id)
