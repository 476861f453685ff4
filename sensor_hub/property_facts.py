"""What a handler tells of its devices' properties (`GET /properties`), for those who must not know drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast, get_args

from sensor_hub.properties import PropertySpec, number_of
from sensor_hub.readings import Json

_NUMBERS = {
    "min": "minimum",
    "max": "maximum",
    "step": "step",
    "step_from": "step_from",
    "tolerance": "tolerance",
}
_Kind = Literal["number", "boolean", "text", "any"]


def body_of(spec: PropertySpec, *, writable: bool) -> dict[str, Json]:
    """One property as JSON; `writable`: also its line may be written. What is None is left out."""
    body: dict[str, Json] = {"kind": spec.kind, "readable": spec.readable, "writable": writable}
    if spec.unit:
        body["unit"] = spec.unit
    body |= {key: getattr(spec, name) for key, name in _NUMBERS.items() if getattr(spec, name) is not None}
    if spec.choices is not None:
        body["choices"] = list(spec.choices)
    return body


def specs_of(rows: Json) -> dict[str, dict[str, PropertySpec]]:
    """Device -> property -> what `body_of` wrote of it. Raises ValueError on anything else."""
    return {
        device_id: {name: _spec_of(body) for name, body in _object(properties).items()}
        for device_id, properties in _object(rows).items()
    }


def _spec_of(raw: Json) -> PropertySpec:
    body = _object(raw)
    kind, unit, choices = body.get("kind"), body.get("unit"), body.get("choices")
    if kind not in get_args(_Kind):
        raise ValueError(f"no kind of property: {str(kind)[:64]!r}")
    if choices is not None and not isinstance(choices, list):
        raise ValueError("choices must be a list")
    spec = PropertySpec(
        kind=cast("_Kind", kind),
        writable=body.get("writable") is True,
        unit=str(unit) if unit is not None else None,
        choices=None if choices is None else tuple(map(str, choices)),
        readable=body.get("readable") is not False,
    )
    numbers: dict[str, Any] = {name: number_of(body[key]) for key, name in _NUMBERS.items() if key in body}
    return replace(spec, **numbers)


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value
