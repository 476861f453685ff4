"""`sensor-hub emulate`: becomes the emulator, a program of its own that shares nothing with the hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sensor_hub import config

CONTEXT = {"ignore_unknown_options": True, "help_option_names": []}  # its options are its own


def emulate(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO] [OPTIONS]")] = None,
) -> None:
    """Serve emulated devices: those of a scenario file, or some of each kind. `--help` tells more."""
    sys.stdout.flush()
    os.execve(sys.executable, command_line(arguments or ()), _environment())  # noqa: S606


def command_line(arguments: Sequence[str]) -> list[str]:
    """How the emulator is started."""
    return [sys.executable, "-m", "emulator", *arguments]


def _environment() -> dict[str, str]:
    """The emulator stands beside this package, wherever the user is."""
    environ = dict(config.environment())
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [environ.get("PYTHONPATH")])]
    return environ | {"PYTHONPATH": os.pathsep.join(paths)}
