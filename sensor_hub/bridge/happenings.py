"""Events and errors of devices: what must not be missed, so they are taken from the journal, entry by entry.

What the journal does not have (a handler that is gone, a value that grows old) the board tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sensor_hub import logs, wire
from sensor_hub.bridge.outbox import ERROR_GOES_ON, TELEMETRY_ROW
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig, SensorConfig
from sensor_hub.errors import HandlerUnreachable, SensorUnavailable, TransportDown
from sensor_hub.journal import News
from sensor_hub.readings import Entry, Fault, Json, Snapshot, Status
from sensor_hub.sensor_types import SENSOR_TYPES
from sensor_hub.store_file import Item

log = logs.get(__name__)

# Codes that are on the board alone: of an aggregator that hears nothing of a handler, of a value that is too old.
_OF_THE_BOARD = (HandlerUnreachable.code, SensorUnavailable.code)


@dataclass(slots=True)
class _Device:
    config: SensorConfig
    told: set[str] = field(default_factory=set)  # properties of which the last event said that they are true
    error: tuple[str, str] | None = None  # code and severity of the error last told
    error_at: datetime | None = None
    is_followed: bool = False  # in the journal: the board is no source of events then
    code: str | None = None  # of the last entry's fault, when `is_followed`


class Happenings:
    """Remembers what was told of each device. Belongs to the bridge's loop: not thread-safe, never waits.

    A mark is all that it remembers and how far the journal was had: with it a bridge goes on where it was killed.
    """

    def __init__(self, hub: HubConfig, devices: Iterable[SensorConfig], clock: Clock) -> None:
        self._interval_s, self._clock = hub.update_interval_s, clock
        self._devices = {sensor.sensor_id: _Device(sensor) for sensor in devices}
        self._had = ""
        self.missed = 0  # entries that the journal no longer had, since there is a mark
        # Whether what the journal had at the first answer is still being read; not by the clock, which may be set.
        self._is_behind = True
        self.connected = False  # whether anybody can hear that an error goes on

    def load(self, mark: str) -> str:
        """Go on from a mark; how far the journal was had (`journal.Had`). One that cannot be read is none."""
        try:
            kept = wire.loads(mark.encode()) if mark else None
        except wire.MalformedJson:
            kept = None
        if not isinstance(kept, dict) or not isinstance(kept.get("had"), str):
            return ""
        self._had = str(kept["had"])
        self._is_behind = kept.get("is_behind") is True or not self._had
        missed = kept.get("missed")
        self.missed = missed if isinstance(missed, int) else 0
        told, errors = kept.get("told"), kept.get("errors")
        for device in self._devices.values():
            device.is_followed = not self._is_behind
            names = told.get(device.config.sensor_id) if isinstance(told, dict) else None
            device.told = {str(name) for name in names} if isinstance(names, list) else set()
            error = errors.get(device.config.sensor_id) if isinstance(errors, dict) else None
            match error:
                case [str(code), str(severity)]:
                    device.error = code, severity
        return self._had

    @property
    def is_read(self) -> bool:
        """Whether anything was had of the journal."""
        return bool(self._had)

    def mark(self) -> str:
        """To be kept with what was told."""
        errors: dict[str, Json] = {
            name: [*device.error] for name, device in self._devices.items() if device.error is not None
        }
        told: dict[str, Json] = {
            name: [*device.told] for name, device in self._devices.items() if device.told
        }
        return wire.dumps(
            {
                "had": self._had,
                "is_behind": self._is_behind,
                "missed": self.missed,
                "told": told,
                "errors": errors,
            }
        )

    def news(self, news: News) -> list[Item]:
        """What the aggregator tells: each entry of its journal, then the board.

        Without a mark, what the journal has when it is first asked is not told: it may have been told before.
        """
        entries = () if self._is_behind else news.entries
        self._is_behind = self._is_behind and news.is_behind
        items = [item for entry in entries for item in self._entry(entry)]
        self._had, self.missed = news.mark, self.missed + news.missed
        return items + self.board(news.changes)

    def board(self, snapshots: Iterable[Snapshot]) -> list[Item]:
        """What is true of devices now, as far as the journal has not told or will not tell it."""
        items: list[Item] = []
        for snapshot in snapshots:
            device = self._devices.get(snapshot.device_id)
            if device is None or snapshot.status is Status.UNKNOWN:
                continue  # an aggregator that has just started knows less than we do
            if not device.is_followed:
                items += self._events(device, snapshot)
            if device.code is None or self._is_told_here(device, snapshot.fault):
                items += self._error(device, snapshot, self._clock.now())
        return items

    @staticmethod
    def _is_told_here(device: _Device, fault: Fault | None) -> bool:
        code = fault.code if fault is not None else ""
        return code in (device.code, *_OF_THE_BOARD)  # another's beginning is in the journal, or will be

    def _entry(self, entry: Entry) -> list[Item]:
        device = self._devices.get(entry.snapshot.device_id)
        if device is None:
            return []
        fault = entry.snapshot.fault
        device.is_followed, device.code = True, fault.code if fault is not None else ""
        return [*self._events(device, entry.snapshot), *self._error(device, entry.snapshot, entry.timestamp)]

    def _events(self, device: _Device, snapshot: Snapshot) -> list[Item]:
        if snapshot.reading is None:
            return []
        items: list[Item] = []
        for name, words in SENSOR_TYPES[device.config.sensor_type].events.items():
            now = snapshot.reading.values.get(name)
            if not isinstance(now, bool) or now is (name in device.told):
                continue
            device.told ^= {name}
            event = words[0] if now else words[1]
            log.info(event.replace("_", " "), device=device.config.sensor_id)
            data = dict(snapshot.reading.values)
            items.append(
                _item("event", device.config.sensor_id, snapshot.reading.timestamp, event=event, data=data)
            )
        return items

    def _error(self, device: _Device, snapshot: Snapshot, at: datetime) -> list[Item]:
        fault = snapshot.fault
        if fault is None:
            device.error = None
            return []
        kind = (fault.code, _severity(fault, snapshot.status))
        goes_on = kind == device.error
        if goes_on and not (self.connected and self._is_due(device, at)):
            return []
        device.error, device.error_at = kind, at
        item = error_item(device.config.sensor_id, fault.code, fault.message, kind[1], at)
        return [replace(item, kind=ERROR_GOES_ON) if goes_on else item]

    def _is_due(self, device: _Device, at: datetime) -> bool:
        """That an error goes on is said once per update interval; a clock that was set must not silence it."""
        return device.error_at is None or abs((at - device.error_at).total_seconds()) >= self._interval_s


def error_item(device_id: str, code: str, message: str, severity: str, at: datetime) -> Item:
    """One error of a device (known or not)."""
    return _item("error", device_id, at, error_code=code, message=message, severity=severity)


def telemetry_item(device_id: str, metrics: Mapping[str, Json], at: datetime) -> Item:
    """What was counted of a device."""
    return _item(TELEMETRY_ROW, device_id, at, metrics=dict(metrics))


def _item(kind: str, device_id: str, at: datetime, **body: Json) -> Item:
    timestamp = wire.timestamp_text(at)
    return Item(device_id, timestamp, kind, wire.dumps({"timestamp": timestamp, **body}).encode())


def _severity(fault: Fault, status: Status) -> str:
    if fault.code in (TransportDown.code, HandlerUnreachable.code):
        return "critical"
    return "warning" if status is Status.DEGRADED else "error"
