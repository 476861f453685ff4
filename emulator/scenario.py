"""What to emulate: the scenario file, checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EXIT_CODE_CONFIG = 78  # EX_CONFIG of sysexits.h


class ScenarioError(Exception):
    """The scenario cannot be used; `problems` holds each with its JSON path."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Unit:
    """One Modbus unit and the kind of sensor it is."""

    unit_id: int
    sensor_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Line:
    """One serial line. `error_rate` is the share of requests that stay unanswered."""

    pty_path: Path
    baudrate: int
    error_rate: float
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP devices. `error_rate` is the share of polls that stay unanswered."""

    host: str
    port: int
    error_rate: float
    motion: tuple[str, ...]


TEXT_KINDS = ("openevse", "openevse_emulator", "arduino", "arduino_json", "scale")


@dataclass(frozen=True, slots=True)
class Text:
    """One line with a device that speaks in text; `kind` is one of TEXT_KINDS."""

    pty_path: Path
    kind: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that one emulator provides. `seed` None: different every time."""

    instance_id: str
    seed: int | None
    timezone: ZoneInfo
    lines: tuple[Line, ...]
    http: Http | None
    text_lines: tuple[Text, ...] = ()


def load(path: Path) -> Scenario:
    """Read and check the file; ScenarioError with every problem."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError([f"{path}: {error.strerror or error}"]) from error
    except ValueError as error:
        raise ScenarioError([f"{path}: not JSON: {error}"]) from error
    return parse(data)


def parse(data: object) -> Scenario:
    """Check decoded JSON; ScenarioError with every problem."""
    return _Parser().scenario(data)


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _integer(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _list(value: object) -> bool:
    return isinstance(value, list)


def _zone(value: object) -> bool:
    try:
        return isinstance(value, str) and ZoneInfo(value) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


class _Parser:
    """Collects problems on the way; a stand-in for a bad value lets the others still be checked."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._sensor_ids: set[str] = set()

    def scenario(self, data: object) -> Scenario:
        keys = ("instance_id", "seed", "timezone", "lines", "http", "text_lines")
        if isinstance(data, dict):
            data = {"text_lines": []} | data  # the one that may be left out
        top = self._object(data, "scenario", keys)
        lines = self._get(top, "lines", "scenario", _list, "a list", [])
        http = top["http"]
        zone = self._get(top, "timezone", "scenario", _zone, "the name of a time zone, such as UTC", "UTC")
        found = Scenario(
            instance_id=self._get(top, "instance_id", "scenario", _text, "a text", ""),
            seed=self._get(
                top,
                "seed",
                "scenario",
                lambda v: v is None or _integer(-(2**63), 2**63)(v),
                "null or an integer",
                None,
            ),
            timezone=ZoneInfo(zone),
            lines=tuple(self._line(line, f"scenario.lines[{index}]") for index, line in enumerate(lines)),
            http=None if http is None or http is _Absent else self._http(http, "scenario.http"),
            text_lines=tuple(
                self._text_line(each, f"scenario.text_lines[{index}]")
                for index, each in enumerate(self._get(top, "text_lines", "scenario", _list, "a list", []))
            ),
        )
        paths = [line.pty_path for line in found.lines] + [text.pty_path for text in found.text_lines]
        self._check_unique([str(path) for path in paths], "scenario.lines", "pty_path")
        if self._problems:
            raise ScenarioError(self._problems)
        return found

    def _line(self, data: object, path: str) -> Line:
        item = self._object(data, path, ("pty_path", "baudrate", "error_rate", "units"))
        units = self._get(item, "units", path, _list, "a list", [])
        line = Line(
            pty_path=self._pty_path(item, path),
            baudrate=self._get(item, "baudrate", path, _integer(50, 4_000_000), "50..4000000", 9600),
            error_rate=self._get(item, "error_rate", path, _rate, "0..1", 0.0),
            units=tuple(self._unit(unit, f"{path}.units[{index}]") for index, unit in enumerate(units)),
        )
        self._check_unique([str(unit.unit_id) for unit in line.units], f"{path}.units", "unit_id")
        return line

    def _pty_path(self, item: dict[str, Any], path: str) -> Path:
        def absolute(value: object) -> bool:
            return _text(value) and Path(str(value)).is_absolute()

        return Path(self._get(item, "pty_path", path, absolute, "an absolute path", "/"))

    def _text_line(self, data: object, path: str) -> Text:
        item = self._object(data, path, ("pty_path", "kind"))
        allowed = f"one of {', '.join(TEXT_KINDS)}"
        kind = self._get(item, "kind", path, lambda value: value in TEXT_KINDS, allowed, TEXT_KINDS[0])
        return Text(self._pty_path(item, path), kind)

    def _unit(self, data: object, path: str) -> Unit:
        item = self._object(data, path, ("unit_id", "sensor_id", "kind"))
        unit = Unit(
            unit_id=self._get(item, "unit_id", path, _integer(1, 247), "1..247", 1),
            sensor_id=self._get(item, "sensor_id", path, _text, "a text", ""),
            kind=self._get(item, "kind", path, _text, "a text", ""),
        )
        self._check_sensor(unit.sensor_id, f"{path}.sensor_id")
        return unit

    def _http(self, data: object, path: str) -> Http:
        item = self._object(data, path, ("host", "port", "error_rate", "motion"))
        motion = self._get(
            item,
            "motion",
            path,
            lambda v: isinstance(v, list) and all(map(_text, v)),
            "a list of sensor ids",
            [],
        )
        for index, sensor_id in enumerate(motion):
            self._check_sensor(sensor_id, f"{path}.motion[{index}]")
        return Http(
            host=self._get(item, "host", path, _text, "a text", ""),
            port=self._get(item, "port", path, _integer(1, 65535), "1..65535", 1),
            error_rate=self._get(item, "error_rate", path, _rate, "0..1", 0.0),
            motion=tuple(motion),
        )

    def _object(self, data: object, path: str, keys: Sequence[str]) -> dict[str, Any]:
        if not isinstance(data, dict):
            self._problems.append(f"{path}: must be an object with {', '.join(keys)}")
            return dict.fromkeys(keys, _Absent)
        self._problems += [f"{path}.{key}: unknown key" for key in data if key not in keys]
        self._problems += [f"{path}.{key}: required" for key in keys if key not in data]
        return dict.fromkeys(keys, _Absent) | data

    def _get(
        self,
        item: dict[str, Any],
        key: str,
        path: str,
        valid: Callable[[object], bool],
        allowed: str,
        stand_in: Any,
    ) -> Any:
        value = item[key]
        if value is _Absent:
            return stand_in
        if not valid(value):
            self._problems.append(f"{path}.{key}: must be {allowed}, not {json.dumps(value)}")
            return stand_in
        return value

    def _check_sensor(self, sensor_id: str, path: str) -> None:
        if sensor_id and sensor_id in self._sensor_ids:
            self._problems.append(f"{path}: {sensor_id} is there twice")
        self._sensor_ids.add(sensor_id)

    def _check_unique(self, values: Sequence[str], path: str, key: str) -> None:
        for value in sorted({value for value in values if values.count(value) > 1}):
            self._problems.append(f"{path}: {key} {value} is there twice")


class _Absent:
    """Stands for a missing value whose absence has been reported."""
