"""Register maps by name: found in the users' folder or among ours, in our own format or Python Protocol Gateway's.

A map is read when it is asked for, and again only when one of its files has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from sensor_hub.drivers import ppg_tables
from sensor_hub.drivers.ppg_map import Definition, Tables, definition_of
from sensor_hub.drivers.ppg_tables import Row
from sensor_hub.drivers.register_map_file import map_of
from sensor_hub.drivers.register_map_model import MapError as MapError
from sensor_hub.drivers.register_map_model import RegisterMap as RegisterMap
from sensor_hub.readings import Json
from sensor_hub.regular_file import read_regular
from sensor_hub.wire import MalformedJson, loads

SHIPPED = Path(__file__).resolve().parents[1] / "register_maps"

_NAME = re.compile(r"(?=.*\w)[\w .+-]{1,100}")
_SUFFIXES: Mapping[str, str] = {
    "holding": ".holding_registry_map",
    "input": ".input_registry_map",
    "messages": ".registry_map",
}
_FILES_MAX = 10_000  # looked at in a folder
_BYTES_MAX = 4 * 1024 * 1024  # of one file


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was: another time or size is another file."""

    path: Path
    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class _Sources:
    """The files of one map, and what was remarkable when they were looked for."""

    name: str
    json: _File | None
    tables: tuple[tuple[str, _File, _File | None], ...]  # and their overrides
    notes: tuple[str, ...] = ()


def load(name: str, folder: Path | None = None, *, read_interval_s: float = 5.0) -> RegisterMap:
    """The map `name` from the users' `folder` (which may not exist) or of ours.

    `read_interval_s`: of the line it is used on, for maps that give intervals as a multiple of it. Every call returns
    an object of its own. Raises MapError with all that is wrong.
    """
    sources = _found(name, [root for root in (folder, SHIPPED) if root is not None])
    if sources is None:
        known = ", ".join(available(folder)) or "none"
        where = f" (looked in {folder} and among those that are shipped)" if folder is not None else ""
        raise MapError(name, [f"there is no such map; known are {known}{where}"])
    return _read(sources).at(read_interval_s)


def available(folder: Path | None = None) -> list[str]:
    """The names of all maps there are."""
    roots = [root for root in (folder, SHIPPED) if root is not None]
    return sorted({path.stem for root in roots for path in _files_below(root) if path.suffix == ".json"})


# -- finding -------------------------------------------------------------------------------------------------


def _found(name: str, roots: Iterable[Path]) -> _Sources | None:
    if not _NAME.fullmatch(name):
        return None
    for root in roots:
        paths = _files_below(root)
        settings = _pick(paths, root, name, f"{name}.json")
        tables = {kind: _pick(paths, root, name, f"{name}{suffix}.csv") for kind, suffix in _SUFFIXES.items()}
        notes: list[str] = []
        if settings is None and not any(tables.values()):
            continue
        if not any(tables.values()):
            tables, notes = _of_similar_name(paths, name)
        if settings is None:
            notes.append(f"there is no {name}.json: defaults are taken")
        found = (
            (kind, _file(path), _override(path, paths, root, name)) for kind, path in tables.items() if path
        )
        return _Sources(name, None if settings is None else _file(settings), tuple(found), tuple(notes))
    return None


def _files_below(root: Path) -> list[Path]:
    """The JSON and CSV files below a folder, in a fixed order."""
    return sorted(islice(_walk(root), _FILES_MAX))


def _walk(root: Path) -> Iterator[Path]:
    try:
        yield from (path for path in root.rglob("*") if path.suffix.lower() in (".json", ".csv"))
    except OSError:  # the folder is not there, or may not be read
        return


def _pick(paths: Sequence[Path], root: Path, name: str, file: str) -> Path | None:
    """The file itself, in a folder of the maker's name, or wherever it is."""
    near = (root / file, root / name.partition("_")[0] / file)
    return next((path for path in (*near, *paths) if path.name == file and path in paths), None)


def _of_similar_name(paths: Sequence[Path], name: str) -> tuple[dict[str, Path | None], list[str]]:
    """Tables whose name differs from the map's in a `v` or in punctuation only."""
    tables: dict[str, Path | None] = {}
    notes: list[str] = []
    for path in paths:
        for kind, suffix in _SUFFIXES.items():
            stem = path.name.removesuffix(f"{suffix}.csv")
            if stem != path.name and _plain(stem) == _plain(name) and kind not in tables:
                tables[kind] = path
                notes.append(f"{path.name} is taken for {name}{suffix}.csv")
    return tables, notes


def _plain(name: str) -> str:
    return re.sub(r"v(?=\d)|[^a-z0-9]", "", name.lower())


def _override(path: Path, paths: Sequence[Path], root: Path, name: str) -> _File | None:
    found = _pick(paths, root, name, f"{path.name.removesuffix('.csv')}.override.csv")
    return None if found is None else _file(found)


def _file(path: Path) -> _File:
    try:
        facts = path.stat()
    except OSError:  # it will be missed when it is read
        return _File(path, 0, 0)
    return _File(path, facts.st_mtime_ns, facts.st_size)


# -- reading -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _read(sources: _Sources) -> Definition:
    settings = {} if sources.json is None else _object(sources.name, sources.json.path)
    if isinstance(settings.get("registers"), dict):
        return Definition(map_of(sources.name, settings))
    if not sources.tables:
        files = ", ".join(f"{sources.name}{suffix}.csv" for suffix in _SUFFIXES.values())
        problem = f"{sources.name}.json has no registers of its own, and there is none of {files} beside it"
        raise MapError(sources.name, [problem])
    problems: list[str] = []
    notes = list(sources.notes)
    rows = {kind: _rows(file, other, problems, notes) for kind, file, other in sources.tables}
    if problems:
        raise MapError(sources.name, problems)
    return definition_of(sources.name, settings, Tables(**rows), notes)


def _object(name: str, path: Path) -> dict[str, Json]:
    try:
        parsed = loads(_content(path).removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, MalformedJson) as error:
        raise MapError(name, [f"{path.name}: {error}"]) from None
    if not isinstance(parsed, dict):
        raise MapError(name, [f"{path.name}: must be a JSON object"])
    return parsed


def _rows(table: _File, override: _File | None, problems: list[str], notes: list[str]) -> list[Row]:
    try:
        rows = ppg_tables.rows_of(ppg_tables.text_of(_content(table.path)), table.path.name)
        if override is None:
            return rows
        others = ppg_tables.rows_of(ppg_tables.text_of(_content(override.path)), override.path.name)
    except ValueError as error:
        problems.append(str(error))
        return []
    return ppg_tables.overridden(rows, others, notes)


def _content(path: Path) -> bytes:
    """The file's content. Raises ValueError with the reason."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from None
    if len(content) > _BYTES_MAX:
        raise ValueError(f"{path.name}: is larger than {_BYTES_MAX >> 20} MiB")
    return content
