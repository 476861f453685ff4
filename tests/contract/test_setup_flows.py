"""Every flow of setup.json, from its forms to a file that the hub takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import config
from sensor_hub.config.model import HubConfig, Report
from sensor_hub.drivers import check_options
from tests.contract.setup_places import Places, Walk, devices
from tests.contract.setup_walks_http import http_motion, http_password, http_search, http_token
from tests.contract.setup_walks_modbus import (
    device_definition,
    emulated,
    listed_port,
    modbus_tcp,
    own_definition,
    parts_of_registers,
    remote_port,
    searched_definition,
    searched_port,
    searched_tcp,
    serial_port,
    socket_url,
    switch,
)
from tests.contract.setup_walks_text import asked_json, asked_value, charger, printed_value, printed_values
from tests.contract.setup_wizard import (
    ROOT,
    Document,
    Wizard,
    connector_folder,
    instance_document,
    write_instance,
)

SETUP = json.loads((ROOT / "setup.json").read_text(encoding="utf-8"))
WALKS: list[Callable[[Places], Walk]] = [
    *(emulated, serial_port, socket_url, remote_port, modbus_tcp, switch),
    *(device_definition, own_definition, parts_of_registers, searched_definition),
    *(charger, printed_value, printed_values, asked_value, asked_json),
    *(searched_port, listed_port, searched_tcp, http_motion, http_password, http_token, http_search),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with devices(tmp_path_factory.mktemp("devices")) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


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
    if walk.own_map:
        maps = tmp_path / "register_maps"
        maps.mkdir()
        registers = {"mode": {"table": "holding", "address": 10}}
        (maps / f"{walk.own_map}.json").write_text(json.dumps({"registers": registers}), encoding="utf-8")
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
        **{"word_order": "big", "byte_order": "big", "write": True, "min": 30, "max": 75, "step": 0.5},
    }
    assert pump.options["register"] == {"table": "coil", "address": 2, "write": True}
