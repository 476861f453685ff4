"""Reading a charger, and a device that speaks in lines of text, once by the platform's tools: on real terminals."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contract import setup_text_devices
from tests.contract.setup_wizard import connector_folder
from tests.integration.test_actions import Answer, ask, refusal
from tests.wire.text_peers import Answers, peer_that

CHECK = ": check speed, parity, encoding and terminator"
NUMBER = {"regex": r"T=([-+ \d.]+)", "unit": "°C"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


def read(folder: Path, driver: str, url: str, timeout_s: float = 0.5, **sensor: Any) -> Answer:
    line = {"transport_id": "l", "driver": driver, "url": url, **sensor.pop("line", {})}
    content = {"sensor_id": "s", "sensor_type": "generic", "transport": "l", **sensor}
    return ask(folder, "test_sensor", {"sensors": content, "transports": line, "timeout_s": timeout_s})


def patience_s(code: str) -> float:
    """Short where it is waited for in vain."""
    return 0.5 if code == "no_answer" else 1.5


# -- chargers ---------------------------------------------------------------------------------------------


def test_a_charger_is_asked_for_its_state(folder: Path) -> None:
    with setup_text_devices.charger() as peer:
        result = read(folder, "rapi", peer.path, 3)["result"]
        assert peer.heard == b"$GS^30\r"
    assert result["values"] == {
        "state": "charging",
        "vehicle_connected": True,
        "charging": True,
        "session_time": 1234,
    }
    assert result["message"].startswith("s answered in ")


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (b"$OK 01 0 01 0000^10\r", {"state": "ready", "vehicle_connected": False, "session_time": 0}),
        (b"$OK 02 7 02 0100*FA\r", {"state": "connected", "vehicle_connected": True, "session_time": 7}),
        (b"$OK 02 7 02 0100\r\n", {"state": "connected", "vehicle_connected": True, "session_time": 7}),
        (
            b"$AT 03 03 16 0140^33\r$OK FE 9 02 0120^1B\r",
            {"state": "FE", "vehicle_connected": True, "session_time": 9},
        ),
        (b"\x00\xff\r$GS^30\r$OK 01 0 01 0000^10\r", {"state": "ready", "vehicle_connected": False, "session_time": 0}),
    ],
    ids=["checksum", "sum", "none", "notification before", "noise and echo before"],
)  # fmt: skip
def test_every_form_of_a_chargers_answer_is_understood(
    folder: Path, said: bytes, values: dict[str, Any]
) -> None:
    with peer_that(lambda _: said) as peer:
        assert read(folder, "rapi", peer.path, 3)["result"]["values"] == values | {"charging": False}


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (b"", "no_answer", "no answer to $GS within 0.5 s: check speed and wiring"),
        (b"$GS^30\r", "no_answer", "no answer to $GS within 0.5 s: check speed and wiring"),
        (b"$NK^21\r", "refused", "the charger refused $GS"),
        (b"$OK 01 0 01 0000^11\r", "no_rapi", "the answer to $GS came damaged: check speed and wiring"),
        (b"$OK 8.2.1 5.0.1^2F\r", "no_rapi", "the answer to $GS is none that is known: '$OK 8.2.1 5.0.1'"),
        (b"login: ", "no_rapi", "what is there does not speak RAPI; it said 'login: login: ': check speed and device"),
    ],
    ids=["silence", "echo", "refused", "checksum", "another answer", "something else"],
)  # fmt: skip
def test_why_a_charger_was_not_read_is_said_in_plain_words(
    folder: Path, said: bytes, code: str, told: str
) -> None:
    with peer_that(lambda _: said) as peer:
        answer = read(folder, "rapi", peer.path, patience_s(code))
        assert refusal(answer) == (code, told.replace("login: login: ", "login: "))


def test_a_charger_that_refuses_once_is_asked_again(folder: Path) -> None:
    with peer_that(Answers({"$GS^30": [b"$NK^21\r", b"$OK 01 0 01 0000^10\r"]})) as peer:
        assert read(folder, "rapi", peer.path, 3)["result"]["values"]["state"] == "ready"


# -- lines of text ----------------------------------------------------------------------------------------


def test_a_line_that_is_printed_unasked_is_waited_for(folder: Path) -> None:
    properties = {
        "t": NUMBER,
        "h": {"regex": r"H=(\d+)", "unit": "%"},
        "x": {"regex": "X=(.)", "optional": True},
    }
    with setup_text_devices.printer() as peer:
        result = read(folder, "ascii_line", peer.path, 8, properties=properties)["result"]
        assert peer.heard == b""
    assert result["values"] == {"t": 22.5, "h": 45}
    assert result["message"].endswith("t = 22.5 °C, h = 45 %")


@pytest.mark.parametrize(
    ("said", "value", "found"),
    [
        (b"T= 22.50\r\n", NUMBER, 22.5),
        (b"noise\nT=-3\n", NUMBER, -3),
        (b"S 22,5 kg\r", {"regex": "S (.*) kg", "decimal": ",", "scale": 10, "offset": 1}, 226),
        (b'{"air": [{"t": 21}]}\r\n', {"json": "air.0.t"}, 21),
        (b"RUN\r\n", {"type": "boolean", "on": "run", "off": "stop"}, True),
        (b"off\r\n", {"type": "boolean"}, False),
        (b" door open \r\n", {"type": "text"}, "door open"),
    ],
    ids=["regex", "another line first", "comma, scale", "json", "word", "usual word", "text"],
)
def test_the_value_in_an_answer_is_found(folder: Path, said: bytes, value: Any, found: Any) -> None:
    with peer_that(Answers({"A?": said})) as peer:
        sensor = {"request": "{unit_id}?", "unit_id": "A", "value": value}
        assert read(folder, "ascii_line", peer.path, 3, **sensor)["result"]["values"] == {"value": found}


def test_requests_end_as_the_line_says(folder: Path) -> None:
    line = {"terminator": "lf", "send_terminator": "none", "encoding": "latin-1"}
    with peer_that(lambda _: b"5\n") as peer:
        answer = read(folder, "ascii_line", peer.path, 3, line=line, request="°W ", value={})
        assert answer["result"]["values"] == {"value": 5}
        assert peer.heard == b"\xb0W "


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (b"", "no_answer", "no line within 0.5 s: check speed, wiring and the request"),
        (b"W\r\n", "no_answer", "no line within 0.5 s: check speed, wiring and the request"),
        (b"ERR 5\r\n", "no_value", "value is not in the line 'ERR 5'"),
        (b"T=--\r\n", "no_value", "value in the line 'T=--' is no number"),
        (b"T=5", "no_answer", "no line within 0.5 s, only 'T=5T=5' without an end: check the terminator"),
        (b"\xff\r\n", "no_value", f"a line came that is no utf-8 text{CHECK}"),
        (b"x" * 2000, "no_value", f"no end of line within 256 characters{CHECK}"),
    ],
    ids=["silence", "echo", "another line", "no number", "no end", "no text", "endless"],
)  # fmt: skip
def test_why_a_line_was_no_value_is_said_in_plain_words(
    folder: Path, said: bytes, code: str, told: str
) -> None:
    with peer_that(lambda _: said) as peer:
        value = {"regex": r"T=([-\d.]+)"}
        answer = read(folder, "ascii_line", peer.path, patience_s(code), request="W", value=value)
        assert refusal(answer) == (code, told)


def test_a_device_that_never_stops_talking_does_not_hold_the_tool_up(folder: Path) -> None:
    stop = threading.Event()
    with peer_that(lambda _: b"") as peer:

        def babble() -> None:
            while not stop.wait(0.001):
                peer.say(b"nothing of interest " * 10 + b"\r\n")

        talker = threading.Thread(target=babble, daemon=True)
        talker.start()
        try:
            code, told = refusal(read(folder, "ascii_line", peer.path, 1, value=NUMBER))
        finally:
            stop.set()
            talker.join(5)
    assert code == "no_value"
    assert told.startswith("value is not in the line 'nothing of interest")


# -- ports by what their hardware says ----------------------------------------------------------------------


def test_a_port_that_no_hardware_has_is_not_found(folder: Path) -> None:
    code, told = refusal(read(folder, "rapi", "hwgrep://SER=NO-SUCH-SERIAL-NUMBER"))
    assert code == "no_port"
    assert told.startswith("cannot open hwgrep://SER=NO-SUCH-SERIAL-NUMBER: no port matches; there ")


def test_an_expression_that_takes_for_ever_is_not_tried(folder: Path) -> None:
    code, told = refusal(read(folder, "rapi", "hwgrep://(.*)*x"))
    assert code == "no_port"
    assert "may not repeat what is itself variable" in told
