"""What the broker has not acknowledged yet, and for how long it has said nothing although it owes an answer."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import paho.mqtt.client as mqtt

ASK_AFTER_S = 8.0
STUCK_S, MAX_STUCK_S = 60.0, 3600.0
MANY = 1000  # of them those behind the oldest are looked through, too,
LOOKS_EVERY_S = 1.0  # and that is not cheap


@dataclass(slots=True)
class _Owed:
    info: mqtt.MQTTMessageInfo
    at: float  # when it was sent
    survives: bool  # its connection: it has QoS 1 or 2, and is sent again over the next


class Acknowledgements:
    """Thread-safe; times are monotonic seconds. Acknowledgements come in the order of the messages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed: deque[_Owed] = deque()
        self._heard_at = self._moved_at = self._looked_at = 0.0
        self._patience_s = STUCK_S
        self._asked_at: float | None = None

    def connected(self, at: float) -> None:
        """A new connection: what survived the earlier one is owed from now on, and the broker has just spoken."""
        with self._lock:
            self._forget_acknowledged(at)
            self._owed = deque(each for each in self._owed if each.survives and not _is_done(each.info))
            for each in self._owed:
                each.at = at
            self._heard_at = self._moved_at = at
            self._asked_at = None

    def sent(self, info: mqtt.MQTTMessageInfo, at: float, *, survives: bool = True) -> None:
        """A message is on its way."""
        with self._lock:
            self._owed.append(_Owed(info, at, survives))

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
            since = [self._owed[0].at] if self._owed else []
            if self._asked_at is not None:
                since.append(self._asked_at)
            return at - max(self._heard_at, min(since)) if since else 0.0

    def is_stuck(self, at: float) -> bool:
        """Whether the oldest message has waited for STUCK_S in which nothing was acknowledged, though others may be.

        As long as that goes on, true again after twice the time.
        """
        with self._lock:
            self._forget_acknowledged(at)
            stuck = bool(self._owed) and at - max(self._moved_at, self._owed[0].at) > self._patience_s
            if stuck:
                self._patience_s, self._moved_at = min(MAX_STUCK_S, 2 * self._patience_s), at
            return stuck

    def _forget_acknowledged(self, at: float) -> None:
        while self._owed and _is_done(self._owed[0].info):
            self._owed.popleft()
            self._heard_at = self._moved_at = at
            self._patience_s = STUCK_S
        if len(self._owed) > MANY and at - self._looked_at >= LOOKS_EVERY_S:
            # Behind one that is never acknowledged; those that are would be taken for a backlog.
            self._looked_at = at
            self._owed = deque(each for each in self._owed if not _is_done(each.info))


def _is_done(info: mqtt.MQTTMessageInfo) -> bool:
    try:
        return info.is_published()
    except (ValueError, RuntimeError):  # it was lost with its connection
        return True
