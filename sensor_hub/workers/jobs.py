"""What waits for its turn on a line: commands, reads that somebody waits for, and background reads that are due."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Set
from enum import Enum, auto

from sensor_hub.workers.messages import LineRequest

COMMANDS_IN_A_ROW = 4


class Turn(Enum):
    """Whose turn it is."""

    COMMAND = auto()
    ASKED = auto()
    BACKGROUND = auto()


class Jobs:
    """Requests in the order of their turns. `add` may be called by any thread, the rest by the worker's.

    Commands go first; after a few of them in a row there is a turn for a read. Reads that somebody waits for and
    background reads alternate. So whoever asks without end starves nobody. Reads of what only speaks unasked have no
    turn: they wait for it to speak.
    """

    def __init__(self, unpolled: Set[str] = frozenset()) -> None:
        """`unpolled`: sensors that only speak unasked."""
        self._unpolled, self._hearing = unpolled, dict[str, list[LineRequest]]()
        self._lock = threading.Lock()
        self._commands: deque[LineRequest] = deque()
        self._asked: dict[str, list[LineRequest]] = {}  # by sensor: they share one read
        self._in_a_row = 0
        self._background_next = False

    def __len__(self) -> int:
        return len(self._commands) + len(self._asked)

    def add(self, request: LineRequest) -> None:
        """Queue it."""
        with self._lock:
            if request.kind == "command":
                self._commands.append(request)
            else:
                asked = self._hearing if request.sensor_id in self._unpolled else self._asked
                asked.setdefault(request.sensor_id, []).append(request)

    def turn(self, *, is_due: bool, is_asked: bool = False) -> Turn | None:
        """Who is next; `is_due`: a background read is, `is_asked`: an asked one is under way. None: nobody."""
        with self._lock:
            asked = bool(self._asked) or is_asked
            reads = asked or is_due
            if self._commands and not (reads and self._in_a_row >= COMMANDS_IN_A_ROW):
                self._in_a_row += 1
                return Turn.COMMAND
            self._in_a_row = 0
            if not reads:
                return None
            if asked and not (is_due and self._background_next):
                self._background_next = True
                return Turn.ASKED
            self._background_next = False
            return Turn.BACKGROUND

    def pop_command(self) -> LineRequest:
        """The oldest command."""
        with self._lock:
            return self._commands.popleft()

    def pop_asked(self) -> tuple[str, list[LineRequest]]:
        """The sensor that was asked for first, and all who wait for it."""
        with self._lock:
            sensor_id = next(iter(self._asked))
            return sensor_id, self._asked.pop(sensor_id)

    def pop_asked_for(self, sensor_id: str) -> list[LineRequest]:
        """All who wait for this sensor to be read."""
        with self._lock:
            return self._asked.pop(sensor_id, [])

    def pop_hearing(self, sensor_id: str) -> list[LineRequest]:
        """All who wait for this sensor to say something."""
        with self._lock:
            return self._hearing.pop(sensor_id, [])

    def pop_unheard(self, now: float) -> list[LineRequest]:
        """All who have waited long enough for something to be said unasked."""
        with self._lock:
            late = [request for each in self._hearing.values() for request in each if request.deadline <= now]
            for request in late:
                self._hearing[request.sensor_id].remove(request)
            return late

    def pop_all(self) -> list[LineRequest]:
        """Everything that waits, which is given up."""
        with self._lock:
            reads = [*self._asked.values(), *self._hearing.values()]
            waiting = [*self._commands, *(request for each in reads for request in each)]
            self._commands.clear()
            self._asked.clear()
            self._hearing.clear()
            return waiting
