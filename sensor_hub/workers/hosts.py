"""Where lines are driven: in a thread of this process, or in a process of their own. Both behave alike."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from sensor_hub.clock import Clock
from sensor_hub.errors import InvalidCommand, TransportDown
from sensor_hub.line_report import LineReport
from sensor_hub.workers.engine import LISTEN_SLICE_S, Engine
from sensor_hub.workers.messages import Control, LineSetup, Message, Request

Emit = Callable[[Message], None]
ENDS_WITHIN_S = 1.0  # how long a process that closes its connection may take to end
TAKES_WITHIN_S = 2  # how long a process may be deaf when its connection is full


class Host(ABC):
    """Drives lines until it is told to stop, or ends by itself."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process that drives them, if it runs."""

    @abstractmethod
    def run(self, emit: Emit) -> str:
        """Drive the lines in the calling thread; returns why it ended."""

    @abstractmethod
    def send(self, request: Request) -> None:
        """Hand over a request; its answer is emitted. Raises TransportDown, InvalidCommand. Thread-safe."""

    @abstractmethod
    def stop(self) -> None:
        """Let `run` return soon. Thread-safe, may be called before it and twice."""

    @abstractmethod
    def kill(self) -> None:
        """Do not wait for a device that hangs."""

    @abstractmethod
    def report(self, transport_id: str) -> LineReport | None:
        """What a line counted, if that is known without asking."""


class ThreadHost(Host):
    """Drives its lines in the thread that calls `run`, one turn after another."""

    def __init__(self, lines: Sequence[LineSetup], clock: Clock) -> None:
        self._clock = clock
        self._engines: dict[str, Engine] = {}
        self._todo = threading.Condition()
        self._stopping = False
        self._emit: Emit | None = None
        for setup in lines:
            engine = Engine(setup, setup.new_driver(), clock, self._told)
            self._engines[setup.transport.transport_id] = engine

    @property
    def pid(self) -> int:
        """Our own."""
        return os.getpid()

    def _told(self, message: Message) -> None:
        if self._emit is not None:
            self._emit(message)

    def run(self, emit: Emit) -> str:
        """Until `stop`; raises nothing that an engine does not let through."""
        self._emit = emit
        engines = list(self._engines.values())
        listen_s = LISTEN_SLICE_S if len(engines) == 1 else 0.0
        try:
            while not self._stopping:
                moments = [self._turn(engine, listen_s) for engine in engines]
                self._wait_until(min((each for each in moments if each is not None), default=None))
        finally:
            for engine in engines:
                engine.close(TransportDown("service is stopping"))
        return "it was told to stop"

    def _turn(self, engine: Engine, listen_s: float) -> float | None:
        """When (monotonic) it wants the next one."""
        wait_s = None if self._stopping else engine.turn(listen_s)
        return None if wait_s is None else self._clock.monotonic() + wait_s

    def _wait_until(self, moment: float | None) -> None:
        seconds = None if moment is None else moment - self._clock.monotonic()
        if seconds is not None and seconds <= 0:
            return
        with self._todo:
            if not self._stopping and not any(engine.has_requests for engine in self._engines.values()):
                self._todo.wait(seconds)

    def send(self, request: Request) -> None:
        """Queue it."""
        with self._todo:
            if self._stopping:
                raise TransportDown("service is stopping")
            self._engines[request.transport_id].submit(request)
            self._todo.notify_all()

    def stop(self) -> None:
        """After the transaction under way."""
        with self._todo:
            self._stopping = True
            self._todo.notify_all()

    def kill(self) -> None:
        """A thread cannot be ended; it ends with its transaction."""

    def report(self, transport_id: str) -> LineReport:
        """The engine's."""
        return self._engines[transport_id].report()


@dataclass(frozen=True, slots=True)
class LogSetup:
    """How a process of ours logs: as its service does."""

    service: str
    level: str
    format: str
    zone: str


class ProcessHost(Host):
    """Drives its lines in a child process; what it has to say comes through a socket pair."""

    def __init__(self, lines: Sequence[LineSetup], log_setup: LogSetup) -> None:
        self._lines, self._log_setup = lines, log_setup
        self._sending = threading.Lock()
        self._stopping = self._killed = False
        self._ours: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def run(self, emit: Emit) -> str:
        """Until the child ends, for whatever reason."""
        try:
            connection, process = self._start()
        except OSError as error:
            return f"its process could not be started: {error}"
        try:
            self._introduce(connection)
            while True:
                emit(connection.recv())
        except (EOFError, OSError):
            pass  # the child is gone, or closes its end on the way out
        finally:
            code = _ended(process)
            with self._sending:
                self._ours = None
                connection.close()
        return "it was told to stop" if self._stopping else f"its process ended with {_word(code)}"

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        names = [setup.transport.transport_id for setup in self._lines]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", TAKES_WITHIN_S, 0))
            command = [
                sys.executable,
                "-m",
                "sensor_hub.workers.child",
                str(theirs.fileno()),
                str(os.getpid()),
            ]
            self._process = subprocess.Popen(
                [*command, *names],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                process_group=0,  # signals for the service's group are ours to handle: we tell it to stop
            )
            return Connection(ours.detach()), self._process

    def _introduce(self, connection: Connection) -> None:
        """Tell the child what it is for; from now on it takes requests."""
        connection.send(self._log_setup)
        connection.send(tuple(self._lines))
        with self._sending:
            self._ours = connection
            if self._stopping:
                connection.send(Control.STOP)
        if self._killed:
            self.kill()

    def send(self, request: Request) -> None:
        """Raises TransportDown when there is no process to take it, InvalidCommand for what cannot be handed over."""
        try:
            self._say(request)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise InvalidCommand(f"cannot be handed to a worker process: {error}"[:500]) from None

    def _say(self, word: Request | Control) -> None:
        with self._sending:
            if self._ours is None:
                raise TransportDown("its worker process is not running")
            try:
                self._ours.send(word)
            except OSError:
                # It has just ended; or it is deaf, and has perhaps got half of this: nothing can follow that.
                self.kill()
                raise TransportDown("its worker process takes no requests") from None

    def stop(self) -> None:
        """The child ends after the transaction under way."""
        self._stopping = True
        try:
            self._say(Control.STOP)
        except TransportDown:
            pass  # it has ended, or has not begun: then it is told when it does

    def kill(self) -> None:
        """End the child now."""
        self._killed = True
        process = self._process
        if process is not None:
            process.kill()

    def report(self, transport_id: str) -> None:
        """Only the child knows."""
        return


def _ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _word(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
