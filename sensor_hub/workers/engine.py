"""One line at work: connects it, does its jobs one transaction after another, tells what came of them.

While the line is down every job fails at once with TRANSPORT_DOWN; nobody waits for a port that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sensor_hub import logs
from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler
from sensor_hub.crew.messages import Answer
from sensor_hub.drivers.base import Driver
from sensor_hub.errors import (
    CommandTimeout,
    HubError,
    ReadFailed,
    ReadTimeout,
    SensorUnavailable,
    TransportDown,
    defect,
)
from sensor_hub.line_report import LineReport
from sensor_hub.polling import Schedule, Slot
from sensor_hub.workers.connection import Connection
from sensor_hub.workers.jobs import Jobs, Turn
from sensor_hub.workers.knowledge import Knowledge
from sensor_hub.workers.ledger import Ledger
from sensor_hub.workers.messages import LineRequest, LineSetup, Message
from sensor_hub.workers.sweeps import Sweep, slots_of
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
        self._unit_of = {sensor.sensor_id: driver.unit_id(sensor.sensor_id) for sensor in setup.sensors}
        # An HTTP endpoint shares its line with nobody, so it needs no breaker: its polls delay only itself.
        shared = setup.transport.handler is Handler.SERIAL
        self._ledger = Ledger(self._unit_of, clock, with_breakers=shared)
        self._points = {sensor.sensor_id: slots_of(sensor, driver) for sensor in setup.sensors}
        self._schedule = Schedule(
            {
                slot: unit_id
                for sensor_id, unit_id in self._unit_of.items()
                if driver.is_polled(sensor_id)
                for slot in self._points[sensor_id]
            },
            clock.monotonic(),
        )
        self._knowledge = Knowledge(setup, driver, clock, emit)
        silent = {sensor_id for sensor_id in self._unit_of if not driver.is_polled(sensor_id)}
        self._jobs = Jobs(silent if driver.listens else frozenset())
        self._mute = frozenset() if driver.listens else frozenset(silent)
        self._unread: dict[str, set[Slot]] = {}  # what was not read since the line was opened
        self._held: set[str] = set()  # sensors with a first reading that is not whole yet
        self._sweeps: list[Sweep] = []  # background reads under way
        self._questions: list[Sweep] = []  # reads that somebody waits for, under way
        self._command: LineRequest | None = None  # under way
        self._connection = Connection(setup.transport, driver, clock, emit)
        self._transactions = Transactions(driver, self._ledger, clock, self._connection.healthy)
        self._writer = Writer(driver, setup.transport.write_checks, self._transactions, self._knowledge.of)

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
            self._answer_all(self._take_under_way(), defect())
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
        self._held.clear()
        self._unread = {sensor_id: set(slots) for sensor_id, slots in self._points.items()}
        return True

    def _lost(self, error: TransportDown) -> None:
        """Tell it before the answers: who gets one and looks then sees a line that is down."""
        self._connection.lost(error)
        self._knowledge.forget()
        for sensor_id in self._unit_of:
            self._knowledge.tell_missed(sensor_id, error, asked=False)
        self._drop_jobs(error)

    # -- its jobs ------------------------------------------------------------------------------------------------

    def _work(self, listen_s: float) -> float | None:
        now = self._clock.monotonic()
        unheard = self._jobs.pop_unheard(now)
        self._answer_all(unheard, ReadTimeout("it speaks only unasked, and has said nothing"))
        slot = self._schedule.most_urgent(now)
        is_due = bool(self._sweeps) or slot is not None
        match self._jobs.turn(is_due=is_due, is_asked=bool(self._questions)):
            case Turn.COMMAND:
                self._do_command(self._jobs.pop_command())
            case Turn.ASKED:
                self._do_asked()
            case Turn.BACKGROUND:
                self._do_background(slot, now)
            case None:
                next_at = self._schedule.next_at()
                idle_s = None if next_at is None else next_at - now
                return self._listen(idle_s, listen_s) if self._driver.listens else idle_s
        return 0.0

    def _do_background(self, slot: Slot | None, now: float) -> None:
        """The next transaction of the most urgent reading, which may be one that is only to begin."""
        sweep = min(self._sweeps, key=lambda each: each.deadline, default=None)
        if slot is not None and (sweep is None or self._schedule.deadline(slot) < sweep.deadline):
            sweep = self._begin(slot, now)
            if sweep is None:
                return
            self._sweeps.append(sweep)
        assert sweep is not None
        self._step(sweep)
        sweep.had_a_turn(self._clock.monotonic())
        if not sweep.blocks and sweep in self._sweeps:
            self._sweeps.remove(sweep)

    def _begin(self, slot: Slot, now: float) -> Sweep | None:
        """The reading of a slot, and of what else is due on its unit; none while that is left alone."""
        unit_id, deadline = self._unit_of[slot.sensor_id], self._schedule.deadline(slot)
        slots = self._schedule.begin_with(slot, now)
        left_s = self._ledger.left_alone_s(unit_id)
        if left_s > 0:
            for each in slots:
                self._schedule.postpone(each, now + left_s)
                self._knowledge.tell_missed(each.sensor_id, self._ledger.silence_of(unit_id), asked=False)
            return None
        sweep = self._sweep(slots, deadline)
        for sensor_id in sweep.open_points:
            if set(self._points[sensor_id]) <= set(slots):  # all of it is read, as who asks wants it
                sweep.waiting[sensor_id] = self._jobs.pop_asked_for(sensor_id)
        return sweep

    def _sweep(self, slots: Sequence[Slot], deadline: float = 0.0) -> Sweep:
        points = [point for slot in slots for point in self._points[slot.sensor_id][slot]]
        return Sweep.of(self._driver, slots, points, deadline)

    def _do_asked(self) -> None:
        """The next transaction of a read that somebody waits for."""
        if not self._questions:
            sensor_id, waiting = self._jobs.pop_asked()
            if all(request.deadline <= self._clock.monotonic() for request in waiting):
                return  # nobody waits any more
            try:
                if sensor_id in self._mute:
                    raise SensorUnavailable(f"{sensor_id} has nothing that can be read")
                self._ledger.refuse_left_alone(self._unit_of[sensor_id])
            except HubError as error:
                self._answer_all(waiting, error)
                return
            sweep = self._sweep(list(self._points[sensor_id]))
            sweep.waiting[sensor_id] = waiting
            self._questions.append(sweep)
        sweep = self._questions[0]
        self._step(sweep)
        if not sweep.blocks and sweep in self._questions:
            self._questions.remove(sweep)

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
            self._lost(error)
            return False
        except HubError as error:
            sweep.fail(block, error, self._driver, self._clock.monotonic() - began)
            if self._ledger.left_alone_s(sweep.unit_id) > 0:
                sweep.abandon(error)  # it has just been found dead: do not ask it for the rest
        else:
            sweep.take(block, values, self._clock.monotonic() - began)
            self._schedule.resume(sweep.unit_id, self._clock.monotonic())
        return True

    def _settle(self, sensor_id: str, sweep: Sweep) -> None:
        """All of the sensor's points were read, or lost: tell it, and when they are read again."""
        now = self._clock.monotonic()
        slots = [slot for slot in sweep.slots if slot.sensor_id == sensor_id]
        fresh, waiting = sweep.of_sensor(sensor_id), sweep.waiting.pop(sensor_id, [])
        is_whole = len(slots) == len(self._points[sensor_id])
        self._unread[sensor_id].difference_update(slots)
        names = [point.name for slot in slots for point in self._points[sensor_id][slot]]
        self._knowledge.read(sensor_id, None if is_whole else names, fresh)
        not_before = now + self._ledger.left_alone_s(sweep.unit_id)
        if self._driver.is_polled(sensor_id):
            for slot in slots:
                self._ledger.missed_turns += self._schedule.done(slot, now, not_before=not_before)
        error = sweep.failed.get(sensor_id)
        if error is None and not fresh:
            if not is_whole:  # it left these out; others of its values are read in other turns
                if sensor_id in self._held and not self._unread[sensor_id]:
                    self._tell(sensor_id, sweep)
                return
            error = ReadFailed("the device sent none of its values")
        if error is not None:
            shortest_s = min(slot.interval_s for slot in self._points[sensor_id])
            again_at = now + min(shortest_s, self.transport.read_interval_s)
            self._schedule.soon(sensor_id, max(not_before, again_at))
            self._knowledge.tell_missed(sensor_id, error, asked=sensor_id in sweep.spent_s)
            self._answer_all(waiting, error)
            return
        if not is_whole and self._unread[sensor_id]:
            self._held.add(sensor_id)  # the first reading is a whole one: the rest of it is due just now
            return
        self._tell(sensor_id, sweep)
        for request in waiting:
            self._emit(Answer(request.id))

    def _tell(self, sensor_id: str, sweep: Sweep) -> None:
        self._held.discard(sensor_id)
        self._knowledge.tell(sensor_id, sweep.spent_s.get(sensor_id, 0.0))

    def _do_command(self, job: LineRequest) -> None:
        self._command = job
        begun = False

        def may_send() -> None:
            nonlocal begun
            needs_s = self._ledger.round_trip_s(self._unit_of[job.sensor_id])
            if self._clock.monotonic() + needs_s >= job.deadline:
                # Who waited was told COMMAND_TIMEOUT; sending it now would surprise everybody.
                raise CommandTimeout("the line was busy for too long; the command was not sent")
            begun = True

        try:
            may_send()
            begun = False
            self._ledger.refuse_left_alone(self._unit_of[job.sensor_id])
            written = self._writer.write(job.sensor_id, job.values, may_send)
        except TransportDown as error:
            self._lost(error)  # answers it too
            return
        except HubError as error:
            answer = Answer(job.id, error=error.again())
        else:
            answer = Answer(job.id, written)
        if begun and self._driver.is_polled(job.sensor_id):
            self._schedule.soon(job.sensor_id, self._clock.monotonic())  # show at once what it holds now
        self._emit(answer)
        self._command = None
        if self._writer.lost is not None:  # the value was sent; the line broke when it was to be read back
            self._lost(self._writer.lost)

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
            if isinstance(values, HubError):
                self._ledger.misheard(self._unit_of[sensor_id], values)
                self._knowledge.tell_missed(sensor_id, values, asked=True)
                self._answer_all(self._jobs.pop_hearing(sensor_id), values)
                continue
            if values is None:
                self._schedule.soon(sensor_id, self._clock.monotonic())
                continue
            self._knowledge.heard(sensor_id, values)
            self._ledger.heard(self._unit_of[sensor_id])
            self._knowledge.tell(sensor_id, 0.0)
            for request in self._jobs.pop_hearing(sensor_id):
                self._emit(Answer(request.id))
        return 0.0 if heard or listen_s > 0 else wait_s

    def _drop_jobs(self, error: HubError) -> None:
        """Whoever waits is told why it is in vain."""
        self._answer_all([*self._take_under_way(), *self._jobs.pop_all()], error)

    def _take_under_way(self) -> list[LineRequest]:
        """Whoever waits for what was begun, which is given up."""
        waiting = [request for sweep in [*self._sweeps, *self._questions] for request in sweep.everybody()]
        if self._command is not None:
            waiting.append(self._command)
        self._command = None
        self._sweeps.clear()
        self._questions.clear()
        return waiting

    def _answer_all(self, requests: Sequence[LineRequest], error: HubError) -> None:
        for request in requests:
            self._emit(Answer(request.id, error=error.again()))
