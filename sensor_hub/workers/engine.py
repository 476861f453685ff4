"""One line at work: connects it, does its jobs one transaction after another, tells what came of them.

While the line is down every job fails at once with TRANSPORT_DOWN; nobody waits for a port that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sensor_hub import logs
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, SensorConfig
from sensor_hub.crew.messages import Answer
from sensor_hub.drivers.base import Driver, Point
from sensor_hub.errors import (
    CircuitOpen,
    CommandTimeout,
    HubError,
    ReadFailed,
    ReadTimeout,
    TransportDown,
    defect,
)
from sensor_hub.line_report import LineReport
from sensor_hub.polling import Schedule, Slot
from sensor_hub.readings import Json
from sensor_hub.workers.connection import Connection
from sensor_hub.workers.jobs import Jobs, Turn
from sensor_hub.workers.ledger import Ledger
from sensor_hub.workers.messages import LineRequest, LineSetup, Message, Missed, SourceInfo, Taken
from sensor_hub.workers.sweeps import Sweep
from sensor_hub.workers.transactions import Transactions
from sensor_hub.workers.writing import Writer

log = logs.get(__name__)

LISTEN_SLICE_S = 0.05  # how long a command may wait for the ear of an idle line


class Engine:
    """One line. `submit` and `report` may be called by any thread; `turn` and `close` by the one that drives it."""

    def __init__(
        self, setup: LineSetup, driver: Driver, clock: Clock, emit: Callable[[Message], None]
    ) -> None:
        """Nothing is opened before the first `turn`. `emit` gets answers and news, in their order."""
        self.transport, self._driver, self._clock, self._emit = setup.transport, driver, clock, emit
        self._source = SourceInfo.of(setup.transport)
        self._unit_of = {sensor.sensor_id: driver.unit_id(sensor.sensor_id) for sensor in setup.sensors}
        # An HTTP endpoint shares its line with nobody, so it needs no breaker: its polls delay only itself.
        shared = setup.transport.handler is Handler.SERIAL
        self._ledger = Ledger(self._unit_of, clock, with_breakers=shared)
        self._points = {sensor.sensor_id: _slots(sensor, driver) for sensor in setup.sensors}
        self._schedule = Schedule(
            {
                slot: unit_id
                for sensor_id, unit_id in self._unit_of.items()
                if driver.is_polled(sensor_id)
                for slot in self._points[sensor_id]
            },
            clock.monotonic(),
        )
        self._known: dict[str, dict[str, Json]] = {sensor_id: {} for sensor_id in self._unit_of}
        self._jobs = Jobs({sensor_id for sensor_id in self._unit_of if not driver.is_polled(sensor_id)})
        self._background: Sweep | None = None
        self._in_hand: list[LineRequest] = []  # whoever waits for what is being done
        self._connection = Connection(setup.transport, driver, clock, emit)
        self._transactions = Transactions(driver, self._ledger, clock, self._connection.healthy)
        self._writer = Writer(driver, setup.transport.write_checks, self._transactions)

    def submit(self, request: LineRequest) -> None:
        """Queue a read or a command; its answer is emitted."""
        self._jobs.add(request)

    @property
    def has_requests(self) -> bool:
        """Whether somebody waits."""
        return len(self._jobs) > 0

    def report(self) -> LineReport:
        """What it counted so far."""
        return self._ledger.report()

    def turn(self, listen_s: float = LISTEN_SLICE_S) -> float | None:
        """Do at most one thing. Seconds until the next is due, None: when something is submitted."""
        try:
            if self._connection.is_up or self._open():
                return self._work(listen_s)
            wait_s = self._connection.wait_s()
            self._drop_jobs(self._connection.reason)  # whoever asks meanwhile learns at once that it is down
            return wait_s
        except Exception:
            # Top of a line's work: a defect in a driver must neither silence the line for ever nor end its worker.
            log.exception("line failed unexpectedly", transport=self.transport.transport_id)
            in_hand, self._in_hand, self._background = self._in_hand, [], None
            self._answer_all(in_hand, defect())
            self._lost(TransportDown("internal error, see the log"))
            return 0.0

    def close(self, error: HubError) -> None:
        """Close the line; whoever waits is told so."""
        self._drop_jobs(error)
        self._driver.close()

    # -- the line ------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        try:
            if not self._connection.open():
                return False
        except TransportDown as error:
            self._lost(error)
            return False
        self._ledger.new_line()
        self._writer.forget()
        self._schedule.all_soon(self._clock.monotonic())
        return True

    def _lost(self, error: TransportDown) -> None:
        """Tell it before the answers: who gets one and looks then sees a line that is down."""
        self._connection.lost(error)
        for sensor_id in self._unit_of:
            self._known[sensor_id].clear()
            self._tell_missed(sensor_id, error, asked=False)
        self._drop_jobs(error)

    # -- its jobs ------------------------------------------------------------------------------------------------

    def _work(self, listen_s: float) -> float | None:
        planned, now = self._schedule.next(), self._clock.monotonic()
        is_due = self._background is not None or (planned is not None and planned[1] <= now)
        match self._jobs.turn(is_due=is_due):
            case Turn.COMMAND:
                self._do_command(self._jobs.pop_command())
            case Turn.ASKED:
                self._do_asked(*self._jobs.pop_asked())
            case Turn.BACKGROUND:
                self._do_background(None if planned is None else planned[0], now)
            case None:
                idle_s = None if planned is None else planned[1] - now
                return self._listen(idle_s, listen_s) if self._driver.listens else idle_s
        self._in_hand = []
        return 0.0

    def _do_background(self, slot: Slot | None, now: float) -> None:
        """One transaction of the reading under way, or the first of the unit whose turn it is."""
        if self._background is None and slot is not None:
            self._background = self._begin(self._schedule.due_with(slot, now), now)
        if self._background is not None:
            self._in_hand = self._background.everybody()
            self._step(self._background)
        if self._background is not None and not self._background.blocks:
            self._background = None

    def _begin(self, slots: Sequence[Slot], now: float) -> Sweep | None:
        """The reading of these slots, which are of one unit; none while that is left alone."""
        unit_id = self._unit_of[slots[0].sensor_id]
        left_s = self._ledger.left_alone_s(unit_id)
        if left_s > 0:
            for slot in slots:
                self._schedule.done(slot, now, not_before=now + left_s)
                self._tell_missed(slot.sensor_id, self._ledger.silence_of(unit_id), asked=False)
            return None
        sweep = self._sweep(slots)
        for sensor_id in sweep.open_points:
            if set(self._points[sensor_id]) <= set(slots):  # all of it is read, as who asks wants it
                sweep.waiting[sensor_id] = self._jobs.pop_asked_for(sensor_id)
        return sweep

    def _sweep(self, slots: Sequence[Slot]) -> Sweep:
        points = [point for slot in slots for point in self._points[slot.sensor_id][slot]]
        return Sweep.of(self._driver, slots, points)

    def _do_asked(self, sensor_id: str, waiting: list[LineRequest]) -> None:
        """A read that somebody waits for; none if the unit is left alone."""
        if all(request.deadline <= self._clock.monotonic() for request in waiting):
            return  # nobody waits any more
        self._in_hand = waiting
        try:
            self._ledger.refuse_left_alone(self._unit_of[sensor_id])
        except CircuitOpen as error:
            self._answer_all(waiting, error)
            return
        sweep = self._sweep(list(self._points[sensor_id]))
        sweep.waiting[sensor_id] = waiting
        self._step(sweep)
        while sweep.blocks:
            self._step(sweep)

    def _step(self, sweep: Sweep) -> None:
        """The next transaction of a reading (its driver may leave out all that was asked for), and what it settles."""
        if sweep.blocks and not self._do_block(sweep):
            return
        for sensor_id in sweep.finished():
            self._settle(sensor_id, sweep)

    def _do_block(self, sweep: Sweep) -> bool:
        """False: it lost the line, and with it all that was to come."""
        block = sweep.blocks.popleft()
        began = self._clock.monotonic()
        try:
            values = self._transactions.exchange(block)
        except TransportDown as error:
            waiting = sweep.everybody()
            sweep.blocks.clear()
            sweep.waiting.clear()
            self._lost(error)
            self._answer_all(waiting, error)
            return False
        except HubError as error:
            sweep.fail(block, error, self._driver, self._clock.monotonic() - began)
            if self._ledger.left_alone_s(sweep.unit_id) > 0:
                sweep.abandon(error)  # it has just been found dead: do not ask it for the rest
        else:
            sweep.take(block, values, self._clock.monotonic() - began)
        return True

    def _settle(self, sensor_id: str, sweep: Sweep) -> None:
        """All of the sensor's points were read, or lost: tell it, and when they are read again."""
        now, known = self._clock.monotonic(), self._known[sensor_id]
        slots = [slot for slot in sweep.slots if slot.sensor_id == sensor_id]
        fresh, waiting = sweep.of_sensor(sensor_id), sweep.waiting.pop(sensor_id, [])
        is_whole = len(slots) == len(self._points[sensor_id])
        if is_whole:
            known.clear()
        for slot in slots:
            for point in self._points[sensor_id][slot]:
                known.pop(point.name, None)
        known.update(fresh)
        not_before = now + self._ledger.left_alone_s(sweep.unit_id)
        if self._driver.is_polled(sensor_id):
            for slot in slots:
                self._ledger.missed_turns += self._schedule.done(slot, now, not_before=not_before)
            if sensor_id in sweep.written:
                self._schedule.soon(sensor_id, now)
        error = sweep.failed.get(sensor_id)
        if error is None and not fresh:
            if not is_whole:
                return  # it left these out; others of its values are read in other turns
            error = ReadFailed("the device sent none of its values")
        if error is not None:
            again_at = now + min(slot.interval_s for slot in self._points[sensor_id])
            self._schedule.soon(sensor_id, max(not_before, again_at))
            self._tell_missed(sensor_id, error, asked=sensor_id in sweep.spent_s)
            self._answer_all(waiting, error)
            return
        self._tell_taken(sensor_id, sweep.spent_s.get(sensor_id, 0.0))
        for request in waiting:
            self._emit(Answer(request.id))

    def _tell_taken(self, sensor_id: str, spent_s: float) -> None:
        known, specs = self._known[sensor_id], self._driver.properties(sensor_id)
        data = {name: known[name] for name in [*specs, *known] if name in known}
        read_at, timestamp = self._clock.monotonic(), self._clock.now()
        name = self.transport.transport_id
        self._emit(Taken(name, self._source, sensor_id, data, timestamp, read_at, spent_s * 1000))

    def _tell_missed(self, sensor_id: str, error: HubError, *, asked: bool) -> None:
        self._emit(Missed(self.transport.transport_id, sensor_id, error.again(), asked))

    def _do_command(self, job: LineRequest) -> None:
        self._in_hand = [job]

        def may_send() -> None:
            if self._clock.monotonic() >= job.deadline:
                # Who waited was told COMMAND_TIMEOUT; sending it now would surprise everybody.
                raise CommandTimeout("the line was busy for too long; the command was not sent")

        try:
            may_send()
            self._ledger.refuse_left_alone(self._unit_of[job.sensor_id])
            written = self._writer.write(job.sensor_id, job.values, may_send)
        except HubError as error:
            if isinstance(error, TransportDown):
                self._lost(error)
            self._emit(Answer(job.id, error=error.again()))
            return
        if self._driver.is_polled(job.sensor_id):
            self._schedule.soon(job.sensor_id, self._clock.monotonic())  # show the new value at once
            if self._background is not None:
                self._background.written.add(job.sensor_id)
        self._emit(Answer(job.id, written))

    def _listen(self, idle_s: float | None, listen_s: float) -> float:
        """Nothing to do: hear what devices say unasked."""
        wait_s = LISTEN_SLICE_S if idle_s is None else min(LISTEN_SLICE_S, max(0.0, idle_s))
        try:
            heard = self._driver.listen(min(listen_s, wait_s))
        except TransportDown as error:
            self._lost(error)
            return 0.0
        for sensor_id, values in heard.items():
            self._connection.healthy()
            if values is None:
                self._schedule.soon(sensor_id, self._clock.monotonic())
                continue
            self._known[sensor_id].update(values)
            self._ledger.heard(self._unit_of[sensor_id])
            self._tell_taken(sensor_id, 0.0)
            for request in self._jobs.pop_hearing(sensor_id):
                self._emit(Answer(request.id))
        unheard = self._jobs.pop_unheard(self._clock.monotonic())
        self._answer_all(unheard, ReadTimeout("it speaks only unasked, and has said nothing"))
        return 0.0 if heard or listen_s > 0 else wait_s

    def _drop_jobs(self, error: HubError) -> None:
        """Whoever waits is told why it is in vain."""
        waiting = self._jobs.pop_all()
        if self._background is not None:
            waiting += self._background.everybody()
            self._background = None
        self._answer_all(waiting, error)

    def _answer_all(self, requests: Sequence[LineRequest], error: HubError) -> None:
        for request in requests:
            self._emit(Answer(request.id, error=error.again()))


def _slots(sensor: SensorConfig, driver: Driver) -> dict[Slot, list[Point]]:
    """The sensor's readable properties by interval; a device without any is read whole."""
    slots: dict[Slot, list[Point]] = {}
    for name, spec in driver.properties(sensor.sensor_id).items():
        if spec.readable:
            slot = Slot(sensor.sensor_id, spec.interval_s or sensor.interval_s)
            slots.setdefault(slot, []).append(Point(sensor.sensor_id, name))
    whole = Slot(sensor.sensor_id, sensor.interval_s)
    return slots or {whole: [Point(sensor.sensor_id, "")]}
