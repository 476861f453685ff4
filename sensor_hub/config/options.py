"""Options that their owner validates (a driver, an output): models, and their errors as problems with paths."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sensor_hub.config import values
from sensor_hub.config.problems import join
from sensor_hub.config.values import BadValueError, Parser, is_blank
from sensor_hub.errors import Problem
from sensor_hub.readings import Json


class Settings(BaseModel):
    """Base of a driver's or an output's settings: unknown keys are errors, blanks are not given, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        """Null and empty text count as not given, as everywhere in the configuration."""
        if not isinstance(given, Mapping):
            return given
        known = cls.known_keys()
        return {
            key: value
            for key, value in given.items()
            if key not in known or not (value is None or is_blank(value))
        }

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Its fields, by their names in the configuration."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


def read_as(parse: Parser[object]) -> BeforeValidator:
    """A field's value as a parser of the configuration takes it, with the same words for a bad one."""

    def checked(value: Json) -> object:
        try:
            return parse(value)
        except BadValueError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(checked)


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number within low..high."""
    return read_as(values.integer(low, high))


def within(low: float, high: float) -> BeforeValidator:
    """A number within low..high."""
    return read_as(values.number(low, high))


def one_of(words: Iterable[str]) -> BeforeValidator:
    """One of these words, in any case."""
    return read_as(values.choice(words))


def _number(value: Json) -> float:
    try:
        return values.number(-sys.float_info.max, sys.float_info.max)(value)
    except BadValueError:
        raise values.refuse("a number", value) from None


def _positive(value: Json) -> float:
    try:
        return values.number(math.ulp(0.0), sys.float_info.max)(value)
    except BadValueError:
        raise values.refuse("a number greater than 0", value) from None


Number = Annotated[float, read_as(_number)]
Positive = Annotated[float, read_as(_positive)]
Flag = Annotated[bool, read_as(values.boolean)]


def problems_of(model: type[Settings], options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Validate `options` and yield each problem with its full JSON path."""
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        for item in error.errors(include_url=False):
            where = item["loc"]
            yield Problem(json_path(path, where), describe(dict(item), settings_at(model, where[:-1])))


def settings_at(model: type[Settings], loc: Sequence[int | str]) -> type[Settings]:
    """The settings that the object at `loc` is read with: ("properties", "pump") -> those of a register."""
    for part in loc:
        field = model.known_keys().get(str(part))
        if field is not None:
            model = next(_settings_in(field.annotation), model)
    return model


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in get_args(annotation):
        yield from _settings_in(inner)


def json_path(path: str, loc: Sequence[int | str]) -> str:
    """`config.sensors[0]` + ("register", "address") -> `config.sensors[0].register.address`."""
    return reduce(join, loc, path)


_KINDS: Mapping[str, str] = {
    "string_type": "a text",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def describe(item: Mapping[str, Any], settings: type[Settings]) -> str:
    """One pydantic error in the configuration's words: what is allowed. `settings`: of the object it is in."""
    kind = str(item["type"])
    if kind == "extra_forbidden":
        return f"unknown key; known are {', '.join(settings.known_keys()) or 'none'}"
    if kind == "missing":
        return "required"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    return str(item["msg"]).removeprefix("Value error, ")
