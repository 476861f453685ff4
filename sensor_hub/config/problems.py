"""Collecting every problem of a configuration, and taking an object's keys apart while doing so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from sensor_hub.config.values import BadValueError, Parser, is_blank
from sensor_hub.errors import Problem
from sensor_hub.readings import Json

T = TypeVar("T")

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def join(where: str, key: str | int) -> str:
    """JSON path of a key or index below `where` (empty: the document itself)."""
    if isinstance(key, int):
        return f"{where}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{where}[{json.dumps(key[:64])}]"
    return f"{where}.{key}" if where else key


class Problems:
    """Every problem once, in the order found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}
        self._flawed: set[str] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: str, message: str) -> None:
        """Note a problem, unless the text at that place is already known to be no usable JSON."""
        if where not in self._flawed:
            self._found.setdefault(Problem(where, message))

    def add_flaw(self, where: str, message: str) -> None:
        """Note that the very text at `where` is unusable; what follows from that is not reported."""
        self.add(where, message)
        self._flawed.add(where)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note problems that others found."""
        for problem in problems:
            self.add(problem.path, problem.message)

    def listed(self, secrets: Iterable[str]) -> tuple[Problem, ...]:
        """All of them, with every secret replaced by ***, whoever wrote the message."""
        hidden = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

        def scrub(message: str) -> str:
            for secret in hidden:
                message = message.replace(secret, "***")
            return message

        return tuple(Problem(p.path, scrub(p.message)) for p in self._found)


class Fields:
    """The keys of one JSON object, taken one by one; what nobody took is left over."""

    def __init__(self, content: Mapping[str, Json], path: str, problems: Problems) -> None:
        self.path = path
        self._left = dict(content)
        self._problems = problems
        self._failed = False

    @property
    def ok(self) -> bool:
        """No problem so far."""
        return not self._failed

    def fail(self, key: str | int | None, message: str) -> None:
        """Note a problem at `key`, or with the object as a whole."""
        self._failed = True
        self._problems.add(self.path if key is None else join(self.path, key), message)

    def has(self, key: str) -> bool:
        """Whether the key is given and neither null nor empty."""
        value = self._left.get(key)
        return value is not None and not is_blank(value)

    def take(self, key: str, parse: Parser[T], default: T) -> T:
        """The parsed value; the default when it is not given, null, empty or bad."""
        given = self.has(key)
        value = self._left.pop(key, None)
        if not given:
            return default
        try:
            return parse(value)
        except BadValueError as error:
            self.fail(key, str(error))
            return default

    def need(self, key: str, parse: Parser[T], *, otherwise: str = "") -> T | None:
        """The parsed value of a required key (or of the key `otherwise`); None after a problem."""
        if otherwise and not self.has(key) and self.has(otherwise):
            self._left.pop(key, None)
            key = otherwise
        if not self.has(key):
            self._left.pop(key, None)
            self.fail(key, "required")
            return None
        return self.take(key, parse, None)

    def drop(self, *keys: str) -> None:
        """Ignore these keys."""
        for key in keys:
            self._left.pop(key, None)

    def refuse_leftover(self, known: Iterable[str]) -> None:
        """Note each key that nobody took."""
        for key in list(self._left):
            self.fail(key, f"unknown key; known are {', '.join(known)}")
            self._left.pop(key)

    def leftover(self) -> dict[str, Json]:
        """What nobody took."""
        return dict(self._left)
