"""What passed on a line, as a file of JSON lines: a head, then each piece of bytes with its direction and time."""

from __future__ import annotations

import json
import string
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from emulator.scenario_problems import texts_of

FORMAT, VERSION = "sensor-hub-recording", 1
MAX_FILE_BYTES = 256 * 1024 * 1024
TO, FROM = "to", "from"  # the device
WITH_USER = ("socket", "rfc2217")  # URLs with an authority
_PRINTED = frozenset((string.ascii_letters + string.digits + string.punctuation + " \r\n\t").encode())


class RecordingError(Exception):
    """The file cannot be used; the message says why."""


class Head(BaseModel):
    """The first line: what was recorded."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["sensor-hub-recording"]
    version: Literal[1]
    source: str = ""
    baudrate: int | None = None
    parity: Literal["N", "E", "O"] = "N"
    stopbits: float = 1
    begun_at: str | None = None


class Piece(BaseModel):
    """Bytes that passed: `t` seconds after the begin, to the device or from it, as text or as hexadecimal digits."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    t: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    dir: Literal["to", "from"]
    text: str | None = None
    hex: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{2}| )*$")] | None = None

    @property
    def data(self) -> bytes:
        """The bytes."""
        return (
            bytes.fromhex(self.hex)
            if self.hex is not None
            else (self.text or "").encode("latin-1", "replace")
        )


class Event(BaseModel):
    """What happened to the line itself: opened, lost, and at last stopped or full."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    t: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    event: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A file as it was read. `lasts_s`: to its end."""

    head: Head
    pieces: tuple[Piece, ...]
    lasts_s: float


_ENTRY: TypeAdapter[Piece | Event] = TypeAdapter(Piece | Event)


def read(path: Path) -> Recording:
    """Raises RecordingError. A last line that was cut off is left out."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise RecordingError(f"{path}: more than {MAX_FILE_BYTES} bytes")
    lines = content.removeprefix(BOM_UTF8).splitlines(keepends=True)
    if not lines:
        raise RecordingError(f"{path}: empty")
    head = _checked(Head.model_validate_json, lines[0], f"{path}:1")
    entries = []
    for number, line in enumerate(lines[1:], start=2):
        if number == len(lines) and not line.endswith((b"\n", b"\r")):
            break  # whoever wrote it was killed
        if line.strip():
            entries.append(_checked(_ENTRY.validate_json, line, f"{path}:{number}"))
    if any(later.t < earlier.t for earlier, later in zip(entries, entries[1:], strict=False)):
        raise RecordingError(f"{path}: t goes back")
    pieces = tuple(entry for entry in entries if isinstance(entry, Piece))
    return Recording(head, pieces, entries[-1].t if entries else 0.0)


def _checked(validate: Callable[..., Any], line: bytes, place: str) -> Any:
    try:
        return validate(line)
    except ValidationError as error:
        problem = texts_of(error, "")[0].lstrip(".")
        raise RecordingError(
            f"{place}: {problem} (a recording of the {FORMAT} format, version {VERSION}?)"
        ) from None


class RecordingFile:
    """A file that is written, line by line; what is written is there when the process dies."""

    def __init__(self, path: Path, head: Head, max_bytes: int, now: Callable[[], float]) -> None:
        """A new file: FileExistsError for one that is there. `now`: monotonic, s."""
        self._file: IO[str] | None = path.open("x", encoding="utf-8", newline="\n")
        self._max_bytes, self._now = max_bytes, now
        self._begun_at = now()
        self._written = self.pieces = 0
        self._last_t = 0.0
        self._write(head.model_dump(exclude_none=True))

    @property
    def is_full(self) -> bool:
        """It takes nothing more."""
        return self._file is None

    def piece(self, direction: str, data: bytes, at: float) -> None:
        """Bytes that passed at the time `at` of the clock."""
        self._last_t = max(self._last_t, at - self._begun_at)
        is_text = all(byte in _PRINTED for byte in data)
        body = {"text": data.decode("ascii")} if is_text else {"hex": data.hex()}
        self.pieces += 1
        self._write({"t": round(self._last_t, 6), "dir": direction, **body})
        if self._written > self._max_bytes:
            self.end("full")

    def event(self, name: str, why: str | None = None) -> None:
        """What happened to the line."""
        self._last_t = max(self._last_t, self._now() - self._begun_at)
        facts = {"t": round(self._last_t, 6), "event": name}
        self._write(facts if why is None else facts | {"why": why})

    def end(self, why: str) -> None:
        """Write the last line and close. Raises OSError, as `piece` and `event` do: nothing more is written then."""
        self.event(why)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        file = self._file
        if file is not None:
            try:
                self._written += file.write(json.dumps(line, ensure_ascii=True) + "\n")
                file.flush()
            except OSError:  # that was the end: what is in its buffer cannot be written either
                self._file = None
                with suppress(OSError):
                    file.close()
                raise


def without_user(source: str) -> str:
    """A URL without the user and password in it, which may contain anything; other sources as they are."""
    scheme, mark, rest = source.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if mark and scheme in WITH_USER else source


def head_of(source: str, baudrate: int, parity: str, stopbits: float, begun_at: datetime) -> Head:
    """The head of a new file, without a password that stands in a URL."""
    return Head.model_validate(
        {
            "format": FORMAT,
            "version": VERSION,
            "source": without_user(source),
            "baudrate": baudrate,
            "parity": parity,
            "stopbits": stopbits,
            "begun_at": begun_at.isoformat(timespec="milliseconds"),
        }
    )
