"""A device or a service that nests its JSON too deeply harms nobody else, and is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sensor_hub.drivers.http_settings import READING_DEPTH_MAX
from sensor_hub.wire import INSTANCE_HEADER
from tests.contract.services import Api, Endpoints, Instance, Reply, endpoints, in_process
from tests.support import eventually


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Site:
    """An aggregator over an http-poller, one of whose devices nests as deeply as the test says."""

    web: Endpoints
    api: Api


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site()
    with ExitStack() as stack:
        web = site.web = stack.enter_context(endpoints())
        web.replies = {"/good": Reply({"value": 1}), "/deep": Reply({"value": 1}), "/set": Reply({})}
        command = {"url": f"{web.url}/set", "body": {"value": "{value}"}}
        sensors = [
            {"sensor_id": name, "sensor_type": "generic", "url": f"{web.url}/{name}", "timeout_s": 5}
            | {"commands": {"note": command}}
            for name in ("good", "deep")
        ]
        instance = Instance(
            tmp_path_factory.mktemp("deep"),
            {"poll_interval": 0.2, "sensors": [{**each, "stale_after": 600} for each in sensors]},
        )
        for service in ("serial-handler", "http-poller", "state-aggregator"):
            site.api = stack.enter_context(in_process(instance, service))
        eventually(lambda: site.api.ask("GET", "/health").json()["status"] == "healthy", 30)
        yield site


def changes(site: Site, value: int) -> bool:
    """Whether news of the good device arrives."""
    return bool(site.api.readings("device_id")["good"].get("value") == value)


@pytest.mark.parametrize("levels", [READING_DEPTH_MAX + 1, 27, 28, 29, 30, 31, 32, 33, 64, 500])
def test_a_device_that_nests_too_deeply_is_read_failed_and_the_others_go_on(site: Site, levels: int) -> None:
    site.web.replies["/deep"] = Reply({"value": nested(levels)})
    eventually(lambda: site.api.readings("device_id")["deep"].get("error") == "READ_FAILED", 30)
    site.web.replies["/good"] = Reply({"value": levels})
    eventually(lambda: changes(site, levels), 30)
    eventually(lambda: site.api.ask("GET", "/health").json()["status"] == "healthy")
    site.web.replies["/deep"] = Reply({"value": 1})
    eventually(lambda: "error" not in site.api.readings("device_id")["deep"], 30)


def test_a_device_may_nest_sixteen_levels(site: Site) -> None:
    site.web.replies["/deep"] = Reply({"value": nested(READING_DEPTH_MAX)})
    eventually(lambda: site.api.readings("device_id")["deep"].get("value") == nested(16), 30)


@pytest.mark.parametrize("levels", [31, 30])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_command_may_nest_as_deeply_as_the_contract_says(site: Site, levels: int, wrapped: bool) -> None:
    deep = nested(levels - 1 if wrapped else levels)
    body = {"values": {"note": deep}} if wrapped else {"note": deep}
    assert site.api.post("/device/good/command", body)["values"] == {"note": deep}
    assert site.web.got[-1] == ("POST", "/set", {"value": deep})


@pytest.mark.parametrize("body", [{"note": nested(32)}, {"values": {"note": nested(31)}}])
def test_a_command_that_nests_deeper_is_invalid(site: Site, body: Any) -> None:
    assert site.api.error("POST", "/device/good/command", json=body) == (400, "INVALID_COMMAND")


FEED = "/readings?journal=&wait=0.0"


def test_a_feed_that_cannot_be_read_is_told_and_its_handler_is_not_well(tmp_path: Path) -> None:
    with endpoints() as handler:
        instance = Instance(tmp_path, {"sensors": []}, HTTP_POLLER_URL=handler.url)
        own = {INSTANCE_HEADER: instance.instance_id}
        handler.replies["/health"] = Reply({"status": "healthy"}, headers=own)
        handler.replies[FEED] = Reply({"cursor": "1-1", "readings": nested(100)}, headers=own)
        with in_process(instance, "state-aggregator") as api, capture_logs() as logged:

            def poller() -> str:
                return str(api.ask("GET", "/health").json()["dependencies"]["http_poller"]["status"])

            eventually(lambda: poller() == "unreadable", 30)
            asked = handler.asked[FEED]
            eventually(lambda: handler.asked[FEED] > asked + 1, 30)
            told = [each for each in logged if each["event"] == "feed cannot be read"]
            assert [each["handler"] for each in told] == ["http-poller"]
            assert "nested deeper than 64" in told[0]["reason"]
            empty: dict[str, Any] = {"position": "1-1", "missed": None, "entries": []}
            handler.replies[FEED] = Reply({"cursor": "1-1", "readings": [], "journal": empty}, headers=own)
            eventually(lambda: poller() == "healthy", 30)
