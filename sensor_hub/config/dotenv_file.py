"""The host's `.env`, which the platform mounts beside the instances."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from sensor_hub.config import values
from sensor_hub.config.problems import Problems
from sensor_hub.config.settings import BY_NAME, Given, from_variables
from sensor_hub.regular_file import read_regular


def read_dotenv(path: Path, problems: Problems) -> list[Given]:
    """What `.env` says, nothing interpolated. A missing file says nothing, an unreadable one is a problem."""
    try:
        content = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error}"
        if isinstance(error, IsADirectoryError):
            reason = "is a folder (docker makes one where a mounted file is missing)"
        problems.add(str(path), reason)
        return []
    found = dict(_lines(content, path, problems))
    found.pop("IOT2MQTT_PATH", None)  # this file was found with it; the host's path means nothing here
    for name, value in found.items():
        if name in BY_NAME and BY_NAME[name].parse is values.readable_file and value.strip():
            found[name] = str(path.parent / value.strip())  # as seen from the file, wherever the reader runs
    return from_variables(found, ".env", f" (in {path})")


def _lines(content: str, path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    """Names and values; a line that cannot be parsed is a problem when it is about one of our variables."""
    for binding in parse_stream(StringIO(content)):
        if binding.key is not None and binding.value is not None:
            yield binding.key, binding.value
        text = binding.original.string.lstrip()
        match = re.match(r"(?:export\s+)?([A-Z0-9_]+)", text)
        if binding.error and match is not None and match.group(1) in BY_NAME:
            line = binding.original.line + binding.original.string[: -len(text)].count("\n")
            problems.add(match.group(1), f"cannot be parsed: is a quote missing? (in {path}, line {line})")
