"""What to emulate: the scenario file, checked."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from emulator.faults import HTTP, MODBUS, RAPI, TEXT, Fault, Kind
from emulator.modbus_pdu import Table
from emulator.scenario_problems import Twice, check_places, looked_up, texts_of, without_slash

EXIT_CODE_CONFIG = 78  # EX_CONFIG of sysexits.h
Rate = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(min_length=1)]
SensorId = Annotated[Name, AfterValidator(without_slash)]
Host = Annotated[Name, AfterValidator(looked_up)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$")]
LAST_ADDRESS = 65535
Address = Annotated[int, Field(ge=0, le=LAST_ADDRESS)]
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
    sensor_id: SensorId
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

    @field_validator("holding", "input", "coil", "discrete")
    @classmethod
    def _have_their_place(cls, given: Words | Bits) -> Words | Bits:
        check_places(given, LAST_ADDRESS)
        return given


class _Serial(_Model):
    """Where a line is and how fast. `mode` not given: tcp if there is a tcp_port and no pty_path."""

    line_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    mode: Literal["pty", "tcp", "tcp_client"] | None = None
    pty_path: Path | None = Field(None, description="An absolute path; it becomes a link to the terminal.")
    tcp_host: Host = "127.0.0.1"
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
        if path is not None and (path.name in ("", "..") or "\0" in str(path)):
            raise ValueError("must be an absolute path that ends in the name of a link")
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
        return self.mode or usual_mode(self.pty_path, self.tcp_port)


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
    sensor_id: SensorId | None = None
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


def dialect_of(charger: Text) -> str:
    """How a charger speaks RAPI, as rapi_charger calls it."""
    return "firmware" if charger.kind == "openevse" else "emulator"


class Http(_Model):
    """The web server with the HTTP devices. `error_rate`: share of polls that are held, then dropped."""

    host: Host = "127.0.0.1"
    port: Port
    names: tuple[HostName, ...] = Field(
        (), description="Names of the public DNS by which page and API may be called, such as a proxy's."
    )
    error_rate: Rate = 0.0
    faults: tuple[Fault, ...] = ()
    motion: tuple[SensorId, ...] = ()

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
    else:
        problems = problems or _names_taken(found)
    if problems:
        raise ScenarioError(problems)
    return found


def _names_taken(scenario: Scenario) -> list[str]:
    """Text lines that call their device as another one is called."""
    taken = {unit.sensor_id for line in scenario.lines for unit in line.units}
    taken |= {text.sensor_id for text in scenario.text_lines if text.sensor_id is not None}
    taken.update(scenario.http.motion if scenario.http is not None else ())
    names = line_ids(scenario)[len(scenario.lines) :]
    return [
        f"scenario.text_lines[{number}].sensor_id: {name}, which it is without one, is there twice"
        for number, (text, name) in enumerate(zip(scenario.text_lines, names, strict=True))
        if text.sensor_id is None and name in taken
    ]


def line_ids(scenario: Scenario) -> list[str]:
    """The ids of `lines`, then `text_lines`: as given, or from their place; different ones."""
    lines = (*scenario.lines, *scenario.text_lines)
    return different_ids(
        [(line.line_id, place_name(line.place_mode, line.pty_path, line.tcp_port)) for line in lines]
    )


def usual_mode(pty_path: object, tcp_port: object) -> str:
    """The mode of a line that says none."""
    return "tcp" if tcp_port is not None and pty_path is None else "pty"


def place_name(mode: str, pty_path: Path | None, tcp_port: object) -> str:
    """What a line is called after its place; characters that no id has become `_`."""
    name = pty_path.stem if mode == "pty" and pty_path is not None else f"tcp-{tcp_port}"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_"


def different_ids(lines: Sequence[tuple[str | None, str]]) -> list[str]:
    """The ids of lines that are given as (id, name of the place)."""
    taken = {line_id for line_id, _ in lines} | {"http"}
    found = []
    for line_id, stem in lines:
        name = line_id
        if name is None:
            names = (f"{stem}-{number}" if number > 1 else stem for number in itertools.count(1))
            name = next(each for each in names if each not in taken)
            taken.add(name)
        found.append(name)
    return found


def _possible(faults: tuple[Fault, ...], kinds: frozenset[Kind]) -> tuple[Fault, ...]:
    for fault in faults:
        if fault.kind not in kinds:
            raise ValueError(f"{fault.kind} is not one of {', '.join(sorted(kinds))}")
    return faults
