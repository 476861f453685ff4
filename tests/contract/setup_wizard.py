"""A stand-in of the platform's wizard: forms, conditions, templates, tools in a process of their own, the file.

It has the real one's habits: a field that was left alone has its default or nothing; an undefined template is
an empty text; a required field is asked for even where it is hidden; what the instance step yields is
stored under `connection` and copied to the top level, and secrets become placeholders.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.setup_schema import SECRET_WORDS

ROOT = Path(__file__).parents[2]
TEMPLATE = re.compile(r"{{\s*([^}]+?)\s*}}")
INSTANCE_ID = re.compile(r"^[a-z0-9_-]+$")
Document = dict[str, Any]
Pick = Callable[[list[Any]], Any]


class WizardStop(Exception):
    """What the person at the wizard reads instead of the next step."""


def connector_folder(directory: Path) -> Path:
    """What the tools may look at in the platform's folder of us: setup.json, actions and the shipped register maps."""
    folder = directory / "connectors" / "sensor-hub"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "setup.json", folder)
    shutil.copytree(
        ROOT / "actions", folder / "actions", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        ROOT / "sensor_hub/register_maps", folder / "sensor_hub/register_maps", dirs_exist_ok=True
    )
    return folder


def call(folder: Path, entry: str, stdin: bytes, timeout_s: float = 30.0) -> Document:
    """Run a tool as the platform does (and without any package but Python's); its answer."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-B", entry],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env={},
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    answer = json.loads(done.stdout, parse_constant=_no_constant)
    assert isinstance(answer, dict)
    if answer.get("ok") is True:
        assert set(answer) == {"ok", "result"}
        assert isinstance(answer["result"], dict)
    else:
        assert answer["ok"] is False
        assert set(answer) == {"ok", "error"}
        assert set(answer["error"]) == {"code", "message", "retriable"}
        assert isinstance(answer["error"]["message"], str)
        assert isinstance(answer["error"]["retriable"], bool)
    return answer


def _no_constant(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


@dataclass
class Wizard:
    """One walk through one flow. `answers`: form step -> what is filled in; `picks`: select step -> the choice."""

    folder: Path
    answers: Mapping[str, Mapping[str, Any]]
    picks: Mapping[str, Pick] = field(default_factory=dict)
    form: Document = field(default_factory=dict)
    tools: Document = field(default_factory=dict)
    selection: Document = field(default_factory=dict)
    walked: list[str] = field(default_factory=list)
    payload: Document = field(default_factory=dict)

    def walk(self, flow_id: str) -> Document:
        """What is posted at the end. Raises WizardStop with what would be shown instead."""
        self.setup = json.loads((self.folder / "setup.json").read_text(encoding="utf-8"))
        flow = next(flow for flow in self.setup["flows"] if flow["id"] == flow_id)
        for step in flow["steps"]:
            if step["type"] == "form":  # the context has the defaults of forms not seen yet
                self.form[step["id"]] = _defaults(step)
        for step in flow["steps"]:
            if self._holds(step.get("conditions")):
                self.walked.append(step["id"])
                getattr(self, f"_{step['type']}")(step)
        unused = set(self.answers) - set(self.walked)
        assert not unused, f"these forms never appeared: {unused}"
        return self.payload

    def _form(self, step: Document) -> None:
        given = self.answers.get(step["id"], {})
        fields = {item["name"]: item for item in step["schema"]["fields"]}
        for name, value in given.items():
            self.form[step["id"]][name] = value
        for name, value in given.items():
            assert self._holds(fields[name].get("conditions")), f"{name} is not visible"
            _typed(fields[name], value)
        for name, item in fields.items():
            if item.get("required") and not given.get(name):
                raise WizardStop(f'Field "{item["label"]}" is required')

    def _tool(self, step: Document) -> None:
        tool = self.setup["tools"][step["tool"]]
        stdin = json.dumps({"tool": step["tool"], "input": self.rendered(step.get("input", {}))}).encode()
        answer = call(self.folder, tool["entry"], stdin, tool["timeout"])
        if not answer["ok"]:
            raise WizardStop(answer["error"]["message"])
        self.tools[str(step.get("output_key", step["tool"]))] = answer

    def _select(self, step: Document) -> None:
        items = self.rendered(step["items"])
        items = items if isinstance(items, list) else []
        values = [self.rendered(step.get("item_value", "{{ item }}"), item) for item in items]
        labels = [self.rendered(step.get("item_label", "{{ item }}"), item) for item in items]
        assert all(isinstance(label, str) and label for label in labels)
        pick = self.picks.get(step["id"])
        if pick is not None:
            self.selection[str(step.get("output_key", step["id"]))] = pick(values)

    def _summary(self, step: Document) -> None:
        for section in step["sections"]:
            assert self.rendered(section["value"]) not in ("", None), section

    def _message(self, step: Document) -> None:
        assert step["description"]

    def _instance(self, step: Document) -> None:
        made = self.rendered(step["instance"])
        instance_id = made["instance_id"].strip()
        if instance_id.lower() in ("", "auto"):
            instance_id = f"sensor-hub_{uuid.uuid4().hex[:6]}"
        assert INSTANCE_ID.match(instance_id)
        assert isinstance(made["update_interval"], int), "the platform takes whole seconds only"
        self.payload = {
            "instance_id": instance_id,
            "connector_type": made.get("connector_type", "sensor-hub"),
            "friendly_name": made.get("friendly_name", instance_id),
            "config": made.get("config", {}),
            "devices": made.get("devices", []),
            "enabled": True,
            "update_interval": made["update_interval"],
        }

    def _holds(self, conditions: Mapping[str, Any] | None) -> bool:
        return all(_same(self._at(path.split(".")), wanted) for path, wanted in (conditions or {}).items())

    def _at(self, path: list[str], item: Any = None) -> Any:
        pointer: Any = {"form": self.form, "tools": self.tools, "selection": self.selection, "item": item}
        for part in path:
            pointer = pointer.get(part) if isinstance(pointer, dict) else None
        return pointer

    def rendered(self, value: Any, item: Any = None) -> Any:
        """The value with its templates filled in."""
        if isinstance(value, dict):
            return {key: self.rendered(inner, item) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.rendered(inner, item) for inner in value]
        if not isinstance(value, str):
            return value
        whole = TEMPLATE.fullmatch(value)
        if whole:
            found = self._at(whole.group(1).split("."), item)
            return "" if found is None else found
        return TEMPLATE.sub(lambda match: _as_text(self._at(match.group(1).split("."), item)), value)


def _defaults(step: Document) -> Document:
    return {item["name"]: item["default"] for item in step["schema"]["fields"] if "default" in item}


def _same(actual: Any, wanted: Any) -> bool:
    return type(actual) is type(wanted) and actual == wanted


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def _typed(item: Document, value: Any) -> None:
    """Whether the field would take what the test fills in."""
    if item["type"] == "number":
        assert isinstance(value, int | float), item["name"]
        assert item.get("min", value) <= value <= item.get("max", value), item["name"]
    elif item["type"] == "checkbox":
        assert isinstance(value, bool), item["name"]
    else:
        assert isinstance(value, str), item["name"]
        assert item["type"] == "textarea" or "\n" not in value, item["name"]
        assert value in [option["value"] for option in item.get("options", [{"value": value}])], item["name"]
        assert re.search(item.get("pattern", ""), value), item["name"]


def instance_document(
    payload: Document, *, numbers_as_text: bool = False, secrets_in_lists: bool = True
) -> Document:
    """The instance file that the platform writes of what was posted."""
    config = _as_texts(payload["config"]) if numbers_as_text else payload["config"]
    document = {
        "instance_id": payload["instance_id"],
        "instance_type": "device",
        "connector_type": payload["connector_type"],
        "friendly_name": payload["friendly_name"],
        "connection": config,
        "devices": payload["devices"],
        "enabled": payload["enabled"],
        "update_interval": payload["update_interval"],
        "created_at": "2026-01-02T03:04:05.678901",
    }
    document |= {key: value for key, value in config.items() if key not in document}
    document["updated_at"] = document["created_at"]
    cleaned = _without_secrets(document, "", secrets_in_lists)
    assert isinstance(cleaned, dict)
    return json.loads(json.dumps(cleaned))  # type: ignore[no-any-return]


def _as_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_texts(inner) for inner in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _without_secrets(value: Any, path: str, in_lists: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: f"__SECRET__{path}{key}__"
            if any(word in key.lower() for word in SECRET_WORDS)
            else _without_secrets(inner, f"{path}{key}.", in_lists)
            for key, inner in value.items()
        }
    if isinstance(value, list) and in_lists:
        return [_without_secrets(inner, f"{path}{index}.", in_lists) for index, inner in enumerate(value)]
    return value


def write_instance(directory: Path, document: Document) -> Path:
    """Put the file where the hub looks for it; the folder for IOT2MQTT_PATH."""
    path = directory / "instances" / f"{document['instance_id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return directory
