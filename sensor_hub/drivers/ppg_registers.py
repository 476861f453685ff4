"""One row of a Python Protocol Gateway table as a Modbus register. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import ValidationError

from sensor_hub.drivers import ppg_tables as table
from sensor_hub.drivers.base import describe
from sensor_hub.drivers.modbus_codec import Order, is_whole
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.ppg_rows import Cells, Findings, flag_codes, number_codes

RegisterTable = Literal["holding", "input"]


def register_of(
    cells: Cells, where: RegisterTable, findings: Findings, *, negated: bool = False
) -> Register | None:
    """The register that the cells describe; `negated`: signed values have the opposite sign."""
    settings: dict[str, Any] = {
        "table": where,
        "address": min(cells.place.registers),
        "read": cells.access != "writeonly",
        "write": cells.access in ("write", "writeonly"),
        "description": cells.row[table.DOCUMENTED].strip() or None,
    }
    family = cells.type.family
    try:
        if family in ("string", "hex"):
            settings |= _text(cells)
        elif family == "flags":
            settings |= _flags(cells, findings)
        else:
            settings |= _number(cells, findings)
            scale = -cells.unit.scale if negated and family == "signed" else cells.unit.scale
            settings |= {"scale": float(scale), "unit": cells.unit.symbol or None}
            settings |= _meaning(cells, scale, settings, findings)
        return Register.model_validate(settings)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            what = f"{'.'.join(map(str, item['loc']))} {describe(dict(item), Register)}".strip()
            findings.problems.append(cells.row.at(table.REGISTER, what))
    except ValueError as error:
        findings.problems.append(cells.row.at(table.REGISTER, error))
    return None


def _joined(cells: Cells) -> dict[str, Any]:
    registers = cells.place.registers
    return {"length": len(registers), "word_order": "little" if registers[0] > registers[-1] else "big"}


def _text(cells: Cells) -> dict[str, Any]:
    settings = _joined(cells)
    if cells.type.size is not None:
        length = -(-cells.type.size // 2)
        if len(cells.place.registers) > 1:
            length = min(length, len(cells.place.registers))
        settings["length"] = length
    is_string = cells.type.family == "string"
    return settings | {
        "data_type": "string" if is_string else "hex",
        "byte_order": cells.type.order or "big",
        "pattern": cells.values.pattern if is_string and cells.access != "read" else None,
    }


def _flags(cells: Cells, findings: Findings) -> dict[str, Any]:
    """The first register has the lowest bits; so has the last of a reversed range."""
    joined = _joined(cells)
    there, bit = 16 * joined["length"], _first_bit(cells, findings)
    is_joined = joined["length"] > 1 and cells.type.bits == 16
    wanted = there if is_joined else cells.type.bits
    if bit >= there:
        raise ValueError(f"bit {bit} is not in a register of {there} bits")
    width = min(wanted, there - bit)
    if width < wanted:
        cells.note(
            table.REGISTER,
            f"only {width} of {wanted} flags are in the register; name a range for more",
            findings,
        )
    flags = flag_codes(cells, bit, width, findings)
    order: Order = "big" if joined["word_order"] == "little" else "little"
    return joined | {
        "data_type": "flags",
        "word_order": order if joined["length"] > 1 else "big",
        "bit": bit,
        "bits": width,
        "flags": flags or None,
    }


def _number(cells: Cells, findings: Findings) -> dict[str, Any]:
    registers, family, bits = cells.place.registers, cells.type.family, cells.type.bits
    wide = max(bits, 16)
    if len(registers) > 1 and 16 * len(registers) != wide:
        raise ValueError(f"{len(registers)} registers are not the {bits} bits of its type")
    settings: dict[str, Any] = {
        "data_type": f"{'int' if family in ('signed', 'signed bits', 'magnitude bits') else 'uint'}{wide}",
        "word_order": "little" if registers[0] > registers[-1] else "big",
        "sign_magnitude": family == "magnitude bits",
    }
    if bits >= 16 and family in ("signed", "unsigned"):
        if cells.place.bit or cells.place.byte:
            cells.note(
                table.REGISTER, f"an offset means nothing for the {bits} bits of its type: left out", findings
            )
        return settings
    bit = _first_bit(cells, findings)
    if bit >= 16:
        raise ValueError(f"bit {bit} is not in a register of 16 bits")
    width = min(bits, 16 - bit)
    if width < bits:
        cells.note(table.REGISTER, f"only {width} of its {bits} bits are in the register", findings)
    if width == 1 and family == "magnitude bits":
        raise ValueError("only its sign is in the register")
    return settings | ({} if width == 16 else {"bit": bit, "bits": width})


def _first_bit(cells: Cells, findings: Findings) -> int:
    byte = cells.place.byte
    if not byte:
        return cells.place.bit or 0
    if byte == 1 and cells.type.bits <= 8:
        return 8 if cells.type.order == "little" else 0
    cells.note(
        table.REGISTER,
        f"byte {byte} is not in the register: left out (bit {byte} is written .b{byte})",
        findings,
    )
    return 0


def _meaning(cells: Cells, scale: Decimal, settings: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """Codes; for what may be written also the limits, which count raw steps."""
    values = number_codes(cells, findings)
    if values:
        return {"values": values, "truncate": not is_whole(scale)}
    if cells.access in ("read", "disabled"):
        return {}
    if cells.values.unclear:
        cells.note(
            table.VALUES,
            f"{cells.row[table.VALUES].strip()[:60]!r} is no range, list or codes: not enforced",
            findings,
        )
        return {}
    limits = Register.model_validate(settings).layout.raw_limits
    assert limits is not None
    allowed = [float(scale * raw) for raw in cells.values.allowed if limits[0] <= raw <= limits[1]]
    if allowed:
        return {"allowed": allowed}
    if cells.values.low is None or cells.values.high is None:
        return {}
    low, high = max(cells.values.low, limits[0]), min(cells.values.high, limits[1])
    if low > high:
        cells.note(
            table.VALUES,
            f"{cells.row[table.VALUES].strip()[:60]!r} does not fit its type: not enforced",
            findings,
        )
        return {}
    ends = sorted((float(scale * low), float(scale * high)))
    return {"min": ends[0], "max": ends[1]}
