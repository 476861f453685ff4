"""Who does a job: the thread that calls `run`, or a process of its own. Both behave alike."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from sensor_hub.clock import Clock
from sensor_hub.crew.messages import Beat, Control, Request
from sensor_hub.errors import InvalidCommand, TransportDown

Emit = Callable[[Any], None]
ENDS_WITHIN_S = 1.0  # how long a process that closes its connection may take to end
STARTS_WITHIN_S = 300.0  # many that start at once on a slow machine take minutes to import what they need
TAKES_WITHIN_S = 2  # how long a process may be deaf when its connection is full


class Host(ABC):
    """Does a job until it is told to stop, or ends by itself."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process that does it, if it runs."""

    @abstractmethod
    def run(self, emit: Emit) -> str:
        """Do it in the calling thread; returns why it ended. `emit` gets answers and news."""

    @abstractmethod
    def send(self, request: Request) -> None:
        """Hand over a request; its answer is emitted. Raises TransportDown, InvalidCommand. Thread-safe."""

    @abstractmethod
    def stop(self) -> None:
        """Let `run` return soon. Thread-safe, may be called before it and twice."""

    @abstractmethod
    def kill(self) -> None:
        """Do not wait for what hangs (a thread cannot be ended)."""

    @abstractmethod
    def answer(self, request: Request) -> Any:
        """The result of an `at_once` request, beside the work; None where only another process knows it."""


class Job(Protocol):
    """What a process is started for; it pickles."""

    @property
    def names(self) -> tuple[str, ...]:
        """Words for people who look at the list of processes."""

    @property
    def patience_s(self) -> float | None:
        """A process that emits nothing for so long hangs, and is ended; None: it may be silent for ever.

        Before its first word it has more time.
        """

    def host(self, clock: Clock) -> Host:
        """Who does it there, in the process's main thread."""


@dataclass(frozen=True, slots=True)
class LogSetup:
    """How a process of ours logs: as its service does."""

    service: str
    level: str
    format: str
    zone: str


class ProcessHost(Host):
    """Has its job done by a child process; what that has to say comes through a socket pair."""

    def __init__(self, job: Job, log_setup: LogSetup) -> None:
        self._job, self._log_setup = job, log_setup
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
        hung = ""
        patience_s = None if self._job.patience_s is None else max(STARTS_WITHIN_S, self._job.patience_s)
        try:
            self._introduce(connection)
            while connection.poll(patience_s):
                message = connection.recv()
                if not isinstance(message, Beat):
                    emit(message)
                patience_s = self._job.patience_s
            hung = f"; it had said nothing for {patience_s:g} s"
            self.kill()
        except (EOFError, OSError):
            pass  # the child is gone, or closes its end on the way out
        finally:
            code = _ended(process)
            with self._sending:
                self._ours = None
                connection.close()
        return "it was told to stop" if self._stopping else f"its process ended with {_word(code)}{hung}"

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", TAKES_WITHIN_S, 0))
            command = [
                sys.executable,
                "-m",
                "sensor_hub.crew.child",
                str(theirs.fileno()),
                str(os.getpid()),
            ]
            self._process = subprocess.Popen(
                [*command, *self._job.names],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                process_group=0,  # signals for the service's group are ours to handle: we tell it to stop
            )
            return Connection(ours.detach()), self._process

    def _introduce(self, connection: Connection) -> None:
        """Tell the child what it is for; from now on it takes requests."""
        connection.send(self._log_setup)
        connection.send(self._job)
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

    def answer(self, request: Request) -> None:
        """Only the child knows."""


def _ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _word(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
