"""Check a setup and build the lists that the instance is made of; every problem is told at once.

Input, from the wizard's forms: `kind` (a key of KINDS), `hub`, `sensor`, for all but emulated and http `line`, and
after a search `port` and `units` or `found`; `password` and `token` may stand beside the form they belong to.
Or lists as an instance file has them: `sensors`, `transports`, `hub`.
Result: instance_id, friendly_name, update_interval, cache_ttl, poll_interval, transports, sensors,
sensors_count, message.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import checks
import forms
import forms_serial
import line_budget
import rules
from answering import Job, Json, ToolError, run, shown
from checks import Entry, Problems

BUDGET_S = 3.0
SETUP = Path(__file__).resolve().parent.parent / "setup.json"
KINDS = {
    "emulated": forms.emulated,
    "modbus": forms.modbus,
    "http": forms.http,
    "charger": forms_serial.charger,
    "text": forms_serial.text,
}
DEFAULTS = {"update_interval": 10, "cache_ttl": 10, "poll_interval": 5}


def validate(given: dict[str, Json], _job: Job) -> dict[str, Json]:
    """The result for an input. Raises ToolError with all problems."""
    problems = Problems()
    hub = _hub(given.get("hub"), problems)
    draft = _draft(given, problems)
    places = [f"transports[{index}]" for index in range(len(draft.transports))]
    if "kind" in given:
        places = ["the line"] * len(draft.transports)
    transports = rules.check_transports(draft.transports, places, problems)
    sensors = rules.check_sensors(draft.sensors, draft.places, transports, sensor_types(), problems)
    if not problems:
        line_budget.check(transports, places, sensors, problems)
    if not sensors:
        problems.add("sensors", "at least one sensor is required")
    problems.raise_if_any()
    return {**hub, "transports": transports, "sensors": sensors, **_told(sensors)}


@functools.cache
def sensor_types() -> Sequence[str]:
    """The types that setup.json offers."""
    try:
        setup = json.loads(SETUP.read_text(encoding="utf-8"))
        found = [
            option["value"]
            for flow in setup["flows"]
            for step in flow["steps"]
            for form_field in step.get("schema", {}).get("fields", [])
            if form_field["name"] == "sensor_type"
            for option in form_field["options"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    if not found:
        raise ToolError(
            "internal_error", "the connector's setup.json cannot be read, or names no sensor types"
        )
    return list(dict.fromkeys(found))


def _hub(given: Json, problems: Problems) -> dict[str, Json]:
    entry = Entry({} if checks.blank(given) else given, "hub", problems)
    automatic = str(entry.pop("instance_id") or "").strip() or "auto"
    if automatic.lower() != "auto":
        try:
            automatic = checks.instance_id(automatic)
        except checks.WrongError as error:
            entry.fail("instance_id", str(error))
    name = entry.take("friendly_name", checks.text) or "Sensor Hub"
    # The platform takes whole seconds only.
    entry.take("update_interval", checks.integer(1, 86400))
    entry.take("cache_ttl", checks.number(0, 3600))
    entry.take("poll_interval", checks.number(0.2, 3600))
    entry.refuse_rest()
    return {**DEFAULTS, **entry.kept, "instance_id": automatic, "friendly_name": name}


def _draft(given: dict[str, Json], problems: Problems) -> forms.Draft:
    kind = given.get("kind")
    if "kind" in given:
        if not isinstance(kind, str) or kind not in KINDS:
            raise ToolError("invalid_input", f"kind must be one of {', '.join(KINDS)}, not {shown(kind)}")
        for key in ("sensor", "line"):
            if not checks.blank(given.get(key)) and not isinstance(given[key], dict):
                problems.add(key, f"must be an object, not {shown(given[key])}")
        return KINDS[kind](given, problems)
    if "sensors" not in given:
        raise ToolError("invalid_input", "the input needs a kind with its forms, or sensors")
    sensors = rules.items(given["sensors"], "sensors", problems)
    transports = rules.items(given.get("transports"), "transports", problems)
    return forms.Draft(transports, sensors, [f"sensors[{index}]" for index in range(len(sensors))])


def _told(sensors: Sequence[dict[str, Json]]) -> dict[str, Json]:
    names = ", ".join(f"{sensor['sensor_id']} ({sensor['sensor_type']})" for sensor in sensors[:8])
    more = f" and {len(sensors) - 8} more" if len(sensors) > 8 else ""
    count = f"{len(sensors)} sensor{'' if len(sensors) == 1 else 's'}"
    return {"sensors_count": len(sensors), "message": f"{count}: {names}{more}"}


if __name__ == "__main__":
    run("validate_setup", validate, BUDGET_S)
