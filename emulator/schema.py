"""The JSON schema of a scenario: `python -m emulator.schema` writes docs/emulator.schema.json anew."""

from __future__ import annotations

import json
from pathlib import Path

from emulator.scenario import Scenario

FILE = Path(__file__).resolve().parents[1] / "docs" / "emulator.schema.json"


def schema_text() -> str:
    """What stands in the file."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "made by python -m emulator.schema",
    }
    return json.dumps(head | Scenario.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
