"""Who drives which line: one worker for all lines that share a thread, one for each of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sensor_hub.clock import Clock
from sensor_hub.config.model import Handler, Parallelism, TransportConfig
from sensor_hub.crew.hosts import Host, LogSetup, ProcessHost
from sensor_hub.crew.messages import Answer
from sensor_hub.crew.worker import Worker, WorkerLost, WorkerStarts
from sensor_hub.line_report import LineReport
from sensor_hub.workers.hosts import LinesJob, ThreadHost
from sensor_hub.workers.ledger import Ledger
from sensor_hub.workers.line import Line
from sensor_hub.workers.messages import LineSetup, Message


def parallelism_of(transport: TransportConfig, transports: Sequence[TransportConfig]) -> Parallelism:
    """What `auto` means for one of a handler's transports: alone in the service's process, several in one each.

    HTTP endpoints are many and idle: a thread each, whatever is configured.
    """
    if transport.handler is Handler.HTTP:
        return Parallelism.THREAD
    if transport.parallelism is not Parallelism.AUTO:
        return transport.parallelism
    return Parallelism.SINGLE if len(transports) == 1 else Parallelism.PROCESS


def hire(lines: Sequence[tuple[Line, LineSetup]], clock: Clock, log_setup: LogSetup) -> list[Worker]:
    """The workers for these lines, not started; each line gets its own."""
    shared = [each for each in lines if each[0].parallelism is Parallelism.SINGLE]
    alone = [[each] for each in lines if each[0].parallelism is not Parallelism.SINGLE]
    return [_worker(group, clock, log_setup) for group in [shared, *alone] if group]


def _worker(group: Sequence[tuple[Line, LineSetup]], clock: Clock, log_setup: LogSetup) -> Worker:
    lines = {line.transport.transport_id: line for line, _ in group}
    setups = [setup for _, setup in group]

    def new_host() -> Host:
        if group[0][0].parallelism is Parallelism.PROCESS:
            return ProcessHost(LinesJob(tuple(setups)), log_setup)
        return ThreadHost(setups, clock)

    worker = Worker(", ".join(lines), new_host, _teller(lines), clock)
    for line, setup in group:
        line.assign(worker, _blank_report(setup, clock))
    return worker


def _blank_report(setup: LineSetup, clock: Clock) -> LineReport:
    """What is known of a line before its worker says something: its units."""
    driver = setup.new_driver()
    units = {sensor.sensor_id: driver.unit_id(sensor.sensor_id) for sensor in setup.sensors}
    return Ledger(units, clock, with_breakers=False).report()


def _teller(lines: Mapping[str, Line]) -> Callable[[Message | WorkerStarts | WorkerLost], None]:
    def tell(news: Message | WorkerStarts | WorkerLost) -> None:
        if isinstance(news, WorkerStarts | WorkerLost):
            for line in lines.values():
                line.take(news)
        elif not isinstance(news, Answer):
            name = news.transport_id if hasattr(news, "transport_id") else news.source_transport
            lines[name].take(news)

    return tell
