"""Following a service that lets nobody wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Response
from werkzeug.serving import make_server

from sensor_hub import clients
from sensor_hub.board import Board
from sensor_hub.clients import HandlerClient
from sensor_hub.clock import system_clock
from sensor_hub.readings import Fault, Snapshot, Status
from sensor_hub.web import base_app, feed_response
from tests.support import eventually
from tests.unit.manual_clock import NOON


class Ending:
    """A service whose board is closed: it answers whoever wants to wait at once, with nothing."""

    def __init__(self) -> None:
        self.asked = 0
        fault = Fault("SENSOR_UNAVAILABLE", "not read yet", NOON)
        board = Board([Snapshot("a", "generic", Status.UNKNOWN, fault=fault)])
        board.close()
        app = base_app("service", "hub", system_clock(), lambda: None)

        @app.get("/readings")
        def readings() -> Response:
            self.asked += 1
            return feed_response(board, "sensor_id")

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def ending() -> Iterator[Ending]:
    service = Ending()
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_a_follower_whose_wait_ends_early_and_empty_pauses(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_FOLLOW_PAUSE_S", 3600.0)
    monkeypatch.setattr(clients, "_EARLY_S", 60.0)
    client, stop = HandlerClient(f"http://127.0.0.1:{ending.server.server_port}", "hub"), threading.Event()
    told: list[Snapshot] = []
    follower = threading.Thread(target=client.follow, args=(told.extend, lambda _: None, stop), daemon=True)
    follower.start()
    eventually(lambda: ending.asked >= 2)
    follower.join(0.3)  # time enough for a hundred more
    assert (ending.asked, follower.is_alive()) == (2, True)
    stop.set()
    follower.join(10)
    assert not follower.is_alive()
    assert [snapshot.device_id for snapshot in told] == ["a"]
