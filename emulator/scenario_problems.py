"""What is wrong with a scenario, in words: the path of each mistake and what is allowed there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

_LONGEST_VALUE = 60
_OF_A_KEY = re.compile(r"(\w+): (.*)", re.S)


def texts_of(error: ValidationError, root: str = "scenario") -> list[str]:
    """Each problem with its path, as in `scenario.lines[0].baudrate: ...`; one for each place."""
    found: dict[str, str] = {}
    for each in error.errors(include_url=False):
        location = [part for part in each["loc"] if not (isinstance(part, str) and _is_branch(part))]
        path = root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        text = _text(each)
        if each["type"] == "value_error" and (
            inner := _OF_A_KEY.match(text)
        ):  # found by looking at the whole
            path, text = f"{path}.{inner[1]}", inner[2]
        found.setdefault(path, f"{path}: {text}")
    return list(found.values())


def _is_branch(part: str) -> bool:
    """pydantic names the branch of a union in the path, as in `int` or `list[constrained-int]`."""
    return part in ("int", "float", "str", "bool", "[key]") or part.startswith(("list[", "constrained-"))


def _text(problem: Any) -> str:
    match problem["type"]:
        case "extra_forbidden":
            return "unknown key"
        case "missing":
            return "required"
        case "value_error":
            return str(problem["ctx"]["error"])
        case "literal_error" | "enum":
            text = f"must be one of {problem['ctx']['expected']}".replace(" or ", ", ")
        case "string_pattern_mismatch":
            text = f"must match {problem['ctx']['pattern']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            text = "must be an object"
        case "list_type" | "tuple_type":
            text = "must be a list"
        case _:
            text = (
                problem["msg"]
                .replace("Input should be", "must be")
                .replace("a valid integer", "an integer")
                .replace("a valid ", "a ")
            )
    value = json.dumps(problem["input"], default=str)
    return text if len(value) > _LONGEST_VALUE else f"{text}, not {value}"


def without_slash(name: str) -> str:
    """The name of a device. Raises ValueError for one that no address of the control API could have."""
    if "/" in name:
        raise ValueError("must not contain a slash")
    return name


def looked_up(host: str) -> str:
    """An address or name that can be looked up, whatever comes of it. Raises ValueError."""
    try:
        host.encode("idna")
    except UnicodeError:
        host = "\0"
    if "\0" in host:
        raise ValueError("must be an IP address or a host name")
    return host


def check_places(given: Mapping[int, object], last: int) -> None:
    """Whether lists at their first addresses follow each other up to `last`. Raises ValueError."""
    free = 0
    for first, contents in sorted(given.items(), key=lambda item: item[0]):
        if first < free:
            raise ValueError(f"{first} is in the list before it, too")
        free = first + (len(contents) if isinstance(contents, list) else 1)
    if free > last + 1:
        raise ValueError(f"a list ends at {free - 1}, and the last address is {last}")


class Twice:
    """Finds what is there twice in a scenario and must not be. The rest of it may be anything."""

    def __init__(self, data: object) -> None:
        self._data = data if isinstance(data, dict) else {}

    def problems(self) -> list[str]:
        """Each with its path."""
        lines = [*self._items("lines"), *self._items("text_lines")]
        found = [*self._doubles(lines, "pty_path"), *self._doubles(lines, "line_id")]
        found += self._double_ports(lines)
        if isinstance(self._data.get("http"), dict):
            found += [
                f"{path}.line_id: http is the web server"
                for path, line in lines
                if line.get("line_id") == "http"
            ]
        for path, line in self._items("lines"):
            units = [(f"{path}.units[{n}]", unit) for n, unit in enumerate(_objects(line.get("units")))]
            found += self._doubles(units, "unit_id", f"{path}.units")
        return found + self._double_sensors()

    def _items(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, item in enumerate(_objects(self._data.get(key))):
            yield f"scenario.{key}[{number}]", item

    def _doubles(
        self, items: list[tuple[str, dict[str, Any]]], key: str, at: str = "scenario.lines"
    ) -> list[str]:
        values = [item.get(key) for _, item in items if isinstance(item.get(key), str | int)]
        return [
            f"{at}: {key} {value} is there twice"
            for value in dict.fromkeys(values)
            if values.count(value) > 1
        ]

    def _double_ports(self, lines: list[tuple[str, dict[str, Any]]]) -> list[str]:
        ports = [
            line.get("tcp_port")
            for _, line in lines
            if isinstance(line.get("tcp_port"), int) and line.get("mode") not in ("pty", "tcp_client")
        ]
        http = self._data.get("http")
        if isinstance(http, dict) and isinstance(http.get("port"), int):
            ports.append(http["port"])
        return [
            f"scenario: port {port} is there twice" for port in dict.fromkeys(ports) if ports.count(port) > 1
        ]

    def _double_sensors(self) -> list[str]:
        named = [
            (f"{path}.units[{number}].sensor_id", unit.get("sensor_id"))
            for path, line in self._items("lines")
            for number, unit in enumerate(_objects(line.get("units")))
        ]
        named += [(f"{path}.sensor_id", line.get("sensor_id")) for path, line in self._items("text_lines")]
        http = self._data.get("http")
        motion = http.get("motion") if isinstance(http, dict) else None
        if isinstance(motion, list):
            named += [(f"scenario.http.motion[{number}]", name) for number, name in enumerate(motion)]
        seen: set[str] = set()
        found = []
        for path, name in named:
            if isinstance(name, str) and name:
                if name in seen:
                    found.append(f"{path}: {name} is there twice")
                seen.add(name)
        return found


def _objects(value: object) -> list[dict[str, Any]]:
    """The list, with empty objects for what is none."""
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []
