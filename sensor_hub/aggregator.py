"""The aggregator: one board of all handlers' devices, a TTL cache with single flight, commands routed by config."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass, field
from datetime import datetime

from sensor_hub import commands, logs, wire
from sensor_hub.board import Board
from sensor_hub.clients import HandlerClient
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, HubConfig, SensorConfig
from sensor_hub.errors import Disabled, HandlerUnreachable, HubError, SensorUnavailable, UnknownDevice
from sensor_hub.readings import Fault, Json, Snapshot, Status, aged

log = logs.get(__name__)

PROGRAMS: Mapping[Handler, str] = {Handler.SERIAL: "serial-handler", Handler.HTTP: "http-poller"}
HEALTH_STEP_S = 2.0
FLIGHT_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class _Cached:
    body: dict[str, Json]
    asked_at: float  # monotonic: when the handler gave this entry its life
    arrived_at: float  # monotonic: when the body itself came


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request to a handler that is under way; `leader` is the thread that makes it."""

    leader: int
    epoch: int
    answer: Future[dict[str, Json]] = field(default_factory=Future)


class Aggregator:
    """Thread-safe. Devices are known and routed by configuration alone."""

    def __init__(self, config: HubConfig, clock: Clock) -> None:
        """Reach for nothing before `start`."""
        self.config, self.clock = config, clock
        self._sensors = {sensor.sensor_id: sensor for sensor in config.sensors}
        self._clients = {
            handler: HandlerClient(config.services[program].url, config.instance_id)
            for handler, program in PROGRAMS.items()
        }
        now = clock.now()
        not_read = Fault(SensorUnavailable.code, "not read yet", now)
        self.board = Board(
            Snapshot(s.sensor_id, s.sensor_type, Status.UNKNOWN, fault=not_read)
            for s in config.sensors
            if s.enabled
        )
        self._lock = threading.Lock()
        self._arrived: dict[str, float] = {}  # monotonic: when the feed brought each device's last reading
        self._cache: dict[str, _Cached] = {}
        self._flights: dict[str, _Flight] = {}
        self._hits = self._misses = 0
        self._epoch = 0  # a flight begun before `clear` must not fill the cache after it
        self._health: dict[Handler, str] = dict.fromkeys(self._clients, "unreachable")
        self._memory = commands.Memory(clock)
        self._closing = threading.Event()

    def start(self) -> None:
        """Follow the handlers and watch their health."""
        for handler in self._clients:
            for work in (self._follow, self._watch):
                threading.Thread(
                    target=work, args=(handler,), name=f"{work.__name__}-{handler}", daemon=True
                ).start()

    def close(self) -> None:
        """Wake followers; the threads end with the process."""
        self._closing.set()
        self.board.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def device(self, device_id: str) -> dict[str, Json]:
        """The device's reading, at most `cache_ttl` old. Raises UnknownDevice, Disabled, the handler's errors."""
        self._enabled(device_id)
        with self._lock:
            entry = self._cache.get(device_id)
            if entry is not None and self._valid(entry):
                self._hits += 1
                return self._newest(device_id, entry)
            self._misses += 1
            flight = self._join(device_id)
        return self._landed(device_id, flight)

    def refresh(self, device_id: str) -> dict[str, Json]:
        """As `device`, never from the cache."""
        self._enabled(device_id)
        with self._lock:
            flight = self._join(device_id)
        return self._landed(device_id, flight)

    def _join(self, device_id: str) -> _Flight:
        """The request to the handler that is under way, or a new one for the caller to make.

        Needs the lock: whoever misses the cache finds the flight, so nobody asks a second time.
        """
        flight = self._flights.get(device_id)
        if flight is None:
            flight = self._flights[device_id] = _Flight(threading.get_ident(), self._epoch)
        return flight

    def _landed(self, device_id: str, flight: _Flight) -> dict[str, Json]:
        """The flight's answer; callers that come while the handler is being asked share it."""
        if flight.leader == threading.get_ident():
            self._fly(device_id, flight)
        try:
            body = flight.answer.result(FLIGHT_PATIENCE_S)
        except WaitTimeout:
            raise HandlerUnreachable(f"no answer about {device_id} within {FLIGHT_PATIENCE_S:g} s") from None
        return {**body, "cached": False, "cache_age": 0.0}

    def _fly(self, device_id: str, flight: _Flight) -> None:
        try:
            answer = self._clients[self._sensors[device_id].handler].sensor(device_id)
        except HubError as error:
            self._land(device_id, flight, None)
            flight.answer.set_exception(error)
            return
        except BaseException as error:
            self._land(device_id, flight, None)
            flight.answer.set_exception(HandlerUnreachable(f"internal error: {type(error).__name__}"))
            raise
        body = {"device_id": device_id, **{k: v for k, v in answer.items() if k != "sensor_id"}}
        self._land(device_id, flight, body)
        flight.answer.set_result(body)

    def _land(self, device_id: str, flight: _Flight, body: dict[str, Json] | None) -> None:
        now = self.clock.monotonic()
        with self._lock:
            del self._flights[device_id]
            if body is not None and flight.epoch == self._epoch:
                self._cache[device_id] = _Cached(body, now, now)

    def _valid(self, entry: _Cached) -> bool:
        return self.clock.monotonic() - entry.asked_at < self.config.cache_ttl_s

    def _newest(self, device_id: str, entry: _Cached) -> dict[str, Json]:
        """The cached reading, or what the feed has said since: a newer one, or that this one is less good."""
        snapshot, body, arrived_at = self.board.get(device_id), entry.body, entry.arrived_at
        cached_from = datetime.fromisoformat(str(body["timestamp"]))
        if (
            snapshot is not None
            and snapshot.reading is not None
            and snapshot.reading.timestamp >= cached_from
        ):
            body = wire.reading_body(snapshot, "device_id")
            arrived_at = max(arrived_at, self._arrived.get(device_id, 0.0))
        return {**body, "cached": True, "cache_age": round(self.clock.monotonic() - arrived_at, 3)}

    # -- commands -----------------------------------------------------------------------------------------------

    def command(self, device_id: str, payload: bytes) -> dict[str, Json]:
        """Route a command to the device's handler. Raises each check's error and the handler's."""
        command = commands.parse(payload)
        answer = self._memory.answer(device_id, command, lambda: self._execute(device_id, command))
        return {"id": command.id, "status": "success", **answer}

    def _execute(self, device_id: str, command: commands.Command) -> commands.Answer:
        sensor = self._enabled(device_id)
        commands.check_not_stale(command, self.clock.now())
        body: dict[str, Json] = {"values": command.values}
        if command.timeout is not None:
            body["timeout"] = command.timeout
        if command.id is not None:
            body["id"] = command.id  # for the handler's log; it was not seen before here, so nor there
        answer = self._clients[sensor.handler].command(device_id, body, commands.patience_s(command))
        return {"values": answer.get("values")}

    # -- what the service says of itself ------------------------------------------------------------------------

    def devices(self) -> list[Json]:
        """All configured devices, disabled ones too."""
        return [
            {
                "device_id": sensor.sensor_id,
                "type": sensor.sensor_type,
                "handler": str(sensor.handler),
                "status": str(self._status(sensor)),
                "friendly_name": sensor.friendly_name,
                "model": sensor.model,
                "enabled": sensor.enabled,
            }
            for sensor in self._sensors.values()
        ]

    def health(self) -> dict[str, Json]:
        """`status` counts who answers: healthy (all handlers), degraded (some), unavailable (none)."""
        answering = sum(word != "unreachable" for word in self._health.values())
        status = "healthy" if answering == len(self._health) else "degraded" if answering else "unavailable"
        with self._lock:
            entries = len(self._cache)
        return {
            "service": "state-aggregator",
            "instance_id": self.config.instance_id,
            "status": status,
            "timestamp": wire.timestamp_text(self.clock.now()),
            "dependencies": {
                PROGRAMS[handler].replace("-", "_"): {"url": self._clients[handler].url, "status": word}
                for handler, word in self._health.items()
            },
            "cache": {"entries": entries, "ttl": wire.plain(self.config.cache_ttl_s)},
        }

    def cache_stats(self) -> dict[str, Json]:
        """Hits, misses and every entry's age in seconds."""
        now = self.clock.monotonic()
        with self._lock:
            entries: list[Json] = [
                {"device_id": device_id, "age": round(now - entry.asked_at, 3), "valid": self._valid(entry)}
                for device_id, entry in self._cache.items()
            ]
            return {
                "cache_ttl": wire.plain(self.config.cache_ttl_s),
                "total_entries": len(entries),
                "hits": self._hits,
                "misses": self._misses,
                "entries": entries,
                "timestamp": wire.timestamp_text(self.clock.now()),
            }

    def clear_cache(self) -> int:
        """Forget every cached reading; how many there were."""
        with self._lock:
            count = len(self._cache)
            self._cache.clear()
            self._epoch += 1
            return count

    def errors(self) -> dict[str, Json]:
        """Every device whose last read failed, with the handler it belongs to."""
        return {
            snapshot.device_id: {
                "error": snapshot.fault.code,
                "message": snapshot.fault.message,
                "timestamp": wire.timestamp_text(snapshot.fault.timestamp),
                "handler": str(self._sensors[snapshot.device_id].handler),
            }
            for snapshot in self.board.all()
            if snapshot.fault is not None and snapshot.status is not Status.UNKNOWN
        }

    def telemetry(self) -> dict[str, Json]:
        """Every reachable handler's counters, merged."""
        rows: dict[str, Json] = {}
        for client in self._clients.values():
            try:
                found = client.get("/telemetry").get("telemetry")
            except HubError:
                continue  # its devices are reported as failed; their counters come back with it
            rows |= found if isinstance(found, dict) else {}
        return rows

    # -- following the handlers ---------------------------------------------------------------------------------

    def _follow(self, handler: Handler) -> None:
        own = {s.sensor_id for s in self._sensors.values() if s.handler is handler and s.enabled}

        def take(changes: list[Snapshot]) -> None:
            for snapshot in changes:
                if snapshot.device_id in own:  # a handler with another configuration creates nothing here
                    self._take(snapshot)

        self._clients[handler].follow(take, lambda error: self._lost(own, error), self._closing)

    def _take(self, snapshot: Snapshot) -> None:
        if snapshot.fault is None:
            self._arrived[snapshot.device_id] = self.clock.monotonic()
        if snapshot.status is Status.OFFLINE:
            with self._lock:
                self._cache.pop(
                    snapshot.device_id, None
                )  # a cache must not be better informed than the board
        self.board.put(snapshot)

    def _lost(self, own: set[str], error: HubError) -> None:
        """The handler is gone: its devices' values age, and the reason is on the board."""
        fault = Fault(HandlerUnreachable.code, str(error), self.clock.now())
        for device_id in sorted(own):
            before, sensor = self.board.get(device_id), self._sensors[device_id]
            if before is not None:
                self._take(aged(before, fault, fault.timestamp, sensor.interval_s, sensor.stale_after_s))

    def _watch(self, handler: Handler) -> None:
        client, program = self._clients[handler], PROGRAMS[handler]
        own = {s.sensor_id for s in self._sensors.values() if s.handler is handler and s.enabled}
        while True:
            try:
                word = str(client.health().get("status", "unknown"))
            except HubError as error:
                word = "unreachable"
                if self._health[handler] != word:
                    log.warning("handler lost", handler=program, reason=str(error))
                self._lost(set(filter(self._is_stale, own)), error)  # a feed that hangs is noticed too late
            if self._health[handler] == "unreachable" != word:
                log.info("handler answers", handler=program, status=word)
            self._health[handler] = word
            if self._closing.wait(HEALTH_STEP_S if word != "unreachable" else 0.25):
                return

    def _is_stale(self, device_id: str) -> bool:
        """Whether the board's good news of a device is older than it may be."""
        snapshot, stale_after_s = self.board.get(device_id), self._sensors[device_id].stale_after_s
        if snapshot is None or snapshot.reading is None or snapshot.status is Status.OFFLINE:
            return False
        return (self.clock.now() - snapshot.reading.timestamp).total_seconds() > stale_after_s

    def _status(self, sensor: SensorConfig) -> Status:
        snapshot = self.board.get(sensor.sensor_id)
        return snapshot.status if snapshot is not None else Status.DISABLED

    def _enabled(self, device_id: str) -> SensorConfig:
        sensor = self._sensors.get(device_id)
        if sensor is None:
            raise UnknownDevice(f"no device {device_id[:64]!r}; see GET /devices")
        if not sensor.enabled:
            raise Disabled(f"{device_id} has enabled: false")
        return sensor
