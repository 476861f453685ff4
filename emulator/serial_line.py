"""One emulated serial line: a pymodbus RTU server behind a pseudo-terminal.

    client -> its pty (stable link) -> requests sorted here -> the server's pty -> pymodbus
    client <- its pty               <- all bytes             <- the server's pty <- pymodbus

pymodbus opens a port by its path and cannot serve the end that we hold: hence two ptys with a pump between
them. The pump is also the place for what a line does wrong: swallowed requests, units that are not there.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer

from emulator import logs, ptys
from emulator.frames import RequestAssembler
from emulator.scenario import Line
from emulator.units import EmulatedUnit

READ_BYTES = 4096
MAX_PENDING_BYTES = 65536


class Pipe:
    """Carries bytes between two descriptors in order, without loss; waits while the far side is full."""

    def __init__(self, source: int, target: int, transform: Callable[[bytes], bytes]) -> None:
        """Both descriptors non-blocking."""
        self._loop = asyncio.get_running_loop()
        self._source, self._target, self._transform = source, target, transform
        self._pending = b""
        self._loop.add_reader(source, self._on_readable)

    def close(self) -> None:
        """Stop; the descriptors stay open."""
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._source, READ_BYTES)
        except BlockingIOError:
            return
        self._pending += self._transform(data)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._pending:
                written = os.write(self._target, self._pending)
                self._pending = self._pending[written:]
        except BlockingIOError:
            self._loop.add_writer(self._target, self._flush)
            if len(self._pending) > MAX_PENDING_BYTES:
                self._loop.remove_reader(self._source)
        else:
            self._loop.remove_writer(self._target)
            self._loop.add_reader(self._source, self._on_readable)


class SerialLine:
    """One line of the scenario, running between `start` and `stop`."""

    def __init__(self, line: Line, units: Mapping[int, EmulatedUnit], chance: random.Random) -> None:
        """`units` by unit id; `chance` decides which requests are swallowed."""
        self._line, self._units, self._chance = line, units, chance
        self._requests = RequestAssembler()
        self._answered = self._swallowed = 0
        self._front: ptys.Pty | None = None
        self._back: ptys.Pty | None = None
        self._pipes: list[Pipe] = []
        self._stop_server: Callable[[], Awaitable[None]] | None = None

    async def start(self) -> None:
        """Open the line and link it; PathTakenError or OSError when the link cannot be made."""
        loop = asyncio.get_running_loop()
        self._front, self._back = front, back = ptys.Pty(), ptys.Pty()
        if self._units:
            server = ModbusSerialServer(
                [unit.device() for unit in self._units.values()],
                framer=FramerType.RTU,
                port=back.name,
                baudrate=self._line.baudrate,
            )
            await server.serve_forever(background=True)
            self._stop_server = server.shutdown
        self._pipes = [
            Pipe(front.master, back.master, lambda data: self._sort(data, loop.time())),
            Pipe(back.master, front.master, lambda data: data),
        ]
        ptys.link(self._line.pty_path, front.name)
        units = ",".join(f"{unit.unit_id}:{unit.sensor_id}" for unit in self._line.units)
        logs.event(
            "line up", path=self._line.pty_path, tty=front.name, units=units, error_rate=self._line.error_rate
        )

    async def stop(self) -> None:
        """Take the line down and remove its link."""
        if self._front is None or self._back is None:
            return
        ptys.unlink(self._line.pty_path, self._front.name)
        for pipe in self._pipes:
            pipe.close()
        if self._stop_server is not None:
            await self._stop_server()
        self._front.close()
        self._back.close()
        logs.event("line down", path=self._line.pty_path, answered=self._answered, swallowed=self._swallowed)

    def _sort(self, data: bytes, now: float) -> bytes:
        """Pick the requests in `data` that reach a device: its unit exists and no failure is due."""
        passed = b""
        for frame in self._requests.feed(data, now):
            if frame[0] not in self._units:
                continue
            if self._chance.random() < self._line.error_rate:
                self._swallowed += 1
                continue
            self._answered += 1
            passed += frame
        return passed
