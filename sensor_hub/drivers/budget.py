"""A line as a budget of time: how busy its configuration would keep it, before anything is started."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sensor_hub.config.model import TransportConfig
from sensor_hub.drivers.base import Load
from sensor_hub.errors import Problem

WARN_ABOVE, REFUSE_ABOVE = 0.7, 1.0


def check(transport: TransportConfig, loads: Sequence[Load]) -> Iterator[Problem]:
    """A warning when more than 70 % of the line's time is asked for, a problem when more than all of it."""
    share = sum(load.share for load in loads)
    if share <= WARN_ABOVE:
        return
    yield Problem(transport.path, f"{_verdict(transport, share)}\n{table(loads)}", share > REFUSE_ABOVE)


def table(loads: Sequence[Load]) -> str:
    """Units, transactions per second and share of the line's time, as lines of text."""
    rows = [("unit", "transactions/s", "share")]
    rows += [
        (str(each.unit_id), f"{each.transactions_per_s:.3g}", f"{100 * each.share:.1f} %") for each in loads
    ]
    rate, share = sum(each.transactions_per_s for each in loads), sum(each.share for each in loads)
    rows.append(("all", f"{rate:.3g}", f"{100 * share:.1f} %"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "    " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


def _verdict(transport: TransportConfig, share: float) -> str:
    fits_s = _rounded_up(transport.read_interval_s * share / WARN_ABOVE)
    return (
        f"line {transport.transport_id} would be busy {100 * share:.0f} % of the time with what is read from it; "
        f"a read_interval of {fits_s:g} s (now {transport.read_interval_s:g} s) would leave room, "
        "and so would a higher baudrate or fewer, adjacent registers"
    )


def _rounded_up(seconds: float) -> float:
    """To two significant digits."""
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return round(math.ceil(seconds / step - 1e-9) * step, 9)
