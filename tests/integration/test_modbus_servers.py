"""The Modbus drivers against servers that are not ours: pymodbus over TCP and RTU, pyserial's RFC 2217."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import serial  # type: ignore[import-untyped]
import serial.rfc2217  # type: ignore[import-untyped]
from pymodbus import FramerType
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

from sensor_hub.config.model import SensorConfig
from sensor_hub.drivers.base import Driver, Point
from sensor_hub.drivers.modbus import ModbusRtu, ModbusTcp
from sensor_hub.errors import DeviceRefused, TransportDown
from sensor_hub.readings import Json
from tests.wire.scripted_peers import RtuOverTcpPeer, hexed, line, on_tcp, register, sensor

UNIT = 3
TEMPERATURE = sensor("temp", unit_id=UNIT, register=register("input", 1, data_type="int16", scale=0.1))
BOILER = sensor(
    "boiler",
    unit_id=UNIT,
    properties={
        "setpoint": register("holding", 10, scale=0.1, write=True),
        "energy": register("holding", 20, data_type="uint32", write=True),
        "flow": register("holding", 30, data_type="float32", word_order="little", write=True),
        "offset": register("holding", 40, data_type="int32", write=True),
        "pump": register("coil", 2, write=True),
        "door": register("discrete", 5),
    },
)
EDGE = sensor(
    "edge",
    unit_id=UNIT,
    properties={f"r{address}": register("holding", address) for address in range(90, 104)},
)
NOWHERE = sensor("nowhere", unit_id=UNIT, register=register("input", 5000))
SENSORS = [TEMPERATURE, BOILER, EDGE, NOWHERE]


class ServerThread:
    """A pymodbus server with one device, unit 3, in an event loop of its own."""

    def __init__(self, framer: FramerType) -> None:
        self._framer = framer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        self._loop.run_until_complete(self._server.shutdown())  # type: ignore[no-untyped-call]
        self._loop.close()

    async def _listen(self) -> None:
        # The block's addresses begin with 1 where the wire's begin with 0.
        block: Callable[[int, list[Any]], ModbusSequentialDataBlock] = ModbusSequentialDataBlock
        device = ModbusDeviceContext(
            di=block(1, [address == 5 for address in range(100)]),
            co=block(1, [False] * 100),
            ir=block(1, [0, 225, *[0] * 98]),
            hr=block(1, [0] * 100),
        )
        self._server = ModbusTcpServer(
            ModbusServerContext(devices={UNIT: device}, single=False),
            framer=self._framer,
            address=("127.0.0.1", 0),
        )
        assert await self._server.listen()
        listener: Any = self._server.transport
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@contextmanager
def cable(port: int) -> Iterator[str]:
    """A pseudo-terminal whose bytes go to and come from a TCP port of this machine."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    far = socket.create_connection(("127.0.0.1", port))
    stop, stopped = socket.socketpair()

    def carry() -> None:
        while True:
            ends: list[Any] = [master, far, stopped]
            ready, _, _ = select.select(ends, [], [])
            if stopped in ready:
                return
            if far in ready:
                os.write(master, far.recv(1024))
            if master in ready:
                far.sendall(os.read(master, 1024))

    carrier = threading.Thread(target=carry, daemon=True)
    carrier.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.sendall(b"x")
        carrier.join(5)
        for each in (far, stop, stopped):
            each.close()
        os.close(slave)
        os.close(master)


@contextmanager
def connected(kind: type[Driver], url: str, sensors: list[SensorConfig]) -> Iterator[Driver]:
    driver = kind(line(url, kind.name, timeout_s=2), sensors)
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


@pytest.fixture(params=["modbus_tcp", "rtu over socket://", "rtu on a pseudo-terminal"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    tcp = request.param == "modbus_tcp"
    server = ServerThread(FramerType.SOCKET if tcp else FramerType.RTU)
    try:
        with ExitStack() as stack:
            if tcp:
                kind: type[Driver] = ModbusTcp
                url = f"tcp://127.0.0.1:{server.port}"
            elif "socket" in request.param:
                kind, url = ModbusRtu, f"socket://127.0.0.1:{server.port}"
            else:
                kind, url = ModbusRtu, stack.enter_context(cable(server.port))
            yield stack.enter_context(connected(kind, url, SENSORS))
    finally:
        server.stop()


def test_a_pymodbus_server_is_read(driver: Driver) -> None:
    assert driver.read("temp") == {"value": 22.5}


def test_what_is_written_is_read_back_with_every_type(driver: Driver) -> None:
    values: dict[str, Json] = {
        "setpoint": 54.5,
        "energy": 3_000_000_000,
        "flow": -12.25,
        "offset": -100_000,
        "pump": True,
    }
    assert driver.write("boiler", values) == values
    assert driver.read("boiler") == {**values, "door": True}


def test_an_address_that_is_not_there_is_refused_by_name(driver: Driver) -> None:
    with pytest.raises(DeviceRefused, match=r"illegal data address \(2\)"):
        driver.read("nowhere")
    assert driver.read("temp") == {"value": 22.5}


def test_what_lies_beyond_the_devices_last_register_is_found_out_and_left_out(driver: Driver) -> None:
    assert driver.read("edge") == {f"r{address}": 0 for address in range(90, 100)}
    points = [Point("edge", f"r{address}") for address in range(90, 104)]
    again = driver.plan(points)
    assert sorted(point.name for block in again for point in block.points) == [
        f"r{n}" for n in range(90, 100)
    ]
    for block in again:
        driver.exchange(block)  # nothing is refused any more


class Rfc2217Peer(RtuOverTcpPeer):
    """A terminal server: RTU frames inside telnet."""

    @property
    def url(self) -> str:
        return f"rfc2217://127.0.0.1:{self.port}"

    def _talk(self, connection: socket.socket) -> None:
        lock = threading.Lock()

        class Wire:
            def write(self, data: bytes) -> None:
                with lock, suppress(OSError):
                    connection.sendall(data)

        self.serial = serial.serial_for_url("loop://")
        manager = serial.rfc2217.PortManager(self.serial, Wire())
        heard = b""
        while data := connection.recv(1024):
            heard += b"".join(manager.filter(data))
            while len(heard) >= 8:
                request, heard = heard[:8], heard[8:]
                Wire().write(b"".join(manager.escape(self.script.answer(request))))


def test_rtu_frames_travel_inside_rfc2217_with_0xff_in_them() -> None:
    cold, warm = hexed("03 04 02 FF 9C 81 69"), hexed("03 04 02 00 E1 00 B8")
    with on_tcp(cold, warm, kind=Rfc2217Peer) as peer:
        with connected(ModbusRtu, peer.url, [TEMPERATURE]) as driver:
            assert driver.read("temp") == {"value": -10.0}
            assert driver.read("temp") == {"value": 22.5}
        assert isinstance(peer, Rfc2217Peer)
        assert peer.serial.baudrate == 19200
        assert peer.requests == [hexed("03 04 00 01 00 01 61 E8")] * 2


def test_a_terminal_server_that_hangs_up_is_transport_down() -> None:
    with on_tcp(kind=Rfc2217Peer) as peer, connected(ModbusRtu, peer.url, [TEMPERATURE]) as driver:
        peer.close()
        with pytest.raises(TransportDown):
            driver.read("temp")
