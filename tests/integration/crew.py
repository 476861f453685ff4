"""Lines with a driver that obeys, driven as the hub drives them: in one thread, in one each, in a process each."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any
from uuid import uuid4

from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler, Parallelism, SensorConfig, TransportConfig
from sensor_hub.crew.worker import Worker
from sensor_hub.drivers.base import Driver, PropertySpec, Settings
from sensor_hub.errors import DeviceRefused, TransportDown
from sensor_hub.readings import Json
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire
from tests.support import eventually

ROOT = Path(__file__).resolve().parents[2]
LOG_SETUP = LogSetup("crew", "INFO", "text", "UTC")


class Obedient(Driver):
    """Its devices hold `value`, and do what is written to the other properties."""

    name = "obedient"
    transport_settings = sensor_settings = Settings

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        super().__init__(transport, sensors)
        self._value: Json = 1
        self._reads = 0

    def unit_id(self, sensor_id: str) -> str:
        return sensor_id

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        order = PropertySpec("any", writable=True, readable=False)
        return {
            "value": PropertySpec("number", writable=True),
            "pid": PropertySpec("number"),
            "reads": PropertySpec("number"),
            **dict.fromkeys(
                ("echo", "hang_s", "exit", "defect", "refuse", "unplug", "answer_with_object"), order
            ),
        }

    def connect(self) -> None:
        if self.transport.options.get("unplugged"):
            raise TransportDown("no such port")

    def close(self) -> None:
        """Nothing to close."""

    def read(self, sensor_id: str) -> Mapping[str, Json]:
        self._reads += 1
        return {"value": self._value, "pid": os.getpid(), "reads": self._reads}

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
        match dict(values):
            case {"value": value}:
                self._value = value
            case {"hang_s": float(seconds)}:
                Path(str(self.transport.options["mark"])).write_text(str(time.monotonic()), encoding="ascii")
                threading.Event().wait(seconds)
            case {"exit": int(code)}:
                os._exit(code)
            case {"defect": _}:
                raise ZeroDivisionError
            case {"refuse": str(why)}:
                raise DeviceRefused(why, exception=2)
            case {"unplug": _}:
                raise TransportDown("unplugged")
            case {"answer_with_object": _}:
                strange: Any = threading.Lock()
                return {"answer_with_object": strange}
        return values


class Crew:
    """Lines `line0`, `line1`, ... with a sensor `line0.a`, ... each; not started."""

    def __init__(self, parallelism: Parallelism, count: int = 1, **transport: Any) -> None:
        clock = system_clock()
        self._mark = Path(tempfile.gettempdir()) / f"crew-{uuid4().hex}"  # written when a device hangs
        options = transport.pop("options", {})
        configs = [
            TransportConfig(
                f"line{number}",
                "obedient",
                "x",
                Handler.SERIAL,
                "x",
                options={"mark": str(self._mark), **options},
                **transport,
            )
            for number in range(count)
        ]
        sensors = [
            SensorConfig(
                f"{each.transport_id}.a", "generic", "", each.transport_id, Handler.SERIAL, "x", 3600, 9999
            )
            for each in configs
        ]
        self.tracker = Tracker(sensors, clock, {})
        self.lines = [
            Line(config, [sensor], parallelism, self.tracker, clock)
            for config, sensor in zip(configs, sensors, strict=True)
        ]
        setups = [
            LineSetup(config, [sensor], Obedient) for config, sensor in zip(configs, sensors, strict=True)
        ]
        self.workers: list[Worker] = hire(list(zip(self.lines, setups, strict=True)), clock, LOG_SETUP)

    def start(self) -> Crew:
        """Return when all devices have been read."""
        for worker in self.workers:
            worker.start()
        self.eventually_online()
        return self

    def eventually_online(self) -> None:
        eventually(lambda: all(map(self.is_online, range(len(self.lines)))), 60)

    def stop(self) -> None:
        enders = [threading.Thread(target=worker.stop) for worker in self.workers]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._mark.unlink(missing_ok=True)

    def command(self, number: int = 0, within_s: float = 30.0, **values: Any) -> Mapping[str, Json]:
        return self.lines[number].command(f"line{number}.a", values, within_s).values

    def hang(self, pool: Executor, seconds: float) -> tuple[Future[Any], float]:
        """Let the device of line0 hang: the command that makes it, and since when (monotonic) it does."""
        mark = self._mark
        mark.unlink(missing_ok=True)
        hanging = pool.submit(self.command, hang_s=seconds)
        return hanging, float(eventually(lambda: mark.exists() and mark.read_text(encoding="ascii"), 30))

    def read(self, number: int = 0) -> Mapping[str, Json]:
        reading = self.lines[number].read(f"line{number}.a").reading
        assert reading is not None
        return reading.values

    def shown(self, number: int = 0) -> Mapping[str, Any]:
        """As in `/transports`."""
        return self.lines[number].describe()

    def is_online(self, number: int = 0) -> bool:
        return str(self.lines[number].state) == "up" and self.status(number) == "online"

    def status(self, number: int = 0) -> str:
        return str(self.tracker.snapshot(f"line{number}.a").status)

    def pid(self, number: int = 0) -> int:
        found = self.lines[number].describe()["worker_pid"]
        assert isinstance(found, int)
        return found
