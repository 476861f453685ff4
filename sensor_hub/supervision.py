"""Talking to the instance's supervisord: states of its programs, stopping them, its own log lines."""

from __future__ import annotations

import re
import xmlrpc.client
from xml.parsers.expat import ExpatError

from supervisor.xmlrpc import SupervisorTransport

from sensor_hub import runtime

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (CRIT|ERRO|WARN|INFO|DEBG|TRAC|BLAT) (.*)")
_LEVELS = {"CRIT": "critical", "ERRO": "error", "WARN": "warning", "INFO": "info"}
# The socket is in a directory of mode 0700: no password protects it better.
_NO_NEWS = "running without any HTTP authentication checking"


def program_states(instance_id: str) -> dict[str, str]:
    """supervisord's word for each program (RUNNING, BACKOFF, …). Raises OSError when it does not answer."""
    found = _call(instance_id, "getAllProcessInfo")
    if not isinstance(found, list):
        raise OSError("supervisord sent no list")
    return {info["name"]: info["statename"] for info in found}


def stop_programs(instance_id: str, first: str) -> None:
    """Stop `first` and wait for it, then all others side by side. Raises OSError."""
    _call(instance_id, "stopProcess", first, True)
    _call(instance_id, "stopAllProcesses", False)


def own_line(line: str) -> tuple[str, str] | None:
    """Level and text when a line is supervisord's own; the level is empty when it is not worth telling."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    return ("" if _NO_NEWS in match[2] else _LEVELS.get(match[1], "debug")), match[2]


def _call(instance_id: str, method: str, *arguments: object) -> object:
    socket = runtime.run_dir(instance_id) / "supervisor.sock"
    transport = SupervisorTransport(None, None, f"unix://{socket}")
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        return getattr(server.supervisor, method)(*arguments)
    except (xmlrpc.client.Error, ExpatError) as error:
        raise OSError(str(error)) from error
