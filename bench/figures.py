"""How figures are made of samples, and printed."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(len(samples) * share) - 1)]


def spread(samples: Sequence[float], digits: int = 3) -> str:
    """Median, and the least and greatest of several runs."""
    least, most = min(samples), max(samples)
    return f"{statistics.median(samples):.{digits}f}  ({least:.{digits}f} .. {most:.{digits}f})"


def row(what: str, figure: str) -> None:
    """One line of the table, at once: a run takes minutes."""
    print(f"{what:<62} {figure}", flush=True)


def heading(text: str) -> None:
    """What the following lines are about, and how busy the machine is with everything."""
    print(f"\n{text}\n[load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores]", flush=True)
