"""The services as they run in production: bad requests, many clients, a killed and a frozen handler."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.services import (
    HOST,
    Api,
    Gunicorn,
    Instance,
    Plc,
    Reply,
    at_the_same_time,
    endpoints,
    in_process,
    plc,
    under_gunicorn,
)
from tests.support import eventually

MIB = 1024 * 1024
SERVICES = ("serial-handler", "http-poller", "state-aggregator")
DEVICES = {
    "serial-handler": "/sensor/boiler",
    "http-poller": "/sensor/pir",
    "state-aggregator": "/device/boiler",
}


class Site:
    """An instance whose services all run under gunicorn; its PLC's unit 2 never answers."""

    plc: Plc
    instance: Instance
    running: dict[str, Gunicorn]

    def api(self, service: str) -> Api:
        return self.running[service].api

    def kill(self) -> None:
        for running in self.running.values():
            running.kill()


def content(plc_url: str, web_url: str, **line: Any) -> dict[str, Any]:
    setpoint = {"table": "holding", "address": 10, "scale": 0.1, "write": True}
    boiler = {"sensor_type": "generic", "properties": {"setpoint": setpoint}}
    return {
        "cache_ttl": 0,
        "transports": [
            {"transport_id": name, "driver": "modbus_tcp", "url": plc_url, "write": True, "read_interval": 0.5,
             "timeout_s": timeout_s, **line}
            for name, timeout_s in (("plc", 5), ("lazy", 100))
        ],
        "sensors": [
            {"sensor_id": "boiler", "transport": "plc", "unit_id": 1, "stale_after": 3, **boiler},
            {"sensor_id": "hangs", "transport": "lazy", "unit_id": 2, **boiler},
            {"sensor_id": "pir", "sensor_type": "motion", "url": web_url + "/pir", "timeout_s": 5},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site()
    with ExitStack() as stack:
        site.plc = stack.enter_context(plc(units=(1, 2)))
        site.plc.holding[1] = {10: 545}
        site.plc.asleep.add(2)
        web = stack.enter_context(endpoints())
        web.replies["/pir"] = Reply({"motion_detected": False})
        site.instance = Instance(tmp_path_factory.mktemp("gunicorn"), content(site.plc.url, web.url))
        site.running = {}
        stack.callback(site.kill)
        for service in SERVICES:
            site.running[service] = Gunicorn(site.instance, service)
        aggregator = site.api("state-aggregator")
        eventually(lambda: aggregator.readings("device_id")["boiler"]["status"] == "online", 60)
        yield site


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- bodies --------------------------------------------------------------------------------------------------------


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536):
        yield b"x" * 65_536
    yield b"x" * (size % 65_536)


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_body_over_1_mib_is_refused_on_every_path(
    site: Site, service: str, method: str, chunked: bool
) -> None:
    api, headers = site.api(service), {"Content-Type": "application/json"}
    for path in ("/health", "/readings", DEVICES[service] + "/command", "/nowhere"):
        data: Any = chunks(MIB + 1) if chunked else b"x" * (MIB + 1)
        assert api.error(method, path, data=data, headers=headers) == (413, "PAYLOAD_TOO_LARGE"), path


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_of_1_mib_is_read_and_then_too_large_for_a_command(
    site: Site, service: str, chunked: bool
) -> None:
    data: Any = chunks(MIB) if chunked else b"x" * MIB
    headers = {"Content-Type": "application/json"}
    found = site.api(service).error("POST", DEVICES[service] + "/command", data=data, headers=headers)
    assert found == (400, "INVALID_COMMAND")


def test_a_command_in_chunks_is_a_command(site: Site) -> None:
    body = json.dumps({"id": "chunked", "values": {"setpoint": 42}}).encode()
    answer = site.api("serial-handler").ask(
        "POST",
        "/sensor/boiler/command",
        data=iter([body[:9], body[9:]]),
        headers={"Content-Type": "application/json"},
    )
    done = {"values": {"setpoint": 42.0}, "outcome": "verified", "outcomes": {"setpoint": "verified"}}
    assert answer.json() == {"id": "chunked", "status": "success", **done}
    assert site.plc.holding[1][10] == 420


def test_a_body_that_is_announced_but_too_large_is_refused_before_it_is_sent(
    site: Site, service: str
) -> None:
    port = site.instance.hub.services[service].port
    with socket.create_connection((HOST, port), timeout=20) as connection:
        connection.sendall(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        assert b" 413 " in connection.recv(65_536).split(b"\r\n")[0]


def test_a_service_lives_on_after_all_that(site: Site, service: str) -> None:
    assert site.api(service).health_took_s() < 2


# -- paths, methods, media types -----------------------------------------------------------------------------------

GARBAGE = [
    "/nowhere",
    "/health//",
    "/sensor",
    "/sensor//",
    "/sensor//boiler",
    "/device//boiler",
    "/cache//stats",
    "/device/",
    "/sensor/a/b/c",
    "/sensor/a%2Fb/c/d",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/.env",
    "/static/x",
    "/ä/ö",
    "/%C3%A4",
    "/%FF%FE",
    "/%00",
    "/%",
    "/%zz",
    "/a%0d%0aSet-Cookie:%20x=1",
    "/health%00",
    "/HEALTH",
    "/<script>alert(1)</script>",
    "/{{7*7}}",
    "/" + "x" * 3500,
]  # fmt: skip


@pytest.mark.parametrize("path", GARBAGE)
def test_a_path_that_is_none_is_not_found_in_json(site: Site, service: str, path: str) -> None:
    response = site.api(service).ask("GET", path)
    assert (response.status_code, response.json()["error"]) == (404, "NOT_FOUND")
    assert response.headers["Content-Type"].startswith("application/json")
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "device_id", ["%FF", "%00", "ä", "%F0%9F%98%80", "a%0ab", "x" * 3000, "..%2e", "%20", "'--"]
)
def test_a_device_of_any_name_is_unknown(site: Site, service: str, device_id: str) -> None:
    path, code = (
        ("device", "UNKNOWN_DEVICE") if service == "state-aggregator" else ("sensor", "UNKNOWN_SENSOR")
    )
    api = site.api(service)
    assert api.error("GET", f"/{path}/{device_id}") == (404, code)
    assert api.error("POST", f"/{path}/{device_id}/command", json={"x": 1}) == (404, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET"),
        ("DELETE", "/readings", "GET"),
        ("PUT", "/errors", "GET"),
        ("PATCH", "{device}", "GET"),
        ("GET", "{device}/command", "POST"),
        ("DELETE", "{device}/command", "POST"),
        ("BREW", "/health", "GET"),
    ],
)
def test_a_method_that_is_not_for_a_path_says_which_are(
    site: Site, service: str, method: str, path: str, allowed: str
) -> None:
    response = site.api(service).ask(method, path.format(device=DEVICES[service]))
    assert (response.status_code, response.json()["error"]) == (405, "METHOD_NOT_ALLOWED")
    assert allowed in response.headers["Allow"]


@pytest.mark.parametrize(
    "media_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"],
)
def test_a_command_that_does_not_call_itself_json_is_refused(
    site: Site, service: str, media_type: str | None
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    found = site.api(service).error("POST", DEVICES[service] + "/command", data=b'{"x": 1}', headers=headers)
    assert found == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_may_call_itself_so_in_several_ways(site: Site, media_type: str) -> None:
    data = json.dumps({"setpoint": 43, "note": None}).encode()
    headers = {"Content-Type": media_type}
    found = site.api("serial-handler").error("POST", "/sensor/boiler/command", data=data, headers=headers)
    assert found == (400, "INVALID_COMMAND")  # `note` is no property: so it was read


@pytest.mark.parametrize(
    "request_head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_without_an_html_page(
    site: Site, service: str, request_head: bytes
) -> None:
    port = site.instance.hub.services[service].port
    with socket.create_connection((HOST, port), timeout=20) as connection:
        connection.sendall(request_head)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1][:1] == b"4"
    assert b"application/json" in head
    assert json.loads(body).keys() == {"error", "message", "timestamp"}
    assert site.api(service).answers()


def test_every_answer_names_the_instance_and_a_request_for_another_one_is_refused(
    site: Site, service: str
) -> None:
    api, mine = site.api(service), site.instance.instance_id
    header = "X-Sensor-Hub-Instance"
    for path in ("/health", "/nowhere"):
        assert api.ask("GET", path).headers[header] == mine
        assert api.ask("GET", path, headers={header: mine}).headers[header] == mine
    found = api.error("POST", DEVICES[service] + "/command", json={"setpoint": 70}, headers={header: "other"})
    assert found == (503, "HANDLER_ERROR")
    assert site.plc.holding[1][10] != 700


# -- many clients, lines that hang ---------------------------------------------------------------------------------


def test_health_answers_within_2_s_while_a_line_hangs_and_60_clients_wait_for_readings(
    site: Site, service: str
) -> None:
    api = site.api(service)
    stop = threading.Event()

    def follow(_: int) -> int:
        answered, cursor = 0, ""
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.get(f"{api.url}/readings?since={cursor}&wait=2", timeout=60)
                assert answer.status_code == 200
                cursor, answered = answer.json()["cursor"], answered + 1
        return answered

    with ThreadPoolExecutor(66) as pool:
        if service != "http-poller":
            hanging = DEVICES[service].replace("boiler", "hangs")
            for _ in range(5):
                pool.submit(api.ask, "GET", hanging, timeout=4)
        followers = [pool.submit(follow, number) for number in range(60)]
        try:
            assert api.health_took_s(10) < 2
            assert not any(follower.done() for follower in followers)
        finally:
            stop.set()
        assert min(follower.result(60) for follower in followers) >= 1


def test_many_requests_at_the_same_time_are_all_answered(site: Site) -> None:
    api = site.api("state-aggregator")
    answers = at_the_same_time(60, lambda _: api.ask("GET", "/device/boiler").json())
    assert {answer["device_id"] for answer in answers} == {"boiler"}
    assert {answer.get("quality") for answer in answers} == {"good"}


# -- killed, frozen, stopped ---------------------------------------------------------------------------------------


def test_a_handler_that_is_killed_and_comes_back(site: Site) -> None:
    aggregator = site.api("state-aggregator")
    site.running["serial-handler"].kill()
    eventually(lambda: aggregator.get("/health")["status"] == "degraded", 30)
    assert aggregator.error("GET", "/device/boiler") == (503, "HANDLER_ERROR")
    eventually(lambda: aggregator.readings("device_id")["boiler"].get("error") == "HANDLER_ERROR", 30)
    assert aggregator.get("/device/pir")["motion_detected"] is False
    site.running["serial-handler"] = Gunicorn(site.instance, "serial-handler")
    eventually(lambda: aggregator.readings("device_id")["boiler"]["status"] == "online", 60)
    assert "boiler" not in aggregator.get("/errors")["errors"]
    assert aggregator.get("/device/boiler")["quality"] == "good"


def test_the_values_of_a_frozen_handler_go_offline_when_they_are_stale(tmp_path: Path) -> None:
    with plc(units=(1, 2)) as server, ExitStack() as stack:
        server.holding[1] = {10: 545}
        instance = Instance(tmp_path, content(server.url, "http://127.0.0.1:9"))
        handler = stack.enter_context(under_gunicorn(instance, "serial-handler"))
        aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        eventually(lambda: aggregator.readings("device_id")["boiler"]["status"] == "online", 60)
        os.killpg(handler.process.pid, signal.SIGSTOP)
        try:
            gone = {"status": "offline", "error": "HANDLER_ERROR"}
            eventually(lambda: gone.items() <= aggregator.readings("device_id")["boiler"].items(), 60)
        finally:
            os.killpg(handler.process.pid, signal.SIGCONT)
        eventually(lambda: aggregator.readings("device_id")["boiler"]["status"] == "online", 30)


def test_on_sigterm_followers_are_answered_and_a_line_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with plc(units=(1, 2)) as server:
        server.asleep.update((1, 2))
        instance = Instance(tmp_path, content(server.url, "http://127.0.0.1:9", read_interval=86400))
        port = instance.hub.services["serial-handler"].port
        with ExitStack() as stack:
            handler = stack.enter_context(under_gunicorn(instance, "serial-handler"))
            follower = stack.enter_context(socket.create_connection((HOST, port), timeout=30))
            cursor = handler.api.get("/readings")["cursor"]
            eventually(lambda: sum(server.asked.values()) >= 2)
            request = f"GET /readings?since={cursor}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
            follower.sendall(request.encode())
            for _ in range(3):  # requests that came later have been answered: so that one waits
                handler.api.get("/health")
            assert handler.stop() == 0
            answer = b""
            while received := follower.recv(65_536):
                answer += received
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["readings"] == []
