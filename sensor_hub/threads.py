"""Threads that live as long as their process: a defect in one is told, and it begins anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sensor_hub import logs

log = logs.get(__name__)

PAUSE_S, MAX_PAUSE_S = 1.0, 60.0


def start(name: str, work: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Run `work` in a daemon thread until it returns or `stop` is set.

    What it raises is logged with its trace; then it is called again after a pause, which grows while that goes on.
    """

    def run() -> None:
        pause_s = PAUSE_S
        while not stop.is_set():
            began_at = time.monotonic()
            try:
                work()
                return
            except Exception:
                # Top of the thread: nobody else would ever hear of it, and what it does would just be missing.
                log.exception("thread failed unexpectedly", thread=name)
            if time.monotonic() - began_at > MAX_PAUSE_S:
                pause_s = PAUSE_S
            stop.wait(pause_s)
            pause_s = min(MAX_PAUSE_S, pause_s * 2)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
