"""The instance file: reading it, and bringing its forms (documented, the platform's) into one.

The same key may stand in `config`, in `connection` and at the top level. It is one fact: `config` wins,
then `connection`, then the top level, and problems name the place that won.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sensor_hub.config.problems import Problems, join
from sensor_hub.config.secrets import SecretText, Vault, is_secret_key, protect, secrets_in
from sensor_hub.config.settings import SETTINGS, Given
from sensor_hub.readings import Json
from sensor_hub.regular_file import read_regular

_MAX_DEPTH = 50
_MAX_DIGITS = 25  # of a whole number: more than 64 bits need
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")
_NO_TEXT_MESSAGE = "holds what is no character (NUL or half a surrogate pair)"
_PLACES = ("config", "connection", "")  # the one that wins first; "" is the top level

SETTING_KEYS: Mapping[str, str] = {
    variable.file_key: variable.name for variable in SETTINGS if variable.file_key
}
LIST_KEYS = ("transports", "sensors", "devices", "groups", "outputs")
CONFIG_KEYS = (*SETTING_KEYS, *LIST_KEYS)


@dataclass(frozen=True, slots=True)
class _Flaw:
    """Something that json.loads accepts and JSON (or we) do not."""

    message: str


class _Repeated(dict[str, object]):
    """An object in which a key stands more than once."""

    keys_given_twice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """A value and its JSON path."""

    value: Json
    path: str


@dataclass(frozen=True, slots=True)
class Document:
    """The facts of an instance file, whatever its form. Secrets are in place and hidden from reprs."""

    top: Mapping[str, Json] = field(default_factory=dict)
    facts: Mapping[str, Sequence[Located]] = field(default_factory=dict)  # of CONFIG_KEYS, the winner first

    def settings(self) -> list[Given]:
        """Values for variables, lowest first. A copy that says the same is no further value."""
        found = []
        if isinstance(self.top.get("connector_type"), str):
            found.append(Given("CONNECTOR_TYPE", self.top["connector_type"], "file", "connector_type"))
        for key, name in SETTING_KEYS.items():
            distinct: dict[str, Given] = {}
            for place in self.facts.get(key, ()):
                distinct.setdefault(str(place.value), Given(name, place.value, "file", place.path))
            found.extend(reversed(distinct.values()))
        return found

    def objects(self, key: str, problems: Problems) -> Iterator[tuple[str, Mapping[str, Json]]]:
        """Path and content of each object in a list; one object instead of a list counts as a list of one."""
        if not self.facts.get(key):
            return
        place = self.facts[key][0]
        if isinstance(place.value, dict):
            yield place.path, place.value
        elif isinstance(place.value, list):
            for index, item in enumerate(place.value):
                if isinstance(item, dict):
                    yield join(place.path, index), item
                else:
                    problems.add(join(place.path, index), "must be an object")
        else:
            problems.add(place.path, "must be a list of objects")

    def secrets(self) -> Iterator[str]:
        """Every secret in the file."""
        yield from secrets_in(dict(self.top))
        for places in self.facts.values():
            for place in places:
                yield from secrets_in(place.value)


def read_json(path: Path, problems: Problems) -> dict[str, object] | None:
    """The file's JSON object as it stands (flaws marked, not yet reported); None after a problem."""
    try:
        content = read_regular(path)
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else _reason(error)
        problems.add(str(path), f"the instance file cannot be read: {reason}")
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        problems.add(str(path), "starts with a byte order mark: save it as UTF-8 without BOM")
        return None
    try:
        parsed = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=lambda word: _Flaw(f"{word} is no JSON number"),
            parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else _Flaw("number too large"),
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        problems.add(str(path), f"must be UTF-8: byte {error.start + 1} is not")
        return None
    except json.JSONDecodeError as error:
        problems.add(str(path), f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
        return None
    except RecursionError:
        problems.add(str(path), f"is nested too deeply; at most {_MAX_DEPTH} levels are allowed")
        return None
    if not isinstance(parsed, dict):
        problems.add(str(path), "must hold one JSON object")
        return None
    return parsed


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    counts = Counter(key for key, _ in pairs)
    if len(counts) == len(pairs):
        return dict(pairs)
    result = _Repeated(pairs)
    result.keys_given_twice = tuple(key for key, count in counts.items() if count > 1)
    return result


def _finite(digits: str) -> object:
    result = float(digits)
    return _Flaw("number too large") if abs(result) == float("inf") else result


def document_of(
    raw: dict[str, object], creds: Mapping[str, SecretText], vault: Vault, problems: Problems
) -> Document:
    """The facts in a file: secrets merged in, placeholders resolved, flaws and unknown keys reported."""
    _merge_secrets(raw, creds)
    cleaner = _Cleaner(vault, problems)
    top: dict[str, Json] = {}
    facts: dict[str, list[Located]] = {}
    for place in _PLACES:
        content = raw.get(place) if place else raw
        if not isinstance(content, dict):
            if place in raw:
                cleaner.clean(content, place)
                problems.add(place, "must be an object")
            continue
        cleaner.check_keys(content, place)
        for key, value in content.items():
            where = join(place, key)
            if key in LIST_KEYS and key in facts or (not place and key in _PLACES):
                continue  # a copy: whatever is wrong with it was said where it won
            if key in CONFIG_KEYS:
                facts.setdefault(key, []).append(Located(cleaner.clean(value, where), where))
            elif place:
                problems.add(where, f"unknown key; known are {', '.join(CONFIG_KEYS)}")
            else:
                top[key] = cleaner.clean(value, where)
    return Document(top, facts)


class _Cleaner:
    """Turns what the parser yields into plain JSON, reporting each flaw at its path."""

    def __init__(self, vault: Vault, problems: Problems) -> None:
        self._vault = vault
        self._problems = problems

    def check_keys(self, content: dict[str, object], where: str) -> None:
        """Report keys that stand twice in one object or are no text."""
        if isinstance(content, _Repeated):
            for key in content.keys_given_twice:
                self._problems.add(join(where, key), "the key stands twice in one object")
        for key in filter(_NO_TEXT.search, content):
            self._problems.add_flaw(join(where, key), _NO_TEXT_MESSAGE)

    def clean(self, value: object, where: str, *, secret: bool = False, depth: int = 0) -> Json:
        """The value with secrets in place; null where it is unusable."""
        if depth > _MAX_DEPTH:
            self._problems.add_flaw(where, f"nested too deeply; at most {_MAX_DEPTH} levels are allowed")
            return None
        if isinstance(value, _Flaw):
            self._problems.add_flaw(where, value.message)
            return None
        if isinstance(value, str):
            return self._text(value, where, secret)
        if isinstance(value, list):
            return [
                self.clean(item, join(where, index), secret=secret, depth=depth + 1)
                for index, item in enumerate(value)
            ]
        if isinstance(value, dict):
            self.check_keys(value, where)
            return {
                key: self.clean(item, join(where, key), secret=secret or is_secret_key(key), depth=depth + 1)
                for key, item in value.items()
            }
        return value if isinstance(value, bool | int | float) else None

    def _text(self, value: str, where: str, secret: bool) -> Json:
        if _NO_TEXT.search(value):
            self._problems.add_flaw(where, _NO_TEXT_MESSAGE)
            return None
        resolved = self._vault.resolve(value, where, self._problems)
        return None if resolved is None else protect(resolved, secret=secret)


def _merge_secrets(raw: dict[str, object], creds: Mapping[str, SecretText]) -> None:
    """Put the values of `_creds` over `connection` and its copies.

    A dotted key goes where its parent exists. A plain key goes where such a key is known: it may as well be
    the last part of a placeholder's path, and would be an unknown key elsewhere.
    """
    for key, value in creds.items():
        parts = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
        if len(parts) > 1 and parts[0] in _PLACES:
            parts = parts[1:]
        for place in _PLACES:
            base = raw.get(place) if place else raw
            copied = place or parts[0] in CONFIG_KEYS
            if isinstance(base, dict) and copied:
                _put(base, parts, value)
        bases = [raw, *(raw.get(place) for place in _PLACES if place)]
        if parts[0] in SETTING_KEYS and not any(
            isinstance(base, dict) and parts[0] in base for base in bases
        ):
            raw[parts[0]] = value


def _put(base: dict[str, object], parts: Sequence[str], value: SecretText) -> None:
    parent: object = base
    for part in parts[:-1]:
        if isinstance(parent, dict):
            parent = parent.get(part)
        elif isinstance(parent, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(parent):
            parent = parent[int(part[:9])]
        else:
            return
    if isinstance(parent, dict) and (len(parts) > 1 or parts[0] in parent):
        parent[parts[-1]] = value
