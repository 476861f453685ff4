"""One row of a Python Protocol Gateway table, its cells understood. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sensor_hub.drivers import ppg_tables as table
from sensor_hub.drivers.modbus_register import by_code
from sensor_hub.drivers.modbus_texts import flag_names
from sensor_hub.drivers.ppg_cells import (
    Access,
    Place,
    Type,
    Unit,
    Values,
    access_of,
    place_of,
    type_of,
    unit_of,
    values_of,
)
from sensor_hub.drivers.ppg_tables import Row

_MESSAGE_ID_MAX = 0x1FFFFFFF  # of CAN; a Modbus address is at most
_ADDRESS_MAX = 65535

Codes = Mapping[str, Mapping[str, str]]


@dataclass(slots=True)
class Findings:
    """What is wrong with a map, and what was not taken as it stands."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a row, understood."""

    row: Row
    place: Place
    type: Type
    unit: Unit
    access: Access
    values: Values
    codes: Mapping[str, str]

    def note(self, column: str, message: str, findings: Findings) -> None:
        """Say what was not taken as it stands."""
        findings.notes.append(self.row.at(column, message))


def understood(row: Row, codes: Codes, findings: Findings, *, messages: bool = False) -> Cells | None:
    """Read all cells; None, and every problem in `findings`, when one of them makes no sense."""
    before = len(findings.problems)
    place = _cell(
        row,
        table.REGISTER,
        lambda text: place_of(text, _MESSAGE_ID_MAX if messages else _ADDRESS_MAX),
        findings,
    )
    type_ = _cell(row, table.TYPE, type_of, findings)
    unit = _cell(row, table.UNIT, unit_of, findings)
    if len(findings.problems) > before or place is None or type_ is None or unit is None:
        return None
    access, doubt = access_of(row[table.WRITABLE])
    values = values_of(row[table.VALUES], is_text=type_.family in ("string", "hex"))
    for column, note in ((table.REGISTER, place.note), (table.UNIT, unit.note), (table.WRITABLE, doubt)):
        if note:
            findings.notes.append(row.at(column, note))
    return Cells(row, place, type_, unit, access, values, _codes(row, values, codes, findings))


def _cell(row: Row, column: str, parse: Any, findings: Findings) -> Any:
    try:
        return parse(row[column])
    except ValueError as error:
        findings.problems.append(row.at(column, error))
        return None


def _codes(row: Row, values: Values, codes: Codes, findings: Findings) -> Mapping[str, str]:
    """Those of the JSON file win over those of the cell."""
    if row.name in codes:
        return codes[row.name]
    if values.reference is not None:
        if values.reference.lower() in codes:
            return codes[values.reference.lower()]
        findings.notes.append(row.at(table.VALUES, f"the JSON file has no {values.reference}_codes"))
    return values.codes


def flag_codes(cells: Cells, bit: int, width: int, findings: Findings) -> dict[str, str]:
    """Texts of the bits that a field has, counted from its first."""
    flags: dict[int, tuple[str, str]] = {}
    skipped = _counted_from_0(cells.codes, bit, width)
    if skipped:
        cells.note(
            table.VALUES, f"flags are counted from bit 0, not from {bit}, where the field begins", findings
        )
    for key, text in cells.codes.items():
        try:
            moved = "&".join(f"b{_bit_number(part) - skipped}" for part in key.split("&"))
            (name,) = flag_names({moved: text}, width)
        except ValueError:
            cells.note(
                table.VALUES, f"flag {key[:40]!r} is no bit from b0 to b{width - 1}: left out", findings
            )
        else:
            flags.setdefault(name.mask, (moved, text))
    return dict(flags.values())


def _counted_from_0(keys: Iterable[str], bit: int, width: int) -> int:
    """How many bits the numbers of all flags are too high: makers count within the register, or within the field."""
    try:
        numbers = [_bit_number(part) for key in keys for part in key.split("&")]
    except ValueError:
        return 0
    beyond = bool(numbers) and min(numbers) >= max(bit, width) and max(numbers) < bit + width
    return bit if beyond else 0


def _bit_number(text: str) -> int:
    """`b7` -> 7; plain numbers are codes, not bits."""
    word = text.strip().lower()
    if not word.startswith("b") or not word[1:].isdecimal() or len(word) > 5:
        raise ValueError(word)
    return int(word[1:])


def number_codes(cells: Cells, findings: Findings) -> dict[str, str]:
    """Texts of numbers, each number written plainly."""
    values: dict[int, str] = {}
    for key, text in cells.codes.items():
        try:
            (code,) = by_code({key: text})
        except ValueError as error:
            cells.note(table.VALUES, f"{error}: left out", findings)
        else:
            values.setdefault(code, text)
    return {str(code): text for code, text in values.items()}
