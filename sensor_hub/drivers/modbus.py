"""Modbus RTU and TCP: one transaction per property, every failure named after what happened."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers.base import Driver, PropertySpec, options_of
from sensor_hub.drivers.modbus_codec import decode, encode
from sensor_hub.drivers.modbus_frames import EXCEPTION_NAMES
from sensor_hub.drivers.modbus_rtu_client import RtuClient
from sensor_hub.drivers.modbus_settings import (
    ModbusSensor,
    Register,
    RtuSettings,
    TcpSettings,
    serial_url_problem,
    tcp_address,
)
from sensor_hub.drivers.modbus_tcp_client import TcpClient
from sensor_hub.errors import (
    DeviceRefused,
    HubError,
    InvalidCommand,
    Problem,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.readings import Json

Client = RtuClient | TcpClient


class ModbusDriver(Driver):
    """What both kinds of Modbus lines share."""

    sensor_settings = ModbusSensor

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration; open nothing."""
        super().__init__(transport, sensors)
        self._sensors = {
            sensor.sensor_id: ModbusSensor.model_validate(dict(options_of(type(self), sensor)))
            for sensor in sensors
        }
        self._client: Client | None = None
        # Its errors are ours to tell, once per change of state; it would tell every failed poll.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    @abstractmethod
    def _new_client(self) -> Client:
        """A client for the line, not connected yet."""

    def unit_id(self, sensor_id: str) -> int:
        """Modbus unit id, 1..247."""
        return self._sensors[sensor_id].unit_id

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """The sensor's registers as properties; writable only if the line is."""
        registers = self._sensors[sensor_id].registers
        return {name: item.spec(item.write and self.transport.write) for name, item in registers.items()}

    def connect(self) -> None:
        """Open the line. Raises TransportDown with the reason."""
        self.close()
        client = self._new_client()
        client.connect()
        self._client = client

    def close(self) -> None:
        """Close the line; never raises."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def read(self, sensor_id: str) -> dict[str, Json]:
        """Read all properties, one transaction each; the first failure is the read's."""
        sensor = self._sensors[sensor_id]
        return {name: self._read(sensor.unit_id, item) for name, item in sensor.registers.items()}

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Write checked values in their order; returns what was written."""
        sensor = self._sensors[sensor_id]
        orders = [(name, *_order(name, value, sensor.registers)) for name, value in values.items()]
        return {name: self._write(sensor.unit_id, item, data) for name, item, data in orders}

    def _read(self, unit_id: int, register: Register) -> Json:
        self.counters.reads += 1
        address, count = register.address, register.layout.count
        match register.table:
            case "coil":
                answer = self._transact(lambda c: c.read_coils(address, device_id=unit_id))
            case "discrete":
                answer = self._transact(lambda c: c.read_discrete_inputs(address, device_id=unit_id))
            case "holding":
                answer = self._transact(
                    lambda c: c.read_holding_registers(address, count=count, device_id=unit_id)
                )
            case "input":
                answer = self._transact(
                    lambda c: c.read_input_registers(address, count=count, device_id=unit_id)
                )
        if register.is_boolean:
            return bool(answer.bits[0])
        try:
            return decode(answer.registers, register.layout)
        except ReadFailed:
            self.counters.errors += 1
            raise

    def _write(self, unit_id: int, register: Register, data: bool | list[int]) -> Json:
        self.counters.commands += 1
        address = register.address
        if isinstance(data, bool):
            self._transact(lambda c: c.write_coil(address, data, device_id=unit_id))
            return data
        if len(data) == 1:
            self._transact(lambda c: c.write_register(address, data[0], device_id=unit_id))
        else:
            self._transact(lambda c: c.write_registers(address, data, device_id=unit_id))
        return decode(data, register.layout)

    def _transact(self, exchange: Callable[[Client], ModbusPDU]) -> ModbusPDU:
        """One request and its answer; every failure is counted and is one of the hub's errors."""
        try:
            return self._exchange(exchange)
        except HubError as error:
            self.counters.errors += 1
            self.counters.timeouts += isinstance(error, ReadTimeout)
            self.counters.exceptions += isinstance(error, DeviceRefused)
            if isinstance(error, TransportDown):
                self.close()
            raise

    def _exchange(self, exchange: Callable[[Client], ModbusPDU]) -> ModbusPDU:
        if self._client is None:
            raise TransportDown(f"{self.transport.url} is not connected")
        try:
            answer = exchange(self._client)
        except ModbusException as error:
            raise ReadFailed(f"no usable answer: {error}") from None
        if answer.isError():
            code = answer.exception_code
            name = EXCEPTION_NAMES.get(code, "unknown exception")
            raise DeviceRefused(f"unit {answer.dev_id} answered {name} ({code})")
        return answer


def _order(name: str, value: Json, registers: Mapping[str, Register]) -> tuple[Register, bool | list[int]]:
    """What to write where, found out for all values before the first is sent."""
    register = registers.get(name)
    if register is None:
        raise InvalidCommand(f"unknown property {name}")
    if register.is_boolean:
        if not isinstance(value, bool):
            raise InvalidCommand(f"{name} must be true or false")
        return register, value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCommand(f"{name} must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidCommand(f"{name} must be a finite number")
    return register, encode(value, register.layout)


class ModbusRtu(ModbusDriver):
    """Modbus RTU on a serial port, a pseudo-terminal, socket:// or rfc2217://."""

    name = "modbus_rtu"
    transport_settings = RtuSettings

    def _new_client(self) -> RtuClient:
        settings = RtuSettings.model_validate(dict(self.transport.options))
        return RtuClient(
            self.transport.url,
            baudrate=settings.baudrate,
            bytesize=settings.bytesize,
            parity=settings.parity,
            stopbits=settings.stopbits,
            timeout_s=self.transport.timeout_s,
            counters=self.counters,
        )

    @classmethod
    def check_transport(cls, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the line's options and url."""
        yield from super().check_transport(transport)
        problem = serial_url_problem(transport.url)
        if problem:
            yield Problem(f"{transport.path}.url", problem)


class ModbusTcp(ModbusDriver):
    """Modbus TCP: tcp://host[:502]."""

    name = "modbus_tcp"
    transport_settings = TcpSettings

    def _new_client(self) -> TcpClient:
        host, port = tcp_address(self.transport.url)
        return TcpClient(host, port, timeout_s=self.transport.timeout_s)

    @classmethod
    def check_transport(cls, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the line's options and url."""
        yield from super().check_transport(transport)
        try:
            tcp_address(transport.url)
        except ValueError as error:
            yield Problem(f"{transport.path}.url", str(error))
