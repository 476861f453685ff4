"""Modbus lines against peers that we did not write, seen over REST; and a client that we did not write on our emulator.

Servers of libmodbus and pymodbus (its server and its simulator's store); socat's pseudo-terminals and listener,
ser2net's raw TCP and RFC 2217 between them and us.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.datastore import ModbusServerContext, ModbusSimulatorContext
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

from sensor_hub.drivers.modbus import ModbusRtu
from tests.contract.services import HOST, Api, Instance, emulator, free_ports, in_process
from tests.integration.foreign_programs import (
    UNIT,
    Cable,
    end,
    libmodbus,
    mbpoll,
    needs,
    ser2net,
    socat_listener,
)
from tests.support import eventually
from tests.wire.scripted_peers import line, register, sensor

pytestmark = needs("socat", "ser2net", "mbpoll")

NEVER = 86400  # seconds: read once at the start, then only when asked
COUNT = 100
PROPERTIES: dict[str, Any] = {
    "temperature": register("input", 1, data_type="int16", scale=0.1, unit="°C"),
    "pressure": register("input", 2, unit="hPa"),
    "setpoint": register("holding", 10, scale=0.1, write=True, min=30, max=75, unit="°C"),
    "energy": register("holding", 20, data_type="uint32", write=True),
    "flow": register("holding", 30, data_type="float32", word_order="little", write=True),
    "offset": register("holding", 40, data_type="int32", write=True),
    "pump": register("coil", 2, write=True),
    "door": register("discrete", 5),
}
WRITTEN = {"setpoint": 54.5, "energy": 3_000_000_000, "flow": -12.25, "offset": -100_000, "pump": True}
PEERS = (
    "libmodbus-tcp",
    "libmodbus-pty",
    "libmodbus-ser2net-raw",
    "libmodbus-ser2net-rfc2217",
    "libmodbus-socat-listener",
    "pymodbus-pty",
    "pymodbus-simulator",
)


# -- pymodbus ------------------------------------------------------------------------------------------------------


def simulated() -> ModbusServerContext:
    """The same device as pymodbus' simulator has it: coils, discrete inputs, input and holding registers in a row."""
    tables = {"co size": COUNT, "di size": COUNT, "ir size": COUNT, "hr size": COUNT + 10}
    values = dict.fromkeys(("bits", "uint16", "uint32", "float32"), 0) | {"string": " "}
    held = {2 * COUNT + 1: 225, 2 * COUNT + 2: 1013, 3 * COUNT + 10: 450}
    bits = [[0, COUNT - 1], [COUNT + 1, 2 * COUNT - 1]]
    words = [2 * COUNT, [2 * COUNT + 3, 3 * COUNT + 9], [3 * COUNT + 11, 4 * COUNT - 1]]
    store: dict[str, Any] = {
        "setup": {
            **tables,
            "shared blocks": False,
            "type exception": False,
            "defaults": {"value": values, "action": dict.fromkeys(values)},
        },
        "bits": [*bits, {"addr": COUNT, "value": 1 << 5}],
        "uint16": [*words, *({"addr": place, "value": value} for place, value in held.items())],
        "write": [[0, COUNT - 1], [3 * COUNT, 4 * COUNT - 1]],
        "invalid": [[4 * COUNT, 4 * COUNT + 9]],
        **{part: [] for part in ("uint32", "float32", "string", "repeat")},
    }
    make: Callable[..., ModbusSimulatorContext] = ModbusSimulatorContext
    return ModbusServerContext(devices={UNIT: make(store, None)}, single=False)


@contextmanager
def served(make: Callable[[], ModbusSerialServer | ModbusTcpServer]) -> Iterator[None]:
    """A server of pymodbus in an event loop of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def listen() -> ModbusSerialServer | ModbusTcpServer:
        server = make()
        assert await server.listen()
        ready.set()
        return server

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(listen())
        loop.run_forever()
        loop.run_until_complete(server.shutdown())  # type: ignore[no-untyped-call]
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


# -- all of them and our handler -------------------------------------------------------------------------------------


class World:
    """Every peer, and the handler that has a line to each."""

    api: Api
    stack: ExitStack
    ser2net: subprocess.Popen[bytes]
    raw_port: int
    raw_device: Path
    socat: subprocess.Popen[bytes]
    cable: Cable


def hub_line(name: str, url: str) -> dict[str, Any]:
    driver = "modbus_tcp" if url.startswith("tcp:") else "modbus_rtu"
    return {
        "transport_id": name, "driver": driver, "url": url, "read_interval": NEVER, "timeout_s": 2, "write": True,
        "reconnect_backoff_ms": 200, "parallelism": "thread",
    }  # fmt: skip


def hub_sensors(name: str) -> list[dict[str, Any]]:
    shared = {"sensor_type": "generic", "transport": name, "unit_id": UNIT}
    edge = {f"r{address}": register("holding", address) for address in range(95, 104)}
    return [
        {"sensor_id": name, **shared, "properties": PROPERTIES},
        {"sensor_id": f"{name}.edge", **shared, "properties": edge},
        {"sensor_id": f"{name}.nowhere", **shared, "register": register("input", 5000)},
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory, world = tmp_path_factory.mktemp("foreign"), World()
    tcp, raw, telnet, listener, simulator = free_ports(5)
    cables = {name: Cable.at(directory, name) for name in ("pty", "raw", "telnet", "listener", "pymodbus")}
    with ExitStack() as stack:
        world.stack = stack
        running = {name: stack.enter_context(cable.plugged_in()) for name, cable in cables.items()}
        far = {name: str(cable.far) for name, cable in cables.items()}
        ports = [f"rtu:{far[name]}" for name in ("pty", "raw", "telnet", "listener")]
        stack.enter_context(libmodbus(directory, f"tcp:{tcp}", *ports))
        stack.enter_context(
            served(lambda: ModbusSerialServer(simulated(), framer=FramerType.RTU, port=far["pymodbus"]))
        )
        stack.enter_context(served(lambda: ModbusTcpServer(simulated(), address=(HOST, simulator))))
        stack.enter_context(ser2net("telnet(rfc2217),tcp", telnet, cables["telnet"].near))
        world.ser2net = stack.enter_context(ser2net("tcp", raw, cables["raw"].near))
        stack.enter_context(socat_listener(listener, cables["listener"].near))
        urls = (
            f"tcp://{HOST}:{tcp}",
            str(cables["pty"].near),
            f"socket://{HOST}:{raw}",
            f"rfc2217://{HOST}:{telnet}",
            f"socket://{HOST}:{listener}",
            str(cables["pymodbus"].near),
            f"tcp://{HOST}:{simulator}",
        )
        transports = [hub_line(name, url) for name, url in zip(PEERS, urls, strict=True)]
        sensors = [sensor for name in PEERS for sensor in hub_sensors(name)]
        instance = Instance(directory, {"transports": transports, "sensors": sensors})
        world.raw_port, world.raw_device = raw, cables["raw"].near
        world.socat, world.cable = running["pty"], cables["pty"]
        world.api = stack.enter_context(in_process(instance, "serial-handler"))
        eventually(lambda: all(world.api.readings()[name]["status"] == "online" for name in PEERS), 60)
        yield world


def state_of(api: Api, name: str) -> dict[str, Any]:
    found = {each["transport_id"]: each for each in api.get("/transports")["transports"]}
    state: dict[str, Any] = found[name]
    return state


@pytest.mark.parametrize("peer", PEERS)
def test_every_table_and_type_is_read_and_what_is_written_is_verified(world: World, peer: str) -> None:
    answer = world.api.post(f"/sensor/{peer}/command", {"values": WRITTEN, "timeout": 20_000})
    assert answer["status"] == "success"
    assert answer["values"] == WRITTEN
    assert answer["outcome"] == "verified"
    reading = world.api.get(f"/sensor/{peer}")
    measured = {"temperature": 22.5, "pressure": 1013, "door": True}
    assert {name: reading[name] for name in PROPERTIES} == {**measured, **WRITTEN}
    assert reading["quality"] == "good"


@pytest.mark.parametrize("peer", PEERS)
def test_what_lies_beyond_the_last_register_is_left_out(world: World, peer: str) -> None:
    reading = world.api.get(f"/sensor/{peer}.edge")
    assert {name for name in reading if name.startswith("r")} == {f"r{place}" for place in range(95, COUNT)}


@pytest.mark.parametrize("peer", PEERS)
def test_an_address_that_is_not_there_is_the_devices_no(world: World, peer: str) -> None:
    refused = world.api.ask("GET", f"/sensor/{peer}.nowhere")
    assert refused.status_code == 502
    assert refused.json()["error"] == "DEVICE_REFUSED"
    assert "illegal data address (2)" in refused.json()["message"]
    assert state_of(world.api, peer)["counters"]["exceptions"] > 0


def is_down_and_says(world: World, peer: str, why: str) -> bool:
    """`peer` alone is offline; who asks is told at once."""
    if world.api.error_or_none(f"/sensor/{peer}") != (503, "TRANSPORT_DOWN"):
        return False
    line, readings = state_of(world.api, peer), world.api.readings()
    others = [readings[name]["status"] for name in PEERS if name != peer]
    assert others == ["online"] * len(others)
    its = readings[peer]["status"], readings[peer].get("error")
    return its == ("offline", "TRANSPORT_DOWN") and line["state"] == "down" and why in line["last_error"]


def is_back(world: World, peer: str) -> bool:
    error = world.api.error_or_none(f"/sensor/{peer}")
    return error is None and world.api.readings()[peer]["status"] == "online"


def test_a_ser2net_that_is_started_again_is_used_again(world: World) -> None:
    peer = "libmodbus-ser2net-raw"
    end(world.ser2net)
    eventually(lambda: is_down_and_says(world, peer, "Connection refused"), 60)
    world.stack.enter_context(ser2net("tcp", world.raw_port, world.raw_device))
    eventually(lambda: is_back(world, peer), 60)
    assert state_of(world.api, peer)["state"] == "up"


def test_a_cable_that_is_pulled_out_and_put_back_is_used_again(world: World) -> None:
    peer = "libmodbus-pty"
    end(world.socat)
    eventually(lambda: is_down_and_says(world, peer, "is it plugged in?"), 60)
    world.stack.enter_context(world.cable.plugged_in())
    eventually(lambda: is_back(world, peer), 60)
    assert state_of(world.api, peer)["last_error"] is None


# -- a client that we did not write, on our emulator ---------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator's line of a hub with two sensors that live nowhere: units 1 (temperature) and 2 (humidity)."""
    directory = tmp_path_factory.mktemp("emulated")
    sensors = [
        {"sensor_id": "a", "sensor_type": "temperature"},
        {"sensor_id": "b", "sensor_type": "humidity"},
    ]
    hub = Instance(directory, {"sensors": sensors}).hub
    (bus,) = (each for each in hub.transports if each.emulated and each.driver == "modbus_rtu")
    assert [each.options["unit_id"] for each in hub.sensors] == [1, 2]
    with emulator(hub, directory):
        yield bus.url


def asked_of(bus: str, unit: int, table: int, *values: str) -> str:
    """What mbpoll reads at address 0 (coil 0, discrete input 1, input register 3, holding register 4)."""
    how = ("-m", "rtu", "-b", "19200", "-P", "none", "-a", str(unit), "-t", str(table), "-r", "0")
    return mbpoll(*how, bus, *values).get(0, "")


@contextmanager
def our_driver(bus: str) -> Iterator[ModbusRtu]:
    properties: dict[str, Any] = {
        "measured": register("input", 0, data_type="int16"),
        "setpoint": register("holding", 0, data_type="int16", write=True),
        "switch": register("coil", 0, write=True),
        "contact": register("discrete", 0),
    }
    driver = ModbusRtu(line(bus, timeout_s=2), [sensor("a", unit_id=1, properties=properties)])
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


def test_libmodbus_reads_our_emulator_as_our_driver_does(emulated_bus: str) -> None:
    with our_driver(emulated_bus) as driver:
        ours = driver.read("a")
    assert asked_of(emulated_bus, 1, 4) == str(ours["setpoint"])
    assert asked_of(emulated_bus, 1, 0) == str(int(bool(ours["switch"])))
    assert asked_of(emulated_bus, 1, 1) == str(int(bool(ours["contact"])))
    # It is measured anew at each reading; a room does not change by 2 degrees meanwhile.
    measured = ours["measured"]
    assert isinstance(measured, int)
    assert abs(int(asked_of(emulated_bus, 1, 3)) - measured) <= 20
    assert 200 < int(asked_of(emulated_bus, 2, 3)) < 800  # tenths of a percent of humidity


def test_what_libmodbus_writes_our_driver_reads_and_the_other_way_round(emulated_bus: str) -> None:
    asked_of(emulated_bus, 1, 4, "235")
    asked_of(emulated_bus, 1, 0, "1")
    with our_driver(emulated_bus) as driver:
        read = driver.read("a")
        assert (read["setpoint"], read["switch"], read["contact"]) == (235, True, True)
        driver.write("a", {"setpoint": -15, "switch": False})
    assert asked_of(emulated_bus, 1, 4).split()[0] == "65521"  # mbpoll shows the sign in brackets
    assert "(-15)" in asked_of(emulated_bus, 1, 4)
    assert asked_of(emulated_bus, 1, 0) == asked_of(emulated_bus, 1, 1) == "0"


def test_libmodbus_is_told_by_our_emulator_what_is_not_there(emulated_bus: str) -> None:
    how = ("-m", "rtu", "-b", "19200", "-P", "none", "-t", "4")
    with pytest.raises(AssertionError, match="Illegal data address"):
        mbpoll(*how, "-a", "1", "-r", "500", emulated_bus)
    with pytest.raises(AssertionError, match="timed out"):
        mbpoll(*how, "-a", "9", "-r", "0", emulated_bus)
