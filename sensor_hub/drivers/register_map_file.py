"""Our own format of register maps: one JSON file, checked by the model below (and by the schema made from it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from sensor_hub.drivers.base import Settings, describe, json_path, settings_at
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import MAX_REGISTERS, Register, Table, bounds
from sensor_hub.drivers.register_map_model import LineDefaults, MapError, RegisterMap
from sensor_hub.drivers.settings import Flag, check_property_names, one_of, whole, within
from sensor_hub.readings import Json


class NeverRead(Settings):
    """Registers that must not be read, not even in passing: reading them changes something."""

    table: Annotated[Table, one_of(("holding", "input", "coil", "discrete"))]
    address: Annotated[int, whole(0, 65535), bounds(0, 65535)]
    length: Annotated[int, whole(1, 65536), bounds(1, 65536)] = 1


class MapFile(Settings):
    """A register map: what a device's registers mean, and how it wants to be read."""

    schema_: str | None = Field(default=None, alias="$schema")
    description: str | None = None
    source: str | None = None
    baudrate: Annotated[int, whole(50, 4_000_000), bounds(50, 4_000_000)] | None = None
    max_registers: Annotated[int, whole(1, MAX_REGISTERS), bounds(1, MAX_REGISTERS)] | None = None
    max_gap: Annotated[int, whole(0, MAX_REGISTERS), bounds(0, MAX_REGISTERS)] | None = None
    delay_ms: Annotated[float, within(0, 10_000)] | None = None
    write_multiple: Flag | None = None
    never_read: list[NeverRead] | None = None
    registers: dict[str, Register]

    @field_validator("registers")
    @classmethod
    def _names(cls, registers: dict[str, Register]) -> dict[str, Register]:
        if not registers:
            raise ValueError("must have at least one register")
        check_property_names(registers)
        return registers


def map_of(name: str, content: Mapping[str, Json]) -> RegisterMap:
    """The map that a file of ours holds. Raises MapError with every problem and its JSON path."""
    try:
        file = MapFile.model_validate(dict(content))
    except ValidationError as error:
        raise MapError(name, [_problem(name, item) for item in error.errors(include_url=False)]) from None
    line = LineDefaults(file.baudrate, file.max_registers, file.max_gap, file.delay_ms, file.write_multiple)
    spans = tuple(Span(item.table, item.address, item.length) for item in file.never_read or ())
    write_only = (item for item in file.registers.values() if not item.read)
    spans += tuple(Span(item.table, item.address, item.count) for item in write_only)
    return RegisterMap(name, file.registers, line=line, never_read=spans, description=file.description or "")


def _problem(name: str, item: Mapping[str, Any]) -> str:
    where: tuple[int | str, ...] = item["loc"]
    place = json_path(f"{name}.json", where).removeprefix(f"{name}.json").lstrip(".") or "the file"
    return f"{name}.json, {place}: {describe(item, settings_at(MapFile, where[:-1]))}"


def schema_text() -> str:
    """The JSON schema of these files, as docs/register-map.schema.json has it."""
    schema = MapFile.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
