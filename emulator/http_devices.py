"""The emulated HTTP motion detectors, and the web server that they are on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from emulator import logs
from emulator.control_guard import refusal
from emulator.control_models import HoldMotion
from emulator.control_routes import body_of
from emulator.faults import Faults
from emulator.http_faults import STUCK, FailingPolls
from emulator.motion_device import MotionDevice

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

DEVICES_PATH = "/sensors/"


def create_app(devices: Mapping[str, MotionDevice], own_names: Collection[str] = ()) -> Flask:
    """Make the detectors' web server, all of them in one. `own_names`: by which it may be called, besides the usual."""
    app = Flask("emulator")

    @app.before_request
    def guard() -> None:
        why = refusal(request.environ, own_names, is_poll=request.endpoint == poll.__name__)
        if why is not None:
            abort(403, why)

    @app.get(f"{DEVICES_PATH}<sensor_id>")
    def poll(sensor_id: str) -> tuple[Response, int]:
        if sensor_id not in devices:
            return _error(404, f"no sensor {sensor_id}")
        return jsonify(devices[sensor_id].read(stuck=bool(request.environ.get(STUCK)))), 200

    @app.post(f"{DEVICES_PATH}<sensor_id>/motion")
    def force(sensor_id: str) -> tuple[Response, int]:
        if sensor_id not in devices:
            return _error(404, f"no sensor {sensor_id}")
        active = body_of(HoldMotion).active
        if active is None:
            devices[sensor_id].release("motion_detected")
        else:
            devices[sensor_id].set("motion_detected", active)
        return jsonify({"sensor_id": sensor_id, "active": active}), 200

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[Response, int]:
        response, status = _error(error.code or 500, error.description or error.name)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(error.valid_methods or ())
        return response, status

    return app


def _error(status: int, message: str) -> tuple[Response, int]:
    return jsonify({"error": message}), status


class QuietHandler(WSGIRequestHandler):
    """werkzeug's, without a line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        """Without an answer there is no next request either."""
        self.close_connection = True


class WebServer:
    """An app on a port, in a thread of its own between `start` and `stop`."""

    def __init__(
        self, host: str, port: int, app: Flask, faults: Faults, devices: Mapping[str, MotionDevice]
    ) -> None:
        """`faults`: those of all polls; each device has its own besides."""
        self._host, self._port = host, port
        self._faults, self._devices = faults, devices
        self._stopping = threading.Event()
        self._app = FailingPolls(app, self._faults_of, self._stopping)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return web_url(self._host, self._port)

    def start(self) -> None:
        """Listen; OSError when the port cannot be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # our own socket: werkzeug would end the process when the port is taken
        with socket.create_server((self._host, self._port), family=family, backlog=128) as listener:
            self._server = make_server(
                self._host,
                self._port,
                self._app,
                threaded=True,
                request_handler=QuietHandler,
                fd=listener.fileno(),
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )
        self._thread.start()
        logs.event("web server up", url=self.url, sensors=",".join(self._devices))

    def stop(self) -> None:
        """Drop held polls and close the port."""
        self._stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout=0.5)
            self._server.server_close()

    def _faults_of(self, path: str) -> tuple[Faults, ...]:
        device = self._devices.get(path.removeprefix(DEVICES_PATH)) if path.startswith(DEVICES_PATH) else None
        return () if device is None else (device.faults, self._faults)


def web_url(host: str, port: int) -> str:
    """The address of a web server, as in a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
