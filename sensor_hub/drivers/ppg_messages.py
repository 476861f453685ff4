"""Values in messages of bytes (CAN, serial frames), as Python Protocol Gateway's maps describe them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from sensor_hub.drivers import modbus_codec, modbus_texts
from sensor_hub.drivers.modbus_codec import Layout, Order
from sensor_hub.drivers.modbus_register import by_code
from sensor_hub.drivers.modbus_texts import flag_names
from sensor_hub.drivers.ppg_rows import Cells, Findings, flag_codes, number_codes
from sensor_hub.errors import ReadFailed
from sensor_hub.readings import Json

Sign = Literal["no", "twos_complement", "magnitude"]


@dataclass(frozen=True, slots=True)
class MessageField:
    """One value. `ids`: the messages whose bytes, joined in this order, hold it.

    `size` bytes from byte `start` on; None: all that follow. A number may be `bits` wide from bit `bit` on; flags
    are counted from the lowest bit of the first byte.
    """

    ids: tuple[int, ...]
    kind: Literal["number", "string", "hex", "flags"] = "number"
    start: int = 0
    size: int | None = None
    order: Order = "big"
    bit: int = 0
    bits: int | None = None
    signed: Sign = "no"
    scale: Decimal = Decimal(1)
    unit: str | None = None
    values: Mapping[int, str] = field(default_factory=dict)
    flags: Sequence[modbus_texts.FlagName] = ()
    interval_s: float | None = None

    def decode(self, data: bytes) -> Json:
        """Its value in the joined messages. Raises ReadFailed when they are too short."""
        end = len(data) if self.size is None else self.start + self.size
        part = data[self.start : end]
        bits = 8 * len(part) if self.bits is None else self.bits
        if not part or end > len(data) or self.bit + bits > 8 * len(part):
            raise ReadFailed(f"the message has only {len(data)} bytes")
        match self.kind:
            case "string":
                return modbus_texts.string_of(part)
            case "hex":
                return part.hex()
            case "flags":
                field_ = int.from_bytes(part, "little") >> self.bit & (1 << bits) - 1
                if self.flags:
                    return modbus_texts.texts_of_flags(field_, self.flags)
                return modbus_texts.bit_string(field_, bits)
        return self._number(int.from_bytes(part, self.order) >> self.bit & (1 << bits) - 1, bits)

    def _number(self, raw: int, bits: int) -> Json:
        sign = 1 << (bits - 1)
        if raw & sign and self.signed != "no":
            raw = sign - raw if self.signed == "magnitude" else raw - 2 * sign
        number = modbus_codec.scaled(Decimal(raw), Layout(scale=self.scale))
        return self.values.get(int(number), number)


def message_of(cells: Cells, order: Order, findings: Findings) -> MessageField:
    """The field of a message that the cells describe."""
    type_, place, family = cells.type, cells.place, cells.type.family
    signed: Sign = "magnitude" if family == "magnitude bits" else "no"
    if family in ("signed", "signed bits"):
        signed = "twos_complement"
    found = MessageField(
        place.registers, start=place.byte or 0, order=type_.order or order, bit=place.bit or 0, signed=signed
    )
    if family in ("string", "hex"):
        return replace(found, kind=family, size=type_.size)
    if family == "flags":
        names = flag_names(flag_codes(cells, found.bit, type_.bits, findings), type_.bits)
        return replace(found, kind="flags", bits=type_.bits, flags=names)
    return replace(
        found,
        size=type_.bits // 8 if family in ("signed", "unsigned") and not found.bit else None,
        bits=type_.bits,
        scale=cells.unit.scale,
        unit=cells.unit.symbol or None,
        values=by_code(number_codes(cells, findings)),
    )
