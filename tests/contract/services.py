"""Real parts for the contract tests of REST: devices, endpoints, and our services around them.

Services run as the real app in a threaded server of the test process (`in_process`) or under gunicorn as in
production (`under_gunicorn`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import requests
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from werkzeug.serving import WSGIRequestHandler, make_server

from sensor_hub import config
from sensor_hub.config.model import HubConfig
from sensor_hub.drivers import check_options
from sensor_hub.web import HubFlask
from services.http_poller.app import create_app as create_http_poller
from services.serial_handler.app import create_app as create_serial_handler
from services.state_aggregator.app import create_app as create_state_aggregator
from tests.support import eventually
from tests.support import free_ports as free_ports

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
NOBODY = 9  # a port on which nobody listens
APPS: Mapping[str, Callable[[HubConfig | None], HubFlask]] = {
    "serial-handler": create_serial_handler,
    "http-poller": create_http_poller,
    "state-aggregator": create_state_aggregator,
}
READ_COILS, READ_HOLDING, READ_INPUT = 1, 3, 4
WRITE_COIL, WRITE_HOLDING = 5, 6
T = TypeVar("T")


def at_the_same_time(count: int, work: Callable[[int], T]) -> list[T]:
    """`work(0..count-1)`, all started together."""
    gate = threading.Barrier(count)

    def one(number: int) -> T:
        gate.wait(60)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# -- devices -------------------------------------------------------------------------------------------------------


class Plc:
    """A Modbus TCP server of pymodbus with several units.

    `inputs[unit][address]` is what it measures; `holding` and `coils` are what was written to it.
    `asked` counts requests by unit and function code. A unit in `asleep` answers when it is woken.
    """

    def __init__(self, units: tuple[int, ...] = (1,), port: int = 0) -> None:
        self.inputs: dict[int, dict[int, int]] = {unit: {} for unit in units}
        self.holding: dict[int, dict[int, int]] = {unit: {} for unit in units}
        self.coils: dict[int, dict[int, bool]] = {unit: {} for unit in units}
        self.asked: Counter[tuple[int, int]] = Counter()
        self.asleep: set[int] = set()
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(units,), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    @property
    def url(self) -> str:
        return f"tcp://{HOST}:{self.port}"

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _run(self, units: tuple[int, ...]) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(units))
        self._loop.run_forever()
        self._loop.run_until_complete(self._server.shutdown())  # type: ignore[no-untyped-call]

    async def _listen(self, units: tuple[int, ...]) -> None:
        self._server = ModbusTcpServer([self._device(unit) for unit in units], address=(HOST, self.port))
        assert await self._server.listen()
        listener: Any = self._server.transport
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()

    def _device(self, unit: int) -> SimDevice:
        bits = [SimData(0, count=32, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=50, values=0, datatype=DataType.REGISTERS)]

        async def access(
            function: int, _start: int, address: int, _count: int, registers: list[int], values: Any
        ) -> None:
            if function in (WRITE_COIL, WRITE_HOLDING) and values is None:
                return  # the second call, after the writing
            self.asked[unit, function] += 1
            while unit in self.asleep:
                await asyncio.sleep(0.02)
            if function == READ_INPUT:
                for place, value in self.inputs[unit].items():
                    registers[place] = value
            elif function == READ_HOLDING:
                for place, value in self.holding[unit].items():
                    registers[place] = value
            elif function == WRITE_HOLDING:
                self.holding[unit][address] = values[0]
            elif function == WRITE_COIL:
                self.coils[unit][address] = values[0]

        return SimDevice(unit, simdata=(bits, bits, words, words), action=access)


@contextmanager
def plc(units: tuple[int, ...] = (1,), port: int = 0) -> Iterator[Plc]:
    server = Plc(units, port)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class Reply:
    """What an endpoint answers; `hangs`: not before the test ends."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False


class Endpoints:
    """A web server whose paths answer what the test says; counts requests and keeps the bodies sent to it."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: Counter[str] = Counter()
        self.got: list[tuple[str, str, Any]] = []
        self.headers: dict[str, dict[str, str]] = {}
        self._let_go = threading.Event()
        endpoints = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                endpoints._answer(self)

            do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 1024
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that went away is no news."""

        self._server = Server((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked[request.path] += 1
        self.headers[request.path] = dict(request.headers)
        length = int(request.headers.get("Content-Length", 0))
        if length:
            self.got.append((request.command, request.path, json.loads(request.rfile.read(length))))
        reply = self.replies.get(request.path, Reply({"error": "no such path"}, 404))
        if reply.hangs:
            self._let_go.wait(400)
            request.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        request.send_response(reply.status)
        for name, value in reply.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def endpoints() -> Iterator[Endpoints]:
    server = Endpoints()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def emulator(hub: HubConfig, tmp_path: Path) -> Iterator[None]:
    """The emulator program with what the configuration asks of it."""
    assert hub.emulator is not None
    path = tmp_path / "emulator.json"
    path.write_text(json.dumps(hub.emulator.scenario))
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", str(path)],
        cwd=ROOT,
        stdout=(tmp_path / "emulator.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: "emulator ready" in (tmp_path / "emulator.log").read_text(), 60)
        yield
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(f"/tmp/sensor-hub-{hub.instance_id}", ignore_errors=True)


# -- our services --------------------------------------------------------------------------------------------------


class Instance:
    """An instance's configuration, on ports that were free a moment ago."""

    def __init__(self, tmp_path: Path, content: Mapping[str, Any], **environment: str) -> None:
        self.instance_id = f"t{uuid4().hex[:8]}"
        root = tmp_path / self.instance_id
        (root / "instances").mkdir(parents=True)
        document = {"instance_id": self.instance_id, "connector_type": "sensor-hub", "config": dict(content)}
        (root / "instances" / f"{self.instance_id}.json").write_text(json.dumps(document))
        serial, http, aggregator, emulated = free_ports(4)
        self.environment = {
            "INSTANCE_NAME": self.instance_id,
            "IOT2MQTT_PATH": str(root),
            "SERIAL_HANDLER_PORT": str(serial),
            "HTTP_POLLER_PORT": str(http),
            "STATE_AGGREGATOR_PORT": str(aggregator),
            "EMULATOR_PORT": str(emulated),
            "EMULATOR_ERROR_RATE": "0",
            **environment,
        }
        self.hub = config.load(self.environment, check_options=check_options)

    def api(self, service: str) -> Api:
        return Api(f"http://{HOST}:{self.hub.services[service].port}")


class Api:
    """A service as `curl` sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        return requests.request(method, self.url + path, **kwargs)

    def get(self, path: str) -> dict[str, Any]:
        response = self.ask("GET", path)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        response = self.ask("POST", path, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def error(self, method: str, path: str, **kwargs: Any) -> tuple[int, str]:
        """Status and code of an error answer, whose form is checked."""
        response = self.ask(method, path, **kwargs)
        assert response.headers["Content-Type"].startswith("application/json"), response.text
        body = response.json()
        assert {"error", "message", "timestamp"} <= body.keys()
        assert body["message"]
        return response.status_code, body["error"]

    def error_or_none(self, path: str) -> tuple[int, str] | None:
        """Status and code of the answer to a GET, None for a good one."""
        response = self.ask("GET", path)
        return None if response.ok else (response.status_code, response.json()["error"])

    def readings(self, id_key: str = "sensor_id") -> dict[str, dict[str, Any]]:
        return {entry[id_key]: entry for entry in self.get("/readings")["readings"]}

    def health_took_s(self, times: int = 5) -> float:
        """Until `/health` answered with 200; of several times the middle one, as a machine may pause."""
        took_s = []
        for _ in range(times):
            began = time.monotonic()
            assert self.ask("GET", "/health").status_code == 200
            took_s.append(time.monotonic() - began)
        return statistics.median(took_s)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/health", timeout=20).status_code in (200, 503)
        except requests.RequestException:
            return False


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def in_process(instance: Instance, service: str) -> Iterator[Api]:
    """The service's real app in a threaded server of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    app = APPS[service](instance.hub)
    root.handlers[:], root.level = handlers, level  # the app sends the logs of its process to stdout
    if not any(isinstance(each, logging.NullHandler) for each in handlers):
        root.addHandler(logging.NullHandler())  # what its threads say after the last test is for nobody
    port = instance.hub.services[service].port
    server = make_server(HOST, port, app, threaded=True, request_handler=_QuietHandler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield instance.api(service)
    finally:
        app.close()
        server.shutdown()
        server.server_close()


class Gunicorn:
    """The service as supervisord starts it."""

    def __init__(self, instance: Instance, service: str) -> None:
        self.api = instance.api(service)
        package = service.replace("-", "_")
        bind = f"{HOST}:{instance.hub.services[service].port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "services/gunicorn.conf.py", "--name", service]
            + ["--bind", bind, f"services.{package}.app:create_app()"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **instance.environment},
            start_new_session=True,  # so that it can be killed with its worker
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: self.api.answers() or self.process.poll() is not None, 60)
            assert self.process.poll() is None
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait(30)

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def under_gunicorn(instance: Instance, service: str) -> Iterator[Gunicorn]:
    running = Gunicorn(instance, service)
    try:
        yield running
    finally:
        running.kill()
