"""Options of Modbus lines and sensors, validated; and the address in a network line's url."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from sensor_hub.drivers import register_maps
from sensor_hub.drivers.base import Settings
from sensor_hub.drivers.modbus_plan import DEFAULT_GAP, MAX_REGISTERS, Limits, Span
from sensor_hub.drivers.modbus_register import Register as Register
from sensor_hub.drivers.register_maps import MapError as MapError
from sensor_hub.drivers.register_maps import RegisterMap
from sensor_hub.drivers.serial_settings import SerialSettings
from sensor_hub.drivers.settings import Flag, check_property_names, whole, within

T = TypeVar("T")

DEFAULT_TCP_PORT = 502
MAX_DELAY_MS = 10_000

Delay = Annotated[float, within(0, MAX_DELAY_MS)]


class LineSettings(Settings):
    """Options of any Modbus line; `delay_ms`: least pause between an answer and the next request."""

    delay_ms: Delay = 0.0


class RtuSettings(SerialSettings, LineSettings):
    """Options of a serial line."""

    baudrate: Annotated[int, whole(50, 4_000_000)] = 19200


class TcpSettings(LineSettings):
    """Options of a Modbus TCP line."""


class ModbusSensor(Settings):
    """One device on a Modbus line: its unit, its registers and what it can take.

    The registers: one, or named properties, or those of a register map (all, or the ones that `include` names) with
    properties added to them or put in their place. What it can take is the map's word, unless it is said here.
    """

    unit_id: Annotated[int, whole(1, 247)] = 1
    register_: Register | None = Field(default=None, alias="register")
    properties: dict[str, Register] | None = None
    register_map: str | None = None
    include: list[str] | None = None
    max_registers: Annotated[int, whole(1, MAX_REGISTERS)] | None = None
    max_gap: Annotated[int, whole(0, MAX_REGISTERS)] | None = None
    delay_ms: Delay | None = None
    write_multiple: Flag | None = None

    @field_validator("properties")
    @classmethod
    def _names(cls, properties: dict[str, Register] | None) -> dict[str, Register] | None:
        if properties is not None:
            if not properties:
                raise ValueError("must have at least one property")
            check_property_names(properties)
        return properties

    @model_validator(mode="after")
    def _has_registers(self) -> ModbusSensor:
        many = self.properties is not None or self.register_map is not None
        if (self.register_ is not None) == many:
            raise ValueError("either register, or properties or a register_map, is required")
        if self.include is not None and self.register_map is None:
            raise ValueError("include: names registers of a register_map, and there is none")
        return self

    def device(self, folder: Path | None, read_interval_s: float) -> Profile:
        """What all of this makes of it; maps are looked for in `folder` and among ours. Raises MapError."""
        if self.register_ is not None:
            return self._profile({"value": self.register_}, RegisterMap("", {}))
        if self.register_map is None:
            return self._profile(self.properties or {}, RegisterMap("", {}))
        found = register_maps.load(self.register_map, folder, read_interval_s=read_interval_s)
        missing = [name for name in self.include or () if name not in found.registers]
        if missing:
            raise MapError(found.name, [f"has no register {missing[0][:64]!r}, which include names"])
        wanted = self.include if self.include is not None else list(found.registers)
        if not wanted and not self.properties:
            raise MapError(found.name, ["has no Modbus registers"])
        registers = {name: found.registers[name] for name in wanted} | (self.properties or {})
        try:
            check_property_names(registers)
        except ValueError as error:
            raise MapError(found.name, [str(error)]) from None
        return self._profile(registers, found)

    def _profile(self, registers: Mapping[str, Register], found: RegisterMap) -> Profile:
        of_map = found.line
        return Profile(
            registers,
            Limits(
                _first(self.max_registers, of_map.max_registers, MAX_REGISTERS),
                _first(self.max_gap, of_map.max_gap, DEFAULT_GAP),
            ),
            _first(self.delay_ms, of_map.delay_ms, 0.0) / 1000,
            _first(self.write_multiple, of_map.write_multiple, False),
            found.never_read,
            found.notes,
            frozenset(found.registers) - frozenset(self.properties or ()),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of device: its registers by property and what it can take; `notes` are worth a warning.

    `of_map`: the properties that a register map describes; their limits say what the device holds.
    """

    registers: Mapping[str, Register]
    limits: Limits
    delay_s: float
    write_multiple: bool
    never_read: Sequence[Span]
    notes: Sequence[str]
    of_map: frozenset[str] = frozenset()


def _first(given: T | None, of_map: T | None, default: T) -> T:
    return given if given is not None else of_map if of_map is not None else default


class ModbusTcpSensor(ModbusSensor):
    """One device behind a Modbus TCP connection.

    255 and 0 are the connection's own device (the standard's words for it); 1 to 247 are units behind a gateway, and
    devices that use their unit id over TCP, too, may have any other.
    """

    unit_id: Annotated[int, whole(0, 255)] = 1


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
