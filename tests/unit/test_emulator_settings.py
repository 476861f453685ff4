"""Scenario file < environment < command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.scenario import ScenarioError
from emulator.settings import DEFAULT, SETTINGS, Resolved, Row, resolve

DOCS = (Path(__file__).resolve().parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
ONE: dict[str, Any] = {"lines": [{"pty_path": "/tmp/x/bus", "baudrate": 9600, "units": []}]}
TWO: dict[str, Any] = ONE | {"text_lines": [{"line_id": "wallbox", "tcp_port": 8023, "kind": "openevse"}]}


def rows_of(resolved: Resolved) -> dict[str, tuple[object, str]]:
    return {row.name: (row.value, row.origin) for row in resolved.rows}


def problems_of(data: object, environ: dict[str, str], options: dict[str, list[str]]) -> tuple[str, ...]:
    with pytest.raises(ScenarioError) as caught:
        resolve(data, environ, options)
    return caught.value.problems


def test_file_environment_and_command_line_count_in_this_order() -> None:
    environ = {"SERIAL_BAUDRATE": "19200", "SERIAL_PTY_PATH": "/tmp/x/env", "WEB_PORT": "8081"}
    found = resolve(ONE | {"http": {"port": 8080}}, environ, {"SERIAL_PTY_PATH": ["/tmp/x/line"]})
    (line,) = found.scenario.lines
    assert (line.baudrate, str(line.pty_path)) == (19200, "/tmp/x/line")
    assert found.scenario.http is not None
    assert found.scenario.http.port == 8081
    shown = rows_of(found)
    assert shown["line.pty_path"] == (line.pty_path, "command line --serial-pty-path")
    assert shown["line.baudrate"] == (19200, "environment SERIAL_BAUDRATE")
    assert shown["line.mode"] == ("pty", "default")
    assert shown["web.port"] == (8081, "environment WEB_PORT")
    assert shown["web.host"] == ("127.0.0.1", "default")
    assert rows_of(resolve(ONE, {}, {}))["bus.baudrate"] == (9600, "scenario file")


def test_every_setting_has_an_effect_on_the_only_line() -> None:
    texts = {
        "SERIAL_MODE": "tcp",
        "SERIAL_PTY_PATH": "/tmp/x/other",
        "SERIAL_TCP_HOST": "0.0.0.0",
        "SERIAL_TCP_PORT": "8024",
        "SERIAL_CLIENTS": "many",
        "SERIAL_BAUDRATE": "1200",
        "SERIAL_PACED": "yes",
        "SERIAL_RECONNECT_TIMEOUT": "0",
        "SERIAL_RECONNECT_BACKOFF": "250",
        "WEB_HOST": "127.0.0.2",
        "WEB_PORT": "8085",
    }
    assert set(texts) == {setting.variable for setting in SETTINGS}
    options = {name: [text] for name, text in texts.items()}
    for found in (
        resolve(ONE | {"http": {"port": 1}}, texts, {}),
        resolve(ONE | {"http": {"port": 1}}, {}, options),
    ):
        (line,) = found.scenario.lines
        assert line.model_dump(include={s.key for s in SETTINGS}) == {
            "mode": "tcp",
            "pty_path": Path("/tmp/x/other"),
            "tcp_host": "0.0.0.0",
            "tcp_port": 8024,
            "clients": "many",
            "baudrate": 1200,
            "paced": True,
            "reconnect_timeout_sec": 0.0,
            "reconnect_backoff_ms": 250,
        }
        assert found.scenario.http is not None
        assert (found.scenario.http.host, found.scenario.http.port) == ("127.0.0.2", 8085)


def test_of_several_lines_one_must_be_named() -> None:
    problems = problems_of(TWO, {"SERIAL_PTY_PATH": "/tmp/x/a"}, {"SERIAL_TCP_PORT": ["9000"]})
    assert problems == (
        "environment SERIAL_PTY_PATH: the scenario has 2 lines (bus, wallbox): say which, as in bus=/tmp/x/a",
        "command line --serial-tcp-port: the scenario has 2 lines (bus, wallbox): say which, as in bus=9000",
    )
    found = resolve(TWO, {"SERIAL_TCP_PORT": "wallbox=9000"}, {"SERIAL_PTY_PATH": ["bus=/tmp/x/a"]}).scenario
    assert (str(found.lines[0].pty_path), found.text_lines[0].tcp_port) == ("/tmp/x/a", 9000)
    both = resolve(TWO, {"SERIAL_PACED": "bus=true,wallbox=true"}, {}).scenario
    assert (both.lines[0].paced, both.text_lines[0].paced) == (True, True)


def test_a_web_port_makes_a_web_server() -> None:
    found = resolve(ONE, {}, {"WEB_PORT": ["8090"]}).scenario.http
    assert found is not None
    assert (found.host, found.port, found.motion) == ("127.0.0.1", 8090, ())
    assert resolve(ONE, {"WEB_HOST": "0.0.0.0"}, {}).scenario.http is None


def test_a_scenario_may_ignore_the_environment_but_not_the_command_line() -> None:
    found = resolve(
        ONE | {"ignore_environment": True},
        {"SERIAL_BAUDRATE": "1200", "SERIAL_MODE": "tcp", "WEB_PORT": "x"},
        {"SERIAL_PACED": ["true"]},
    ).scenario
    assert (found.lines[0].baudrate, found.lines[0].place_mode, found.lines[0].paced) == (9600, "pty", True)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SERIAL_TCP_PORT": "x"}, "environment SERIAL_TCP_PORT: must be 1..65535, not 'x'"),
        ({"SERIAL_PACED": "perhaps"}, "environment SERIAL_PACED: must be true|false, not 'perhaps'"),
        (
            {"SERIAL_TCP_PORT": "70000"},
            "environment SERIAL_TCP_PORT: scenario.lines[0].tcp_port: must be less than or equal to 65535, not 70000",
        ),
        (
            {"SERIAL_MODE": "carrier pigeon"},
            "environment SERIAL_MODE: scenario.lines[0].mode: must be one of 'pty', 'tcp', 'tcp_client', "
            'not "carrier pigeon"',
        ),
        (
            {"SERIAL_RECONNECT_TIMEOUT": "-1"},
            "environment SERIAL_RECONNECT_TIMEOUT: scenario.lines[0].reconnect_timeout_sec: must be greater than "
            "or equal to 0, not -1.0",
        ),
        (
            {"SERIAL_PTY_PATH": "here"},
            "environment SERIAL_PTY_PATH: scenario.lines[0].pty_path: must be an absolute path",
        ),
    ],
)
def test_a_wrong_value_is_told_with_where_it_came_from(environ: dict[str, str], problem: str) -> None:
    assert problems_of(ONE, environ, {}) == (problem,)


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(ONE | {"seed": "x"}, {"SERIAL_TCP_PORT": "x"}, {"WEB_PORT": ["y"]})
    assert [problem.split(":")[0] for problem in problems] == [
        "environment SERIAL_TCP_PORT",
        "command line --web-port",
        "scenario.seed",
    ]


@pytest.mark.parametrize("data", [None, 3, [], "x"])
def test_a_scenario_that_is_no_object_is_refused(data: object) -> None:
    (problem,) = problems_of(data, {"SERIAL_MODE": "tcp"}, {})
    assert problem.startswith("scenario: must be an object")


def test_what_nobody_said_is_a_default() -> None:
    assert Row("bus.baudrate", 9600, DEFAULT) in resolve(ONE, {}, {}, DEFAULT).rows


def test_the_page_has_every_setting() -> None:
    for setting in SETTINGS:
        assert f"`{setting.variable}`" in DOCS
        assert f"`{setting.option}`" in DOCS
