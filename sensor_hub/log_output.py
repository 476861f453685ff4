"""The hub's stdout: whoever has a line to say never waits for the one who reads it.

Stdout may be anything: a pipe that nobody empties, a full disk, a terminal that was closed. None of these stops
the hub. Only a reader that has left (a broken pipe, as in `sensor-hub run | head -1`) ends it, like any filter.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from sensor_hub import logs, supervision
from sensor_hub.stopping import STOP_SIGNALS

log = logs.get(__name__)

KEPT_BYTES = 4 * 1024 * 1024  # of lines that wait for the reader
LINE_BYTES = 64 * 1024  # a longer one is passed on in pieces
LAST_LINES_S = 1.0


class LogOutput(io.TextIOBase):
    """A text stream into a bounded queue, which a thread of its own empties into a file descriptor."""

    def __init__(self, descriptor: int, on_broken_pipe: Callable[[], None]) -> None:
        """Write to `descriptor` from now on; `on_broken_pipe` is called once, on the writing thread."""
        self._descriptor, self._on_broken_pipe = descriptor, on_broken_pipe
        self._state = threading.Condition(threading.RLock())  # a signal handler may log, too
        self._waiting: deque[bytes | int] = deque()  # texts; a number is how many did not fit in that place
        self._bytes, self._busy, self._broken = 0, False, False
        self._missed, self._cut = 0, False
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # they are the main thread's
        threading.Thread(target=self._run, name="log-output", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def write(self, text: str) -> int:
        """Take the text, or count it as dropped."""
        self.put(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def put(self, data: bytes) -> None:
        """Take these bytes, or count them as dropped."""
        with self._state:
            if self._bytes + len(data) <= KEPT_BYTES:
                self._waiting.append(data)
                self._bytes += len(data)
            elif self._waiting and isinstance(self._waiting[-1], int):
                self._waiting[-1] += 1
            else:
                self._waiting.append(1)
            self._state.notify_all()

    def drain(self, within_s: float) -> None:
        """Wait until all is written, but no longer than that."""
        with self._state:
            self._state.wait_for(lambda: not self._waiting and not self._busy, within_s)

    def _run(self) -> None:
        while True:
            with self._state:
                self._busy = False
                self._state.notify_all()
                self._state.wait_for(lambda: self._waiting)
                item, self._busy = self._waiting.popleft(), True
                self._bytes -= len(item) if isinstance(item, bytes) else 0
            if isinstance(item, int):
                self._missed += item
            else:
                self._deliver(item)

    def _deliver(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self._write(data)
        except BrokenPipeError:
            self._broken = True
            self._on_broken_pipe()
        except OSError:  # disk full, terminal gone: the next line may fit again
            self._missed += 1
        else:
            missed, self._missed = self._missed, 0
            if missed:
                log.warning("stdout did not take the log for a while", lines_dropped=missed)

    def _write(self, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._cut else data)
        while rest:
            try:
                count = os.write(self._descriptor, rest)
            except BlockingIOError:  # somebody has made it non-blocking
                select.select([], [self._descriptor], [])
                continue
            rest = rest[count:]
            self._cut = bool(rest)


@contextmanager
def log_output() -> Iterator[LogOutput]:
    """Everything that this process says on stdout goes through a LogOutput, for as long as the context lasts."""
    stdout = sys.stdout
    stdout.flush()
    output = LogOutput(stdout.fileno(), on_broken_pipe=lambda: os.kill(os.getpid(), signal.SIGTERM))
    sys.stdout = output
    try:
        yield output
    finally:
        output.drain(LAST_LINES_S)
        sys.stdout = stdout


def relay(lines: IO[bytes], output: LogOutput) -> None:
    """Pass on what supervisord and its programs say, until the last of them has closed the pipe."""
    with lines:
        for line in iter(lambda: lines.readline(LINE_BYTES), b""):
            own = supervision.own_line(line.decode(errors="replace").rstrip())
            if own is None:
                output.put(line)
            elif own[0]:
                getattr(log, own[0])(own[1], service="supervisord")
