"""What the broker has not acknowledged yet, and for how long it has said nothing although it owes an answer."""

from __future__ import annotations

import threading
from collections import deque

import paho.mqtt.client as mqtt

ASK_AFTER_S = 8.0


class Acknowledgements:
    """Thread-safe; times are monotonic seconds. Acknowledgements come in the order of the messages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed: deque[tuple[mqtt.MQTTMessageInfo, float]] = deque()  # and when it was sent
        self._heard_at = 0.0
        self._asked_at: float | None = None

    def connected(self, at: float) -> None:
        """A new connection: nothing is owed, and the broker has just spoken."""
        with self._lock:
            self._owed.clear()
            self._heard_at, self._asked_at = at, None

    def sent(self, info: mqtt.MQTTMessageInfo, at: float) -> None:
        """A message is on its way."""
        with self._lock:
            self._owed.append((info, at))

    def asks(self, at: float) -> bool:
        """Whether it is time to ask for a sign of life: nothing was heard for ASK_AFTER_S. True once per answer."""
        with self._lock:
            self._forget_acknowledged(at)
            due = self._asked_at is None and at - self._heard_at > ASK_AFTER_S
            self._asked_at = at if due else self._asked_at
            return due

    def answered(self, at: float) -> None:
        """The broker gave a sign of life."""
        with self._lock:
            self._heard_at, self._asked_at = at, None

    def backlog(self, at: float) -> int:
        """How many messages wait."""
        with self._lock:
            self._forget_acknowledged(at)
            return len(self._owed)

    def silent_s(self, at: float) -> float:
        """Seconds for which the broker has owed an answer and given none; a slow one that answers is not silent."""
        with self._lock:
            self._forget_acknowledged(at)
            since = [self._owed[0][1]] if self._owed else []
            if self._asked_at is not None:
                since.append(self._asked_at)
            return at - max(self._heard_at, min(since)) if since else 0.0

    def _forget_acknowledged(self, at: float) -> None:
        while self._owed and _is_done(self._owed[0][0]):
            self._owed.popleft()
            self._heard_at = at


def _is_done(info: mqtt.MQTTMessageInfo) -> bool:
    try:
        return info.is_published()
    except (ValueError, RuntimeError):  # it was lost with its connection
        return True
