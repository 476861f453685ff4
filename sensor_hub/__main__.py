"""`sensor-hub` and `python -m sensor_hub`: ready to be stopped from the first moment on, then the command line."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """See `cli.main`."""
    if os.getpid() == 1 or "run" in sys.argv[1:]:
        # The imports below take a while, and nothing has been started yet. (The kernel drops signals that PID 1 of a
        # container does not handle: a `docker stop` would wait 10 s in vain and then kill.)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
    _open_closed_streams()
    from sensor_hub import cli  # noqa: PLC0415

    cli.main()


def _open_closed_streams() -> None:
    """Whoever starts us may have closed stdin, stdout or stderr: the next files opened would take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
