"""What a person reads when a flow of setup.json cannot go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.contract import setup_devices
from tests.contract.setup_places import HUB
from tests.contract.setup_walks_modbus import TEMP
from tests.contract.setup_wizard import Pick, Wizard, WizardStop, connector_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


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
        "more sensors, line 4: either register, or properties or a register_map, is required",
        "more sensors, line 4.speed: unknown key",
    ):
        assert f"- {told}" in message, told


def test_a_line_without_a_place_is_asked_for(folder: Path) -> None:
    assert "the line.url: required" in stop(folder, "modbus_manual", {"sensor": {"sensor_id": "a"}})
    tcp = {"line": {"driver": "modbus_tcp"}, "sensor": {"sensor_id": "a"}}
    assert "the line.url: required" in stop(folder, "modbus_manual", tcp)


def test_a_search_without_a_choice_says_so(folder: Path) -> None:
    with setup_devices.tcp_server() as server:
        line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": server.port, "last_unit": 1}
        assert "choose at least one unit" in stop(folder, "modbus_scan", {"line": line})


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


def test_a_line_that_would_be_too_busy_is_told_before_the_instance_is_made(folder: Path) -> None:
    line = {"url": "/dev/ttyUSB0", "baudrate": "1200", "read_interval": 0.1}
    message = stop(folder, "modbus_manual", {"line": line, "sensor": {"sensor_id": "a"}})
    assert "the line: would be busy " in message
    assert "% of the time with what is read from it: read less often, or raise the speed" in message


def test_a_definition_of_ones_own_needs_its_name_and_cannot_be_tried_here(folder: Path) -> None:
    sensor = {"sensor_id": "a", "registers": "map", "register_map": "own", "try_it": True}
    line = {"url": "/dev/ttyUSB0"}
    assert "either register, or properties or a register_map" in stop(
        folder, "modbus_manual", {"line": line, "sensor": sensor}
    )
    message = stop(folder, "modbus_manual", {"line": line, "sensor": {**sensor, "own_map": "boiler"}})
    assert message == "the registers of boiler are not known here or cannot be read; the hub will tell"


def test_a_register_that_a_definition_does_not_have_is_named(folder: Path) -> None:
    sensor = {
        "sensor_id": "a",
        "registers": "map",
        "register_map": "eastron_sdm120",
        "include": "voltage, watts",
    }
    message = stop(folder, "modbus_manual", {"line": {"url": "/dev/ttyUSB0"}, "sensor": sensor})
    assert "the sensor.include: eastron_sdm120 has no register 'watts'" in message


@pytest.mark.parametrize(
    ("sensor", "told"),
    [
        ({}, "the sensor.regex: required"),
        ({"find": "json"}, "the sensor.path: required"),
        ({"speaks": "asked", "regex": "x"}, "the sensor.request: required"),
        ({"regex": "x", "write": True}, "the sensor.command: required"),
        ({"regex": "x", "two": True, "name": "t"}, "the sensor.name_2: required"),
        ({"regex": "x", "two": True, "name": "t", "name_2": "t", "regex_2": "y"}, "the sensor.name_2: must differ"),
        ({"find": "line", "two": True, "name": "t", "name_2": "h"}, "the sensor.find: two values of a line need"),
        ({"regex": "(a+)+"}, "the sensor.value.regex: may not repeat what is itself variable"),
        ({"regex": "x", "write": True, "command": "P"}, "the sensor.value.command: must hold {value} once"),
    ],
)  # fmt: skip
def test_what_the_form_of_a_text_device_lacks_is_named(
    folder: Path, sensor: dict[str, Any], told: str
) -> None:
    given = {"line": {"url": "/dev/ttyUSB0"}, "sensor": {"sensor_id": "a", **sensor}}
    assert f"- {told}" in stop(folder, "text", given)
