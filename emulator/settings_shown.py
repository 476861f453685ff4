"""Each value of a scenario with where it came from: the rows of `--show-config`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from emulator.rapi_charger import Charger, Make
from emulator.scenario import CHARGERS, ChargerMake, Ev, Http, Line, Scenario, Text, dialect_of, line_ids

DEFAULT = "default"
LONGEST = 200  # of a row's value, as text
RECONNECT = frozenset(("reconnect_timeout_sec", "reconnect_backoff_ms"))  # of who calls, or opens a real port
OF_MODE = "not used in mode"
UNUSED: Mapping[str, frozenset[str]] = {  # by mode
    "pty": frozenset(("tcp_host", "tcp_port", "clients")) | RECONNECT,
    "tcp": frozenset(("pty_path",)) | RECONNECT,
    "tcp_client": frozenset(("pty_path", "clients")),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One value and where it came from. `unused`: that it does nothing, and why."""

    name: str
    value: object
    origin: str
    unused: str = ""

    @property
    def texts(self) -> tuple[str, str, str]:
        """As it is shown."""
        return self.name, _text(self.value), f"{self.origin}, {self.unused}" if self.unused else self.origin


class Rows:
    """All rows of a scenario."""

    def __init__(
        self, scenario: Scenario, data: dict[str, Any], origins: Mapping[str, str], source: str
    ) -> None:
        """`data`: the scenario as JSON; `origins`: path -> who gave the value there, if not `source`."""
        self._scenario, self._data = scenario, data
        self._origins, self._source = origins, source

    def all(self) -> Iterator[Row]:
        """The whole's, each line's, the web server's."""
        own = ("instance_id", "seed", "timezone", "ignore_environment")
        yield from self._of("", "scenario", self._scenario, self._data, own)
        names = iter(line_ids(self._scenario))
        for kind in ("lines", "text_lines"):
            for number, line in enumerate(getattr(self._scenario, kind)):
                yield from self._line(
                    next(names), line, f"scenario.{kind}[{number}]", self._data[kind][number]
                )
        http = self._scenario.http
        if http is not None:
            given = self._data["http"]
            yield from self._of("web.", "scenario.http", http, given, _keys(Http, "faults"))
            yield from self._faults("web", given)

    def _line(self, name: str, line: Line | Text, path: str, given: dict[str, Any]) -> Iterator[Row]:
        mode = line.place_mode
        counts = {"mode": mode, "baudrate": line.speed}
        keys = _keys(type(line), "line_id", "faults", "units", "charger", "recording")
        if isinstance(line, Text):
            counts["sensor_id"] = line.sensor_id or name
            keys = ["kind", "sensor_id", *(key for key in keys if key not in ("kind", "sensor_id"))]
            keys += ["recording"] if line.recording is not None else []
        for row in self._of(f"{name}.", path, line, given, keys, counts):
            key = row.name.rpartition(".")[2]
            if key not in UNUSED[mode]:
                yield row
            elif row.origin != DEFAULT and row.value is not None:
                yield replace(row, unused=f"{OF_MODE} {mode}")
        yield from self._faults(name, given)
        for unit in given.get("units", ()):
            facts = {key: value for key, value in unit.items() if key != "sensor_id"}
            yield Row(f"{name}.units[{unit['sensor_id']}]", facts, self._source)
        if isinstance(line, Text) and line.kind in CHARGERS:
            yield from self._charger(name, line, path, given.get("charger") or {})

    def _charger(self, name: str, line: Text, path: str, given: dict[str, Any]) -> Iterator[Row]:
        make = line.charger or ChargerMake()
        shelf = Charger(dialect_of(line), Make(protocol_version=make.protocol_version, amps=make.amps))
        counts = {"amps": shelf.amps, "protocol_version": shelf.protocol_version}
        keys = _keys(ChargerMake, "ev")
        yield from self._of(f"{name}.charger.", f"{path}.charger", make, given, keys, counts)
        at = f"{path}.charger.ev"
        yield from self._of(f"{name}.charger.ev.", at, make.ev, given.get("ev", {}), _keys(Ev))

    def _faults(self, name: str, given: dict[str, Any]) -> Iterator[Row]:
        for number, fault in enumerate(given.get("faults", ())):
            yield Row(f"{name}.faults[{number}]", fault, self._source)

    def _of(
        self,
        prefix: str,
        path: str,
        model: BaseModel,
        given: Mapping[str, Any],
        keys: Iterable[str],
        counts: Mapping[str, object] | None = None,
    ) -> Iterator[Row]:
        """`counts`: what counts in place of what stands in the model."""
        for key in keys:
            value = (counts or {}).get(key, getattr(model, key))
            is_said = key in given and (given[key] is not None or value is None)
            origin = self._origins.get(f"{path}.{key}", self._source if is_said else DEFAULT)
            yield Row(f"{prefix}{key}", value, origin)


def _keys(model: type[BaseModel], *but: str) -> list[str]:
    return [key for key in model.model_fields if key not in but]


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | tuple | list | dict):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
    return str(value)
