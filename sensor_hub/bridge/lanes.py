"""Work in order for each key, side by side for different keys: a slow device delays only itself."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from sensor_hub import logs
from sensor_hub.errors import Busy, HubError, defect

T = TypeVar("T")

log = logs.get(__name__)

MAX_WAITING = 200  # jobs of one lane


class Lanes:
    """A thread per key for as long as it has work. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[tuple[Callable[[], Any], Future[Any]]]] = {}

    def submit(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        """Run `work` after what was submitted for `key` before.

        A failure in the future is a HubError: Busy when too much waits, INTERNAL_ERROR for a defect.
        """
        future: Future[T] = Future()
        with self._lock:
            lane = self._waiting.get(key)
            if lane is not None and len(lane) >= MAX_WAITING:
                future.set_exception(Busy(f"{MAX_WAITING} requests are waiting already"))
                return future
            if lane is None:
                lane = self._waiting[key] = deque()
                threading.Thread(
                    target=self._drain, args=(key, lane), name=f"lane-{key}", daemon=True
                ).start()
            lane.append((work, future))
        return future

    def _drain(self, key: Hashable, lane: deque[tuple[Callable[[], Any], Future[Any]]]) -> None:
        while True:
            with self._lock:
                if not lane:
                    del self._waiting[key]
                    return
                work, future = lane.popleft()
            try:
                future.set_result(work())
            except HubError as error:
                future.set_exception(error)
            except Exception:
                # Top of the thread: the lane goes on, and the defect is told even if nobody waits for it.
                log.exception("request failed unexpectedly", lane=str(key))
                future.set_exception(defect())
