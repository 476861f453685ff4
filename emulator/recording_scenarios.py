"""The scenarios behind `--record` and `--replay`: one line, in a folder of its own unless an option says where.

A recorder has no web server, and passes bytes on as they come; of what is said of that it makes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emulator.default_scenario import own_folder
from emulator.settings import DEFAULT, ENVIRONMENT, SETTINGS, Resolved, resolve
from emulator.settings_shown import RECONNECT, Row

UNUSED = "not used by --record"
_IDLE = frozenset(("tap.paced", "tap.error_rate"))
_REOPENS = {f"tap.{key}" for key in RECONNECT}  # the port


def recorder_scenario(parity: str, stopbits: int, *, over_tcp: bool) -> dict[str, Any]:
    """The line that stands in for the recorded one; `over_tcp`: an option says the port."""
    line = {"line_id": "tap", "units": [], "parity": parity, "stopbits": stopbits}
    return {"instance_id": "recorder", "lines": [line | _place("tap", over_tcp)]}


def resolve_recorder(
    data: object, environ: Mapping[str, str], options: Mapping[str, Sequence[str]]
) -> Resolved:
    """As `resolve`; what a recorder does not use of the environment is no problem, but marked."""
    web = {setting.variable: setting for setting in SETTINGS if setting.of_web}
    used = {name: text for name, text in environ.items() if name not in web}
    resolved = resolve(data, used, options, DEFAULT)
    of_web = [
        Row(f"web.{setting.key}", environ[name], f"{ENVIRONMENT} {name}", UNUSED)
        for name, setting in web.items()
        if environ.get(name)
    ]
    return replace(resolved, rows=(*_as_recorded(resolved.rows), *of_web))


def _as_recorded(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        if row.name in _REOPENS:
            yield replace(row, unused="")
        elif row.name not in _IDLE:
            yield row
        elif row.origin != DEFAULT:
            yield replace(row, unused=UNUSED)


def replay_scenario(recording: Path, *, over_tcp: bool) -> dict[str, Any]:
    """The device of a recording."""
    line = {"line_id": "replay", "kind": "replay", "recording": str(recording)}
    return {"instance_id": "replay", "text_lines": [line | _place("replay", over_tcp)]}


def _place(name: str, over_tcp: bool) -> dict[str, str]:
    return {} if over_tcp else {"pty_path": str(own_folder()[1] / name)}
