"""The variables of the hub: one table, and how its values are layered.

built-in default < .env < instance file < environment < command line < mounted secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import TypeVar

from sensor_hub.config import values
from sensor_hub.config.model import Parallelism, Setting
from sensor_hub.config.problems import Problems
from sensor_hub.config.secrets import mask_url, protect
from sensor_hub.config.values import BadValueError, Parser, is_blank
from sensor_hub.readings import Json

Value = str | int | float | bool | Path | tzinfo | None
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: its name in the environment, what it takes and what it means.

    `parse` raises BadValueError with what is allowed; `default` is the parsed built-in value (None: none, or
    worked out from others as `default_text` says); `file_key` is its name in the instance file, if any.
    """

    name: str
    parse: Parser[Value]
    default: Value
    help: str
    takes: str = "text"  # for people: text, number, true|false, …
    default_text: str = ""
    file_key: str | None = None
    secret: bool = False

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.lower().replace("_", "-")

    @property
    def default_shown(self) -> str:
        """Its default as people read it."""
        return self.default_text or as_text(self.default)


def _number(name: str, default: float, low: float, high: float, help: str, file_key: str) -> Variable:
    takes = f"number, {low:g}..{high:g}"
    return Variable(name, values.number(low, high), default, help, takes, file_key=file_key)


def _integer(name: str, default: int, low: int, high: int, help: str) -> Variable:
    return Variable(name, values.integer(low, high), default, help, f"whole number, {low}..{high}")


def _flag(name: str, default: bool, help: str) -> Variable:
    return Variable(name, values.boolean, default, help, "true|false")


def _file(name: str, help: str) -> Variable:
    return Variable(name, values.readable_file, None, help, "existing file", "none")


def _port(name: str, default: int, service: str) -> Variable:
    return _integer(
        name, default, 1, 65535, f"port of the {service}; when unset, the first free block is taken"
    )


def _url(name: str, port: str, service: str) -> Variable:
    help = f"where others reach the {service}"
    return Variable(name, values.http_url, None, help, "URL", f"http://localhost:<{port}>")


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

SETTINGS: Sequence[Variable] = (
    Variable(
        "INSTANCE_NAME", values.identifier, None, "instance id: topic level and file name", "id", "required"
    ),
    Variable("CONNECTOR_TYPE", values.text, "sensor-hub", "name of the connector in meta/info"),
    Variable(
        "IOT2MQTT_PATH",
        values.path,
        None,
        "holds `instances/` and `.env`",
        "folder",
        "/app in the image, else the checkout",
    ),
    Variable("MQTT_HOST", values.host, "localhost", "broker", "host"),
    _integer("MQTT_PORT", 1883, 1, 65535, "port of the broker"),
    Variable("MQTT_USERNAME", values.verbatim, None, "user at the broker", default_text="none"),
    Variable("MQTT_PASSWORD", values.verbatim, None, "its password", default_text="none", secret=True),
    Variable("MQTT_BASE_TOPIC", values.topic, "IoT2mqtt", "root of every topic", "topic"),
    Variable("MQTT_CLIENT_PREFIX", values.text, "iot2mqtt", "client id is `<prefix>_<instance_id>`"),
    _integer("MQTT_QOS", 1, 0, 2, "QoS of states"),
    _flag("MQTT_RETAIN", True, "retain states"),
    _integer("MQTT_KEEPALIVE", 60, 1, 65535, "seconds between pings"),
    _flag("MQTT_TLS", False, "TLS to the broker"),
    _file("MQTT_CA_CERT", "certificates of trusted authorities (default: the system's)"),
    _file("MQTT_CLIENT_CERT", "own certificate; needs MQTT_CLIENT_KEY"),
    _file("MQTT_CLIENT_KEY", "its private key; needs MQTT_CLIENT_CERT"),
    _number("UPDATE_INTERVAL", 10.0, 1, 86400, "seconds between state publications", "update_interval"),
    _number(
        "CACHE_TTL", 10.0, 0, 3600, "seconds a reading is served from the aggregator's cache", "cache_ttl"
    ),
    _number("POLL_INTERVAL", 5.0, 0.2, 3600, "seconds between HTTP polls", "poll_interval"),
    Variable(
        "PARALLELISM",
        values.choice(tuple(Parallelism)),
        "auto",
        "what drives each line",
        "|".join(Parallelism),
        file_key="parallelism",
    ),
    Variable(
        "HA_DISCOVERY",
        values.boolean,
        False,
        "announce the devices to Home Assistant",
        "true|false",
        file_key="ha_discovery",
    ),
    Variable(
        "HA_DISCOVERY_PREFIX",
        values.topic,
        "homeassistant",
        "root of Home Assistant's discovery topics",
        "topic",
        file_key="ha_discovery_prefix",
    ),
    Variable(
        "DATA_DIR",
        values.path,
        None,
        "where the queues of outputs are kept, in a folder for each instance",
        "folder",
        "/data in the image, else data in IOT2MQTT_PATH",
    ),
    _integer(
        "JOURNAL_ENTRIES",
        20_000,
        100,
        1_000_000,
        "readings and faults each service keeps in memory for followers",
    ),
    _integer("JOURNAL_MIB", 16, 1, 1024, "memory they may take in each service, in MiB"),
    _integer(
        "QUEUE_ENTRIES",
        1_000_000,
        10,
        100_000_000,
        "events and errors that may wait for the broker, and a quarter of it telemetry; when full, the oldest go",
    ),
    _integer(
        "QUEUE_MIB",
        256,
        1,
        1_000_000,
        "room for events and errors on the disk, in MiB; telemetry may have a quarter of it beside",
    ),
    Variable("LOG_LEVEL", values.choice(_LEVELS), "INFO", "least severity that is logged", "|".join(_LEVELS)),
    Variable("LOG_FORMAT", values.choice(("text", "json")), "text", "form of log lines", "text|json"),
    Variable("TZ", values.time_zone, values.time_zone("UTC"), "zone of timestamps", "IANA zone"),
    _port("SERIAL_HANDLER_PORT", 5001, "serial handler"),
    _port("HTTP_POLLER_PORT", 5002, "HTTP poller"),
    _port("STATE_AGGREGATOR_PORT", 5003, "state aggregator"),
    _url("SERIAL_HANDLER_URL", "SERIAL_HANDLER_PORT", "serial handler"),
    _url("HTTP_POLLER_URL", "HTTP_POLLER_PORT", "HTTP poller"),
    _url("STATE_AGGREGATOR_URL", "STATE_AGGREGATOR_PORT", "state aggregator"),
    Variable(
        "SERVICE_HOST",
        values.host,
        "127.0.0.1",
        "where services listen; a single address is in their URLs",
        "host",
    ),
    Variable(
        "EMULATOR_ERROR_RATE",
        values.number(0, 1),
        None,
        "share of emulated reads that fail; `0` switches failures off",
        "number, 0..1",
        "serial 0.05, HTTP 0.03",
    ),
    Variable(
        "EMULATOR_SEED",
        values.integer(-(2**63), 2**63 - 1),
        None,
        "makes emulated values and failures repeatable",
        "whole number",
        "none: different each time",
    ),
    Variable(
        "EMULATOR_PORT",
        values.integer(1, 65535),
        None,
        "port of the device emulator: its HTTP devices, page and control API",
        "whole number, 1..65535",
        "the first free one from SERIAL_HANDLER_PORT + 3 on",
    ),
)

BY_NAME: Mapping[str, Variable] = {variable.name: variable for variable in SETTINGS}


@dataclass(frozen=True, slots=True)
class Given:
    """A value given for a variable at one level; `where` names it in problems, `note` adds the level."""

    name: str
    value: Json = field(repr=False)
    origin: str
    where: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The value of every variable after layering. `origins` holds those that some level set."""

    values: Mapping[str, Value] = field(repr=False)
    origins: Mapping[str, str]

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value, when it is one of `kind`; None when it has none."""
        value = self.values[name]
        return value if isinstance(value, kind) else None

    def known(self, name: str, kind: type[T]) -> T:
        """The value of a variable that always has one."""
        value = self.values[name]
        if not isinstance(value, kind):
            raise TypeError(f"{name} is no {kind.__name__}")
        return value

    def number(self, name: str) -> float:
        """The value of a number that always has one."""
        return float(self.known(name, float))

    def settings(self, derived: Mapping[str, str]) -> tuple[Setting, ...]:
        """Every variable with its value as text (secrets as ***) and its origin.

        `derived`: values of those whose default depends on others.
        """
        return tuple(
            Setting(variable.name, self._shown(variable, derived), self.origins.get(variable.name, "default"))
            for variable in SETTINGS
        )

    def _shown(self, variable: Variable, derived: Mapping[str, str]) -> str:
        value = self.values[variable.name]
        if value is None:
            return derived.get(variable.name, variable.default_shown)
        return "***" if variable.secret else mask_url(as_text(value))


def as_text(value: Value) -> str:
    """A setting's value as one would write it into the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def from_variables(given: Mapping[str, str], origin: str, note: str = "") -> list[Given]:
    """What a level that goes by variable names says about known variables."""
    return [
        Given(name, protect(given[name], secret=variable.secret), origin, name, note)
        for name, variable in BY_NAME.items()
        if name in given
    ]


def resolve(levels: Iterable[Given], problems: Problems) -> Resolved:
    """Layer the given values, lowest first. Each is validated, also when a later one replaces it."""
    found: dict[str, Value] = {variable.name: variable.default for variable in SETTINGS}
    origins: dict[str, str] = {}
    for given in levels:
        if is_blank(given.value):
            continue
        variable = BY_NAME[given.name]
        try:
            found[given.name] = variable.parse(given.value)
            origins[given.name] = given.origin
        except BadValueError as error:
            message = "cannot be used (its value is not shown)" if variable.secret else str(error)
            problems.add(given.where, message + given.note)
    return Resolved(found, origins)
