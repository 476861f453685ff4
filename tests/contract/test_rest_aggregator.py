"""state-aggregator's REST API, row by row, over real handlers of real devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.services import (
    NOBODY,
    READ_INPUT,
    WRITE_HOLDING,
    Api,
    Endpoints,
    Instance,
    Plc,
    Reply,
    at_the_same_time,
    endpoints,
    in_process,
    plc,
)
from tests.support import eventually

TEMPERATURE = {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1}
SETPOINT = {"table": "holding", "address": 10, "scale": 0.1, "write": True, "min": 30, "max": 75, "step": 0.5}


def content(plc_url: str, web_url: str, **more: Any) -> dict[str, Any]:
    """A device of each kind and some that are bad; background reads once a day, polls four times a second."""
    line = {"driver": "modbus_tcp", "read_interval": 86400, "timeout_s": 5, "write": True}
    led = {"method": "POST", "url": f"{web_url}/led", "body": {"on": "{value}"}}
    return {
        "poll_interval": 0.25,
        "cache_ttl": 600,
        "transports": [
            {"transport_id": "plc", "url": plc_url, **line},
            {"transport_id": "gone", "url": f"tcp://127.0.0.1:{NOBODY}", **line},
        ],
        "sensors": [
            {"sensor_id": "temp", "sensor_type": "temperature", "transport": "plc", "register": TEMPERATURE,
             "friendly_name": "Cellar", "model": "T1"},
            {"sensor_id": "boiler", "sensor_type": "generic", "transport": "plc",
             "properties": {"setpoint": SETPOINT, "flow": {"table": "input", "address": 5}}},
            {"sensor_id": "nowhere", "sensor_type": "generic", "transport": "plc",
             "register": {"table": "holding", "address": 5000, "write": True}},
            {"sensor_id": "offline", "sensor_type": "generic", "transport": "gone", "register": TEMPERATURE},
            {"sensor_id": "off", "sensor_type": "generic", "transport": "plc", "register": TEMPERATURE,
             "enabled": False},
            {"sensor_id": "temp_like_http", "sensor_type": "motion", "url": f"{web_url}/pir", "stale_after": 600,
             "timeout_s": 5, "commands": {"led": led}},
            {"sensor_id": "web_down", "sensor_type": "generic", "url": f"{web_url}/500"},
        ],
        **more,
    }  # fmt: skip


class Site:
    """An instance with all its services, its PLC and its endpoints."""

    plc: Plc
    web: Endpoints
    instance: Instance
    api: Api


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Plc, Endpoints]]:
    with plc() as server, endpoints() as web:
        server.inputs[1] = {1: 225, 5: 7}
        server.holding[1] = {10: 545}
        web.replies = {
            "/pir": Reply({"motion_detected": True, "battery_level": 87}),
            "/500": Reply(status=500),
            "/led": Reply({}),
        }
        yield server, web


@pytest.fixture(scope="module")
def site(devices: tuple[Plc, Endpoints], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site()
    site.plc, site.web = devices
    site.instance = Instance(tmp_path_factory.mktemp("aggregator"), content(site.plc.url, site.web.url))
    with ExitStack() as stack:
        for service in ("serial-handler", "http-poller"):
            stack.enter_context(in_process(site.instance, service))
        site.api = stack.enter_context(in_process(site.instance, "state-aggregator"))
        eventually(lambda: known(site.api), 30)
        yield site


def is_healthy(api: Api) -> bool:
    """It answers 503 until it has heard of its handlers."""
    return bool(api.ask("GET", "/health").json()["status"] == "healthy")


def known(api: Api) -> bool:
    entries = api.readings("device_id").values()
    return is_healthy(api) and all(e["status"] != "unknown" for e in entries)


@pytest.fixture(autouse=True)
def empty_cache(request: pytest.FixtureRequest) -> None:
    if "site" in request.fixturenames:
        request.getfixturevalue("site").api.post("/cache/clear")


def is_now(text: str) -> bool:
    return abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(seconds=60)


def words(dependencies: dict[str, dict[str, str]]) -> set[str]:
    return {each["status"] for each in dependencies.values()}


def test_health_names_dependencies_and_cache(site: Site) -> None:
    def both_are_degraded() -> dict[str, Any]:
        found = site.api.get("/health")
        return found if words(found["dependencies"]) == {"degraded"} else {}

    health = eventually(both_are_degraded)
    assert is_now(health.pop("timestamp"))
    ports = {name: service.url for name, service in site.instance.hub.services.items()}
    journal = health.pop("journal")
    assert journal.keys() == {"entries", "bytes", "missed", "interrupted"}
    assert (journal["missed"], journal["interrupted"]) == (0, 0)
    assert journal["bytes"] > journal["entries"] > 0
    assert health.pop("queues") == {}  # no output runs here
    assert health == {
        "service": "state-aggregator",
        "instance_id": site.instance.instance_id,
        "status": "healthy",
        "dependencies": {
            "serial_handler": {"url": ports["serial-handler"], "status": "degraded"},
            "http_poller": {"url": ports["http-poller"], "status": "degraded"},
        },
        "cache": {"entries": 0, "ttl": 600},
    }


def test_devices_lists_all_configured_ones_in_their_order(site: Site) -> None:
    answer = site.api.get("/devices")
    assert is_now(answer["timestamp"])
    assert answer["count"] == 7
    listed = {each["device_id"]: each for each in answer["devices"]}
    assert list(listed) == ["temp", "boiler", "nowhere", "offline", "off", "temp_like_http", "web_down"]
    assert listed["temp"] == {
        "device_id": "temp",
        "type": "temperature",
        "handler": "serial",
        "status": "online",
        "friendly_name": "Cellar",
        "model": "T1",
        "enabled": True,
    }
    assert (listed["off"]["status"], listed["off"]["enabled"]) == ("disabled", False)
    assert listed["temp_like_http"]["handler"] == "http_poller"  # by configuration, not by its name
    assert {device_id: each["status"] for device_id, each in listed.items()} == {
        "temp": "online",
        "boiler": "online",
        "nowhere": "offline",
        "offline": "offline",
        "off": "disabled",
        "temp_like_http": "online",
        "web_down": "offline",
    }


def test_a_device_is_read_then_served_from_the_cache(site: Site) -> None:
    site.plc.inputs[1][1] = 231
    asked = site.plc.asked[1, READ_INPUT]
    first = site.api.get("/device/temp")
    second = site.api.get("/device/temp")
    assert site.plc.asked[1, READ_INPUT] == asked + 1
    assert is_now(first["timestamp"])
    assert first == {
        "device_id": "temp",
        "type": "temperature",
        "value": 23.1,
        "unit": "°C",
        "timestamp": first["timestamp"],
        "quality": "good",
        "cached": False,
        "cache_age": 0.0,
    }
    assert 0 <= second.pop("cache_age") < 30
    assert second == {**{key: value for key, value in first.items() if key != "cache_age"}, "cached": True}


def test_a_forced_refresh_is_never_from_the_cache(site: Site) -> None:
    site.api.get("/device/temp")
    site.plc.inputs[1][1] = 199
    answer = site.api.post("/device/temp/force-refresh")
    assert (answer["value"], answer["cached"], answer["cache_age"]) == (19.9, False, 0.0)
    assert site.api.get("/device/temp")["value"] == 19.9


def test_a_device_of_http_poller_is_served_alike(site: Site) -> None:
    answer = site.api.get("/device/temp_like_http")
    assert (answer["device_id"], answer["motion_detected"], answer["battery_level"]) == (
        "temp_like_http",
        True,
        87,
    )
    assert site.api.get("/device/temp_like_http")["cached"] is True


def test_a_newer_reading_that_the_feed_brought_is_served_from_the_cache(site: Site) -> None:
    site.api.get("/device/temp_like_http")
    site.web.replies["/pir"] = Reply({"motion_detected": False})
    try:
        eventually(lambda: site.api.get("/device/temp_like_http")["motion_detected"] is False)
        assert site.api.get("/device/temp_like_http")["cached"] is True
    finally:
        site.web.replies["/pir"] = Reply({"motion_detected": True, "battery_level": 87})


def test_a_cached_value_is_no_better_than_the_board_knows_and_an_offline_device_has_none(site: Site) -> None:
    eventually(lambda: site.api.get("/device/temp_like_http")["cached"] is True)
    site.web.replies["/pir"] = Reply(status=500)
    try:
        eventually(
            lambda: site.api.error_or_none("/device/temp_like_http") == (503, "SENSOR_UNAVAILABLE"), 30
        )
        eventually(lambda: site.api.readings("device_id")["temp_like_http"]["status"] == "offline")
    finally:
        site.web.replies["/pir"] = Reply({"motion_detected": True, "battery_level": 87})
    eventually(lambda: site.api.readings("device_id")["temp_like_http"]["status"] == "online", 30)


def test_cache_stats_and_clear(site: Site) -> None:
    before = site.api.get("/cache/stats")
    for path in ("/device/temp", "/device/temp", "/device/boiler"):
        site.api.get(path)
    stats = site.api.get("/cache/stats")
    assert is_now(stats["timestamp"])
    assert (stats["cache_ttl"], stats["total_entries"]) == (600, 2)
    assert (stats["hits"] - before["hits"], stats["misses"] - before["misses"]) == (1, 2)
    assert [(entry["device_id"], entry["valid"]) for entry in stats["entries"]] == [
        ("temp", True),
        ("boiler", True),
    ]
    assert all(0 <= entry["age"] < 60 for entry in stats["entries"])
    cleared = site.api.post("/cache/clear")
    assert cleared["entries_cleared"] == 2
    assert cleared["message"]
    assert is_now(cleared["timestamp"])
    assert site.api.get("/cache/stats")["entries"] == []
    assert site.api.get("/device/temp")["cached"] is False


def test_errors_of_all_handlers_name_their_handler(site: Site) -> None:
    answer = site.api.get("/errors")
    found = answer["errors"]
    assert is_now(answer["timestamp"])
    assert answer["count"] == len(found) == 3
    assert {device_id: (each["error"], each["handler"]) for device_id, each in found.items()} == {
        "nowhere": ("DEVICE_REFUSED", "serial"),
        "offline": ("TRANSPORT_DOWN", "serial"),
        "web_down": ("READ_FAILED", "http_poller"),
    }
    assert all(each["message"] and is_now(each["timestamp"]) for each in found.values())


def test_a_command_is_routed_to_its_handler(site: Site) -> None:
    answer = site.api.post("/device/boiler/command", {"id": "c1", "values": {"setpoint": 60.5}})
    outcome = {"outcome": "verified", "outcomes": {"setpoint": "verified"}}
    assert answer == {"id": "c1", "status": "success", "values": {"setpoint": 60.5}, **outcome}
    assert site.plc.holding[1][10] == 605
    answer = site.api.post("/device/temp_like_http/command", {"id": "c1", "led": True, "timeout": 20_000})
    outcome = {"outcome": "applied", "outcomes": {"led": "applied"}}
    assert answer == {"id": "c1", "status": "success", "values": {"led": True}, **outcome}
    assert site.web.got[-1] == ("POST", "/led", {"on": True})


def test_what_was_written_is_on_the_feed_and_in_the_cache_soon(site: Site) -> None:
    site.api.get("/device/boiler")
    site.api.post("/device/boiler/command", {"setpoint": 71})
    eventually(lambda: site.api.readings("device_id")["boiler"]["setpoint"] == 71.0)
    assert site.api.get("/device/boiler")["setpoint"] == 71.0


def test_a_repeated_id_is_not_executed_again(site: Site) -> None:
    first = site.api.post("/device/boiler/command", {"id": "twice", "setpoint": 40})
    asked = site.plc.asked[1, WRITE_HOLDING]
    assert site.api.post("/device/boiler/command", {"id": "twice", "setpoint": 41}) == first
    assert (site.plc.holding[1][10], site.plc.asked[1, WRITE_HOLDING]) == (400, asked)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/device/nobody", None, 404, "UNKNOWN_DEVICE"),
        ("POST", "/device/nobody/force-refresh", None, 404, "UNKNOWN_DEVICE"),
        ("POST", "/device/nobody/command", {"x": 1}, 404, "UNKNOWN_DEVICE"),
        ("GET", "/device/off", None, 503, "DISABLED"),
        ("POST", "/device/off/force-refresh", None, 503, "DISABLED"),
        ("POST", "/device/off/command", {"x": 1}, 503, "DISABLED"),
        # the handler's error passes through
        ("GET", "/device/offline", None, 503, "TRANSPORT_DOWN"),
        ("GET", "/device/nowhere", None, 502, "DEVICE_REFUSED"),
        ("GET", "/device/web_down", None, 503, "SENSOR_UNAVAILABLE"),
        ("POST", "/device/web_down/force-refresh", None, 503, "SENSOR_UNAVAILABLE"),
        ("POST", "/device/nowhere/command", {"value": 5}, 502, "DEVICE_REFUSED"),
        ("POST", "/device/boiler/command", {"setpoint": 99}, 400, "VALUE_OUT_OF_RANGE"),
        ("POST", "/device/boiler/command", {"nonsense": 99}, 400, "INVALID_COMMAND"),
        ("POST", "/device/boiler/command", {"setpoint": 50, "timeout": -1}, 400, "INVALID_COMMAND"),
        ("POST", "/device/boiler/command", {"flow": 1}, 403, "READ_ONLY"),
        ("POST", "/device/temp/command", {"value": 1}, 403, "READ_ONLY"),
        ("POST", "/device/boiler/command", {}, 400, "INVALID_COMMAND"),
        ("POST", "/device/boiler/command", [], 400, "INVALID_COMMAND"),
        ("POST", "/device/boiler/command", {"setpoint": 50, "timestamp": 1}, 400, "STALE_COMMAND"),
        ("POST", "/device/nobody/command", {"x": 1, "timestamp": 1}, 404, "UNKNOWN_DEVICE"),
        ("POST", "/device/off/command", {"x": 1, "timestamp": 1}, 503, "DISABLED"),
        ("POST", "/device/temp/command", {"value": 1, "timestamp": 1}, 400, "STALE_COMMAND"),
    ],
)
def test_errors_and_their_codes(
    site: Site, method: str, path: str, body: Any, status: int, code: str
) -> None:
    response = site.api.ask(method, path, json=body)
    answer = response.json()
    assert (response.status_code, answer["error"]) == (status, code)
    assert answer["device_id"] == path.split("/")[2]
    assert "sensor_id" not in answer
    assert answer["message"]
    assert is_now(answer["timestamp"])


def test_facts_beside_a_handlers_error_pass_through_too(site: Site) -> None:
    answer = site.api.ask("GET", "/device/web_down").json()
    assert (answer["status"], answer["last_success"]) == ("offline", None)


def test_a_timeout_of_a_command_passes_through(site: Site) -> None:
    site.plc.asleep.add(1)
    try:
        body = {"setpoint": 50, "timeout": 200}
        assert site.api.error("POST", "/device/boiler/command", json=body) == (504, "COMMAND_TIMEOUT")
    finally:
        site.plc.asleep.discard(1)
    assert site.api.post("/device/boiler/force-refresh")["quality"] == "good"


def test_reading_what_is_not_configured_creates_nothing(site: Site) -> None:
    for path in ("/device/temp_new", "/device/motion_new"):
        assert site.api.error("GET", path) == (404, "UNKNOWN_DEVICE")
    assert site.api.get("/devices")["count"] == 7
    assert site.api.get("/cache/stats")["total_entries"] == 0
    assert "temp_new" not in site.api.readings("device_id")


def test_100_requests_at_the_same_time_for_an_expired_device_are_one_call(
    devices: tuple[Plc, Endpoints], tmp_path: Path
) -> None:
    server, web = devices
    instance = Instance(tmp_path, content(server.url, web.url, cache_ttl=1))
    with in_process(instance, "serial-handler"), in_process(instance, "state-aggregator") as api:
        # all that is read at the start
        on_the_line = ("temp", "boiler", "nowhere")
        eventually(
            lambda: all(api.readings("device_id")[each]["status"] != "unknown" for each in on_the_line), 60
        )
        api.get("/device/temp")
        eventually(lambda: [e["valid"] for e in api.get("/cache/stats")["entries"]] == [False])
        asked = server.asked[1, READ_INPUT]
        server.asleep.add(1)  # all of them come while the one call is under way
        misses = api.get("/cache/stats")["misses"]
        try:
            answers = at_the_same_time_while(api, server, misses)
        finally:
            server.asleep.discard(1)
        assert server.asked[1, READ_INPUT] == asked + 1
        assert len({answer["timestamp"] for answer in answers}) == 1


def at_the_same_time_while(api: Api, server: Plc, misses: int) -> list[dict[str, Any]]:
    """100 requests; the device answers when all of them have been counted."""

    def ask(number: int) -> dict[str, Any]:
        if number < 100:
            return api.get("/device/temp")
        eventually(lambda: api.get("/cache/stats")["misses"] == misses + 100, 15)
        server.asleep.discard(1)
        return {}

    return at_the_same_time(101, ask)[:100]


def test_100_requests_at_the_same_time_for_a_quick_device_are_one_call(site: Site) -> None:
    for _ in range(5):
        site.api.post("/cache/clear")
        asked = site.plc.asked[1, READ_INPUT]
        answers = at_the_same_time(100, lambda _: site.api.get("/device/temp"))
        assert site.plc.asked[1, READ_INPUT] == asked + 1
        assert len({answer["timestamp"] for answer in answers}) == 1


# -- handlers that are missing or strange --------------------------------------------------------------------------


def test_without_any_handler_it_is_unavailable_and_says_so(
    devices: tuple[Plc, Endpoints], tmp_path: Path
) -> None:
    instance = Instance(tmp_path, content(devices[0].url, devices[1].url))
    with in_process(instance, "state-aggregator") as api:
        response = api.ask("GET", "/health")
        assert (response.status_code, response.json()["status"]) == (503, "unavailable")
        states = {name: each["status"] for name, each in response.json()["dependencies"].items()}
        assert states == {"serial_handler": "unreachable", "http_poller": "unreachable"}
        assert api.error("GET", "/device/temp") == (503, "HANDLER_ERROR")
        assert api.error("POST", "/device/temp/force-refresh") == (503, "HANDLER_ERROR")
        assert api.error("POST", "/device/boiler/command", json={"setpoint": 50}) == (503, "HANDLER_ERROR")
        assert api.get("/devices")["count"] == 7
        assert api.readings("device_id")["temp"]["status"] in ("unknown", "offline")
        eventually(lambda: api.readings("device_id")["temp"]["error"] == "HANDLER_ERROR", 30)
        eventually(lambda: api.get("/errors")["count"] == 6, 30)


def test_a_handler_that_goes_and_comes_back(devices: tuple[Plc, Endpoints], tmp_path: Path) -> None:
    more = {"cache_ttl": 0}
    instance = Instance(tmp_path, content(devices[0].url, devices[1].url, **more))
    with ExitStack() as stack:
        stack.enter_context(in_process(instance, "http-poller"))
        api = stack.enter_context(in_process(instance, "state-aggregator"))
        with in_process(instance, "serial-handler"):
            eventually(lambda: is_healthy(api), 30)
            for device_id in ("temp", "temp_like_http"):
                eventually(lambda each=device_id: api.readings("device_id")[each]["status"] == "online", 30)  # type: ignore[misc]
        eventually(lambda: api.get("/health")["status"] == "degraded", 30)
        response = api.ask("GET", "/device/temp")
        assert (response.status_code, response.json()["error"]) == (503, "HANDLER_ERROR")
        eventually(lambda: api.readings("device_id")["temp"].get("error") == "HANDLER_ERROR", 30)
        entry = api.readings("device_id")["temp"]
        assert entry["status"] in ("degraded", "offline")
        assert api.get("/errors")["errors"]["temp"]["error"] == "HANDLER_ERROR"
        assert api.get("/device/temp_like_http")["motion_detected"] is True
        with in_process(instance, "serial-handler"):
            eventually(lambda: api.readings("device_id")["temp"]["status"] == "online", 30)
            assert "temp" not in api.get("/errors")["errors"]
            eventually(lambda: api.get("/health")["status"] == "healthy", 30)
            assert api.get("/device/temp")["quality"] == "good"


def test_a_service_of_another_instance_on_the_port_is_refused(
    devices: tuple[Plc, Endpoints], tmp_path: Path
) -> None:
    server, web = devices
    other = Instance(tmp_path, content(server.url, web.url))
    with in_process(other, "serial-handler"), in_process(other, "http-poller") as poller:
        eventually(lambda: poller.readings()["temp_like_http"]["status"] == "online", 30)
        instance = Instance(
            tmp_path,
            content(server.url, web.url),
            SERIAL_HANDLER_URL=other.hub.services["serial-handler"].url,
            HTTP_POLLER_URL=web.url,  # something that is no service of ours at all
        )
        with in_process(instance, "state-aggregator") as api:
            answer = api.ask("GET", "/device/temp").json()
            assert answer["error"] == "HANDLER_ERROR"
            assert f"belongs to {other.instance_id}" in answer["message"]
            assert api.error("GET", "/device/temp_like_http") == (503, "HANDLER_ERROR")
            before = server.asked[1, WRITE_HOLDING]
            body = {"setpoint": 50}
            assert api.error("POST", "/device/boiler/command", json=body) == (503, "HANDLER_ERROR")
            assert api.ask("GET", "/health").json()["status"] == "unavailable"
            eventually(lambda: api.readings("device_id")["temp"]["error"] == "HANDLER_ERROR", 30)
            assert "value" not in api.readings("device_id")["temp"]
            assert server.asked[1, WRITE_HOLDING] == before
