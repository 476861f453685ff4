"""A worker process that hangs is taken for lost; one that merely has nothing to say is not, nor one that starts."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler, Parallelism, SensorConfig, TransportConfig
from sensor_hub.crew.hosts import ProcessHost
from sensor_hub.drivers.modbus import ModbusTcp
from sensor_hub.tracking import Tracker
from sensor_hub.workers import Line, LineSetup, LogSetup, hire, hosts
from sensor_hub.workers.hosts import LinesJob
from tests.support import eventually

TRANSPORT = TransportConfig("plc", "modbus_tcp", "tcp://127.0.0.1:1", Handler.SERIAL, "x", timeout_s=0.5)
OPTIONS: Any = {"unit_id": 1, "register": {"table": "input", "address": 0}}
SENSORS = [SensorConfig("a", "generic", "a", "plc", Handler.SERIAL, "x", 5, 15, options=OPTIONS)]
SETUP = LineSetup(TRANSPORT, SENSORS, ModbusTcp)
LOG_SETUP = LogSetup("test", "INFO", "text", "UTC")


def test_a_hung_worker_process_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "HUNG_AFTER_S", 8.0)  # it says that it lives every 5 s
    clock = system_clock()
    line = Line(TRANSPORT, SENSORS, Parallelism.PROCESS, Tracker(SENSORS, clock, {}), clock)
    [worker] = hire([(line, SETUP)], clock, LOG_SETUP)
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


def test_a_process_has_more_time_for_its_first_word_than_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "HUNG_AFTER_S", -2.49)  # 0.01 s with the timeouts: no process starts so soon
    told: list[object] = []
    reason = ProcessHost(LinesJob((SETUP,)), LOG_SETUP).run(told.append)
    assert told
    assert reason == "its process ended with signal 9; it had said nothing for 0.01 s"
