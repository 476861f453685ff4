"""What the services' Flask apps share: errors as JSON, body limits, the instance's name, the feed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from sensor_hub import commands, errors, logs, wire
from sensor_hub.board import MAX_WAIT_S, Board, Changes
from sensor_hub.clock import Clock
from sensor_hub.readings import Json
from sensor_hub.wire import INSTANCE_HEADER

log = logs.get(__name__)

MAX_BODY_BYTES = 1024 * 1024
# Fewer than the service's request threads (services/gunicorn.conf.py), so that one is left for `/health`
# however many requests wait for a device that hangs.
MAX_ANSWERING = 128

_BY_STATUS: Mapping[int, tuple[type[errors.HubError], str]] = {
    404: (errors.NotFound, "no such path"),
    405: (errors.MethodNotAllowed, "this path does not take that method"),
    413: (errors.PayloadTooLarge, f"a body may have {MAX_BODY_BYTES} bytes"),
    415: (errors.UnsupportedMediaType, "send Content-Type: application/json"),
}


class HubFlask(Flask):
    """Flask whose `close()` is called when the process is told to stop."""

    close: Callable[[], None]


def base_app(service: str, instance_id: str, clock: Clock, close: Callable[[], None]) -> HubFlask:
    """An app without routes: every answer names the instance, every error is the contract's JSON body.

    A request may name the instance it is meant for; one for another is refused.
    """
    app = HubFlask(service)
    app.close = close
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1  # a body without a length is cut there, not refused
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # it would redirect, with an HTML page

    slots = threading.BoundedSemaphore(MAX_ANSWERING)

    @app.before_request
    def take_slot() -> None:
        if request.path != "/health":
            if not slots.acquire(blocking=False):
                raise errors.Busy(f"{service} is answering {MAX_ANSWERING} requests already")
            g.has_slot = True

    @app.teardown_request
    def give_slot_back(_: BaseException | None) -> None:
        if g.pop("has_slot", False):
            slots.release()

    @app.before_request
    def refuse_large_body_and_other_instance() -> None:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise errors.PayloadTooLarge(_BY_STATUS[413][1])
        asked = request.headers.get(INSTANCE_HEADER, instance_id)
        if asked != instance_id:  # before anything is done: a command for another hub must not be carried out
            raise errors.HandlerUnreachable(f"this is {instance_id}, not {asked[:64]}")
        if request.content_length is None and len(request.get_data()) > MAX_BODY_BYTES:
            raise errors.PayloadTooLarge(_BY_STATUS[413][1])

    @app.after_request
    def name_instance(response: Response) -> Response:
        response.headers[INSTANCE_HEADER] = instance_id
        return response

    def answer(error: errors.HubError) -> Response:
        body = wire.error_body(error, clock.now(), **(request.view_args or {}))
        return json_response({**error.extra, **body}, error.status)

    app.register_error_handler(errors.HubError, answer)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        kind, message = _BY_STATUS.get(error.code or 500, (None, error.description or "bad request"))
        hub_error = kind(message) if kind else errors.InvalidCommand(message)
        response = answer(hub_error)
        response.headers.extend(  # of a 405
            (name, value) for name, value in error.get_headers() if name.lower() == "allow"
        )
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        # Top of the request: a defect answers as JSON too, and its trace goes to the log.
        log.error("request failed unexpectedly", path=request.path, exc_info=error)
        return answer(errors.defect())

    return app


def json_response(body: Mapping[str, Json], status: int = 200) -> Response:
    """JSON, UTF-8."""
    return Response(wire.dumps(body) + "\n", status, mimetype="application/json")


def command_payload() -> bytes:
    """The request's body for a command. Raises UnsupportedMediaType unless it calls itself JSON.

    Raises Unanswerable for what somebody else than our services may not send.
    """
    if not request.is_json:
        raise errors.UnsupportedMediaType(_BY_STATUS[415][1])
    payload = request.get_data()
    if INSTANCE_HEADER not in request.headers:
        commands.from_outside(payload)
    return payload


def feed_response(board: Board, id_key: str) -> Response:
    """`GET /readings?since=&wait=`, each entry named by `id_key`; with `&journal=<position>` every reading after it."""
    since, wait_s = request.args.get("since"), _wait_s(request.args.get("wait", "0"))
    position = request.args.get("journal")
    if position is None:
        return json_response(_changes_body(board.since(since, wait_s), id_key))
    changes, page = board.since_with_journal(since, position, wait_s)
    facts = {"position": page.position, "missed": page.missed}
    # The entries are JSON already: each is written once, not once for every follower.
    texts = [_open(_changes_body(changes, id_key)), '"journal":', _open(facts), '"entries":[']
    return Response("".join([*texts, ",".join(page.texts), "]}}\n"]), mimetype="application/json")


def _changes_body(changes: Changes, id_key: str) -> dict[str, Json]:
    return {"cursor": changes[0], "readings": [wire.entry_body(each, id_key) for each in changes[1]]}


def _open(body: Mapping[str, Json]) -> str:
    """The JSON of an object to which more keys are added."""
    return wire.dumps(body)[:-1] + ","


def _wait_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = math.nan
    if math.isnan(wait_s) or wait_s < 0:
        raise errors.InvalidCommand("wait must be a number of seconds, 0 or more")
    return min(wait_s, MAX_WAIT_S)
