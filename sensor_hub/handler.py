"""A handler: the lines of one kind, their devices on one board, reads and commands for whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sensor_hub import commands, logs, properties, property_facts, threads, wire
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, HubConfig, SensorConfig, TransportConfig, WriteChecks
from sensor_hub.drivers import DRIVERS
from sensor_hub.errors import (
    CommandTimeout,
    Disabled,
    NoCache,
    ReadOnly,
    ReadTimeout,
    SensorUnavailable,
    UnknownSensor,
)
from sensor_hub.journal import Journal
from sensor_hub.line_report import LineState
from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Json, Snapshot, Status
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire, parallelism_of

log = logs.get(__name__)

AGEING_STEP_S = 0.5


class HandlerService:
    """All that serial-handler and http-poller do; they differ only in which lines they own."""

    def __init__(self, service: str, handler: Handler, config: HubConfig, clock: Clock) -> None:
        """Build the lines of `handler`; nothing is opened before `start`."""
        self.service, self.config, self.clock = service, config, clock
        self._kind = handler
        self._sensors = {s.sensor_id: s for s in config.sensors if s.handler is handler}
        enabled = [sensor for sensor in self._sensors.values() if sensor.enabled]
        used = {sensor.transport_id for sensor in enabled}
        transports = [
            # A real port is opened even if no sensor uses it yet (`/transports` shows how it is); an endpoint
            # and an emulated line exist only for their sensors.
            t
            for t in config.transports
            if t.handler is handler
            and (t.transport_id in used or (handler is Handler.SERIAL and not t.emulated))
        ]
        drivers = {t.transport_id: DRIVERS[t.driver](t, _on(t, enabled)) for t in transports}
        self._specs: dict[str, Mapping[str, PropertySpec]] = {
            sensor.sensor_id: drivers[sensor.transport_id].properties(sensor.sensor_id) for sensor in enabled
        }
        enabled = [_at_its_pace(sensor, self._specs[sensor.sensor_id]) for sensor in enabled]
        units = {
            sensor_id: specs["value"].unit for sensor_id, specs in self._specs.items() if "value" in specs
        }
        journal = Journal("sensor_id", config.journal_entries, config.journal_bytes)
        self.tracker = Tracker(enabled, clock, units, journal)
        self.board = self.tracker.board
        self._lines = [
            Line(t, _on(t, enabled), parallelism_of(t, transports), self.tracker, clock) for t in transports
        ]
        setups = [LineSetup(t, _on(t, enabled), DRIVERS[t.driver]) for t in transports]
        log_setup = LogSetup(service, config.log_level, config.log_format, str(config.timezone))
        self._workers = hire(list(zip(self._lines, setups, strict=True)), clock, log_setup)
        self._line_of = {s.sensor_id: line for line in self._lines for s in _on(line.transport, enabled)}
        self._memory = commands.Memory(clock)
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to read."""
        for worker in self._workers:
            worker.start()
        threads.start("ageing", self._age, self._closing)
        log.info("reading", lines=len(self._lines), devices=len(self._specs))

    def close(self) -> None:
        """Wake followers, end the lines; at most about a second for all of them together."""
        self._closing.set()
        self.board.close()
        enders = [threading.Thread(target=worker.stop, daemon=True) for worker in self._workers]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join(1.0)

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, sensor_id: str) -> dict[str, Json]:
        """A fresh read. Raises what the line raises, UnknownSensor, Disabled."""
        self._enabled(sensor_id)
        return wire.reading_body(self._line_of[sensor_id].read(sensor_id), "sensor_id")

    def last(self, sensor_id: str) -> dict[str, Json]:
        """The last poll. Raises SensorUnavailable when the device is offline or was never read."""
        self._enabled(sensor_id)
        snapshot, history = self.tracker.known(sensor_id)
        if snapshot.reading is None or snapshot.status not in (Status.ONLINE, Status.DEGRADED):
            raise SensorUnavailable(
                snapshot.fault.message if snapshot.fault else "not read yet",
                status=str(snapshot.status),
                last_success=_text(history.last_success),
            )
        return wire.reading_body(snapshot, "sensor_id")

    def cached(self, sensor_id: str) -> dict[str, Json]:
        """The last good reading, however old, with its age in seconds. Raises NoCache when never read."""
        self._enabled(sensor_id)
        snapshot, age_s = self.tracker.snapshot(sensor_id), self.tracker.age_s(sensor_id)
        if snapshot.reading is None or age_s is None:
            raise NoCache(f"{sensor_id} was never read well")
        return {**wire.reading_body(snapshot, "sensor_id"), "cached": True, "cache_age": round(age_s, 3)}

    def status(self, sensor_id: str) -> Status:
        """Raises UnknownSensor."""
        sensor = self._known(sensor_id)
        return self.tracker.snapshot(sensor_id).status if sensor.enabled else Status.DISABLED

    def health_of(self, sensor_id: str) -> dict[str, Json]:
        """Connection statistics of one sensor (contract: http-poller)."""
        self._enabled(sensor_id)
        snapshot, history = self.tracker.known(sensor_id)
        return {
            "sensor_id": sensor_id,
            "status": str(snapshot.status),
            "consecutive_failures": history.consecutive_failures,
            "consecutive_successes": history.consecutive_successes,
            "total_polls": history.total_reads,
            "total_failures": history.total_failures,
            "last_success": _text(history.last_success),
            "last_failure": _text(history.last_failure),
        }

    # -- commands -----------------------------------------------------------------------------------------------

    def command(self, sensor_id: str, payload: bytes) -> dict[str, Json]:
        """Check and carry out a command, in the contract's order of checks. Raises each check's error."""
        command = commands.parse(payload)
        answer = self._memory.answer(sensor_id, command, lambda: self._execute(sensor_id, command))
        return {"id": command.id, "status": "success", **answer}

    def _execute(self, sensor_id: str, command: commands.Command) -> commands.Answer:
        sensor = self._enabled(sensor_id)
        commands.check_not_stale(command, self.clock.now())
        specs, line = self._specs[sensor_id], self._line_of[sensor_id]
        if not line.transport.write:
            raise ReadOnly(f"transport of {sensor.sensor_id} has write: false")
        unsafe = line.transport.write_checks is WriteChecks.UNSAFE
        values = properties.check_values(command.values, specs, ranges=not unsafe)
        try:
            written = line.command(sensor_id, values, command.timeout_s)
        except ReadTimeout as error:
            raise CommandTimeout(str(error)) from error
        # Names only: a value may be a door's code, or 64 KiB long.
        told = {"properties": ", ".join(written.values), "outcome": str(written.outcome)}
        log.info("command done", device=sensor_id, id=command.id, **told)
        outcomes: dict[str, Json] = {name: str(outcome) for name, outcome in written.outcomes.items()}
        return {"values": dict(written.values), "outcome": str(written.outcome), "outcomes": outcomes}

    # -- what the service says of itself ------------------------------------------------------------------------

    def sensors(self) -> list[Json]:
        """All configured sensors, read or not."""
        return [
            {
                "sensor_id": sensor.sensor_id,
                "type": sensor.sensor_type,
                "status": str(self.status(sensor.sensor_id)),
                "last_update": self._last_update(sensor),
            }
            for sensor in self._sensors.values()
        ]

    def transports(self) -> list[Json]:
        """All lines, as `/transports` shows them."""
        return [line.describe() for line in self._lines]

    def properties(self) -> dict[str, Json]:
        """Of every enabled device: each property's kind, unit and limits, and whether commands to it are taken."""
        return {
            sensor_id: {
                name: property_facts.body_of(
                    spec, writable=spec.writable and self._line_of[sensor_id].transport.write
                )
                for name, spec in specs.items()
            }
            for sensor_id, specs in self._specs.items()
        }

    def errors(self) -> dict[str, Json]:
        """Devices whose last read failed (or that went stale), with code, message and since when."""
        return {
            snapshot.device_id: {
                "error": snapshot.fault.code,
                "message": snapshot.fault.message,
                "timestamp": wire.timestamp_text(snapshot.fault.timestamp),
            }
            for snapshot in self._snapshots()
            if snapshot.fault is not None and snapshot.status is not Status.UNKNOWN
        }

    def telemetry(self) -> dict[str, Json]:
        """Counters of every enabled device: reads, errors, round_trip_ms; and of its unit and line."""
        rows: dict[str, Json] = {}
        of_lines = {name: row for line in self._serial() for name, row in line.telemetry().items()}
        for sensor_id in self._specs:
            history = self.tracker.history(sensor_id)
            rows[sensor_id] = {
                "reads": history.total_reads,
                "errors": history.total_failures,
                "round_trip_ms": history.round_trip_ms,
                **of_lines.get(sensor_id, {}),
            }
        return rows

    def health(self) -> dict[str, Json]:
        """Healthy; degraded while some lines or sensors are down; unavailable when all are."""
        statuses = [snapshot.status for snapshot in self._snapshots()]
        bad = sum(status is Status.OFFLINE for status in statuses)
        down = sum(line.state is LineState.DOWN for line in self._lines)
        if (statuses and bad == len(statuses)) or (self._lines and down == len(self._lines)):
            status = "unavailable"
        elif bad or down:
            status = "degraded"
        else:
            status = "healthy"
        body: dict[str, Json] = {
            "service": self.service,
            "instance_id": self.config.instance_id,
            "status": status,
            "timestamp": wire.timestamp_text(self.clock.now()),
            "sensors_tracked": len(self._specs),
            "errors_count": len(self.errors()),
            "journal": self.board.journal_size(),
        }
        if self._kind is Handler.HTTP:
            online = sum(status in (Status.ONLINE, Status.DEGRADED) for status in statuses)
            body |= {
                "sensors_total": len(self._sensors),
                "sensors_online": online,
                "poll_interval": wire.plain(self.config.poll_interval_s),
            }
        else:
            body["transports"] = [
                {"transport_id": line.transport.transport_id, "state": str(line.state)}
                for line in self._lines
            ]
        return body

    def _serial(self) -> list[Line]:
        """Lines that several devices share."""
        return self._lines if self._kind is Handler.SERIAL else []

    def _snapshots(self) -> list[Snapshot]:
        return [self.tracker.snapshot(sensor_id) for sensor_id in self._specs]

    def _last_update(self, sensor: SensorConfig) -> str | None:
        if not sensor.enabled:
            return None
        return _text(self.tracker.history(sensor.sensor_id).last_success)

    def _known(self, sensor_id: str) -> SensorConfig:
        sensor = self._sensors.get(sensor_id)
        if sensor is None:
            raise UnknownSensor(f"no sensor {sensor_id[:64]!r} in {self.service}; see GET /sensors")
        return sensor

    def _enabled(self, sensor_id: str) -> SensorConfig:
        sensor = self._known(sensor_id)
        if not sensor.enabled:
            raise Disabled(f"{sensor_id} has enabled: false")
        return sensor

    def _age(self) -> None:
        while not self._closing.wait(AGEING_STEP_S):
            self.tracker.refresh()


def _at_its_pace(sensor: SensorConfig, specs: Mapping[str, PropertySpec]) -> SensorConfig:
    """With the interval of its most frequent property, if all are read less often than its line says."""
    shortest_s = min(
        (spec.interval_s or sensor.interval_s for spec in specs.values() if spec.readable), default=0.0
    )
    if shortest_s <= sensor.interval_s:
        return sensor
    is_default = sensor.stale_after_s == 3 * sensor.interval_s
    stale_after_s = 3 * shortest_s if is_default else sensor.stale_after_s
    return replace(sensor, interval_s=shortest_s, stale_after_s=stale_after_s)


def _on(transport: TransportConfig, sensors: Sequence[SensorConfig]) -> list[SensorConfig]:
    return [sensor for sensor in sensors if sensor.transport_id == transport.transport_id]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else wire.timestamp_text(moment)
