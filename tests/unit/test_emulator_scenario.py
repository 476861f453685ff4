"""The scenario file: what is accepted, and what is said about the rest."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import emulator
from emulator.scenario import Http, Line, Scenario, ScenarioError, Unit, load, parse

GOOD: dict[str, Any] = {
    "instance_id": "x",
    "seed": None,
    "timezone": "UTC",
    "lines": [
        {
            "pty_path": "/tmp/x/emulator-0.pty",
            "baudrate": 19200,
            "error_rate": 0.05,
            "units": [{"unit_id": 1, "sensor_id": "temp", "kind": "temperature"}],
        }
    ],
    "http": {"host": "127.0.0.1", "port": 5004, "error_rate": 0.03, "motion": ["motion"]},
}


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    change(data)
    return data


def test_a_whole_scenario_is_understood() -> None:
    unit = Unit(1, "temp", "temperature")
    assert parse(GOOD) == Scenario(
        instance_id="x",
        seed=None,
        timezone=ZoneInfo("UTC"),
        lines=(Line(Path("/tmp/x/emulator-0.pty"), 19200, 0.05, (unit,)),),
        http=Http("127.0.0.1", 5004, 0.03, ("motion",)),
    )


def test_no_lines_and_no_http_are_fine() -> None:
    found = parse(GOOD | {"lines": [], "http": None, "seed": 3})
    assert (found.lines, found.http, found.seed) == ((), None, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(seed=True), "scenario.seed: must be null or an integer, not true"),
        (lambda d: d.update(timezone="Mars/Base"), 'scenario.timezone: must be the name of a time zone'),
        (lambda d: d.update(extra=1), "scenario.extra: unknown key"),
        (lambda d: d.pop("http"), "scenario.http: required"),
        (lambda d: d["lines"][0].update(error_rate=1.5), "scenario.lines[0].error_rate: must be 0..1"),
        (lambda d: d["lines"][0].update(pty_path="a"), "scenario.lines[0].pty_path: must be an absolute"),
        (lambda d: d["lines"][0]["units"][0].update(unit_id=0),
         "scenario.lines[0].units[0].unit_id: must"),
        (lambda d: d["lines"][0]["units"].append(GOOD["lines"][0]["units"][0] | {"sensor_id": "b"}),
         "scenario.lines[0].units: unit_id 1 is there twice"),
        (lambda d: d["http"]["motion"].append("temp"), "scenario.http.motion[1]: temp is there twice"),
        (lambda d: d["http"].update(port=70000), "scenario.http.port: must be 1..65535, not 70000"),
        (lambda d: d["lines"].append(d["lines"][0] | {"units": []}),
         "scenario.lines: pty_path /tmp/x/emulator-0.pty is there twice"),
        (lambda d: d.update(lines=[3]), "scenario.lines[0]: must be an object"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(changed(change))
    assert any(found.startswith(problem) for found in caught.value.problems), caught.value.problems


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse({"seed": "a", "lines": {}, "http": 5})
    paths = {problem.split(":")[0] for problem in caught.value.problems}
    assert paths == {f"scenario.{key}" for key in ("instance_id", "timezone", "seed", "lines", "http")}


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("{")
    with pytest.raises(ScenarioError, match="s.json: not JSON"):
        load(path)
    with pytest.raises(ScenarioError, match="gone.json: No such file"):
        load(tmp_path / "gone.json")
    path.write_text(json.dumps(GOOD))
    assert load(path) == parse(GOOD)


def test_the_emulator_imports_nothing_of_the_hub() -> None:
    for path in Path(emulator.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [
                name for name in names if name.split(".")[0] in ("sensor_hub", "shared", "services")
            ], path
