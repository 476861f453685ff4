"""A call of the control API as a table row: from it come the route, the checks of its body and its documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Blueprint, Response, abort, make_response, request
from pydantic import BaseModel, ValidationError

from emulator import logs
from emulator.faults import NotPossibleError
from emulator.registry import ControlError, UnknownNameError
from emulator.scenario_problems import texts_of

MAX_BODY_BYTES = 1_500_000  # a CSV of a megabyte and what is around it
_VARIABLE = re.compile(r"{(\w+)}")
Handler = Callable[..., BaseModel]
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `parameters`: an example for each name in the path; `example`: a body; `handler` None: is elsewhere."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel]
    handler: Handler | None
    body: type[BaseModel] | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    example: dict[str, Any] | None = None
    status: int = 200

    @property
    def names(self) -> list[str]:
        """The variables of its path."""
        return _VARIABLE.findall(self.path)


def blueprint(routes: Sequence[Route]) -> Blueprint:
    """All routes that have a handler."""
    made = Blueprint("control", __name__)
    for number, route in enumerate(routes):
        if route.handler is not None:
            rule = _VARIABLE.sub(
                lambda name: f"<{'int:' if name[1] in INTEGERS else ''}{name[1]}>", route.path
            )
            made.add_url_rule(rule, f"call{number}", _view(route, route.handler), methods=[route.method])
    return made


INTEGERS = frozenset(("fault_id", "profile_id"))


def _view(route: Route, handler: Handler) -> Callable[..., Response]:
    def view(**names: Any) -> Response:
        try:
            answer = handler(**names) if route.body is None else handler(body_of(route.body), **names)
        except UnknownNameError as error:
            abort(404, str(error))
        except (ControlError, NotPossibleError) as error:
            abort(400, str(error))
        if route.method != "GET":
            logs.event("control", call=f"{route.method} {request.path}", by=request.remote_addr)
        response = make_response(answer.model_dump_json(by_alias=True), route.status)
        response.content_type = "application/json"
        response.cache_control.no_store = True
        return response

    return view


def body_of(model: type[B]) -> B:
    """The request's body, checked. Without its content type a page of another site could send one unasked."""
    if not request.is_json:
        abort(415, "the body must be JSON, with the content type application/json")
    try:
        return model.model_validate_json(request.get_data(), strict=True)
    except ValidationError as error:
        abort(400, "; ".join(texts_of(error, "body")))
