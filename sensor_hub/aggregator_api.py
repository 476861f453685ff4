"""The REST API of the state-aggregator (contract, section 2)."""

from __future__ import annotations

from flask import Response

from sensor_hub import metrics, wire
from sensor_hub.aggregator import Aggregator
from sensor_hub.web import HubFlask, base_app, command_payload, feed_response, json_response


def aggregator_app(aggregator: Aggregator) -> HubFlask:
    """Its routes; `close()` of the app closes the aggregator."""
    clock = aggregator.clock
    app = base_app("state-aggregator", aggregator.config.instance_id, clock, aggregator.close)

    def now() -> str:
        return wire.timestamp_text(clock.now())

    @app.get("/health")
    def health() -> Response:
        body = aggregator.health()
        return json_response(body, 503 if body["status"] == "unavailable" else 200)

    @app.get("/devices")
    def devices() -> Response:
        listed = aggregator.devices()
        return json_response({"devices": listed, "count": len(listed), "timestamp": now()})

    @app.get("/device/<device_id>")
    def device(device_id: str) -> Response:
        return json_response(aggregator.device(device_id))

    @app.post("/device/<device_id>/force-refresh")
    def force_refresh(device_id: str) -> Response:
        return json_response(aggregator.refresh(device_id))

    @app.post("/device/<device_id>/command")
    def command(device_id: str) -> Response:
        return json_response(aggregator.command(device_id, command_payload()))

    @app.get("/cache/stats")
    def cache_stats() -> Response:
        return json_response(aggregator.cache_stats())

    @app.post("/cache/clear")
    def cache_clear() -> Response:
        count = aggregator.clear_cache()
        message = f"cache cleared, {count} entries"
        return json_response({"message": message, "entries_cleared": count, "timestamp": now()})

    @app.get("/errors")
    def errors() -> Response:
        found = aggregator.errors()
        return json_response({"errors": found, "count": len(found), "timestamp": now()})

    @app.get("/telemetry")
    def telemetry() -> Response:
        return json_response({"telemetry": aggregator.telemetry()})

    @app.get("/properties")
    def properties() -> Response:
        rows, is_complete = aggregator.properties()
        return json_response({"properties": rows, "complete": is_complete})

    @app.get("/metrics")
    def all_metrics() -> Response:
        return Response(metrics.exposition(metrics.families(aggregator)), content_type=metrics.CONTENT_TYPE)

    @app.get("/readings")
    def readings() -> Response:
        return feed_response(aggregator.board, "device_id")

    return app
