"""Talking to the instance's supervisord: states of its programs, stopping them, its own log lines."""

from __future__ import annotations

import http.client
import re
import socket
import xmlrpc.client
from xml.parsers.expat import ExpatError

from supervisor.xmlrpc import Faults

from sensor_hub import runtime

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (CRIT|ERRO|WARN|INFO|DEBG|TRAC|BLAT) (.*)")
_LEVELS = {"CRIT": "critical", "ERRO": "error", "WARN": "warning"}  # all else tells of the usual
_USUAL = re.compile(r"received SIG\w+ indicating exit request|stopped: \S+ \(terminated by SIGTERM\)")
_FAILED_START = re.compile(r"spawnerr: |gave up: ")  # supervisord means these to be of level INFO
# The socket is in a directory of mode 0700: no password protects it better.
_NO_NEWS = "running without any HTTP authentication checking"
ANSWER_WITHIN_S = 5.0


class SupervisorFaultError(OSError):
    """supervisord answered no; `code` is one of its Faults."""

    def __init__(self, fault: xmlrpc.client.Fault) -> None:
        super().__init__(fault.faultString)
        self.code = fault.faultCode


def program_states(instance_id: str, within_s: float = ANSWER_WITHIN_S) -> dict[str, str]:
    """supervisord's word for each program (RUNNING, BACKOFF, …). Raises OSError when it does not answer."""
    found = _call(instance_id, "getAllProcessInfo", within_s=within_s)
    if not isinstance(found, list):
        raise OSError("supervisord sent no list")
    return {info["name"]: info["statename"] for info in found}


def stop_programs(instance_id: str, first: str) -> None:
    """Stop `first` and wait for it, then all others side by side. Raises OSError."""
    try:
        _call(instance_id, "stopProcess", first, True, within_s=None)
    except SupervisorFaultError as fault:
        if fault.code != Faults.NOT_RUNNING:  # it is stopped already, or between two attempts
            raise
    _call(instance_id, "stopAllProcesses", False)


def own_line(line: str) -> tuple[str, str] | None:
    """Level and text when a line is supervisord's own; the level is empty when it is not worth telling."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    if _NO_NEWS in match[2]:
        return "", match[2]
    if _FAILED_START.match(match[2]):
        return "error", match[2]
    return ("debug" if _USUAL.fullmatch(match[2]) else _LEVELS.get(match[1], "debug")), match[2]


def _call(
    instance_id: str, method: str, *arguments: object, within_s: float | None = ANSWER_WITHIN_S
) -> object:
    transport = _Transport(str(runtime.run_dir(instance_id) / "supervisor.sock"), within_s)
    server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
    try:
        return getattr(server.supervisor, method)(*arguments)
    except xmlrpc.client.Fault as fault:
        raise SupervisorFaultError(fault) from fault
    except (xmlrpc.client.Error, http.client.HTTPException, ExpatError) as error:
        raise OSError(str(error)) from error


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket. supervisor's own waits for ever for a supervisord that hangs."""

    def __init__(self, path: str, within_s: float | None) -> None:
        super().__init__()
        self._path, self._within_s = path, within_s

    def make_connection(self, _: object) -> http.client.HTTPConnection:
        """Connect to the socket, whatever the host."""
        return _Connection(self._path, self._within_s)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, within_s: float | None) -> None:
        super().__init__("localhost", timeout=within_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
