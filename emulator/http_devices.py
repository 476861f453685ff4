"""The emulated HTTP motion detectors."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from emulator import logs
from emulator.motion import MotionModel
from emulator.scenario import Http

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOLD_S = 8.0  # longer than a client waits


class MotionDevices:
    """The detectors by sensor id, safe to ask from several threads."""

    def __init__(self, models: Mapping[str, MotionModel], now: Callable[[], datetime]) -> None:
        """`now` is the aware wall time."""
        self._models, self._now = models, now
        self._lock = threading.Lock()

    def __contains__(self, sensor_id: object) -> bool:
        return sensor_id in self._models

    def read(self, sensor_id: str) -> dict[str, bool | float]:
        """Return what the detector answers to a poll."""
        with self._lock:
            return asdict(self._models[sensor_id].at(self._now()))

    def force(self, sensor_id: str, active: bool | None) -> None:
        """See MotionModel.force."""
        with self._lock:
            self._models[sensor_id].force(active)


def create_app(devices: MotionDevices) -> Flask:
    """Make the detectors' web server, all of them in one."""
    app = Flask("emulator")

    @app.get("/sensors/<sensor_id>")
    def poll(sensor_id: str) -> tuple[Response, int]:
        if sensor_id not in devices:
            return _error(404, f"no sensor {sensor_id}")
        return jsonify(devices.read(sensor_id)), 200

    @app.post("/sensors/<sensor_id>/motion")
    def force(sensor_id: str) -> tuple[Response, int]:
        if sensor_id not in devices:
            return _error(404, f"no sensor {sensor_id}")
        body = request.get_json(force=True)
        if not isinstance(body, dict) or not isinstance(body.get("active", ...), bool | None):
            return _error(400, '"active" must be true, false or null')
        devices.force(sensor_id, body["active"])
        return jsonify({"sensor_id": sensor_id, "active": body["active"]}), 200

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[Response, int]:
        return _error(error.code or 500, error.description or error.name)

    return app


def _error(status: int, message: str) -> tuple[Response, int]:
    return jsonify({"error": message}), status


class FailingPolls:
    """Before the app: holds a share of the polls without an answer, then drops their connection."""

    def __init__(
        self,
        app: WSGIApplication,
        rate: float,
        chance: random.Random,
        stopping: threading.Event,
        hold_s: float = HOLD_S,
    ) -> None:
        self._app, self._rate, self._chance = app, rate, chance
        self._stopping, self._hold_s = stopping, hold_s
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as WSGI wants it, or not at all."""
        if environ["REQUEST_METHOD"] == "GET" and self._is_due():
            self._stopping.wait(self._hold_s)
            raise ConnectionAbortedError  # the one way to make werkzeug close without an answer
        return self._app(environ, start_response)

    def _is_due(self) -> bool:
        with self._lock:
            return self._chance.random() < self._rate


class QuietHandler(WSGIRequestHandler):
    """werkzeug's, without a line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class HttpDevices:
    """The web server of the scenario, running in a thread of its own between `start` and `stop`."""

    def __init__(self, http: Http, devices: MotionDevices, chance: random.Random) -> None:
        self._http = http
        self._stopping = threading.Event()
        self._app = FailingPolls(create_app(devices), http.error_rate, chance, self._stopping)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; OSError when the port cannot be had."""
        family = socket.AF_INET6 if ":" in self._http.host else socket.AF_INET
        # our own socket: werkzeug would end the process when the port is taken
        with socket.create_server((self._http.host, self._http.port), family=family, backlog=128) as listener:
            self._server = make_server(
                self._http.host,
                self._http.port,
                self._app,
                threaded=True,
                request_handler=QuietHandler,
                fd=listener.fileno(),
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )
        self._thread.start()
        logs.event(
            "http devices up",
            url=f"http://{self._http.host}:{self._http.port}",
            sensors=",".join(self._http.motion),
            error_rate=self._http.error_rate,
        )

    def stop(self) -> None:
        """Drop held polls and close the port."""
        self._stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout=0.5)
            self._server.server_close()
