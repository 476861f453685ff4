"""The REST API of a handler (contract, section 2: serial-handler and http-poller)."""

from __future__ import annotations

from flask import Response

from sensor_hub import wire
from sensor_hub.config.model import Handler
from sensor_hub.handler import HandlerService
from sensor_hub.web import HubFlask, base_app, command_payload, feed_response, json_response


def handler_app(service: HandlerService, kind: Handler) -> HubFlask:
    """The REST API of serial-handler or http-poller (contract, section 2)."""
    app = base_app(service.service, service.config.instance_id, service.clock, service.close)

    @app.get("/health")
    def health() -> Response:
        return json_response(service.health())

    @app.get("/sensors")
    def sensors() -> Response:
        listed = service.sensors()
        return json_response({"sensors": listed, "count": len(listed)})

    @app.get("/sensor/<sensor_id>")
    def sensor(sensor_id: str) -> Response:
        return json_response(service.read(sensor_id) if kind is Handler.SERIAL else service.last(sensor_id))

    @app.get("/sensor/<sensor_id>/cached")
    def cached(sensor_id: str) -> Response:
        return json_response(service.cached(sensor_id))

    @app.get("/sensor/<sensor_id>/health")
    def sensor_health(sensor_id: str) -> Response:
        return json_response(service.health_of(sensor_id))

    @app.post("/sensor/<sensor_id>/command")
    def command(sensor_id: str) -> Response:
        return json_response(service.command(sensor_id, command_payload()))

    @app.get("/transports")
    def transports() -> Response:
        listed = service.transports()
        return json_response({"transports": listed, "count": len(listed)})

    @app.get("/errors")
    def all_errors() -> Response:
        found = service.errors()
        now = wire.timestamp_text(service.clock.now())
        return json_response({"errors": found, "count": len(found), "timestamp": now})

    @app.get("/telemetry")
    def telemetry() -> Response:
        return json_response({"telemetry": service.telemetry()})

    @app.get("/properties")
    def properties() -> Response:
        return json_response({"properties": service.properties()})

    @app.get("/readings")
    def readings() -> Response:
        return feed_response(service.board, "sensor_id")

    return app
