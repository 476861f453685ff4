"""Modbus RTU and TCP: points read in blocks, values written, every failure named after what happened."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from sensor_hub import logs
from sensor_hub.config.model import SensorConfig, TransportConfig, WriteChecks
from sensor_hub.drivers.base import Block, Driver, Load, Point, PropertySpec, options_of
from sensor_hub.drivers.modbus_frames import refusal
from sensor_hub.drivers.modbus_plan import MAX_WRITTEN, ModbusBlock, Span
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.modbus_rtu_client import RtuClient
from sensor_hub.drivers.modbus_settings import (
    LineSettings,
    MapError,
    ModbusSensor,
    ModbusTcpSensor,
    RtuSettings,
    TcpSettings,
    tcp_address,
)
from sensor_hub.drivers.modbus_tcp_client import TcpClient
from sensor_hub.drivers.modbus_timing import SerialTiming
from sensor_hub.drivers.modbus_units import Device, Unit, units_of
from sensor_hub.drivers.serial_port import serial_url_problem
from sensor_hub.errors import (
    DeviceRefused,
    InvalidCommand,
    Problem,
    ReadFailed,
    ReadTimeout,
    TransportDown,
    ValueOutOfRange,
)
from sensor_hub.readings import Json

log = logs.get(__name__)

Client = RtuClient | TcpClient


class ModbusDriver(Driver):
    """What both kinds of Modbus lines share."""

    transport_settings: ClassVar[type[LineSettings]]
    sensor_settings: ClassVar[type[ModbusSensor]] = ModbusSensor

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration; open nothing."""
        super().__init__(transport, sensors)
        self._settings = self.transport_settings.model_validate(dict(transport.options))
        self._devices = {sensor.sensor_id: self._prepare(sensor) for sensor in sensors}
        self._specs = {sensor_id: self._specs_of(device) for sensor_id, device in self._devices.items()}
        self._units = units_of(list(self._devices.values()), self._settings.delay_ms / 1000)
        self._told: set[Point] = set()
        self._client: Client | None = None
        # Its errors are ours to tell, once per change of state; it would tell every failed poll.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    def _prepare(self, sensor: SensorConfig) -> Device:
        settings = self.sensor_settings.model_validate(dict(options_of(type(self), sensor)))
        profile = settings.device(self.transport.register_maps, self.transport.read_interval_s)
        return Device.of(sensor.sensor_id, settings.unit_id, profile, sensor.interval_s)

    def _specs_of(self, device: Device) -> Mapping[str, PropertySpec]:
        """Asked for with each reading, and the same as long as the driver lives."""
        may_write = self.transport.write
        found = {name: item.spec(item.write and may_write) for name, item in device.registers.items()}
        # Limits that stand in the instance file say what a command may say, not what the device holds.
        of_map = device.profile.of_map
        return {
            name: spec if name in of_map else replace(spec, limited=False) for name, spec in found.items()
        }

    @abstractmethod
    def _new_client(self) -> Client:
        """A client for the line, not connected yet."""

    @property
    def _delays_s(self) -> Mapping[int, float]:
        return {unit_id: unit.delay_s for unit_id, unit in self._units.items()}

    def _unit(self, sensor_id: str) -> Unit:
        return self._units[self.unit_id(sensor_id)]

    def unit_id(self, sensor_id: str) -> int:
        """Modbus unit id."""
        return self._devices[sensor_id].unit_id

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """The sensor's registers as properties; writable only if the line is."""
        return self._specs[sensor_id]

    def is_polled(self, sensor_id: str) -> bool:
        """False for a sensor that can only be written."""
        return bool(self._devices[sensor_id].spans)

    def connect(self) -> None:
        """Open the line. Raises TransportDown with the reason. What is on it may be other devices now."""
        self.close()
        client = self._new_client()
        client.connect()
        self._client = client
        for unit in self._units.values():
            unit.learned.forget()

    def close(self) -> None:
        """Close the line; never raises."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- reading -----------------------------------------------------------------------------------------------

    def plan(self, points: Sequence[Point]) -> Sequence[ModbusBlock]:
        """As few transactions as the unit takes. What it refused is left out where its sensor has other points."""
        return self._unit(points[0].sensor_id).plan(points, time.monotonic()) if points else ()

    def plan_all(self, points: Sequence[Point]) -> Sequence[ModbusBlock]:
        """The same with nothing left out."""
        return self._unit(points[0].sensor_id).plan_all(points, time.monotonic()) if points else ()

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        """One transaction. A value that is none (NaN) is left out, unless all are. Raises as Driver.exchange."""
        assert isinstance(block, ModbusBlock)
        unit, span = self._units[block.unit_id], block.span

        def ask(client: Client) -> ModbusPDU:
            answer: ModbusPDU = getattr(client, span.reader)(
                span.address, count=span.count, device_id=block.unit_id
            )
            return answer

        try:
            answer = self._ask(ask)
            if answer.isError():
                raise refusal(answer.dev_id, answer.exception_code)
        except ReadTimeout:
            unit.learned.keep_silent(span, time.monotonic())
            raise
        except DeviceRefused as error:
            self._learn(block, answer.exception_code, error)
            raise
        unit.answered(block, time.monotonic())
        return self._values(block, answer)

    def read(self, sensor_id: str) -> dict[str, Json]:
        """Read all properties; the first failure is the read's, but a block that is refused is read in parts."""
        waiting = list(self.plan(list(self._devices[sensor_id].spans)))
        values: dict[str, Json] = {}
        while waiting:
            block = waiting.pop(0)
            try:
                read = self.exchange(block)
            except DeviceRefused:
                finer = list(self.plan(block.points))
                if finer == [block] or not (finer or waiting or values):
                    raise
                waiting[:0] = finer
            else:
                values |= {point.name: value for point, value in read.items()}
        return values

    def _learn(self, block: ModbusBlock, code: int, error: DeviceRefused) -> None:
        for point in self._units[block.unit_id].refused(block, code, time.monotonic()):
            if point not in self._told:
                self._told.add(point)
                log.warning(
                    "register refused", sensor=point.sensor_id, property=point.name, reason=str(error)
                )

    def _values(self, block: ModbusBlock, answer: ModbusPDU) -> dict[Point, Json]:
        raw: Sequence[Any] = answer.bits if block.span.is_bits else answer.registers
        values: dict[Point, Json] = {}
        failure = None
        for point in block.points:
            device = self._devices[point.sensor_id]
            span = device.spans[point]
            start = span.address - block.span.address
            try:
                values[point] = device.registers[point.name].decode(raw[start : start + span.count])
            except ReadFailed as error:
                failure = failure or ReadFailed(f"{point.name}: {error}")
        if failure is not None and not values:
            raise failure
        return values

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Write checked values in their order; returns what was sent. Bit-fields are merged into what is held."""
        device = self._devices[sensor_id]
        for name, value in values.items():  # all of them before the first is sent
            register = device.registers.get(name)
            if register is None:
                raise InvalidCommand(f"unknown property {name}")
            self._encoded(name, register, value, [0] * register.count)
        return {name: self._write(device, name, value) for name, value in values.items()}

    def _encoded(
        self, name: str, register: Register, value: Json, current: Sequence[int] | None
    ) -> bool | list[int]:
        checked = self.transport.write_checks is not WriteChecks.UNSAFE
        try:
            data = register.encode(value, current, checked=checked)
        except (InvalidCommand, ValueOutOfRange) as error:
            raise type(error)(f"{name} {error}") from None
        if not isinstance(data, bool) and len(data) > MAX_WRITTEN:
            raise InvalidCommand(f"{name} takes {len(data)} registers, and one request writes {MAX_WRITTEN}")
        return data

    def _write(self, device: Device, name: str, value: Json) -> Json:
        register, unit_id = device.registers[name], device.unit_id
        address, count = register.address, register.count
        current = None
        if register.needs_current:
            held = self._transact(lambda c: c.read_holding_registers(address, count=count, device_id=unit_id))
            current = held.registers
        data = self._encoded(name, register, value, current)
        if isinstance(data, bool):
            self._transact(lambda c: c.write_coil(address, data, device_id=unit_id))
        elif len(data) == 1 and not device.profile.write_multiple:
            self._transact(lambda c: c.write_register(address, data[0], device_id=unit_id))
        else:
            self._transact(lambda c: c.write_registers(address, data, device_id=unit_id))
        self._units[unit_id].written(Span(register.table, address, count), time.monotonic())
        return data if isinstance(data, bool) else register.decode(data)

    @classmethod
    def check_sensor(cls, sensor: SensorConfig, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the sensor's options and its register map; what is odd in that is a warning."""
        problems = list(super().check_sensor(sensor, transport))
        yield from problems
        if problems:
            return
        settings = cls.sensor_settings.model_validate(dict(options_of(cls, sensor)))
        path = f"{sensor.path}.register_map"
        try:
            notes = settings.device(transport.register_maps, transport.read_interval_s).notes
        except MapError as error:
            yield Problem(path, str(error))
            return
        yield from (Problem(path, note, fatal=False) for note in notes)

    # -- one exchange ------------------------------------------------------------------------------------------

    def _transact(self, call: Callable[[Client], ModbusPDU]) -> ModbusPDU:
        answer = self._ask(call)
        if answer.isError():
            raise refusal(answer.dev_id, answer.exception_code)
        return answer

    def _ask(self, call: Callable[[Client], ModbusPDU]) -> ModbusPDU:
        """One request and its answer, which may be a refusal; every failure is one of the hub's errors."""
        if self._client is None:
            raise TransportDown(f"{self.transport.url} is not connected")
        try:
            return call(self._client)
        except ModbusException as error:
            raise ReadFailed(f"no usable answer: {error}") from None
        except TransportDown:
            self.close()
            raise


class ModbusRtu(ModbusDriver):
    """Modbus RTU on a serial port (by path or hwgrep://), a pseudo-terminal, socket:// or rfc2217://."""

    name = "modbus_rtu"
    transport_settings = RtuSettings
    url_problem = staticmethod(serial_url_problem)

    def _new_client(self) -> RtuClient:
        return RtuClient(
            self.transport.url,
            self._serial,
            timeout_s=self.transport.timeout_s,
            delays_s=self._delays_s,
            never_read={unit_id: unit.never_read for unit_id, unit in self._units.items()},
        )

    @property
    def _serial(self) -> RtuSettings:
        assert isinstance(self._settings, RtuSettings)
        return self._settings

    def load(self) -> Sequence[Load]:
        """How busy each unit keeps the line, from frame lengths, silences and delays.

        Empty behind socket:// without a baud rate: only the gateway knows it.
        """
        if self.transport.url.startswith("socket:") and "baudrate" not in self.transport.options:
            return ()
        timing = SerialTiming.of(self._serial.char_s)
        return [unit.load(timing) for unit in self._units.values()]


class ModbusTcp(ModbusDriver):
    """Modbus TCP: tcp://host[:502]."""

    name = "modbus_tcp"
    transport_settings = TcpSettings
    sensor_settings = ModbusTcpSensor

    def _new_client(self) -> TcpClient:
        host, port = tcp_address(self.transport.url)
        return TcpClient(host, port, timeout_s=self.transport.timeout_s, delays_s=self._delays_s)

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """As on any line, but never to everybody."""
        device = self._devices[sensor_id]
        if device.unit_id == 0:
            self._refuse_broadcast(device)
        return super().write(sensor_id, values)

    def _refuse_broadcast(self, device: Device) -> None:
        """Unit 0 is everybody behind a gateway, and nobody answers then; the connection's own device does."""
        if len(self._units) > 1:
            raise InvalidCommand("unit 0 is everybody behind a gateway: broadcasts are refused")
        client = self._client
        if isinstance(client, TcpClient) and client.has_read_from(device.unit_id):
            return
        blocks = self.plan(list(device.spans))
        if not blocks:
            raise InvalidCommand(
                "unit 0 is everybody behind a gateway: it is written after it has answered a read, "
                "and this one has nothing to read"
            )
        self.exchange(blocks[0])

    @staticmethod
    def url_problem(url: str) -> str | None:
        """What is wrong with the url of a line, or None."""
        try:
            tcp_address(url)
        except ValueError as error:
            return str(error)
        return None
