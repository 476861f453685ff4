"""What emulated Modbus units answer: literal PDUs first, then anything."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from emulator.faults import MODBUS, Fault, Faults, Kind, Strikes
from emulator.frames import GAP_S, RequestAssembler, crc_of, framed
from emulator.modbus_pdu import Table
from emulator.peers import ModbusBus
from emulator.registry import BadValueError, UnknownNameError
from emulator.units import Manners, Refusal, SensorUnit, Unit
from emulator.values import Signal, stream

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def no_faults() -> Faults:
    return Faults(MODBUS, random.Random(1))


def meter(manners: Manners | None = None) -> Unit:
    blocks = {
        Table.HOLDING: {0: [0x0102, -1, 3], 3: [4], 100: [7] * 125},
        Table.INPUT: {5: [225]},
        Table.COIL: {0: [1, 0, 1, 1, 0, 0, 0, 0, 1]},
        Table.DISCRETE: {2: [1]},
    }
    return Unit(1, "meter", "registers", no_faults(), blocks, manners or Manners())


def thermometer() -> SensorUnit:
    signal = Signal("temperature", UTC, stream(1, "t"))
    return SensorUnit(3, "cellar", "temperature", no_faults(), signal, lambda: NOON)


def asked(unit: Unit, *requests: str) -> list[str]:
    return [unit.answer(bytes.fromhex(request)).hex(" ") for request in requests]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("03 0000 0003", "03 06 01 02 ff ff 00 03"),
        ("04 0005 0001", "04 02 00 e1"),
        ("01 0000 0009", "01 02 0d 01"),
        ("02 0002 0001", "02 01 01"),
        ("03 0064 007d", "03 fa" + " 00 07" * 125),
        ("05 0001 ff00", "05 00 01 ff 00"),
        ("06 0000 1234", "06 00 00 12 34"),
        ("0f 0000 000a 02 cd01", "8f 02"),
        ("0f 0000 0009 02 cd01", "0f 00 00 00 09"),
        ("10 0000 0002 04 000a0102", "10 00 00 00 02"),
        ("16 0000 00f2 0025", "16 00 00 00 f2 00 25"),
        ("17 0000 0002 0000 0001 02 00ff", "17 04 00 ff ff ff"),
        ("08 0000 a537", "08 00 00 a5 37"),
        ("08 0001 0000", "88 01"),
        ("11", "11 06 6d 65 74 65 72 ff"),
        ("2b 0e 04 00", "2b 0e 04 81 00 00 01 00 0a 53 65 6e 73 6f 72 20 48 75 62"),
        ("2b 0e 04 09", "ab 02"),
        ("2b 0d 01 00", "ab 01"),
        ("07", "87 01"),
        ("41 0102", "c1 01"),
        ("03 0004 0001", "83 02"),
        ("03 0000 0005", "83 02"),
        ("04 0000 0001", "84 02"),
        ("03 0000 0000", "83 03"),
        ("03 0000 007e", "83 03"),
        ("01 0000 07d1", "81 03"),
        ("05 0001 0001", "85 03"),
        ("10 0000 0002 03 000a01", "90 03"),
        ("0f 0000 0009 01 cd", "8f 03"),
        ("06 0000", "86 03"),
        ("06 0005 0001", "86 02"),
    ],
)
def test_a_unit_answers_as_the_specification_says(request_: str, answer: str) -> None:
    assert asked(meter(), request_) == [answer]


@pytest.mark.parametrize(
    ("write", "read", "answer"),
    [
        ("05 0001 ff00", "01 0000 0002", "01 01 03"),
        ("05 0000 0000", "01 0000 0001", "01 01 00"),
        ("06 0000 1234", "03 0000 0001", "03 02 12 34"),
        ("0f 0000 0003 01 02", "01 0000 0003", "01 01 02"),
        ("10 0000 0002 04 000a0102", "03 0000 0002", "03 04 00 0a 01 02"),
        ("16 0000 00f2 0025", "03 0000 0001", "03 02 00 07"),
    ],
)
def test_what_was_written_is_read_and_a_stuck_unit_keeps_what_it_has(
    write: str, read: str, answer: str
) -> None:
    unit, stuck = meter(), meter()
    before = asked(stuck, read)
    assert asked(unit, write, read)[1] == answer
    stuck.answer(bytes.fromhex(write), stuck=True)
    assert asked(stuck, read) == before


def test_a_unit_reads_no_more_registers_than_it_likes() -> None:
    unit = meter(Manners(max_registers=2))
    assert asked(unit, "03 0000 0002", "03 0000 0003", "01 0000 0009") == [
        "03 04 01 02 ff ff",
        "83 03",
        "01 02 0d 01",
    ]


def test_a_unit_with_separate_blocks_lets_no_request_reach_over_their_border() -> None:
    assert asked(meter(), "03 0002 0002") == ["03 04 00 03 00 04"]
    unit = meter(Manners(separate_blocks=True))
    assert asked(unit, "03 0002 0002", "03 0000 0003", "03 0003 0001") == [
        "83 02",
        "03 06 01 02 ff ff 00 03",
        "03 02 00 04",
    ]


def test_a_refused_range_gets_its_exception_whoever_touches_it() -> None:
    unit = meter(Manners(refuses=[Refusal(Table.HOLDING, 1, 2, 4)]))
    assert asked(unit, "03 0000 0001", "03 0000 0002", "03 0002 0001", "06 0001 0000", "03 0003 0001") == [
        "03 02 01 02",
        "83 04",
        "83 04",
        "86 04",
        "03 02 00 04",
    ]


def test_registers_are_values_by_name() -> None:
    unit = meter()
    assert unit.values()["holding_1"] == 0xFFFF
    unit.set("holding_1", -2)
    unit.set("coil_1", True)
    assert asked(unit, "03 0001 0001", "01 0001 0001") == ["03 02 ff fe", "01 01 01"]
    with pytest.raises(BadValueError, match=r"holding_1 of meter must be a whole number, -32768\.\.65535"):
        unit.set("holding_1", 65536)
    with pytest.raises(BadValueError, match="coil_1 of meter must be true or false, not 1"):
        unit.set("coil_1", 1)
    with pytest.raises(UnknownNameError, match="meter has no holding_9; it has coil_0"):
        unit.set("holding_9", 1)


def test_a_measured_value_is_held_until_it_is_released() -> None:
    unit = thermometer()
    measured = unit.values()["value"]
    assert isinstance(measured, float)
    assert 18 < measured < 26
    unit.set("value", -40.5)
    assert (unit.values()["value"], unit.held()) == (-40.5, ("value",))
    assert asked(unit, "04 0000 0001") == ["04 02 fe 6b"]
    unit.release("value")
    assert (unit.values()["value"], unit.held()) == (measured, ())


def test_a_setpoint_and_a_switch_are_one_with_their_registers() -> None:
    unit = thermometer()
    assert (unit.values()["setpoint"], unit.values()["switch"]) == (21.0, False)
    asked(unit, "06 0000 ff38", "05 0000 ff00")
    assert (unit.values()["setpoint"], unit.values()["switch"]) == (-20.0, True)
    unit.set("setpoint", 30.5)
    unit.set("switch", False)
    assert asked(unit, "03 0000 0001", "02 0000 0001") == ["03 02 01 31", "02 01 00"]


def test_a_stuck_sensor_measures_the_same_again() -> None:
    unit = thermometer()
    unit.set("value", 20.0)
    assert asked(unit, "04 0000 0001") == ["04 02 00 c8"]
    unit.set("value", 25.0)
    assert unit.answer(bytes.fromhex("0400000001"), stuck=True).hex() == "040200c8"
    assert asked(unit, "04 0000 0001") == ["04 02 00 fa"]


@pytest.mark.parametrize(
    ("name", "first", "second", "read"),
    [
        ("holding_1", 7, 9, "03 0001 0001"),
        ("input_5", 7, 9, "04 0005 0001"),
        ("coil_3", True, False, "01 0000 0009"),
        ("discrete_2", True, False, "02 0002 0001"),
    ],
)
def test_a_stuck_unit_says_what_it_last_said_whatever_is_set(
    name: str, first: float, second: float, read: str
) -> None:
    unit = meter()
    unit.set(name, first)
    before = asked(unit, read)[0]
    unit.set(name, second)
    assert [unit.answer(bytes.fromhex(read), stuck=True).hex(" ") for _ in range(2)] == [before] * 2
    assert unit.values()[name] == second
    assert asked(unit, read)[0] != before


@pytest.mark.parametrize(
    ("write", "read", "answer", "set_then"),
    [
        ("06 0000 0102", "03 0000 0001", "03 02 01 02", ("setpoint", 5.0)),
        ("05 0000 ff00", "01 0000 0001", "01 01 01", ("switch", False)),
        ("05 0000 ff00", "02 0000 0001", "02 01 01", ("switch", False)),
    ],
)
def test_a_unit_is_stuck_at_what_was_written_before(
    write: str, read: str, answer: str, set_then: tuple[str, float]
) -> None:
    unit = thermometer()
    asked(unit, read, write)
    assert unit.answer(bytes.fromhex(read), stuck=True).hex(" ") == answer
    unit.set(*set_then)
    assert unit.answer(bytes.fromhex(read), stuck=True).hex(" ") == answer
    assert asked(unit, read)[0] != answer


def test_a_unit_that_was_never_read_is_stuck_at_what_it_is_asked_first() -> None:
    unit = meter()
    unit.set("holding_0", 5)
    reads = []
    for value in (6, 7):
        reads.append(unit.answer(bytes.fromhex("0300000001"), stuck=True).hex())
        unit.set("holding_0", value)
    assert reads == ["03020005"] * 2


# -- faults on a bus ----------------------------------------------------------------------------------------------


def bus(count: int = 3) -> tuple[ModbusBus, list[Unit]]:
    units = [
        Unit(n, f"u{n}", "registers", no_faults(), {Table.HOLDING: {0: [0]}}) for n in range(1, count + 1)
    ]
    return ModbusBus({unit.unit_id: unit for unit in units}), units


@pytest.mark.parametrize("kind", [Kind.SILENCE, Kind.STUCK, Kind.EXCEPTION])
def test_what_all_are_told_a_unit_that_is_struck_does_not_do(kind: Kind) -> None:
    peer, units = bus()
    units[1].faults.inject(Fault(kind=kind, count=1))
    assert peer.answer(framed(0, bytes.fromhex("0600000007")), {}) == b""
    assert [unit.values()["holding_0"] for unit in units] == [7, 0, 7]
    assert units[1].faults.active() == []
    peer.answer(framed(0, bytes.fromhex("0600000008")), {})
    assert [unit.values()["holding_0"] for unit in units] == [8, 8, 8]


@pytest.mark.parametrize("kind", [Kind.STUCK, Kind.EXCEPTION])
def test_what_all_are_told_on_a_line_that_is_struck_nobody_does(kind: Kind) -> None:
    peer, units = bus()
    peer.answer(framed(0, bytes.fromhex("0600000007")), {kind: Fault(kind=kind)})
    assert [unit.values()["holding_0"] for unit in units] == [0, 0, 0]


def test_a_request_that_is_refused_leaves_a_unit_stuck_for_the_next() -> None:
    peer, units = bus(1)
    faults = units[0].faults
    for kind in (Kind.EXCEPTION, Kind.STUCK):
        faults.inject(Fault(kind=kind, count=1))
    write = framed(1, bytes.fromhex("0600000007"))
    said = [peer.answer(write, Strikes(faults)) for _ in range(3)]
    assert said == [framed(1, b"\x86\x04"), write, write]
    assert units[0].values()["holding_0"] == 7


@given(st.binary(min_size=1, max_size=252))
def test_any_request_gets_an_answer_that_fits_into_a_frame(request_: bytes) -> None:
    answer = meter().answer(request_)
    assert answer[0] in (request_[0], request_[0] | 0x80)
    assert 1 <= len(answer) <= 253
    if answer[0] & 0x80 and not request_[0] & 0x80:
        assert answer[1] in (1, 2, 3)


@given(st.binary(max_size=300))
def test_the_checksum_is_pymodbus_own(body: bytes) -> None:
    assert int.from_bytes(crc_of(body), "big") == FramerRTU.compute_CRC(body)


def requests_of(pieces: Sequence[bytes]) -> list[bytes]:
    assembler = RequestAssembler()
    return [frame for n, piece in enumerate(pieces) for frame in assembler.feed(piece, 1 + n / 1000)]


REQUESTS = st.sampled_from(
    [bytes.fromhex(text) for text in ("0400000001", "060000ffff", "1000000002040102fffe", "0f0000000301ff", "11")]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 247), REQUESTS), max_size=8), st.data())
def test_requests_are_the_same_however_they_are_cut(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    wanted = [framed(unit_id, pdu) for unit_id, pdu in frames]
    whole = b"".join(wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert requests_of(pieces) == wanted


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_after_any_noise_and_silence_a_request_is_understood(noise: list[bytes]) -> None:
    assembler, request = RequestAssembler(), framed(1, bytes.fromhex("0400000001"))
    for piece in noise:
        assembler.feed(piece, 1.0)
    assert assembler.feed(request, 1.0 + 2 * GAP_S) == [request]
