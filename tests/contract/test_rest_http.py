"""http-poller's REST API, row by row, against a real web server whose endpoints are good and bad."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.services import (
    NOBODY,
    Api,
    Endpoints,
    Instance,
    Reply,
    emulator,
    endpoints,
    in_process,
)
from tests.support import eventually

POLL_S = 0.3
LIGHT = {"pir": {"active": 1}, "battery": 87, "rssi": -60}
PIR = {"motion_detected": "pir.active", "battery_level": "battery", "signal_strength": "rssi"}


class Site:
    """Endpoints and the poller that asks them."""

    web: Endpoints
    api: Api


def sensor(sensor_id: str, url: str, sensor_type: str = "generic", **more: Any) -> dict[str, Any]:
    return {"sensor_id": sensor_id, "sensor_type": sensor_type, "url": url, "timeout_s": 5, **more}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp_path, site = tmp_path_factory.mktemp("http"), Site()
    with ExitStack() as stack:
        web = site.web = stack.enter_context(endpoints())
        other = stack.enter_context(endpoints())
        other.replies["/value"] = Reply({"value": 1})
        web.replies = {
            "/pir": Reply(LIGHT),
            "/plain": Reply({"motion_detected": False}),
            "/value": Reply({"value": 21.456}),
            "/flaky": Reply({"value": 1}),
            "/hang": Reply(hangs=True),
            "/500": Reply({"value": 1}, 500),
            "/huge": Reply(b'{"value": "' + b"x" * 2**20 + b'"}'),
            "/html": Reply(b"<html>hello</html>"),
            "/list": Reply([1, 2]),
            "/moved": Reply(status=302, headers={"Location": "/value"}),
            "/away": Reply(status=302, headers={"Location": other.url + "/value"}),
            "/loop": Reply(status=302, headers={"Location": "/loop"}),
            "/led": Reply({}),
            "/broken": Reply({}, 409),
        }
        url = web.url
        led = {"method": "POST", "url": f"{url}/led", "body": {"on": "{value}"}}
        level = {"method": "PUT", "url": f"{url}/led", "body": {"level": "{value}"}, "kind": "number"}
        site_commands = {
            "led": led,
            "level": {**level, "min": 0, "max": 100, "step": 5},
            "broken": {**led, "url": f"{url}/broken"},
            "hang": {**led, "url": f"{url}/hang"},
        }
        instance = Instance(
            tmp_path,
            {
                "poll_interval": POLL_S,
                "sensors": [
                    sensor(
                        "yard",
                        f"{url}/pir",
                        "motion",
                        fields=PIR,
                        commands=site_commands,
                        headers={"X-Key": "k"},
                        stale_after=600,
                        timeout_s=2,
                    ),
                    sensor("plain", f"{url}/plain", "motion", stale_after=600),
                    sensor("number", f"{url}/value", "temperature", stale_after=600),
                    sensor("flaky", f"{url}/flaky", stale_after=600),
                    sensor("hang", f"{url}/hang", timeout_s=0.4),
                    sensor("http500", f"{url}/500"),
                    sensor("huge", f"{url}/huge"),
                    sensor("html", f"{url}/html"),
                    sensor("list", f"{url}/list"),
                    sensor("moved", f"{url}/moved", stale_after=600),
                    sensor("away", f"{url}/away"),
                    sensor("loop", f"{url}/loop"),
                    sensor("refused", f"http://127.0.0.1:{NOBODY}/"),
                    sensor("off", f"{url}/value", enabled=False),
                    {"sensor_id": "door", "sensor_type": "motion"},
                    {"sensor_id": "serial", "sensor_type": "temperature"},
                ],
            },
        )
        stack.enter_context(emulator(instance.hub, tmp_path))
        site.api = stack.enter_context(in_process(instance, "http-poller"))
        eventually(lambda: all(e["status"] != "unknown" for e in site.api.readings().values()), 60)
        assert other.asked["/value"] == 0
        yield site
        assert other.asked["/value"] == 0  # nobody followed a redirect to another host


def is_now(text: str) -> bool:
    return abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(seconds=60)


GOOD = {"yard", "plain", "number", "flaky", "moved", "door"}
BAD = {"hang", "http500", "huge", "html", "list", "away", "loop", "refused"}


def well(site: Site, sensor_id: str) -> dict[str, Any]:
    """The reading of a sensor when its quality is good: a busy machine may leave it unpolled for a moment."""

    def good() -> dict[str, Any]:
        reading: dict[str, Any] = site.api.ask("GET", f"/sensor/{sensor_id}").json()
        return reading if reading.get("quality") == "good" else {}

    return eventually(good)


def test_health_counts_sensors_and_names_the_poll_interval(site: Site) -> None:
    def all_good_ones_are_online() -> dict[str, Any]:
        found = site.api.get("/health")
        return found if found["sensors_online"] == len(GOOD) else {}

    health = eventually(all_good_ones_are_online, 60)
    assert is_now(health.pop("timestamp"))
    assert health.pop("instance_id").startswith("t")
    assert health.pop("errors_count") >= len(BAD)
    journal = health.pop("journal")
    assert journal["bytes"] > journal["entries"] >= len(GOOD) + len(BAD)
    assert health == {
        "service": "http-poller",
        "status": "degraded",
        "sensors_tracked": 14,
        "sensors_total": 15,
        "sensors_online": 6,
        "poll_interval": POLL_S,
    }


def test_sensors_lists_all_of_its_kind(site: Site) -> None:
    answer = site.api.get("/sensors")
    listed = {each["sensor_id"]: each["status"] for each in answer["sensors"]}
    assert answer["count"] == len(listed) == 15
    assert listed.keys() == GOOD | BAD | {"off"}
    assert listed["off"] == "disabled"
    assert {listed[each] for each in BAD} == {"offline"}


def test_a_sensor_answers_its_last_poll_with_its_fields_by_our_names(site: Site) -> None:
    reading = well(site, "yard")
    assert is_now(reading.pop("timestamp"))
    assert reading == {
        "sensor_id": "yard",
        "type": "motion",
        "motion_detected": True,
        "battery_level": 87,
        "signal_strength": -60,
        "quality": "good",
    }
    assert site.web.headers["/pir"]["X-Key"] == "k"


@pytest.mark.parametrize(
    ("sensor_id", "facts"),
    [
        ("plain", {"motion_detected": False}),
        ("number", {"value": 21.46, "unit": "°C"}),
        ("moved", {"value": 21.456, "unit": None}),
    ],
)
def test_readings_of_other_shapes(site: Site, sensor_id: str, facts: dict[str, Any]) -> None:
    reading = well(site, sensor_id)
    assert {key: reading.get(key) for key in facts} == facts


def test_an_emulated_motion_detector_is_a_real_endpoint_that_says_so(site: Site) -> None:
    reading = well(site, "door")
    assert reading["emulated"] is True
    assert isinstance(reading["motion_detected"], bool)
    assert 0 <= reading["battery_level"] <= 100
    assert -120 <= reading["signal_strength"] <= 0


def test_asking_for_a_sensor_does_not_poll_it(site: Site) -> None:
    before = site.web.asked["/pir"]
    for _ in range(30):
        site.api.get("/sensor/yard")
    assert site.web.asked["/pir"] - before < 30


def test_it_is_polled_again_and_again_without_being_asked_for(site: Site) -> None:
    first = site.api.get("/sensor/yard")["timestamp"]
    later = eventually(lambda: [t for t in [site.api.get("/sensor/yard")["timestamp"]] if t != first])
    assert datetime.fromisoformat(later[0]) > datetime.fromisoformat(first)


@pytest.mark.parametrize(
    ("sensor_id", "code", "words"),
    [
        ("hang", "READ_TIMEOUT", "0.4 s"),
        ("http500", "READ_FAILED", "HTTP 500"),
        ("huge", "READ_FAILED", "larger than 1048576 bytes"),
        ("html", "READ_FAILED", "not JSON"),
        ("list", "READ_FAILED", "missing"),
        ("away", "READ_FAILED", "another host"),
        ("loop", "READ_FAILED", "redirects"),
        ("refused", "READ_FAILED", "refused"),
    ],
)
def test_an_endpoint_that_is_bad_is_unavailable_and_says_why(
    site: Site, sensor_id: str, code: str, words: str
) -> None:
    response = site.api.ask("GET", f"/sensor/{sensor_id}")
    answer = response.json()
    assert (response.status_code, answer["error"]) == (503, "SENSOR_UNAVAILABLE")
    assert (answer["status"], answer["last_success"], answer["sensor_id"]) == ("offline", None, sensor_id)
    assert words in answer["message"]
    found = site.api.get("/errors")["errors"][sensor_id]
    assert found["error"] == code
    entry = site.api.readings()[sensor_id]
    assert (entry["status"], entry["error"]) == ("offline", code)
    assert "value" not in entry


def health_of(site: Site, sensor_id: str) -> dict[str, Any]:
    return site.api.get(f"/sensor/{sensor_id}/health")


def test_health_of_a_good_sensor(site: Site) -> None:
    eventually(lambda: health_of(site, "yard")["consecutive_failures"] == 0)
    health = health_of(site, "yard")
    assert health.keys() == {
        "sensor_id", "status", "consecutive_failures", "consecutive_successes", "total_polls", "total_failures",
        "last_success", "last_failure",
    }  # fmt: skip
    assert (health["sensor_id"], health["status"], health["consecutive_failures"]) == ("yard", "online", 0)
    good = health["total_polls"] - health["total_failures"]
    assert 1 <= health["consecutive_successes"] <= good
    assert health["consecutive_successes"] == good or health["total_failures"] > 0  # on a busy machine
    assert is_now(health["last_success"])


def test_health_of_a_bad_sensor(site: Site) -> None:
    eventually(lambda: health_of(site, "http500")["consecutive_failures"] >= 3, 30)
    health = health_of(site, "http500")
    assert (health["status"], health["consecutive_successes"], health["last_success"]) == ("offline", 0, None)
    assert health["total_polls"] == health["total_failures"] == health["consecutive_failures"]
    assert is_now(health["last_failure"])


def test_a_sensor_is_degraded_then_offline_with_the_third_failure_in_a_row_and_online_again(
    site: Site,
) -> None:
    eventually(lambda: site.api.readings()["flaky"]["status"] == "online")
    seen: dict[int, str] = {}
    stop = threading.Event()

    def watch() -> None:
        cursor = site.api.get("/readings")["cursor"]
        while not stop.is_set():
            feed = site.api.get(f"/readings?since={cursor}&wait=1")
            cursor = feed["cursor"]
            if any(entry["sensor_id"] == "flaky" for entry in feed["readings"]):
                health = health_of(site, "flaky")
                seen.setdefault(health["consecutive_failures"], health["status"])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    good = site.api.get("/sensor/flaky")
    site.web.replies["/flaky"] = Reply({}, 503)
    try:
        eventually(lambda: site.api.readings()["flaky"]["status"] == "offline", 30)
        entry = site.api.readings()["flaky"]
        answer = site.api.ask("GET", "/sensor/flaky").json()
        eventually(lambda: max(seen, default=0) >= 3, 30)
    finally:
        site.web.replies["/flaky"] = Reply({"value": 2})
        stop.set()
        watcher.join(30)
    assert {failures: status for failures, status in seen.items() if failures in (1, 2)}.items() <= {
        1: "degraded",
        2: "degraded",
    }.items()
    assert {status for failures, status in seen.items() if failures >= 3} == {"offline"}
    assert (entry["error"], "value" in entry) == ("READ_FAILED", False)
    assert (answer["error"], answer["status"]) == ("SENSOR_UNAVAILABLE", "offline")
    assert datetime.fromisoformat(answer["last_success"]) >= datetime.fromisoformat(good["timestamp"])
    eventually(lambda: site.api.readings()["flaky"].get("value") == 2)
    assert "flaky" not in site.api.get("/errors")["errors"]


def test_a_command_is_the_configured_request(site: Site) -> None:
    site.web.got.clear()
    answer = site.api.post("/sensor/yard/command", {"id": 1, "values": {"led": True}, "timeout": 20_000})
    applied = {"outcome": "applied", "outcomes": {"led": "applied"}}
    assert answer == {"id": 1, "status": "success", "values": {"led": True}, **applied}
    answer = site.api.post("/sensor/yard/command", {"level": 45, "timeout": 20_000})
    applied = {"outcome": "applied", "outcomes": {"level": "applied"}}
    assert answer == {"id": None, "status": "success", "values": {"level": 45}, **applied}
    assert site.web.got == [("POST", "/led", {"on": True}), ("PUT", "/led", {"level": 45})]


@pytest.mark.parametrize(
    ("sensor_id", "body", "status", "code"),
    [
        ("yard", {"broken": True}, 502, "DEVICE_REFUSED"),
        ("yard", {"hang": True}, 504, "COMMAND_TIMEOUT"),
        ("yard", {"hang": True, "timeout": 100}, 504, "COMMAND_TIMEOUT"),
        ("yard", {"level": 101}, 400, "VALUE_OUT_OF_RANGE"),
        ("yard", {"level": 42}, 400, "VALUE_OUT_OF_RANGE"),
        ("yard", {"level": "45"}, 400, "INVALID_COMMAND"),
        ("yard", {"siren": True}, 400, "INVALID_COMMAND"),
        ("yard", {"motion_detected": True}, 403, "READ_ONLY"),
        ("plain", {"led": True}, 403, "READ_ONLY"),
        ("off", {"led": True}, 503, "DISABLED"),
        ("nobody", {"led": True}, 404, "UNKNOWN_SENSOR"),
        ("serial", {"led": True}, 404, "UNKNOWN_SENSOR"),
        ("yard", {"led": True, "timestamp": "2020-01-01"}, 400, "STALE_COMMAND"),
    ],
)
def test_a_command_that_fails_says_why(site: Site, sensor_id: str, body: Any, status: int, code: str) -> None:
    assert site.api.error("POST", f"/sensor/{sensor_id}/command", json=body) == (status, code)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/sensor/nobody", 404, "UNKNOWN_SENSOR"),
        ("/sensor/serial", 404, "UNKNOWN_SENSOR"),
        ("/sensor/nobody/health", 404, "UNKNOWN_SENSOR"),
        ("/sensor/off", 503, "DISABLED"),
        ("/sensor/off/health", 503, "DISABLED"),
        ("/sensor/http500/cached", 404, "NO_CACHE"),
    ],
)
def test_what_cannot_be_read_says_why(site: Site, path: str, status: int, code: str) -> None:
    assert site.api.error("GET", path) == (status, code)


def test_a_slow_endpoint_delays_no_other(site: Site) -> None:
    before = {path: site.web.asked[path] for path in ("/plain", "/value")}
    hung = site.web.asked["/hang"]
    eventually(lambda: site.web.asked["/hang"] >= hung + 3, 30)
    assert all(site.web.asked[path] >= count + 2 for path, count in before.items())
