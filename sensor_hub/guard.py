"""supervisord's event listener: ends the whole hub when a program is FATAL, or when the launcher is gone.

Speaks supervisor's event listener protocol on stdin/stdout (supervisor manual, "Events"): say READY, get a
header line of key:value tokens and `len` bytes of payload, answer RESULT with the length of the result.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

import psutil

from sensor_hub import config, logs, runtime

log = logs.get(__name__)


def main() -> None:
    """Serve until supervisord closes the pipe."""
    hub = config.load()
    logs.set_up("hub-guard", hub, sys.stderr)  # stdout speaks the protocol
    supervisord = psutil.Process(os.getppid())
    launcher_pid = supervisord.ppid()

    def end_hub() -> None:
        supervisord.send_signal(signal.SIGTERM)

    def launcher_lives() -> bool:
        return supervisord.ppid() == launcher_pid

    serve(sys.stdin.buffer, sys.stdout.buffer, hub.instance_id, end_hub, launcher_lives)


def serve(
    events: BinaryIO,
    answers: BinaryIO,
    instance_id: str,
    end_hub: Callable[[], None],
    launcher_lives: Callable[[], bool],
) -> None:
    """Answer events until end of file; call `end_hub` on a FATAL program or without a launcher."""
    while True:
        _write(answers, b"READY\n")
        line = events.readline()
        if not line:
            return
        header = _tokens(line.decode())
        payload = _tokens(events.read(int(header["len"])).decode())
        if header["eventname"] == "PROCESS_STATE_FATAL":
            program = payload.get("processname", "?")
            log.critical("program gave up, ending the hub", program=program)
            runtime.write_fatal(instance_id, program)
            end_hub()
        elif not launcher_lives():
            log.critical("launcher is gone, ending the hub")
            end_hub()
        _write(answers, b"RESULT 2\nOK")


def _tokens(text: str) -> dict[str, str]:
    return dict(token.split(":", 1) for token in text.split() if ":" in token)


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()


if __name__ == "__main__":
    main()
