"""setup.json, manifest.json and icon.svg: the contract's form, and what they must keep up with."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from sensor_hub import __version__
from sensor_hub.drivers import DRIVERS, modbus_codec, register_maps
from sensor_hub.sensor_types import SENSOR_TYPES
from tests.contract.setup_schema import problems_of
from tests.contract.setup_wizard import ROOT, Document

SETUP = json.loads((ROOT / "setup.json").read_text(encoding="utf-8"))
MANIFEST = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
LABELS = {
    name: f"{name.capitalize()} ({kind.unit})" if kind.unit else name.capitalize()
    for name, kind in SENSOR_TYPES.items()
}


def test_setup_json_is_as_the_contract_says() -> None:
    assert problems_of(SETUP) == []


def mutated(change: Callable[[Any], object]) -> list[str]:
    setup = copy.deepcopy(SETUP)
    change(setup)
    return problems_of(setup)


def _modbus(setup: Document) -> Document:
    return next(flow for flow in setup["flows"] if flow["id"] == "modbus_manual")


def _fields(setup: Document) -> list[Document]:
    return next(step for step in _modbus(setup)["steps"] if step["id"] == "sensor")["schema"]["fields"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("display_name"),
        lambda s: s.update(surprise=1),
        lambda s: s.update(multi_device={"enabled": True}),
        lambda s: s["tools"]["discover"].update(timeout=31),
        lambda s: s["tools"]["discover"].update(network="world"),
        lambda s: s["flows"][1].update(default=True),
        lambda s: s["flows"][1].update(id="emulated"),
        lambda s: _modbus(s)["steps"].pop(),
        lambda s: _modbus(s)["steps"][0].update(type="wish"),
        lambda s: _modbus(s)["steps"][0].update(conditions={"form.later.x": 1}),
        lambda s: _fields(s)[0].update(type="slider"),
        lambda s: _fields(s)[0].update(default="x"),
        lambda s: _fields(s)[0].update(conditions={"form.sensor.nowhere": True}),
        lambda s: _fields(s)[0].update(name="api_token"),
        lambda s: _fields(s)[1].pop("options"),
        lambda s: _fields(s)[1]["options"].append({"value": "", "label": "none"}),
        lambda s: _fields(s)[1].pop("default"),
        lambda s: _modbus(s)["steps"][-1]["instance"].update(friendly_name="{{ form.hub.surname }}"),
        lambda s: _modbus(s)["steps"][-1]["instance"].update(friendly_name="{{ form.hub | length }}"),
        lambda s: _modbus(s)["steps"][-1]["instance"].pop("config"),
    ],
)
def test_the_checker_notices_a_departure_from_the_contract(change: Callable[[Any], object]) -> None:
    assert mutated(change) != []


def test_the_wizards_loop_over_devices_is_left_alone() -> None:
    assert "multi_device" not in SETUP


def test_every_tool_is_there_and_ends_before_the_platform_loses_patience() -> None:
    budgets = {}
    for name, tool in SETUP["tools"].items():
        source = (ROOT / tool["entry"]).read_text(encoding="utf-8")
        found = re.search(r"^BUDGET_S = ([0-9.]+)$", source, re.M)
        assert found, name
        assert f'run("{name}"' in source
        budgets[name] = float(found.group(1)), tool["timeout"]
    assert set(budgets) == {"validate_setup", "discover", "test_sensor"}
    assert all(budget_s + 4 <= timeout_s for budget_s, timeout_s in budgets.values()), budgets


def test_a_result_with_a_password_in_it_is_not_shown() -> None:
    for flow in SETUP["flows"]:
        fields = [item for step in flow["steps"] for item in step.get("schema", {}).get("fields", [])]
        plan = next(step for step in flow["steps"] if step.get("output_key") == "plan")
        assert plan.get("auto_advance", False) == any(item["type"] == "password" for item in fields)


def test_every_sensor_type_can_be_chosen() -> None:
    missing = [
        f"in flow {flow['id']}, step {step['id']}, options of sensor_type, add:\n"
        + json.dumps({"value": name, "label": LABELS[name]}, ensure_ascii=False)
        for flow in SETUP["flows"]
        for step in flow["steps"]
        for item in step.get("schema", {}).get("fields", [])
        if item["name"] == "sensor_type"
        for name in SENSOR_TYPES
        if name not in [option["value"] for option in item["options"]]
    ]
    assert not missing, "\n".join(missing)


def test_no_sensor_type_is_offered_that_the_hub_does_not_know() -> None:
    assert set(offered("sensor_type")) == set(SENSOR_TYPES)


def test_every_driver_has_a_flow() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "actions").glob("forms*.py"))
    assert set(offered("driver")) == {"modbus_rtu", "modbus_tcp"}
    others = set(DRIVERS) - set(offered("driver")) - {"http_json"}  # HTTP sensors have urls of their own
    assert {driver for driver in others if f'"driver": "{driver}"' not in sources} == set()
    kinds = {step["input"].get("kind") for step in steps("tool") if step["tool"] == "validate_setup"}
    assert kinds == {"emulated", "modbus", "charger", "text", "http"}


def test_every_shipped_register_map_can_be_chosen() -> None:
    wanted = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["description"].partition(";")[0]
        for path in sorted(register_maps.SHIPPED.glob("*.json"))
    }
    assert "own" not in wanted, "this word stands for the user's own map"
    missing = [
        f"in flow {flow}, options of register_map, add:\n"
        + json.dumps({"value": name, "label": label}, ensure_ascii=False)
        for flow, item in fields("register_map")
        for name, label in wanted.items()
        if {"value": name, "label": label} not in item["options"]
    ]
    assert not missing, "\n".join(missing)
    assert set(offered("register_map")) == {*wanted, "own"}
    assert [flow for flow, _ in fields("register_map")] == ["modbus_manual", "modbus_scan"]


def steps(kind: str) -> list[Document]:
    return [step for flow in SETUP["flows"] for step in flow["steps"] if step["type"] == kind]


def fields(name: str) -> Iterator[tuple[str, Document]]:
    """The fields of that name, each with its flow."""
    for flow in SETUP["flows"]:
        for step in flow["steps"]:
            for item in step.get("schema", {}).get("fields", []):
                if item["name"] == name:
                    yield flow["id"], item


def offered(name: str) -> list[str]:
    return [option["value"] for _, item in fields(name) for option in item["options"]]


def test_the_number_types_to_choose_from_are_the_hubs() -> None:
    assert set(offered("data_type")) == set(get_args(modbus_codec.DataType))


def test_the_hub_asks_for_the_hosts_network() -> None:
    assert SETUP["requirements"]["network"] == "host"


def test_every_file_of_the_catalogue_has_the_same_version_and_name() -> None:
    assert SETUP["version"] == MANIFEST["version"] == __version__
    assert SETUP["display_name"] == MANIFEST["name"]
    assert MANIFEST["domain"] == "sensor-hub"


def test_the_manifest_has_the_contracts_keys() -> None:
    assert set(MANIFEST) == {
        *("domain", "name", "version", "author", "documentation", "description", "type", "iot_class"),
        *("integration_type", "supported_brands", "capabilities", "services", "requirements"),
    }
    assert (MANIFEST["type"], MANIFEST["iot_class"]) == ("multi-process", "local_polling")
    assert MANIFEST["integration_type"] == "device"
    assert set(MANIFEST["services"]) == {"serial-handler", "http-poller", "state-aggregator", "mqtt-bridge"}
    assert set(SENSOR_TYPES) <= set(MANIFEST["capabilities"])
    assert (ROOT / MANIFEST["documentation"]).is_file()


def test_the_icon_is_a_drawing_of_its_own() -> None:
    text = (ROOT / "icon.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"<script|<image|href=|url\(", text)
    assert len(text) < 4096
