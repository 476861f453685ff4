"""What a sensor on a Modbus line may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import checks
import device_maps
from answering import Json
from checks import Entry, WrongError
from property_names import named
from rules_register import check_register

MAX_REGISTERS = 125
DELAY_MS = checks.number(0, 10_000)


def check_unit(entry: Entry, *, is_tcp: bool) -> None:
    """The options of one unit: which, and one register, or properties, or a device definition."""
    entry.take("unit_id", checks.integer(0, 255) if is_tcp else checks.integer(1, 247))
    entry.take("max_registers", checks.integer(1, MAX_REGISTERS))
    entry.take("max_gap", checks.integer(0, MAX_REGISTERS))
    entry.take("delay_ms", DELAY_MS)
    entry.take("write_multiple", checks.boolean)
    register, properties = entry.pop("register"), entry.pop("properties")
    has_map = entry.has("register_map")
    known = _registers_of_map(entry, has_others=properties is not None)
    if (register is None) == (properties is None and not has_map):
        entry.fail("", "either register, or properties or a register_map, is required")
    if register is not None:
        entry.kept["register"] = check_register(register, f"{entry.where}.register", entry.problems)
    if properties is None:
        return
    beside = [name for name in known if not isinstance(properties, dict) or name not in properties]
    given = named(entry, "properties", properties, beside)
    if not given:
        entry.fail("properties", "must have at least one property")
    entry.kept["properties"] = {
        name: check_register(content, f"{entry.where}.properties.{name}", entry.problems)
        for name, content in given.items()
    }


def _registers_of_map(entry: Entry, *, has_others: bool) -> Sequence[str]:
    """The names of the registers that are taken from a map, as far as it is known here."""
    given = entry.has("register_map")
    name = entry.take("register_map", _map_name)
    include = entry.take("include", _include)
    if include is not None and not given:
        entry.fail("include", "names registers of a register_map, and there is none")
    if include == [] and not has_others:
        entry.fail("include", "must name at least one register")
    found: Mapping[str, Json] = device_maps.registers_of(str(name)) or {}
    for register in include or () if found else ():
        if register not in found:
            entry.fail("include", f"{name} has no register {register[:64]!r}")
    return [each for each in found if include is None or each in include]


def _map_name(value: Json) -> str:
    if not isinstance(value, str) or not device_maps.is_name(value):
        raise checks.refuse("the name of a register map, such as eastron_sdm120", value)
    return value


def _include(value: Json) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WrongError("must be a list of names of registers")
    return value
