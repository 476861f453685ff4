"""The process of a worker: `python -m sensor_hub.crew.child FD PARENT_PID NAME…` (the names are for `ps`).

It ends with its parent, however that dies: the other end of its socket closes then, and Linux is asked to kill it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from sensor_hub import logs
from sensor_hub.clock import system_clock
from sensor_hub.config import values
from sensor_hub.crew.hosts import Emit, Host
from sensor_hub.crew.messages import Answer, Control, Request
from sensor_hub.errors import HubError
from sensor_hub.startup import end_with

log = logs.get(__name__)


def main() -> NoReturn:
    """Do the job until told to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever means the whole hub; the parent ends us in its time
    end_with(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    log_setup = connection.recv()
    zone = values.time_zone(log_setup.zone)
    logs.set_up_plain(log_setup.service, log_setup.level, log_setup.format, zone)
    sending = threading.Lock()

    def emit(message: object) -> None:
        with sending:
            try:
                connection.send(message)
            except OSError:
                os._exit(0)  # nobody is there any more to tell

    def work() -> None:
        host = connection.recv().host(system_clock(zone))
        threading.Thread(
            target=to_the_end, args=(lambda: listen(connection, host, emit),), daemon=True
        ).start()
        host.run(emit)

    to_the_end(work)


def to_the_end(work: Callable[[], None]) -> NoReturn:
    """The process ends with either of its threads: one that only works or only listens is no use."""
    try:
        work()
    except Exception:
        # Top of a thread: its end is told by the parent, why it ended can be told only here.
        log.exception("worker failed unexpectedly", worker=", ".join(sys.argv[3:]))
        os._exit(1)
    os._exit(0)


def listen(connection: Connection, host: Host, emit: Emit) -> None:
    """Take what the parent says, until it is gone."""
    with suppress(EOFError, OSError):
        while True:
            word = connection.recv()
            if word is Control.STOP:
                host.stop()
            elif word.at_once:
                emit(Answer(word.id, host.answer(word)))
            else:
                hand_over(host, word, emit)


def hand_over(host: Host, request: Request, emit: Emit) -> None:
    """Queue a request; it is answered at once when that is too late."""
    try:
        host.send(request)
    except HubError as error:
        emit(Answer(request.id, error=error))


if __name__ == "__main__":
    main()
