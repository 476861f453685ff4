"""The rows of a Python Protocol Gateway CSV file, with its override file merged in. Pure: takes texts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

ROWS_MAX = 5_000

VARIABLE, DOCUMENTED, REGISTER = "variable name", "documented name", "register"
WRITABLE, TYPE, UNIT, VALUES, INTERVAL = "writable", "data type", "unit", "values", "read interval"
COLUMNS = (VARIABLE, DOCUMENTED, REGISTER, TYPE, UNIT, VALUES, WRITABLE, INTERVAL)


@dataclass(frozen=True, slots=True)
class Row:
    """One entry: its cells by column (missing ones are empty) and where it stands."""

    file: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def at(self, column: str, message: object) -> str:
        """What is wrong there, with file, line and column."""
        return f"{self.file}, line {self.line}, {column}: {message}"

    @property
    def name(self) -> str:
        """The maker's name, cleaned: what codes, overrides and pairs go by."""
        return clean(self[DOCUMENTED])


def clean(name: str) -> str:
    """`Grid Energy ` -> `grid_energy`."""
    return name.strip().lower().replace(" ", "_")


def text_of(content: bytes) -> str:
    """Tables are Latin-1, unless they are UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


class _Lines(Iterator[str]):
    """The lines of a file; comments and empty lines are left out, but not from inside a quoted cell."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.between_rows = True
        self.number = 0  # of the line on which the row began
        self._read = 0

    def __next__(self) -> str:
        for line in self._lines:
            self._read += 1
            if self.between_rows:
                if line.lstrip().startswith("#") or not line.strip():
                    continue
                self.between_rows, self.number = False, self._read
            return line
        raise StopIteration


def rows_of(text: str, file: str) -> list[Row]:
    """The rows that name something. Raises ValueError: no table, or one that is broken."""
    lines = _Lines(text.splitlines(keepends=True))
    header = next(lines, "")
    delimiter = "," if header.count(",") > header.count(";") else ";"
    names = [_column(cell) for cell in next(csv.reader([header], delimiter=delimiter), [])]
    if REGISTER not in names or not {VARIABLE, DOCUMENTED} & set(names):
        raise ValueError(
            f"{file}, line {lines.number or 1}: the header must have the columns {REGISTER!r} and {DOCUMENTED!r},"
            f" separated by , or ;"
        )
    lines.between_rows = True
    rows: list[Row] = []
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            row = Row(file, lines.number, _named(names, cells))
            lines.between_rows = True
            if row[VARIABLE].strip() or row[DOCUMENTED].strip() or row[REGISTER].strip():
                rows.append(row)
            if len(rows) > ROWS_MAX:
                raise ValueError(f"{file}: more than {ROWS_MAX} rows")
    except csv.Error as error:
        raise ValueError(f"{file}, line {lines.number}: {error}") from None
    return rows


def _column(cell: str) -> str:
    return " ".join(cell.strip().lower().replace("_", " ").split())


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    named = dict(zip(names, cells, strict=False))
    access = named.get("write", named.get(WRITABLE, ""))  # `write` wins
    return {column: named[column] for column in COLUMNS if column in named} | {WRITABLE: access}


def overridden(rows: Sequence[Row], overrides: Sequence[Row], notes: list[str]) -> list[Row]:
    """The rows with every cell that an override row of the same name (else: register) fills in; new ones behind."""
    merged = list(rows)
    by_name = _places(clean(row[DOCUMENTED]) for row in rows)
    by_register = _places(row[REGISTER].strip().lower() for row in rows)
    for override in overrides:
        name, register = override.name, override[REGISTER].strip().lower()
        places = (by_name.get(name) if name else None) or (by_register.get(register) if register else None)
        filled = {column: cell for column, cell in override.cells.items() if cell.strip()}
        for place in places or ():
            merged[place] = replace(merged[place], cells={**merged[place].cells, **filled})
        if not places and name and register:
            merged.append(override)
        elif not places:
            notes.append(
                override.at(DOCUMENTED, "overrides no row: neither its name nor its register is there")
            )
    return merged


def _places(keys: Iterable[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return places


def pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Each row, with its low half where the next row is that: names ending in `_h` and `_l`."""
    taken = False
    for row, following in pairwise([*rows, None]):
        assert row is not None
        if taken:
            taken = False
            continue
        taken = (
            following is not None
            and row.name.endswith("_h")
            and following.name == row.name.removesuffix("_h") + "_l"
        )
        yield row, following if taken else None
