"""Which registers are read together, what is learned from refusals and silence, and how busy that keeps a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub.drivers.base import Point
from sensor_hub.drivers.modbus import ModbusRtu, ModbusTcp
from sensor_hub.drivers.modbus_learned import AGAIN_S, FORGET_S, Learned
from sensor_hub.drivers.modbus_plan import Limits, Span, blocks_of
from sensor_hub.drivers.modbus_register import Table
from sensor_hub.readings import Json
from tests.wire.scripted_peers import line, register, sensor

STANDARD = Limits()


def regs(address: int, count: int = 1, table: Table = "holding") -> Span:
    return Span(table, address, count)


def coils(address: int, count: int = 1) -> Span:
    return Span("coil", address, count)


def planned(
    *spans: Span,
    limits: Limits = STANDARD,
    refused: tuple[Span, ...] = (),
    untouchable: tuple[Span, ...] = (),
) -> list[Span]:
    """What is read for points with these spans."""
    points = {Point("s", str(number)): span for number, span in enumerate(spans)}
    return [block.span for block in blocks_of(3, points, limits, refused, untouchable)]


# -- literal plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "blocks"),
    [
        ([], []),
        ([regs(0)], [regs(0)]),
        ([regs(0), regs(1), regs(2, 2)], [regs(0, 4)]),
        ([regs(2, 2), regs(0), regs(1)], [regs(0, 4)]),  # in whatever order
        ([regs(0), regs(9)], [regs(0, 10)]),  # a hole of 8
        ([regs(0), regs(10)], [regs(0), regs(10)]),  # of 9
        ([regs(0, 2), regs(0), regs(1)], [regs(0, 2)]),  # the same registers, read in two ways
        ([regs(0), regs(1, table="input")], [regs(0), regs(1, table="input")]),
        ([coils(0), coils(1), coils(128)], [coils(0, 129)]),  # a hole of 126 bits, 8 registers' worth
        ([coils(0), coils(130)], [coils(0), coils(130)]),  # of 129
        ([coils(0), regs(1)], [coils(0), regs(1)]),
        ([regs(0, 100), regs(100, 25)], [regs(0, 125)]),
        ([regs(0, 100), regs(100, 26)], [regs(0, 100), regs(100, 26)]),
        ([regs(65535), regs(65534)], [regs(65534, 2)]),
    ],
)
def test_neighbours_are_one_block(spans: list[Span], blocks: list[Span]) -> None:
    assert planned(*spans) == blocks


def test_2000_coils_are_one_block_and_2001_are_two() -> None:
    assert planned(*[coils(bit) for bit in range(2000)]) == [coils(0, 2000)]
    assert planned(*[coils(bit) for bit in range(2001)]) == [coils(0, 2000), coils(2000)]


def test_a_64_bit_value_is_never_cut() -> None:
    assert planned(regs(0), regs(1, 4), regs(5, 4), limits=Limits(max_registers=6)) == [
        regs(0, 5),
        regs(5, 4),
    ]
    assert planned(regs(0, 4), limits=Limits(max_registers=2)) == [regs(0, 4)]


def test_a_hole_that_may_not_be_touched_is_not_read_over() -> None:
    assert planned(regs(0), regs(4), regs(6), untouchable=(regs(3, 1),)) == [regs(0), regs(4, 3)]
    assert planned(regs(0), regs(4), untouchable=(regs(2, 30),)) == [regs(0), regs(4)]
    assert planned(regs(0), regs(4), untouchable=(regs(3, table="input"),)) == [regs(0, 5)]


@pytest.mark.parametrize(
    ("spans", "refused", "blocks"),
    [
        ([regs(0), regs(1), regs(2), regs(3)], [regs(0, 4)], [regs(0, 2), regs(2, 2)]),
        (
            [regs(0), regs(1), regs(5), regs(6), regs(7)],
            [regs(0, 8)],
            [regs(0, 2), regs(5, 3)],
        ),  # at the hole
        ([regs(0), regs(1), regs(2)], [regs(1)], [regs(0), regs(1), regs(2)]),  # the only one of its sensor
        ([regs(0), regs(2)], [regs(1)], [regs(0), regs(2)]),
        ([regs(0), regs(1), regs(3), regs(4)], [regs(0, 5), regs(2)], [regs(0, 2), regs(3, 2)]),
        ([regs(0), regs(1)], [regs(0, 3)], [regs(0, 2)]),  # that was more
        ([regs(0), regs(1)], [regs(0, 2, "input")], [regs(0, 2)]),
        ([regs(0), regs(1), regs(0, 2)], [regs(0, 2)], [regs(0), regs(0, 2), regs(1)]),
    ],
)
def test_what_was_refused_is_read_in_parts(
    spans: list[Span], refused: list[Span], blocks: list[Span]
) -> None:
    assert sorted(planned(*spans, refused=tuple(refused))) == sorted(blocks)


# -- any plan ---------------------------------------------------------------------------------------------

SPANS = st.builds(
    Span,
    st.sampled_from(["holding", "input"]),
    st.integers(0, 300),
    st.sampled_from([1, 2, 4, 10]),
) | st.builds(Span, st.sampled_from(["coil", "discrete"]), st.integers(0, 3000), st.just(1))
LIMITS = st.builds(Limits, st.integers(1, 125), st.integers(0, 30))


@given(st.lists(SPANS, max_size=40), LIMITS, st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=3))
def test_any_plan_reads_every_point_once_and_nothing_that_it_should_not(
    spans: list[Span], limits: Limits, refused: list[Span], untouchable: list[Span]
) -> None:
    points = {Point(f"s{number % 3}", str(number)): span for number, span in enumerate(spans)}
    blocks = blocks_of(7, points, limits, refused, untouchable)
    assert sorted(point for block in blocks for point in block.points) == sorted(points)
    for block in blocks:
        inside = [points[point] for point in block.points]
        assert block.unit_id == 7
        assert all(block.span.covers(span) for span in inside)
        assert block.span.address == min(span.address for span in inside)
        assert block.span.end == max(span.end for span in inside)
        asked = {address for span in inside for address in range(span.address, span.end)}
        if len(inside) > 1:
            assert block.span.count <= (
                16 * limits.max_registers if block.span.is_bits else limits.max_registers
            )
            assert block.span.count <= 2000
            assert not any(block.span.covers(span) for span in refused)
        assert longest_hole(block.span, asked) <= limits.max_gap * (16 if block.span.is_bits else 1)
        for span in untouchable:
            if span.table == block.span.table:
                assert (
                    not set(range(span.address, span.end))
                    & set(range(block.span.address, block.span.end)) - asked
                )


def longest_hole(block: Span, asked: set[int]) -> int:
    longest = length = 0
    for address in range(block.address, block.end):
        length = 0 if address in asked else length + 1
        longest = max(longest, length)
    return longest


@given(
    st.sets(st.integers(0, 200), min_size=1, max_size=60), st.sets(st.integers(0, 200), max_size=4), LIMITS
)
def test_a_device_with_bad_addresses_yields_all_others_after_few_refusals(
    addresses: set[int], bad: set[int], limits: Limits
) -> None:
    points = {Point("s", str(address)): regs(address) for address in addresses}
    refused: set[Span] = set()
    read: set[int] = set()
    refusals = 0
    waiting = blocks_of(1, points, limits)
    while waiting:
        block = waiting.pop()
        if bad & set(range(block.span.address, block.span.end)):
            refusals += 1
            refused.add(block.span)
            rest = {point: points[point] for point in block.points if points[point] not in refused}
            waiting += blocks_of(1, rest, limits, refused)
        else:
            read |= {points[point].address for point in block.points}
    assert read == addresses - bad
    assert refusals <= 2 * len(addresses)


# -- what is learned --------------------------------------------------------------------------------------


def test_a_refusal_counts_for_ten_minutes() -> None:
    learned = Learned()
    learned.refuse(regs(5), 100.0)
    assert learned.refused(100.0 + FORGET_S - 1) == {regs(5)}
    assert learned.refused(100.0 + FORGET_S) == frozenset()


def test_a_register_that_has_answered_before_is_asked_again_soon_then_less_often() -> None:
    learned = Learned()
    learned.answer(regs(0, 9), 0.0, [regs(5), regs(7)])
    now, waits = 1.0, []
    for _ in range(8):
        learned.refuse(regs(5), now, [regs(5)])
        refused = learned.refused(now)
        assert learned.refused(now) is refused == {regs(5)}
        waits.append(next(wait for wait in range(1, 601) if not learned.refused(now + wait)))
        now += waits[-1]
    assert waits == [AGAIN_S, 20, 40, 80, 160, 320, FORGET_S, FORGET_S]


def test_a_refusal_that_counts_already_does_not_count_for_longer() -> None:
    learned = Learned()
    learned.answer(regs(5), 0.0, [regs(5)])
    learned.refuse(regs(5), 1.0, [regs(5)])
    learned.refuse(regs(5), 9.0, [regs(5)])
    assert learned.refused(1.0 + AGAIN_S) == frozenset()


def test_a_block_whose_registers_have_all_answered_before_is_asked_again_soon() -> None:
    learned = Learned()
    learned.answer(regs(0, 3), 0.0, [regs(0), regs(2)])
    learned.refuse(regs(0, 3), 1.0, [regs(0), regs(2)])
    learned.refuse(regs(0, 5), 1.0, [regs(0), regs(4)])
    assert learned.refused(1.0 + AGAIN_S) == {regs(0, 5)}


def test_a_register_that_answers_again_after_its_refusal_is_as_good_as_ever() -> None:
    learned = Learned()
    learned.answer(regs(0, 9), 0.0, [regs(5), regs(7)])
    for span in (regs(0, 9), regs(5)):
        learned.refuse(span, 1.0, [regs(5)])
    learned.answer(regs(5), 2.0 + AGAIN_S, [regs(5)])
    assert learned.refused(3.0 + AGAIN_S) == frozenset()
    learned.refuse(regs(5), 20.0, [regs(5)])
    assert learned.refused(20.0 + AGAIN_S) == frozenset()


def test_what_answered_before_the_line_was_lost_is_asked_again_soon_when_it_is_back() -> None:
    learned = Learned()
    learned.answer(regs(5), 0.0, [regs(5)])
    learned.forget()
    learned.refuse(regs(5), 1.0, [regs(5)])
    assert learned.refused(1.0 + AGAIN_S) == frozenset()


def test_a_written_register_is_asked_again_at_once_and_others_are_not() -> None:
    learned = Learned()
    for span in (regs(5), regs(6), regs(0, 9)):
        learned.refuse(span, 1.0, [span])
    learned.ask_again(regs(5), [regs(5), regs(6), coils(5)], 2.0)
    assert learned.refused(2.0) == {regs(6), regs(0, 9)}


def test_a_device_that_refused_everything_and_woke_up_is_read_as_before() -> None:
    learned = Learned()
    for address in range(5):
        learned.refuse(regs(address), 1.0)
    learned.answer(regs(7), 2.0)
    assert len(learned.refused(3.0)) == 5
    learned.answer(regs(0), 3.0)
    assert learned.refused(4.0) == frozenset()


def test_one_or_two_silences_mean_nothing() -> None:
    learned = Learned()
    for now in (1.0, 2.0):
        learned.keep_silent(regs(0, 100), now)
    assert learned.limits(STANDARD, 3.0) == STANDARD


def test_silence_to_a_long_request_of_a_unit_that_answers_others_shortens_them_for_ten_minutes() -> None:
    learned = Learned()
    for now in (1.0, 3.0, 5.0):
        learned.keep_silent(regs(0, 100), now)
        learned.answer(regs(500, 2), now + 1)
    assert learned.limits(STANDARD, 6.0) == Limits(max_registers=50)
    assert learned.limits(Limits(max_registers=20), 6.0) == Limits(max_registers=20)
    assert learned.limits(STANDARD, 5.0 + FORGET_S) == STANDARD


def test_silence_to_the_only_request_of_a_unit_is_made_sure_of_before_it_counts() -> None:
    learned = Learned()
    for now in (1.0, 2.0, 3.0):
        learned.keep_silent(regs(0, 100), now)
    assert learned.limits(STANDARD, 4.0) == Limits(max_registers=50)
    learned.answer(regs(0, 50), 4.0)
    assert learned.limits(STANDARD, 5.0) == STANDARD  # it lives: perhaps it was away
    learned.keep_silent(regs(0, 100), 5.0)
    learned.answer(regs(0, 50), 6.0)
    assert learned.limits(STANDARD, 7.0) == Limits(max_registers=50)
    assert learned.limits(STANDARD, 5.0 + FORGET_S) == STANDARD


def test_a_unit_that_was_dead_is_read_as_before_once_it_is_back() -> None:
    learned = Learned()
    for now in range(10):
        learned.keep_silent(regs(0, 100), float(now))
    assert learned.limits(STANDARD, 10.0) == Limits(max_registers=50)  # perhaps that is too long for it
    learned.keep_silent(regs(0, 50), 10.0)
    assert learned.limits(STANDARD, 11.0) == Limits(max_registers=25)
    learned.answer(regs(0, 25), 11.0)
    assert learned.limits(STANDARD, 12.0) == STANDARD
    learned.answer(regs(0, 100), 12.0)
    learned.keep_silent(regs(0, 100), 13.0)
    assert learned.limits(STANDARD, 14.0) == STANDARD


def test_silence_to_a_single_register_shortens_nothing() -> None:
    learned = Learned()
    for now in range(10):
        learned.keep_silent(regs(0), float(now))
        learned.keep_silent(coils(0, 16), float(now))
    assert learned.limits(STANDARD, 10.0) == STANDARD


# -- how busy a line is -----------------------------------------------------------------------------------


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-9)


def test_the_load_of_one_register_at_9600_baud() -> None:
    one = sensor(unit_id=3, register=register())  # every 5 s
    (load,) = ModbusRtu(line("/dev/ttyUSB0", baudrate=9600), [one]).load()
    # 8 + 7 bytes of 10 bits, 5 ms for the device (more than 3.5 characters), 3.5 characters of silence
    assert (load.unit_id, load.transactions_per_s) == (3, near(0.2))
    assert load.share == near((150 / 9600 + 0.005 + 35 / 9600) / 5)
    assert load.share == pytest.approx(0.0048541667, rel=1e-6)


def test_a_parity_bit_makes_characters_longer_and_a_delay_silences() -> None:
    slow = sensor(unit_id=3, register=register(), delay_ms=20)
    (load,) = ModbusRtu(line("/dev/ttyUSB0", baudrate=1200, parity="E"), [slow]).load()
    # 15 characters of 11 bits; 3.5 of them (32 ms) are more than 5 ms and than 20 ms
    assert load.share == near((165 + 38.5 + 38.5) / 1200 / 5)
    (load,) = ModbusRtu(line("/dev/ttyUSB0", baudrate=115200, delay_ms=50), [slow]).load()
    assert load.share == near((150 / 115200 + 0.005 + 0.05) / 5)


def test_the_silence_above_19200_baud_is_1_75_ms() -> None:
    (load,) = ModbusRtu(line("/dev/ttyUSB0", baudrate=115200), [sensor(register=register())]).load()
    assert load.share == near((150 / 115200 + 0.005 + 0.00175) / 5)


def test_points_of_one_unit_and_interval_share_transactions() -> None:
    def quick(address: int) -> dict[str, Json]:
        return register("holding", address, read_interval=1)

    meters = [
        sensor("a", unit_id=2, properties={"x": register("holding", 0), "y": quick(1)}),
        sensor("b", unit_id=2, properties={"x": register("holding", 2), "y": quick(3)}),
        sensor("c", unit_id=9, properties={"on": register("coil", 0), "off": register("coil", 17)}),
    ]
    loads = ModbusRtu(line("/dev/ttyUSB0"), meters).load()
    # unit 2: registers 0..2 every 5 s, 1..3 every second: 19 bytes each; unit 9: 18 bits in 16 bytes
    three = 190 / 19200 + 0.005 + 35 / 19200
    assert [(load.unit_id, load.transactions_per_s) for load in loads] == [(2, near(1.2)), (9, near(0.2))]
    assert loads[0].share == near(three / 5 + three / 1)
    assert loads[1].share == near((160 / 19200 + 0.005 + 35 / 19200) / 5)


def test_a_line_of_unknown_speed_has_no_load() -> None:
    one = [sensor(register=register())]
    assert ModbusTcp(line("tcp://192.0.2.10", "modbus_tcp"), one).load() == ()
    assert ModbusRtu(line("socket://192.0.2.10:4001"), one).load() == ()
    assert len(ModbusRtu(line("socket://192.0.2.10:4001", baudrate=9600), one).load()) == 1
