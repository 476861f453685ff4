"""Which registers, read which way, give what the display shows: every guess is a `Register`, decoded by it. Pure.

`Held` is what was read: table -> address -> raw register (or bit). A guess that needs a register which was not read
is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from sensor_hub.bus_tools.expectation import Expectation
from sensor_hub.bus_tools.places import Place
from sensor_hub.drivers.modbus_register import Register, Table
from sensor_hub.errors import ReadFailed
from sensor_hub.readings import Json

Held = Mapping[Table, Mapping[int, int]]

# How unlikely each choice is; a guess's penalties add up. Manuals count from 1 more often than from anything else.
_DISTANCE: Mapping[int, float] = {0: 0.0, -1: 1.5, 1: 2.5}
_TYPES: Mapping[str, float] = {
    "int16": 0.0,
    "uint16": 0.1,
    "float32": 0.2,
    "int32": 0.6,
    "uint32": 0.7,
    "float64": 1.2,
    "int64": 2.0,
    "uint64": 2.1,
}
_ORDERS: Mapping[tuple[str, str], float] = {
    ("big", "big"): 0.0,
    ("little", "big"): 0.5,
    ("little", "little"): 1.5,
    ("big", "little"): 2.0,
}
_SCALES: Mapping[float, float] = {
    1: 0.0,
    0.1: 0.1,
    0.01: 0.3,
    0.001: 0.6,
    10: 0.8,
    100: 1.2,
    1000: 1.2,
    0.0001: 1.5,
    0.5: 2.2,
    0.2: 2.6,
    0.25: 2.6,
    0.05: 2.6,
    0.02: 2.8,
    0.005: 3.0,
    0.125: 3.0,
    0.0625: 3.0,
}
_OFFSETS: Mapping[float, float] = {-40: 3.0, -50: 3.2, -100: 3.4, -273.15: 3.2}
_OFFSET_SCALES = (1, 0.1, 0.01)
_PARTS: Sequence[Mapping[str, int]] = ({"bit": 0, "bits": 8}, {"bit": 8, "bits": 8})
_PART_PENALTY, _SIGN_PENALTY, _HOLLOW_PENALTY, _DOUBT_PENALTY = 3.0, 3.0, 1.0, 1.0
_TINY_FLOAT = 1e-30  # what a small whole number is as a float: nobody's measurement


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to read the device; `value` is what the hub would publish."""

    register: Register
    options: Mapping[str, Json]  # the JSON of `register`, without what is usual
    value: Json
    penalty: float


def guesses(held: Held, places: Sequence[Place], expected: Expectation) -> list[Guess]:
    """All that fit, likeliest first."""
    best: dict[str, Guess] = {}
    for place in places:
        raw = held.get(place.table, {})
        for address in raw:
            if abs(address - place.address) > 16:
                continue  # read for another place
            near = _distance(address - place.address) + place.doubt * _DOUBT_PENALTY
            for options, penalty in _readings(place.table, raw, address, expected):
                guess = _guess({"table": place.table, "address": address, **options}, penalty + near)
                value = _value_of(guess.register, raw) if guess else None
                if guess is None or not expected.fits(value):
                    continue
                key = repr(sorted(guess.options.items()))
                if key not in best or best[key].penalty > guess.penalty:
                    best[key] = Guess(guess.register, guess.options, value, guess.penalty)
    return sorted(best.values(), key=lambda guess: (guess.penalty, guess.register.address))


def still_fitting(before: Sequence[Guess], held: Held, expected: Expectation) -> list[Guess]:
    """Those that give the new number, too, in their order."""
    fitting: list[Guess] = []
    for guess in before:
        value = _value_of(guess.register, held.get(guess.register.table, {}))
        if expected.fits(value):
            fitting.append(Guess(guess.register, guess.options, value, guess.penalty))
    return fitting


def _distance(steps: int) -> float:
    return _DISTANCE.get(steps, 3.0 + 0.3 * abs(steps))


def _guess(options: Mapping[str, Any], penalty: float) -> Guess | None:
    try:
        return Guess(Register.model_validate(dict(options)), options, None, penalty)
    except ValidationError:
        return None


def _value_of(register: Register, raw: Mapping[int, int]) -> Json:
    """What the hub would publish; None: not read, or no number."""
    words = [raw.get(register.address + step) for step in range(register.count)]
    known = [word for word in words if word is not None]
    if len(known) < len(words):
        return None
    try:
        return register.decode(known)
    except ReadFailed:
        return None


Reading = tuple[Mapping[str, Json], float]


def _readings(table: Table, raw: Mapping[int, int], address: int, expected: Expectation) -> Iterator[Reading]:
    """Options of a register at this address that may fit, and how unlikely each is."""
    if table in ("coil", "discrete"):
        yield {}, 0.0
    elif expected.state is not None:
        yield from (({"bit": bit}, 0.1 * bit) for bit in range(16))
    elif expected.value is None:
        length = math.ceil(len(expected.text.encode()) / 2)
        for byte_order, penalty in (("big", 0.0), ("little", 0.5)):
            yield _usual({"data_type": "string", "length": length, "byte_order": byte_order}), penalty
    else:
        yield from _numbers(table, raw, address, expected.value, expected)


def _numbers(
    table: Table, raw: Mapping[int, int], address: int, wanted: Decimal, expected: Expectation
) -> Iterator[Reading]:
    for options, penalty in _shapes(wanted, expected.is_whole):
        shape = _guess({"table": table, "address": address, **options}, 0.0)
        number = _value_of(shape.register, raw) if shape else None
        if shape is None or isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if number == 0 and wanted != 0:
            continue
        if isinstance(number, float) and number != 0 and abs(number) < _TINY_FLOAT:
            continue
        hollow = _HOLLOW_PENALTY if _is_hollow(shape.register, raw) else 0.0
        if "bits" in options:  # of a register that holds nothing else it is the whole number
            if raw[address] > 0xFF and _near(Decimal(number), expected):
                yield options, penalty
            continue
        for scaling, further in _scalings(Decimal(repr(number)), wanted, expected):
            yield _usual({**options, **scaling}), penalty + hollow + further


def _shapes(wanted: Decimal, is_whole: bool) -> Iterator[Reading]:
    """Number types in every order; parts of a register for whole numbers, sign and amount for negative ones."""
    for data_type, of_type in _TYPES.items():
        for (word_order, byte_order), of_order in _ORDERS.items():
            if data_type.endswith("16") and word_order != byte_order:
                continue
            shape = {"data_type": data_type, "word_order": word_order, "byte_order": byte_order}
            if data_type.endswith("16"):
                del shape["word_order"]  # it has none
            yield _usual(shape), of_type + of_order
            if wanted < 0 and data_type in ("int16", "int32") and byte_order == "big":
                yield _usual({**shape, "sign_magnitude": True}), of_type + of_order + _SIGN_PENALTY
    if is_whole and 0 <= wanted <= 255:
        yield from ((part, _PART_PENALTY) for part in _PARTS)


def _is_hollow(register: Register, raw: Mapping[int, int]) -> bool:
    """A wide number whose upper half is empty (or all sign) is as well the narrower one beside it."""
    if register.kind != "integer" or register.count == 1:
        return False
    words = [raw[register.address + step] for step in range(register.count)]
    upper = words[: register.count // 2] if register.word_order == "big" else words[register.count // 2 :]
    return set(upper) in ({0}, {0xFFFF})


def _scalings(number: Decimal, wanted: Decimal, expected: Expectation) -> Iterator[Reading]:
    if wanted == 0:  # anything times nothing fits
        yield from [({}, 0.0)] if number == 0 or expected.fits(float(number)) else []
        return
    for scale, penalty in _SCALES.items():
        scaled = number * Decimal(repr(scale))
        if _near(scaled, expected):
            yield {"scale": scale}, penalty
        if scale not in _OFFSET_SCALES or number != number.to_integral_value():
            continue
        for offset, further in _OFFSETS.items():
            if _near(scaled + Decimal(repr(offset)), expected):
                yield {"scale": scale, "offset": offset}, penalty + further


def _near(value: Decimal, expected: Expectation) -> bool:
    assert expected.value is not None
    return abs(value - expected.value) <= expected.tolerance


_USUAL: Mapping[str, Json] = {"scale": 1, "offset": 0, "word_order": "big", "byte_order": "big"}


def _usual(options: Mapping[str, Json]) -> dict[str, Json]:
    """Without what need not be written."""
    return {key: value for key, value in options.items() if _USUAL.get(key) != value}
