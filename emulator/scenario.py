"""What to emulate: the scenario file, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from emulator.faults import HTTP, MODBUS, RAPI, TEXT, Fault, Kind
from emulator.modbus_pdu import Table
from emulator.scenario_problems import Twice, texts_of

EXIT_CODE_CONFIG = 78  # EX_CONFIG of sysexits.h
Rate = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(min_length=1)]
Address = Annotated[int, Field(ge=0, le=65535)]
Word = Annotated[int, Field(ge=-32768, le=65535)]
Words = dict[Address, Word | Annotated[list[Word], Field(min_length=1)]]
Bits = dict[Address, bool | Annotated[list[bool], Field(min_length=1)]]
REGISTERS = "registers"
MODBUS_BAUDRATE, RAPI_BAUDRATE, TEXT_BAUDRATE = 19200, 115200, 9600
CHARGERS = ("openevse", "openevse_emulator")
REPLAY = "replay"


class ScenarioError(Exception):
    """The scenario cannot be used; `problems` holds each with its JSON path."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Refused(_Model):
    """A request that touches any of these addresses gets this exception."""

    table: Table
    address: Address
    count: Annotated[int, Field(ge=1, le=65536)] = 1
    exception: Annotated[int, Field(ge=1, le=255)] = 2


class Unit(_Model):
    """One Modbus unit: a kind of sensor with its registers, or `registers`, which has only those that are given."""

    unit_id: Annotated[int, Field(ge=1, le=247)]
    sensor_id: Name
    kind: Name
    holding: Words = {}
    input: Words = {}
    coil: Bits = {}
    discrete: Bits = {}
    max_registers: Annotated[int, Field(ge=1, le=125)] | None = None
    separate_blocks: bool = Field(
        False, description="No request may reach from one given list into the next."
    )
    refuses: tuple[Refused, ...] = ()
    faults: tuple[Fault, ...] = ()

    @field_validator("faults")
    @classmethod
    def _can_have(cls, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        return _possible(faults, MODBUS)


class _Serial(_Model):
    """Where a line is and how fast. `mode` not given: tcp if there is a tcp_port and no pty_path."""

    line_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    mode: Literal["pty", "tcp", "tcp_client"] | None = None
    pty_path: Path | None = Field(None, description="An absolute path; it becomes a link to the terminal.")
    tcp_host: Name = "127.0.0.1"
    tcp_port: Port | None = None
    clients: Literal["one", "many"] = "one"
    baudrate: Annotated[int, Field(ge=50, le=4_000_000)] | None = None
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    paced: bool = Field(False, description="Bytes take as long as they would at that baud rate.")
    error_rate: Rate = Field(0.0, description="Share of requests that stay unanswered.")
    faults: tuple[Fault, ...] = ()
    reconnect_timeout_sec: Annotated[float, Field(ge=0, le=31_536_000)] = 60.0
    reconnect_backoff_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 1000

    @field_validator("pty_path")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("must be an absolute path")
        return path

    @model_validator(mode="after")
    def _has_a_place(self) -> _Serial:
        if self.place_mode == "pty" and self.pty_path is None:
            raise ValueError("pty_path: required (or a tcp_port)")
        if self.place_mode != "pty" and self.tcp_port is None:
            raise ValueError(f"tcp_port: required for mode {self.place_mode}")
        return self

    @property
    def place_mode(self) -> str:
        """`mode`, or what follows from the other keys."""
        if self.mode is not None:
            return self.mode
        return "tcp" if self.tcp_port is not None and self.pty_path is None else "pty"


class Line(_Serial):
    """A serial line with Modbus RTU units."""

    units: tuple[Unit, ...]

    @property
    def speed(self) -> int:
        """Its baud rate, given or usual."""
        return self.baudrate or MODBUS_BAUDRATE

    @field_validator("faults")
    @classmethod
    def _can_have(cls, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        return _possible(faults, MODBUS)


class Ev(_Model):
    """The car of a charger."""

    plugged: bool = False
    requesting_charge: bool = False
    soc: Annotated[float, Field(ge=0, le=100)] = 50.0
    battery_kwh: Annotated[float, Field(gt=0, le=1000)] = 75.0
    max_charge_kw: Annotated[float, Field(ge=0, le=100)] = 7.2
    direct_mode: bool = False
    direct_amps: Annotated[float, Field(ge=0, le=200)] = 16.0
    variance: bool = False


class ChargerMake(_Model):
    """A charger and its car. `round_s`: seconds without a car, connected, charging, full; null: the car stays."""

    firmware_version: Annotated[str, Field(pattern=r"^[!-~]{1,20}$")] = "8.2.1"
    protocol_version: Annotated[str, Field(pattern=r"^[!-~]{1,20}$")] | None = None
    serial: Annotated[str, Field(pattern=r"^[!-~]{1,40}$")] = "OpenEVSE03AB12CD"
    amps: Annotated[int, Field(ge=6, le=32)] | None = None
    service_level: Literal["1", "2", "A"] = "A"
    round_s: (
        Annotated[list[Annotated[float, Field(gt=0, le=86400)]], Field(min_length=4, max_length=4)] | None
    ) = [20.0, 5.0, 60.0, 5.0]
    ev: Ev = Ev()


class Text(_Serial):
    """A line with one device that speaks in text. `sensor_id`: its name here; default: the line's."""

    kind: Literal["openevse", "openevse_emulator", "arduino", "arduino_json", "scale", "replay"]
    sensor_id: Name | None = None
    charger: ChargerMake | None = None
    recording: Path | None = Field(
        None, description="For `replay`: the file, from the folder in which the emulator is started."
    )

    @property
    def speed(self) -> int:
        """Its baud rate, given or usual."""
        return self.baudrate or (RAPI_BAUDRATE if self.kind in CHARGERS else TEXT_BAUDRATE)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Text:
        if self.charger is not None and self.kind not in CHARGERS:
            raise ValueError(f"charger: means nothing for {self.kind}")
        if (self.recording is not None) != (self.kind == REPLAY):
            raise ValueError(
                f"recording: {'required' if self.kind == REPLAY else 'means nothing'} for {self.kind}"
            )
        _possible(self.faults, RAPI if self.kind in CHARGERS else TEXT)
        return self


class Http(_Model):
    """The web server with the HTTP devices. `error_rate`: share of polls that are held, then dropped."""

    host: Name = "127.0.0.1"
    port: Port
    error_rate: Rate = 0.0
    faults: tuple[Fault, ...] = ()
    motion: tuple[Name, ...] = ()

    @field_validator("faults")
    @classmethod
    def _can_have(cls, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        return _possible(faults, HTTP)


class Scenario(_Model):
    """All that one emulator provides. `seed` null: different every time."""

    instance_id: Name = "emulator"
    seed: Annotated[int, Field(ge=-(2**63), le=2**63)] | None = None
    timezone: str = "UTC"
    lines: tuple[Line, ...] = ()
    text_lines: tuple[Text, ...] = ()
    http: Http | None = None
    ignore_environment: bool = Field(
        False,
        description="SERIAL_* and WEB_* of the environment do not count: somebody relies on the places.",
    )

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be the name of a time zone, such as UTC") from None
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.timezone)


def load(path: Path) -> Scenario:
    """Read and check the file; ScenarioError with every problem."""
    return parse(read(path))


def read(path: Path) -> Any:
    """The file's JSON, unchecked; ScenarioError when there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError([f"{path}: {error.strerror or error}"]) from error
    except (ValueError, RecursionError) as error:
        raise ScenarioError([f"{path}: not JSON: {error}"]) from error


def parse(data: object) -> Scenario:
    """Check decoded JSON; ScenarioError with every problem."""
    problems = Twice(data).problems()
    try:
        found = Scenario.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems = texts_of(error) + problems
    if problems:
        raise ScenarioError(problems)
    return found


def line_ids(scenario: Scenario) -> list[str]:
    """The ids of `lines`, then `text_lines`: as given, or from their place; different ones."""
    taken = {line.line_id for line in (*scenario.lines, *scenario.text_lines)} | {"http"}
    found = []
    for line in (*scenario.lines, *scenario.text_lines):
        name = line.line_id
        if name is None:
            at_pty = line.place_mode == "pty" and line.pty_path is not None
            stem = line.pty_path.stem if at_pty and line.pty_path is not None else f"tcp-{line.tcp_port}"
            names = (f"{stem}-{number}" if number > 1 else stem for number in range(1, 10_000))
            name = next(each for each in names if each not in taken)
            taken.add(name)
        found.append(name)
    return found


def _possible(faults: tuple[Fault, ...], kinds: frozenset[Kind]) -> tuple[Fault, ...]:
    for fault in faults:
        if fault.kind not in kinds:
            raise ValueError(f"{fault.kind} is not one of {', '.join(sorted(kinds))}")
    return faults
