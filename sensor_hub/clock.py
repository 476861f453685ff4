"""Time as a dependency: tests hand in their own and never sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo


@dataclass(frozen=True, slots=True)
class Clock:
    """`now()` is an aware wall time; `monotonic()` counts seconds and never jumps."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]


def system_clock(zone: tzinfo = UTC) -> Clock:
    """The machine's clock, its timestamps in `zone`."""
    return Clock(now=lambda: datetime.now(zone), monotonic=time.monotonic)
