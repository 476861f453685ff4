"""Which ports the launcher gives an instance: services in one block, the emulator wherever there is room."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sensor_hub import config, launcher, ports
from sensor_hub.demo import where_to_look
from sensor_hub.errors import ConfigError
from sensor_hub.ports import PortTaken, Reservation
from tests.broker import free_port
from tests.system.hub import instance_file

INSTANCE = "ports_only"


@pytest.fixture(autouse=True)
def blocks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test's hub may take a block from 5001 on at any moment."""
    monkeypatch.setattr(ports, "FIRST_PORT", free_port() // 10 * 10 + 1)


@pytest.fixture
def reservation() -> Iterator[Reservation]:
    with closing(Reservation()) as held:
        yield held


def planned(
    root: Path, reservation: Reservation, config_of: dict[str, Any] | None = None, **environ: str
) -> dict[str, int]:
    """The ports by variable, as the programs get them."""
    instance_file(root, INSTANCE, **({} if config_of is None else {"config": config_of}))
    environ = {"INSTANCE_NAME": INSTANCE, "IOT2MQTT_PATH": str(root), **environ}
    plan = launcher.prepare(environ, {}, config.read(environ), reservation, demo=False)
    services = {launcher.PORT_VARIABLES[name]: service.port for name, service in plan.hub.services.items()}
    assert plan.hub.emulator is not None
    return services | {"EMULATOR_PORT": plan.hub.emulator.port}


def test_the_emulators_port_follows_the_serial_handlers(tmp_path: Path, reservation: Reservation) -> None:
    port = free_port()
    found = planned(tmp_path, reservation, SERIAL_HANDLER_PORT=str(port))
    assert found["SERIAL_HANDLER_PORT"] == port
    assert port + 3 <= found["EMULATOR_PORT"] < port + 23


def test_an_emulator_without_http_devices_has_a_port_too(tmp_path: Path, reservation: Reservation) -> None:
    thermometer = {"sensor_id": "t", "sensor_type": "temperature"}
    found = planned(tmp_path, reservation, {"sensors": [thermometer]})
    with closing(Reservation()) as other, pytest.raises(PortTaken):
        other.take_given("127.0.0.1", found["EMULATOR_PORT"])


def test_a_demo_says_where_the_page_of_its_emulated_devices_is(
    tmp_path: Path, reservation: Reservation
) -> None:
    instance_file(tmp_path, INSTANCE)
    environ = {"INSTANCE_NAME": INSTANCE, "IOT2MQTT_PATH": str(tmp_path)}
    hub = launcher.prepare(environ, {}, config.read(environ), reservation, demo=False).hub
    assert hub.emulator is not None
    page = f"  emulated devices  http://127.0.0.1:{hub.emulator.port}/"
    assert page in where_to_look(hub, embedded_broker=False)


def test_a_busy_emulator_port_moves_the_emulator_and_nobody_else(
    tmp_path: Path, reservation: Reservation
) -> None:
    first = planned(tmp_path, reservation)
    reservation.close()
    with socket.create_server(("127.0.0.1", first["EMULATOR_PORT"])):
        second = planned(tmp_path, reservation, SERIAL_HANDLER_PORT=str(first["SERIAL_HANDLER_PORT"]))
    assert first["EMULATOR_PORT"] < second["EMULATOR_PORT"] < first["EMULATOR_PORT"] + 20


def test_services_get_a_block_of_three_though_the_port_after_it_is_busy(
    tmp_path: Path, reservation: Reservation
) -> None:
    first = planned(tmp_path, reservation)
    block = [first[name] for name in launcher.PORT_VARIABLES.values()]
    reservation.close()
    with closing(Reservation()) as other:
        other.take_given("127.0.0.1", block[0] + 3)
        second = planned(tmp_path, reservation)
    assert [second[name] for name in launcher.PORT_VARIABLES.values()] == block
    assert second["EMULATOR_PORT"] > block[0] + 3


def test_the_emulators_port_is_sought_on_loopback_whatever_the_services_address_is(
    tmp_path: Path, reservation: Reservation
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            planned(tmp_path, reservation, SERVICE_HOST="127.0.0.2", EMULATOR_PORT=str(port))
    assert f"port {port} is in use by" in refused.value.problems[0].message


def test_paths_reach_the_programs_as_absolute_ones(
    tmp_path: Path, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_file(tmp_path, INSTANCE)
    names = ("MQTT_CA_CERT", "MQTT_CLIENT_CERT", "MQTT_CLIENT_KEY")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    environ = {"INSTANCE_NAME": INSTANCE, "IOT2MQTT_PATH": ".", **{name: name for name in names}}
    plan = launcher.prepare(environ, {}, config.read(environ), reservation, demo=False)
    handed_on = launcher.program_environment(plan, environ)
    assert {name: handed_on[name] for name in names} == {name: str(tmp_path / name) for name in names}
    assert handed_on["IOT2MQTT_PATH"] == str(tmp_path)
