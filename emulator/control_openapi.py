"""The OpenAPI document of the control API, made of its table of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from emulator.control_models import Refused
from emulator.control_routes import INTEGERS, MAX_BODY_BYTES, Route

REF = "#/components/schemas/{model}"
VERSION = "1"


def document(routes: Sequence[Route], url: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    answers = [(route.answer, "serialization") for route in routes]
    bodies = [(route.body, "validation") for route in routes if route.body is not None]
    models: Any = list(dict.fromkeys([*answers, *bodies, (Refused, "serialization")]))
    refs, definitions = models_json_schema(models, ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Device emulator",
            "version": VERSION,
            "description": "Values, profiles and faults of emulated devices, and the state of their lines.",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


def _operation(route: Route, refs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [_parameter(name, route.parameters[name]) for name in route.names],
        "responses": {
            str(route.status): _content("As asked.", refs[route.answer, "serialization"]),
            **{status: _content(why, refs[Refused, "serialization"]) for status, why in _refusals(route)},
        },
    }
    if route.body is not None:
        content = {"schema": refs[route.body, "validation"], "example": route.example}
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    return found


def _refusals(route: Route) -> list[tuple[str, str]]:
    found = [("403", "A page of another site asks, or the emulator is not known by that name.")]
    if route.body is not None:
        found.append(("400", "The body is wrong, or this cannot be done."))
    if route.names or route.body is not None:
        found.append(("404", "There is no such thing."))
    if route.body is not None:
        found += [
            ("413", f"The body has more than {MAX_BODY_BYTES} bytes."),
            ("415", "The body is not application/json."),
        ]
    return found


def _parameter(name: str, example: str) -> dict[str, Any]:
    is_integer = name in INTEGERS
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0} if is_integer else {"type": "string"},
        "example": int(example) if is_integer else example,
    }


def _content(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _operation_id(route: Route) -> str:
    words = [part.strip("{}") for part in route.path.split("/") if part not in ("", "api")]
    return "_".join([route.method.lower(), *words])
