"""The command line by itself: options, help, wording, what needs no running hub."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from sensor_hub import __version__, cli, config, launcher, ports, runtime
from sensor_hub.errors import Problem


def run(*arguments: str, **env: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "400", "TERM": "dumb", **env})
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def test_the_version_is_shown() -> None:
    assert run("--version") == (0, f"sensor-hub {__version__}\n")


def test_the_help_names_every_command_and_what_the_program_is() -> None:
    code, text = run("--help")
    assert code == 0
    assert "Sensor Hub: from serial lines and HTTP endpoints to MQTT." in text
    for command in ("run", "check-config", "health", "devices", "get", "cmd", "watch"):
        assert re.search(rf"^│ {command} ", text, re.M), command


@pytest.mark.parametrize("name", [variable.name for variable in config.SETTINGS])
def test_every_setting_is_an_option_of_run_with_what_it_takes_and_its_default(name: str) -> None:
    (variable,) = (variable for variable in config.SETTINGS if variable.name == name)
    _, text = run("run", "--help")
    (line,) = (line for line in text.splitlines() if f" {variable.option} " in line)
    assert f" {name} " in line
    assert f"({variable.takes}; default: {variable.default_shown or 'none'})" in line


def test_demo_has_its_help_and_no_opposite() -> None:
    _, text = run("run", "--help")
    assert re.search(r"--demo +<bool> +Embedded broker", text)
    assert "--no-demo" not in text


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("on=true", ("on", True)),
        ("setpoint=21.5", ("setpoint", 21.5)),
        ("mode=eco", ("mode", "eco")),
        ('mode="1"', ("mode", "1")),
        ("a=b=c", ("a", "b=c")),
        ("empty=", ("empty", "")),
        ("nothing=null", ("nothing", None)),
    ],
)
def test_key_value_is_json_or_else_the_text(text: str, pair: tuple[str, object]) -> None:
    assert cli._pair(text) == pair


@pytest.mark.parametrize("text", ["", "on", "=5"])
def test_what_is_no_key_value_is_a_usage_error(text: str) -> None:
    code, output = run("--instance", "nobody-runs-this", "cmd", "device", text)
    assert code == 2
    assert "is not KEY=VALUE" in output


@pytest.mark.parametrize("command", ["devices", "watch", "get x", "cmd x on=true"])
def test_a_hub_that_does_not_run_is_said_to(command: str) -> None:
    code, output = run("--instance", "nobody-runs-this", *command.split())
    assert (code, output) == (1, "sensor-hub: nobody-runs-this is not running\n")


@pytest.mark.parametrize(
    ("running", "text"),
    [
        ([], "INSTANCE_NAME or --instance; none runs here\n"),
        (["one", "two"], "INSTANCE_NAME or --instance (running: one, two)\n"),
    ],
)
def test_without_a_name_and_a_single_hub_one_is_asked_for(
    running: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "running_instances", lambda: running)
    code, output = run("health", INSTANCE_NAME="")
    assert (code, output) == (78, f"sensor-hub: say which instance: {text}")


def test_problems_are_counted_and_one_a_line() -> None:
    one = [Problem("a.b", "required")]
    assert launcher.problems_text(one) == "sensor-hub: 1 problem in the configuration:\n  a.b: required"
    assert launcher.problems_text(one * 2).startswith("sensor-hub: 2 problems in the configuration:\n")


def test_nothing_is_between_the_blocks_of_two_hubs() -> None:
    assert (ports.FIRST_PORT, ports.BLOCK_STEP) == (5001, 10)
