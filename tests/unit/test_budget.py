"""How busy a line would be: when that is fine, when it is told, when it is refused."""

from __future__ import annotations

import pytest

from sensor_hub.config.model import Handler, TransportConfig
from sensor_hub.drivers import budget
from sensor_hub.drivers.base import Load

LINE = TransportConfig("bus0", "modbus_rtu", "/dev/ttyUSB0", Handler.SERIAL, "config.transports[0]")


@pytest.mark.parametrize("share", [0.0, 0.35, 0.7])
def test_a_line_with_room_is_not_mentioned(share: float) -> None:
    assert list(budget.check(LINE, [Load(1, 1.0, share)])) == []


@pytest.mark.parametrize(
    ("shares", "fatal"), [((0.4, 0.31), False), ((0.5, 0.5), False), ((0.6, 0.41), True)]
)
def test_a_busy_line_is_a_warning_and_an_impossible_one_a_problem(
    shares: tuple[float, float], fatal: bool
) -> None:
    (problem,) = budget.check(LINE, [Load(unit, 1.0, share) for unit, share in enumerate(shares, 1)])
    assert (problem.path, problem.fatal) == ("config.transports[0]", fatal)


def test_the_table_has_each_unit_its_transactions_and_its_share_and_says_what_would_fit() -> None:
    (problem,) = budget.check(LINE, [Load(1, 0.2, 0.25), Load(17, 4.0, 1.15)])
    assert problem.message.splitlines() == [
        "line bus0 would be busy 140 % of the time with what is read from it; a read_interval of 10 s (now 5 s) "
        "would leave room, and so would a higher baudrate or fewer, adjacent registers",
        "    unit  transactions/s    share",
        "       1             0.2   25.0 %",
        "      17               4  115.0 %",
        "     all             4.2  140.0 %",
    ]
