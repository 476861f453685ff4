"""One transport as its handler uses it, wherever it is driven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as WaitTimeout
from datetime import datetime

from sensor_hub import line_report
from sensor_hub.clock import Clock
from sensor_hub.config.model import Parallelism, SensorConfig, TransportConfig
from sensor_hub.crew.worker import Worker, WorkerLost, WorkerStarts
from sensor_hub.errors import CommandTimeout, ReadTimeout, TransportDown
from sensor_hub.line_report import Condition, LineReport, LineState
from sensor_hub.readings import Json, Snapshot, Status
from sensor_hub.tracking import Tracker
from sensor_hub.workers.messages import LineNews, LineRequest, Missed, Taken
from sensor_hub.workers.writing import Written

READ_PATIENCE_S = 10.0  # how long a fresh read may wait for its turn on a busy line
GRACE_S = 0.5  # for its worker to say itself that it was too long


class Line:
    """Reads and commands for one transport; its news go to the tracker. Thread-safe."""

    def __init__(
        self,
        transport: TransportConfig,
        sensors: Sequence[SensorConfig],
        parallelism: Parallelism,
        tracker: Tracker,
        clock: Clock,
    ) -> None:
        """`sensors` are the enabled ones of this transport. See `assign`."""
        self.transport, self.parallelism = transport, parallelism
        self._worker: Worker | None = None
        self._sensors = [sensor.sensor_id for sensor in sensors]
        self._tracker, self._clock = tracker, clock
        self._news = self._nothing_yet()
        self._report = LineReport()

    def assign(self, worker: Worker, report: LineReport) -> None:
        """Who drives it, and what to show until that has something to report. Before anything is asked."""
        self._worker, self._report = worker, report

    def read(self, sensor_id: str) -> Snapshot:
        """Read the device now; callers that wait for the same device share one read.

        Raises CircuitOpen, TransportDown, ReadTimeout, ReadFailed, DeviceRefused.
        """
        until = self._clock.monotonic() + READ_PATIENCE_S
        try:
            self._at_work().ask(
                lambda each: LineRequest(each, until, False, self._id, "read", sensor_id),
                READ_PATIENCE_S + GRACE_S,
            )
        except WaitTimeout:
            raise ReadTimeout(f"line {self._id} was busy for {READ_PATIENCE_S:g} s") from None
        return self._tracker.snapshot(sensor_id)

    def command(self, sensor_id: str, values: Mapping[str, Json], timeout_s: float) -> Written:
        """Write checked values. Commands of one line run in order.

        Raises CommandTimeout after `timeout_s`; one that has not begun by then is never sent.
        """
        until = self._clock.monotonic() + timeout_s
        try:
            written = self._at_work().ask(
                lambda each: LineRequest(each, until, False, self._id, "command", sensor_id, values),
                timeout_s,
            )
        except WaitTimeout:
            raise CommandTimeout(f"no answer within {timeout_s:g} s; it may have been carried out") from None
        assert isinstance(written, Written)
        return written

    @property
    def state(self) -> LineState:
        """Up, connecting or down."""
        return self._news.state

    def take(self, news: Taken | Missed | LineNews | WorkerStarts | WorkerLost) -> None:
        """What its worker has to say of it."""
        match news:
            case Taken():
                self._tracker.succeeded(
                    news.sensor_id, news.data, news.round_trip_ms, (news.timestamp, news.read_at)
                )
            case Missed(asked=True):
                self._tracker.failed(news.sensor_id, news.error)
            case Missed():
                self._tracker.unreachable(news.sensor_id, news.error)
            case LineNews():
                self._news = news
            case WorkerStarts():
                self._news = self._nothing_yet()
            case WorkerLost():
                self._lost(news)

    def describe(self) -> dict[str, Json]:
        """The line as `/transports` shows it."""
        worker, news = self._at_work(), self._news
        self._ask_report(worker)
        retry_s = None if news.retry_at is None else news.retry_at - self._clock.monotonic()
        condition = Condition(news.state, news.since, news.last_error, retry_s)
        facts: dict[str, Json] = {
            "parallelism": str(self.parallelism),
            "worker_pid": worker.pid,
            "restarts": worker.restarts,
            "pending": worker.pending,
            "late_answers": worker.late_answers,
        }
        return line_report.describe(self.transport, condition, self._report, facts, self._status_of)

    def telemetry(self) -> dict[str, dict[str, Json]]:
        """Metrics of its units and of itself, by sensor."""
        self._ask_report(self._at_work())
        return line_report.telemetry(self._report, self._sensors)

    def _ask_report(self, worker: Worker) -> None:
        found = worker.ask_at_once(lambda each, until: LineRequest(each, until, True, self._id, "report"))
        if isinstance(found, LineReport):
            self._report = found

    @property
    def _id(self) -> str:
        return self.transport.transport_id

    def _at_work(self) -> Worker:
        if self._worker is None:
            raise TransportDown("worker is not running")
        return self._worker

    def _nothing_yet(self) -> LineNews:
        return LineNews(self._id, LineState.CONNECTING, self._clock.now(), None, None)

    def _lost(self, lost: WorkerLost) -> None:
        since: datetime = self._news.since if self.state is LineState.DOWN else self._clock.now()
        self._news = LineNews(self._id, LineState.DOWN, since, str(lost.error), lost.retry_at)
        for sensor_id in self._sensors:
            self._tracker.unreachable(sensor_id, lost.error)

    def _status_of(self, sensor_id: str) -> Status:
        return self._tracker.snapshot(sensor_id).status
