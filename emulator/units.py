"""What a Modbus unit of the emulator holds, as a device of pymodbus' server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from emulator.values import Signal, register_of

READ_DISCRETE_INPUTS, READ_INPUT_REGISTERS = 2, 4
WRITE_COIL, WRITE_COILS = 5, 15
INITIAL_SETPOINT = 210


class EmulatedUnit:
    """One unit and its registers.

    Input register 0: the measured value (int16 * 0.1), computed when read. For trying commands: holding
    register 0, a setpoint (int16 * 0.1); coil 0, a switch; discrete input 0, the switch's feedback contact.
    """

    def __init__(self, unit_id: int, signal: Signal, now: Callable[[], datetime]) -> None:
        """`now` is the aware wall time."""
        self._unit_id, self._signal, self._now = unit_id, signal, now
        self._switch = False

    def device(self) -> SimDevice:
        """Make the unit for a pymodbus server: coils, discrete inputs, holding registers, input registers."""
        off = [SimData(0, values=False, datatype=DataType.BITS)]
        contact = [SimData(0, values=False, datatype=DataType.BITS)]
        setpoint = [SimData(0, values=INITIAL_SETPOINT, datatype=DataType.INT16)]
        measured = [SimData(0, values=0, datatype=DataType.INT16)]
        return SimDevice(self._unit_id, simdata=(off, contact, setpoint, measured), action=self._access)

    async def _access(
        self,
        function_code: int,
        _start_address: int,
        address: int,
        _count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Refresh `registers` before the server reads them, note what it writes.

        `registers[0]` is address 0; for coils and discrete inputs, addresses 0..15.
        """
        if function_code == READ_INPUT_REGISTERS:
            registers[0] = register_of(self._signal.at(self._now()))
        elif function_code == READ_DISCRETE_INPUTS:
            registers[0] = int(self._switch)
        elif function_code in (WRITE_COIL, WRITE_COILS) and values and address == 0:
            self._switch = bool(values[0])
        return None
