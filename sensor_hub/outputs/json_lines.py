"""Every reading as one line of JSON, in a file that is rotated, or on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import field_validator

from sensor_hub import wire
from sensor_hub.clock import Clock, system_clock
from sensor_hub.config import values
from sensor_hub.config.model import OutputConfig
from sensor_hub.config.options import Flag, Settings, read_as, whole, within
from sensor_hub.config.outputs import LINES, STDOUT, is_queues, lines_file
from sensor_hub.errors import Problem
from sensor_hub.outputs.rotating_file import RotatingFile, Rotation
from sensor_hub.outputs.sink import Batching, Message, NotTakenError, Refused, Sink

_MIB = 1024 * 1024


class JsonLinesSettings(Settings):
    """Where the lines go. `path` is `-`, absolute, or below the folder of the instance in DATA_DIR."""

    path: Annotated[str, read_as(values.text)] = ""
    rotate_mib: Annotated[float, within(0, 1_048_576)] = 100.0
    rotate_hours: Annotated[float, within(0, 87_600)] = 0.0
    keep: Annotated[int, whole(0, 10_000)] = 7
    fsync: Flag = False

    @field_validator("path")
    @classmethod
    def _names_a_file(cls, path: str) -> str:
        if path.endswith(("/", "/.", "/..")) or path in (".", ".."):
            raise ValueError(f"must be a file, {STDOUT} for stdout, or left out")
        if is_queues(path):
            raise ValueError("must not be named as the files of queues are (….sqlite3)")
        return path


class JsonLines(Sink):
    """Appends lines; what was written and not said to be is written again, with the same ids."""

    name = LINES
    settings = JsonLinesSettings
    pause_s = (1.0, 10.0)

    def __init__(
        self, output: OutputConfig, instance_id: str, folder: Path, clock: Clock | None = None
    ) -> None:
        """Open nothing."""
        options = JsonLinesSettings.model_validate(dict(output.options))
        self._file: RotatingFile | None = None
        path = lines_file(output.output_id, options.path, folder)
        if path is not None:
            rotation = Rotation(int(options.rotate_mib * _MIB), options.rotate_hours * 3600, options.keep)
            self._file = RotatingFile(path, rotation, clock or system_clock(), fsync=options.fsync)

    @property
    def batching(self) -> Batching:
        """Soon: a file is watched while it grows."""
        return Batching(1000, 0.0)

    def send(self, messages: Sequence[Message]) -> Refused | None:
        """Write a line each."""
        lines = [wire.dumps(message.body()).encode() + b"\n" for message in messages]
        try:
            if self._file is None:
                _to_stdout(lines)
            else:
                self._file.append(lines)
        except OSError as error:
            where = f"{self._file.path}: " if self._file is not None else "stdout: "
            raise NotTakenError(where + (error.strerror or str(error))) from error
        return None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @classmethod
    def check(cls, output: OutputConfig) -> Iterator[Problem]:
        """Of stdout nothing can be rotated."""
        yield from super().check(output)
        if output.options.get("path") == STDOUT:
            for key in ("rotate_mib", "rotate_hours", "keep", "fsync"):
                if key in output.options:
                    yield Problem(f"{output.path}.{key}", "is of files, and path is - (stdout); leave it out")


def _to_stdout(lines: Sequence[bytes]) -> None:
    """Beside the log, which goes the same way: whole lines, each in one go (a pipe keeps 4096 bytes together)."""
    descriptor = sys.stdout.fileno()
    for text in lines:
        left = memoryview(text)
        while left:
            left = left[os.write(descriptor, left) :]
