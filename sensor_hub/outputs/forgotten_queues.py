"""Queue files of outputs that have left the configuration: nobody sends or sees any more what is in them."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

from sensor_hub import logs
from sensor_hub.config.model import BRIDGE, HubConfig
from sensor_hub.outputs.counts import counts_in
from sensor_hub.outputs.follower import QUEUE
from sensor_hub.store import path_for
from sensor_hub.store_file import discard, held_by

log = logs.get(__name__)


def look_after_forgotten(hub: HubConfig) -> None:
    """Remove those that are empty, with a last word on what they counted; say of the others what is in them."""
    folder = path_for(hub, BRIDGE).parent
    known = {BRIDGE, *(each.output_id for each in hub.outputs)}
    for path in sorted(folder.glob("*.sqlite3")):
        if path.stem in known:
            continue
        facts = held_by(path, QUEUE)
        if facts is None:  # it is no queue of an output, or cannot be read
            continue
        if facts.depth:
            remedy = "configure the output again, or remove the file"
            log.warning(
                "queue of an output that is gone", file=str(path), readings=facts.depth, remedy=remedy
            )
        else:
            counts = asdict(counts_in(facts.mark))
            with contextlib.suppress(OSError):
                discard(path)
                words = "queue of an output that is gone was empty and is removed"
                log.info(words, file=str(path), dropped=facts.dropped, **counts)
