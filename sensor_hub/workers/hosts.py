"""Driving lines: one thread takes turns with each of its engines."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sensor_hub.clock import Clock
from sensor_hub.crew.hosts import Emit, Host
from sensor_hub.crew.messages import Beat, Request
from sensor_hub.errors import TransportDown
from sensor_hub.workers.engine import LISTEN_SLICE_S, Engine
from sensor_hub.workers.messages import LineRequest, LineSetup, Message

BEAT_S = 5.0
HUNG_AFTER_S = 30.0


class ThreadHost(Host):
    """Drives its lines in the thread that calls `run`, one turn after another."""

    def __init__(self, lines: Sequence[LineSetup], clock: Clock) -> None:
        self._clock = clock
        self._engines: dict[str, Engine] = {}
        self._todo = threading.Condition()
        self._stopping = False
        self._next_beat = 0.0
        self._emit: Emit | None = None
        for setup in lines:
            engine = Engine(setup, setup.new_driver(), clock, self._told)
            self._engines[setup.transport.transport_id] = engine

    @property
    def pid(self) -> int:
        """Our own."""
        return os.getpid()

    def _told(self, message: Message) -> None:
        if self._emit is not None:
            self._emit(message)

    def run(self, emit: Emit) -> str:
        """Until `stop`; raises nothing that an engine does not let through."""
        self._emit = emit
        engines = list(self._engines.values())
        listen_s = LISTEN_SLICE_S if len(engines) == 1 else 0.0
        try:
            while not self._stopping:
                self._beat()
                moments = [self._turn(engine, listen_s) for engine in engines]
                self._wait_until(min((each for each in moments if each is not None), default=None))
        finally:
            for engine in engines:
                engine.close(TransportDown("service is stopping"))
        return "it was told to stop"

    def _beat(self) -> None:
        """Say that it turns; a process that does not is taken for hung."""
        now = self._clock.monotonic()
        if now >= self._next_beat and self._emit is not None:
            self._next_beat = now + BEAT_S
            self._emit(Beat())

    def _turn(self, engine: Engine, listen_s: float) -> float | None:
        """When (monotonic) it wants the next one."""
        wait_s = None if self._stopping else engine.turn(listen_s)
        return None if wait_s is None else self._clock.monotonic() + wait_s

    def _wait_until(self, moment: float | None) -> None:
        now = self._clock.monotonic()
        seconds = min(self._next_beat if moment is None else moment, self._next_beat) - now
        if seconds <= 0:
            return
        with self._todo:
            if not self._stopping and not any(engine.has_requests for engine in self._engines.values()):
                self._todo.wait(seconds)

    def send(self, request: Request) -> None:
        """Queue it."""
        assert isinstance(request, LineRequest)
        with self._todo:
            if self._stopping:
                raise TransportDown("service is stopping")
            self._engines[request.transport_id].submit(request)
            self._todo.notify_all()

    def stop(self) -> None:
        """After the transaction under way."""
        with self._todo:
            self._stopping = True
            self._todo.notify_all()

    def kill(self) -> None:
        """It ends with its transaction."""

    def answer(self, request: Request) -> Any:
        """What a line counted."""
        assert isinstance(request, LineRequest)
        return self._engines[request.transport_id].report()


@dataclass(frozen=True, slots=True)
class LinesJob:
    """Lines for a process of their own."""

    lines: tuple[LineSetup, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(setup.transport.transport_id for setup in self.lines)

    @property
    def patience_s(self) -> float:
        """A transaction may take its timeout, and connecting a few of them."""
        return HUNG_AFTER_S + 5 * max(setup.transport.timeout_s for setup in self.lines)

    def host(self, clock: Clock) -> Host:
        """One thread for all of them."""
        return ThreadHost(self.lines, clock)
