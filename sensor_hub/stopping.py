"""The end of a hub: signals, the order of stopping, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time

import psutil

from sensor_hub import logs, supervision
from sensor_hub.config.model import BRIDGE

log = logs.get(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# after SIGTERM; then what is left is killed. The contract allows 8 s, a busy machine needs some of them.
STOP_WITHIN_S = 6.5
BROKER = "sensor_hub.embedded_broker"  # killed last: it says the wills of those that hung
LAST_WILLS_S = 1.0
ORPHANS_S = 3.0  # for programs without a launcher to end by themselves
_PR_SET_CHILD_SUBREAPER = 36


class StopOnSignal:
    """On the first SIGTERM, SIGINT or SIGHUP: bridge first, then all, and what is left after STOP_WITHIN_S is ended."""

    def __init__(self, instance_id: str) -> None:
        """Take the signals from now on."""
        self._asked = threading.Event()
        self._instance_id = instance_id
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # and stays so
        self.signals = [number for number in STOP_SIGNALS if not (nohup and number == signal.SIGHUP)]
        for number in self.signals:
            signal.signal(number, self._stop)

    def watch_over(self, supervisord_pid: int) -> None:
        """From now on there is somebody to tell (a signal may have come before).

        The threads for that start now: when the signal comes, there may be no room for one.
        """
        for name, work in (("stop", self._stop_in_order), ("stop-in-time", self._stop_in_time)):
            threading.Thread(target=work, args=(supervisord_pid,), name=name, daemon=True).start()

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked.is_set()

    def _stop(self, *_: object) -> None:
        if not self.asked:
            self._asked.set()

    def _stop_in_time(self, _: int) -> None:
        self._asked.wait()
        time.sleep(STOP_WITHIN_S)
        _kill_descendants(but=BROKER)  # supervisord too: `end_what_is_left` goes on from here
        time.sleep(LAST_WILLS_S + 0.1)
        _kill_descendants()

    def _stop_in_order(self, supervisord_pid: int) -> None:
        self._asked.wait()
        try:
            supervision.stop_programs(self._instance_id, first=BRIDGE)
        except FileNotFoundError:
            pass  # it has started nothing yet
        except OSError as error:
            log.warning("supervisord does not take orders", reason=str(error))
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisord_pid, signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of programs whose supervisord was killed, so that they can be ended and reaped."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_until_gone(child: subprocess.Popen[bytes]) -> None:
    """Wait for supervisord; as the parent of all orphans (PID 1 in a container) reap whatever ends before."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return


def end_what_is_left() -> None:
    """Nothing of ours lives on; what was born meanwhile goes too."""
    brokers = _kill_descendants(but=BROKER)
    if brokers:
        killed = [each for each in psutil.Process().children(recursive=True) if each not in brokers]
        psutil.wait_procs(killed, timeout=LAST_WILLS_S)  # until then they are still connected to it
    for broker in brokers:
        with contextlib.suppress(psutil.NoSuchProcess):
            broker.terminate()
    psutil.wait_procs(brokers, timeout=LAST_WILLS_S)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        _kill_descendants()
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return


def _kill_descendants(but: str = "") -> list[psutil.Process]:
    """Kill all but those that have this word in their command line; returns these."""
    spared: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if but and but in process.cmdline():
                spared.append(process)
            else:
                process.kill()
    return spared


def end_session(leader_pid: int) -> None:
    """End what is left of a supervisord's session: itself at once, so that it restarts nothing, then the rest.

    For the guard, when the launcher is gone: supervisord cannot write its log any more and dies of that, alone.
    """
    if os.getsid(0) != leader_pid:
        return  # not started by our launcher: others live in this session
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader_pid, signal.SIGKILL)
    left = [process for process in psutil.process_iter() if _in_session(process.pid, leader_pid)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=ORPHANS_S)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _in_session(pid: int, leader_pid: int) -> bool:
    try:
        return pid not in {os.getpid(), leader_pid} and os.getsid(pid) == leader_pid
    except OSError:
        return False
