"""setup.json as section 5 of the contract describes it: a strict checker, and the wizard's habits as rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Kind = type | tuple[type, ...] | str
NUMBER = (int, float)

# key -> kind; a "!" after the key: required. A text as kind names a shape below, in [] for a list of it.
SHAPES: Mapping[str, Mapping[str, Kind]] = {
    "setup": {
        "version!": str,
        "display_name!": str,
        "description": str,
        "author": str,
        "branding": dict,
        "requirements": dict,
        "multi_device": "multi_device",
        "flows!": "[flow]",
        "tools": "{tool}",
        "secrets": list,
    },
    "multi_device": {"enabled!": bool, "loop_from_step!": str, "loop_to_step!": str},
    "flow": {
        "id!": str,
        "name!": str,
        "description": str,
        "default": bool,
        "prerequisites": list,
        "steps!": "[step]",
    },
    "step": {
        "id!": str,
        "type!": str,
        "title": str,
        "description": str,
        "schema": "form",
        "tool": str,
        "input": dict,
        "output_key": str,
        "items": str,
        "item_label": str,
        "item_value": (str, dict),
        "multi_select": bool,
        "sections": "[section]",
        "actions": "[action]",
        "auto_advance": bool,
        "optional": bool,
        "conditions": dict,
        "instance": "instance",
    },
    "section": {"label!": str, "value!": str},
    "action": {"type!": str, "label!": str, "flow": str, "url": str},
    "form": {"fields!": "[field]"},
    "field": {
        "type!": str,
        "name!": str,
        "label!": str,
        "description": str,
        "required": bool,
        "default": (str, int, float, bool),
        "placeholder": str,
        "options": "[option]",
        "pattern": str,
        "min": NUMBER,
        "max": NUMBER,
        "step": NUMBER,
        "multiline": bool,
        "secret": bool,
        "advanced": bool,
        "conditions": dict,
    },
    "option": {"value!": str, "label!": str},
    "tool": {
        "entry!": str,
        "timeout!": int,
        "network": str,
        "secrets": list,
        "environment": dict,
    },
    "instance": {
        "instance_id!": str,
        "friendly_name!": str,
        "connector_type!": str,
        "update_interval!": (str, int),
        "config!": dict,
        "devices": (str, list),
        "secrets": dict,
    },
}
WORDS = {
    ("step", "type"): {"form", "tool", "select", "summary", "discovery", "message", "instance", "oauth"},
    ("field", "type"): {"text", "password", "number", "select", "checkbox", "ip", "url", "email", "textarea"},
    ("tool", "network"): {"none", "local", "internet"},
    ("action", "type"): {"goto_flow", "open_url", "reset_flow", "rerun_step"},
}
NEEDED = {"form": "schema", "tool": "tool", "select": "items", "summary": "sections", "instance": "instance"}
TEMPLATE = re.compile(r"{{([^}]*)}}")
TEMPLATE_PATH = re.compile(r" [A-Za-z_]\w*(\.\w+)* ")
PROXY_TIMEOUT_S = 30  # the web interface waits no longer for a tool
SECRET_WORDS = ("password", "token", "secret", "credential", "api_key")


def problems_of(setup: Any) -> list[str]:
    """Everything in which a setup.json departs from the contract, each with its path."""
    shape_problems = list(_shape(setup, "setup", ""))
    return shape_problems or list(_references(setup))


def _shape(value: Any, shape: str, where: str) -> Iterator[str]:
    if shape[0] in "[{":
        container = list if shape[0] == "[" else dict
        if not isinstance(value, container) or not value:
            yield f"{where}: must be a {container.__name__} with something in it"
            return
        pairs = enumerate(value) if isinstance(value, list) else value.items()
        for key, item in pairs:
            yield from _shape(item, shape[1:-1], f"{where}[{key}]")
        return
    if not isinstance(value, dict):
        yield f"{where}: must be an object"
        return
    kinds = {key.rstrip("!"): kind for key, kind in SHAPES[shape].items()}
    for key in (key[:-1] for key in SHAPES[shape] if key.endswith("!")):
        if key not in value:
            yield f"{where}.{key}: required"
    for key, item in value.items():
        path = f"{where}.{key}"
        kind = kinds.get(key)
        if kind is None:
            yield f"{path}: unknown key"
        elif isinstance(kind, str):
            yield from _shape(item, kind, path)
        elif not isinstance(item, kind) or (isinstance(item, bool) and not _takes(kind, bool)):
            yield f"{path}: {item!r} is of the wrong kind"
        elif (shape, key) in WORDS and item not in WORDS[shape, key]:
            yield f"{path}: {item!r} is none of {sorted(WORDS[shape, key])}"


def _takes(kind: Any, wanted: type) -> bool:
    return wanted in (kind if isinstance(kind, tuple) else (kind,))


def _references(setup: dict[str, Any]) -> Iterator[str]:
    ids = [flow["id"] for flow in setup["flows"]]
    if len(set(ids)) != len(ids):
        yield "flows: an id stands twice"
    if sum(flow.get("default", False) for flow in setup["flows"]) != 1:
        yield "flows: exactly one must be the default"
    for name, tool in setup.get("tools", {}).items():
        if not 0 < tool["timeout"] < PROXY_TIMEOUT_S:
            yield f"tools[{name}].timeout: must be below {PROXY_TIMEOUT_S}"
    for flow in setup["flows"]:
        yield from _flow(flow, setup, set(ids))


def _flow(flow: dict[str, Any], setup: dict[str, Any], flow_ids: set[str]) -> Iterator[str]:
    where = f"flow {flow['id']}"
    step_ids = [step["id"] for step in flow["steps"]]
    if len(set(step_ids)) != len(step_ids):
        yield f"{where}: a step id stands twice"
    if [step["type"] for step in flow["steps"]].count("instance") != 1 or flow["steps"][-1][
        "type"
    ] != "instance":
        yield f"{where}: must end with its one instance step"
    known: set[str] = set()
    for step in flow["steps"]:
        place = f"{where}, step {step['id']}"
        if NEEDED.get(step["type"]) not in (None, *step):
            yield f"{place}: needs {NEEDED[step['type']]}"
        if step["type"] == "tool" and step.get("tool") not in setup.get("tools", {}):
            yield f"{place}: there is no tool {step.get('tool')!r}"
        kinds = [action["type"] for action in step.get("actions", [])]
        if len(set(kinds)) != len(kinds):
            yield f"{place}: two actions of one type"
        for action in step.get("actions", []):
            if action["type"] == "goto_flow" and action.get("flow") not in flow_ids - {flow["id"]}:
                yield f"{place}: there is no other flow {action.get('flow')!r}"
        fields = step.get("schema", {}).get("fields", [])
        own = {f"form.{step['id']}.{field['name']}" for field in fields}
        if len(own) != len(fields):
            yield f"{place}: a field name stands twice"
        yield from _fields(fields, own | known, place)
        known |= own | {f"form.{step['id']}"} if fields else set()
        yield from _templates(
            {key: step[key] for key in step if key != "schema"}, known, place, set(setup.get("tools", {}))
        )
        key = step.get("output_key", step.get("tool", step["id"]))
        if step["type"] == "tool":
            known.add(f"tools.{key}.result")
        elif step["type"] == "select":
            known.add(f"selection.{key}")


def _fields(fields: list[dict[str, Any]], known: set[str], place: str) -> Iterator[str]:
    for field in fields:
        where = f"{place}, field {field['name']}"
        for path in field.get("conditions", {}):
            if path not in known:
                yield f"{where}: its condition asks for {path}, which no form before it has"
        if (field["type"] == "select") != ("options" in field):
            yield f"{where}: options belong to a select, and a select needs them"
        if "options" in field:
            values = [option["value"] for option in field["options"]]
            if "" in values or len(set(values)) != len(values):
                yield f"{where}: option values must be there and differ"
            if field.get("default") not in (None, *values):
                yield f"{where}: the default is no option"
        if "pattern" in field:
            re.compile(field["pattern"])
        if field.get("required") and (
            {"default", "conditions", "advanced"} & set(field) or field["type"] in ("number", "checkbox")
        ):
            yield f"{where}: the wizard would refuse what is hidden, untouched or 0, so it cannot be required"
        if field["type"] in ("number", "checkbox", "select") and "default" not in field:
            yield f"{where}: without a default the wizard makes 0 or nothing of it"
        marked = field.get("secret", False) and field["type"] == "password"
        if any(word in field["name"] for word in SECRET_WORDS) != marked:
            yield f"{where}: a secret must be marked (and only a secret)"


def _templates(value: Any, known: set[str], place: str, tools: set[str]) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "conditions":
                for path in item:
                    if path not in known:
                        yield f"{place}: its condition asks for {path}, which no step before it has"
            else:
                yield from _templates(item, known, place, tools)
    elif isinstance(value, list):
        for item in value:
            yield from _templates(item, known, place, tools)
    elif isinstance(value, str):
        for inner in TEMPLATE.findall(value):
            path = inner.strip()
            if not TEMPLATE_PATH.fullmatch(inner):
                yield f"{place}: {inner!r} is no dotted path"
            elif path.split(".")[0] != "item" and not any(
                path == one or (path.startswith(f"{one}.") and one.split(".")[0] in ("tools", "selection"))
                for one in known
            ):
                yield f"{place}: {path} is not known before this step"
