"""A line's life: one thread owns its driver, keeps it connected, and does its jobs one after another.

Commands go first, then reads that somebody waits for, then the background reads that are due; between two reads
for somebody there is a turn for the background, so that whoever asks without end starves nobody. While the line
is down every job fails at once with TRANSPORT_DOWN; nobody waits for a port that is not there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass, field
from typing import Any

from sensor_hub import line_report, logs
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, SensorConfig, TransportConfig
from sensor_hub.drivers.base import Driver
from sensor_hub.errors import CircuitOpen, CommandTimeout, HubError, ReadTimeout, TransportDown
from sensor_hub.line_report import LineState
from sensor_hub.polling import Breaker, Schedule, Unit
from sensor_hub.readings import Json, Snapshot, Status
from sensor_hub.reconnecting import Backoff
from sensor_hub.tracking import Tracker

log = logs.get(__name__)

READ_PATIENCE_S = 10.0  # how long a fresh read may wait for its turn on a busy line


@dataclass(slots=True)
class _Command:
    sensor_id: str
    values: Mapping[str, Json]
    deadline: float  # monotonic; after it nobody waits any more and it must not be sent
    answer: Future[Mapping[str, Json]] = field(default_factory=Future)


class Line:
    """One transport with its worker thread. All public methods are thread-safe."""

    def __init__(
        self,
        transport: TransportConfig,
        driver: Driver,
        sensors: Sequence[SensorConfig],
        tracker: Tracker,
        clock: Clock,
    ) -> None:
        """`sensors` are the enabled ones of this transport; nothing is opened before `start`."""
        self.transport, self.driver = transport, driver
        self._tracker, self._clock = tracker, clock
        self._sensors = [sensor.sensor_id for sensor in sensors]
        self._todo = threading.Condition()
        self._commands: deque[_Command] = deque()
        self._reads: dict[str, Future[Snapshot]] = {}
        self._background_next = False  # the last job was a read that somebody waited for
        self._under_way: Future[Any] | None = None  # of the job that the worker has taken
        self._schedule = Schedule(sensors, clock.monotonic())
        self._units: dict[int | str, Unit] = {}
        self._unit_of = {sensor_id: self._unit(sensor_id) for sensor_id in self._sensors}
        self._stopping = False
        self._state, self._since = LineState.CONNECTING, clock.now()
        self._last_error: str | None = None
        self._backoff = Backoff(transport.reconnect_backoff_s, transport.reconnect_timeout_s)
        self._thread = threading.Thread(target=self._run, name=f"line-{transport.transport_id}", daemon=True)

    def start(self) -> None:
        """Begin to connect and to read."""
        self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Fail what waits, close the line, end the thread. A device that hangs is not waited for."""
        with self._todo:
            self._stopping = True
            self._todo.notify_all()
        self._thread.join(within_s)

    def read(self, sensor_id: str) -> Snapshot:
        """Read the device now; callers that wait for the same device share one read.

        Raises CircuitOpen, TransportDown, ReadTimeout, ReadFailed, DeviceRefused.
        """
        self._refuse_open_circuit(sensor_id)
        with self._todo:
            self._refuse_when_stopping()
            waiting = self._reads.get(sensor_id)
            if waiting is None:
                waiting = self._reads[sensor_id] = Future()
                self._todo.notify_all()
        try:
            return waiting.result(READ_PATIENCE_S)
        except WaitTimeout:
            raise ReadTimeout(
                f"line {self.transport.transport_id} was busy for {READ_PATIENCE_S:g} s"
            ) from None

    def command(self, sensor_id: str, values: Mapping[str, Json], timeout_s: float) -> Mapping[str, Json]:
        """Write checked values; property -> what was written. Commands of one line run in order.

        Raises CommandTimeout after `timeout_s`; one that has not begun by then is never sent.
        """
        self._refuse_open_circuit(sensor_id)
        job = _Command(sensor_id, values, self._clock.monotonic() + timeout_s)
        with self._todo:
            self._refuse_when_stopping()
            self._commands.append(job)
            self._todo.notify_all()
        try:
            return job.answer.result(timeout_s)
        except WaitTimeout:
            raise CommandTimeout(f"no answer within {timeout_s:g} s") from None

    @property
    def state(self) -> LineState:
        """Up, connecting or down."""
        return self._state

    def describe(self) -> dict[str, Json]:
        """The line as `/transports` shows it."""
        is_up = self._state is LineState.UP
        retry_s = None if is_up else self._backoff.next_try_s(self._clock.monotonic())
        condition = line_report.Condition(self._state, self._since, self._last_error, retry_s)
        units = self._units.values()
        return line_report.describe(self.transport, condition, self.driver.counters, units, self._status_of)

    # -- the worker thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                if self._state is LineState.UP or self._connect():
                    self._work()
                else:
                    self._pause()
            except Exception:
                # Top of the thread: a defect in a driver must not silence the line for ever.
                log.exception("line failed unexpectedly", transport=self.transport.transport_id)
                if self._under_way is not None and not self._under_way.done():
                    self._under_way.set_exception(HubError("internal error, see the service's log"))
                self._lost(TransportDown("internal error, see the log"))
        self._fail_waiting(TransportDown("service is stopping"))
        self.driver.close()

    def _connect(self) -> bool:
        if not self._backoff.may_try(self._clock.monotonic()):
            return False
        try:
            self.driver.connect()
        except TransportDown as error:
            self._lost(error)
            return False
        if self._state is LineState.DOWN:
            log.info("line back", transport=self.transport.transport_id)
        self._set_state(LineState.UP)
        self._backoff.connected()
        self._last_error = None
        for unit in self._units.values():
            if unit.breaker is not None:
                unit.breaker.probe_at_once()
        self._schedule.all_soon(self._clock.monotonic())
        return True

    def _work(self) -> None:
        command, read, due = self._next()
        if command is not None:
            self._under_way = command.answer
            self._do_command(command)
        elif read is not None:
            self._do_asked(read)
        elif due is not None:
            self._do_due(due)

    def _next(self) -> tuple[_Command | None, str | None, str | None]:
        """The next job: a command, or a sensor that somebody waits for, or one whose turn it is."""
        with self._todo:
            while not self._stopping:
                if self._commands:
                    return self._commands.popleft(), None, None
                planned, now = self._schedule.next(), self._clock.monotonic()
                is_due = planned is not None and planned[1] <= now
                if self._reads and not (is_due and self._background_next):
                    self._background_next = True
                    return None, next(iter(self._reads)), None
                if planned is not None and is_due:
                    self._background_next = False
                    return None, None, planned[0]
                self._todo.wait(None if planned is None else planned[1] - now)
        return None, None, None

    def _reads_pop(self, sensor_id: str) -> Future[Snapshot] | None:
        with self._todo:
            return self._reads.pop(sensor_id, None)

    def _do_asked(self, sensor_id: str) -> None:
        """A read that somebody waits for; none if the circuit opened while it waited."""
        waiting = self._reads_pop(sensor_id)
        try:
            self._refuse_open_circuit(sensor_id)
        except CircuitOpen as error:
            if waiting is not None:
                waiting.set_exception(error)
            return
        self._do_read(sensor_id, waiting)

    def _do_due(self, sensor_id: str) -> None:
        """A background read; none while its unit, found silent by another sensor, is left alone."""
        unit, now = self._unit_of[sensor_id], self._clock.monotonic()
        left_s = unit.open_for(now)
        if left_s > 0:
            self._schedule.done(sensor_id, now, not_before=now + left_s)
            self._tracker.unreachable(sensor_id, ReadTimeout(unit.last_error or "unit does not answer"))
            return
        self._do_read(sensor_id, self._reads_pop(sensor_id))

    def _do_read(self, sensor_id: str, waiting: Future[Snapshot] | None) -> None:
        self._under_way, started = waiting, self._clock.monotonic()
        try:
            values = self.driver.read(sensor_id)
        except HubError as error:
            self._note_failure(sensor_id, error, started)
            if waiting is not None:
                waiting.set_exception(error)
            if isinstance(error, TransportDown):
                self._lost(error)
            return
        now = self._clock.monotonic()
        unit = self._unit_of[sensor_id]
        unit.reads, unit.round_trip_ms, unit.last_error = unit.reads + 1, (now - started) * 1000, None
        unit.answered()
        snapshot = self._tracker.succeeded(sensor_id, values, unit.round_trip_ms)
        self._schedule.done(sensor_id, now)
        if waiting is not None:
            waiting.set_result(snapshot)

    def _note_failure(self, sensor_id: str, error: HubError, started: float) -> None:
        now, unit = self._clock.monotonic(), self._unit_of[sensor_id]
        unit.reads, unit.errors, unit.last_error = unit.reads + 1, unit.errors + 1, str(error)
        unit.failed(error, now, now - started)
        self._schedule.done(sensor_id, now, not_before=now + unit.open_for(now))
        self._tracker.failed(sensor_id, error)

    def _do_command(self, job: _Command) -> None:
        if self._clock.monotonic() >= job.deadline:
            return  # the caller was told COMMAND_TIMEOUT; sending it now would surprise everybody
        unit, started = self._unit_of[job.sensor_id], self._clock.monotonic()
        try:
            self._refuse_open_circuit(job.sensor_id)  # it may have opened while the command waited
            written = self.driver.write(job.sensor_id, job.values)
        except HubError as error:
            now = self._clock.monotonic()
            unit.failed(error, now, now - started)
            job.answer.set_exception(error)
            if isinstance(error, TransportDown):
                self._lost(error)
            return
        unit.answered()
        self._schedule.soon(job.sensor_id, self._clock.monotonic())  # show the new value at once
        job.answer.set_result(written)

    def _lost(self, error: TransportDown) -> None:
        """The line is gone: tell everybody once, try again after a growing pause."""
        self.driver.close()
        if self._state is not LineState.DOWN:
            log.warning("line lost", transport=self.transport.transport_id, reason=str(error))
        self._last_error = str(error)
        self._set_state(LineState.DOWN)
        self._backoff.failed(self._clock.monotonic())
        self._give_up_when_time_is_over()
        self._fail_waiting(error)
        for sensor_id in self._sensors:
            self._tracker.unreachable(sensor_id, error)

    def _pause(self) -> None:
        """Wait for the next attempt; whoever asks meanwhile learns at once that the line is down."""
        with self._todo:
            if self._stopping:
                return
            if not self._commands and not self._reads:
                self._todo.wait(self._backoff.pause_s(self._clock.monotonic()))
        self._give_up_when_time_is_over()
        self._fail_waiting(TransportDown(self._last_error or "line is down"))

    def _give_up_when_time_is_over(self) -> None:
        if self._backoff.gives_up(self._clock.monotonic()):
            limit_s = self.transport.reconnect_timeout_s
            self._last_error = f"gave up after {limit_s:g} s (reconnect_timeout_sec): {self._last_error}"
            log.error("line given up", transport=self.transport.transport_id, reason=self._last_error)

    def _fail_waiting(self, error: HubError) -> None:
        with self._todo:
            commands, reads = list(self._commands), list(self._reads.values())
            self._commands.clear()
            self._reads.clear()
        waiting: list[Future[Mapping[str, Json]] | Future[Snapshot]] = [job.answer for job in commands]
        for future in [*waiting, *reads]:
            future.set_exception(error)

    # -- units and states --------------------------------------------------------------------------------------

    def _unit(self, sensor_id: str) -> Unit:
        # An HTTP endpoint shares its line with nobody, so it needs no breaker: its polls delay only itself.
        shared = self.transport.handler is Handler.SERIAL
        unit_id = self.driver.unit_id(sensor_id)
        unit = self._units.setdefault(unit_id, Unit(unit_id, Breaker() if shared else None))
        unit.sensors.append(sensor_id)
        return unit

    def _refuse_open_circuit(self, sensor_id: str) -> None:
        unit = self._unit_of[sensor_id]
        left_s = unit.open_for(self._clock.monotonic())
        if left_s > 0 and unit.breaker is not None and self._state is LineState.UP:
            raise CircuitOpen(
                f"unit {unit.unit_id} did not answer {unit.breaker.failures} times in a row; "
                f"next try in {left_s:.1f} s"
            )

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise TransportDown("service is stopping")

    def _set_state(self, state: LineState) -> None:
        if state is not self._state:
            self._state, self._since = state, self._clock.now()

    def _status_of(self, sensor_id: str) -> Status:
        return self._tracker.snapshot(sensor_id).status
