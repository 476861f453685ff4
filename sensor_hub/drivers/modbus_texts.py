"""Bytes and bits <-> texts: strings, hexadecimal digits, flags. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sensor_hub.errors import InvalidCommand, ValueOutOfRange

FLAG_SEPARATOR = ","

_BIT = re.compile(r"\s*b?([0-9]{1,4})\s*", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ASCII = re.compile(r"[ -~]*")


class FlagName(NamedTuple):
    """A text that stands for bits that are all set."""

    mask: int
    text: str


def string_of(data: bytes) -> str:
    """What devices mean by text: UTF-8 where it is that, NUL and control characters as spaces, none at the ends."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return _UNPRINTABLE.sub(" ", text).strip()


def bytes_of_string(text: str, size: int) -> bytes:
    """`size` bytes with the text and NULs behind it. Raises InvalidCommand, ValueOutOfRange."""
    if not _ASCII.fullmatch(text):
        raise InvalidCommand("a text may have the printable characters of ASCII only")
    if len(text) > size:
        raise ValueOutOfRange(f"a text of {len(text)} characters is too long, {size} fit")
    return text.encode("ascii").ljust(size, b"\0")


def bytes_of_hex(text: str, size: int) -> bytes:
    """Exactly `size` bytes of hexadecimal digits. Raises InvalidCommand."""
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * size}}}", text):
        raise InvalidCommand(f"must be {2 * size} hexadecimal digits")
    return bytes.fromhex(text)


def flag_names(flags: Mapping[str, str], width: int) -> tuple[FlagName, ...]:
    """`b0`, `0` or `b0&b1` -> text, as masks; those of more bits first. Raises ValueError saying which key is bad."""
    names: dict[int, str] = {}
    for key, text in flags.items():
        bits = [_BIT.fullmatch(part) for part in key.split("&")]
        numbers = [int(bit[1]) for bit in bits if bit is not None]
        if len(numbers) < len(bits) or not all(number < width for number in numbers):
            raise ValueError(f"{key[:64]!r} must be a bit from b0 to b{width - 1}, or several joined by &")
        mask = sum(1 << number for number in set(numbers))
        if mask in names:
            raise ValueError(f"{key!r} names bits that another key names")
        names[mask] = text
    return tuple(sorted((FlagName(*item) for item in names.items()), key=_rank))


def _rank(name: FlagName) -> tuple[int, int]:
    return -name.mask.bit_count(), name.mask


def bit_string(field: int, width: int) -> str:
    """One digit for each bit, the lowest first."""
    return f"{field:0{width}b}"[::-1]


def texts_of_flags(field: int, names: Iterable[FlagName]) -> str:
    """The texts of what is set, joined, lowest bit first; a text of several bits stands for those of each."""
    left, found = field, []
    for name in names:
        if name.mask & left == name.mask:
            found.append(name)
            left &= ~name.mask
    found.sort(key=lambda name: name.mask & -name.mask)
    return FLAG_SEPARATOR.join(name.text for name in found)


def bits_of_flags(text: str, held: int, width: int, names: Iterable[FlagName]) -> int:
    """The bits that `text` sets: a digit for each, or texts (bits without a text stay as `held`).

    Raises InvalidCommand saying what is allowed.
    """
    if re.fullmatch(rf"[01]{{{width}}}", text):
        return int(text[::-1], 2)
    known = _unambiguous(names)
    wanted = [part.strip() for part in text.split(FLAG_SEPARATOR)] if text.strip() else []
    if not known or not all(part in known for part in wanted):
        texts = f", or of {', '.join(known)} joined by commas" if known else ""
        raise InvalidCommand(f"must be {width} digits 0 or 1, lowest bit first{texts}")
    for mask in known.values():
        held &= ~mask
    for part in wanted:
        held |= known[part]
    return held


def _unambiguous(names: Iterable[FlagName]) -> dict[str, int]:
    """Text -> bits, of those texts that stand for one thing (makers call many bits `reserved`)."""
    listed = list(names)
    texts = Counter(name.text for name in listed)
    return {
        name.text: name.mask for name in listed if texts[name.text] == 1 and FLAG_SEPARATOR not in name.text
    }
