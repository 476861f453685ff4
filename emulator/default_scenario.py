"""What is emulated when nobody says what: a few sensors, a charger, a motion detector; nothing shared with others."""

from __future__ import annotations

import atexit
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from emulator.ptys import Claim, PathTakenError

FOLDER = "emulated-devices"
FOLDERS = 100
FIRST_PORT = 8080  # of the first folder; the second begins one later


def default_scenario() -> dict[str, Any]:
    """A scenario as JSON, in the first folder that is free, which belongs to this process until its end."""
    number, folder = own_folder()
    units = [
        {"unit_id": unit_id, "sensor_id": kind, "kind": kind}
        for unit_id, kind in enumerate(("temperature", "humidity", "co2"), start=1)
    ]
    return {
        "instance_id": folder.name,
        "lines": [{"line_id": "bus", "pty_path": str(folder / "bus"), "units": units}],
        "text_lines": [
            {"line_id": "wallbox", "pty_path": str(folder / "wallbox"), "kind": "openevse", "sensor_id": "ev"}
        ],
        "http": {"port": _free_port(FIRST_PORT + number - 1), "motion": ["motion"]},
    }


def own_folder() -> tuple[int, Path]:
    """Its number and path; this process's until its end. Raises PathTakenError."""
    for number in range(1, FOLDERS):
        folder = Path(tempfile.gettempdir()) / (FOLDER if number == 1 else f"{FOLDER}-{number}")
        with suppress(PathTakenError, OSError):
            claim = Claim(folder / "emulator")
            atexit.register(_give_back, claim)
            return number, folder
    raise PathTakenError(f"{FOLDERS} emulators run without a scenario")


def _give_back(claim: Claim) -> None:
    claim.release()
    with suppress(OSError):  # there is something else in it
        claim.path.parent.rmdir()


def _free_port(first: int) -> int:
    """The first free one, in steps at which the emulators of other folders do not look."""
    for port in range(first, 0xFFFF, FOLDERS):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    return first
