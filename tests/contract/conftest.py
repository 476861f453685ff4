"""The MQTT contract holds with either client library, so its tests run with both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.bridge import CLIENTS, Hub, running_hub


@pytest.fixture(scope="module", params=CLIENTS)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A running hub whose states are sent because of changes only: its update interval is an hour."""
    with running_hub(request.param) as running:
        running.settled()  # lines take a moment, each its own
        yield running


@pytest.fixture(autouse=True)
def well(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test, also one that failed, the devices of a shared hub answer again."""
    yield
    hub = request.getfixturevalue("hub") if "hub" in request.fixturenames else None
    if isinstance(hub, Hub):
        hub.http.status.clear()
        hub.http.raw.clear()
        hub.plc.refuses = False


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client library, for tests that start a hub of their own."""
    return str(request.param)
