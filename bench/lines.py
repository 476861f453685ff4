"""`python -m bench lines`: what the serial lines do, as ratios of things measured in the same run."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path

from bench.commands import commands
from bench.crowd import crowd, prices
from bench.speed import paced, unpaced
from sensor_hub import logs

PARTS: Mapping[str, Callable[[Path], None]] = {
    "paced": paced,
    "unpaced": unpaced,
    "crowd": crowd,
    "commands": commands,
    "prices": prices,
}


def main(parts: Sequence[str] = ()) -> None:
    """Those parts, or all."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        sys.exit(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    logs.set_up_plain("bench", "WARNING", "text", UTC)
    for name in parts or PARTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            PARTS[name](Path(folder))
        print(f"({name}: {time.monotonic() - began:.0f} s)", flush=True)
