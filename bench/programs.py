"""Programs that a measurement starts, and what they use of the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STOPS_WITHIN_S = 20


@contextmanager
def program(command: list[str | Path], **environment: str) -> Iterator[psutil.Process]:
    """Run it in the checkout; SIGTERM at the end."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def broker() -> Iterator[int]:
    """A broker on a free port: mosquitto if there is one, else the embedded."""
    port = free_port()
    mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    embedded = [
        sys.executable,
        "-m",
        "sensor_hub.embedded_broker",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [mosquitto, "-p", str(port)] if mosquitto else embedded,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: accepts(port), 10)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def instance(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Write an instance file below the folder; the environment of a hub that is this instance."""
    instance_id = f"bench_{uuid.uuid4().hex[:8]}"
    (folder / "instances").mkdir()
    text = json.dumps({"instance_id": instance_id, "connector_type": "sensor-hub", "config": config})
    (folder / "instances" / f"{instance_id}.json").write_text(text)
    return {"INSTANCE_NAME": instance_id, "IOT2MQTT_PATH": str(folder), "MQTT_BASE_TOPIC": "bench"}


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """User and system time of those that are alive."""
    total = 0.0
    for one in processes:
        times = one.cpu_times()
        total += times.user + times.system
    return total


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    """Poll until true."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the bench could not start its parts")
        time.sleep(0.02)
