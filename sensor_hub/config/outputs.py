"""Ways out beside MQTT: building them from `outputs`, and what `bridge` may name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sensor_hub.config import values
from sensor_hub.config.instance_file import Document
from sensor_hub.config.model import BRIDGE, OutputConfig, Parallelism
from sensor_hub.config.problems import Fields, Problems, join
from sensor_hub.config.values import Parser
from sensor_hub.readings import Json

MQTT = "mqtt"  # the built-in output
_RESERVED = (MQTT, BRIDGE)  # the bridge keeps queues of its own under its program's name
_PLACES = (Parallelism.PROCESS, Parallelism.THREAD)
_MIB = 1024 * 1024
LINES, STDOUT = "json_lines", "-"
_QUEUES = re.compile(r"\.sqlite3(-(wal|shm|journal))?(\.damaged-[^/]*)?$", re.IGNORECASE)


def parse_outputs(document: Document, problems: Problems) -> tuple[list[OutputConfig], tuple[str, ...]]:
    """The outputs that are well formed, and every name that `bridge` may use (also of those that are not)."""
    built: list[OutputConfig] = []
    names: dict[str, str] = {MQTT: MQTT}
    places: dict[str, str] = {}  # in small letters: people and file systems mix those up
    for path, content in _entries(document, problems):
        fields = Fields(content, path, problems)
        output_id = fields.need("output_id", values.identifier)
        if output_id is not None:
            known = output_id.lower()
            if known in _RESERVED:
                fields.fail("output_id", f"{output_id!r} is reserved for the built-in output to MQTT")
            elif known in places:
                fields.fail("output_id", f"{output_id!r} is used twice; also at {places[known]}")
            places.setdefault(known, path)
            names.setdefault(known, output_id)
        output = _output(fields, output_id or "")
        if output is not None:
            built.append(output)
    return built, tuple(names.values())


def lines_file(output_id: str, path: str, folder: Path) -> Path | None:
    """What an output of lines writes to; `folder`: where the instance's files are kept. None: it is no file."""
    return None if path == STDOUT else folder / (path or f"{output_id}.jsonl")


def is_queues(path: str) -> bool:
    """Whether it is named as the files that queues are kept in."""
    return _QUEUES.search(path) is not None


def check_files(outputs: Sequence[OutputConfig], folder: Path, problems: Problems) -> None:
    """No two outputs write to one file, and none to a queue's, by whatever names and links."""
    writers: dict[str, OutputConfig] = {}
    for output in outputs:
        path = output.options.get("path") or ""
        if output.output_type != LINES or not output.enabled or not isinstance(path, str):
            continue
        file = lines_file(output.output_id, path.strip(), folder)
        if file is None or is_queues(str(file)):  # the latter is said by its own type
            continue
        try:
            real = os.path.realpath(file)
        except ValueError:  # NUL; that is said of the document
            continue
        if is_queues(real):
            problems.add(f"{output.path}.path", f"{real} is a queue's file")
        other = writers.setdefault(real, output)
        if other is not output:
            problems.add(f"{output.path}.path", f"{other.output_id!r} ({other.path}) writes to {real}, too")


def _output(fields: Fields, output_id: str) -> OutputConfig | None:
    output = OutputConfig(
        output_id=output_id,
        output_type=fields.need("type", values.text) or "",
        path=fields.path,
        enabled=fields.take("enabled", values.boolean, True),
        parallelism=fields.take("parallelism", _parallelism, Parallelism.PROCESS),
        queue_entries=fields.take("queue_entries", values.integer(100, 100_000_000), 1_000_000),
        queue_bytes=fields.take("queue_mib", values.integer(1, 1_048_576), 256) * _MIB,
        options=fields.leftover(),
    )
    return output if fields.ok else None


def _parallelism(value: Json) -> Parallelism:
    return Parallelism(values.choice(_PLACES)(value))


def _entries(document: Document, problems: Problems) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """A list of outputs, one output, or an object of outputs by their ids."""
    places = document.facts.get("outputs")
    given = places[0].value if places else None
    if places and isinstance(given, dict) and not {"type", "output_id"} & given.keys():
        for output_id, content in given.items():
            path = join(places[0].path, output_id)
            if isinstance(content, dict):
                yield path, {"output_id": output_id, **content}
            else:
                problems.add(path, "must be an object")
    else:
        yield from document.objects("outputs", problems)


def output_names(known: Sequence[str]) -> Parser[tuple[str, ...]]:
    """Parser of `bridge`: names of outputs, or one name."""
    name: Parser[str] = values.choice(known, what="a list of")

    def parse(value: Json) -> tuple[str, ...]:
        given = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(name(each) for each in given))

    return parse
