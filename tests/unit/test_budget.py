"""How busy a line would be: when that is fine, when it is told, when it is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sensor_hub.config.model import Handler, SensorConfig, TransportConfig
from sensor_hub.drivers import budget, check_options
from sensor_hub.drivers.base import Load
from sensor_hub.errors import Problem
from tests.wire.scripted_peers import line, register, sensor

LINE = TransportConfig("bus0", "modbus_rtu", "/dev/ttyUSB0", Handler.SERIAL, "config.transports[0]")


def scaling(*loads: Load, stays: float = 0.0) -> budget.LoadsAt:
    """What the units ask at the line's interval, less at a longer one; unit 99 asks `stays` at any."""
    own = (Load(99, 1.0, stays),) if stays else ()

    def at(interval_s: float) -> list[Load]:
        times = interval_s / LINE.read_interval_s
        return [Load(item.unit_id, item.transactions_per_s / times, item.share / times) for item in loads] + [
            *own
        ]

    return at


@pytest.mark.parametrize("share", [0.0, 0.35, 0.7])
def test_a_line_with_room_is_not_mentioned(share: float) -> None:
    assert list(budget.check(LINE, scaling(Load(1, 1.0, share)))) == []


@pytest.mark.parametrize(
    ("shares", "fatal"), [((0.4, 0.31), False), ((0.5, 0.5), False), ((0.6, 0.41), True)]
)
def test_a_busy_line_is_a_warning_and_an_impossible_one_a_problem(
    shares: tuple[float, float], fatal: bool
) -> None:
    (problem,) = budget.check(
        LINE, scaling(*(Load(unit, 1.0, share) for unit, share in enumerate(shares, 1)))
    )
    assert (problem.path, problem.fatal) == ("config.transports[0]", fatal)


def test_the_table_has_each_unit_its_transactions_and_its_share_and_says_what_would_fit() -> None:
    (problem,) = budget.check(LINE, scaling(Load(1, 0.2, 0.25), Load(17, 4.0, 1.15)))
    assert problem.message.splitlines() == [
        "line bus0 would be busy 140 % of the time with what is read from it; a read_interval of 10 s (now 5 s) "
        "would leave room, and so would a higher baudrate or fewer, adjacent registers",
        "    unit  transactions/s    share",
        "       1             0.2   25.0 %",
        "      17               4  115.0 %",
        "     all             4.2  140.0 %",
    ]


@pytest.mark.parametrize(("stays", "fits"), [(0.2, 20), (0.6, 100), (0.69, 1000)])
def test_what_would_fit_is_computed_from_what_the_lines_interval_changes(stays: float, fits: float) -> None:
    (problem,) = budget.check(LINE, scaling(Load(1, 1.0, 2.0), stays=stays))
    assert f"a read_interval of {fits} s (now 5 s) would leave room" in problem.message


def busy(interval_s: float, **intervals: Any) -> list[Problem]:
    """Three registers that cannot be read together, on a line of 9600 baud."""
    tables = {"a": register(address=0), "b": register("holding", 0), "c": register(address=500)}
    properties: dict[str, Any] = {
        name: {**where, **intervals.get(name, {})} for name, where in tables.items()
    }
    transport = replace(line("/dev/x", baudrate=9600), read_interval_s=interval_s)
    sensors: Sequence[SensorConfig] = [replace(sensor(properties=properties), interval_s=interval_s)]
    return list(check_options(transport, sensors))


def test_the_advice_helps_where_it_is_followed() -> None:
    (problem,) = busy(0.05, a={"read_interval": 0.1})
    advised = re.search(r"a read_interval of ([\d.]+) s \(now 0\.05 s\)", problem.message)
    assert advised is not None
    assert busy(float(advised[1]), a={"read_interval": 0.1}) == []
    assert busy(0.9 * float(advised[1]), a={"read_interval": 0.1}) != []


def test_registers_with_a_read_interval_of_their_own_are_named_where_the_lines_does_not_help() -> None:
    own = {"read_interval": 0.05}
    (problem,) = busy(5.0, a=own, b=own)
    advised = re.search(
        r"registers have a read_interval of their own: .*, ([\d.]+) times as long", problem.message
    )
    assert advised is not None
    times = float(advised[1])
    longer = {"read_interval": 0.05 * times}
    assert busy(5.0 * times, a=longer, b=longer) == []
    assert busy(500.0, a=own, b=own) != []
