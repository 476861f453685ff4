"""Modbus units: their tables, what they refuse, and the values that live in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from emulator.controls import Control, Controls, number, switch, whole
from emulator.faults import Faults
from emulator.modbus_pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RefusedError, Table, answer_of
from emulator.values import SCALE, Signal, register_of

INITIAL_SETPOINT = 210
SHOWN_REGISTERS = 200  # of a unit with more, the others are there and not listed
Blocks = Mapping[Table, Mapping[int, Sequence[int]]]  # table -> first address -> contents
BITS = (Table.COIL, Table.DISCRETE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that touches any of these addresses gets this exception."""

    table: Table
    address: int
    count: int = 1
    exception: int = ILLEGAL_ADDRESS


@dataclass(frozen=True, slots=True)
class Manners:
    """What a unit does not put up with. `separate_blocks`: no request may reach from one block into the next."""

    max_registers: int | None = None
    separate_blocks: bool = False
    refuses: Sequence[Refusal] = ()


@dataclass(slots=True)
class _Tables:
    cells: dict[Table, dict[int, int]] = field(default_factory=lambda: {table: {} for table in Table})
    block_of: dict[tuple[Table, int], int] = field(default_factory=dict)


class Unit(Controls):
    """One unit: the tables of `blocks`, and nothing else."""

    def __init__(
        self,
        unit_id: int,
        name: str,
        kind: str,
        faults: Faults,
        blocks: Blocks,
        manners: Manners = Manners(),
    ) -> None:
        super().__init__(name, kind, faults)
        self.unit_id, self.name = unit_id, name
        self._manners = manners
        self._tables = _Tables()
        self._live: dict[tuple[Table, int], Callable[[], int]] = {}
        self._last: dict[tuple[Table, int], int] = {}  # what was last read, or written
        self._is_stuck = False
        for table, contents in blocks.items():
            for first, values in contents.items():
                for address, value in enumerate(values, start=first):
                    self._tables.cells[table][address] = value & 0xFFFF
                    self._tables.block_of[table, address] = first
        self.controls = self._controls_of_cells()

    def answer(self, request: bytes, *, stuck: bool = False) -> bytes:
        """The PDU that answers a request's; while stuck all that can be read stays as it was last told."""
        with self.lock:
            self._is_stuck = stuck
            return answer_of(self, request)

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """As modbus_pdu.Store."""
        self._check(table, address, count)
        return [self._value(table, each) for each in range(address, address + count)]

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """As modbus_pdu.Store."""
        self._check(table, address, len(values))
        if self._is_stuck:
            return
        self._tables.cells[table].update(enumerate(values, start=address))
        self._last |= {(table, each): value for each, value in enumerate(values, start=address)}
        self._last |= {key: live() for key, live in self._live.items() if key in self._last}

    def _check(self, table: Table, address: int, count: int) -> None:
        manners, cells = self._manners, self._tables.cells[table]
        addresses = range(address, address + count)
        if manners.max_registers is not None and count > manners.max_registers and table not in BITS:
            raise RefusedError(ILLEGAL_VALUE)
        for refusal in manners.refuses:
            if (
                refusal.table is table
                and address < refusal.address + refusal.count
                and refusal.address < addresses.stop
            ):
                raise RefusedError(refusal.exception)
        if any(each not in cells for each in addresses):
            raise RefusedError(ILLEGAL_ADDRESS)
        blocks = self._tables.block_of
        if manners.separate_blocks and blocks.get((table, address)) != blocks.get((table, addresses[-1])):
            raise RefusedError(ILLEGAL_ADDRESS)

    def _value(self, table: Table, address: int) -> int:
        key = table, address
        if not self._is_stuck or key not in self._last:
            live = self._live.get(key)
            self._last[key] = self._tables.cells[table][address] if live is None else live()
        return self._last[key]

    def _controls_of_cells(self) -> dict[str, Control]:
        cells = [(table, address) for table in Table for address in sorted(self._tables.cells[table])]
        return {
            f"{table}_{address}": self._control_of_cell(table, address)
            for table, address in cells[:SHOWN_REGISTERS]
        }

    def _control_of_cell(self, table: Table, address: int) -> Control:
        cells = self._tables.cells[table]
        if table in BITS:
            return Control(
                lambda: bool(cells[address]), *switch(lambda on: cells.__setitem__(address, int(on)))
            )
        put = whole(lambda word: cells.__setitem__(address, word & 0xFFFF), -32768, 65535)
        return Control(lambda: cells[address], *put)


_SENSOR_BLOCKS: Blocks = MappingProxyType(
    {
        Table.INPUT: {0: [0]},
        Table.HOLDING: {0: [INITIAL_SETPOINT]},
        Table.COIL: {0: [0]},
        Table.DISCRETE: {0: [0]},
    }
)


class SensorUnit(Unit):
    """A sensor with the registers that all of them have, and those of `blocks` besides.

    Input register 0: the measured value (int16 * 0.1), computed when read. For trying commands: holding
    register 0, a setpoint (int16 * 0.1); coil 0, a switch; discrete input 0, the switch's feedback contact.
    """

    def __init__(
        self,
        unit_id: int,
        name: str,
        kind: str,
        faults: Faults,
        signal: Signal,
        now: Callable[[], datetime],
        blocks: Blocks = MappingProxyType({}),
        manners: Manners = Manners(),
    ) -> None:
        """`now` is the aware wall time."""
        both = {table: {**blocks.get(table, {}), **_SENSOR_BLOCKS[table]} for table in Table}
        super().__init__(unit_id, name, kind, faults, both, manners)
        self._signal, self._now = signal, now
        self._forced: float | None = None
        cells = self._tables.cells
        self._live[Table.INPUT, 0] = lambda: register_of(self._measure())
        self._live[Table.DISCRETE, 0] = lambda: cells[Table.COIL][0]
        own = {f"{table}_0" for table in Table}
        self.controls = self._controls_of_sensor() | {
            name: control for name, control in self.controls.items() if name not in own
        }

    def _controls_of_sensor(self) -> dict[str, Control]:
        cells = self._tables.cells
        low, high = -32768 * SCALE, 32767 * SCALE
        setpoint = number(lambda value: cells[Table.HOLDING].__setitem__(0, register_of(value)), low, high)
        turned = switch(lambda on: cells[Table.COIL].__setitem__(0, int(on)))
        return {
            "value": Control(
                lambda: round(self._measure(), 1), *number(self._force, low, high), self._unforce
            ),
            "setpoint": Control(lambda: _signed(cells[Table.HOLDING][0]) / 10, *setpoint),
            "switch": Control(lambda: bool(cells[Table.COIL][0]), *turned),
        }

    def _measure(self) -> float:
        return self._signal.at(self._now()) if self._forced is None else self._forced

    def _force(self, value: float) -> None:
        self._forced = value

    def _unforce(self) -> None:
        self._forced = None


def _signed(word: int) -> int:
    return word - 0x10000 if word > 0x7FFF else word
