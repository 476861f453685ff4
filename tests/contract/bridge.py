"""A whole hub around the real bridge process: real services, a real broker, and devices that a test sets."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from sensor_hub import config, runtime
from sensor_hub.config.model import HubConfig
from sensor_hub.drivers import check_options
from sensor_hub.web import HubFlask
from services.http_poller import app as http_poller
from services.serial_handler import app as serial_handler
from services.state_aggregator import app as state_aggregator
from tests.broker import Message, Mosquitto, Witness, free_port, mosquitto
from tests.contract.devices import HttpDevices, ModbusDevice
from tests.support import eventually

ROOT = Path(__file__).resolve().parents[2]
STANDIN = ROOT / "tests/platform_standin"
CLIENTS = ("bundled", "platform")
_FACTORIES: Mapping[str, Callable[[HubConfig], HubFlask]] = {
    "serial-handler": serial_handler.create_app,
    "http-poller": http_poller.create_app,
    "state-aggregator": state_aggregator.create_app,
}


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


class Services:
    """The three Flask services of one instance, in this process, each stopped and started at will."""

    def __init__(self, hub: HubConfig) -> None:
        self._hub = hub
        self._running: dict[str, tuple[HubFlask, BaseWSGIServer]] = {}

    def start(self, name: str) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        app = _FACTORIES[name](self._hub)
        root.handlers[:] = handlers  # what set_up did is for a process of its own
        root.setLevel(level)
        port = self._hub.services[name].port
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._running[name] = app, server

    def stop(self, name: str) -> None:
        app, server = self._running.pop(name)
        server.shutdown()
        server.server_close()
        app.close()

    def reload(self, environ: Mapping[str, str]) -> None:
        """Start all with the instance file as it is now."""
        self._hub = config.load(environ, check_options=check_options)
        for name in _FACTORIES:
            self.start(name)

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)


@dataclass
class Hub:
    """What a test holds in its hands."""

    client: str
    instance_id: str
    port: int  # of the broker
    directory: Path
    environ: dict[str, str]
    http: HttpDevices
    plc: ModbusDevice
    services: Services
    witness: Witness
    devices: tuple[str, ...]  # the enabled ones
    broker: Mosquitto | None = None
    bridge: subprocess.Popen[bytes] | None = None
    _logs: list[Path] = field(default_factory=list)
    _started_at: float = 0.0

    @property
    def prefix(self) -> str:
        return f"IoT2mqtt/v1/instances/{self.instance_id}"

    @property
    def log(self) -> str:
        """All that the bridge has written since its last start."""
        return self._logs[-1].read_text(encoding="utf-8", errors="replace")

    def topic(self, rest: str) -> str:
        return f"{self.prefix}/{rest}"

    # -- the bridge's life

    def start_bridge(self, program: str = "import mqtt_bridge; mqtt_bridge.main()") -> None:
        """Start it; does not wait for anything."""
        path = self.directory / f"bridge-{len(self._logs)}.log"
        self._logs.append(path)
        self._started_at = self.now()
        with path.open("wb") as log:
            self.bridge = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                env=self.environ,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )

    def online(self, within_s: float = 60) -> None:
        """Return when the bridge has connected and said everything it says on connecting.

        That is not yet the states of devices: they are said when they have been read.
        """
        eventually(lambda: "connected to the broker" in self.log, within_s)
        self.witness.wait_for(self.topic("meta/info"), within_s, after_s=self._started_at)

    def settled(self) -> dict[str, bytes]:
        """What the broker retains when each enabled device is there with its state and all of its properties."""
        return eventually(self._all_is_told, 60)

    def _all_is_told(self) -> dict[str, bytes]:
        found = self.retained()
        for device_id in self.devices:
            where = f"devices/{device_id}/state"
            if where not in found or found.get(f"devices/{device_id}/availability") != b"online":
                return {}
            names = json.loads(found[where])["state"].keys() - {"timestamp", "sensor_id", "device_id"}
            if sum(topic.startswith(f"{where}/") for topic in found) < len(names):
                return {}
        return found if found.keys() >= {"status", "meta/info", "meta/devices_list"} else {}

    def end_bridge(self, how: signal.Signals = signal.SIGTERM) -> int:
        bridge, self.bridge = self.bridge, None
        assert bridge is not None
        bridge.send_signal(how)
        try:
            return bridge.wait(30)
        except subprocess.TimeoutExpired:
            bridge.kill()
            bridge.wait(5)
            raise

    # -- talking to it

    def send(self, rest: str, payload: bytes | str | object, **how: Any) -> None:
        raw = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        self.witness.publish(self.topic(rest), raw, **how)

    def answers(self, where: str, cmd_id: object) -> list[dict[str, Any]]:
        """All answers so far to `cmd_id` on `devices/lamp` or `groups/heating`."""
        found = [json.loads(m.payload) for m in self.witness.seen(self.topic(f"{where}/cmd/response"))]
        return [body for body in found if same(body["cmd_id"], cmd_id)]

    def all_answers(self, where: str, cmd_id: object, count: int) -> list[dict[str, Any]]:
        """The answers to `cmd_id` when there are `count`."""
        eventually(lambda: len(self.answers(where, cmd_id)) >= count)
        found = self.answers(where, cmd_id)
        assert len(found) == count
        return found

    def answer_of(self, device_id: str, cmd_id: object) -> dict[str, Any]:
        """The answer to `cmd_id`, however often it came: a repetition is the same."""
        found = eventually(lambda: self.answers(f"devices/{device_id}", cmd_id), 30)
        assert all(body == found[0] for body in found)
        return found[0]

    def ask(self, where: str, body: Mapping[str, Any], within_s: float = 30.0) -> dict[str, Any]:
        """Send a command (with a new id unless it has one) and return its first answer."""
        full = {"id": f"c-{uuid.uuid4()}", **body}
        self.send(f"{where}/cmd", full)
        return eventually(lambda: self.answers(where, full["id"]), within_s)[0]

    def command(self, device_id: str, values: object, **more: Any) -> dict[str, Any]:
        return self.ask(f"devices/{device_id}", {"values": values, **more})

    def next(
        self,
        rest: str,
        accept: Callable[[Any], bool] = lambda _: True,
        after_s: float = 0.0,
        within_s: float = 30.0,
    ) -> Any:
        """The first message on a topic whose parsed payload is accepted."""
        topic = self.topic(rest)

        def fits(message: Message) -> bool:
            return message.topic == topic and accept(parsed(message.payload))

        return parsed(self.witness.wait_for(fits, within_s, after_s=after_s).payload)

    def told(self, rest: str, after_s: float) -> list[Message]:
        """What came, but for what says a new quality only: on a busy machine a value may be old for a moment."""
        news, before = list[Message](), dict[str, dict[str, Any]]()
        for message in self.witness.seen(self.topic(rest)):
            if message.topic.endswith("/state"):
                now = parsed(message.payload)["state"]
                then = before.get(message.topic, {})
                before[message.topic] = now
                if now.get("quality") != then.get("quality") and lasting(now) == lasting(then):
                    continue
            if message.time_s > after_s and not message.topic.endswith("/state/quality"):
                news.append(message)
        return news

    def retained(self, rest: str = "#") -> dict[str, bytes]:
        """What the broker retains below the prefix: topic without it -> payload."""
        found = self.witness.retained(self.topic(rest))
        return {topic.removeprefix(self.prefix + "/"): payload for topic, payload in found.items()}

    def now(self) -> float:
        """A mark for `after_s`."""
        return time.monotonic()


def lasting(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state without what each reading has anew, and what a busy machine changes."""
    return {name: value for name, value in state.items() if name not in ("timestamp", "quality")}


def since_then(moment: datetime) -> Callable[[Any], bool]:
    """Accepts what has no earlier timestamp: what is kept for the broker may arrive later than a test thinks."""
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)  # as timestamps are
    return lambda body: datetime.fromisoformat(body["timestamp"]) >= whole


def same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")


def instance(instance_id: str, http: HttpDevices, plc: ModbusDevice, **changes: Any) -> dict[str, Any]:
    """The instance file of the contract tests; `changes` replace keys of it."""

    def http_sensor(sensor_id: str, kind: str, **more: Any) -> dict[str, Any]:
        url = http.url(sensor_id)
        patience = {"timeout_s": 10, "stale_after": 60}  # a busy machine is no failure
        return {"sensor_id": sensor_id, "sensor_type": kind, "url": url, **patience, **more}

    def write(path: str, **kind: Any) -> dict[str, Any]:
        return {"url": http.url(path), "body": {"value": "{value}"}, **kind}

    setpoint = {"table": "holding", "address": 10, "scale": 0.1, "unit": "°C", "write": True}
    setpoint |= {"min": 30, "max": 75, "step": 0.5}
    config_keys: dict[str, Any] = {
        "poll_interval": 0.2,
        "transports": [
            {"transport_id": "plc", "driver": "modbus_tcp", "url": f"tcp://127.0.0.1:{plc.port}"}
            | {"read_interval": 0.2, "timeout_s": 5, "write": True},
            {"transport_id": "locked", "driver": "modbus_tcp", "url": f"tcp://127.0.0.1:{plc.port}"}
            | {"read_interval": 1, "timeout_s": 5, "write": False},
        ],
        "sensors": [
            {"sensor_id": "cellar", "sensor_type": "temperature", "transport": "plc"}
            | {"friendly_name": "Cellar", "model": "T1", "stale_after": 60}
            | {"register": {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1}},
            {"sensor_id": "boiler", "sensor_type": "generic", "transport": "plc", "stale_after": 60}
            | {
                "properties": {
                    "setpoint": setpoint,
                    "pump": {"table": "coil", "address": 0, "write": True},
                    "flow": {"table": "input", "address": 5},
                }
            },
            {"sensor_id": "meter", "sensor_type": "generic", "transport": "locked", "stale_after": 60}
            | {"properties": {"reset": {"table": "coil", "address": 3, "write": True}}},
            http_sensor("yard", "motion"),
            http_sensor("plain", "generic"),
            http_sensor("flaky", "generic", timeout_s=2, stale_after=3),
            http_sensor(
                "lamp",
                "generic",
                fields={"on": "on"},
                commands={
                    "on": write("lamp/on", kind="boolean"),
                    "level": write("lamp/level", kind="number", min=0, max=100),
                    "note": write("lamp/note"),
                },
            ),
            http_sensor("slow", "generic", commands={"on": write("slow/on")}, timeout_s=20),
            http_sensor("odd", "generic", fields={name: path for path, name in odd_fields()}),
            http_sensor("off", "generic", enabled=False),
        ],
        "groups": [
            {"group_id": "both", "devices": ["boiler", "lamp"]},
            {"group_id": "half", "devices": ["lamp", "plain", "off"]},
            {"group_id": "none", "devices": ["plain"]},
            {"group_id": "pumps", "devices": ["boiler"]},
        ],
    }
    return {
        "instance_id": instance_id,
        "connector_type": "sensor-hub",
        "update_interval": 3600,
        "config": {**config_keys, **changes.pop("config", {})},
        **changes,
    }


ODD_FIELDS = (
    "g\ufffeh",
    "true",
    "false",
    "number",
    "whole",
    "null",
    "object",
    "list",
    "empty",
    "text",
    "a/b",
    "c+d",
    "e#f",
)


def odd_fields() -> list[tuple[str, str]]:
    """Path in the answer and name of the property: names with / + # stand under plain paths."""
    return [(f"f{index}", name) for index, name in enumerate(ODD_FIELDS)]


def odd_values(**values: Any) -> dict[str, Any]:
    """What the device `odd` must answer so that its properties have these values (the rest is 0)."""
    return {path: values.get(name, 0) for path, name in odd_fields()}


def defaults(http: HttpDevices, plc: ModbusDevice) -> None:
    plc.words |= {1: 215, 10: 450, 5: 7}
    plc.bits |= {0: False, 3: False}
    http.values |= {
        "yard": {"motion_detected": False, "battery_level": 90},
        "plain": {"value": 1},
        "flaky": {"value": 5},
        "lamp": {"on": False},
        "slow": {"value": 0},
        "odd": odd_values(),
    }


@contextmanager
def running_hub(
    client: str = "bundled",
    *,
    start: bool = True,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
    broker_lines: tuple[str, ...] = (),
    witness_login: Mapping[str, str] | None = None,
    **changes: Any,
) -> Iterator[Hub]:
    """Everything up; `port` is that of a broker that runs already. All of it ends with the context."""
    instance_id = f"t{uuid.uuid4().hex[:8]}"
    run_dir = runtime.run_dir(instance_id)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-")))
        broker = None
        if port is None:
            broker = stack.enter_context(mosquitto(config_lines=broker_lines))
            port = broker.port
        http = stack.enter_context(HttpDevices())
        plc = stack.enter_context(ModbusDevice())
        defaults(http, plc)
        (directory / "instances").mkdir()
        path = directory / "instances" / f"{instance_id}.json"
        path.write_text(json.dumps(instance(instance_id, http, plc, **changes)), encoding="utf-8")
        full = {
            "INSTANCE_NAME": instance_id,
            "IOT2MQTT_PATH": str(directory),
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": str(port),
            "SERIAL_HANDLER_PORT": str(free_port()),
            "HTTP_POLLER_PORT": str(free_port()),
            "STATE_AGGREGATOR_PORT": str(free_port()),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([*([str(STANDIN)] if client == "platform" else []), str(ROOT)]),
            **(environ or {}),
        }
        hub_config = config.load(full, check_options=check_options)
        stack.callback(structlog.configure, **structlog.get_config())
        services = Services(hub_config)
        stack.callback(services.stop_all)
        for name in _FACTORIES:
            services.start(name)
        run_dir.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        witness = stack.enter_context(Witness(port, **(witness_login or {})))
        devices = tuple(sensor.sensor_id for sensor in hub_config.sensors if sensor.enabled)
        hub = Hub(client, instance_id, port, directory, full, http, plc, services, witness, devices, broker)

        def end() -> None:
            if hub.bridge is not None:
                hub.bridge.kill()
                hub.bridge.wait(5)

        stack.callback(end)
        if start:
            hub.start_bridge()
            hub.online()
        yield hub
