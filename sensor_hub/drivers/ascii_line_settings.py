"""Options of lines of text and of the sensors on them, validated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sensor_hub.drivers.ascii_line_regex import regex_problem
from sensor_hub.drivers.base import PropertySpec, Settings
from sensor_hub.drivers.serial_settings import SerialSettings
from sensor_hub.drivers.settings import Flag, Number, Positive, check_property_names, one_of, whole
from sensor_hub.errors import Problem

Kind = Literal["number", "boolean", "text"]
Encoding = Literal["ascii", "utf-8", "latin-1"]

# `{value}` in a command, with digits as in `{value:05.1f}` or `{value:03d}`.
PLACEHOLDER = re.compile(r"\{value(?::(0?[0-9]{0,2}(?:\.[0-9]{1,2})?f|0?[0-9]{0,2}d))?\}")
UNIT_PLACEHOLDER = "{unit_id}"
_NAMES = {"crlf": "\r\n", "lf": "\n", "cr": "\r", "none": ""}
_WORDS = {text: name for name, text in _NAMES.items() if text}


def _terminator(value: object) -> object:
    return _NAMES.get(value.lower(), value) if isinstance(value, str) else value


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, Field(max_length=64), BeforeValidator(_as_text)]
Template = Annotated[str, Field(max_length=256)]
Terminator = Annotated[str, Field(max_length=8), BeforeValidator(_terminator)]


class AsciiLineOptions(SerialSettings):
    """How lines end and what they are made of. Terminators: crlf, lf, cr or the characters themselves."""

    terminator: Terminator = "\r\n"
    send_terminator: Terminator | None = None
    encoding: Annotated[Encoding, one_of(get_args(Encoding))] = "utf-8"
    max_line_length: Annotated[int, whole(16, 4096)] = 256

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """A carriage return is no blank here."""
        if not isinstance(given, Mapping):
            return given
        return {
            key: _WORDS.get(value, value) if isinstance(value, str) else value for key, value in given.items()
        }

    @model_validator(mode="after")
    def _can_be_sent(self) -> AsciiLineOptions:
        if not self.terminator:
            raise ValueError("terminator: none is for send_terminator only")
        _check_encodable("terminator", self.terminator, self.encoding)
        _check_encodable("send_terminator", self.end_of_request, self.encoding)
        return self

    @property
    def end_of_request(self) -> str:
        """What is sent after a request or command."""
        return self.terminator if self.send_terminator is None else self.send_terminator


class TextProperty(Settings):
    """Where one value stands in a line, and how to write it. Number: value = number in the line * scale + offset."""

    regex: str | None = None
    json_path: str | None = Field(default=None, alias="json")
    kind: Annotated[Kind, one_of(get_args(Kind))] = Field(default="number", alias="type")
    optional: Flag = False
    scale: Number = 1.0
    offset: Number = 0.0
    decimal: Annotated[Literal[".", ","], one_of((".", ","))] = "."
    unit: str | None = None
    minimum: Number | None = Field(default=None, alias="min")
    maximum: Number | None = Field(default=None, alias="max")
    step: Positive | None = None
    on: Text = "1"
    off: Text = "0"
    command: Template | None = None
    answer: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TextProperty:
        if self.regex is not None and self.json_path is not None:
            raise ValueError("has both regex and json; leave one out")
        if self.json_path is not None and not all(self.json_path.split(".")):
            raise ValueError(f"json: {self.json_path!r} is no path like list.0.x")
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"min {self.minimum:g} is greater than max {self.maximum:g}")
        given = self.model_fields_set
        if self.kind != "number" and given & {"scale", "offset", "decimal", "minimum", "maximum", "step"}:
            raise ValueError("scale, offset, decimal, min, max and step are for numbers only")
        if self.kind != "boolean" and given & {"on", "off"}:
            raise ValueError('on and off need "type": "boolean"')
        if self.kind == "boolean" and self.on.strip().lower() == self.off.strip().lower():
            raise ValueError("on and off must differ")
        if self.answer is not None and self.command is None:
            raise ValueError("answer needs a command")
        self._check_command()
        return self

    def _check_command(self) -> None:
        if self.command is None:
            return
        found = PLACEHOLDER.findall(self.command)
        if len(found) != 1:
            raise ValueError("command must hold {value} once, such as {value}, {value:.1f} or {value:03d}")
        if found[0] and self.kind != "number":
            raise ValueError("command: a format such as {value:.1f} is for numbers only")

    @property
    def readable(self) -> bool:
        """Without regex and json a property that has a command can only be written."""
        return self.command is None or self.regex is not None or self.json_path is not None

    def spec(self, *, writable: bool) -> PropertySpec:
        """The property for checking commands; it can be written if it has a command and its line may be."""
        return PropertySpec(
            self.kind,
            writable and self.command is not None,
            self.unit,
            self.minimum,
            self.maximum,
            self.step,
            readable=self.readable,
        )


class AsciiSensor(Settings):
    """One device, or one kind of line: what to ask it (nothing: it speaks unasked) and what its lines hold."""

    unit_id: Text | None = None
    request: Template | None = None
    match: Template | None = None
    value: TextProperty | None = None
    properties: dict[str, TextProperty] | None = None

    @field_validator("properties")
    @classmethod
    def _names(cls, properties: dict[str, TextProperty] | None) -> dict[str, TextProperty] | None:
        if properties is not None:
            if not properties:
                raise ValueError("must have at least one property")
            check_property_names(properties)
        return properties

    @model_validator(mode="after")
    def _whole(self) -> AsciiSensor:
        if (self.value is None) == (self.properties is None):
            raise ValueError("exactly one of value and properties is required")
        if not any(item.readable for item in self.fields.values()):
            raise ValueError("has nothing that can be read; give a property a regex or a json path")
        if self.unit_id is None and any(UNIT_PLACEHOLDER in text for _, text in self.templates()):
            raise ValueError("unit_id is required, for a template names it")
        return self

    @property
    def fields(self) -> dict[str, TextProperty]:
        """Property by name; a single one is `value`."""
        return {"value": self.value} if self.value is not None else dict(self.properties or {})

    def templates(self) -> Iterator[tuple[str, str]]:
        """Everything that is sent, or compared with what comes, and where it stands below the sensor."""
        if self.request is not None:
            yield "request", self.request
        if self.match is not None:
            yield "match", self.match
        for name, item in self.fields.items():
            if item.command is not None:
                yield f"{self._place(name)}.command", item.command

    def problems(self, line: AsciiLineOptions, path: str) -> Iterator[Problem]:
        """What does not fit the line."""
        for where, text in self.templates():
            try:
                _check_encodable(where, text, line.encoding)
            except ValueError as error:
                yield Problem(f"{path}.{where}", str(error))
            if line.terminator in text or (line.end_of_request and line.end_of_request in text):
                yield Problem(f"{path}.{where}", "may not hold the terminator, which is added by itself")
        for name, item in self.fields.items():
            for key, expression in (("regex", item.regex), ("answer", item.answer)):
                problem = None if expression is None else regex_problem(expression, line.max_line_length)
                if problem:
                    yield Problem(f"{path}.{self._place(name)}.{key}", problem)

    def _place(self, name: str) -> str:
        return "value" if self.value is not None else f"properties.{name}"


def _check_encodable(what: str, text: str, encoding: str) -> None:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        raise ValueError(f"{what} has characters that are no {encoding}") from None
