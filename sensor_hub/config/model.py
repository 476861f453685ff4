"""The configuration as the rest of the hub sees it: frozen, typed, complete, valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum
from pathlib import Path

from sensor_hub.errors import Problem
from sensor_hub.readings import Json

BRIDGE = "mqtt-bridge"  # the program, and the file of its queues


class Handler(StrEnum):
    """Which service owns a device, by the contract's word in `GET /devices`."""

    SERIAL = "serial"
    HTTP = "http_poller"


class Parallelism(StrEnum):
    """Where a line is driven: in one thread with others of the service, in one of its own, in a process of its own.

    `auto`: a service's only line in its own process, several in a process each.
    """

    AUTO = "auto"
    SINGLE = "single"
    THREAD = "thread"
    PROCESS = "process"


class WriteChecks(StrEnum):
    """What is checked before a command is sent on a line that may be written (`write` in the configuration).

    `full` ("true"): the device holds what its configuration allows (most of it), so does the property now, and so
    will it. `relaxed`: the last two. `unsafe`: that the value can be encoded.
    """

    FULL = "true"
    RELAXED = "relaxed"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """The broker and how to talk to it. `password` never appears in a repr."""

    host: str
    port: int
    base_topic: str
    client_prefix: str
    username: str | None
    password: str | None = field(repr=False)
    qos: int = 1
    retain: bool = True
    keepalive_s: int = 60
    tls: bool = False
    ca_cert: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """Whether devices are announced to Home Assistant, and below which topic it looks for them."""

    discovery: bool = False
    prefix: str = "homeassistant"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One supervised Flask service: its program name, its port and where others reach it."""

    name: str
    port: int
    url: str
    port_is_set: bool  # by hand (.env, file, environment, command line): used or refused, never moved


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """One line: a serial port, a Modbus TCP host, or one HTTP endpoint.

    `options` are for the driver, which validates them; `path` is where they stand (`config.transports[0]`).
    """

    transport_id: str
    driver: str
    url: str
    handler: Handler
    path: str
    options: Mapping[str, Json] = field(default_factory=dict)
    read_interval_s: float = 5.0
    timeout_s: float = 0.5
    write: bool = False  # may commands be sent on this line at all
    write_checks: WriteChecks = WriteChecks.FULL
    parallelism: Parallelism = Parallelism.AUTO
    reconnect_backoff_s: float = 1.0
    reconnect_timeout_s: float = 0.0  # 0: try for ever
    bridge: Sequence[str] = ("mqtt",)
    device_name: str = ""
    manufacturer: str = ""
    model: str = ""
    serial_number: str = ""
    emulated: bool = False
    register_maps: Path | None = None  # the users' folder of device definitions; may not exist


@dataclass(frozen=True, slots=True)
class SensorConfig:
    """One device on a line. `options` are for the line's driver, which validates them.

    `lenient`: from the platform's `devices` list, where unknown keys are ignored instead of refused.
    """

    sensor_id: str
    sensor_type: str
    friendly_name: str
    transport_id: str
    handler: Handler
    path: str
    interval_s: float
    stale_after_s: float
    options: Mapping[str, Json] = field(default_factory=dict)
    model: str = ""
    enabled: bool = True
    emulated: bool = False
    lenient: bool = False
    bridge: Sequence[str] = ("mqtt",)


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """One way out beside MQTT. `options` are for its type, which validates them."""

    output_id: str
    output_type: str
    path: str
    options: Mapping[str, Json] = field(default_factory=dict)
    enabled: bool = True
    parallelism: Parallelism = Parallelism.PROCESS  # or THREAD, of the bridge's process
    queue_entries: int = 1_000_000
    queue_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Devices that are commanded together."""

    group_id: str
    devices: Sequence[str]


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """What the device emulator must provide for this instance.

    `scenario` is JSON for the emulator program (see docs/emulator.md); it says where each device lives.
    """

    port: int
    scenario: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One instance, fully resolved."""

    instance_id: str
    connector_type: str
    enabled: bool
    root: Path  # $IOT2MQTT_PATH
    update_interval_s: float
    cache_ttl_s: float
    poll_interval_s: float
    log_level: str
    log_format: str
    timezone: tzinfo
    service_host: str
    mqtt: MqttConfig
    services: Mapping[str, ServiceConfig]  # keys serial-handler, http-poller, state-aggregator
    transports: Sequence[TransportConfig]
    sensors: Sequence[SensorConfig]
    groups: Sequence[GroupConfig]
    data_dir: Path  # for what must last; may not exist
    journal_entries: int
    journal_bytes: int
    queue_entries: int  # of the MQTT output's queue
    queue_bytes: int
    emulator: EmulatorConfig | None = None
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
    outputs: Sequence[OutputConfig] = ()

    def sensor(self, sensor_id: str) -> SensorConfig | None:
        """The sensor of that id, or None."""
        return next((s for s in self.sensors if s.sensor_id == sensor_id), None)


@dataclass(frozen=True, slots=True)
class Setting:
    """One resolved setting and where its value came from (default, .env, file, environment, command line)."""

    name: str
    value: str  # secrets as ***
    origin: str


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of reading a configuration: every problem found, and the config when there is none."""

    config: HubConfig | None
    problems: Sequence[Problem]
    settings: Sequence[Setting]
    warnings: Sequence[Problem] = ()
