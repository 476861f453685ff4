"""Where to look: an address as manuals write it, and the registers around it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sensor_hub.drivers.modbus_register import Table

HIGHEST = 65535
REGISTER_TABLES: Sequence[Table] = ("holding", "input")
_PLAIN = re.compile(r"\s*([0-9]{1,6}|0x[0-9a-f]{1,4})\s*", re.IGNORECASE)
# The first digit is the table, the others count from 1; of five digits or of six.
_NOTATIONS: Sequence[tuple[int, int, Table]] = (
    (40001, 49999, "holding"),
    (400001, 465536, "holding"),
    (30001, 39999, "input"),
    (300001, 365536, "input"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A register that a person may mean, counted from 0. `doubt`: 0 is the likeliest reading of what was typed."""

    table: Table
    address: int
    doubt: int = 0

    def around(self, before: int, after: int) -> range:
        """The addresses around it, as far as there are any."""
        return range(max(0, self.address - before), min(HIGHEST, self.address + after) + 1)


def places_of(text: str, table: Table | None = None) -> list[Place]:
    """The registers that `--address` may mean, likeliest first. Raises ValueError saying what is allowed.

    40011 is holding register 10 in the words of most manuals; some mean the address 40011 itself.
    """
    if not _PLAIN.fullmatch(text):
        raise ValueError("must be 0 to 65535, 0x0000 to 0xFFFF, or like 40011 and 30011 in a manual")
    number = int(text, 16 if "x" in text.lower() else 10)
    places = [] if "x" in text.lower() else list(_noted(number, table))
    if number <= HIGHEST:
        tables = [table] if table is not None else REGISTER_TABLES
        places += [Place(each, number, 1 if places else 0) for each in tables]
    if not places:
        raise ValueError(f"{number} is no address: they end at {HIGHEST}, in a manual at 465536")
    return places


def _noted(number: int, table: Table | None) -> Iterator[Place]:
    for low, high, noted in _NOTATIONS:
        if low <= number <= high and table in (None, noted):
            yield Place(noted, number - low)


def statement(text: str, places: Sequence[Place]) -> str:
    """What is read for what was typed."""
    first = places[0]
    if len(places) > 1 and places[1].doubt > first.doubt:
        rest = " and ".join(place.table for place in places[1:])
        return (
            f"{text.strip()} is {first.table} register {first.address} (counted from 0) in the notation of manuals; "
            f"also read: {rest} at {places[1].address} itself"
        )
    if first.address != _number(text):
        return f"{text.strip()} is {first.table} register {first.address}, counted from 0"
    return f"address {first.address}, counted from 0, in {' and '.join(place.table for place in places)}"


def _number(text: str) -> int:
    return int(text, 16 if "x" in text.lower() else 10)
