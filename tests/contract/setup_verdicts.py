"""The verdicts of validate_setup and of the hub on the same `transports` and `sensors`."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sensor_hub import config
from sensor_hub.drivers import check_options
from tests.contract.setup_wizard import ROOT

Document = dict[str, Any]


@contextmanager
def modules_of_the_tools() -> Iterator[Any]:
    """A function that imports one, as it is when the tool runs."""
    names = {path.stem for path in (ROOT / "actions").glob("*.py")}
    assert not names & set(sys.modules)
    sys.path.insert(0, str(ROOT / "actions"))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(ROOT / "actions"))
        for name in names & set(sys.modules):
            del sys.modules[name]


def tools_verdict(actions: Any, document: Document) -> tuple[str, Document]:
    """What validate_setup says (empty when all is well) and the lists it makes."""
    validate_setup, answering = actions("validate_setup"), actions("answering")
    try:
        result = validate_setup.validate(document, answering.Job(10))
    except answering.ToolError as error:
        return str(error), {}
    return "", {key: result[key] for key in ("transports", "sensors")}


def hubs_problems(document: Document, directory: Path) -> list[str]:
    """What the hub says of an instance with these lists."""
    file = directory / "instances" / "hub.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(json.dumps({"instance_id": "hub", "config": document}).encode())
    report = config.read(
        {"INSTANCE_NAME": "hub"}, root=directory, check_options=check_options, secrets_dir=directory
    )
    return [str(problem) for problem in report.problems]
