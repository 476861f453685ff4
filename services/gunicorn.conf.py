"""How gunicorn runs each service. Address and name come from supervisord.conf on the command line.

One worker: a serial port and a board have one owner. Threads, because followers wait in requests (up to
96 of them, see board.py) while others must be answered. The worker is ours, see web_worker.py.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from datetime import datetime
from types import FrameType
from typing import Any

import gunicorn.util  # type: ignore[import-untyped]

from sensor_hub import logs, ports, wire
from sensor_hub.errors import ConfigError, InvalidCommand
from sensor_hub.startup import configured, end_with
from services.web_worker import Worker

workers = 1
worker_class = Worker
threads = 160
keepalive = 75  # longer than a follower's wait, so that its connection is used again
graceful_timeout = 1
timeout = 60
_MEMORY = "/dev/shm"  # noqa: S108 - for gunicorn's heartbeat file; a disk may stall, memory does not
worker_tmp_dir = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
control_socket_disable = True
accesslog = None
PORT_FREE_WITHIN_S = 0.5  # for a predecessor's worker that is just ending
logconfig_dict = {  # everything to the root logger, which `on_starting` turns into the hub's lines
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "WARNING", "handlers": []},
    "loggers": {
        "gunicorn.error": {"level": "WARNING", "handlers": [], "propagate": True},
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
    },
}


def on_starting(server: Any) -> None:
    """Log as the service does from the first line on; refuse in JSON what is not even HTTP."""
    hub = configured(server.cfg.proc_name)
    # a worker that ends so has told its problems, and would only tell them again
    server.APP_LOAD_ERROR = ConfigError.exit_code

    def refuse(sock: socket.socket, status: int, reason: str, message: str) -> None:
        error = wire.error_body(InvalidCommand(message or reason), datetime.now(hub.timezone))
        body = wire.dumps(error) + "\n"
        head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        data = f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        gunicorn.util.write_nonblock(sock, data.encode())

    gunicorn.util.write_error = refuse  # gunicorn has no setting for its HTML page
    for host, port in server.cfg.address:
        _refuse_a_taken_port(host, port)


def _refuse_a_taken_port(host: str, port: int) -> None:
    """End at once. gunicorn would try for 5 s, which supervisord takes for a start that went well."""
    deadline = time.monotonic() + PORT_FREE_WITHIN_S
    while not ports.is_free(host, port):
        if time.monotonic() > deadline:
            who = ports.listener(port)
            logs.get(__name__).critical("the port has been taken by somebody else", port=port, holder=who)
            raise SystemExit(1)
        time.sleep(0.1)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """No worker outlives its master: it would keep the port."""
    end_with(worker.ppid)


def post_worker_init(worker: Any) -> None:
    """On SIGTERM let waiting followers go and lines close while gunicorn waits for its threads."""
    handle_exit = signal.getsignal(signal.SIGTERM)

    def close_and_exit(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=worker.wsgi.close, daemon=True).start()
        if callable(handle_exit):
            handle_exit(number, frame)

    signal.signal(signal.SIGTERM, close_and_exit)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Do not wait for request threads that a silent device still holds. A worker that never started keeps its code."""
    if worker.booted:
        os._exit(0)
