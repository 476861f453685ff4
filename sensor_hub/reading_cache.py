"""Answers about devices, each kept for a while and asked for once, however many want it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass, field
from datetime import datetime

from sensor_hub import wire
from sensor_hub.ages import taken_at
from sensor_hub.clock import Clock
from sensor_hub.errors import HandlerUnreachable, HubError, defect
from sensor_hub.readings import Json

FLIGHT_PATIENCE_S = 20.0

Fetch = Callable[[str], dict[str, Json]]


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer, when it came and when the device was read (both monotonic)."""

    body: dict[str, Json]
    at: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request that is under way; `leader` is the thread that makes it."""

    leader: int
    epoch: int
    answer: Future[dict[str, Json]] = field(default_factory=Future)


class ReadingCache:
    """Thread-safe. `fetch(device_id)` gives a reading's body; one of the threads that ask calls it, without a lock."""

    def __init__(self, fetch: Fetch, ttl_s: float, clock: Clock) -> None:
        """Keep answers for `ttl_s`; 0 keeps none."""
        self._fetch, self.ttl_s, self._clock = fetch, ttl_s, clock
        self._lock = threading.Lock()
        self._entries: dict[str, Cached] = {}
        self._flights: dict[str, _Flight] = {}
        self._hits = self._misses = 0
        self._epoch = 0  # a flight begun before `clear` must not fill the cache after it

    def __len__(self) -> int:
        """How many answers are kept, valid or not."""
        with self._lock:
            return len(self._entries)

    def get(self, device_id: str) -> Cached | dict[str, Json]:
        """What is kept and valid, else a new answer's body. Raises what `fetch` raises, HandlerUnreachable."""
        with self._lock:
            entry = self._entries.get(device_id)
            if entry is not None and self._valid(entry):
                self._hits += 1
                return entry
            self._misses += 1
            flight = self._join(device_id)
        return self._landed(device_id, flight)

    def refresh(self, device_id: str) -> dict[str, Json]:
        """A new answer's body. Raises as `get`."""
        with self._lock:
            flight = self._join(device_id)
        return self._landed(device_id, flight)

    def forget(self, device_id: str) -> None:
        """Keep nothing about a device."""
        with self._lock:
            self._entries.pop(device_id, None)

    def clear(self) -> int:
        """Forget everything; how many answers there were."""
        with self._lock:
            count = len(self._entries)
            self._entries.clear()
            self._epoch += 1
            return count

    def stats(self) -> dict[str, Json]:
        """Hits, misses and every entry's age in seconds."""
        now = self._clock.monotonic()
        with self._lock:
            entries: list[Json] = [
                {"device_id": device_id, "age": round(now - entry.at, 3), "valid": self._valid(entry)}
                for device_id, entry in self._entries.items()
            ]
            return {
                "cache_ttl": wire.plain(self.ttl_s),
                "total_entries": len(entries),
                "hits": self._hits,
                "misses": self._misses,
                "entries": entries,
            }

    def _valid(self, entry: Cached) -> bool:
        return self._clock.monotonic() - entry.at < self.ttl_s

    def _join(self, device_id: str) -> _Flight:
        """The request that is under way, or a new one for the caller to make.

        Needs the lock: whoever misses the cache finds the flight, so nobody asks a second time.
        """
        flight = self._flights.get(device_id)
        if flight is None:
            flight = self._flights[device_id] = _Flight(threading.get_ident(), self._epoch)
        return flight

    def _landed(self, device_id: str, flight: _Flight) -> dict[str, Json]:
        """The flight's answer; callers that come while it is under way share it."""
        if flight.leader == threading.get_ident():
            self._fly(device_id, flight)
        try:
            return flight.answer.result(FLIGHT_PATIENCE_S)
        except WaitTimeout:
            raise HandlerUnreachable(f"no answer about {device_id} within {FLIGHT_PATIENCE_S:g} s") from None

    def _fly(self, device_id: str, flight: _Flight) -> None:
        try:
            body = self._fetch(device_id)
            taken = taken_at(datetime.fromisoformat(str(body["timestamp"])), self._clock)
        except HubError as error:
            self._land(device_id, flight, None)
            flight.answer.set_exception(error)
            return
        except BaseException:
            self._land(device_id, flight, None)
            flight.answer.set_exception(defect())
            raise
        self._land(device_id, flight, Cached(body, self._clock.monotonic(), taken))
        flight.answer.set_result(body)

    def _land(self, device_id: str, flight: _Flight, entry: Cached | None) -> None:
        with self._lock:
            del self._flights[device_id]
            if entry is not None and flight.epoch == self._epoch:
                self._entries[device_id] = entry
