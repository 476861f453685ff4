"""The aggregator: one board of all handlers' devices, a cache, commands routed by config."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

from sensor_hub import commands, logs, runtime, threads, wire
from sensor_hub.ages import Ages
from sensor_hub.board import Board
from sensor_hub.clients import HandlerClient
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, HubConfig, SensorConfig
from sensor_hub.errors import (
    Disabled,
    HandlerUnreachable,
    HubError,
    SensorUnavailable,
    UnknownDevice,
    Unreadable,
)
from sensor_hub.journal import Had, Journal, News
from sensor_hub.reading_cache import Cached, ReadingCache
from sensor_hub.readings import Fault, Json, Snapshot, Status, aged

log = logs.get(__name__)

PROGRAMS: Mapping[Handler, str] = {Handler.SERIAL: "serial-handler", Handler.HTTP: "http-poller"}
HEALTH_STEP_S = 2.0
_UNREACHABLE, _UNREADABLE = "unreachable", "unreadable"  # no answer; or answers, but its feed says nothing


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
        not_read_yet = [
            Snapshot(s.sensor_id, s.sensor_type, Status.UNKNOWN, fault=not_read)
            for s in config.sensors
            if s.enabled
        ]
        journal = Journal("device_id", config.journal_entries, config.journal_bytes)
        self.board = Board(not_read_yet, journal=journal)
        self._had = {handler: Had() for handler in PROGRAMS}  # of each handler's journal
        self._missed = dict.fromkeys(PROGRAMS, 0)
        self._interrupted = dict.fromkeys(PROGRAMS, 0)
        self._loss_told = logs.OncePerMinute()
        self._cache = ReadingCache(self._fetch, config.cache_ttl_s, clock)
        self._news = threading.Lock()  # of the three that must agree: board, ages, arrivals
        self._ages = Ages(clock)
        self._arrived: dict[str, float] = {}  # monotonic: when the feed brought each device's last reading
        self._health: dict[Handler, str] = dict.fromkeys(self._clients, _UNREACHABLE)
        self._unreadable: set[Handler] = set()
        self._memory = commands.Memory(clock)
        self._closing = threading.Event()

    def start(self) -> None:
        """Follow the handlers and watch their health."""
        for handler in self._clients:
            threads.start(f"follow-{handler}", partial(self._follow, handler), self._closing)
            threads.start(f"watch-{handler}", partial(self._watch, handler), self._closing)

    def close(self) -> None:
        """Wake followers; the threads end with the process."""
        self._closing.set()
        self.board.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def device(self, device_id: str) -> dict[str, Json]:
        """The device's reading, at most `cache_ttl` old. Raises UnknownDevice, Disabled, the handler's errors."""
        self._enabled(device_id)
        found = self._cache.get(device_id)
        return self._newest(device_id, found) if isinstance(found, Cached) else _fresh(found)

    def refresh(self, device_id: str) -> dict[str, Json]:
        """As `device`, never from the cache."""
        self._enabled(device_id)
        return _fresh(self._cache.refresh(device_id))

    def _fetch(self, device_id: str) -> dict[str, Json]:
        answer = self._clients[self._sensors[device_id].handler].sensor(device_id)
        return {"device_id": device_id, **{key: value for key, value in answer.items() if key != "sensor_id"}}

    def _newest(self, device_id: str, entry: Cached) -> dict[str, Json]:
        """The cached reading, or what the feed has said since: a newer one, or that this one is less good."""
        with self._news:
            snapshot, taken_at = self.board.get(device_id), self._ages.taken_at(device_id)
            arrived_at = self._arrived.get(device_id, 0.0)
        body, since = entry.body, entry.at
        if snapshot is not None and snapshot.reading is not None and taken_at is not None:
            is_same = wire.timestamp_text(snapshot.reading.timestamp) == body["timestamp"]
            if is_same or taken_at > entry.taken_at:
                body, since = wire.reading_body(snapshot, "device_id"), max(since, arrived_at)
        return {**body, "cached": True, "cache_age": round(self.clock.monotonic() - since, 3)}

    # -- commands -----------------------------------------------------------------------------------------------

    def command(self, device_id: str, payload: bytes) -> dict[str, Json]:
        """Route a command to the device's handler. Raises each check's error and the handler's."""
        command = commands.parse(payload)
        answer = self._memory.answer(device_id, command, lambda: self._execute(device_id, command))
        return {"id": command.id, "status": "success", **answer}

    def _execute(self, device_id: str, command: commands.Command) -> commands.Answer:
        sensor = self._enabled(device_id)
        commands.check_not_stale(command, self.clock.now())
        patience_s, timeout = command.left(0.0)
        body: dict[str, Json] = {"values": command.values, "timeout": timeout}
        if command.id is not None:
            body["id"] = command.id  # for the handler's log; it was not seen before here, so nor there
        answer = self._clients[sensor.handler].command(device_id, body, patience_s)
        return {key: value for key, value in answer.items() if key not in ("id", "status")}

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
        words = {handler: self._word(handler) for handler in self._health}
        answering = sum(word not in (_UNREACHABLE, _UNREADABLE) for word in words.values())
        status = "healthy" if answering == len(words) else "degraded" if answering else "unavailable"
        return {
            "service": "state-aggregator",
            "instance_id": self.config.instance_id,
            "status": status,
            "timestamp": wire.timestamp_text(self.clock.now()),
            "dependencies": {
                PROGRAMS[handler].replace("-", "_"): {"url": self._clients[handler].url, "status": word}
                for handler, word in words.items()
            },
            "cache": {"entries": len(self._cache), "ttl": wire.plain(self.config.cache_ttl_s)},
            "journal": {
                **self.board.journal_size(),
                "missed": sum(self._missed.values()),
                "interrupted": sum(self._interrupted.values()),
            },
            "queues": dict(runtime.read_queue_figures(self.config.instance_id)),
        }

    def _word(self, handler: Handler) -> str:
        word = self._health[handler]
        return _UNREADABLE if word != _UNREACHABLE and handler in self._unreadable else word

    def cache_stats(self) -> dict[str, Json]:
        """Hits, misses and every entry's age in seconds."""
        return {**self._cache.stats(), "timestamp": wire.timestamp_text(self.clock.now())}

    def clear_cache(self) -> int:
        """Forget every cached reading; how many there were."""
        return self._cache.clear()

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
        # The devices of one that is not are reported as failed; their counters come back with it.
        return self._of_all("telemetry")[0]

    def properties(self) -> tuple[dict[str, Json], bool]:
        """What every reachable handler tells of its devices' properties, and whether all of them did."""
        return self._of_all("properties")

    def _of_all(self, what: str) -> tuple[dict[str, Json], bool]:
        rows: dict[str, Json] = {}
        is_complete = True
        for client in self._clients.values():
            try:
                found = client.get(f"/{what}").get(what)
            except HubError:
                is_complete = False
                continue
            rows |= found if isinstance(found, dict) else {}
        return rows, is_complete

    # -- following the handlers ---------------------------------------------------------------------------------

    def _follow(self, handler: Handler) -> None:
        own = {s.sensor_id for s in self._sensors.values() if s.handler is handler and s.enabled}

        def take(news: News) -> None:
            if handler in self._unreadable:
                self._unreadable.discard(handler)
                log.info("feed is read again", handler=PROGRAMS[handler])
            self._count_loss(handler, news)
            # A handler with another configuration creates nothing here.
            self.board.record(entry for entry in news.entries if entry.snapshot.device_id in own)
            for snapshot in news.changes:
                if snapshot.device_id in own:
                    self._take(snapshot)

        def lost(error: HubError) -> None:
            if isinstance(error, Unreadable) and handler not in self._unreadable:
                self._unreadable.add(handler)
                log.error("feed cannot be read", handler=PROGRAMS[handler], reason=str(error))
            self._lost(own, error)

        self._clients[handler].follow_journal(take, lost, self._closing, self._had[handler])

    def _count_loss(self, handler: Handler, news: News) -> None:
        """Each handler is followed by one thread, which alone counts."""
        self._missed[handler] += news.missed
        self._interrupted[handler] += news.is_anew
        if news.missed and self._loss_told.passes(handler)[0]:
            log.error("readings lost", handler=PROGRAMS[handler], count=self._missed[handler])
        if news.is_anew:
            log.info("handler began anew; what it took last may be lost", handler=PROGRAMS[handler])

    def _take(self, snapshot: Snapshot) -> None:
        with self._news:
            self._put(snapshot)

    def _put(self, snapshot: Snapshot) -> None:
        """Needs the lock `_news`."""
        self._ages.note(snapshot)
        if snapshot.fault is None:
            self._arrived[snapshot.device_id] = self.clock.monotonic()
        if snapshot.status is Status.OFFLINE:
            self._cache.forget(snapshot.device_id)  # a cache must not be better informed than the board
        self.board.put(snapshot)

    def _lost(self, own: set[str], error: HubError, *, only_stale: bool = False) -> None:
        """The handler is gone: its devices' values age, and the reason is on the board."""
        fault = Fault(HandlerUnreachable.code, str(error), self.clock.now())
        for device_id in sorted(own):
            sensor = self._sensors[device_id]
            with self._news:  # what the feed brings meanwhile must not be replaced by what was there before
                before = self.board.get(device_id)
                if before is None or (only_stale and not self._is_stale(before, sensor)):
                    continue
                age_s = self._ages.age_s(before)
                self._put(aged(before, fault, age_s, sensor.interval_s, sensor.stale_after_s))

    def _watch(self, handler: Handler) -> None:
        client, program = self._clients[handler], PROGRAMS[handler]
        own = {s.sensor_id for s in self._sensors.values() if s.handler is handler and s.enabled}
        while True:
            try:
                word = str(client.health().get("status", "unknown"))
            except HubError as error:
                word = _UNREACHABLE
                if self._health[handler] != word:
                    log.warning("handler lost", handler=program, reason=str(error))
                self._lost(own, error, only_stale=True)  # a feed that hangs is noticed too late
            if self._health[handler] == _UNREACHABLE != word:
                log.info("handler answers", handler=program, status=word)
            self._health[handler] = word
            if self._closing.wait(HEALTH_STEP_S if word != _UNREACHABLE else 0.25):
                return

    def _is_stale(self, snapshot: Snapshot, sensor: SensorConfig) -> bool:
        """Whether good news of a device is older than it may be."""
        age_s = self._ages.age_s(snapshot)
        return snapshot.status is not Status.OFFLINE and age_s is not None and age_s > sensor.stale_after_s

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


def _fresh(body: dict[str, Json]) -> dict[str, Json]:
    return {**body, "cached": False, "cache_age": 0.0}
