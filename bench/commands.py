"""How long a command takes at the serial-handler, over HTTP, while it reads in the background."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import requests

from bench import figures
from bench.bus import Bus, emulator, pymodbus_client
from bench.programs import BIN, free_port, instance, program, wait_for

COMMANDS = 200
INTERVAL_S = 0.5
PAUSE_MAX_S = 0.06
BARE = 60


def commands(folder: Path) -> None:
    """Round trips of a write that is read back, in bare transactions on the same line."""
    bus = Bus(folder / "cmd", 19200)
    busy = bus.units * bus.fastest_s / INTERVAL_S
    figures.heading(
        f"commands at the handler (HTTP; written, then read back), 19200 baud paced, {bus.units} units read every "
        f"{INTERVAL_S:g} s, which takes {busy:.0%} of the line"
    )
    with emulator(folder, [bus]):
        bare_s = _bare_write_s(bus)
        port = free_port()
        environment = {**instance(folder, _config(bus)), "SERIAL_HANDLER_PORT": str(port)}
        gunicorn: list[str | Path] = [
            BIN / "gunicorn",
            "-c",
            "services/gunicorn.conf.py",
            "--name",
            "serial-handler",
        ]
        where = ["--bind", f"127.0.0.1:{port}", "services.serial_handler.app:create_app()"]
        with program([*gunicorn, *where], **environment), requests.Session() as session:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _is_healthy(f"{url}/health"), 40)
            http_s = statistics.median(
                _timed(lambda: session.get(f"{url}/health", timeout=5)) for _ in range(40)
            )
            times = [_command_s(session, url, bus, number) for number in range(COMMANDS)]
            line = session.get(f"{url}/transports", timeout=5).json()["transports"][0]
    p50, p99 = figures.percentile(times, 0.5), figures.percentile(times, 0.99)
    figures.row("one bare write with pymodbus, in what the wire takes", f"{bare_s / _wire_s(bus):.2f}")
    figures.row(f"command, median of {COMMANDS}, in bare writes", f"{p50 / bare_s:.1f}")
    figures.row("command, 99th percentile, in bare writes", f"{p99 / bare_s:.1f}")
    figures.row("of that HTTP (GET /health, median)", f"{http_s / bare_s:.2f}")
    figures.row(
        "background readings that failed, of all",
        f"{line['counters']['errors']} of {line['counters']['reads']}",
    )
    figures.row(
        "turns missed meanwhile; the line's utilisation", f"{line['missed_turns']}; {line['utilisation']:.2f}"
    )


def _config(bus: Bus) -> dict[str, object]:
    transport = {
        "transport_id": "bus",
        "driver": "modbus_rtu",
        "url": str(bus.path),
        "baudrate": bus.baudrate,
        "read_interval": INTERVAL_S,
        "write": True,
    }
    sensors = [
        {
            "sensor_id": f"u{unit}",
            "sensor_type": "generic",
            "transport": "bus",
            "unit_id": unit,
            **bus.options,
        }
        for unit in range(1, bus.units + 1)
    ]
    return {"transports": [transport], "sensors": sensors}


def _bare_write_s(bus: Bus) -> float:
    with pymodbus_client(bus) as client:
        return statistics.median(
            _timed(lambda: client.write_register(0, 1, device_id=1)) for _ in range(BARE)
        )


def _wire_s(bus: Bus) -> float:
    """Request and answer of a write, and the silence between them."""
    return 16 * bus.character_s + bus.silence_s


def _command_s(session: requests.Session, url: str, bus: Bus, number: int) -> float:
    time.sleep(random.uniform(0, PAUSE_MAX_S))
    target = f"{url}/sensor/u{number % bus.units + 1}/command"
    body = {"id": f"bench-{number}", "values": {f"p{number % 25}": number}}
    began = time.monotonic()
    answer = session.post(target, json=body, timeout=10).json()
    took_s = time.monotonic() - began
    if answer.get("outcome") != "verified":
        raise SystemExit(f"a command failed: {answer}")
    return took_s


def _timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _is_healthy(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=2).json()["status"] == "healthy")
    except (OSError, KeyError, ValueError):
        return False
