"""A line with a driver that does what the test says, at a time that the test moves.

Time stands still unless moved; asking the line for a read makes its worker look at the clock again.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sensor_hub.config.model import Handler, Parallelism, SensorConfig, TransportConfig
from sensor_hub.crew.messages import Answer
from sensor_hub.crew.worker import Worker
from sensor_hub.drivers.base import Block, Driver, Point, PropertySpec, Settings
from sensor_hub.errors import DeviceRefused, HubError, ReadTimeout, TransportDown
from sensor_hub.readings import Json, Status
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire
from sensor_hub.workers.engine import Engine
from sensor_hub.workers.messages import LineRequest, Message, Missed, Taken
from tests.support import eventually
from tests.unit.manual_clock import ManualClock

SILENCE_S = 0.5
SPECS: Mapping[str, PropertySpec] = {
    "value": PropertySpec("number"),
    "x": PropertySpec("number", writable=True, readable=False),
}


class Scripted(Driver):
    """Keeps what it was asked; `fails` says which error a sensor's read or the line's opening ends in.

    `specs` are those of every sensor. Its devices hold `holds`; without that a read gives a new number each time.
    """

    name = "scripted"
    transport_settings = sensor_settings = Settings

    def __init__(self, transport: TransportConfig, units: Mapping[str, int], time: ManualClock) -> None:
        super().__init__(transport, [])
        self._units, self._time = units, time
        self.specs = SPECS
        self.holds: dict[str, Json] | None = None
        self.done: list[tuple[str, str]] = []
        self.written: list[Mapping[str, Json]] = []
        self.fails: dict[str, HubError] = {}
        self.down: TransportDown | None = None
        self.connects = 0
        self.gate = threading.Event()
        self.gate.set()

    def unit_id(self, sensor_id: str) -> int:
        return self._units[sensor_id]

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        return self.specs

    def connect(self) -> None:
        self.connects += 1
        if self.down is not None:
            raise self.down

    def close(self) -> None:
        """Nothing to close."""

    def read(self, sensor_id: str) -> Mapping[str, Json]:
        self.done.append(("read", sensor_id))
        self._pass(sensor_id)
        return {"value": len(self.done)} if self.holds is None else dict(self.holds)

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        self.done.append(("write", sensor_id))
        self._pass(sensor_id)
        self.written.append(values)
        return values

    def _pass(self, sensor_id: str) -> None:
        assert self.gate.wait(30)
        error = self.fails.get(sensor_id)
        if error is not None:
            if isinstance(error, ReadTimeout):
                self._time.advance(SILENCE_S)
            raise error

    def count(self, kind: str, sensor_id: str) -> int:
        return self.done.count((kind, sensor_id))


class ByPoints(Scripted):
    """Reads points, at most `at_once` of them in a transaction; refuses those in `refuses`, and learns from that.

    `vanished`: points without a value.
    """

    def __init__(self, transport: TransportConfig, units: Mapping[str, int], time: ManualClock) -> None:
        super().__init__(transport, units, time)
        self.holds = {}
        self.at_once = 100
        self.refuses: set[str] = set()
        self.known_refused: set[str] = set()
        self.vanished: set[str] = set()
        self.blocks: list[tuple[str, ...]] = []

    def plan(self, points: Sequence[Point]) -> Sequence[Block]:
        return self.plan_all([point for point in points if point.name not in self.known_refused])

    def plan_all(self, points: Sequence[Point]) -> Sequence[Block]:
        return [
            Block(self.unit_id(points[0].sensor_id), tuple(points[at : at + self.at_once]))
            for at in range(0, len(points), self.at_once)
        ]

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        names = tuple(point.name for point in block.points)
        self.blocks.append(names)
        self._pass(block.points[0].sensor_id)
        if self.refuses & set(names):
            if len(names) == 1:
                self.known_refused.add(names[0])
            self.at_once = max(1, len(names) // 2)
            raise DeviceRefused("exception 2")
        assert self.holds is not None
        return {point: self.holds[point.name] for point in block.points if point.name not in self.vanished}


class Bench:
    """A line with sensors, `units` by sensor id; not started."""

    def __init__(
        self,
        units: Mapping[str, int],
        handler: Handler = Handler.SERIAL,
        driver: type[Scripted] = Scripted,
        specs: Mapping[str, PropertySpec] | None = None,
        **transport: Any,
    ) -> None:
        self.time = ManualClock()
        config = TransportConfig("bus0", "scripted", "tcp://u:hunter2@h", handler, "x", **transport)
        sensors = [SensorConfig(name, "generic", "", "bus0", handler, "x", 1000, 3000) for name in units]
        self.units = units
        self.driver: Any = driver(config, units, self.time)
        self.driver.specs = specs or SPECS
        self.tracker = Tracker(sensors, self.time.clock, {})
        self.line = Line(config, sensors, Parallelism.THREAD, self.tracker, self.time.clock)
        setup = LineSetup(config, sensors, lambda *_: self.driver)
        [self.worker] = hire([(self.line, setup)], self.time.clock, LogSetup("test", "INFO", "text", "UTC"))

    def start(self) -> Bench:
        self.worker.start()
        eventually(lambda: self.worker.pid)
        return self

    def error_of_read(self, sensor_id: str) -> str | None:
        try:
            self.line.read(sensor_id)
        except HubError as error:
            return error.code
        return None

    def read_all_once(self) -> Bench:
        """Let the first background reads pass: the next are 1000 s away."""
        eventually(lambda: all(self.status(name) is not Status.UNKNOWN for name in self.units))
        return self

    def status(self, sensor_id: str) -> Status:
        return self.tracker.snapshot(sensor_id).status

    def values(self, sensor_id: str) -> Mapping[str, Json] | None:
        reading = self.tracker.snapshot(sensor_id).reading
        return None if reading is None else reading.values

    @property
    def queued(self) -> int:
        """Commands, and sensors that somebody wants to be read."""
        return len(engine_of(self.worker)._jobs)

    def waiting_for(self, sensor_id: str) -> int:
        """Callers that wait for a read of it that has not begun."""
        return len(engine_of(self.worker)._jobs._asked.get(sensor_id, ()))


class Bare:
    """A line's engine without a worker: the test takes its turns. `told` is what it emitted."""

    def __init__(
        self,
        specs: Mapping[str, PropertySpec] = SPECS,
        driver: type[Scripted] = Scripted,
        units: Mapping[str, int] | None = None,
        interval_s: float = 10.0,
        **transport: Any,
    ) -> None:
        self.time, units = ManualClock(), units or {"a": 1}
        config = TransportConfig("bus0", "scripted", "x", Handler.SERIAL, "x", **transport)
        sensors = [
            SensorConfig(name, "generic", "", "bus0", Handler.SERIAL, "x", interval_s, 30) for name in units
        ]
        self.driver: Any = driver(config, units, self.time)
        self.driver.specs = specs
        self.told: list[Message] = []
        self.engine = Engine(
            LineSetup(config, sensors, lambda *_: self.driver), self.driver, self.time.clock, self.told.append
        )

    def work(self, turns: int = 50) -> Bare:
        """Take turns until there is nothing to do now."""
        for _ in range(turns):
            if self.engine.turn() != 0.0:
                return self
        raise AssertionError(f"not idle after {turns} turns")

    def later(self, seconds: float) -> Bare:
        self.time.advance(seconds)
        return self.work()

    def ask(self, sensor_id: str = "a", patience_s: float = 10.0) -> str:
        return self._submit("read", sensor_id, {}, patience_s)

    def command(self, sensor_id: str = "a", /, patience_s: float = 10.0, **values: Any) -> str:
        return self._submit("command", sensor_id, values, patience_s)

    def _submit(self, kind: Any, sensor_id: str, values: Mapping[str, Json], patience_s: float) -> str:
        request_id = f"{kind}{len(self.told)}-{next(_NUMBERS)}"
        until = self.time.seconds + patience_s
        self.engine.submit(LineRequest(request_id, until, False, "bus0", kind, sensor_id, values))
        return request_id

    def answer(self, request_id: str) -> Answer:
        """Its only one."""
        [found] = [each for each in self.told if isinstance(each, Answer) and each.id == request_id]
        return found

    def taken(self) -> list[Mapping[str, Json]]:
        """The readings so far; they are forgotten."""
        found = [each.data for each in self.told if isinstance(each, Taken)]
        self.told[:] = [each for each in self.told if not isinstance(each, Taken)]
        return found

    def missed(self) -> list[tuple[str, str, bool]]:
        """Sensor, code and whether it was asked; they are forgotten."""
        found = [
            (each.sensor_id, each.error.code, each.asked) for each in self.told if isinstance(each, Missed)
        ]
        self.told[:] = [each for each in self.told if not isinstance(each, Missed)]
        return found


_NUMBERS = itertools.count()


def engine_of(worker: Worker) -> Engine:
    assert worker._generation is not None
    engine: Engine = worker._generation.host._engines["bus0"]  # type: ignore[attr-defined]
    return engine
