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
from zoneinfo import ZoneInfo

import psutil

from sensor_hub import config, logs, runtime, stopping

log = logs.get(__name__)


def main() -> None:
    """Serve until SIGTERM; without a launcher or a supervisord end all that they have left behind.

    What is needed comes from the launcher's environment: a guard must start whatever became of the instance file.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    environ = config.environment()
    zone, instance_id = ZoneInfo(environ["TZ"]), environ["INSTANCE_NAME"]
    # stdout speaks the protocol
    logs.set_up_plain("hub-guard", environ["LOG_LEVEL"], environ["LOG_FORMAT"], zone, sys.stderr)
    supervisord = psutil.Process(os.getppid())
    instance = runtime.read_instance(instance_id)
    launcher_pid = instance.launcher_pid if instance is not None else supervisord.ppid()

    def end_hub() -> None:
        supervisord.send_signal(signal.SIGTERM)

    def launcher_lives() -> bool:
        return supervisord.ppid() == launcher_pid

    serve(sys.stdin.buffer, sys.stdout.buffer, instance_id, end_hub, launcher_lives)
    stopping.end_session(supervisord.pid)


def serve(
    events: BinaryIO,
    answers: BinaryIO,
    instance_id: str,
    end_hub: Callable[[], None],
    launcher_lives: Callable[[], bool],
) -> None:
    """Answer events until end of file or until the launcher is gone; call `end_hub` on the first FATAL program.

    Others follow while supervisord stops: it gives up on all that it was about to start again.
    """
    ending = False
    while True:
        _write(answers, b"READY\n")
        line = events.readline()
        if not line:
            return
        header = _tokens(line.decode())
        payload = _tokens(events.read(int(header["len"])).decode())
        if not launcher_lives():
            log.critical("launcher is gone, ending the hub")
            return
        if header["eventname"] == "PROCESS_STATE_FATAL" and not ending:
            ending = True
            program = payload.get("processname", "?")
            log.critical("program gave up, ending the hub", program=program)
            runtime.write_fatal(instance_id, program)
            end_hub()
        _write(answers, b"RESULT 2\nOK")


def _tokens(text: str) -> dict[str, str]:
    return dict(token.split(":", 1) for token in text.split() if ":" in token)


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()


if __name__ == "__main__":
    main()
