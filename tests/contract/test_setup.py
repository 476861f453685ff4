"""setup.json, manifest.json and icon.svg: the contract's form, and every flow from its forms to a good file."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import __version__, config
from sensor_hub.config.model import HubConfig, Report
from sensor_hub.drivers import DRIVERS, check_options
from sensor_hub.sensor_types import SENSOR_TYPES
from tests.broker import free_port
from tests.contract import setup_devices
from tests.contract.setup_devices import INPUT_1_IS_225, Emulated, HttpServer, RemotePort
from tests.contract.setup_schema import problems_of
from tests.contract.setup_wizard import (
    ROOT,
    Document,
    Pick,
    Wizard,
    WizardStop,
    connector_folder,
    instance_document,
    write_instance,
)
from tests.wire.scripted_peers import on_tcp

SETUP = json.loads((ROOT / "setup.json").read_text(encoding="utf-8"))
MANIFEST = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
LABELS = {
    name: f"{name.capitalize()} ({kind.unit})" if kind.unit else name.capitalize()
    for name, kind in SENSOR_TYPES.items()
}
HUB = {"friendly_name": "My house", "instance_id": "my_house"}


# -- the files --------------------------------------------------------------------------------------------


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
        lambda s: _fields(s)[3].pop("default"),
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


def test_the_lines_to_choose_from_are_drivers() -> None:
    assert set(offered("driver")) == set(DRIVERS) - {"http_json"}  # HTTP has flows of its own


def offered(name: str) -> list[str]:
    return [
        option["value"]
        for flow in SETUP["flows"]
        for step in flow["steps"]
        for item in step.get("schema", {}).get("fields", [])
        if item["name"] == name
        for option in item["options"]
    ]


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


# -- the flows --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where the devices of this module are."""

    emulated: Emulated
    tcp: int
    rtu: int
    remote: RemotePort
    http: HttpServer


@dataclass(frozen=True)
class Walk:
    """What a person fills in and chooses, and the devices that come of it."""

    flow: str
    answers: Mapping[str, Mapping[str, Any]]
    expected: Mapping[str, tuple[Any, ...]]  # sensor_id -> type, transport, unit id or url …
    picks: Mapping[str, Pick] = field(default_factory=dict)
    wants: str | None = None  # the Authorization of the HTTP server
    secrets: Mapping[str, str] = field(default_factory=dict)


MOTION = {"motion_detected": True, "battery_level": 95, "signal_strength": -50}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    routes = {
        "/api/pir": {"pir": {"active": True}, "battery": 77},
        "/api/sensors": [{"id": "attic"}, {"id": "yard"}],
        "/api/sensors/attic": {"climate": {"temperature": 21.5, "humidity": 40}},
        "/api/sensors/yard": MOTION,
    }
    with (
        setup_devices.emulator(tmp_path_factory.mktemp("emulator")) as emulated,
        setup_devices.tcp_server() as tcp,
        setup_devices.rtu_server() as rtu,
        on_tcp(*[INPUT_1_IS_225] * 10, kind=RemotePort) as remote,
        HttpServer(routes) as http,
    ):
        assert isinstance(remote, RemotePort)
        yield Places(emulated, tcp.port, rtu.port, remote, http)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


READ_225 = {"number_table": "input", "address": 1, "scale": 0.1, "unit_id": 3, "try_it": True}
TEMP = {"sensor_id": "temp_cellar", **READ_225}


def emulated(_: Places) -> Walk:
    more = '# two more\nhum_kitchen humidity\n\nmotion_hall motion friendly_name="Hall, upstairs"'
    sensor = {
        "sensor_id": "temp_living",
        "sensor_type": "temperature",
        "friendly_name": "Living",
        "more": more,
    }
    return Walk(
        "emulated",
        {"hub": {**HUB, "update_interval": 7, "cache_ttl": 0}, "sensor": sensor},
        {
            "temp_living": ("temperature", "emulator", 1),
            "hum_kitchen": ("humidity", "emulator", 2),
            "motion_hall": ("motion", "http:motion_hall", None),
        },
    )


def serial_port(at: Places) -> Walk:
    sensor = {"sensor_id": "kitchen", "unit_id": 1, "scale": 0.1, "try_it": True, "stale_after": "60"}
    more = "bath humidity unit_id=2 table=input address=0 data_type=int16 scale=0.1 stale_after=90"
    return Walk(
        "modbus_manual",
        {
            "hub": HUB,
            "line": {"url": at.emulated.pty, "read_interval": 0.5},
            "sensor": {**sensor, "more": more},
        },
        {"kitchen": ("temperature", "line", 1), "bath": ("humidity", "line", 2)},
    )


def socket_url(at: Places) -> Walk:
    line = {"url": f"socket://127.0.0.1:{at.rtu}", "baudrate": "9600", "parity": "E"}
    sensor = {**TEMP, "address": 20, "data_type": "int32", "unit": "°C", "offset": 5}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"temp_cellar": ("temperature", "line", 3)},
    )


def remote_port(at: Places) -> Walk:
    line = {"driver": "modbus_rtu", "url": at.remote.url, "baudrate": "57600", "stopbits": "2"}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": TEMP},
        {"temp_cellar": ("temperature", "line", 3)},
    )


def modbus_tcp(at: Places) -> Walk:
    line = {
        "driver": "modbus_tcp",
        "host": "127.0.0.1",
        "tcp_port": at.tcp,
        "read_interval": 1,
        "timeout_s": 1,
    }
    sensor = {
        "sensor_id": "setpoint",
        "sensor_type": "generic",
        "number_table": "holding",
        "address": 10,
        "scale": 0.1,
    }
    limits = {"write": True, "min": "30", "max": "75", "step": "0.5"}
    more = "pump generic unit_id=3 table=coil address=2 write=true\ndoor generic unit_id=3 table=discrete address=5"
    return Walk(
        "modbus_manual",
        {
            "hub": HUB,
            "line": line,
            "sensor": {**sensor, **limits, "unit_id": 3, "more": more, "try_it": True},
        },
        {"setpoint": ("generic", "line", 3), "pump": ("generic", "line", 3), "door": ("generic", "line", 3)},
    )


def switch(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp}
    sensor = {
        "sensor_id": "door",
        "sensor_type": "generic",
        "value_kind": "switch",
        "address": 5,
        "unit_id": 3,
        "try_it": True,
    }
    return Walk(
        "modbus_manual", {"hub": HUB, "line": line, "sensor": sensor}, {"door": ("generic", "line", 3)}
    )


def every(values: list[Any]) -> list[Any]:
    return values


def searched_port(at: Places) -> Walk:
    line = {"url": at.emulated.pty, "last_unit": 4, "unit_timeout_s": 1.0}
    sensor = {"scale": 0.1, "name": "Room", "try_it": True}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"unit_1": ("temperature", "line", 1), "unit_2": ("temperature", "line", 2)},
        {"units": every},
    )


def listed_port(at: Places) -> Walk:
    line = {"list_ports": True, "last_unit": 2, "unit_timeout_s": 1.0}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": {"prefix": "room", "sensor_type": "humidity", "scale": 0.1}},
        {"room_2": ("humidity", "line", 2)},
        {"port": lambda _: at.emulated.pty, "units": lambda found: [found[-1]]},
    )


def searched_tcp(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp, "first_unit": 2, "last_unit": 4}
    sensor = {"address": 1, "scale": 0.1, "try_it": True}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"unit_3": ("temperature", "line", 3)},
        {"units": lambda found: [unit for unit in found if unit == 3]},
    )


def http_motion(at: Places) -> Walk:
    paths = {"motion_path": "pir.active", "battery_path": "battery"}
    sensor = {
        "sensor_id": "yard",
        "url": f"{at.http.base}/api/pir",
        **paths,
        "try_it": True,
        "stale_after": "30",
    }
    more = (
        f"attic temperature url={at.http.base}/api/sensors/attic fields.value=climate.temperature timeout_s=2"
    )
    return Walk(
        "http_manual",
        {"hub": {**HUB, "poll_interval": 0.5}, "sensor": {**sensor, "more": more}},
        {"yard": ("motion", "http:yard", at.http.base), "attic": ("temperature", "http:attic", at.http.base)},
    )


def http_password(at: Places) -> Walk:
    access = {"auth_kind": "basic", "username": "me", "password": "pa ss:wörd"}
    sensor = {"sensor_id": "yard", "url": f"{at.http.base}/api/sensors/yard", **access, "try_it": True}
    return Walk(
        "http_manual",
        {"hub": HUB, "sensor": sensor},
        {"yard": ("motion", "http:yard", at.http.base)},
        wants="Basic bWU6cGEgc3M6d8O2cmQ=",
        secrets={"sensors.0.auth.password": "pa ss:wörd"},
    )


def http_token(at: Places) -> Walk:
    sensor = {"sensor_id": "attic", "sensor_type": "generic", "url": f"{at.http.base}/api/sensors/attic"}
    fields = {
        "fields": "temp=climate.temperature\nhum = climate.humidity",
        "try_it": True,
        "verify_tls": False,
    }
    return Walk(
        "http_manual",
        {"hub": HUB, "sensor": {**sensor, **fields, "auth_kind": "bearer", "token": "t0ken"}},
        {"attic": ("generic", "http:attic", at.http.base)},
        wants="Bearer t0ken",
    )


def http_search(at: Places) -> Walk:
    sensor = {"base_url": f"{at.http.base}/api", "auth_kind": "bearer", "token": "t0ken", "try_it": True}
    return Walk(
        "http_scan",
        {"hub": HUB, "sensor": sensor},
        {
            "attic_temperature": ("temperature", "http:attic_temperature", at.http.base),
            "attic_humidity": ("humidity", "http:attic_humidity", at.http.base),
            "yard": ("motion", "http:yard", at.http.base),
        },
        {"found": lambda found: [item for item in found if "/sensors/" in item["url"]]},
        wants="Bearer t0ken",
    )


WALKS: list[Callable[[Places], Walk]] = [
    *(emulated, serial_port, socket_url, remote_port, modbus_tcp, switch),
    *(searched_port, listed_port, searched_tcp, http_motion, http_password, http_token, http_search),
]


def read(document: Document, directory: Path, **creds: str) -> Report:
    """What the hub says of the instance file."""
    secrets = directory / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{key}={value}\n" for key, value in creds.items())
    (secrets / f"{document['instance_id']}_creds").write_text(lines, encoding="utf-8")
    root = write_instance(directory, document)
    environ = {"INSTANCE_NAME": document["instance_id"], "CONNECTOR_TYPE": "sensor-hub"}
    return config.read(environ, root=root, check_options=check_options, secrets_dir=secrets)


def devices_of(hub: HubConfig) -> dict[str, tuple[Any, ...]]:
    lines = {transport.transport_id: transport for transport in hub.transports}
    return {
        sensor.sensor_id: (
            sensor.sensor_type,
            sensor.transport_id,
            "/".join(lines[sensor.transport_id].url.split("/")[:3])
            if sensor.transport_id.startswith("http:") and not sensor.emulated
            else int(str(sensor.options["unit_id"]))
            if "unit_id" in sensor.options
            else None,
        )
        for sensor in hub.sensors
    }


@pytest.fixture(params=WALKS, ids=lambda make: make.__name__)
def walked(request: pytest.FixtureRequest, places: Places, folder: Path) -> Iterator[tuple[Walk, Wizard]]:
    walk = request.param(places)
    places.http.wants = walk.wants
    wizard = Wizard(folder, walk.answers, walk.picks)
    wizard.walk(walk.flow)
    yield walk, wizard
    places.http.wants = None


def test_a_flow_makes_an_instance_that_the_hub_takes(walked: tuple[Walk, Wizard], tmp_path: Path) -> None:
    walk, wizard = walked
    for numbers_as_text in (False, True):
        for secrets_in_lists in (False, True):
            document = instance_document(
                wizard.payload, numbers_as_text=numbers_as_text, secrets_in_lists=secrets_in_lists
            )
            report = read(document, tmp_path, **walk.secrets)
            assert list(report.problems) == []
            assert report.config is not None
            assert devices_of(report.config) == walk.expected
            assert report.config.instance_id == "my_house"
            assert report.config.update_interval_s == walk.answers["hub"].get("update_interval", 10)
    assert wizard.payload["devices"] == []  # what is there would stay when the wizard is run again
    if "try_it" in walk.answers["sensor"]:
        assert "answered in" in wizard.tools["trial"]["result"]["message"]


def test_every_flow_is_walked(places: Places) -> None:
    assert {make(places).flow for make in WALKS} == {flow["id"] for flow in SETUP["flows"]}


def test_a_password_that_became_a_placeholder_is_asked_for_by_its_path(
    places: Places, folder: Path, tmp_path: Path
) -> None:
    walk = http_password(places)
    places.http.wants = walk.wants
    wizard = Wizard(folder, walk.answers)
    document = instance_document(wizard.walk("http_manual"))
    places.http.wants = None
    assert "wörd" not in json.dumps(document, ensure_ascii=False)
    [problem] = read(document, tmp_path).problems
    assert problem.path == "connection.sensors[0].auth.password"
    assert "connection.sensors.0.auth.password" in problem.message


def test_an_instance_without_an_id_gets_one_from_the_platform(folder: Path, tmp_path: Path) -> None:
    answers = {"hub": {"friendly_name": "X"}, "sensor": {"sensor_id": "a"}}
    document = instance_document(Wizard(folder, answers).walk("emulated"))
    assert document["instance_id"].startswith("sensor-hub_")
    report = read(document, tmp_path)
    assert report.config is not None
    assert report.config.sensors[0].emulated


def test_the_wizard_run_again_replaces_lines_and_sensors(
    places: Places, folder: Path, tmp_path: Path
) -> None:
    document = instance_document(Wizard(folder, emulated(places).answers).walk("emulated"))
    again = Wizard(folder, switch(places).answers).walk("modbus_manual")
    document["connection"] |= again["config"]  # the copies at the top level stay as they were
    report = read(document, tmp_path)
    assert report.config is not None
    assert devices_of(report.config) == switch(places).expected


def test_what_was_told_of_a_register_arrives(places: Places, folder: Path, tmp_path: Path) -> None:
    report = read(
        instance_document(Wizard(folder, modbus_tcp(places).answers).walk("modbus_manual")), tmp_path
    )
    assert report.config is not None
    [line] = report.config.transports
    assert (line.driver, line.url, line.write) == ("modbus_tcp", f"tcp://127.0.0.1:{places.tcp}", True)
    assert (line.read_interval_s, line.timeout_s) == (1, 1)
    setpoint, pump, _ = report.config.sensors
    assert setpoint.options["register"] == {
        **{"table": "holding", "address": 10, "data_type": "int16", "scale": 0.1, "offset": 0},
        **{"word_order": "big", "write": True, "min": 30, "max": 75, "step": 0.5},
    }
    assert pump.options["register"] == {"table": "coil", "address": 2, "write": True}


# -- what goes wrong --------------------------------------------------------------------------------------


def stop(folder: Path, flow: str, answers: Mapping[str, Mapping[str, Any]], **picks: Pick) -> str:
    with pytest.raises(WizardStop) as caught:
        Wizard(folder, {"hub": HUB, **answers}, picks).walk(flow)
    return str(caught.value)


def test_all_problems_are_told_at_once_in_the_forms_words(folder: Path) -> None:
    sensor = {"sensor_id": "a", "write": True, "min": "9", "max": "3", "stale_after": "0.01"}
    more = "a temperature unit_id=300 table=input address=1\nb wind table=input address=1\nc\nd co2 speed=3"
    message = stop(folder, "modbus_manual", {"line": {"url": "ttyUSB0"}, "sensor": {**sensor, "more": more}})
    assert message.splitlines()[0].endswith(" problems:")
    for told in (
        "the line.url: must be a device path such as /dev/ttyUSB0",
        "the sensor.register.write: input is read-only",
        "the sensor.register.min: 9 is greater than max 3",
        "the sensor.stale_after: must be a number from 0.1 to 604800",
        "more sensors, line 1.sensor_id: 'a' is used twice; also by the sensor",
        "more sensors, line 1.unit_id: must be a whole number from 1 to 247, not '300'",
        "more sensors, line 2.sensor_type: must be one of temperature, humidity",
        "more sensors, line 3: must begin with an id and a type",
        "more sensors, line 4: exactly one of register and properties is required",
        "more sensors, line 4.speed: unknown key",
    ):
        assert f"- {told}" in message, told


def test_a_line_without_a_place_is_asked_for(folder: Path) -> None:
    assert "the line.url: required" in stop(folder, "modbus_manual", {"sensor": {"sensor_id": "a"}})
    tcp = {"line": {"driver": "modbus_tcp"}, "sensor": {"sensor_id": "a"}}
    assert "the line.url: required" in stop(folder, "modbus_manual", tcp)


def test_a_search_without_a_choice_says_so(places: Places, folder: Path) -> None:
    answers = searched_tcp(places).answers
    assert "choose at least one unit" in stop(folder, "modbus_scan", {**answers})


def test_an_unreachable_sensor_stops_at_the_trial_with_the_reason(folder: Path) -> None:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": free_port()}
    message = stop(folder, "modbus_manual", {"line": line, "sensor": TEMP})
    assert message == f"cannot connect to 127.0.0.1:{line['tcp_port']}: Connection refused"


def test_a_password_is_in_no_message(folder: Path) -> None:
    sensor = {
        "sensor_id": "a",
        "url": "http://127.0.0.1:1/x",
        "auth_kind": "basic",
        "username": "",
        "password": "hunter2",
    }
    message = stop(folder, "http_manual", {"sensor": sensor})
    assert "must be username and password, or bearer" in message
    assert "hunter2" not in message
