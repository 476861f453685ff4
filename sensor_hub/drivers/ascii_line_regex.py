"""How long a regular expression may take at worst, found out before it is used.

Python's matcher tries every way to divide a text among repetitions that can hold the same characters, and
cannot be interrupted. So an expression from the configuration is refused when there may be too many ways on the
longest text, and when it repeats what is itself variable, where the ways double with each character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

STEPS_MAX = 20_000_000  # well below a second
# Characters that stand for all: every byte, and a letter, a digit, a space and a sign from farther away.
_ALPHABET = frozenset((*map(chr, range(256)), "\u03a9", "\u0663", "\u2003", "\u20ac"))
_FAR = frozenset(char for char in _ALPHABET if ord(char) > 255)
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}
_START = (ops.AT, ops.AT_BEGINNING)
_EXPRESSION_MAX = 500
_PARTS_MAX = 1000
_UNROLLED_MAX = 20
_NO_CHARS: frozenset[str] = frozenset()


@lru_cache(maxsize=1024)
def regex_problem(
    expression: str,
    longest: int,
    *,
    limit: str = "max_line_length",
    whole: bool = False,
) -> str | None:
    """What is wrong with an expression for texts of at most so many characters, or None.

    `limit`: the option that says so. `whole`: the whole text must match; else it is searched in it, and has one
    group, or none (then all that it matches counts).
    """
    if len(expression) > _EXPRESSION_MAX:
        return f"has more than {_EXPRESSION_MAX} characters"
    try:
        groups = re.compile(expression).groups
        parts = list(parser.parse(expression))
        steps = _Graph(longest, [_START, *parts] if whole else parts).worst()
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    except ValueError as error:
        return str(error)
    if groups > 1 and not whole:
        return f"has {groups} groups, must have one; write (?:…) for those that only hold together"
    if steps <= STEPS_MAX:
        return None
    return (
        f"may take too long on {longest} characters: several of its repetitions can hold the same characters; "
        f"let them differ, put something fixed between them, or lower {limit}"
    )


class _Graph:
    """The parts of an expression, and which may follow which.

    A part holds `chars` and can be as long in so many `ways`. Raises ValueError for what cannot be bounded.
    """

    def __init__(self, longest: int, parts: Sequence[tuple[Any, Any]]) -> None:
        self._longest = longest
        self._chars: list[frozenset[str]] = []
        self._ways: list[int] = []
        self._follow: list[set[int]] = []
        before: set[int] = set()
        if not parts or parts[0] not in (_START, (ops.AT, ops.AT_BEGINNING_STRING)):
            # The search may begin anywhere: whatever stands before the match is one more repetition.
            before = {self._part(_ALPHABET, longest, before)}
        self._sequence(parts, before)

    def worst(self) -> int:
        """The most ways to divide a text: those of the heaviest chain of parts that can share characters."""
        chains: list[int] = []
        for part, ways in enumerate(self._ways):
            shared = [other for other in range(part) if ways > 1 and self._shares(other, part)]
            chains.append(ways * max((chains[other] for other in shared), default=1))
        return max(chains, default=1)

    def _shares(self, first: int, last: int) -> bool:
        """Whether one text can be divided between the two in several ways."""
        chars = self._chars[first] & self._chars[last]
        if self._ways[first] == 1 or not chars:
            return False
        seen, waiting = set[int](), {first}
        while waiting:
            part = waiting.pop()
            seen.add(part)
            if last in self._follow[part]:
                return True
            waiting |= {each for each in self._follow[part] if self._chars[each] & chars} - seen
        return False

    def _part(self, chars: frozenset[str], ways: int, before: Iterable[int]) -> int:
        part = len(self._chars)
        self._chars.append(chars)
        self._ways.append(ways)
        self._follow.append(set())
        for other in before:
            self._follow[other].add(part)
        if part > _PARTS_MAX:
            raise ValueError("has too many parts")
        return part

    def _sequence(self, parts: Iterable[tuple[Any, Any]], before: set[int]) -> set[int]:
        """Add parts that follow each other; the last ones (those before may be it, when all can be left out)."""
        for kind, value in parts:
            if kind in _REPEATS:
                low, high, body = value
                before = self._repeated(low, high, body, before)
            elif kind is ops.SUBPATTERN:
                before = self._sequence(value[-1], before)
            elif kind is ops.ATOMIC_GROUP:
                before = self._sequence(value, before)
            elif kind is ops.BRANCH:
                before = set().union(*(self._choice(branch, before, len(value[1])) for branch in value[1]))
            elif kind in (ops.ASSERT, ops.ASSERT_NOT):
                self._sequence(value[1], before)  # looked at from every place
            elif kind is not ops.AT:
                before = {self._part(_chars(kind, value), 1, before)}
        return before

    def _repeated(self, low: int, high: int, body: Any, before: set[int]) -> set[int]:
        if int(high) == 1 and low == 0:
            return before | self._choice(body, before, 2)
        if low == high <= _UNROLLED_MAX:
            for _ in range(low):
                before = self._sequence(body, before)
            return before
        inner = _Graph(self._longest, [_START, *body])
        if any(ways > 1 for ways in inner._ways):
            raise ValueError("may not repeat what is itself variable, such as (a+)+ or (ab|c)*")
        ways = max(1, min(int(high), self._longest) - low + 1)
        part = self._part(_NO_CHARS.union(*inner._chars), ways, before)
        return {part} if low > 0 else {part} | before

    def _choice(self, body: Any, before: set[int], choices: int) -> set[int]:
        """One of several; which, its first character tells in most expressions."""
        start = len(self._chars)
        after = self._sequence(body, before)
        firsts = set(range(start, len(self._chars)))
        for part in range(start, len(self._chars)):
            firsts -= self._follow[part]
        for part in firsts:
            self._ways[part] += choices - 1
        return after


def _chars(kind: Any, value: Any) -> frozenset[str]:
    """The characters of our alphabet that a part for one character takes, in either case."""
    if kind is ops.ANY:
        return _ALPHABET
    if kind is ops.LITERAL:
        return _literal(value)
    if kind is ops.NOT_LITERAL:
        return _others(_literal(value))
    if kind is ops.IN:
        negated = value[0][0] is ops.NEGATE
        found = _NO_CHARS.union(*(_members(*item) for item in value if item[0] is not ops.NEGATE))
        return _others(found) if negated else found
    raise ValueError("may not refer back to a group")


def _members(kind: Any, value: Any) -> frozenset[str]:
    if kind is ops.LITERAL:
        return _literal(value)
    if kind is ops.CATEGORY:
        return frozenset(char for char in _ALPHABET if re.match(_CATEGORIES[value], char))
    low, high = value
    near = _NO_CHARS.union(*(_literal(code) for code in range(low, min(high, 255) + 1)))
    return near | _FAR if high > 255 else near


def _literal(code: int) -> frozenset[str]:
    char = chr(code)
    return frozenset(each for each in (char, char.lower(), char.upper()) if each in _ALPHABET) or _FAR


def _others(chars: frozenset[str]) -> frozenset[str]:
    return (_ALPHABET - chars) | _FAR  # that one character from afar is left out leaves the others
