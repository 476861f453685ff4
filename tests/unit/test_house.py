"""The house rules that a linter does not know: names, sizes, docstrings, locks."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_ALLOWED = 350
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
LOCKS = ("requirements.lock", "requirements-dev.lock")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


OURS = [*python_files("sensor_hub", "services", "emulator", "shared"), ROOT / "mqtt_bridge.py"]
EVERYTHING = [*OURS, *python_files("tests", "actions", "bench")]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def trees(paths: list[Path]) -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M)}


def requirement_names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]) for requirement in requirements}


def test_the_house_is_found_where_it_is_looked_for() -> None:
    assert {"sensor_hub/errors.py", "shared/mqtt_client.py", "mqtt_bridge.py"} <= set(names(OURS))


def test_every_module_has_a_docstring() -> None:
    assert [name for name, tree in trees(OURS).items() if not ast.get_docstring(tree)] == []


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in names(OURS)}
    assert {name: length for name, length in lengths.items() if length > LINES_ALLOWED} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [
        path for path in names(EVERYTHING) if FORBIDDEN_NAMES & set(Path(path).with_suffix("").parts)
    ] == []


def test_shared_holds_nothing_but_the_mqtt_client() -> None:
    assert names(python_files("shared")) == ["shared/__init__.py", "shared/mqtt_client.py"]


def test_the_bundled_mqtt_client_needs_paho_and_the_standard_library_only() -> None:
    imported = set()
    for node in ast.walk(trees([ROOT / "shared/mqtt_client.py"])["shared/mqtt_client.py"]):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    import sys

    assert imported - sys.stdlib_module_names == {"paho"}


def test_at_most_one_broad_except_per_module() -> None:
    def broad(tree: ast.Module) -> int:
        handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
        return sum(
            1
            for handler in handlers
            if handler.type is None
            or (isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"})
        )

    assert {name: count for name, tree in trees(OURS).items() if (count := broad(tree)) > 1} == {}


def test_tests_wait_for_facts_and_never_sleep() -> None:
    asleep = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("tests")
        if path != ROOT / "tests/support.py" and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\btime\.sleep\b|\bfrom time import .*\bsleep\b", line)
    ]
    assert asleep == []


def test_every_test_checks_something() -> None:
    checks = re.compile(r"\bassert(_\w+)?\b|\braises\b|\beventually\(|\bwait_for\w*\(|\bwarns\b")
    silent = [
        f"{name}::{node.name}"
        for path in python_files("tests")
        for name, tree in trees([path]).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not checks.search(ast.unparse(node))
    ]
    assert silent == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_machine(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert (
        re.findall(r"^.*(?:https?:|file:|--index|--extra-index|--find-links|/home/|/root/).*$", text, re.M)
        == []
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.M)[1:]
    assert len(blocks) > 10
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_every_dependency_is_pinned() -> None:
    project = pyproject()
    runtime = requirement_names(project["project"]["dependencies"])
    build = requirement_names(project["build-system"]["requires"])
    dev = requirement_names(project["project"]["optional-dependencies"]["dev"])
    assert runtime | build <= pinned("requirements.lock").keys()
    assert runtime | build | dev <= pinned("requirements-dev.lock").keys()


def test_both_locks_pin_the_same_versions() -> None:
    dev = pinned("requirements-dev.lock")
    assert {name: dev.get(name) for name in pinned("requirements.lock")} == pinned("requirements.lock")


def test_the_build_backend_is_the_one_that_the_lock_pins() -> None:
    project = pyproject()
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]


def test_pre_commit_runs_what_make_check_runs() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck:")[1].split("\n\n")[0]
    commands = re.findall(r"^\t\$\(BIN\)/([\w-]+(?: check| format)?)", recipe, re.M)
    hooks = re.findall(
        r"entry: \.venv/bin/([\w-]+(?: check| format)?)",
        (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"),
    )
    assert commands == hooks
    assert len(commands) == 4
