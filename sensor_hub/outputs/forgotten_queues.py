"""Queue files of outputs that have left the configuration: nobody sends or sees any more what is in them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from sensor_hub import logs
from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.follower import QUEUE
from sensor_hub.store import path_for
from sensor_hub.store_file import discard

log = logs.get(__name__)

BRIDGE = "mqtt-bridge"  # has a file of its own there
_COUNT = f"SELECT count(*) FROM q_{QUEUE}"  # noqa: S608


def look_after_forgotten(hub: HubConfig) -> None:
    """Remove those that are empty, say of the others what is in them."""
    folder = path_for(hub, BRIDGE).parent
    known = {BRIDGE, *(each.output_id for each in hub.outputs)}
    for path in sorted(folder.glob("*.sqlite3")):
        if path.stem in known:
            continue
        entries = _entries(path)
        if entries:
            remedy = "configure the output again, or remove the file"
            log.warning("queue of an output that is gone", file=str(path), readings=entries, remedy=remedy)
        elif entries == 0:
            with contextlib.suppress(OSError):
                discard(path)
                log.info("queue of an output that is gone was empty and is removed", file=str(path))


def _entries(path: Path) -> int | None:
    """None: it is no queue of an output, or cannot be read; then it is let alone."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0)) as database:
            database.execute(
                "PRAGMA locking_mode = EXCLUSIVE"
            )  # as its writer does: no shared memory beside it
            database.execute("SELECT mark FROM queues LIMIT 0")
            return int(database.execute(_COUNT).fetchone()[0])
    except sqlite3.Error:
        return None
