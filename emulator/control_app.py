"""Puts the control API, its OpenAPI document and its page into the emulator's web server."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, jsonify, request

from emulator.control_api import ControlApi
from emulator.control_calls import calls
from emulator.control_openapi import document
from emulator.control_routes import MAX_BODY_BYTES, blueprint

PAGE = Path(__file__).with_name("control_page.html")
OPENAPI_PATH = "/openapi.json"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_control(app: Flask, api: ControlApi) -> None:
    """All but the pages a hub polls, which are there already."""
    routes = calls(api)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(blueprint(routes))

    @app.get(OPENAPI_PATH)
    def openapi() -> Response:
        return jsonify(document(routes, request.host_url.rstrip("/")))

    @app.get("/")
    def page() -> Response:
        response = Response(PAGE.read_text(encoding="utf-8"), mimetype="text/html")
        response.headers["Content-Security-Policy"] = _POLICY
        response.cache_control.no_cache = True
        return response
