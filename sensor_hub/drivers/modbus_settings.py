"""Options of Modbus lines and sensors, validated; and the addresses in a line's url."""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sensor_hub.drivers.base import PropertySpec, Settings
from sensor_hub.drivers.modbus_codec import DataType, Layout, WordOrder, decimal_of, encode
from sensor_hub.drivers.settings import Flag, Number, Positive, check_property_names, one_of, whole
from sensor_hub.errors import ValueOutOfRange

Table = Literal["holding", "input", "coil", "discrete"]

DEFAULT_TCP_PORT = 502
_NETWORK_SCHEMES = ("socket", "rfc2217")
_RFC2217_OPTIONS = {"ign_set_control", "poll_modem", "timeout"}


def _table(value: object) -> object:
    known = isinstance(value, str) and value.strip().lower() == "discrete_input"
    return "discrete" if known else value


class RtuSettings(Settings):
    """Options of a serial line."""

    baudrate: Annotated[int, whole(50, 4_000_000)] = 19200
    bytesize: Annotated[int, whole(7, 8)] = 8
    parity: Annotated[Literal["N", "E", "O"], one_of("NEO")] = "N"
    stopbits: Annotated[int, whole(1, 2)] = 1


class TcpSettings(Settings):
    """A Modbus TCP line has no options of its own."""


class Register(Settings):
    """Where one property lies and what its number means: value = raw * scale + offset."""

    table: Annotated[Table, one_of(get_args(Table)), BeforeValidator(_table)]
    address: Annotated[int, whole(0, 65535)]
    data_type: Annotated[DataType, one_of(get_args(DataType))] = "uint16"
    scale: Number = 1.0
    offset: Number = 0.0
    unit: str | None = None
    word_order: Annotated[WordOrder, one_of(get_args(WordOrder))] = "big"
    write: Flag = False
    minimum: Number | None = Field(default=None, alias="min")
    maximum: Number | None = Field(default=None, alias="max")
    step: Positive | None = None

    @field_validator("scale")
    @classmethod
    def _scale_is_not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("must not be 0")
        return scale

    @model_validator(mode="after")
    def _fits_together(self) -> Register:
        if self.write and self.table not in ("holding", "coil"):
            raise ValueError(f"write: {self.table} is read-only; only holding and coil can be written")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"min {self.minimum:g} is greater than max {self.maximum:g}")
        if not self.is_boolean:
            self._check_number()
        return self

    def _check_number(self) -> None:
        if self.address + self.layout.count > 65536:
            raise ValueError(f"address: {self.data_type} takes two registers, so it is at most 65534")
        limits = self.layout.limits
        for name, value in (("min", self.minimum), ("max", self.maximum)):
            if value is not None and limits is not None and not limits[0] <= value <= limits[1]:
                raise ValueError(
                    f"{name} {value:g} does not fit {self.data_type}: {limits[0]:g}..{limits[1]:g}"
                )
            if value is not None and limits is None:
                _check_float32(name, value, self.layout)

    @property
    def is_boolean(self) -> bool:
        """Coils and discrete inputs hold true or false."""
        return self.table in ("coil", "discrete")

    @property
    def layout(self) -> Layout:
        """How the number lies in its registers."""
        return Layout(self.data_type, decimal_of(self.scale), decimal_of(self.offset), self.word_order)

    def spec(self, writable: bool) -> PropertySpec:
        """The property for checking commands; without min or max, what the register can hold."""
        if self.is_boolean:
            return PropertySpec("boolean", writable, self.unit)
        low, high = self.layout.limits or (None, None)
        return PropertySpec(
            "number",
            writable,
            self.unit,
            low if self.minimum is None else self.minimum,
            high if self.maximum is None else self.maximum,
            self.step,
            0.0
            if self.step is not None and self.minimum is None
            else None,  # not from the register's own end
        )


def _check_float32(name: str, value: float, layout: Layout) -> None:
    try:
        encode(value, layout)
    except ValueOutOfRange as error:
        raise ValueError(f"{name} {error}") from None


class ModbusSensor(Settings):
    """One device on a Modbus line: its unit and either one register or named properties."""

    unit_id: Annotated[int, whole(1, 247)] = 1
    register_: Register | None = Field(default=None, alias="register")
    properties: dict[str, Register] | None = None

    @field_validator("properties")
    @classmethod
    def _names(cls, properties: dict[str, Register] | None) -> dict[str, Register] | None:
        if properties is not None:
            if not properties:
                raise ValueError("must have at least one property")
            check_property_names(properties)
        return properties

    @model_validator(mode="after")
    def _one_of_both(self) -> ModbusSensor:
        if (self.register_ is None) == (self.properties is None):
            raise ValueError("exactly one of register and properties is required")
        return self

    @property
    def registers(self) -> dict[str, Register]:
        """Property -> register; a single one is `value`."""
        return {"value": self.register_} if self.register_ is not None else dict(self.properties or {})


def serial_url_problem(url: str) -> str | None:
    """What is wrong with the url of a serial line, or None."""
    allowed = "must be a device path such as /dev/ttyUSB0, socket://host:port or rfc2217://host:port"
    if "://" not in url:
        return None if url.startswith("/") and "\0" not in url else allowed
    try:
        parts = urlsplit(url)
        good = parts.scheme in _NETWORK_SCHEMES and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return allowed
    if not good or parts.path not in ("", "/") or parts.fragment or parts.username is not None:
        return allowed
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    known = _RFC2217_OPTIONS if parts.scheme == "rfc2217" else set()
    unknown = sorted(options - known)
    return f"unknown option {unknown[0]!r} in the url" if unknown else None


def tcp_address(url: str) -> tuple[str, int]:
    """Host and port of `tcp://host[:502]` or `host:port`. Raises ValueError saying what is allowed."""
    allowed = "must be tcp://host, tcp://host:port or host:port"
    try:
        parts = urlsplit(url if "://" in url else f"tcp://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(allowed) from None
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme != "tcp" or not host or port == 0 or extra or any(char.isspace() for char in host):
        raise ValueError(allowed)
    return host, port or DEFAULT_TCP_PORT
