"""What a device's display shows, as a person types it: a number with its precision, on or off, or a text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sensor_hub.readings import Json

_ON = ("on", "true", "yes")
_OFF = ("off", "false", "no")
_MAX_CHARS = 64
_MAX_EXPONENT = 18


@dataclass(frozen=True, slots=True)
class Expectation:
    """One reading of the display; `value` and `tolerance` of a number, `state` of a switch, else a text."""

    text: str
    value: Decimal | None = None
    tolerance: Decimal = Decimal(0)
    state: bool | None = None

    @property
    def is_whole(self) -> bool:
        """A number without digits behind its point."""
        exponent = self.value.as_tuple().exponent if self.value is not None else None
        return isinstance(exponent, int) and exponent >= 0

    def fits(self, shown: Json) -> bool:
        """Whether a device that holds this may display that."""
        if self.state is not None:
            return shown is self.state
        if self.value is None:
            return shown == self.text
        if isinstance(shown, bool) or not isinstance(shown, int | float):
            return False
        return abs(Decimal(repr(shown)) - self.value) <= self.tolerance


def expectation_of(text: str, tolerance: float | None = None) -> Expectation:
    """`22.5` is 22.5 ± 0.05, `22,5` too; `on` and `off` are switches. Raises ValueError saying what is allowed."""
    said = text.strip()
    if not said or len(said) > _MAX_CHARS or not said.isprintable():
        raise ValueError(f"must be what the display shows: 1 to {_MAX_CHARS} printable characters")
    if said.lower() in _ON + _OFF:
        return Expectation(said, state=said.lower() in _ON)
    number = said.replace(",", ".") if said.count(",") == 1 and "." not in said else said
    try:
        value = Decimal(number)
    except InvalidOperation:
        return Expectation(said)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _MAX_EXPONENT or value.adjusted() > _MAX_EXPONENT:
        raise ValueError(f"{said} is no number that a display shows")
    half = Decimal(1).scaleb(exponent) / 2
    return Expectation(said, value, half if tolerance is None else Decimal(repr(tolerance)))
