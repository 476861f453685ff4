"""Run with `python -m emulator SCENARIO.json`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 1 when it cannot start, 78 for a bad scenario."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # only now: the imports take long enough for a signal to arrive in between
    from emulator import logs, scenario  # noqa: PLC0415
    from emulator.app import run  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="python -m emulator", description="Emulated devices for the Sensor Hub."
    )
    parser.add_argument("scenario", type=Path, help="scenario file (JSON)")
    path = parser.parse_args().scenario
    try:
        found = scenario.load(path)
    except scenario.ScenarioError as error:
        for problem in error.problems:
            print(f"device-emulator: {problem}", file=sys.stderr)
        return scenario.EXIT_CODE_CONFIG
    logs.set_up(os.environ.get("LOG_LEVEL", "INFO"), os.environ.get("LOG_FORMAT", "text"), found.timezone)
    return run(found)


if __name__ == "__main__":
    sys.exit(main())
