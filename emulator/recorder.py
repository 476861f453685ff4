"""`--record`: stands between a hub and a real line, passes everything on and writes down what passed."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from emulator import logs
from emulator.building import endpoint_of
from emulator.endpoints import Endpoint, GaveUpError
from emulator.line import MAX_WAITING_BYTES
from emulator.links import Link
from emulator.pacing import Speed
from emulator.precise_loop import new_loop
from emulator.ptys import PathTakenError
from emulator.real_port import Listener, RealPort
from emulator.reconnecting import Retries
from emulator.recording import FROM, TO, RecordingFile, head_of, without_user
from emulator.scenario import Line, Scenario


@dataclass(frozen=True, slots=True)
class Order:
    """What to record, and where to."""

    source: str
    to: Path
    max_bytes: int


def record(order: Order, scenario: Scenario) -> int:
    """Record until SIGTERM or SIGINT; the exit code. `scenario` has one line: the place that stands in."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_record(order, scenario.lines[0], datetime.now(scenario.zone)))


async def _record(order: Order, line: Line, begun_at: datetime) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()

    def end(error: Exception | None = None) -> None:
        if not ended.done():
            ended.set_result(error)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    speed = Speed(line.speed, line.parity, line.stopbits)
    head = head_of(order.source, speed.baudrate, line.parity, line.stopbits, begun_at)
    endpoint = endpoint_of(line)
    retries = Retries(line.reconnect_backoff_ms / 1000, line.reconnect_timeout_sec)
    with ExitStack() as stack:
        try:
            file = RecordingFile(order.to, head, order.max_bytes, loop.time)
            stack.callback(_end, file)
            # pyserial uses no user of a URL, but tells the URL in its messages
            port = partial(RealPort, without_user(order.source), speed, retries)
            tap = Tap(port, endpoint, file, end)
            stack.callback(endpoint.close)
            endpoint.open(tap, end)
            stack.callback(tap.port.close)
            tap.port.start()
        except FileExistsError:
            print(f"device-emulator: {order.to} exists: choose another name", file=sys.stderr)
            return 1
        except (PathTakenError, OSError) as error:
            print(f"device-emulator: cannot start: {error}", file=sys.stderr)
            return 1
        logs.event("recording", source=head.source, in_its_place=endpoint.place, to=order.to)
        why = await ended
    logs.event("recorded", pieces=file.pieces, to=order.to)
    if why is not None:
        print(f"device-emulator: {why}", file=sys.stderr)
        return 1
    return 0


def _end(file: RecordingFile) -> None:
    with suppress(OSError):  # the disk is full: who can read the file knows how it was cut off
        file.end("stopped")


class Tap:
    """Passes bytes between the clients of an endpoint and a port; as endpoints.Host."""

    def __init__(
        self,
        port: Callable[[Listener], RealPort],
        endpoint: Endpoint,
        file: RecordingFile,
        failed: Callable[[Exception], None],
    ) -> None:
        """`port`: makes the port; `failed` is told when it is given up, or nothing can be written."""
        self._endpoint, self._file, self._failed = endpoint, file, failed
        self._loop = asyncio.get_running_loop()
        self._waiting_bytes, self._paused = 0, set[Link]()
        self.port = port(Listener(self._heard, self._opened, self._lost, self._gave_up, self._went))

    def received(self, link: Link, data: bytes) -> None:
        """As endpoints.Host: what comes while the port is closed gets lost, as on a real line."""
        if self.port.is_open:
            self.port.write(data)
            self._write(partial(self._file.piece, TO, data, self._loop.time()))
            self._waiting_bytes += len(data)
            if self._waiting_bytes > MAX_WAITING_BYTES:
                link.pause()
                self._paused.add(link)

    def ended(self, link: Link) -> None:
        """As endpoints.Host."""
        self._paused.discard(link)

    # -- from the threads of the port ------------------------------------------------------------------------------

    def _heard(self, data: bytes, at: float) -> None:
        self._loop.call_soon_threadsafe(self._pass_on, data, at)

    def _went(self, size: int) -> None:
        self._loop.call_soon_threadsafe(self._let_come, size)

    def _opened(self) -> None:
        self._loop.call_soon_threadsafe(self._tell, "opened", None)

    def _lost(self, why: str) -> None:
        self._loop.call_soon_threadsafe(self._tell, "lost", why)

    def _gave_up(self, why: str) -> None:
        error = GaveUpError(f"gave up (reconnect_timeout_sec): {why}")
        self._loop.call_soon_threadsafe(self._failed, error)

    # -- in the loop -----------------------------------------------------------------------------------------------

    def _pass_on(self, data: bytes, at: float) -> None:
        for link in self._endpoint.links:
            link.write(data)
        self._write(partial(self._file.piece, FROM, data, at))

    def _let_come(self, size: int) -> None:
        self._waiting_bytes -= size
        if self._waiting_bytes <= MAX_WAITING_BYTES:
            for link in self._paused:
                link.resume()
            self._paused.clear()

    def _tell(self, event: str, why: str | None) -> None:
        facts = {} if why is None else {"why": why}
        logs.event(f"port {event}", **facts)  # type: ignore[arg-type]
        self._write(partial(self._file.event, event, why))

    def _write(self, write: Callable[[], None]) -> None:
        was_full = self._file.is_full
        try:
            write()
        except OSError as error:
            self._failed(OSError(f"cannot write the recording: {error}"))
            return
        if self._file.is_full and not was_full:
            logs.event(
                "recording is full, bytes go on passing", level=logging.WARNING, pieces=self._file.pieces
            )
