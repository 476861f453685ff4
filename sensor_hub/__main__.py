"""`sensor-hub` and `python -m sensor_hub`: ready to be stopped from the first moment on, then the command line."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """See `cli.main`."""
    if os.getpid() == 1:
        # The kernel drops signals that PID 1 of a container does not handle: a `docker stop` while the
        # imports below are under way would wait 10 s in vain and then kill.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from sensor_hub import cli  # noqa: PLC0415

    cli.main()


if __name__ == "__main__":
    main()
