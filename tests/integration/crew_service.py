"""A service with two lines in processes: says their process ids on stdout, ends in order on SIGTERM."""

from __future__ import annotations

import signal
import threading

from sensor_hub import logs
from sensor_hub.config.model import Parallelism
from sensor_hub.config.values import time_zone
from tests.integration.crew import LOG_SETUP, Crew


def main() -> None:
    """Until SIGTERM."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    logs.set_up_plain(LOG_SETUP.service, LOG_SETUP.level, LOG_SETUP.format, time_zone(LOG_SETUP.zone))
    crew = Crew(Parallelism.PROCESS, 2).start()
    print("pids", crew.pid(0), crew.pid(1), flush=True)
    told.wait()
    crew.stop()
    print("ended in order", flush=True)


if __name__ == "__main__":
    main()
