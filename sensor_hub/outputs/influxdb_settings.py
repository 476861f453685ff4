"""Options of an output to InfluxDB, validated: which of its two APIs, and how a reading becomes a point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from sensor_hub.config import values
from sensor_hub.config.options import Flag, Settings, one_of, read_as, whole, within
from sensor_hub.outputs.line_protocol import same_name

Precision = Literal["ns", "us", "ms", "s"]
# What a measurement and a tag may name of a reading.
PLACEHOLDERS = (
    "type",
    "device_id",
    "instance",
    "source_transport",
    "target_transport",
    "quality",
    "unit",
    "emulated",
    "name",
    "device_identifier",
    "manufacturer",
    "model",
    "serial_number",
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_BRACE = re.compile(r"[{}]")
_NOT_A_TAG = ("time", "_field", "_measurement")  # InfluxDB refuses points that have them
DEFAULT_TAGS: Mapping[str, str] = {
    name: f"{{{name}}}" for name in ("device_id", "instance", "source_transport", "emulated")
}

Text = Annotated[str, read_as(values.text)]
Secret = Annotated[str, read_as(values.verbatim)]


def check_template(template: str) -> str:
    """Raise ValueError for a placeholder that there is none of."""
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            raise ValueError(f"there is no {{{name}}}; there are {', '.join(PLACEHOLDERS)}")
    if _BRACE.search(_PLACEHOLDER.sub("", template)):
        raise ValueError("a brace stands for a placeholder only, like {device_id}")
    return template


def filled(template: str, facts: Mapping[str, str]) -> str:
    """The template with a reading's facts in place; of what it does not have, nothing."""
    return _PLACEHOLDER.sub(lambda found: facts.get(found[1], ""), template)


def _alike(names: Iterable[str]) -> tuple[str, str] | None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name(name), name)
        if other != name:
            return other, name
    return None


class InfluxSettings(Settings):
    """`database` chooses the API of 1.x, `bucket` that of 2.x and 3.x."""

    url: Annotated[str, read_as(values.http_url)] = Field(repr=False)
    database: Text | None = None
    retention_policy: Text | None = None
    username: Text | None = None
    password: Secret | None = Field(default=None, repr=False)
    bucket: Text | None = None
    org: Text | None = None
    token: Secret | None = Field(default=None, repr=False)
    measurement: Text = "{type}"
    tags: dict[str, Text] = Field(default_factory=lambda: dict(DEFAULT_TAGS))
    integers: Flag = False
    precision: Annotated[Precision, one_of(get_args(Precision))] = "ns"
    batch_size: Annotated[int, whole(1, 50_000)] = 5000
    batch_age_s: Annotated[float, within(0, 3600)] = 1.0
    gzip: Flag = True
    timeout_s: Annotated[float, within(0.1, 300)] = 10.0
    verify_tls: Flag = True
    ca_cert: Annotated[Path, read_as(values.path)] | None = None  # whether it is there: InfluxDb.check

    @field_validator("url")
    @classmethod
    def _has_no_credentials(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc:
            raise ValueError("must be without user and password: username, password and token are for that")
        return url

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: str | None) -> str | None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("must be printable ASCII without spaces")
        return token

    @field_validator("measurement")
    @classmethod
    def _names_a_measurement(cls, measurement: str) -> str:
        return check_template(measurement)

    @field_validator("tags", mode="before")
    @classmethod
    def _says_tags(cls, tags: Any) -> Any:
        return dict(DEFAULT_TAGS) if tags is None else tags

    @field_validator("tags")
    @classmethod
    def _names_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, template in tags.items():
            if not name.strip() or name in _NOT_A_TAG:
                raise ValueError(f"{name!r} cannot be a tag's name")
            check_template(template)
        if (twice := _alike(tags)) is not None:
            raise ValueError(f"{twice[0]!r} and {twice[1]!r} are the same name to InfluxDB")
        return tags

    @model_validator(mode="after")
    def _one_api(self) -> InfluxSettings:
        if (self.database is None) == (self.bucket is None):
            raise ValueError("must have either a database (InfluxDB 1.x) or a bucket (2.x, 3.x)")
        of_1x = {"retention_policy", "username", "password"}
        of_2x = {"org", "token"}
        wrong = sorted((of_1x if self.bucket else of_2x) & self.model_fields_set)
        if wrong:
            other, this = ("database", "bucket") if self.bucket else ("bucket", "database")
            raise ValueError(f"{', '.join(wrong)} goes with {other}, not with {this}")
        if self.password is not None and self.username is None:
            raise ValueError("has a password and no username")
        if "{device_id}" not in "".join([self.measurement, *self.tags.values()]):
            raise ValueError("{device_id} must stand in measurement or in a tag: devices would be one series")
        return self
