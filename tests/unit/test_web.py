"""What every service's app does, whatever its routes."""

from __future__ import annotations

import threading

from flask import Response

from sensor_hub.clock import system_clock
from sensor_hub.web import MAX_ANSWERING, base_app, json_response
from tests.support import eventually


def test_health_answers_while_every_other_request_waits() -> None:
    app, release = base_app("service", "hub", system_clock(), lambda: None), threading.Event()
    inside = threading.Semaphore(0)

    @app.get("/health")
    def health() -> Response:
        return json_response({"status": "healthy"})

    @app.get("/slow")
    def slow() -> Response:
        inside.release()
        release.wait(120)
        return json_response({})

    answers: list[int] = []
    askers = [
        threading.Thread(target=lambda: answers.append(app.test_client().get("/slow").status_code))
        for _ in range(MAX_ANSWERING)
    ]
    try:
        for asker in askers:
            asker.start()
        assert all(inside.acquire(timeout=60) for _ in askers)
        assert app.test_client().get("/health").status_code == 200
        refused = app.test_client().get("/slow")
        assert (refused.status_code, refused.get_json()["error"]) == (503, "HANDLER_ERROR")
    finally:
        release.set()
    eventually(lambda: len(answers) == MAX_ANSWERING)
    assert set(answers) == {200}
    assert app.test_client().get("/slow").status_code == 200
