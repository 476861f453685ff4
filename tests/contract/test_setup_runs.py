"""One flow of each kind to its very end: the hub runs on the file that the wizard made, and the values arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import config
from sensor_hub.drivers import check_options
from services.http_poller.app import create_app as http_poller
from services.serial_handler.app import create_app as serial_handler
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, mosquitto
from tests.contract import setup_devices, setup_text_devices
from tests.contract.setup_devices import HttpServer
from tests.contract.setup_wizard import Document, Wizard, connector_folder, instance_document, write_instance
from tests.support import eventually
from tests.system.hub import UP_WITHIN_S, Hub, new_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return connector_folder(tmp_path / "platform")


@contextmanager
def answering(create_app: Any, document: Document, root: Path) -> Iterator[Any]:
    """The handler of an instance, as its clients see it."""
    environ = {"INSTANCE_NAME": document["instance_id"], "LOG_LEVEL": "CRITICAL"}
    write_instance(root, document)
    handler = create_app(config.load(environ, root=root, check_options=check_options, secrets_dir=root))
    try:
        yield handler.test_client()
    finally:
        handler.close()


@pytest.mark.mosquitto
@pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)
def test_emulated_sensors_of_the_wizard_arrive_on_mqtt(folder: Path, tmp_path: Path) -> None:
    instance_id = new_id()
    hub_form = {"friendly_name": "Try", "instance_id": instance_id, "update_interval": 3600}
    sensor = {"sensor_id": "temp", "more": "yard motion"}
    document = instance_document(Wizard(folder, {"hub": hub_form, "sensor": sensor}).walk("emulated"))
    root = write_instance(tmp_path, document)
    with mosquitto() as broker, Witness(broker.port) as witness:
        where = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)}
        with Hub(root, instance_id=instance_id, env=where):
            prefix = f"IoT2mqtt/v1/instances/{instance_id}"
            state = json.loads(witness.wait_for(f"{prefix}/devices/temp/state", UP_WITHIN_S).payload)["state"]
            assert state["emulated"] is True
            assert (state["type"], state["unit"]) == ("temperature", "°C")
            assert 10 < state["value"] < 35
            moved = witness.wait_for(f"{prefix}/devices/yard/state/motion_detected", UP_WITHIN_S)
            assert moved.payload in (b"true", b"false")


def test_modbus_units_that_the_wizard_found_are_read(folder: Path, tmp_path: Path) -> None:
    answers: dict[str, Document] = {
        "hub": {"friendly_name": "Bus", "instance_id": new_id()},
        "line": {"last_unit": 2, "unit_timeout_s": 2, "timeout_s": 2, "read_interval": 0.2},
        "sensor": {"sensor_type": "humidity", "scale": 0.1, "unit": "%"},
    }
    with setup_devices.emulator(tmp_path) as emulated:
        answers["line"]["url"] = emulated.pty
        wizard = Wizard(folder, answers, {"units": lambda found: [unit for unit in found if unit == 2]})
        document = instance_document(wizard.walk("modbus_scan"), numbers_as_text=True)
        with answering(serial_handler, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/unit_2").json), 60)
            assert (reading["type"], reading["unit"], reading["quality"]) == ("humidity", "%", "good")
            assert 20 <= reading["value"] <= 80
            assert client.get("/sensors").json["count"] == 1


def test_a_modbus_tcp_setpoint_of_the_wizard_is_written(folder: Path, tmp_path: Path) -> None:
    with setup_devices.tcp_server() as server:
        line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": server.port, "timeout_s": 2}
        sensor = {
            **{
                "sensor_id": "setpoint",
                "sensor_type": "generic",
                "unit_id": setup_devices.UNIT,
                "scale": 0.1,
            },
            **{"number_table": "holding", "address": 10, "write": True, "min": "30", "max": "75"},
        }
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Plc", "instance_id": new_id()},
            "line": line,
            "sensor": sensor,
        }
        document = instance_document(Wizard(folder, answers).walk("modbus_manual"))
        with answering(serial_handler, document, tmp_path) as client:
            assert eventually(lambda: is_good(client.get("/sensor/setpoint").json))["value"] == 54.5
            too_much = client.post("/sensor/setpoint/command", json={"values": {"value": 80}})
            assert (too_much.status_code, too_much.json["error"]) == (400, "VALUE_OUT_OF_RANGE")
            assert client.post("/sensor/setpoint/command", json={"values": {"value": 60}}).status_code == 200
            assert client.get("/sensor/setpoint").json["value"] == 60


def test_a_device_definition_of_the_wizard_is_read_and_written(folder: Path, tmp_path: Path) -> None:
    with setup_devices.emulator(tmp_path) as emulated:
        definition = {"registers": "map", "register_map": "emulator_temperature", "write": True}
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Bus", "instance_id": new_id()},
            "line": {"url": emulated.pty, "timeout_s": 2, "delay_ms": 2},
            "sensor": {"sensor_id": "room", "unit_id": 1, **definition},
        }
        document = instance_document(Wizard(folder, answers).walk("modbus_manual"), numbers_as_text=True)
        with answering(serial_handler, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/room").json), 60)
            assert 15 < reading["value"] < 30
            written = client.post("/sensor/room/command", json={"values": {"setpoint": 21.5}})
            assert (written.status_code, written.json["values"]) == (200, {"setpoint": 21.5})
            assert client.get("/sensor/room").json["setpoint"] == 21.5


def test_a_charger_of_the_wizard_is_read_and_limited(folder: Path, tmp_path: Path) -> None:
    with setup_text_devices.charger() as peer:
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Garage", "instance_id": new_id()},
            "line": {"url": peer.path, "timeout_s": 2, "read_interval": 1},
            "sensor": {"sensor_id": "wallbox", "write": True},
        }
        document = instance_document(Wizard(folder, answers).walk("charger"), numbers_as_text=True)
        with answering(serial_handler, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/wallbox").json), 60)
            assert (reading["state"], reading["charging"]) == ("charging", True)
            assert (reading["current"], reading["current_limit"]) == (15.2, 16)
            sent = client.post("/sensor/wallbox/command", json={"values": {"current_limit": 16}})
            assert sent.status_code == 200
            assert any(line.startswith("$SC 16 V") for line in peer.requests)


def test_what_the_wizards_text_device_prints_unasked_is_heard(folder: Path, tmp_path: Path) -> None:
    with setup_text_devices.printer() as peer:
        second = {"two": True, "name": "temperature", "name_2": "humidity", "regex_2": r"H=(\d+)"}
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Desk", "instance_id": new_id()},
            "line": {"url": peer.path},
            "sensor": {
                "sensor_id": "air",
                "regex": r"T=([-\d.]+)",
                **second,
                "more": "all generic type=text",
            },
        }
        document = instance_document(Wizard(folder, answers).walk("text"), numbers_as_text=True)
        with answering(serial_handler, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/air/cached").json), 60)
            assert (reading["temperature"], reading["humidity"]) == (22.5, 45)
            heard = eventually(lambda: is_good(client.get("/sensor/all").json))
            assert heard["value"] == "T=22.5 H=45"


def test_the_wizards_text_device_is_asked_and_written(folder: Path, tmp_path: Path) -> None:
    with setup_text_devices.scale() as peer:
        asked = {"speaks": "asked", "request": "?", "regex": r"TARE (\d+\.\d+)", "unit": "kg"}
        command = {"write": True, "command": "P{value:.2f}", "answer": "^OK", "min": "0", "max": "10"}
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Desk", "instance_id": new_id()},
            "line": {"url": peer.path},
            "sensor": {"sensor_id": "tare", **asked, **command},
        }
        document = instance_document(Wizard(folder, answers).walk("text"), numbers_as_text=True)
        with answering(serial_handler, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/tare").json), 60)
            assert (reading["value"], reading["unit"]) == (1.25, "kg")
            too_much = client.post("/sensor/tare/command", json={"values": {"value": 10.5}})
            assert (too_much.status_code, too_much.json["error"]) == (400, "VALUE_OUT_OF_RANGE")
            assert client.post("/sensor/tare/command", json={"values": {"value": 2.5}}).status_code == 200
            assert "P2.50" in peer.requests


def is_good(reading: Document) -> Document:
    """The reading, if it is one (a line may take a moment), else nothing."""
    return reading if reading.get("quality") == "good" else {}


def test_http_sensors_that_the_wizard_found_are_polled_with_their_token(folder: Path, tmp_path: Path) -> None:
    routes = {"/sensors": ["attic"], "/sensors/attic": {"climate": {"temperature": 21.5}}}
    with HttpServer(routes, wants="Bearer t0ken") as server:
        answers: dict[str, Document] = {
            "hub": {"friendly_name": "Web", "instance_id": new_id(), "poll_interval": 0.2},
            "sensor": {"base_url": server.base, "auth_kind": "bearer", "token": "t0ken"},
        }
        wizard = Wizard(folder, answers, {"found": lambda found: found})
        document = instance_document(wizard.walk("http_scan"))
        with answering(http_poller, document, tmp_path) as client:
            reading = eventually(lambda: is_good(client.get("/sensor/attic_temperature").json))
            assert (reading["type"], reading["value"]) == ("temperature", 21.5)
