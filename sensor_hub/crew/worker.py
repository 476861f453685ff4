"""Keeps a host running: hands it requests, takes its news, starts it again when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass
from typing import Any

from sensor_hub import logs
from sensor_hub.clock import Clock
from sensor_hub.crew.hosts import Host
from sensor_hub.crew.messages import Answer, Beat, Request
from sensor_hub.crew.pending import Pending
from sensor_hub.errors import HubError, TransportDown
from sensor_hub.reconnecting import Backoff

log = logs.get(__name__)

FIRST_PAUSE_S = 1.0  # doubles up to 30 s, and is short again after a minute of work
AT_ONCE_S = 0.5
KILLED_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class WorkerStarts:
    """The worker begins to work; what was known of its job is over."""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker ended, and is started again at that time (monotonic)."""

    error: TransportDown
    retry_at: float


@dataclass(slots=True)
class _Generation:
    """One host and who waits for it. An answer of an earlier one finds nobody."""

    host: Host
    pending: Pending
    has_spoken: bool = False  # a process takes a while before it does


class Worker:
    """One thread of the owner, and the host that it runs (in itself or in a process)."""

    def __init__(
        self,
        name: str,
        new_host: Callable[[], Host],
        tell: Callable[[Any], None],
        clock: Clock,
    ) -> None:
        """`tell` gets all news, in order; answers go to who asked. Nothing runs before `start`."""
        self._name, self._new_host, self._tell, self._clock = name, new_host, tell, clock
        self._lock = threading.Lock()  # of `start` and `stop`
        self._stop = threading.Event()  # of the thread; each has its own
        self._thread: threading.Thread | None = None
        self._hung: list[threading.Thread] = []  # earlier ones that have not ended yet
        self._generation: _Generation | None = None
        self.restarts = 0
        self._late_before = 0  # late answers of earlier generations

    def start(self) -> None:
        """Begin, also after `stop`; what still hangs from before is waited for in the background."""
        with self._lock:
            if self._thread is not None and not self._stop.is_set():
                return  # it runs
            self._stop = stop = threading.Event()
            before = [
                thread for thread in [*self._hung, self._thread] if thread is not None and thread.is_alive()
            ]
            self._hung = before
            self._tell(WorkerStarts())
            self._thread = threading.Thread(
                target=self._keep, args=(stop, before), name=f"worker-{self._name}", daemon=True
            )
            self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Fail what waits, end thread and process. What hangs is not waited for."""
        with self._lock:
            self._stop.set()
            thread = self._thread
        generation = self._generation
        if generation is not None:
            generation.host.stop()
            generation.pending.close(TransportDown("service is stopping"))
        if thread is None:
            return
        thread.join(within_s)
        if thread.is_alive() and generation is not None:
            generation.host.kill()
            thread.join(KILLED_WITHIN_S)

    def ask(self, request: Callable[[str], Request], within_s: float) -> Any:
        """Send a request and wait for its answer.

        Raises the answer's error, TransportDown when the worker ended or is not there, InvalidCommand for what cannot
        be handed over, TimeoutError.
        """
        generation = self._generation
        if generation is None or self._stop.is_set():
            raise TransportDown("service is stopping" if self._stop.is_set() else "worker is not running")
        return generation.pending.ask(lambda request_id: generation.host.send(request(request_id)), within_s)

    def ask_at_once(self, request: Callable[[str, float], Request]) -> Any:
        """The answer to an `at_once` request, made of an id and a deadline; None when there is none soon."""
        generation = self._generation
        if generation is None:
            return None
        until = self._clock.monotonic() + AT_ONCE_S
        known = generation.host.answer(request("", until))
        if known is not None or not generation.has_spoken:
            return known
        try:
            return self.ask(lambda request_id: request(request_id, until), AT_ONCE_S)
        except (HubError, WaitTimeout):
            return None

    @property
    def pid(self) -> int | None:
        """The process that does the work; None while there is none."""
        generation = self._generation
        return None if generation is None else generation.host.pid

    @property
    def pending(self) -> int:
        """Requests under way."""
        generation = self._generation
        return 0 if generation is None else len(generation.pending)

    @property
    def late_answers(self) -> int:
        """Answers that came when nobody waited any more."""
        generation = self._generation
        return self._late_before + (0 if generation is None else generation.pending.late)

    def _keep(self, stop: threading.Event, before: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in before) and not stop.is_set():
            before[0].join(0.1)  # it still has what we need
            before = [thread for thread in before if thread.is_alive()]
        backoff = Backoff(FIRST_PAUSE_S, 0.0)
        while not stop.is_set():
            backoff.connected(self._clock.monotonic())
            why = self._run_once(stop)
            if stop.is_set():
                return
            backoff.failed(self._clock.monotonic())
            error = TransportDown(f"worker of {self._name} was lost: {why}")
            log.error("worker lost", worker=self._name, reason=why)
            self._tell(WorkerLost(error, backoff.retry_at))
            self.restarts += 1
            stop.wait(backoff.pause_s(self._clock.monotonic()))

    def _run_once(self, stop: threading.Event) -> str:
        pending = Pending()
        why = "it could not be started"
        try:
            generation = self._generation = _Generation(self._new_host(), pending)
            if stop.is_set():  # `stop` may have come too early to see it
                return why
            why = generation.host.run(self._take_for(generation))
        except Exception as error:
            # Top of the worker's thread: what it drives is told as lost, and begins anew.
            log.exception("worker failed unexpectedly", worker=self._name)
            why = f"internal error ({type(error).__name__}), see the log"
        finally:
            if self._generation is not None and self._generation.pending is pending:
                self._generation = None
            self._late_before += pending.late
            stopping = stop.is_set()
            pending.close(TransportDown("service is stopping" if stopping else f"its worker was lost: {why}"))
        return why

    def _take_for(self, generation: _Generation) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            generation.has_spoken = True
            if isinstance(message, Beat):
                return
            if isinstance(message, Answer):
                generation.pending.settle(message)
            else:
                self._tell(message)

        return take
