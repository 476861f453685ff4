"""A line as a budget of time: how busy its configuration would keep it, before anything is started."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from sensor_hub.config.model import TransportConfig
from sensor_hub.drivers.base import Load
from sensor_hub.errors import Problem

WARN_ABOVE, REFUSE_ABOVE = 0.7, 1.0
INTERVAL_MAX_S = 86400.0
_TRIES = 8
_DUST = 1e-9

# What the units would ask of the line if its read_interval were so many seconds.
LoadsAt = Callable[[float], Sequence[Load]]


def check(transport: TransportConfig, loads_at: LoadsAt) -> Iterator[Problem]:
    """A warning when more than 70 % of the line's time is asked for, a problem when more than all of it."""
    loads = loads_at(transport.read_interval_s)
    share = _share(loads)
    if not _is_busy(share):
        return
    verdict = (
        f"line {transport.transport_id} would be busy {100 * share:.0f} % of the time with what is read from it; "
        f"{_advice(transport, share, loads_at)}, and so would a higher baudrate or fewer, adjacent registers"
    )
    yield Problem(transport.path, f"{verdict}\n{table(loads)}", share > REFUSE_ABOVE + _DUST)


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


def _advice(transport: TransportConfig, share: float, loads_at: LoadsAt) -> str:
    """What would leave room. Registers with an interval of their own do not care for the line's."""
    now_s = transport.read_interval_s
    fits_s = _fitting(now_s, share, loads_at)
    if fits_s is not None:
        return f"a read_interval of {fits_s:g} s (now {now_s:g} s) would leave room"
    times = _rounded_up(share / WARN_ABOVE)
    return (
        f"a longer read_interval of the line (now {now_s:g} s) is not enough, for registers have a read_interval of "
        f"their own: all of these, theirs and the line's, {times:g} times as long would leave room"
    )


def _fitting(now_s: float, share: float, loads_at: LoadsAt) -> float | None:
    """A read_interval of the line with which there is room; None: there is none.

    The share is what stays and what the interval divides; where some devices keep an own pace it takes more tries.
    """
    if now_s >= INTERVAL_MAX_S:
        return None
    divided = (share - _share(loads_at(INTERVAL_MAX_S))) / (1 / now_s - 1 / INTERVAL_MAX_S)
    stays = share - divided / now_s
    if stays >= WARN_ABOVE - _DUST or divided <= 0:
        return None
    interval_s = divided / (WARN_ABOVE - stays)
    for _ in range(_TRIES):
        interval_s = _rounded_up(interval_s)
        if interval_s > INTERVAL_MAX_S:
            return None
        share = _share(loads_at(interval_s))
        if not _is_busy(share):
            return interval_s
        interval_s *= share / WARN_ABOVE
    return None


def _is_busy(share: float) -> bool:
    return share > WARN_ABOVE + _DUST


def _share(loads: Sequence[Load]) -> float:
    return sum(load.share for load in loads)


def _rounded_up(seconds: float) -> float:
    """To two significant digits."""
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return round(math.ceil(seconds / step - 1e-9) * step, 9)
