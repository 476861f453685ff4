"""What a value does over time: steps, a ramp, a day, or what a CSV file says. Pure: times are handed in."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

LONGEST_S = 31_536_000.0
MAX_POINTS = 20_000
Seconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Text = Annotated[StrictStr, Field(max_length=200)]
Given = StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | Text
_TRUE, _FALSE = ("true", "on", "yes"), ("false", "off", "no")


class _Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    repeat: bool = Field(False, description="Begin anew when it is over.")
    then: Literal["hold", "release"] = Field(
        "hold", description="What follows: the last value stays, or the value goes back to its model."
    )


class Step(BaseModel):
    """From `at_s` on (after the profile's begin) the value is `to`; null gives it back to its model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_s: Seconds
    to: Given | None


class Steps(_Profile):
    """One value after the other. It is over `lasts_s` after its begin, or with its last step."""

    kind: Literal["step"]
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_POINTS)]
    lasts_s: Seconds | None = None

    @model_validator(mode="after")
    def _is_in_order(self) -> Steps:
        times = [step.at_s for step in self.steps]
        if times != sorted(times):
            raise ValueError("steps must be in the order of at_s")
        _check_length(self.repeat, times[-1] if self.lasts_s is None else self.lasts_s)
        return self


class Ramp(_Profile):
    """Evenly from one number to another. `from` null: the value that it has at the begin."""

    kind: Literal["ramp"]
    begin: Number | None = Field(None, alias="from")
    to: Number
    lasts_s: Annotated[float, Field(gt=0, le=LONGEST_S)]


class Day(_Profile):
    """A cosine over the day, highest at `peak_hour`, `mean` plus and minus `swing`.

    Without `lasts_s` it goes on for ever. `day_s` less than 86400 makes days pass faster; the first begins at the
    present hour of the scenario's time zone.
    """

    kind: Literal["day"]
    mean: Number
    swing: Number
    peak_hour: Annotated[float, Field(ge=0, le=24)] = 15.0
    day_s: Annotated[float, Field(ge=1, le=86_400)] = 86_400.0
    lasts_s: Annotated[float, Field(gt=0, le=LONGEST_S)] | None = None


class Csv(_Profile):
    """The rows of a CSV text: a time and a value; a first row that is no number and no time is a heading.

    Times are seconds, or dates and times as in ISO 8601; the first row is the begin. `speed` 60: an hour in a minute.
    `smooth` goes evenly from row to row, which needs numbers.
    """

    kind: Literal["csv"]
    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    speed: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    smooth: bool = False

    @model_validator(mode="after")
    def _can_be_read(self) -> Csv:
        points = points_of(self.text)
        if self.smooth and any(isinstance(value, bool | str) for _, value in points):
            raise ValueError("text: smooth needs a number in every row")
        _check_length(self.repeat, points[-1][0] / self.speed)
        return self


Profile = Annotated[Steps | Ramp | Day | Csv, Field(discriminator="kind")]
Asked = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Course:
    """`at`: seconds since the begin -> the value, None: its model's. `lasts_s` None: for ever."""

    at: Callable[[float], Asked]
    lasts_s: float | None


def course_of(profile: Steps | Ramp | Day | Csv, now: Asked, wall: datetime) -> Course:
    """A profile that begins with the value `now` at the local time `wall`. Raises ValueError."""
    match profile:
        case Steps():
            last_s = profile.steps[-1].at_s
            points = [(step.at_s, step.to) for step in profile.steps]
            return Course(_stairs(points), last_s if profile.lasts_s is None else profile.lasts_s)
        case Ramp():
            begin = now if profile.begin is None else profile.begin
            if isinstance(begin, bool | str | None):
                raise ValueError("a ramp is for numbers")
            return Course(_slope([(0.0, begin), (profile.lasts_s, profile.to)]), profile.lasts_s)
        case Day():
            return Course(_wave(profile, wall), profile.lasts_s)
        case Csv():
            rows = [(at / profile.speed, value) for at, value in points_of(profile.text)]
            numbers = [(at, value) for at, value in rows if not isinstance(value, bool | str)]
            return Course(_slope(numbers) if profile.smooth else _stairs(rows), rows[-1][0])


def points_of(text: str) -> list[tuple[float, bool | float | str]]:
    """The rows of a CSV text: seconds since the first, value. Raises ValueError with the number of the row."""
    lines = text.removeprefix("\ufeff").splitlines()  # what spreadsheets begin with; ends of any kind
    try:
        rows = [
            (number, [cell.strip() for cell in row])
            for number, row in enumerate(csv.reader(lines, dialect=_dialect(text)), start=1)
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
        ]
    except csv.Error as error:
        raise ValueError(f"text: {error}") from None
    if rows and _time_or_none(rows[0][1][0]) is None:
        rows = rows[1:]  # a heading
    if not 1 <= len(rows) <= MAX_POINTS:
        raise ValueError(f"text: must have 1..{MAX_POINTS} rows of a time and a value")
    found: list[tuple[float, bool | float | str]] = []
    for number, cells in rows:
        at = _time_or_none(cells[0])
        if at is None or len(cells) < 2 or cells[1] == "":
            raise ValueError(f"text: row {number} must be a time and a value")
        found.append((at, _value_of(cells[1])))
    first_s = found[0][0]
    if any(later < earlier for (earlier, _), (later, _) in zip(found, found[1:], strict=False)):
        raise ValueError("text: times must not go back")
    if found[-1][0] - first_s > LONGEST_S:
        raise ValueError("text: must not last longer than a year")
    return [(at - first_s, value) for at, value in found]


def _dialect(text: str) -> type[csv.Dialect]:
    """Semicolons or tabs between the cells, if the first line has such and no comma."""

    class Found(csv.excel):
        delimiter = next((mark for mark in ",;\t" if mark in text.partition("\n")[0]), ",")

    return Found


def _time_or_none(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    return seconds if math.isfinite(seconds) else None


def _value_of(text: str) -> bool | float | str:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    try:
        number = float(text)
    except ValueError:
        return text[:200]
    if not math.isfinite(number):
        raise ValueError(f"text: {text} is no number")
    return number


def _check_length(repeat: bool, lasts_s: float) -> None:
    if repeat and lasts_s <= 0:
        raise ValueError("repeat needs a profile that lasts longer than 0 s")


def _stairs(points: Sequence[tuple[float, Asked]]) -> Callable[[float], Asked]:
    """Before the first point: its value, too."""
    times = [at for at, _ in points]
    return lambda elapsed_s: points[max(0, bisect_right(times, elapsed_s) - 1)][1]


def _slope(points: Sequence[tuple[float, float]]) -> Callable[[float], Asked]:
    times = [at for at, _ in points]

    def at(elapsed_s: float) -> float:
        after = bisect_right(times, elapsed_s)
        if after in (0, len(points)):
            return points[min(after, len(points) - 1)][1]
        (begins_at, begin), (ends_at, end) = points[after - 1], points[after]
        return begin + (end - begin) * (elapsed_s - begins_at) / (ends_at - begins_at)

    return at


def _wave(day: Day, wall: datetime) -> Callable[[float], Asked]:
    begin_hour = wall.hour + wall.minute / 60 + wall.second / 3600

    def at(elapsed_s: float) -> float:
        hour = begin_hour + 24 * elapsed_s / day.day_s
        return day.mean + day.swing * math.cos(2 * math.pi * (hour - day.peak_hour) / 24)

    return at
