"""Scenario file < environment < command line: what counts, and where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.scenario import Scenario, ScenarioError, line_ids, parse
from emulator.settings_shown import DEFAULT as DEFAULT
from emulator.settings_shown import Row, Rows

SCENARIO_FILE = "scenario file"
_KINDS = ("lines", "text_lines")
_ENVIRONMENT, _COMMAND_LINE = _SAID = ("environment", "command line")


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
            f"{row.origin}: {row.name} is not used in mode {row.unused_in} (SERIAL_MODE, --serial-mode)"
            for row in self.rows
            if row.unused_in is not None and row.origin.startswith(_SAID)
        ]


def resolve(
    data: object,
    environ: Mapping[str, str],
    options: Mapping[str, Sequence[str]],
    source: str = SCENARIO_FILE,
) -> Resolved:
    """Lay environment and command line over a scenario (decoded JSON); ScenarioError with every problem.

    `options`: variable -> what was said on the command line. A line is named as in `bus0=/tmp/bus0`.
    `source`: where the data came from.
    """
    if not isinstance(data, dict):
        parse(data)  # which says what is wrong
    whole: dict[str, Any] = copy.deepcopy(data) if isinstance(data, dict) else {}
    overlay = _Overlay(whole)
    if whole.get("ignore_environment") is not True:
        for setting in SETTINGS:
            text = environ.get(setting.variable, "")
            overlay.lay(setting, f"{_ENVIRONMENT} {setting.variable}", text.split(",") if text else [])
    for setting in SETTINGS:
        overlay.lay(setting, f"{_COMMAND_LINE} {setting.option}", options.get(setting.variable, ()))
    overlay.lay_web()
    problems = list(overlay.problems)
    try:
        scenario = parse(whole)
    except ScenarioError as error:
        problems += [overlay.explained(problem) for problem in error.problems]
    if problems:
        raise ScenarioError(problems)
    return Resolved(scenario, tuple(Rows(scenario, whole, overlay.origins, source).all()))


class _Overlay:
    """Puts given values into a scenario that nobody has checked yet."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}  # path -> whose value stands there
        self._web: dict[str, tuple[object, str]] = {}  # key -> value (None: it is a problem), origin
        self._paths = [
            (kind, number, line)
            for kind in _KINDS
            for number, line in enumerate(data[kind] if isinstance(data.get(kind), list) else [])
            if isinstance(line, dict)
        ]
        self._ids = self._line_ids()

    def lay(self, setting: Setting, origin: str, texts: Sequence[str]) -> None:
        """Take what was given for one setting in one place."""
        for text in texts:
            if setting.of_web:
                self._web[setting.key] = self._value(setting, origin, text), origin
            else:
                self._put_line(setting, origin, text)

    def lay_web(self) -> None:
        """Put what was given for the web server there at last: it takes a port, wherever that was said."""
        given = {key: value for key, (value, _) in self._web.items() if value is not None}
        if self._data.get("http") is None and "port" in given:
            self._data["http"] = {}
        http = self._data.get("http")
        if isinstance(http, dict):
            http |= given
            self.origins |= {f"scenario.http.{key}": self._web[key][1] for key in given}
        elif http is None and "port" not in self._web:
            self.problems += [
                f"{origin}: there is no web server without a port (WEB_PORT, --web-port)"
                for _, origin in self._web.values()
            ]

    def explained(self, problem: str) -> str:
        """A problem, with the one who gave the value."""
        path = problem.partition(": ")[0]
        origin = self.origins.get(path)
        return problem if origin is None else f"{origin}: {problem}"

    def _line_ids(self) -> list[str]:
        try:
            return line_ids(parse(self._data))
        except ScenarioError:  # told later
            return [str(line.get("line_id", f"{kind}[{number}]")) for kind, number, line in self._paths]

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
        place = self._ids.index(line_id) if named else 0
        value = self._value(setting, origin, rest if named else text)
        if value is not None:
            kind, number, line = self._paths[place]
            line[setting.key] = value
            self.origins[f"scenario.{kind}[{number}].{setting.key}"] = origin

    def _value(self, setting: Setting, origin: str, text: str) -> object:
        """The text as JSON has it; None after a problem was noted."""
        if setting.type is bool:
            if text.lower() in ("true", "1", "yes", "false", "0", "no"):
                return text.lower() in ("true", "1", "yes")
        else:
            try:
                value: object = setting.type(text)
                return value
            except ValueError:
                pass
        self.problems.append(f"{origin}: must be {setting.takes}, not {text!r}")
        return None
