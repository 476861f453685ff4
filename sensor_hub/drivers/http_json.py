"""Devices that answer HTTP GET with JSON, and take commands as HTTP requests."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers.base import Driver, PropertySpec, options_of
from sensor_hub.drivers.http_session import HttpSession, parse_json
from sensor_hub.drivers.http_settings import (
    PLACEHOLDER,
    READING_DEPTH_MAX,
    Command,
    Endpoint,
    HttpLine,
    HttpSensor,
    authorized,
    http_url_problem,
    json_problem,
    origin_of,
)
from sensor_hub.errors import (
    DeviceRefused,
    InvalidCommand,
    ReadFailed,
    TransportDown,
)
from sensor_hub.readings import Json

MOTION = "motion_detected"
_BOOLEANS: Mapping[str, bool] = {
    "on": True,
    "true": True,
    "1": True,
    "off": False,
    "false": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class _Field:
    """Property `name` stands at the dotted `path`; an optional one may be missing from an answer."""

    name: str
    path: str
    optional: bool = False
    boolean: bool = False


@dataclass(frozen=True, slots=True)
class _Sensor:
    settings: HttpSensor
    fields: Sequence[_Field]
    timeout_s: float


class HttpJson(Driver):
    """One endpoint. Its options are in the sensor; the url is the transport's."""

    name = "http_json"
    transport_settings = HttpLine
    sensor_settings = HttpSensor
    url_problem = staticmethod(http_url_problem)

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration; open nothing."""
        super().__init__(transport, sensors)
        self._endpoint = Endpoint.of(transport.url)
        self._sensors = {sensor.sensor_id: self._prepare(sensor) for sensor in sensors}
        self._session: HttpSession | None = None
        # At debug level it logs whole urls, whose query may be a secret.
        logging.getLogger("urllib3").setLevel(logging.WARNING)

    def _prepare(self, sensor: SensorConfig) -> _Sensor:
        settings = HttpSensor.model_validate(dict(options_of(type(self), sensor)))
        timeout_s = self.transport.timeout_s if settings.timeout_s is None else settings.timeout_s
        return _Sensor(settings, _fields(sensor.sensor_type, settings.fields_), timeout_s)

    def unit_id(self, sensor_id: str) -> str:
        """Host and port of the endpoint."""
        return urlsplit(self._endpoint.url).netloc

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """Read fields, and the writable ones that have a command; one that is no field cannot be read back."""
        sensor = self._sensors[sensor_id]
        read = {item.name: PropertySpec("boolean" if item.boolean else "any") for item in sensor.fields}
        commands = sensor.settings.commands.items()
        return read | {name: replace(command.spec, readable=name in read) for name, command in commands}

    def connect(self) -> None:
        """Make a session; connections open with the first request. Never fails."""
        self.close()
        verify_tls = all(sensor.settings.verify_tls for sensor in self._sensors.values())
        self._session = HttpSession(verify_tls=verify_tls)

    def close(self) -> None:
        """Close the session, from any thread; an exchange under way ends at once."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def read(self, sensor_id: str) -> dict[str, Json]:
        """GET the endpoint and pick the fields."""
        sensor = self._sensors[sensor_id]
        answer = self._open_session().get(self._endpoint.url, self._headers(sensor), sensor.timeout_s)
        if not 200 <= answer.status < 300:
            raise ReadFailed(f"HTTP {answer.status}")
        document = parse_json(answer.body)
        return dict(_picked(document, sensor.fields))

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Send each value's command; returns the values sent. Raises DeviceRefused for a bad status."""
        sensor = self._sensors[sensor_id]
        unknown = [name for name in values if name not in sensor.settings.commands]
        if unknown:
            raise InvalidCommand(f"unknown property {unknown[0]}")
        for name, value in values.items():
            problem = json_problem(value) or _path_problem(sensor.settings.commands[name].url, value)
            if problem:
                raise InvalidCommand(f"{name} {problem}")
        for name, value in values.items():
            self._write(sensor, sensor.settings.commands[name], value)
        return dict(values)

    def _write(self, sensor: _Sensor, command: Command, value: Json) -> None:
        endpoint = self._endpoint
        if command.url is not None:
            endpoint = Endpoint.of(_url_with(command.url, value))
        body, headers = None, self._headers(sensor, command, endpoint)
        if command.body is not None:
            body = json.dumps(_filled(command.body, value), allow_nan=False).encode()
            headers = {"Content-Type": "application/json"} | headers
        status = self._open_session().send(command.method, endpoint.url, headers, body, sensor.timeout_s)
        if not 200 <= status < 300:
            raise DeviceRefused(f"HTTP {status}")

    def _headers(
        self, sensor: _Sensor, command: Command | None = None, endpoint: Endpoint | None = None
    ) -> dict[str, str]:
        """Headers of a request; what was given for the sensor's host is not sent to another."""
        own, target = self._endpoint, endpoint or self._endpoint
        headers = command.headers if command is not None else {}
        if origin_of(own.url) != origin_of(target.url):
            return authorized(headers, target.authorization)
        auth = sensor.settings.auth
        return authorized(
            sensor.settings.headers | headers,
            target.authorization if target is not own else None,
            auth.header if auth is not None else None,
            own.authorization,
        )

    def _open_session(self) -> HttpSession:
        session = self._session
        if session is None:
            raise TransportDown("not connected")
        return session


def _fields(sensor_type: str, configured: Mapping[str, str] | None) -> list[_Field]:
    motion = sensor_type == "motion"
    if configured is not None:
        return [_Field(name, path, boolean=motion and name == MOTION) for name, path in configured.items()]
    if not motion:
        return [_Field("value", "value")]
    optional = [_Field(name, name, optional=True) for name in ("battery_level", "signal_strength")]
    return [_Field(MOTION, MOTION, boolean=True), *optional]


def _picked(document: Json, fields: Sequence[_Field]) -> Iterator[tuple[str, Json]]:
    for item in fields:
        try:
            value = _at(document, item.path)
        except LookupError:
            if item.optional:
                continue
            raise ReadFailed(f"{item.path} is missing from the answer") from None
        problem = json_problem(value, READING_DEPTH_MAX)
        if problem:
            raise ReadFailed(f"{item.path} {problem}")
        yield item.name, _boolean(item.path, value) if item.boolean else value


def _at(document: Json, path: str) -> Json:
    for part in path.split("."):
        if isinstance(document, dict):
            document = document[part]
        elif isinstance(document, list) and part.isascii() and part.isdecimal() and len(part) < 9:
            document = document[int(part)]
        else:
            raise LookupError(part)
    return document


def _boolean(path: str, value: Json) -> bool:
    known = _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
    if known is None:
        raise ReadFailed(f"{path} is not true or false")
    return known


def _url_with(template: str, value: Json) -> str:
    return template.replace(PLACEHOLDER, quote(_text(value), safe=""))


def _path_problem(template: str | None, value: Json) -> str | None:
    """A value that would lead to another endpoint: `.` and `..` mean something as a whole part of a path."""
    if template is None:
        return None
    places = [part for part in urlsplit(template).path.split("/") if PLACEHOLDER in part]
    dots = any(unquote(_url_with(part, value)) in (".", "..") for part in places)
    return "must not make a `.` or `..` of a part of the url's path" if dots else None


def _filled(template: Json, value: Json) -> Json:
    """The template with `{value}` replaced: typed where it is the whole text, as text inside longer ones."""
    if template == PLACEHOLDER:
        return value
    if isinstance(template, str):
        return template.replace(PLACEHOLDER, _text(value))
    if isinstance(template, list):
        return [_filled(item, value) for item in template]
    if isinstance(template, dict):
        return {key: _filled(item, value) for key, item in template.items()}
    return template


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)
