"""Scenario file < environment < command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from emulator.hub_instance import hub_instance
from emulator.recording_scenarios import resolve_recorder
from emulator.scenario import ChargerMake, Ev, Http, Line, Scenario, ScenarioError, Text, line_ids
from emulator.settings import SCENARIO_FILE, SETTINGS, Resolved, resolve
from emulator.settings_shown import DEFAULT, Row

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
    assert shown["bus.pty_path"] == (line.pty_path, "command line --serial-pty-path")
    assert shown["bus.baudrate"] == (19200, "environment SERIAL_BAUDRATE")
    assert shown["bus.mode"] == ("pty", "default")
    assert shown["web.port"] == (8081, "environment WEB_PORT")
    assert shown["web.host"] == ("127.0.0.1", "default")
    assert rows_of(resolve(ONE, {}, {}))["bus.baudrate"] == (9600, "scenario file")


@pytest.mark.parametrize("http", [None, {"port": 1}, {"port": 1, "host": "127.0.0.9"}])
@pytest.mark.parametrize("level", ["environment", "command line"])
def test_every_setting_has_an_effect_on_the_only_line(http: object, level: str) -> None:
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
        "WEB_NAMES": "lab.example, emulator.example.org",
    }
    assert set(texts) == {setting.variable for setting in SETTINGS}
    environ = texts if level == "environment" else {}
    options = {name: [text] for name, text in texts.items()} if level == "command line" else {}
    found = resolve(ONE | {"http": http}, environ, options)
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
    assert found.scenario.http.names == ("lab.example", "emulator.example.org")
    shown = rows_of(found)
    for setting in SETTINGS:
        said = setting.variable if level == "environment" else setting.option
        name = f"{'web' if setting.of_web else 'bus'}.{setting.key}"
        assert shown[name][1] == f"{level} {said}"


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


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"SERIAL_PTY_PATH": ["wallbox=/tmp/x/new"]}, "/tmp/x/new"),
        ({"SERIAL_MODE": ["wallbox=tcp"], "SERIAL_TCP_PORT": ["wallbox=8023"]}, "socket://127.0.0.1:8023"),
    ],
)
def test_a_line_keeps_the_name_that_its_own_place_gives_it(options: dict[str, list[str]], where: str) -> None:
    texts = [
        {"pty_path": "/tmp/x/wallbox", "kind": "openevse"},
        {"pty_path": "/tmp/y/wallbox", "kind": "scale"},
    ]
    resolved = resolve({"text_lines": texts}, {}, options)
    assert line_ids(resolved.scenario) == ["wallbox", "wallbox-2"]
    assert {row.name.partition(".")[0] for row in resolved.rows if "." in row.name} == {
        "wallbox",
        "wallbox-2",
    }
    first, second = hub_instance(resolved.scenario)["config"]["transports"]
    assert (first["transport_id"], first["url"]) == ("wallbox", where)
    assert (second["transport_id"], second["url"]) == ("wallbox-2", "/tmp/y/wallbox")


def test_a_line_is_an_id_whatever_letters_its_place_has() -> None:
    data = {"lines": [{"pty_path": "/tmp/x/my Küche.pty", "units": []}]}
    assert line_ids(resolve(data, {}, {"SERIAL_PTY_PATH": ["/tmp/x/b"]}).scenario) == ["my_K_che"]


def test_a_line_without_a_place_of_its_own_is_named_after_the_one_it_is_given() -> None:
    data: dict[str, Any] = {"lines": [{"units": []}]}
    assert line_ids(resolve(data, {"SERIAL_TCP_PORT": "8024"}, {}).scenario) == ["tcp-8024"]
    assert line_ids(resolve(data, {}, {"SERIAL_PTY_PATH": ["/tmp/x/late"]}).scenario) == ["late"]


def test_a_mistake_anywhere_leaves_the_lines_their_names() -> None:
    texts = [
        {"pty_path": "/tmp/x/wallbox", "kind": "openevse"},
        {"tcp_port": 99999, "kind": "scale"},
        {"units": [], "kind": "scale"},
    ]
    problems = problems_of({"seed": "x", "text_lines": texts}, {}, {"SERIAL_PACED": ["true"]})
    assert problems[0].endswith(
        "has 3 lines (wallbox, tcp-99999, text_lines[2]): say which, as in wallbox=true"
    )
    options = {"SERIAL_PTY_PATH": ["wallbox=/tmp/x/a", "wallbox=here"]}
    problems = problems_of({"seed": "x", "text_lines": texts[:2]}, {}, options)
    assert [problem.rpartition("scenario.")[2].split(":")[0] for problem in problems] == [
        "text_lines[0].pty_path",
        "seed",
        "text_lines[1].tcp_port",
    ]


def test_a_web_port_makes_a_web_server() -> None:
    found = resolve(ONE, {}, {"WEB_PORT": ["8090"]}).scenario.http
    assert found is not None
    assert (found.host, found.port, found.motion) == ("127.0.0.1", 8090, ())


@pytest.mark.parametrize("given", ["environment", "command line"])
@pytest.mark.parametrize("port_given", ["environment", "command line"])
def test_a_web_host_counts_wherever_the_port_that_makes_the_server_is_said(
    given: str, port_given: str
) -> None:
    environ: dict[str, str] = {}
    options: dict[str, list[str]] = {}
    for name, text, level in (("WEB_HOST", "0.0.0.0", given), ("WEB_PORT", "8090", port_given)):
        if level == "environment":
            environ[name] = text
        else:
            options[name] = [text]
    shown = rows_of(resolve(ONE, environ, options))
    assert shown["web.host"][0] == "0.0.0.0"
    assert shown["web.port"][0] == 8090
    assert [shown[f"web.{key}"][1].split(" W")[0].split(" --")[0] for key in ("host", "port")] == [
        given,
        port_given,
    ]


def test_the_address_of_a_web_server_that_a_port_makes_is_a_default() -> None:
    assert rows_of(resolve(ONE, {"WEB_PORT": "8090"}, {}))["web.host"] == ("127.0.0.1", DEFAULT)


def test_a_web_host_without_a_port_is_a_problem_that_says_what_is_missing() -> None:
    missing = "there is no web server without a port (WEB_PORT, --web-port)"
    assert problems_of(ONE, {"WEB_HOST": "0.0.0.0"}, {}) == (f"environment WEB_HOST: {missing}",)
    assert problems_of(ONE, {}, {"WEB_HOST": ["0.0.0.0"]}) == (f"command line --web-host: {missing}",)
    assert problems_of(ONE, {"WEB_HOST": "0.0.0.0", "WEB_PORT": "x"}, {}) == (
        "environment WEB_PORT: must be 1..65535, not 'x'",
    )
    assert resolve(ONE | {"ignore_environment": True}, {"WEB_HOST": "0.0.0.0"}, {}).scenario.http is None


# -- --show-config -------------------------------------------------------------------------------------------------


def leaves(model: type[BaseModel], *but: str) -> set[str]:
    return set(model.model_fields) - set(but)


def test_every_key_of_a_scenario_is_shown() -> None:
    charger = {"line_id": "ev", "kind": "openevse", "mode": "tcp_client", "tcp_port": 5}
    replay = {"line_id": "again", "kind": "replay", "tcp_port": 7, "recording": "r.jsonl"}
    fault = {"kind": "silence", "count": 3}
    bus = {"line_id": "bus", "pty_path": "/tmp/x/bus", "faults": [fault], "units": [UNIT]}
    web = {"port": 8080, "faults": [{"kind": "reset"}]}
    rows = resolve({"lines": [bus], "text_lines": [charger, replay], "http": web}, {}, {}).rows
    names = {row.name for row in rows}
    shown = {name.partition("[")[0].rpartition(".")[2] for name in names}
    assert leaves(Scenario, "lines", "text_lines", "http") <= shown
    assert leaves(Line, "line_id") | leaves(Text, "line_id", "charger") <= shown
    assert {f"ev.charger.{key}" for key in leaves(ChargerMake, "ev")} <= names
    assert {f"ev.charger.ev.{key}" for key in leaves(Ev)} <= names
    assert {f"web.{key}" for key in leaves(Http, "faults")} <= names
    assert len(names) == len(rows)


UNIT = {"unit_id": 3, "sensor_id": "meter", "kind": "registers", "input": {"0": [1, 2]}}


def test_what_the_scenario_says_and_what_it_leaves_open_have_different_origins() -> None:
    line = {"pty_path": "/tmp/x/bus", "parity": "E", "error_rate": 0.1, "baudrate": None, "units": [UNIT]}
    charger = {"amps": 16, "round_s": None, "ev": {"soc": 79}}
    text = {"line_id": "ev", "tcp_port": 5, "kind": "openevse", "charger": charger}
    faults = [{"kind": "reset", "count": 2}]
    web = {"port": 1, "error_rate": 0.5, "motion": ["door"], "faults": faults}
    shown = rows_of(resolve({"seed": None, "lines": [line], "text_lines": [text], "http": web}, {}, {}))
    said, left = SCENARIO_FILE, DEFAULT
    assert {name: shown[name] for name in shown if not name.startswith("ev.charger.ev.")} | {
        "ev.charger.ev.soc": shown["ev.charger.ev.soc"],
        "ev.charger.ev.plugged": shown["ev.charger.ev.plugged"],
    } == {
        "instance_id": ("emulator", left),
        "seed": (None, said),
        "timezone": ("UTC", left),
        "ignore_environment": (False, left),
        "bus.mode": ("pty", left),
        "bus.pty_path": (Path("/tmp/x/bus"), said),
        "bus.baudrate": (19200, left),
        "bus.parity": ("E", said),
        "bus.stopbits": (1, left),
        "bus.paced": (False, left),
        "bus.error_rate": (0.1, said),
        "bus.units[meter]": ({"unit_id": 3, "kind": "registers", "input": {"0": [1, 2]}}, said),
        "ev.kind": ("openevse", said),
        "ev.sensor_id": ("ev", left),
        "ev.mode": ("tcp", left),
        "ev.tcp_host": ("127.0.0.1", left),
        "ev.tcp_port": (5, said),
        "ev.clients": ("one", left),
        "ev.baudrate": (115200, left),
        "ev.parity": ("N", left),
        "ev.stopbits": (1, left),
        "ev.paced": (False, left),
        "ev.error_rate": (0.0, left),
        "ev.charger.firmware_version": ("8.2.1", left),
        "ev.charger.protocol_version": ("5.2.1", left),
        "ev.charger.serial": ("OpenEVSE03AB12CD", left),
        "ev.charger.amps": (16, said),
        "ev.charger.service_level": ("A", left),
        "ev.charger.round_s": (None, said),
        "ev.charger.ev.soc": (79.0, said),
        "ev.charger.ev.plugged": (False, left),
        "web.host": ("127.0.0.1", left),
        "web.port": (1, said),
        "web.names": ((), left),
        "web.error_rate": (0.5, said),
        "web.motion": (("door",), said),
        "web.faults[0]": ({"kind": "reset", "count": 2}, said),
    }


@pytest.mark.parametrize(
    ("kind", "charger", "shown"),
    [
        ("openevse", None, (16, "5.2.1")),
        ("openevse", {"amps": None}, (16, "5.2.1")),
        ("openevse_emulator", {}, (32, "5.0.1")),
    ],
)
def test_of_a_charger_the_numbers_of_its_dialect_are_shown(
    kind: str, charger: dict[str, Any] | None, shown: tuple[int, str]
) -> None:
    text = {"line_id": "ev", "tcp_port": 5, "kind": kind, "charger": charger}
    rows = rows_of(resolve({"text_lines": [text]}, {}, {}))
    found = rows["ev.charger.amps"], rows["ev.charger.protocol_version"]
    assert found == tuple((value, DEFAULT) for value in shown)


def test_a_place_that_the_mode_does_not_use_is_shown_as_unused_and_remarked() -> None:
    found = resolve(ONE, {"SERIAL_CLIENTS": "many"}, {"SERIAL_TCP_PORT": ["8024"]})
    assert found.scenario.lines[0].place_mode == "pty"
    texts = {row.texts[0]: row.texts[1:] for row in found.rows}
    assert texts["bus.tcp_port"] == ("8024", "command line --serial-tcp-port, not used in mode pty")
    assert texts["bus.clients"] == ("many", "environment SERIAL_CLIENTS, not used in mode pty")
    assert found.remarks == [
        "command line --serial-tcp-port: bus.tcp_port is not used in mode pty (SERIAL_MODE, --serial-mode)",
        "environment SERIAL_CLIENTS: bus.clients is not used in mode pty (SERIAL_MODE, --serial-mode)",
    ]


def test_what_the_scenario_keeps_for_another_mode_is_shown_but_nothing_to_remark() -> None:
    both = {"lines": [{"line_id": "b", "pty_path": "/tmp/x/b", "tcp_port": 9, "mode": "tcp", "units": []}]}
    found = resolve(both, {}, {})
    texts = {row.texts[0]: row.texts[1:] for row in found.rows}
    assert texts["b.pty_path"] == ("/tmp/x/b", "scenario file, not used in mode tcp")
    assert "b.reconnect_timeout_sec" not in texts
    assert found.remarks == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (0.5, "0.5"),
        (Path("/tmp/x"), "/tmp/x"),
        (("door", "yard"), '["door", "yard"]'),
        ({"a": ["x" * 300]}, f'{{"a": ["{"x" * 192}… (311 characters)'),
    ],
)
def test_a_value_is_shown_as_in_a_scenario_and_a_long_one_is_cut(value: object, text: str) -> None:
    assert Row("x", value, DEFAULT).texts == ("x", text, DEFAULT)


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


@pytest.mark.parametrize(
    ("data", "environ", "options", "problem"),
    [
        (
            TWO,
            {"SERIAL_BAUDRATE": "bus=7"},
            {"SERIAL_BAUDRATE": ["bus=9600"]},
            "environment SERIAL_BAUDRATE: scenario.lines[0].baudrate: must be greater than or equal to 50, not 7",
        ),
        (
            TWO,
            {},
            {"SERIAL_BAUDRATE": ["bus=7", "bus=9600"]},
            "command line --serial-baudrate: scenario.lines[0].baudrate: must be greater than or equal to 50, not 7",
        ),
        (
            ONE,
            {"WEB_PORT": "99999"},
            {"WEB_PORT": ["8080"]},
            "environment WEB_PORT: scenario.http.port: must be less than or equal to 65535, not 99999",
        ),
        (ONE, {"WEB_PORT": "x"}, {"WEB_PORT": ["8080"]}, "environment WEB_PORT: must be 1..65535, not 'x'"),
        (
            ONE | {"http": {"port": 99999}},
            {"WEB_PORT": "8080"},
            {},
            "scenario.http.port: must be less than or equal to 65535, not 99999",
        ),
        (
            {"text_lines": [{"tcp_port": 99999, "kind": "scale"}]},
            {"SERIAL_TCP_PORT": "8024"},
            {"SERIAL_TCP_PORT": ["8025"]},
            "scenario.text_lines[0].tcp_port: must be less than or equal to 65535, not 99999",
        ),
        (
            {"lines": [{"pty_path": "here", "units": []}]},
            {},
            {"SERIAL_PTY_PATH": ["/tmp/x/there"]},
            "scenario.lines[0].pty_path: must be an absolute path",
        ),
        (
            ONE | {"http": {"port": 8080, "names": "lab.example"}},
            {},
            {"WEB_NAMES": ["lab.example"]},
            'scenario.http.names: must be a list, not "lab.example"',
        ),
        (
            ONE,
            {"WEB_PORT": "8080", "WEB_NAMES": "lab.example,lab.example:80"},
            {"WEB_NAMES": ["lab.example"]},
            "environment WEB_NAMES: scenario.http.names[1]: must match ",
        ),
    ],
)
def test_a_bad_value_is_a_problem_even_where_another_one_counts(
    data: object, environ: dict[str, str], options: dict[str, list[str]], problem: str
) -> None:
    (told,) = problems_of(data, environ, options)
    assert told.startswith(problem)


def test_two_bad_values_of_one_key_are_two_problems() -> None:
    data = {"lines": [{"tcp_port": 99999, "units": []}], "http": {"port": 0}}
    problems = problems_of(data, {"SERIAL_TCP_PORT": "70000", "WEB_PORT": "x"}, {"SERIAL_TCP_PORT": ["0"]})
    assert sorted(problem.partition(": must")[0] for problem in problems) == [
        "command line --serial-tcp-port: scenario.lines[0].tcp_port",
        "environment SERIAL_TCP_PORT: scenario.lines[0].tcp_port",
        "environment WEB_PORT",
        "scenario.http.port",
        "scenario.lines[0].tcp_port",
    ]


def test_what_follows_from_a_problem_is_not_told_as_another_one() -> None:
    (told,) = problems_of(ONE, {"SERIAL_MODE": "tcp", "SERIAL_TCP_PORT": "70000"}, {})
    assert told.startswith("environment SERIAL_TCP_PORT: scenario.lines[0].tcp_port: must be less")


def test_a_scenario_need_not_be_complete_before_the_options_are_there() -> None:
    data = {"lines": [{"mode": "tcp", "units": []}], "http": {}}
    found = resolve(data, {"SERIAL_TCP_PORT": "8024"}, {"WEB_PORT": ["8080"]}).scenario
    assert found.http is not None
    assert (found.lines[0].tcp_port, found.http.port) == (8024, 8080)


def test_two_with_one_port_can_be_parted_by_an_option() -> None:
    data = {"lines": [{"tcp_port": 8024, "units": []}], "http": {"port": 8024}}
    assert resolve(data, {}, {"WEB_PORT": ["8080"]}).scenario.lines[0].tcp_port == 8024


# -- a recorder ----------------------------------------------------------------------------------------------------


def test_a_recorder_leaves_web_settings_of_the_environment_and_says_so() -> None:
    tap = {"lines": [{"line_id": "tap", "pty_path": "/tmp/x/tap", "units": []}]}
    environ = {"WEB_HOST": "0.0.0.0", "WEB_PORT": "x", "WEB_NAMES": "", "SERIAL_PACED": "true"}
    found = resolve_recorder(tap, environ, {"SERIAL_RECONNECT_TIMEOUT": ["5"]})
    assert found.scenario.http is None
    texts = {row.texts[0]: row.texts[1:] for row in found.rows}
    assert texts["web.port"] == ("x", "environment WEB_PORT, not used by --record")
    assert texts["tap.paced"] == ("true", "environment SERIAL_PACED, not used by --record")
    assert texts["tap.reconnect_timeout_sec"] == ("5.0", "command line --serial-reconnect-timeout")
    assert not {"tap.error_rate", "web.names"} & set(texts)
    assert found.remarks == [
        "environment SERIAL_PACED: tap.paced is not used by --record",
        "environment WEB_HOST: web.host is not used by --record",
        "environment WEB_PORT: web.port is not used by --record",
    ]


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
