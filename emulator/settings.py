"""Scenario file < environment < command line: what counts, and where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.scenario import Scenario, ScenarioError, different_ids, parse, place_name, usual_mode
from emulator.settings_shown import DEFAULT as DEFAULT
from emulator.settings_shown import OF_MODE, Row, Rows

SCENARIO_FILE = "scenario file"
ENVIRONMENT, COMMAND_LINE = _SAID = ("environment", "command line")
_KINDS = ("lines", "text_lines")
_HINT = " (SERIAL_MODE, --serial-mode)"
_MODES = ("pty", "tcp", "tcp_client")


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable and an option that stand for a key of a line, or of the web server."""

    key: str
    variable: str
    takes: str
    help: str
    of_web: bool = False
    type: type = str

    @property
    def option(self) -> str:
        """As on the command line."""
        return "--" + self.variable.lower().replace("_", "-")


SETTINGS = (
    Setting("mode", "SERIAL_MODE", "pty|tcp|tcp_client", "a terminal, a port, or an address to call"),
    Setting("pty_path", "SERIAL_PTY_PATH", "absolute path", "link to the terminal"),
    Setting("tcp_host", "SERIAL_TCP_HOST", "address", "where to listen, or whom to call"),
    Setting("tcp_port", "SERIAL_TCP_PORT", "1..65535", "the port to listen on, or to call", type=int),
    Setting("clients", "SERIAL_CLIENTS", "one|many", "TCP clients at a time"),
    Setting("baudrate", "SERIAL_BAUDRATE", "50..4000000", "speed of the line", type=int),
    Setting("paced", "SERIAL_PACED", "true|false", "bytes take as long as at that speed", type=bool),
    Setting(
        "reconnect_timeout_sec",
        "SERIAL_RECONNECT_TIMEOUT",
        "seconds",
        "tcp_client: give up after; 0: never",
        type=float,
    ),
    Setting(
        "reconnect_backoff_ms",
        "SERIAL_RECONNECT_BACKOFF",
        "milliseconds",
        "tcp_client: first pause, doubled up to 30 s",
        type=int,
    ),
    Setting("host", "WEB_HOST", "address", "address of the web server", of_web=True),
    Setting("port", "WEB_PORT", "1..65535", "port of the web server", of_web=True, type=int),
    Setting(
        "names", "WEB_NAMES", "name,…", "names of the public DNS that lead to it", of_web=True, type=list
    ),
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The scenario as it counts."""

    scenario: Scenario
    rows: tuple[Row, ...]

    @property
    def remarks(self) -> list[str]:
        """What environment or command line said in vain."""
        return [
            f"{row.origin}: {row.name} is {row.unused}{_HINT if row.unused.startswith(OF_MODE) else ''}"
            for row in self.rows
            if row.unused and row.origin.startswith(_SAID)
        ]


def resolve(
    data: object,
    environ: Mapping[str, str],
    options: Mapping[str, Sequence[str]],
    source: str = SCENARIO_FILE,
) -> Resolved:
    """Lay environment and command line over a scenario (decoded JSON); ScenarioError with every problem.

    `options`: variable -> what was said on the command line. A line is named as in `bus0=/tmp/bus0`.
    `source`: where the data came from. A value that another one replaces must be a good one, too.
    """
    if not isinstance(data, dict):
        parse(data)  # which says what is wrong
    whole: dict[str, Any] = copy.deepcopy(data) if isinstance(data, dict) else {}
    overlay = _Overlay(whole)
    if whole.get("ignore_environment") is not True:
        for setting in SETTINGS:
            text = environ.get(setting.variable, "")
            overlay.lay(setting, f"{ENVIRONMENT} {setting.variable}", text.split(",") if text else [])
    for setting in SETTINGS:
        overlay.lay(setting, f"{COMMAND_LINE} {setting.option}", options.get(setting.variable, ()))
    overlay.lay_web()
    problems = list(overlay.problems)
    try:
        scenario = parse(whole)
    except ScenarioError as error:
        problems += overlay.not_told(error.problems)
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    return Resolved(scenario, tuple(Rows(scenario, whole, overlay.origins, source).all()))


class _Overlay:
    """Puts given values into a scenario that nobody has checked yet."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}  # path -> whose value stands there
        self._checked: set[str] = set()  # paths whose own value was looked at
        self._wrong: set[str] = set()  # paths for which a value was given that is none
        self._web: dict[str, tuple[object, str]] = {}  # key -> value (None: it is a problem), origin
        self._paths = [
            (kind, number, line)
            for kind in _KINDS
            for number, line in enumerate(data[kind] if isinstance(data.get(kind), list) else [])
            if isinstance(line, dict)
        ]
        self._ids = []
        ids = _own_ids([line for _, _, line in self._paths])
        for (kind, number, line), own in zip(self._paths, ids, strict=True):
            self._ids.append(f"{kind}[{number}]" if own is None else own)
            if own is not None and line.get("line_id") is None:
                line["line_id"] = own  # whatever is laid over its place

    def lay(self, setting: Setting, origin: str, texts: Sequence[str]) -> None:
        """Take what was given for one setting in one place."""
        if setting.type is list and texts:
            texts = [",".join(texts)]
        for text in texts:
            if setting.of_web:
                value = self._value(setting, origin, text, f"scenario.http.{setting.key}")
                self._web[setting.key] = value, origin
            else:
                self._put_line(setting, origin, text)

    def lay_web(self) -> None:
        """Put what was given for the web server there at last: it takes a port, wherever that was said."""
        given = {key: value for key, (value, _) in self._web.items() if value is not None}
        if self._data.get("http") is None and "port" in given:
            self._data["http"] = {}
        http = self._data.get("http")
        if isinstance(http, dict):
            for setting in SETTINGS:
                if setting.of_web and setting.key in self._web:
                    self._check_own(setting, http, f"scenario.http.{setting.key}")
            http |= given
            self.origins |= {f"scenario.http.{key}": self._web[key][1] for key in given}
        elif http is None and "port" not in self._web:
            self.problems += [
                f"{origin}: there is no web server without a port (WEB_PORT, --web-port)"
                for _, origin in self._web.values()
            ]

    def not_told(self, problems: Sequence[str]) -> list[str]:
        """Those of the whole's problems that do not follow from one that is told already."""
        return [problem for problem in problems if problem.partition(": ")[0] not in self._wrong]

    def _put_line(self, setting: Setting, origin: str, text: str) -> None:
        line_id, equals, rest = text.partition("=")
        named = equals and line_id in self._ids
        if not named and len(self._paths) != 1:
            names = ", ".join(self._ids) or "none"
            example = f"{self._ids[0]}={text}" if self._ids else text
            self.problems.append(
                f"{origin}: the scenario has {len(self._paths)} lines ({names}): say which, as in {example}"
            )
            return
        kind, number, line = self._paths[self._ids.index(line_id) if named else 0]
        path = f"scenario.{kind}[{number}].{setting.key}"
        self._check_own(setting, line, path)
        value = self._value(setting, origin, rest if named else text, path)
        if value is not None:
            line[setting.key] = value
            self.origins[path] = origin

    def _check_own(self, setting: Setting, owner: dict[str, Any], path: str) -> None:
        """What the scenario itself has there must be good, too; told once."""
        if setting.key in owner and path not in self._checked:
            self.problems += _problems_of(setting, owner[setting.key], path)
        self._checked.add(path)

    def _value(self, setting: Setting, origin: str, text: str, path: str) -> object:
        """The text as JSON has it; None after a problem was noted."""
        try:
            value = _read(setting, text)
        except ValueError:
            problems = [f"must be {setting.takes}, not {text!r}"]
        else:
            problems = _problems_of(setting, value, path)
        self.problems += [f"{origin}: {problem}" for problem in problems]
        if not problems:
            return value
        self._wrong.add(path)
        return None


def _read(setting: Setting, text: str) -> object:
    """ValueError for a text that is of another type."""
    if setting.type is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    if setting.type is not bool:
        value: object = setting.type(text)
        return value
    if text.lower() not in ("true", "1", "yes", "false", "0", "no"):
        raise ValueError
    return text.lower() in ("true", "1", "yes")


def _problems_of(setting: Setting, value: object, path: str) -> list[str]:
    """What is wrong with a value by itself, wherever it is; `path`: where it stands."""
    at = f"scenario.{'http' if setting.of_web else 'lines[0]'}.{setting.key}"
    http, line = {"port": 1, setting.key: value}, {"pty_path": "/x", "units": [], setting.key: value}
    try:
        parse({"http": http} if setting.of_web else {"lines": [line]})
    except ScenarioError as error:
        found = [problem.removeprefix(at) for problem in error.problems if problem.startswith(at)]
        return [f"{path}{rest}" for rest in found if rest[0] in ":["]
    return []


def _own_ids(lines: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """The ids of lines that nobody has checked, given or from their place; None for a line without a place."""
    heads = []
    for line in lines:
        line_id, path, port = line.get("line_id"), line.get("pty_path"), line.get("tcp_port")
        mode = line["mode"] if line.get("mode") in _MODES else usual_mode(path, port)
        at = Path(path) if isinstance(path, str) else None
        has_place = (at if mode == "pty" else port) is not None
        heads.append((line_id if isinstance(line_id, str) else None, place_name(mode, at, port), has_place))
    ids = iter(
        different_ids([(given, stem) for given, stem, has_place in heads if given is not None or has_place])
    )
    return [next(ids) if given is not None or has_place else None for given, _, has_place in heads]
