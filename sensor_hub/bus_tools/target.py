"""Which line is meant: a URL or a configured transport, how its characters are sent, and who else has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sensor_hub import config, runtime
from sensor_hub.bus_tools.exchange import Bus, SerialBus, TcpBus
from sensor_hub.clients import HandlerClient
from sensor_hub.config.model import TransportConfig
from sensor_hub.drivers.modbus_settings import RtuSettings, tcp_address
from sensor_hub.drivers.serial_port import serial_url_problem
from sensor_hub.errors import ConfigError, HubError, TransportDown
from sensor_hub.readings import Json

_PROC = Path("/proc")
_IN_USE = "in use"  # serial_port's words for a port that somebody has locked
SERIAL_KEYS = ("baudrate", "bytesize", "parity", "stopbits")


class BadTarget(ValueError):
    """What was typed names no line that can be asked; the message says what does."""


@dataclass(frozen=True, slots=True)
class Target:
    """A line. `options`: what is known of its characters; `transport_id`: what its configuration calls it."""

    url: str
    is_tcp: bool
    transport_id: str = "bus0"
    options: Mapping[str, Json] = field(default_factory=dict)
    timeout_s: float = 0.5

    @property
    def has_settings(self) -> bool:
        """Whether baud rate and parity are ours to choose: behind tcp:// and socket:// a gateway has its own."""
        return not self.is_tcp and not self.url.startswith("socket:")

    def settings(self, **given: Any) -> RtuSettings:
        """How characters are sent: as given here, else as configured. Raises BadTarget."""
        options = {key: value for key, value in self.options.items() if key in SERIAL_KEYS}
        options |= {key: value for key, value in given.items() if value is not None}
        try:
            return RtuSettings.model_validate(options)
        except ValidationError as error:
            item = error.errors()[0]
            where = ".".join(map(str, item["loc"]))
            raise BadTarget(f"{where}: {str(item['msg']).removeprefix('Value error, ')}") from None

    def open(self, settings: RtuSettings, timeout_s: float, delay_s: float) -> Bus:
        """Open the line. Raises TransportDown with the reason, and with who has it if that is known."""
        try:
            if self.is_tcp:
                return TcpBus(*tcp_address(self.url), timeout_s, delay_s)
            return SerialBus(self.url, settings, delay_s)
        except TransportDown as error:
            holder = holder_of(self.url) if _IN_USE in str(error) else ""
            raise TransportDown(f"{error}; {holder} has it open" if holder else str(error)) from None

    def transport_json(self, settings: RtuSettings) -> dict[str, Json]:
        """The entry of `transports` for it."""
        entry: dict[str, Json] = {
            "transport_id": self.transport_id,
            "driver": "modbus_tcp" if self.is_tcp else "modbus_rtu",
            "url": self.url,
        }
        if self.has_settings:
            entry |= {"baudrate": settings.baudrate, "parity": settings.parity, "stopbits": settings.stopbits}
            if settings.bytesize != 8:
                entry["bytesize"] = settings.bytesize
        return entry


def target_of(text: str, environ: Mapping[str, str]) -> Target:
    """The line that is meant by a URL, by a transport's id, or by nothing where there is only one.

    `environ` says which instance's configuration counts. Raises BadTarget, ConfigError.
    """
    if "/" in text:
        return _of_url(text)
    if not environ.get("INSTANCE_NAME"):
        if ":" in text:  # host:port
            return _of_url(text)
        what = f"{text!r} is no URL; for a transport's id" if text else "no URL; for a configured transport"
        raise BadTarget(f"{what}, say the instance: INSTANCE_NAME or --instance before the command")
    known = {line.transport_id: line for line in _configured(environ) if line.driver.startswith("modbus_")}
    if text in known:
        return _of_transport(known[text])
    if not text and len(known) == 1:
        return _of_transport(next(iter(known.values())))
    if ":" in text:
        return _of_url(text)
    names = f"Modbus transports are {', '.join(known)}" if known else "it has no Modbus transport"
    raise BadTarget(f"{text!r} is no URL and no transport of {environ['INSTANCE_NAME']}; {names}")


def _configured(environ: Mapping[str, str]) -> list[TransportConfig]:
    report = config.read(environ)
    if report.config is None:
        raise ConfigError(report.problems)
    return [line for line in report.config.transports if not line.emulated]


def _of_transport(line: TransportConfig) -> Target:
    is_tcp = line.driver == "modbus_tcp"
    return Target(line.url, is_tcp, line.transport_id, line.options, line.timeout_s)


def _of_url(url: str) -> Target:
    if "://" not in url and not url.startswith("/"):
        url = f"tcp://{url}"
    is_tcp = url.startswith("tcp:")
    if is_tcp:
        try:
            tcp_address(url)
        except ValueError as error:
            raise BadTarget(f"url {error}") from None
        return Target(url, is_tcp, "plc")
    problem = serial_url_problem(url)
    if problem:
        raise BadTarget(f"url {problem} or tcp://host[:502]")
    return Target(url, is_tcp)


def owner_of(url: str) -> tuple[str, str] | None:
    """The running instance that has this line in its configuration, and what it calls it."""
    for instance_id in runtime.running_instances():
        running = runtime.read_instance(instance_id)
        base = running.urls.get("serial-handler") if running is not None else None
        if base is None:
            continue
        try:
            listed = HandlerClient(base, instance_id).get("/transports", timeout_s=2.0).get("transports")
        except HubError:
            continue  # it is starting or ending; the lock of the port tells
        for line in listed if isinstance(listed, list) else []:
            if isinstance(line, dict) and _same(str(line.get("url")), url):
                return instance_id, str(line.get("transport_id"))
    return None


def _same(one: str, other: str) -> bool:
    if one.startswith("/") and other.startswith("/"):
        return os.path.realpath(one) == os.path.realpath(other)
    return one.rstrip("/") == other.rstrip("/")


def holder_of(url: str) -> str:
    """The program that has this device open, like `minicom (pid 4711)`; empty: nobody whom we may know of."""
    if not url.startswith("/"):
        return ""
    device = os.path.realpath(url)
    for process in _PROC.iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if any(os.path.realpath(link) == device for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # it has ended, or is somebody else's
    return ""
