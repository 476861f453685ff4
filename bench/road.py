"""`python -m bench road`: how long a value takes from wire to topic, and what the road costs, against the bare parts.

Starts a real broker (mosquitto if there is one, else the embedded), a real hub and an HTTP server whose values
change with every request. All figures are ratios of things measured in the same run: the machine's own speed
cancels out.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import requests
from paho.mqtt.enums import CallbackAPIVersion

from bench.programs import BIN, broker, cpu_s, instance, program, wait_for

SENSORS = 20
INTERVAL_S = 0.5
RUN_S = 20.0


class Devices(ThreadingHTTPServer):
    """Answers every request with a number never given before, and remembers when."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.served: dict[int, float] = {}

    def next_value(self) -> int:
        """Count one more, and note the time."""
        with self.lock:
            number = len(self.served) + 1
            self.served[number] = time.monotonic()
            return number


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Devices)
        body = json.dumps({"value": self.server.next_value()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Print the table."""
    devices = Devices()
    threading.Thread(target=devices.serve_forever, daemon=True).start()
    with broker() as port, tempfile.TemporaryDirectory() as folder:
        arrivals, witness = watch(port)
        round_trip_s = bare_round_trip_s(port)
        bare_cpu_s = bare_cpu_per_reading_s(devices, port)
        devices.served.clear()
        with hub(Path(folder), devices.server_port, port) as process:
            wait_for(lambda: len(arrivals) > SENSORS, 30)
            arrivals.clear()
            devices.served.clear()
            before = cpu_s(family(process))
            time.sleep(RUN_S)
            used = cpu_s(family(process)) - before
            served, seen = dict(devices.served), dict(arrivals)
        witness.loop_stop()
    settled = {n: at for n, at in served.items() if at < max(served.values()) - 1}
    delays = sorted(seen[n] - at for n, at in settled.items() if n in seen)
    median, p95 = statistics.median(delays), delays[int(len(delays) * 0.95)]
    print(f"{SENSORS} HTTP devices polled every {INTERVAL_S:g} s for {RUN_S:g} s, every reading a new value")
    print(f"readings that reached their topic       {len(delays) / len(settled):.3f} of those taken")
    print(f"wire to topic, median                   {median / round_trip_s:.1f} x a bare broker round trip")
    print(f"wire to topic, 95th percentile          {p95 / round_trip_s:.1f} x a bare broker round trip")
    print(
        f"CPU per reading, all processes          {used / len(served) / bare_cpu_s:.1f} x one bare GET and PUBLISH"
    )


@contextmanager
def hub(folder: Path, devices_port: int, broker_port: int) -> Iterator[psutil.Process]:
    """A hub that polls the devices."""
    sensors = [
        {"sensor_id": f"s{n}", "sensor_type": "generic", "url": f"http://127.0.0.1:{devices_port}/{n}"}
        for n in range(SENSORS)
    ]
    own = instance(folder, {"poll_interval": INTERVAL_S, "sensors": sensors})
    with program(
        [BIN / "sensor-hub", "run"], **own, MQTT_HOST="127.0.0.1", MQTT_PORT=str(broker_port)
    ) as process:
        yield process


def watch(port: int) -> tuple[dict[int, float], mqtt.Client]:
    """Arrival time (monotonic) by value, of everything the hub publishes."""
    arrivals: dict[int, float] = {}

    def take(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        arrivals.setdefault(int(message.payload), time.monotonic())

    client = connected(port)
    client.on_message = take
    client.subscribe("bench/v1/instances/+/devices/+/state/value", qos=1)
    return arrivals, client


def bare_round_trip_s(port: int) -> float:
    """Median of PUBLISH to arrival through the same broker, QoS 1, two clients."""
    back, times = threading.Event(), []
    listener, sender = connected(port), connected(port)
    listener.on_message = lambda *_: back.set()
    listener.subscribe("bench/echo", qos=1)
    time.sleep(0.2)
    for _ in range(200):
        back.clear()
        started = time.monotonic()
        sender.publish("bench/echo", "x", qos=1)
        back.wait(5)
        times.append(time.monotonic() - started)
        time.sleep(0.005)
    for client in (listener, sender):
        client.loop_stop()
    return statistics.median(times)


def bare_cpu_per_reading_s(devices: Devices, port: int) -> float:
    """CPU time of one GET and one PUBLISH in a loop without a hub (its own HTTP server's share included)."""
    client, session, count = connected(port), requests.Session(), 300
    before = time.process_time()
    for _ in range(count):
        body = session.get(f"http://127.0.0.1:{devices.server_port}/", timeout=5).json()
        client.publish("bench/bare", json.dumps(body), qos=1)
    used = time.process_time() - before
    client.loop_stop()
    return used / count


def family(process: psutil.Process) -> list[psutil.Process]:
    """It and all that it started."""
    return [process, *process.children(recursive=True)]


def connected(port: int) -> mqtt.Client:
    """A client with its loop running."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client
