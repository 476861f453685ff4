"""A worker process that hangs is taken for lost; one that merely has nothing to say is not."""

from __future__ import annotations

import os
import signal

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler, Parallelism, SensorConfig, TransportConfig
from sensor_hub.drivers.modbus import ModbusTcp
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire, hosts
from tests.support import eventually


def test_a_hung_worker_process_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "HUNG_AFTER_S", 8.0)  # it says that it lives every 5 s
    transport = TransportConfig("plc", "modbus_tcp", "tcp://127.0.0.1:1", Handler.SERIAL, "x", timeout_s=0.5)
    options = {"unit_id": 1, "register": {"table": "input", "address": 0}}
    sensors = [SensorConfig("a", "generic", "a", "plc", Handler.SERIAL, "x", 5, 15, options=options)]  # type: ignore[arg-type]
    clock = system_clock()
    line = Line(transport, sensors, Parallelism.PROCESS, Tracker(sensors, clock, {}), clock)
    setup = LineSetup(transport, sensors, ModbusTcp)
    [worker] = hire([(line, setup)], clock, LogSetup("test", "INFO", "text", "UTC"))
    worker.start()
    try:
        first = eventually(lambda: worker.pid if line.describe()["last_error"] else None, 30)
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        eventually(lambda: worker.restarts == 1, 40)
        assert "it had said nothing for 10.5 s" in str(line.describe()["last_error"])
        eventually(lambda: worker.pid not in (None, first), 30)
    finally:
        worker.stop()
