"""The emulator's control API, as a page or a test uses it: over HTTP, with what it does seen on the lines."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.building import now
from emulator.control_api import ControlApi
from emulator.control_app import OPENAPI_PATH, add_control
from emulator.control_calls import calls
from emulator.control_openapi import document
from emulator.control_routes import MAX_BODY_BYTES, Route
from emulator.http_devices import create_app
from emulator.profile_runner import ProfileRunner
from emulator.registry import Registry
from tests.integration.emulated import ROOT, Emulator, Raw, emulators, free_port
from tests.support import eventually

READ_1 = bytes.fromhex("01040000000131ca")
JSON = {"Content-Type": "application/json"}


class Control:
    """An emulator and its API."""

    def __init__(self, emulator: Emulator, folder: Path, port: int, tcp_port: int) -> None:
        self.emulator, self.bus, self.charger, self.tcp_port = (
            emulator,
            folder / "bus",
            folder / "ev",
            tcp_port,
        )
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        return requests.request(method, f"{self.url}{path}", json=body, timeout=10, **more)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(method, path, body)
        assert answer.ok, answer.text
        return answer.json()

    def register(self) -> int:
        """The measured value of the bus's thermometer, as a hub reads it."""
        with Raw(self.bus) as client:
            return int.from_bytes(client.ask(READ_1, 7)[3:5], "big")


def scenario(folder: Path, port: int, tcp_port: int) -> dict[str, Any]:
    """As without a scenario, with a scale on a port besides."""
    units = [
        {"unit_id": number, "sensor_id": kind, "kind": kind}
        for number, kind in enumerate(("temperature", "humidity", "co2"), start=1)
    ]
    charger = {"kind": "openevse", "sensor_id": "ev", "charger": {"round_s": None}}
    return {
        "instance_id": "lab",
        "seed": 1,
        "lines": [{"line_id": "bus", "pty_path": str(folder / "bus"), "units": units}],
        "text_lines": [
            {"line_id": "wallbox", "pty_path": str(folder / "ev"), **charger},
            {"line_id": "scale", "tcp_port": tcp_port, "kind": "scale"},
        ],
        "http": {"port": port, "names": ["lab.example"], "motion": ["motion"]},
    }


@contextmanager
def control_in(folder: Path) -> Iterator[Control]:
    with emulators(folder) as start:
        port, tcp_port = free_port(), free_port()
        yield Control(start(scenario(folder, port, tcp_port)), folder, port, tcp_port)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with control_in(tmp_path_factory.mktemp("control")) as found:
        yield found


@pytest.fixture
def control(shared: Control) -> Control:
    """Without what other tests left behind."""
    shared.call("DELETE", "/api/faults")
    shared.call("DELETE", "/api/profiles")
    for device in shared.call("GET", "/api/devices")["devices"]:
        for name in device["held"]:
            shared.call("DELETE", f"/api/devices/{device['device_id']}/values/{name}")
    return shared


# -- what there is -------------------------------------------------------------------------------------------------


def test_lines_and_devices_are_listed_with_values_and_what_each_takes(control: Control) -> None:
    status = control.call("GET", "/api/status")
    assert (status["instance_id"], status["devices"], status["faults"]) == ("lab", 6, 0)
    lines = {line["line_id"]: line for line in status["lines"]}
    assert list(lines) == ["bus", "wallbox", "scale", "http"]
    assert lines["bus"]["place"] == str(control.bus)
    assert lines["bus"]["tty"] == os.readlink(control.bus)
    assert lines["bus"]["devices"] == ["temperature", "humidity", "co2"]
    assert {line["is_up"] for line in lines.values()} == {True}
    device = control.call("GET", "/api/devices/temperature")
    assert 18.5 <= device["values"]["value"] <= 25.5
    assert device["takes"] == {
        "value": "number, -3276.8..3276.7",
        "setpoint": "number, -3276.8..3276.7",
        "switch": "true or false",
    }


def test_the_clients_of_a_terminal_and_of_a_port_are_told(control: Control) -> None:
    def clients(line_id: str) -> list[str]:
        found: list[str] = control.call("GET", f"/api/lines/{line_id}")["clients"]
        return found

    eventually(lambda: clients("bus") == clients("scale") == [])
    with Raw(control.bus), Raw(control.tcp_port):
        own = [str(os.getpid())]
        eventually(lambda: [re.sub(r".*\((\d+)\)", r"\1", each) for each in clients("bus")] == own)
        eventually(lambda: [each.rpartition(":")[0] for each in clients("scale")] == ["127.0.0.1"])
    eventually(lambda: clients("bus") == clients("scale") == [])


def test_the_counters_of_a_line_count(control: Control) -> None:
    def counters() -> dict[str, int]:
        found: dict[str, int] = control.call("GET", "/api/lines/bus")["counters"]
        return found

    before = counters()
    control.register()
    after = eventually(lambda: counters() if counters()["answered"] > before["answered"] else None)
    assert after is not None
    assert {name: after[name] - before[name] for name in after} == {
        "answered": 1,
        "swallowed": 0,
        "bytes_in": 8,
        "bytes_out": 7,
    }


# -- values --------------------------------------------------------------------------------------------------------


def test_a_value_that_is_set_is_read_on_the_line_until_it_is_released(control: Control) -> None:
    told = control.call("PUT", "/api/devices/temperature/values/value", {"value": 99.5})
    assert (told["values"]["value"], told["held"]) == (99.5, ["value"])
    assert control.register() == 995
    told = control.call("DELETE", "/api/devices/temperature/values/value")
    assert told["held"] == []
    assert 185 <= control.register() <= 255


def test_a_car_is_plugged_in_and_charges(control: Control) -> None:
    values = {"plugged": True, "requesting_charge": True, "soc": 40}
    told = control.call("PATCH", "/api/devices/ev/values", {"values": values})["values"]
    assert (told["state"], told["is_charging"], round(told["soc"])) == (3, True, 40)
    with Raw(control.charger) as client:
        client.hear(400, 0.3)  # what it said unasked meanwhile
        assert client.ask(b"$GS\r", 12).startswith(b"$OK 03 ")
    told = control.call("PUT", "/api/devices/ev/values/plugged", {"value": False})["values"]
    assert (told["state"], told["requesting_charge"]) == (1, False)


def test_motion_is_pressed_and_ends_by_itself(control: Control) -> None:
    profile = control.call("POST", "/api/devices/motion/press", {"seconds": 0.5})
    assert (profile["state"], profile["lasts_s"]) == ("running", 0.5)
    assert control.call("GET", "/sensors/motion")["motion_detected"] is True
    eventually(lambda: control.call("GET", "/api/devices/motion")["held"] == [])


def test_values_are_set_in_order_until_one_cannot_be(control: Control) -> None:
    answer = control.ask(
        "PATCH", "/api/devices/ev/values", {"values": {"soc": 12, "direct_amps": -1, "variance": True}}
    )
    assert answer.status_code == 400
    assert answer.json() == {"error": "direct_amps of ev must be a number, 0..200, not -1"}
    values = control.call("GET", "/api/devices/ev")["values"]
    assert (values["soc"], values["variance"]) == (12, False)


# -- profiles ------------------------------------------------------------------------------------------------------


def test_a_ramp_is_seen_on_the_line_and_a_value_set_by_hand_stops_it(control: Control) -> None:
    ramp = {"kind": "ramp", "from": 100, "to": 300, "lasts_s": 1}
    control.call("POST", "/api/profiles", {"device_id": "temperature", "value": "value", "profile": ramp})
    assert 1000 <= control.register() <= 3000
    assert eventually(lambda: control.register() == 3000)
    again = control.call(
        "POST",
        "/api/profiles",
        {"device_id": "temperature", "value": "value", "profile": ramp | {"lasts_s": 600}},
    )
    control.call("PUT", "/api/devices/temperature/values/value", {"value": 5})
    states = {each["profile_id"]: each["state"] for each in control.call("GET", "/api/profiles")["profiles"]}
    assert states[again["profile_id"]] == "stopped"
    assert control.register() == 50


def test_a_csv_is_replayed_and_stopped(control: Control) -> None:
    csv = {
        "kind": "csv",
        "text": "time,value\n0,10\n1,20\n2,10\n",
        "speed": 2,
        "repeat": True,
        "then": "release",
    }
    body = {"device_id": "scale", "value": "weight", "profile": csv}
    profile = control.call("POST", "/api/profiles", body)
    with Raw(control.tcp_port) as client:
        wanted = {b"+0010.00 kg\r\n", b"+0020.00 kg\r\n"}
        seen: set[bytes] = set()

        def all_seen() -> bool:
            seen.add(client.ask(b"W\r", 13))
            return seen >= wanted

        eventually(all_seen)
        assert seen == wanted
    assert control.call("DELETE", f"/api/profiles/{profile['profile_id']}")["state"] == "stopped"
    assert control.call("GET", "/api/devices/scale")["held"] == []


def test_a_profile_that_runs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with control_in(tmp_path) as own:
        day = {"kind": "day", "mean": 20, "swing": 5, "day_s": 10}
        own.call("POST", "/api/profiles", {"device_id": "co2", "value": "value", "profile": day})
        code, took_s = own.emulator.stop()
        assert code == 0
        assert took_s < 4


# -- faults --------------------------------------------------------------------------------------------------------


def test_the_next_answers_of_a_device_are_wrong_and_the_fault_counts_them(control: Control) -> None:
    fault = control.call(
        "POST", "/api/devices/temperature/faults", {"kind": "exception", "code": 6, "count": 2}
    )
    with Raw(control.bus) as client:
        heard = [client.ask(READ_1, 5)[1:3].hex() for _ in range(2)]
        assert heard == ["8406", "8406"]
        assert client.ask(READ_1, 7)[1:3].hex() == "0402"
    assert fault["struck"] == 0
    assert control.call("GET", "/api/devices/temperature/faults")["faults"] == []


def test_faults_are_listed_wherever_they_are_and_cleared_one_by_one_or_all(control: Control) -> None:
    line = control.call("POST", "/api/lines/bus/faults", {"kind": "delay", "seconds": 0.1, "duration_s": 600})
    control.call("POST", "/api/devices/motion/faults", {"kind": "http_error", "code": 503})
    found = control.call("GET", "/api/faults")["faults"]
    assert [(each["owner"], each["owner_id"], each["fault"]["kind"]) for each in found] == [
        ("line", "bus", "delay"),
        ("device", "motion", "http_error"),
    ]
    assert 590 < found[0]["fault"]["remaining_s"] <= 600
    assert control.ask("GET", "/sensors/motion").status_code == 503
    assert control.ask("GET", "/api/devices/motion").status_code == 200  # the API itself is never struck
    assert control.call("DELETE", f"/api/lines/bus/faults/{line['fault_id']}") == {"cleared": 1}
    assert control.ask("DELETE", f"/api/lines/bus/faults/{line['fault_id']}").status_code == 404
    assert control.call("DELETE", "/api/faults") == {"cleared": 1}
    assert control.call("GET", "/sensors/motion")["battery_level"] > 0


def test_a_line_whose_cable_is_pulled_is_down_and_comes_back(control: Control) -> None:
    control.call("POST", "/api/lines/bus/faults", {"kind": "disconnect", "seconds": 1, "count": 1})
    with Raw(control.bus) as client:
        client.send(READ_1)
        eventually(lambda: not control.call("GET", "/api/lines/bus")["is_up"])
    line = eventually(lambda: found if (found := control.call("GET", "/api/lines/bus"))["is_up"] else None)
    assert line is not None
    assert line["tty"] == os.readlink(control.bus)
    assert control.register() > 0


# -- refusals ------------------------------------------------------------------------------------------------------

VALUE = "/api/devices/temperature/values/value"
FAULTS = "/api/lines/bus/faults"


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "says"),
    [
        ("GET", "/api/devices/nobody", None, 404, "no device nobody; there are temperature, "),
        ("GET", "/api/lines/nowhere", None, 404, "no line nowhere; there are bus, "),
        ("GET", "/api/nothing", None, 404, "not found"),
        ("PUT", "/api/devices/temperature/values/mood", b'{"value": 1}', 404, "temperature has no mood"),
        ("DELETE", "/api/profiles/99999", None, 404, "no profile 99999"),
        ("DELETE", "/api/profiles/first", None, 404, "not found"),
        ("DELETE", "/api/devices/ev/values/plugged", None, 400, "plugged of ev has no model to go back to"),
        ("PUT", VALUE, b'{"value": 4000}', 400, "must be a number, -3276.8..3276.7, not 4000"),
        ("PUT", VALUE, b'{"value": NaN}', 400, "must be a number"),
        ("PUT", VALUE, b'{"value": [1]}', 400, "body.value: must be true, false, a number or a text"),
        ("PUT", VALUE, b'{"value": 1, "for": 2}', 400, "body.for: unknown key"),
        ("PUT", VALUE, b"{}", 400, "body.value: required"),
        ("PUT", VALUE, b"[]", 400, "body: must be an object"),
        ("PUT", VALUE, b"{", 400, "body: "),
        ("PUT", VALUE, b"\xff", 400, "body: "),
        ("PUT", VALUE, b"[" * 100_000, 400, "body: "),
        ("PUT", "/api/devices/ev/values/state", b'{"value": 1}', 400, "can only be looked at"),
        ("PUT", "/api/devices/ev/values/fault", b'{"value": "fire"}', 400, "must be one of none, gfci"),
        ("POST", "/api/devices/ev/press", b"{}", 400, "ev is no motion detector"),
        ("POST", FAULTS, b'{"kind": "hang"}', 400, "hang is not one of crc_error, delay"),
        ("POST", FAULTS, b'{"kind": "fire"}', 400, "body.kind: must be one of"),
        ("POST", FAULTS, b'{"kind": "silence", "probability": 2}', 400, "body.probability: "),
        ("POST", FAULTS, b'{"kind": "silence", "code": 2}', 400, "code means nothing for silence"),
        ("POST", FAULTS, b'{"kind": "silence", "count": "3"}', 400, "body.count: "),
        ("POST", "/api/profiles", b'{"device_id": "co2", "value": "value", "profile": {}}', 400, "body.profile"),
        ("POST", VALUE, b'{"value": 1}', 405, "not allowed"),
        ("PUT", VALUE, b'{"value": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "exceeds the capacity limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_reason_as_json(
    control: Control, method: str, path: str, data: bytes | None, status: int, says: str
) -> None:
    answer = requests.request(method, control.url + path, data=data, headers=JSON, timeout=10)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert says in answer.json()["error"]
    assert list(answer.json()) == ["error"]


# -- pages of other sites ------------------------------------------------------------------------------------------

ROUTES = calls(ControlApi("x", Registry(), {}, ProfileRunner(now)))
ORDERS = [route for route in ROUTES if route.method != "GET"]
FOREIGN = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8080"}]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def sent(control: Control, route: Route, headers: dict[str, str]) -> requests.Response:
    """The call's example, with these headers."""
    url = control.url + route.path.format(**route.parameters)
    body = None if route.example is None else json.dumps(route.example)
    return requests.request(route.method, url, data=body, headers=JSON | headers, timeout=10)


def held_and_injected(control: Control) -> tuple[list[Any], Any, Any]:
    """All that an order would change."""
    devices = control.call("GET", "/api/devices")["devices"]
    values = [(each["device_id"], each["held"], each["values"].get("plugged")) for each in devices]
    return values, control.call("GET", "/api/faults"), control.call("GET", "/api/profiles")


@pytest.mark.parametrize("route", ORDERS, ids=name_of)
def test_a_page_of_another_site_can_order_nothing(control: Control, route: Route) -> None:
    control.call("POST", "/api/devices/motion/faults", {"kind": "http_error"})  # something to clear
    before = held_and_injected(control)
    for headers in FOREIGN:
        answer = sent(control, route, headers)
        assert answer.status_code == 403, headers
        assert re.match(r"foreign (origin|host): ", answer.json()["error"])
        assert "Access-Control-Allow-Origin" not in answer.headers
    if route.body is not None:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = sent(control, route, {"Content-Type": content_type})
            assert answer.status_code == 415, content_type
            assert "application/json" in answer.json()["error"]
    assert held_and_injected(control) == before


@pytest.mark.parametrize("path", ["/", OPENAPI_PATH, "/api/status", "/api/devices/motion", "/api/nothing"])
def test_a_name_that_leads_here_by_a_trick_reads_nothing(control: Control, path: str) -> None:
    answer = control.ask("GET", path, headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert "not known as evil.example; call it by its IP address, as localhost" in answer.json()["error"]


def test_a_detector_is_polled_by_whatever_name_its_url_has(control: Control) -> None:
    for host in ("evil.example", "host.docker.internal:5004", "plc.site.example.com"):
        assert control.ask("GET", "/sensors/motion", headers={"Host": host}).json()["battery_level"] > 0


def test_a_page_of_another_site_uses_up_no_fault_of_a_detector(control: Control) -> None:
    control.call("POST", "/api/devices/motion/faults", {"kind": "http_error", "count": 1})
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},  # a page of another port
    ):
        assert control.ask("GET", "/sensors/motion", headers=headers).status_code == 403
    assert control.ask("GET", "/sensors/motion").status_code == 500
    assert control.ask("GET", "/sensors/motion").status_code == 200


def test_who_asks_for_a_detector_that_is_not_there_uses_up_no_fault(control: Control) -> None:
    control.call("POST", "/api/lines/http/faults", {"kind": "http_error", "count": 1})
    for path in ("/sensors/nobody", "/sensors/", "/sensors/motion/motion"):
        assert control.ask("GET", path).status_code in (404, 405), path
    assert control.ask("GET", "/sensors/motion").status_code == 500
    assert control.ask("GET", "/sensors/motion").status_code == 200


def test_a_link_from_elsewhere_leads_to_the_page(control: Control) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert control.ask("GET", "/", headers=headers).status_code == 200


def test_its_own_page_may_order_by_every_address_of_the_emulator(control: Control) -> None:
    port = control.url.rpartition(":")[2]
    # the last is in the scenario's `names`: that of a proxy, which hands it on
    for host in (
        f"127.0.0.1:{port}",
        f"localhost:{port}",
        f"emulator-1:{port}",
        f"[::1]:{port}",
        "lab.example",
    ):
        own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert control.ask("PUT", VALUE, {"value": 1}, headers=own).status_code == 200, host
    assert control.call("GET", "/api/devices/temperature")["values"]["value"] == 1


def test_a_wrong_method_says_which_are_right(control: Control) -> None:
    assert {"PUT", "DELETE"} <= set(control.ask("POST", VALUE, {"value": 1}).headers["Allow"].split(", "))


# -- OpenAPI and page ----------------------------------------------------------------------------------------------


def test_the_openapi_document_has_every_route_and_no_other() -> None:
    app, registry = create_app({}), Registry()
    add_control(app, ControlApi("x", registry, {}, ProfileRunner(now)))
    served = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint not in ("static", "page", "openapi")
    }
    found = document(ROUTES, "http://x")
    documented = {(method, path) for path, methods in found["paths"].items() for method in methods}
    assert documented == served


def test_the_documentation_has_every_call_and_no_other() -> None:
    text = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:GET|PUT|POST|PATCH|DELETE) /(?:api|openapi)[^`]*)`", text))
    served = {name_of(route) for route in ROUTES if route.path.startswith("/api")}
    assert documented == served | {f"GET {OPENAPI_PATH}"}


def test_every_reference_in_the_openapi_document_leads_somewhere(control: Control) -> None:
    answer = control.ask("GET", OPENAPI_PATH)
    found = answer.json()
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": control.url}]
    references = set(re.findall(r'"\$ref":\s*"#/components/schemas/([^"]+)"', answer.text))
    assert references == set(found["components"]["schemas"])
    ids = [call["operationId"] for methods in found["paths"].values() for call in methods.values()]
    assert len(ids) == len(set(ids))


def test_every_example_of_the_openapi_document_works_and_answers_as_it_says(tmp_path: Path) -> None:
    with control_in(tmp_path) as own:
        for route in ROUTES:
            path = route.path.format(**route.parameters)
            answer = own.ask(route.method, path, route.example)
            assert answer.status_code == route.status, (route.method, path, answer.text)
            told = route.answer.model_validate_json(answer.text)
            assert told.model_dump(mode="json") == answer.json(), path


def test_the_page_needs_nothing_from_elsewhere_and_may_load_nothing(control: Control) -> None:
    answer = control.ask("GET", "/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert re.findall(r"(?:https?:)?//[a-z]", answer.text.replace("://", "")) == []
    called = set(re.findall(r'"(?:api/)?(status|devices|lines|profiles|faults|values|press)"', answer.text))
    assert called == {"status", "devices", "lines", "profiles", "faults", "values", "press"} & called
    assert re.search(r'src=|href="(?!openapi\.json|data:,)', answer.text) is None
