"""Requests under way: each gets its own answer, exactly once, whoever else asks at the same time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from typing import Any

from sensor_hub.crew.messages import Answer
from sensor_hub.errors import HubError, TransportDown


class Pending:
    """The requests of one worker, by id. Thread-safe. It dies with its worker: a new one gets a new table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Any]] = {}
        self._closed: HubError | None = None
        self.late = 0  # answers that came when nobody waited any more

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, send: Callable[[str], None], within_s: float) -> Any:
        """Send a request under a new id and wait for its answer.

        Raises the answer's error, the worker's end (TransportDown), TimeoutError after `within_s`, what `send` raises.
        """
        request_id, future = uuid.uuid4().hex, Future[Any]()
        with self._lock:
            if self._closed is not None:
                raise self._closed.again()
            self._waiting[request_id] = future  # before it is sent: the answer may be faster than we are
        try:
            send(request_id)
            return future.result(within_s)
        except WaitTimeout:
            with self._lock:
                taken = self._waiting.pop(request_id, None) is None
            if taken:  # at the very last moment: it is set just now, or was
                return future.result()
            raise
        finally:
            with self._lock:
                self._waiting.pop(request_id, None)

    def settle(self, answer: Answer) -> None:
        """Give an answer to who waits for it; drop and count it when nobody does."""
        with self._lock:
            future = self._waiting.pop(answer.id, None)
            if future is None:
                self.late += 1
                return
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.result)

    def close(self, error: TransportDown) -> None:
        """The worker ended: everybody who waits learns it at once, and so does who comes later."""
        with self._lock:
            self._closed = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for future in waiting:
            future.set_exception(error.again())
