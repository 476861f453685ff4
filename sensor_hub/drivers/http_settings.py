"""Options of HTTP sensors, validated; and what may be an endpoint's url. Messages never repeat a url."""

from __future__ import annotations

import itertools
import math
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sensor_hub.drivers.base import PropertySpec, Settings
from sensor_hub.drivers.settings import Flag, Number, Positive, check_property_names, one_of, within
from sensor_hub.readings import Json

VALUE_DEPTH_MAX = 32  # of what is sent to a device, as a command may have it
READING_DEPTH_MAX = 16  # of what a device says: it is wrapped several times on its way
Method = Literal["POST", "PUT", "PATCH", "GET"]
Kind = Literal["number", "boolean", "text", "any"]
PLACEHOLDER = "{value}"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


def _header_text(value: object) -> object:
    """Headers are text; a number is taken as its text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has characters that no header may have")
    return {name: value.strip() for name, value in headers.items()}


HeaderText = Annotated[str, BeforeValidator(_header_text)]


def json_problem(value: Json, depth_max: int = VALUE_DEPTH_MAX) -> str | None:
    """What keeps a value from being sent as JSON to anybody: infinite, too deep, or text that is no Unicode."""
    if depth_max < 0:
        return "is nested too deeply"
    if isinstance(value, dict):
        parts: Iterable[Json] = itertools.chain(value.keys(), value.values())
        return next(filter(None, (json_problem(part, depth_max - 1) for part in parts)), None)
    if isinstance(value, list):
        return next(filter(None, (json_problem(part, depth_max - 1) for part in value)), None)
    if isinstance(value, str):
        return "is no valid text" if any("\ud800" <= char <= "\udfff" for char in value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "is no finite number"
    too_large = isinstance(value, int) and abs(value) > sys.float_info.max
    return "is no finite number" if too_large else None


class Auth(Settings):
    """Either username and password, or a bearer token."""

    username: str | None = Field(default=None, repr=False)
    password: str | None = Field(default=None, repr=False)
    bearer: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _one_kind(self) -> Auth:
        named = self.username is not None
        if named == (self.bearer is not None) or (self.password is not None and not named):
            raise ValueError("must be username and password, or bearer")
        if self.bearer is not None and not re.fullmatch(r"[\x21-\x7e]+", self.bearer):
            raise ValueError("bearer must be printable ASCII without spaces")
        return self

    @property
    def header(self) -> str:
        """Value of the Authorization header."""
        if self.bearer is not None:
            return f"Bearer {self.bearer}"
        return basic(self.username or "", self.password or "")


class Command(Settings):
    """The request that writes one property; `{value}` in body and url stands for the value."""

    method: Annotated[Method, one_of(get_args(Method))] = "POST"
    url: str | None = Field(default=None, repr=False)
    body: Any = None
    headers: dict[str, HeaderText] = Field(default_factory=dict, repr=False)
    kind: Annotated[Kind, one_of(get_args(Kind))] = "any"
    minimum: Number | None = Field(default=None, alias="min")
    maximum: Number | None = Field(default=None, alias="max")
    step: Positive | None = None

    _headers = field_validator("headers")(_check_headers)

    @field_validator("body")
    @classmethod
    def _body_is_json(cls, body: Any) -> Any:
        problem = json_problem(body)
        if problem:
            raise ValueError(problem)
        return body

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str | None) -> str | None:
        problem = None if url is None else http_url_problem(url.replace(PLACEHOLDER, ""))
        if problem:
            raise ValueError(problem)
        if url is not None and PLACEHOLDER in urlsplit(url).netloc:
            raise ValueError(f"{PLACEHOLDER} may stand in the path and the query only")
        return url

    @model_validator(mode="after")
    def _limits(self) -> Command:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"min {self.minimum:g} is greater than max {self.maximum:g}")
        if self.kind != "number" and (self.minimum, self.maximum, self.step) != (None, None, None):
            raise ValueError('min, max and step need "kind": "number"')
        return self

    @property
    def spec(self) -> PropertySpec:
        """The property for checking commands."""
        return PropertySpec(self.kind, True, None, self.minimum, self.maximum, self.step)


class HttpLine(Settings):
    """The endpoint's options are the sensor's."""


class HttpSensor(Settings):
    """One sensor behind one url."""

    headers: dict[str, HeaderText] = Field(default_factory=dict, repr=False)
    timeout_s: Annotated[float, within(0.1, 60)] | None = None
    auth: Auth | None = None
    fields_: dict[str, str] | None = Field(default=None, alias="fields")
    verify_tls: Flag = True
    commands: dict[str, Command] = Field(default_factory=dict)

    _headers = field_validator("headers")(_check_headers)

    @field_validator("fields_")
    @classmethod
    def _paths(cls, fields: dict[str, str] | None) -> dict[str, str] | None:
        if fields is None:
            return None
        if not fields:
            raise ValueError("must have at least one field")
        for name, path in fields.items():
            if not all(path.split(".")):
                raise ValueError(f"{name}: {path!r} is no path like list.0.x")
        return fields

    @model_validator(mode="after")
    def _names(self) -> HttpSensor:
        check_property_names(dict.fromkeys([*(self.fields_ or {}), *self.commands]))
        return self


class Endpoint(Settings):
    """A url without its credentials, and the Authorization header they make."""

    url: str = Field(repr=False)
    authorization: str | None = Field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Take `user:password@` and the fragment out of a valid url."""
        parts = urlsplit(url)
        userinfo, at, host = parts.netloc.rpartition("@")
        clean = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        user, _, password = userinfo.partition(":")
        return cls(url=clean, authorization=basic(unquote(user), unquote(password)) if at else None)


def basic(username: str, password: str) -> str:
    """Authorization header of HTTP basic authentication, in UTF-8."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, the default port said."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def authorized(headers: Mapping[str, str], *authorizations: str | None) -> dict[str, str]:
    """The headers with the first Authorization given; one among the headers wins over all."""
    result = dict(headers)
    chosen = next((item for item in authorizations if item is not None), None)
    if chosen is not None and "authorization" not in {name.lower() for name in headers}:
        result["Authorization"] = chosen
    return result


def http_url_problem(url: str) -> str | None:
    """What is wrong with an endpoint's url, or None."""
    allowed = "must be http://host[:port]/path or https://host[:port]/path"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return allowed
    if not good or re.search(r"[\x00-\x20\x7f\\\ud800-\udfff]", url):
        return allowed
    return None
