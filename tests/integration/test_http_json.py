"""The HTTP driver against a real server on loopback: good answers, and every bad one."""

from __future__ import annotations

import gzip
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from sensor_hub.config.model import Handler, TransportConfig
from sensor_hub.drivers.http_json import HttpJson
from sensor_hub.errors import DeviceRefused, HubError, InvalidCommand, ReadFailed, ReadTimeout, TransportDown
from sensor_hub.readings import Json
from tests.support import eventually
from tests.wire.scripted_peers import sensor

Route = Callable[["Request"], None]
PIR = {"motion_detected": True, "battery_level": 87, "signal_strength": -61}


class Request(BaseHTTPRequestHandler):
    """One request; the server's routes answer it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        self.server.seen.append(self)
        self.server.routes[self.path.split("?")[0]](self)

    do_GET = do_POST = do_PUT = do_PATCH = _handle  # noqa: N815 - the base class's names

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, data: bytes) -> bool:
        """Raw bytes; False when the client has gone."""
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return False
        return True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, **routes: Route) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.routes: dict[str, Route] = {f"/{name}": route for name, route in routes.items()}
        self.seen: list[Request] = []
        self.stop = threading.Event()
        self._thread = threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True)
        self._thread.start()

    def url(self, path: str = "/pir", userinfo: str = "") -> str:
        return f"http://{userinfo}127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""

    def end(self) -> None:
        self.stop.set()
        self.shutdown()
        self.server_close()
        self._thread.join(5)


@contextmanager
def serving(**routes: Route) -> Iterator[Server]:
    server = Server(**routes)
    try:
        yield server
    finally:
        server.end()


def says(value: object, **headers: str) -> Route:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda request: request.reply(body, 200, **headers)


def status(code: int, **headers: str) -> Route:
    return lambda request: request.reply(b"", code, **headers)


def in_turn(*routes: Route) -> Route:
    waiting = list(routes)

    def route(request: Request) -> None:
        waiting.pop(0)(request)

    return route


@contextmanager
def driver_for(
    url: str, sensor_type: str = "motion", line_timeout_s: float = 10.0, **options: Any
) -> Iterator[HttpJson]:
    transport = TransportConfig(
        transport_id="yard",
        driver="http_json",
        url=url,
        handler=Handler.HTTP,
        path="config.sensors[0]",
        timeout_s=line_timeout_s,
        write=True,
    )
    driver = HttpJson(transport, [sensor("yard", sensor_type, **options)])
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


def read_once(route: Route, sensor_type: str = "motion", **options: Any) -> Any:
    with serving(pir=route) as server, driver_for(server.url(), sensor_type, **options) as driver:
        return driver.read("yard")


def failure(route: Route, error: type[HubError], sensor_type: str = "motion", **options: Any) -> str:
    with pytest.raises(error) as caught:
        read_once(route, sensor_type, **options)
    return str(caught.value)


# -- answers ----------------------------------------------------------------------------------------------


def test_a_motion_sensor_has_its_three_properties_by_default() -> None:
    assert read_once(says(PIR | {"uptime": 5})) == PIR


def test_battery_and_signal_may_be_missing() -> None:
    assert read_once(says({"motion_detected": False})) == {"motion_detected": False}


def test_another_type_has_a_value() -> None:
    assert read_once(says({"value": 21.5}), "temperature") == {"value": 21.5}


def test_fields_are_picked_by_their_paths() -> None:
    answer = {"pir": {"active": 1}, "list": [{"x": 5}, {"x": [1, {"y": None}]}]}
    fields = {"motion_detected": "pir.active", "first": "list.0.x", "all": "list.1.x"}
    assert read_once(says(answer), fields=fields) == {
        "motion_detected": True,
        "first": 5,
        "all": [1, {"y": None}],
    }


@pytest.mark.parametrize(
    ("said", "meant"),
    [(True, True), (1, True), ("on", True), ("TRUE", True), (False, False), (0, False), ("off", False)],
)
def test_motion_is_a_boolean_however_it_is_said(said: Json, meant: bool) -> None:
    assert read_once(says({"motion_detected": said})) == {"motion_detected": meant}


@pytest.mark.parametrize("said", [2, 1.0, None, "maybe", [], {}, ""])
def test_motion_that_is_no_boolean_is_a_failed_read(said: Json) -> None:
    assert failure(says({"motion_detected": said}), ReadFailed) == "motion_detected is not true or false"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the answer is not JSON"),
        (b"<html>", "the answer is not JSON"),
        (b"\xff\xfe\xfa", "the answer is not JSON"),
        (b'{"value": NaN}', "the answer is not JSON"),
        (b'{"value": -Infinity}', "the answer is not JSON"),
        (b'{"value": 1e999}', "value is no finite number"),
        (b'{"value": ' + b"9" * 400 + b"}", "value is no finite number"),
        (b'{"value": ' + b"9" * 5000 + b"}", "the answer is not JSON"),
        (b'{"value": "\\ud800"}', "value is no valid text"),
        (b'{"value": ' + b"[" * 100 + b"]" * 100 + b"}", "value is nested too deeply"),
        (b"[" * 200_000, "the answer is nested too deeply"),
        (b'{"other": 1}', "value is missing from the answer"),
        (b"[1]", "value is missing from the answer"),
        (b"5", "value is missing from the answer"),
    ],
)
def test_a_body_that_is_no_reading_is_a_failed_read(body: bytes, message: str) -> None:
    assert failure(says(body), ReadFailed, "generic") == message


@pytest.mark.parametrize("path", ["a.1", "a.-1", "a.x", "a.0.b", "b", "a.99999999999999999999"])
def test_a_missing_field_is_named(path: str) -> None:
    message = failure(says({"a": [1]}), ReadFailed, fields={"p": path})
    assert message == f"{path} is missing from the answer"


@pytest.mark.parametrize("code", [400, 401, 404, 500, 503])
def test_an_error_status_is_a_failed_read(code: int) -> None:
    assert failure(status(code), ReadFailed) == f"HTTP {code}"


# -- limits -----------------------------------------------------------------------------------------------


def test_a_body_of_1_mib_is_read_and_one_byte_more_is_not() -> None:
    start, end = b'{"value": "', b'"}'
    body = start + b"x" * ((1 << 20) - len(start) - len(end)) + end
    assert len(read_once(says(body), "generic")["value"]) > 1_000_000
    assert "larger than 1048576 bytes" in failure(says(body + b" "), ReadFailed, "generic")


def test_a_compressed_body_counts_what_it_unpacks_to() -> None:
    bomb = gzip.compress(b'{"value": "' + b"x" * 200_000_000)
    assert len(bomb) < 1 << 20
    assert "larger than" in failure(says(bomb, Content_Encoding="gzip"), ReadFailed, "generic")
    small = gzip.compress(b'{"value": 5}')
    assert read_once(says(small, Content_Encoding="gzip"), "generic") == {"value": 5}


def test_a_body_that_never_ends_is_cut_off() -> None:
    def endless(request: Request) -> None:
        request.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while request.say(b" " * 65536):
            pass

    assert "larger than" in failure(endless, ReadFailed)


def hang(request: Request) -> None:
    request.server.stop.wait(30)


def drip(first: bytes, then: bytes) -> Route:
    def route(request: Request) -> None:
        request.say(first)
        while not request.server.stop.wait(0.05) and request.say(then):
            pass
        request.close_connection = True

    return route


@pytest.mark.parametrize(
    "route",
    [
        hang,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", b" "),
        drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{", b" "),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        drip(b"HTTP/1.1 20", b"0"),
    ],
    ids=["silence", "length", "until close", "chunked", "headers", "status line"],
)
def test_the_whole_exchange_must_end_in_time(route: Route) -> None:
    with serving(pir=route) as server, driver_for(server.url(), line_timeout_s=0.4) as driver:
        started = time.monotonic()
        with pytest.raises(ReadTimeout, match=r"^no whole answer within 0\.4 s$"):
            driver.read("yard")
        assert time.monotonic() - started < 8  # the server would go on for longer


def test_the_body_of_a_redirect_is_not_waited_for() -> None:
    slow = drip(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 9999\r\n\r\n", b" ")
    with serving(pir=slow, b=says(PIR)) as server, driver_for(server.url(), line_timeout_s=4) as driver:
        assert driver.read("yard") == PIR


def test_the_sensors_own_timeout_wins() -> None:
    with (
        serving(pir=hang) as server,
        driver_for(server.url(), line_timeout_s=30, timeout_s=0.2) as driver,
        pytest.raises(ReadTimeout, match=r"within 0\.2 s"),
    ):
        driver.read("yard")


def test_after_a_timeout_the_next_read_is_good() -> None:
    with (
        serving(pir=in_turn(hang, says(PIR))) as server,
        driver_for(server.url(), line_timeout_s=1.0) as driver,
    ):
        with pytest.raises(ReadTimeout):
            driver.read("yard")
        assert driver.read("yard") == PIR


def test_closing_from_another_thread_ends_a_read_at_once() -> None:
    with serving(pir=hang) as server, driver_for(server.url(), line_timeout_s=30) as driver:

        def close() -> None:
            eventually(lambda: server.seen)
            driver.close()

        helper = threading.Thread(target=close)
        started = time.monotonic()
        helper.start()
        with pytest.raises(TransportDown):
            driver.read("yard")
        helper.join()
        assert time.monotonic() - started < 20  # the line's patience is 30 s
        driver.connect()
        server.routes["/pir"] = says(PIR)
        assert driver.read("yard") == PIR


def test_a_refused_connection_says_so() -> None:
    with serving() as server:
        url = server.url("/pir?key=hunter2", "user:hunter2@")
    with driver_for(url) as driver, pytest.raises(ReadFailed) as caught:
        driver.read("yard")
    assert str(caught.value) == "request failed: Connection refused"


@pytest.mark.parametrize("bye", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"])
def test_a_server_that_breaks_off_is_a_failed_read(bye: bytes) -> None:
    def break_off(request: Request) -> None:
        request.say(bye)
        request.close_connection = True

    assert "request failed: " in failure(break_off, ReadFailed)


def test_an_unknown_host_is_a_failed_read() -> None:
    with (
        driver_for(f"http://{'x' * 70}.invalid/pir?key=hunter2") as driver,
        pytest.raises(ReadFailed) as caught,
    ):
        driver.read("yard")
    assert "hunter2" not in str(caught.value)


# -- connections ------------------------------------------------------------------------------------------


def test_a_connection_is_kept_and_one_that_closed_meanwhile_is_replaced() -> None:
    with serving(pir=says(PIR)) as server, driver_for(server.url()) as driver:
        assert driver.read("yard") == driver.read("yard") == PIR
        assert len({request.client_address for request in server.seen}) == 1
        server.routes["/pir"] = says(PIR, Connection="close")
        assert driver.read("yard") == PIR
        assert driver.read("yard") == PIR
        assert len({request.client_address for request in server.seen}) == 2


def test_a_kept_connection_that_breaks_as_it_is_used_is_tried_anew() -> None:
    def break_off(request: Request) -> None:
        request.close_connection = True
        request.server.routes["/pir"] = says(PIR)

    with serving(pir=says(PIR)) as server, driver_for(server.url()) as driver:
        assert driver.read("yard") == PIR
        server.routes["/pir"] = break_off
        assert driver.read("yard") == PIR


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read_once(says(PIR)) == PIR


# -- redirects --------------------------------------------------------------------------------------------


def test_redirects_on_the_same_host_are_followed_with_headers() -> None:
    with serving(pir=status(302, Location="/b"), b=status(308, Location="c?x=1"), c=says(PIR)) as server:
        with driver_for(server.url(), headers={"X-Key": "k"}, auth={"bearer": "t"}) as driver:
            assert driver.read("yard") == PIR
        last = server.seen[-1]
        assert (last.path, last.headers["X-Key"], last.headers["Authorization"]) == (
            "/c?x=1",
            "k",
            "Bearer t",
        )


@pytest.mark.parametrize("location", ["{other}", "//127.0.0.1:1/x", "http://localhost/", "ftp://127.0.0.1/"])
def test_a_redirect_elsewhere_is_refused_and_nothing_is_sent_there(location: str) -> None:
    with serving(pir=says(PIR)) as other:
        target = location.replace("{other}", other.url())
        message = failure(status(302, Location=target), ReadFailed)
        assert message.startswith("redirect to")
        assert message.endswith("refused")
        assert other.seen == []


def test_five_redirects_are_followed_and_a_loop_is_not() -> None:
    hops = iter(range(1, 6))

    def hop(request: Request) -> None:
        number = next(hops, None)
        status(302, Location=f"/pir?{number}")(request) if number else says(PIR)(request)

    assert read_once(hop) == PIR
    assert failure(status(302, Location="/pir"), ReadFailed) == "more than 5 redirects"


# -- headers and secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("userinfo", "options", "header"),
    [
        (
            "",
            {"auth": {"username": "u", "password": "pä:ss"}},
            "Basic " + b64encode("u:pä:ss".encode()).decode(),
        ),
        ("", {"auth": {"bearer": "t0ken"}}, "Bearer t0ken"),
        ("me:s%40crt@", {}, "Basic " + b64encode(b"me:s@crt").decode()),
        ("me:no@", {"auth": {"bearer": "t0ken"}}, "Bearer t0ken"),
        ("me:no@", {"headers": {"authorization": "Own x"}}, "Own x"),
        ("", {}, None),
    ],
)
def test_credentials_are_sent(userinfo: str, options: dict[str, Any], header: str | None) -> None:
    with serving(pir=says(PIR)) as server, driver_for(server.url("/pir", userinfo), **options) as driver:
        assert driver.read("yard") == PIR
        assert server.seen[0].headers["Authorization"] == header


def test_secrets_are_in_no_message() -> None:
    answers = in_turn(status(401), status(302, Location="http://h2/?hunter2"), says(b"{"), hang)
    with serving(pir=answers) as server:
        url = server.url("/pir?key=hunter2", "user:hunter2@")
        with driver_for(url, timeout_s=0.3, headers={"X-Key": "hunter2"}) as driver:
            for _ in range(4):
                with pytest.raises(HubError) as caught:
                    driver.read("yard")
                assert "hunter2" not in str(caught.value)
            assert "hunter2" not in str(driver.unit_id("yard"))


# -- commands ---------------------------------------------------------------------------------------------


def command(value: Json, **how: Any) -> tuple[Any, Request]:
    with serving(pir=says(PIR), led=says({})) as server:
        options = {
            key: text.replace("{base}", server.url("")) if key == "url" else text for key, text in how.items()
        }
        with driver_for(server.url(), commands={"led": options}, headers={"X-Key": "k"}) as driver:
            return driver.write("yard", {"led": value}), server.seen[-1]


@pytest.mark.parametrize(
    ("value", "body", "sent"),
    [
        (True, {"on": "{value}"}, b'{"on": true}'),
        (21.5, {"a": ["{value}", "set {value}!"]}, b'{"a": [21.5, "set 21.5!"]}'),
        (False, "{value}", b"false"),
        ("x y", {"t": "<{value}>"}, b'{"t": "<x y>"}'),
        (True, {"t": "is {value}"}, b'{"t": "is true"}'),
        ({"r": 1}, "{value}", b'{"r": 1}'),
        (1, {"fixed": 5}, b'{"fixed": 5}'),
    ],
)
def test_a_commands_body_carries_the_value(value: Json, body: Json, sent: bytes) -> None:
    written, request = command(value, body=body)
    assert written == {"led": value}
    assert (request.command, request.path, request.body) == ("POST", "/pir", sent)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Key"] == "k"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "get"])
def test_a_command_has_its_own_method_url_and_headers(method: str) -> None:
    _, request = command("a/b c", method=method, url="{base}/led?v={value}", headers={"X-Key": "own"})
    assert (request.command, request.path) == (method.upper(), "/led?v=a%2Fb%20c")
    assert request.headers["X-Key"] == "own"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("/api/{value}/set", ".."),
        ("/api/{value}", "."),
        ("/api/{value}", ".."),
        ("/api/.{value}/set", "."),
        ("/api/%2e{value}/set", "."),
    ],
)
def test_a_value_cannot_lead_to_another_endpoint(template: str, value: str) -> None:
    with serving(pir=says(PIR)) as server:
        commands = {"led": {"url": server.url(template)}, "other": {"url": server.url("/other")}}
        with (
            driver_for(server.url("/pir"), commands=commands) as driver,
            pytest.raises(InvalidCommand, match="^led must not make a `.` or `..` of a part"),
        ):
            driver.write("yard", {"other": 1, "led": value})
        assert server.seen == []


@pytest.mark.parametrize("value", ["...", "..x", "a..", "../reset", ".%2e"])
def test_dots_that_mean_nothing_are_sent(value: str) -> None:
    path = "/led/" + quote(value, safe="")
    with serving(**{path[1:]: says({})}) as server:
        commands = {"led": {"url": server.url("/led/{value}")}}
        with driver_for(server.url("/pir"), commands=commands) as driver:
            assert driver.write("yard", {"led": value}) == {"led": value}
        assert [request.path for request in server.seen] == [path]


def test_headers_of_the_sensor_are_not_sent_to_a_commands_other_host() -> None:
    with serving(pir=says(PIR)) as server, serving(led=says({})) as other:
        commands = {"led": {"url": other.url("/led"), "headers": {"X-Mine": "1"}}}
        url = server.url("/pir", "user:pw@")
        with driver_for(url, commands=commands, headers={"X-Key": "k"}) as driver:
            driver.write("yard", {"led": True})
        sent = other.seen[0].headers
        assert (sent["X-Mine"], sent["X-Key"], sent["Authorization"]) == ("1", None, None)


@pytest.mark.parametrize("code", [302, 400, 403, 500])
def test_a_refused_command_is_device_refused(code: int) -> None:
    with serving(pir=status(code, Location="/pir")) as server:
        with (
            driver_for(server.url(), commands={"led": {}}) as driver,
            pytest.raises(DeviceRefused, match=f"^HTTP {code}$"),
        ):
            driver.write("yard", {"led": 1})
        assert len(server.seen) == 1


def test_a_command_without_an_answer_is_sent_once_and_times_out() -> None:
    with serving(pir=hang) as server:
        with (
            driver_for(server.url(), timeout_s=0.3, commands={"led": {}}) as driver,
            pytest.raises(ReadTimeout),
        ):
            driver.write("yard", {"led": 1})
        eventually(lambda: server.seen)
        assert len(server.seen) == 1


def test_an_unknown_command_sends_nothing() -> None:
    with serving(pir=says(PIR)) as server, driver_for(server.url(), commands={"led": {}}) as driver:
        with pytest.raises(InvalidCommand):
            driver.write("yard", {"led": 1, "fan": 2})
        assert server.seen == []


@pytest.mark.parametrize("value", [float("nan"), "\ud800", [[float("inf")]], 10**400])
def test_a_value_that_is_no_json_is_refused_before_anything_is_sent(value: Json) -> None:
    with serving(pir=says(PIR)) as server:
        with (
            driver_for(server.url(), commands={"led": {"body": "{value}"}}) as driver,
            pytest.raises(InvalidCommand, match="^led is no "),
        ):
            driver.write("yard", {"led": value})
        assert server.seen == []


def test_properties_are_fields_and_commands() -> None:
    with driver_for("http://192.0.2.1/", commands={"dim": {"kind": "number", "min": 0, "max": 9}}) as driver:
        found = driver.properties("yard")
        assert {name: (spec.kind, spec.writable) for name, spec in found.items()} == {
            "motion_detected": ("boolean", False),
            "battery_level": ("any", False),
            "signal_strength": ("any", False),
            "dim": ("number", True),
        }
        assert (found["dim"].minimum, found["dim"].maximum) == (0, 9)


def test_a_driver_that_was_closed_says_it_is_not_connected() -> None:
    with driver_for("http://192.0.2.1/") as driver:
        driver.close()
        driver.close()
        with pytest.raises(TransportDown):
            driver.read("yard")
