"""Lines: a serial port has one owner; what drives a line, and what is checked before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sensor_hub.config.model import Parallelism, WriteChecks
from sensor_hub.readings import Json
from tests.unit.test_config import BUS, config_of, hub, read_hub


def problems_of_two(root: Path, first: str, second: dict[str, Any], driver: str) -> list[tuple[str, str]]:
    lines = [{**BUS, "driver": driver, "url": first}, {"transport_id": "other", "driver": driver, **second}]
    document = hub(transports=lines, sensors=[])
    return [(problem.path, problem.message) for problem in read_hub(root, document).problems]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/dev/ttyUSB7", {"url": "/dev/ttyUSB7"}),
        ("/dev/ttyUSB7", {"url": "/dev/../dev//ttyUSB7"}),
        ("socket://192.0.2.9:4001", {"url": "socket://192.0.2.9:4001/"}),
        ("socket://Gateway:4001", {"url": "socket://gateway:4001"}),
        ("socket://192.0.2.9:4001", {"url": "rfc2217://192.0.2.9:4001?ign_set_control"}),
    ],
)
def test_two_transports_on_one_serial_port_are_refused(
    first: str, second: dict[str, Any], tmp_path: Path
) -> None:
    [(path, message)] = problems_of_two(tmp_path, first, second, "modbus_rtu")
    assert path == "config.transports[1].url"
    assert message == "is the same line as config.transports[0]; put its sensors on that transport"


def test_a_port_that_goes_by_two_names_is_one_port(tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB7")
    first = str(tmp_path / "ttyUSB7")
    [(path, _)] = problems_of_two(tmp_path, first, {"url": str(tmp_path / "by-id")}, "modbus_rtu")
    assert path == "config.transports[1].url"


def test_the_key_that_was_given_is_the_one_that_is_named(tmp_path: Path) -> None:
    [(path, _)] = problems_of_two(tmp_path, "/dev/ttyUSB7", {"port": "/dev/ttyUSB7"}, "modbus_rtu")
    assert path == "config.transports[1].port"


@pytest.mark.parametrize(
    ("driver", "first", "second"),
    [
        ("modbus_rtu", "/dev/ttyUSB7", "/dev/ttyUSB8"),
        ("modbus_rtu", "socket://192.0.2.9:4001", "socket://192.0.2.9:4002"),
        ("modbus_tcp", "tcp://192.0.2.9:502", "tcp://192.0.2.9:502"),
        ("modbus_tcp", "192.0.2.9:502", "192.0.2.9:502"),
    ],
)
def test_other_ports_and_modbus_tcp_are_taken_by_several(
    driver: str, first: str, second: str, tmp_path: Path
) -> None:
    assert problems_of_two(tmp_path, first, {"url": second}, driver) == []


@pytest.mark.parametrize(
    ("said", "write", "checks"),
    [
        (None, False, WriteChecks.FULL),
        (False, False, WriteChecks.FULL),
        ("no", False, WriteChecks.FULL),
        (True, True, WriteChecks.FULL),
        ("yes", True, WriteChecks.FULL),
        ("Relaxed", True, WriteChecks.RELAXED),
        ("unsafe", True, WriteChecks.UNSAFE),
    ],
)
def test_write_says_whether_and_what_is_checked_before(
    tmp_path: Path, said: Json, write: bool, checks: WriteChecks
) -> None:
    (bus,) = config_of(read_hub(tmp_path, hub(transports=[{**BUS, "write": said}]))).transports
    assert (bus.write, bus.write_checks) == (write, checks)


def test_parallelism_of_a_line_is_its_own_or_the_hubs(tmp_path: Path) -> None:
    lines = [BUS, {**BUS, "transport_id": "b2", "url": "/dev/ttyUSB7", "parallelism": "process"}]
    one, two = config_of(read_hub(tmp_path, hub(transports=lines, parallelism="thread"))).transports
    assert (one.parallelism, two.parallelism) == (Parallelism.THREAD, Parallelism.PROCESS)
    (one,) = config_of(read_hub(tmp_path, hub(transports=[BUS]))).transports
    assert one.parallelism is Parallelism.AUTO
