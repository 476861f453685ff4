"""Searching and reading over HTTP by the platform's tools, against a real server on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.contract.setup_devices import HttpServer, took
from tests.contract.setup_wizard import connector_folder
from tests.integration.test_actions import Answer, ask, refusal

MOTION = {"motion_detected": True, "battery_level": 95, "signal_strength": -50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


def search(folder: Path, base_url: str, **more: Any) -> dict[str, Any]:
    answer = ask(folder, "discover", {"what": "http_sensors", "base_url": base_url, **more})
    assert answer["ok"], answer
    result: dict[str, Any] = answer["result"]
    assert result["count"] == len(result["sensors"])
    return result


def read(folder: Path, url: str, sensor_type: str = "generic", timeout_s: float = 3, **sensor: Any) -> Answer:
    content = {"sensor_id": "s", "sensor_type": sensor_type, "url": url, **sensor}
    return ask(folder, "test_sensor", {"sensors": [content], "timeout_s": timeout_s})


def told(found: list[dict[str, Any]]) -> dict[str, tuple[str, dict[str, str]]]:
    return {item["sensor_id"]: (item["sensor_type"], item["fields"]) for item in found}


# -- searching --------------------------------------------------------------------------------------------


def test_a_listing_leads_to_its_sensors(folder: Path) -> None:
    routes = {
        "/sensors": {"sensors": [{"id": "yard"}, {"id": "gone"}, {"id": "tank/1"}], "count": 3},
        "/sensors/yard": MOTION,
        "/sensors/tank%2F1": {"type": "humidity", "value": 40.5, "unit": "%"},
    }
    with HttpServer(routes) as server:
        result = search(folder, server.base)
    assert told(result["sensors"]) == {
        "yard": (
            "motion",
            {
                "motion_detected": "motion_detected",
                "battery_level": "battery_level",
                "signal_strength": "signal_strength",
            },
        ),
        "tank_2f1": ("humidity", {"value": "value"}),
    }
    assert [item["url"] for item in result["sensors"]] == [
        f"{server.base}/sensors/yard",
        f"{server.base}/sensors/tank%2F1",
    ]
    assert (result["complete"], result["note"]) == (True, "")
    assert result["sensors"][0]["label"] == (
        f"motion at {server.base}/sensors/yard: motion_detected = True, battery_level = 95, signal_strength = -50"
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"climate": {"temperature": 21.5, "humidity": 40}},
            {"temperature": "climate.temperature", "humidity": "climate.humidity"},
        ),
        ({"co2_ppm": 600, "ok": True}, {"co2": "co2_ppm"}),
        ({"pir": {"active": False}, "battery": 80}, {"motion": "pir.active"}),
        ({"occupancy": "on"}, {"motion": "occupancy"}),
        ({"flow": {"now": 3.5}, "open": True, "name": "x"}, {"generic": "flow.now"}),
        ({"a.b": 1, "name": "x", "list": [1]}, {}),
        ({}, {}),
        ([], {}),
        (5, {}),
        ("text", {}),
        (None, {}),
    ],
    ids=lambda value: json.dumps(value)[:30],
)
def test_a_document_is_understood(folder: Path, document: Any, expected: dict[str, str]) -> None:
    with HttpServer({"/x": json.dumps(document).encode()}) as server:
        found = search(folder, f"{server.base}/x")["sensors"]
    assert {item["sensor_type"]: next(iter(item["fields"].values())) for item in found} == expected


def test_what_was_found_can_be_read(folder: Path) -> None:
    with HttpServer({"/api/state": {"climate": {"temperature": 21.5}}}) as server:
        [found] = search(folder, f"{server.base}/api")["sensors"]
        found.pop("label")
        answer = ask(folder, "test_sensor", {"sensors": [found]})
    assert answer["result"]["values"] == {"value": 21.5}


def test_paths_of_ones_own_are_tried(folder: Path) -> None:
    with HttpServer({"/deep/er": MOTION}) as server:
        result = search(folder, server.base, paths="nothing\n/deep/er\n")
    assert [item["sensor_id"] for item in result["sensors"]] == ["er"]


def test_a_server_that_answers_everywhere_alike_yields_one_sensor(folder: Path) -> None:
    with HttpServer({"*": {"temperature": 20}}) as server:
        result = search(folder, server.base)
    assert [item["sensor_type"] for item in result["sensors"]] == ["temperature"]


def test_ids_are_good_and_differ(folder: Path) -> None:
    routes = {
        "/sensors": ["A b", "a_b", "Ü"],
        "/sensors/A%20b": MOTION,
        "/sensors/a_b": MOTION,
        "/sensors/%C3%9C": MOTION,
    }
    with HttpServer(routes) as server:
        result = search(folder, server.base)
    ids = [item["sensor_id"] for item in result["sensors"]]
    assert len(set(ids)) == 3
    assert ask(folder, "validate_setup", {"kind": "http", "found": result["sensors"]})["ok"]


def test_credentials_are_sent_and_shown_nowhere(folder: Path) -> None:
    with HttpServer({"/sensors": ["a"], "/sensors/a": MOTION}, wants="Basic bWU6aHVudGVyMg==") as server:
        access = {"auth_kind": "basic", "username": "me", "password": "hunter2"}
        result = search(folder, server.base, **access)
        assert [item["sensor_id"] for item in result["sensors"]] == ["a"]
        assert "hunter2" not in json.dumps(result)
        base = server.base.replace("http://", "http://me:hunter2@")
        [found] = search(folder, base)["sensors"]
        assert "hunter2" not in found["label"]
        assert found["url"] == f"{base}/sensors/a"  # here it is what lets the hub in
        denied = search(folder, server.base, auth_kind="basic", username="me", password="wrong")
    assert denied["note"] == "HTTP 401 (user, password or token not accepted)"


def test_what_hangs_is_named_and_the_rest_is_found(folder: Path) -> None:
    with HttpServer({"/sensors": ["slow", "quick"], "/sensors/quick": MOTION}) as server:
        server.routes["/sensors/slow"] = server.drip()
        result = search(folder, server.base, within_s=3, timeout_s=10)
    assert [item["sensor_id"] for item in result["sensors"]] == ["quick"]
    assert result["complete"] is False
    assert result["note"].startswith("not reached: ")
    assert f"{server.base}/sensors/slow" in result["note"]


def test_many_that_hang_cost_no_more_than_was_allowed(folder: Path) -> None:
    with HttpServer({"/sensors": [f"s{number}" for number in range(60)]}) as server:
        for number in range(60):
            server.routes[f"/sensors/s{number}"] = server.hang()
        results: list[dict[str, Any]] = []
        assert took(lambda: results.append(search(folder, server.base, within_s=1))) < 12
    assert results[0]["sensors"] == []
    assert " more" in results[0]["note"]


def test_an_endless_listing_is_cut_off_and_that_is_said(folder: Path) -> None:
    with HttpServer({"/sensors": list(range(1, 500))}) as server:
        result = search(folder, server.base)
    assert result["complete"] is False
    assert "at most 200 documents are looked at" in result["note"]


def test_a_host_that_is_not_there_is_said_so(folder: Path) -> None:
    result = search(folder, f"http://127.0.0.1:{free_port()}")
    assert (result["sensors"], result["note"]) == ([], "cannot connect: Connection refused")


# -- reading ----------------------------------------------------------------------------------------------


def test_motion_is_read_with_what_it_says_besides(folder: Path) -> None:
    with HttpServer(
        {"/pir": {**MOTION, "signal_strength": None}, "/old": {"motion_detected": "off"}}
    ) as server:
        values = read(folder, f"{server.base}/pir", "motion")["result"]["values"]
        assert values == {"motion_detected": True, "battery_level": 95, "signal_strength": None}
        values = read(folder, f"{server.base}/old", "motion")["result"]["values"]
        assert values == {"motion_detected": False}


def test_fields_are_picked_by_their_paths(folder: Path) -> None:
    with HttpServer({"/x": {"list": [{"t": 1.5}], "on": True}}) as server:
        result = read(folder, f"{server.base}/x?a=b", fields={"temp": "list.0.t", "on": "on"})["result"]
        assert result["values"] == {"temp": 1.5, "on": True}
        assert result["message"].endswith(": temp = 1.5, on = true")
        assert server.seen[-1].path == "/x?a=b"


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (404, "http_error", "HTTP 404"),
        (401, "http_error", "HTTP 401 (user, password or token not accepted)"),
        (b"<html>", "no_json", "the answer is not JSON"),
        (b'{"value": NaN}', "no_json", "the answer is not JSON"),
        (b'{"value": 1e999}', "no_json", "the answer is not JSON"),
        (b"[" * 100_000, "no_json", "the answer is not JSON"),
        (b'{"value": ' + b"[" * 50 + b"]" * 50 + b"}", "no_json", "the answer is nested too deeply"),
        (b" " * (2 << 20), "too_large", "the answer is larger than 1048576 bytes"),
        ({"temp": 5, "hum": 6}, "no_value", "value is missing from the answer; it has temp, hum"),
        ([5], "no_value", "value is missing from the answer; it is a list"),
        ("http://192.0.2.1/", "redirect", "it redirects to another host, which the hub will not follow"),
        ("http://[", "redirect", "it redirects to another host, which the hub will not follow"),
        ("/x", "redirect", "more than 3 redirects"),
    ],
)
def test_why_there_is_no_value_is_said_in_plain_words(
    folder: Path, reply: Any, code: str, message: str
) -> None:
    with HttpServer({"/x": reply}) as server:
        assert refusal(read(folder, f"{server.base}/x")) == (code, message)


def test_a_redirect_on_the_same_host_is_followed(folder: Path) -> None:
    with HttpServer({"/x": "/y?z=1", "/y": {"value": 7}}) as server:
        assert read(folder, f"{server.base}/x")["result"]["values"] == {"value": 7}


def test_a_body_that_drips_is_cut_off(folder: Path) -> None:
    with HttpServer({}) as server:
        server.routes["/x"] = server.drip()
        assert refusal(read(folder, f"{server.base}/x", timeout_s=0.5)) == (
            "timeout",
            "no whole answer within 0.5 s",
        )


def test_headers_and_tokens_are_sent(folder: Path) -> None:
    with HttpServer({"/x": {"value": 1}}, wants="Bearer t0ken") as server:
        assert read(folder, f"{server.base}/x", auth={"bearer": "t0ken"})["ok"]
        assert read(folder, f"{server.base}/x", headers={"authorization": "Bearer t0ken"})["ok"]
        assert not read(folder, f"{server.base}/x", auth={"bearer": "other"})["ok"]


def test_a_peer_that_speaks_no_http_is_noticed(folder: Path) -> None:
    with HttpServer({}) as server:
        server.routes["/x"] = lambda handler: handler.wfile.write(b"what?\r\n\r\n")
        assert refusal(read(folder, f"{server.base}/x"))[0] == "no_http"


def test_a_secret_in_the_url_is_in_no_message(folder: Path) -> None:
    url = f"http://me:hunter2@127.0.0.1:{free_port()}/x?key=hunter2"
    code, message = refusal(read(folder, url))
    assert (code, message) == ("unreachable", "cannot connect: Connection refused")
