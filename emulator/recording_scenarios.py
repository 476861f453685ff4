"""The scenarios behind `--record` and `--replay`: one line, in a folder of its own unless an option says where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.default_scenario import own_folder


def recorder_scenario(parity: str, stopbits: int, *, over_tcp: bool) -> dict[str, Any]:
    """The line that stands in for the recorded one; `over_tcp`: an option says the port."""
    line = {"line_id": "tap", "units": [], "parity": parity, "stopbits": stopbits}
    return {"instance_id": "recorder", "lines": [line | _place("tap", over_tcp)]}


def replay_scenario(recording: Path, *, over_tcp: bool) -> dict[str, Any]:
    """The device of a recording."""
    line = {"line_id": "replay", "kind": "replay", "recording": str(recording)}
    return {"instance_id": "replay", "text_lines": [line | _place("replay", over_tcp)]}


def _place(name: str, over_tcp: bool) -> dict[str, str]:
    return {} if over_tcp else {"pty_path": str(own_folder()[1] / name)}
