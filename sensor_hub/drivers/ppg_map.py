"""A whole Python Protocol Gateway definition: its JSON settings and its tables -> properties. Pure: takes texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sensor_hub.config.values import BadValueError, Parser, boolean, choice, integer, number
from sensor_hub.drivers import ppg_tables as table
from sensor_hub.drivers.modbus_codec import Order
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import READ_INTERVAL_S, Register, Table
from sensor_hub.drivers.ppg_cells import interval_of
from sensor_hub.drivers.ppg_messages import MessageField, message_of
from sensor_hub.drivers.ppg_registers import RegisterTable, register_of
from sensor_hub.drivers.ppg_rows import Cells, Codes, Findings, understood
from sensor_hub.drivers.ppg_tables import Row
from sensor_hub.drivers.register_map_model import LineDefaults, MapError, RegisterMap
from sensor_hub.readings import Json
from sensor_hub.wire import RESERVED, topic_level

CODES_MAX = 1000
_CODES = "_codes"
_NAME_MAX = 64
_WIDER: Mapping[str, str] = {"": "uint", "ushort": "uint", "uint16": "uint", "short": "int", "int16": "int"}

_NOTE = re.compile(r"(?P<file>[^,]+), line (?P<line>[0-9]+), (?P<rest>.+)", re.DOTALL)

Interval = tuple[Decimal, str]


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows of a definition's tables, overrides merged in."""

    holding: Sequence[Row] = ()
    input: Sequence[Row] = ()
    messages: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition, understood; only what depends on the line it is used on is open (`at`)."""

    map: RegisterMap
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def at(self, read_interval_s: float) -> RegisterMap:
        """The map on a line whose devices are read every `read_interval_s`."""
        registers = {
            name: self._timed(name, register, read_interval_s)
            for name, register in self.map.registers.items()
        }
        messages = {
            name: replace(message, interval_s=self._interval_s(name, read_interval_s))
            for name, message in self.map.messages.items()
        }
        return replace(self.map, registers=registers, messages=messages)

    def _timed(self, name: str, register: Register, line_s: float) -> Register:
        own = {"read_interval": self._interval_s(name, line_s)} if name in self.intervals else {}
        return register.model_copy(update=own)

    def _interval_s(self, name: str, line_s: float) -> float | None:
        if name not in self.intervals:
            return None
        count, word = self.intervals[name]
        factor = {"x": line_s, "s": 1.0, "ms": 0.001}[word]
        low, high = READ_INTERVAL_S
        return min(max(float(count * Decimal(repr(factor))), low), high)


@dataclass(frozen=True, slots=True)
class _Settings:
    """The JSON file."""

    line: LineDefaults
    codes: Codes
    order: Order = "big"
    holding: bool = True
    input: bool = True
    negated: bool = False
    read_interval: Interval | None = None


def definition_of(
    name: str, settings: Mapping[str, Json], tables: Tables, notes: Sequence[str] = ()
) -> Definition:
    """The definition `name`. Raises MapError with every problem."""
    findings = Findings(notes=list(notes))
    told = _settings(name, settings, findings)
    builder = _Builder(told, findings)
    if told.holding:
        builder.take_registers("holding", tables.holding)
    if told.input:
        builder.take_registers("input", tables.input)
    builder.take_messages(tables.messages)
    builder.check_signs()
    if not findings.problems and not builder.registers and not builder.messages:
        findings.problems.append("there is nothing in it to read or write")
    if findings.problems:
        raise MapError(name, findings.problems)
    loaded = RegisterMap(
        name,
        builder.registers,
        builder.messages,
        told.line,
        builder.never_read(),
        tuple(_condensed(findings.notes)),
    )
    return Definition(loaded, builder.intervals)


def _settings(name: str, given: Mapping[str, Json], findings: Findings) -> _Settings:
    def take(key: str, parse: Parser[Any], default: Any = None) -> Any:
        value = given.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        try:
            return parse(value)
        except BadValueError as error:
            findings.problems.append(f"{name}.json, {key}: {error}")
            return default

    interval = take("read_interval", number(1, 86_400_000))
    delay_s = take("batch_delay", number(0, 10))
    line = LineDefaults(
        baudrate=take("baud", integer(50, 4_000_000)),
        max_registers=min(take("batch_size", integer(1, 65536), 125), 125) if "batch_size" in given else None,
        delay_ms=None if delay_s is None else 1000 * delay_s,
    )
    return _Settings(
        line,
        _all_codes(name, given, findings),
        take("byteorder", choice(("big", "little")), "big"),
        take("send_holding_register", boolean, True),
        take("send_input_register", boolean, True),
        take("compat", choice(("ppg", "none")), "none") == "ppg",
        None if interval is None else (Decimal(repr(interval)), "ms"),
    )


def _all_codes(name: str, given: Mapping[str, Json], findings: Findings) -> Codes:
    codes: dict[str, Mapping[str, str]] = {}
    for key, value in given.items():
        if not key.endswith(_CODES):
            continue
        if not isinstance(value, dict) or len(value) > CODES_MAX:
            findings.problems.append(
                f"{name}.json, {key}: must be an object of at most {CODES_MAX} codes and texts"
            )
            continue
        texts = {code: str(text) for code, text in value.items() if isinstance(text, str | int | float)}
        codes[table.clean(key.removesuffix(_CODES))] = texts
    return codes


def _condensed(notes: Iterable[str]) -> Iterator[str]:
    """The same note of many rows once, with the first row's line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        found = _NOTE.fullmatch(note)
        key = (found["file"], found["rest"]) if found else (note, "")
        lines.setdefault(key, []).append(found["line"] if found else "")
    for (file, rest), found_at in lines.items():
        more = f" (and {len(found_at) - 1} more)" if len(found_at) > 1 else ""
        yield f"{file}, line {found_at[0]}{more}, {rest}" if rest else file


class _Builder:
    """Collects the properties of all tables, each under a name of its own."""

    def __init__(self, settings: _Settings, findings: Findings) -> None:
        self.registers: dict[str, Register] = {}
        self.messages: dict[str, MessageField] = {}
        self.intervals: dict[str, Interval] = {}
        self._settings = settings
        self._findings = findings
        self._levels: set[str] = set()
        self._signs: list[bool] = []  # of each signed row: whether its scale is negative
        self._read: set[tuple[Table, int]] = set()
        self._disabled: set[tuple[Table, int]] = set()

    def take_registers(self, where: RegisterTable, rows: Sequence[Row]) -> None:
        """One table of registers."""
        for row in self._whole(rows):
            cells = understood(row, self._settings.codes, self._findings)
            if cells is None:
                continue
            if where == "input" and cells.access in ("write", "writeonly"):
                cells.note(table.WRITABLE, "input registers cannot be written: read-only", self._findings)
                cells = replace(cells, access="read")
            register = register_of(cells, where, self._findings, negated=self._settings.negated)
            if register is None:
                continue
            around = {(register.table, register.address + index) for index in range(register.count)}
            if cells.access in ("disabled", "writeonly"):
                self._disabled |= around
            else:
                self._read |= around
            if cells.type.family == "signed":
                self._signs.append(cells.unit.scale < 0)
            if cells.access != "disabled":
                self.registers[self._name(cells)] = register

    def take_messages(self, rows: Sequence[Row]) -> None:
        """The table of a protocol without registers."""
        for row in self._whole(rows):
            cells = understood(row, self._settings.codes, self._findings, messages=True)
            if cells is None or cells.access == "disabled":
                continue
            self.messages[self._name(cells)] = message_of(cells, self._settings.order, self._findings)

    def check_signs(self) -> None:
        """A map whose signed values all have a negative scale was probably made for the inverted sign."""
        if self._signs and all(self._signs) and not self._settings.negated:
            self._findings.notes.append(
                'all signed values have a negative scale; if signs are wrong, say "compat": "ppg" in the JSON file'
            )

    def never_read(self) -> tuple[Span, ...]:
        """Registers that are disabled, or only written, and no part of what is read."""
        spans: list[Span] = []
        for where, address in sorted(self._disabled - self._read):
            if spans and spans[-1].table == where and spans[-1].end == address:
                spans[-1] = Span(where, spans[-1].address, spans[-1].count + 1)
            else:
                spans.append(Span(where, address, 1))
        return tuple(spans)

    def _whole(self, rows: Sequence[Row]) -> Iterable[Row]:
        """The rows, two halves of a number as one."""
        for row, low in table.pairs(rows):
            joined = None if low is None else _joined(row, low)
            if joined is not None:
                yield joined
            else:
                yield row
                if low is not None:
                    self._findings.notes.append(
                        low.at(
                            table.REGISTER,
                            f"not joined with {row.name!r}: they are no two registers side by side",
                        )
                    )
                    yield low

    def _name(self, cells: Cells) -> str:
        row = cells.row
        plain = table.clean(row[table.VARIABLE]).replace("__", "_") or row.name
        plain = "".join(char if char.isprintable() else "_" for char in plain)
        name = unique = plain[:_NAME_MAX]
        if topic_level(name) in RESERVED:
            name = unique = name + "_value"
        count = 1
        while topic_level(unique) in self._levels:
            count += 1
            unique = f"{name[: _NAME_MAX - 6]}_{count}"
        if unique != plain:
            why = f"is longer than {_NAME_MAX} characters" if len(plain) > _NAME_MAX else "is taken"
            column = table.VARIABLE if row[table.VARIABLE].strip() else table.DOCUMENTED
            cells.note(column, f"{plain[:200]!r} {why}: it is called {unique!r}", self._findings)
        self._levels.add(topic_level(unique))
        self._take_interval(unique, row)
        return unique

    def _take_interval(self, name: str, row: Row) -> None:
        try:
            interval = interval_of(row[table.INTERVAL])
        except ValueError as error:
            self._findings.notes.append(row.at(table.INTERVAL, f"{error}: left out"))
            interval = None
        interval = interval or self._settings.read_interval
        if interval is not None:
            self.intervals[name] = interval


def _joined(high: Row, low: Row) -> Row | None:
    """One row of 32 bits for two of 16, high word first; None when they are not that."""
    try:
        first, second = int(high[table.REGISTER], 0), int(low[table.REGISTER], 0)
    except ValueError:
        return None
    types = [row[table.TYPE].strip().lower() for row in (high, low)]
    if abs(first - second) != 1 or not all(type_ in _WIDER or type_ in ("int", "uint") for type_ in types):
        return None
    wide = [_WIDER.get(type_, type_) for type_ in types]
    cells = {
        **high.cells,
        table.TYPE: "int" if "int" in wide else "uint",
        table.REGISTER: f"{'r' if first > second else ''}{min(first, second)}~{max(first, second)}",
        table.DOCUMENTED: high.name.removesuffix("_h"),
        table.UNIT: high[table.UNIT].strip() or low[table.UNIT],
    }
    return replace(high, cells=cells)
