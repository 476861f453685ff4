"""Modbus RTU on a pseudo-terminal: literal frames, every way a line can lie, and what must come of it."""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers import modbus_rtu_client
from sensor_hub.drivers.base import Point
from sensor_hub.drivers.modbus import ModbusRtu
from sensor_hub.drivers.modbus_frames import Expected, crc_of, rtu_answers, rtu_strangers
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_probe import probe_of, read_request
from sensor_hub.drivers.modbus_rtu_client import RtuClient
from sensor_hub.drivers.modbus_surplus import Surplus
from sensor_hub.errors import (
    BrokenFrame,
    DeviceRefused,
    HubError,
    InvalidCommand,
    ReadFailed,
    ReadTimeout,
    TransportDown,
    ValueOutOfRange,
)
from sensor_hub.readings import Json
from tests.support import eventually
from tests.wire.scripted_peers import (
    CLOSE,
    PtyPeer,
    Reply,
    RtuOverTcpPeer,
    hexed,
    line,
    on_pty,
    on_tcp,
    register,
    sensor,
)

ASK = hexed("03 04 00 01 00 01 61 E8")  # unit 3, input register 1
ANSWER_22_5 = hexed("03 04 02 00 E1 00 B8")
ANSWER_22_0 = hexed("03 04 02 00 DC C1 69")
ANSWER_60_0 = hexed("03 04 02 02 58 C0 6A")
UNIT_5_ANSWERS = hexed("05 04 02 00 E1 88 B8")
TEMPERATURE = sensor(unit_id=3, register=register(data_type="int16", scale=0.1))
HUMIDITY = sensor("s2", unit_id=3, register=register(address=2, scale=0.1))
SHORT_S = 0.5


def on_holding(address: int = 10, **more: Json) -> SensorConfig:
    return sensor(unit_id=1, register=register("holding", address, write=True, **more))


@contextmanager
def connected(transport: TransportConfig, *sensors: SensorConfig) -> Iterator[ModbusRtu]:
    driver = ModbusRtu(transport, sensors)
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


@contextmanager
def device(
    *replies: Reply, sensors: tuple[SensorConfig, ...] = (TEMPERATURE, HUMIDITY), timeout_s: float = SHORT_S
) -> Iterator[tuple[ModbusRtu, PtyPeer]]:
    with on_pty(*replies) as peer, connected(line(peer.path, timeout_s=timeout_s), *sensors) as driver:
        yield driver, peer


# -- frames, without a line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    ["11 03 00 6B 00 03 76 87", "01 04 00 00 00 01 31 CA", "01 04 02 FF FF B8 80", "01 86 03 02 61"],
)
def test_crc_is_that_of_the_worked_examples(frame: str) -> None:
    whole = hexed(frame)
    assert crc_of(whole[:-2]) == whole[-2:]


def test_an_answer_is_found_between_noise_and_others() -> None:
    heard = b"\x00\xff" + UNIT_5_ANSWERS + ANSWER_22_5 + b"\x03\x04"
    assert list(rtu_answers(heard, Expected.to(ASK[:-2]))) == [ANSWER_22_5]
    assert rtu_strangers(heard) == {3, 5}


@given(st.binary(max_size=40))
def test_random_bytes_hold_no_answer(heard: bytes) -> None:
    assert list(rtu_answers(heard, Expected.to(ASK[:-2]))) == []


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_an_answer_is_found_whatever_surrounds_it(before: bytes, after: bytes) -> None:
    found = list(rtu_answers(before + ANSWER_22_5 + after, Expected.to(ASK[:-2])))
    assert found == [ANSWER_22_5]


# -- reading ----------------------------------------------------------------------------------------------


def test_an_input_register_is_asked_for_and_scaled() -> None:
    with device(ANSWER_22_5) as (driver, peer):
        assert driver.read("s1") == {"value": 22.5}
        assert peer.requests == [ASK]


def test_a_negative_temperature_is_negative() -> None:
    with device(hexed("03 04 02 FF 9C 81 69")) as (driver, _):
        assert driver.read("s1") == {"value": -10.0}


@pytest.mark.parametrize(
    ("where", "ask", "answer", "value"),
    [
        (register("coil", 0), "01 01 00 00 00 01 FD CA", "01 01 01 01 90 48", True),
        (register("coil", 0), "01 01 00 00 00 01 FD CA", "01 01 01 00 51 88", False),
        (register("discrete", 5), "01 02 00 05 00 01 A9 CB", "01 02 01 01 60 48", True),
        (register("discrete_input", 5), "01 02 00 05 00 01 A9 CB", "01 02 01 01 60 48", True),
        (register("holding", 10), "01 03 00 0A 00 01 A4 08", "01 03 02 02 1C B8 ED", 540),
        (
            register("holding", 20, data_type="uint32"),
            "01 03 00 14 00 02 84 0F",
            "01 03 04 00 01 86 A0 C9 EB",
            100000,
        ),
        (
            register("holding", 20, data_type="uint32", word_order="little"),
            "01 03 00 14 00 02 84 0F",
            "01 03 04 86 A0 00 01 12 99",
            100000,
        ),
    ],
)
def test_every_table_is_read_with_its_own_function(
    where: dict[str, Json], ask: str, answer: str, value: Json
) -> None:
    with device(hexed(answer), sensors=(sensor(register=where),)) as (driver, peer):
        assert driver.read("s1") == {"value": value}
        assert peer.requests == [hexed(ask)]


def test_a_float_register_is_read_from_unit_3() -> None:
    where = register("input", 10, data_type="float32")
    with device(hexed("03 04 04 41 AC 00 00 0C 59"), sensors=(sensor(unit_id=3, register=where),)) as (
        driver,
        peer,
    ):
        assert driver.read("s1") == {"value": 21.5}
        assert peer.requests == [hexed("03 04 00 0A 00 02 50 2B")]


def test_a_float_that_is_nan_is_a_failed_read() -> None:
    flow = sensor(register=register("holding", 20, data_type="float32"))
    with (
        device(hexed("01 03 04 7F C0 00 00 E3 DB"), sensors=(flow,)) as (driver, _),
        pytest.raises(ReadFailed, match="value: .*float32"),
    ):
        driver.read("s1")


def test_registers_and_coils_are_read_by_themselves() -> None:
    boiler = sensor(
        properties={"setpoint": register("holding", 10, scale="0.1"), "pump": register("coil", 0)}
    )
    replies = hexed("01 01 01 01 90 48"), hexed("01 03 02 02 1C B8 ED")
    with device(*replies, sensors=(boiler,)) as (driver, peer):
        assert driver.read("s1") == {"setpoint": 54.0, "pump": True}
        assert peer.requests == [hexed("01 01 00 00 00 01 FD CA"), hexed("01 03 00 0A 00 01 A4 08")]


def test_unit_247_is_asked_by_its_number() -> None:
    far = sensor(unit_id="247", register=register(address=0))
    with device(sensors=(far,)) as (driver, peer):
        assert driver.unit_id("s1") == 247
        with pytest.raises(ReadTimeout, match="unit 247"):
            driver.read("s1")
        assert peer.requests == [hexed("F7 04 00 00 00 01 25 5C")]


def test_a_read_takes_milliseconds() -> None:
    with device(*[ANSWER_22_5] * 100) as (driver, _):
        started = time.monotonic()
        for _ in range(100):
            assert driver.read("s1") == {"value": 22.5}
        assert (time.monotonic() - started) / 100 < 0.2


# -- blocks -----------------------------------------------------------------------------------------------


def holding(**addresses: int) -> SensorConfig:
    return sensor(properties={name: register("holding", address) for name, address in addresses.items()})


def test_neighbours_of_several_sensors_are_read_at_once() -> None:
    with device(hexed("03 04 04 00 E1 02 58 88 E8")) as (driver, peer):
        (block,) = driver.plan([Point("s1", "value"), Point("s2", "value")])
        assert driver.exchange(block) == {Point("s1", "value"): 22.5, Point("s2", "value"): 60.0}
        assert peer.requests == [hexed("03 04 00 01 00 02 21 E9")]


def test_a_hole_between_registers_is_read_over() -> None:
    boiler = sensor(
        properties={
            "setpoint": register("holding", 10, scale=0.1),
            "energy": register("holding", 12, data_type="uint32"),
        }
    )
    with device(hexed("01 03 08 02 1C 00 00 00 01 86 A0 FA 17"), sensors=(boiler,)) as (driver, peer):
        assert driver.read("s1") == {"setpoint": 54.0, "energy": 100000}
        assert peer.requests == [hexed("01 03 00 0A 00 04 64 0B")]


@pytest.mark.parametrize("limits", [{}, {"max_gap": 8}, {"max_gap": 20, "max_registers": 10}])
def test_what_is_far_apart_or_too_long_for_the_device_is_read_by_itself(limits: dict[str, Any]) -> None:
    two = sensor(properties={"a": register("holding", 10), "b": register("holding", 20)}, **limits)
    with device(hexed("01 03 02 02 1C B8 ED"), hexed("01 03 02 00 07 F9 86"), sensors=(two,)) as (
        driver,
        peer,
    ):
        assert driver.read("s1") == {"a": 540, "b": 7}
        assert peer.requests == [hexed("01 03 00 0A 00 01 A4 08"), hexed("01 03 00 14 00 01 C4 0E")]


def test_coils_are_read_at_once_too() -> None:
    relays = sensor(properties={"first": register("coil", 0), "last": register("coil", 17)})
    with device(hexed("01 01 03 05 00 02 AD 8E"), sensors=(relays,)) as (driver, peer):
        assert driver.read("s1") == {"first": True, "last": True}
        assert peer.requests == [hexed("01 01 00 00 00 12 BC 07")]


def test_a_value_that_is_none_leaves_the_others() -> None:
    meter = sensor(
        properties={"flow": register("holding", 20, data_type="float32"), "state": register("holding", 22)}
    )
    with device(hexed("01 03 06 7F C0 00 00 00 07 6B 69"), sensors=(meter,)) as (driver, peer):
        assert driver.read("s1") == {"state": 7}
        assert peer.requests == [hexed("01 03 00 14 00 03 45 CF")]


NO_SUCH_ADDRESS = hexed("01 83 02 C0 F1")
READ_10_TO_12 = hexed("01 03 00 0A 00 03 25 C9")
READ_10 = hexed("01 03 00 0A 00 01 A4 08")
READ_12 = hexed("01 03 00 0C 00 01 44 09")
HELD_10 = hexed("01 03 02 02 1C B8 ED")
HELD_12 = HELD_30 = hexed("01 03 02 00 08 B9 82")


def test_a_block_that_is_refused_is_read_in_parts_and_that_is_remembered() -> None:
    replies = NO_SUCH_ADDRESS, NO_SUCH_ADDRESS, HELD_10, NO_SUCH_ADDRESS, HELD_12, HELD_10, HELD_12
    with device(*replies, sensors=(holding(a=10, b=11, c=12),)) as (driver, peer):
        assert driver.read("s1") == {"a": 540, "c": 8}
        assert peer.requests == [
            READ_10_TO_12,
            hexed("01 03 00 0A 00 02 E4 09"),
            READ_10,
            hexed("01 03 00 0B 00 01 F5 C8"),
            READ_12,
        ]
        assert driver.read("s1") == {"a": 540, "c": 8}
        assert peer.requests[5:] == [READ_10, READ_12]


def test_a_block_whose_reading_fails_in_the_device_is_read_in_parts() -> None:
    fails = hexed("01 83 04 40 F3")
    both = hexed("01 03 04 02 1C 00 07")
    with device(fails, both + crc_of(both), HELD_12, sensors=(holding(a=10, b=11, c=12),)) as (driver, peer):
        assert driver.read("s1") == {"a": 540, "b": 7, "c": 8}
        assert peer.requests == [READ_10_TO_12, hexed("01 03 00 0A 00 02 E4 09"), READ_12]


def test_one_register_whose_reading_fails_in_the_device_is_asked_for_again() -> None:
    fails = hexed("01 83 04 40 F3")
    with device(HELD_10, fails, HELD_10, HELD_30, sensors=(holding(a=10, b=30),)) as (driver, peer):
        with pytest.raises(DeviceRefused, match=r"server device failure \(4\)"):
            driver.read("s1")
        assert driver.read("s1") == {"a": 540, "b": 8}


def test_a_new_connection_forgets_what_was_refused() -> None:
    whole = hexed("01 03 06 02 1C 00 07 00 08 41 52")
    replies = NO_SUCH_ADDRESS, NO_SUCH_ADDRESS, HELD_10, NO_SUCH_ADDRESS, HELD_12, whole
    with device(*replies, sensors=(holding(a=10, b=11, c=12),)) as (driver, peer):
        driver.read("s1")
        driver.connect()
        assert driver.read("s1") == {"a": 540, "b": 7, "c": 8}
        assert peer.requests[5:] == [READ_10_TO_12]


def test_a_register_that_is_refused_is_told_once() -> None:
    refusing = [NO_SUCH_ADDRESS, NO_SUCH_ADDRESS, HELD_10, NO_SUCH_ADDRESS, HELD_12]
    with (
        capture_logs() as told,
        device(*refusing, *refusing, sensors=(holding(a=10, b=11, c=12),)) as (driver, _),
    ):
        driver.read("s1")
        driver.connect()
        driver.read("s1")
    assert [(event["event"], event["property"]) for event in told] == [("register refused", "b")]


def test_a_register_that_was_refused_once_is_read_again_once_it_is_written() -> None:
    replies = NO_SUCH_ADDRESS, HELD_30, echo, HELD_10, HELD_30
    fields: dict[str, Json] = {
        "a": register("holding", 10, write=True),
        "b": register("holding", 30),
    }
    with device(*replies, sensors=(sensor(unit_id=1, properties=fields),)) as (driver, _):
        assert driver.read("s1") == {"b": 8}
        driver.write("s1", {"a": 540})
        assert driver.read("s1") == {"a": 540, "b": 8}


def test_who_wants_just_a_register_asks_for_it_though_it_was_refused() -> None:
    replies = NO_SUCH_ADDRESS, HELD_30
    with device(*replies, sensors=(holding(a=10, b=30),)) as (driver, _):
        driver.read("s1")
        points = [Point("s1", "a"), Point("s1", "b")]
        assert [block.points for block in driver.plan(points)] == [(points[1],)]
        assert [block.points for block in driver.plan_all(points)] == [(points[0],), (points[1],)]


def test_the_only_register_of_a_sensor_is_asked_for_again_and_again() -> None:
    with device(NO_SUCH_ADDRESS, NO_SUCH_ADDRESS, HELD_10, sensors=(holding(a=10),)) as (driver, peer):
        for _ in range(2):
            with pytest.raises(DeviceRefused, match=r"illegal data address \(2\)"):
                driver.read("s1")
        assert driver.read("s1") == {"a": 540}
        assert peer.requests == [READ_10] * 3


def test_of_a_sensor_that_is_refused_everything_one_register_is_asked_for() -> None:
    replies = [NO_SUCH_ADDRESS] * 4
    with device(*replies, sensors=(holding(a=10, b=30),)) as (driver, peer):
        for _ in range(3):
            with pytest.raises(DeviceRefused, match="illegal data address"):
                driver.read("s1")
        assert peer.requests == [READ_10, hexed("01 03 00 1E 00 01 E4 0C"), READ_10, READ_10]


def test_a_device_that_refused_everything_is_read_as_before_once_it_answers() -> None:
    whole = hexed("01 03 06 02 1C 00 07 00 08 41 52")
    refusals = [NO_SUCH_ADDRESS] * 5  # 10..12, 10..11, 10, 11, 12
    with device(*refusals, HELD_10, whole, sensors=(holding(a=10, b=11, c=12),)) as (driver, peer):
        with pytest.raises(DeviceRefused):
            driver.read("s1")
        assert driver.read("s1") == {"a": 540}
        assert driver.read("s1") == {"a": 540, "b": 7, "c": 8}
        assert peer.requests[5:] == [READ_10, READ_10_TO_12]


def test_a_table_that_a_device_does_not_have_is_left_out_after_one_refusal() -> None:
    both = sensor(
        properties={"x": register("holding", 10), "y": register("holding", 11), "pump": register("coil", 0)}
    )
    coil = hexed("01 01 01 01 90 48")
    with device(coil, hexed("01 83 01 80 F0"), coil, sensors=(both,)) as (driver, peer):
        assert [driver.read("s1") for _ in range(2)] == [{"pump": True}] * 2
        assert len(peer.requests) == 3


def test_a_device_that_ignores_long_requests_is_read_in_parts() -> None:
    def short_only(request: bytes) -> bytes:
        answers = {0: "01 03 08 00 00 00 01 00 02 00 03 49 D6", 4: "01 03 08 00 04 00 05 00 06 00 07 BD D4"}
        return hexed(answers[request[3]]) if request[5] <= 4 else b""

    eight = holding(**{f"p{address}": address for address in range(8)})
    with device(*[short_only] * 60, sensors=(eight,), timeout_s=0.2) as (driver, peer):
        good = 0
        for _ in range(20):
            with suppress(ReadTimeout):
                assert driver.read("s1") == {f"p{address}": address for address in range(8)}
                good += 1
        assert good >= 10
        assert peer.requests[-2:] == [hexed("01 03 00 00 00 04 44 09"), hexed("01 03 00 04 00 04 05 C8")]


# -- lines that lie ---------------------------------------------------------------------------------------


def test_silence_is_a_timeout_that_names_unit_and_time() -> None:
    with device() as (driver, _), pytest.raises(ReadTimeout, match=r"^no answer from unit 3 within 0\.5 s$"):
        driver.read("s1")


def test_an_exception_frame_is_the_devices_no() -> None:
    with device(hexed("03 84 02 63 01"), ANSWER_22_5) as (driver, _):
        with pytest.raises(DeviceRefused, match=r"illegal data address \(2\)"):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}


@pytest.mark.parametrize(
    "broken",
    [
        hexed("03 04 02 00 E1 00 B9"),  # last bit of the CRC
        hexed("03 04 02 00 E0 00 B8"),  # a bit of the value
        hexed("03 04 02 00 E1 B8 00"),  # CRC bytes swapped
        hexed("03 04 02 00"),  # truncated
        hexed("03 04 04 00 E1 00 B8"),  # promises more than it sends
        b"\x00",
        b"\xff" * 300,
        b"hello\r\n",
    ],
)
def test_bytes_that_are_no_frame_are_a_broken_frame(broken: bytes) -> None:
    with device(broken) as (driver, _), pytest.raises(BrokenFrame, match="broken answer from unit 3"):
        driver.read("s1")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (hexed("03 04 02 00 E1 00 B9"), r"wrong checksum or length \(7 bytes\)"),
        (hexed("03 04 02 00"), r"cut short or wrong checksum \(4 of 7 bytes\)"),
        (hexed("78 F8 80 F8 00"), r"no Modbus frame \(78 f8 80 f8 00\); are baud rate, parity and stop bits"),
        (b"\xff" * 9, r"no Modbus frame \(ff ff ff ff ff ff ff ff …\)"),
    ],
)
def test_a_broken_frame_says_what_is_wrong_with_it(broken: bytes, says: str) -> None:
    with device(broken) as (driver, _), pytest.raises(BrokenFrame, match=says):
        driver.read("s1")


@pytest.mark.parametrize(
    "noisy",
    [
        b"\x00" + ANSWER_22_5,
        b"\xff\xfe\x03" + ANSWER_22_5,
        b"\x03\x04\x02" + ANSWER_22_5,
        ANSWER_22_5 + b"\x00\x00",
        UNIT_5_ANSWERS + ANSWER_22_5,
    ],
)
def test_noise_around_an_answer_does_not_hide_it(noisy: bytes) -> None:
    with device(noisy) as (driver, _):
        assert driver.read("s1") == {"value": 22.5}


@pytest.mark.parametrize("other", [UNIT_5_ANSWERS, hexed("03 03 02 00 E1 01 CC")])
def test_what_another_unit_or_function_answers_is_not_taken(other: bytes) -> None:
    with device(other) as (driver, _), pytest.raises(ReadTimeout, match="no answer from unit 3"):
        driver.read("s1")


def test_a_line_that_echoes_yields_the_answer_behind_the_echo() -> None:
    with device(ASK + ANSWER_22_5) as (driver, _):
        assert driver.read("s1") == {"value": 22.5}


def test_an_echo_alone_is_no_answer() -> None:
    with device(ASK) as (driver, _), pytest.raises(ReadTimeout):
        driver.read("s1")


def test_the_echo_of_a_write_is_not_taken_for_its_confirmation() -> None:
    def echoed_read(request: bytes) -> bytes:
        return request + hexed("01 03 02 02 1C B8 ED")

    with device(
        echoed_read, lambda request: request, lambda request: request * 2, sensors=(on_holding(),)
    ) as (
        driver,
        _,
    ):
        assert driver.read("s1") == {"value": 540}
        with pytest.raises(ReadTimeout):
            driver.write("s1", {"value": 540})
        assert driver.write("s1", {"value": 540}) == {"value": 540}


def test_an_answer_in_pieces_is_put_together() -> None:
    with device(b"", timeout_s=5) as (driver, peer):

        def answer_slowly() -> None:
            eventually(lambda: peer.requests)
            for byte in ANSWER_22_5:
                peer.send(bytes([byte]))
                eventually(lambda: peer.unread == 0)

        helper = threading.Thread(target=answer_slowly)
        helper.start()
        assert driver.read("s1") == {"value": 22.5}
        helper.join()


@pytest.mark.parametrize("second", [TEMPERATURE, HUMIDITY])
def test_a_late_answer_that_came_meanwhile_is_dropped(second: SensorConfig) -> None:
    with device(b"", ANSWER_60_0) as (driver, peer):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        peer.send(ANSWER_22_0)
        started = time.monotonic()
        assert driver.read(second.sensor_id) == {"value": 60.0}
        assert time.monotonic() - started < SHORT_S  # nothing more is waited for


def test_a_late_answer_just_before_the_right_one_is_dropped() -> None:
    with device(b"", ANSWER_22_0 + ANSWER_60_0) as (driver, _):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert driver.read("s2") == {"value": 60.0}


class MovedTime:
    """The time of the client's module, which a test moves on."""

    def __init__(self) -> None:
        self.moved_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() + self.moved_s


def test_a_late_answer_well_before_the_right_one_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, timeout_s = MovedTime(), 1.0
    monkeypatch.setattr(modbus_rtu_client, "time", clock)
    with device(b"", ANSWER_22_0, timeout_s=timeout_s) as (driver, peer):
        with pytest.raises(ReadTimeout):
            driver.read("s1")

        def answer_the_second() -> None:
            eventually(lambda: len(peer.requests) == 2 and peer.unread == 0)
            clock.moved_s = 1.5 * timeout_s  # later than any answer in time
            peer.send(ANSWER_60_0)

        helper = threading.Thread(target=answer_the_second)
        helper.start()
        assert driver.read("s2") == {"value": 60.0}
        helper.join()


def test_a_unit_that_is_always_late_never_yields_the_value_of_another_register() -> None:
    timeout_s = 0.3
    lateness_s = 2.2 * timeout_s
    values = {1: ANSWER_22_0, 2: ANSWER_60_0}
    answered: list[float] = []
    timers: list[threading.Timer] = []

    def later(request: bytes) -> bytes:
        timer = threading.Timer(lateness_s, lambda: peer.send(values[request[3]]))
        timers.append(timer)
        timer.start()
        return b""

    with device(*[later] * 8, timeout_s=timeout_s) as (driver, peer):
        for number in range(8):
            name, wrong = ("s1", 60.0) if number % 2 else ("s2", 22.0)
            try:
                assert driver.read(name) != {"value": wrong}
                answered.append(number)
            except ReadTimeout:
                pass
        for timer in timers:
            timer.join()
    assert answered


def test_unanswered_requests_are_not_remembered_for_ever_where_nobody_answers() -> None:
    with device(timeout_s=0.01) as (driver, _):
        for _ in range(30):
            with pytest.raises(ReadTimeout):
                driver.read("s1")
        assert isinstance(driver._client, modbus_rtu_client.RtuClient)
        assert len(driver._client._unanswered) <= 5  # an answer is never later than four timeouts


def test_after_a_lost_answer_the_next_read_is_good() -> None:
    with device(b"", ANSWER_22_5, ANSWER_22_5) as (driver, _):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}
        started = time.monotonic()
        assert driver.read("s1") == {"value": 22.5}
        assert time.monotonic() - started < SHORT_S


Held = Callable[[int], int]  # what a register holds, by its address


def answered_from(held: Held, request: bytes) -> bytes:
    unit_id, function, address, count = struct.unpack_from(">BBHH", request)
    words = struct.pack(f">{count}H", *(held(address + number) for number in range(count)))
    adu = bytes([unit_id, function, len(words)]) + words
    return adu + crc_of(adu)


class OneBehind:
    """An adapter that lets each answer out when the next request goes in, however long that takes."""

    def __init__(self, held: Held) -> None:
        self._held, self._behind = held, b""

    def __call__(self, request: bytes) -> bytes:
        said, self._behind = self._behind, answered_from(self._held, request)
        return said


def temperature_and_humidity(address: int) -> int:
    return {1: 225, 2: 600}.get(address, 0)


def test_an_answer_that_comes_with_the_next_request_is_never_the_value_of_another_register(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the next request follows at once or when nothing late is expected any more."""
    monkeypatch.setattr("sensor_hub.drivers.modbus_rtu_client.LATE_FACTOR", 0.5)
    got: dict[str, list[Json]] = {"s1": [], "s2": []}
    with device(*[OneBehind(temperature_and_humidity)] * 100) as (driver, _):
        for sensor_id in ("s1", "s2", "s1", "s1", "s2", "s2", "s1", "s2"):
            with suppress(ReadTimeout):
                got[sensor_id].append(driver.read(sensor_id)["value"])
    assert got == {"s1": [22.5] * 3, "s2": [60.0] * 4}


def test_two_equal_answers_in_a_row_do_not_prove_that_none_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two switches on such a line: the first goes off, as the second is, and on again."""
    monkeypatch.setattr("sensor_hub.drivers.modbus_rtu_client.LATE_FACTOR", 0.5)
    holds = {0: 1, 1: 0}
    first, second = (sensor(f"s{at}", unit_id=3, register=register(address=at)) for at in holds)
    with device(*[OneBehind(lambda at: holds.get(at, 0))] * 100, sensors=(first, second)) as (driver, _):
        with pytest.raises(ReadTimeout):
            driver.read("s0")
        assert driver.read("s0") == {"value": 1}
        holds[0] = 0
        assert driver.read("s0") == {"value": 1}  # it was behind, but it is its own
        assert driver.read("s1") == {"value": 0}
        holds[0] = 1
        assert driver.read("s0") == {"value": 1}


def counting() -> Held:
    """Registers that hold something else each time."""
    numbers = itertools.count(200)
    return lambda _: next(numbers) % 60000


@pytest.mark.parametrize("says_to_probe", ["an answer", "a refusal", "nothing"])
def test_one_lost_answer_does_not_double_the_traffic_of_live_values(says_to_probe: str) -> None:
    """Whatever the device makes of a read that is one register longer."""
    held, lose = counting(), [False]

    def live(request: bytes) -> bytes:
        if lose.pop() if lose else False:
            return b""
        if request[5] == 1 or says_to_probe == "an answer":
            return answered_from(held, request)
        return hexed("03 84 02 C2 C1") if says_to_probe == "a refusal" else b""

    with device(*[live] * 200) as (driver, peer):
        driver.read("s1")
        lose.append(True)
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        driver.read("s2")
        driver.read("s1")
        before = len(peer.requests)
        assert before <= 8
        for _ in range(20):
            driver.read("s1")
            driver.read("s2")
        assert len(peer.requests) == before + 40


def test_after_a_lost_answer_another_register_is_asked_for_twice_once() -> None:
    two = hexed("03 04 04 02 58 00 00")
    replies = ANSWER_22_5, b"", ANSWER_60_0, ANSWER_60_0, two + crc_of(two), ANSWER_60_0, ANSWER_22_5
    with device(*replies) as (driver, peer):
        assert driver.read("s1") == {"value": 22.5}
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert [driver.read("s2"), driver.read("s2")] == [{"value": 60.0}] * 2
        assert driver.read("s1") == {"value": 22.5}
        assert len(peer.requests) == 7
        assert peer.requests[4][:6] == hexed("03 04 00 02 00 02")  # longer: its answer is nobody else's


@pytest.mark.parametrize(
    ("span", "never_read", "asks_for"),
    [
        (Span("holding", 10, 4), [], Span("holding", 10, 3)),
        (Span("holding", 10, 1), [], Span("holding", 10, 2)),
        (Span("holding", 10, 1), [Span("holding", 11, 1)], Span("holding", 9, 2)),
        (Span("holding", 10, 1), [Span("input", 11, 1)], Span("holding", 10, 2)),
        (Span("holding", 65535, 1), [], Span("holding", 65534, 2)),
        (Span("input", 0, 1), [Span("input", 1, 1)], None),
        (Span("coil", 3, 9), [], Span("coil", 3, 1)),
        (Span("discrete", 3, 8), [], Span("discrete", 3, 16)),
        (Span("coil", 65535, 1), [], Span("coil", 65527, 9)),
    ],
)
def test_what_tells_whether_an_answer_is_behind_has_another_length_and_reads_nothing_forbidden(
    span: Span, never_read: list[Span], asks_for: Span | None
) -> None:
    request = read_request(7, span)
    probe = probe_of(request, never_read)
    assert probe == (None if asks_for is None else read_request(7, asks_for))
    if probe is not None:
        assert Expected.to(probe).length != Expected.to(request).length


def heard_twice(driver: ModbusRtu, peer: PtyPeer) -> None:
    """The answer to the first sensor's read comes once more, and is noticed by the next read."""
    assert driver.read("s1") == {"value": 22.5}
    peer.send(ANSWER_22_5)
    client = driver._client
    assert isinstance(client, RtuClient)
    eventually(lambda: client._open_port._port.in_waiting)
    with pytest.raises(BrokenFrame, match="unit 3 sent more answers than it was sent requests"):
        driver.read("s2")


def test_an_answer_that_comes_twice_on_a_line_known_for_it_is_not_that_to_the_next_request() -> None:
    def late(_: bytes) -> bytes:
        threading.Timer(0.05, peer.send, [ANSWER_60_0]).start()
        return ANSWER_60_0

    with device(ANSWER_22_5, late, ANSWER_22_5, timeout_s=1.0) as (driver, peer):
        heard_twice(driver, peer)
        assert driver.read("s2") == {"value": 60.0}
        assert driver.read("s1") == {"value": 22.5}


def test_a_line_known_for_answers_that_come_twice_tells_no_value_when_they_differ() -> None:
    with device(ANSWER_22_5, ANSWER_22_5 + ANSWER_60_0, ANSWER_60_0 * 2) as (driver, peer):
        heard_twice(driver, peer)
        with pytest.raises(BrokenFrame, match="different answers to one request"):
            driver.read("s2")
        assert driver.read("s2") == {"value": 60.0}


def test_that_answers_come_twice_is_forgotten_with_the_connection() -> None:
    with device(ANSWER_22_5, ANSWER_22_5) as (driver, peer):
        heard_twice(driver, peer)
        driver.connect()
        heard_twice(driver, peer)
        assert len(peer.requests) == 2


def test_two_answers_that_come_at_once_and_differ_are_no_value() -> None:
    with (
        device(ANSWER_22_5 + ANSWER_60_0) as (driver, _),
        pytest.raises(BrokenFrame, match="different answers to one request"),
    ):
        driver.read("s1")


def test_late_answers_are_not_more_than_there_were_requests() -> None:
    surplus = Surplus(1.0)
    wanted = Expected.to(ASK[:-2])
    for _ in range(3):
        surplus.asked(wanted)
    assert not surplus.stray(wanted, 3)
    assert surplus.wait_s == 0.0
    assert surplus.stray(wanted, 1)
    assert surplus.wait_s == 1.0


def test_a_line_is_listened_to_for_as_long_as_second_answers_took_and_not_for_ever() -> None:
    surplus = Surplus(1.0)
    wanted = Expected.to(ASK[:-2])
    surplus.stray(wanted, 1)
    surplus.listened(0.1)
    surplus.listened(0.0)
    assert surplus.wait_s == pytest.approx(0.22)
    surplus.stray(wanted, 1)  # still later
    assert surplus.wait_s == 1.0
    for _ in range(10):
        surplus.listened(0.0)
    assert surplus.wait_s == 0.0


def test_a_silent_unit_does_not_hold_up_another_one() -> None:
    other = sensor("s5", unit_id=5, register=register(data_type="int16", scale=0.1))
    with device(b"", UNIT_5_ANSWERS, sensors=(TEMPERATURE, other)) as (driver, _):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        started = time.monotonic()
        assert driver.read("s5") == {"value": 22.5}
        assert time.monotonic() - started < SHORT_S


def test_a_line_that_never_falls_silent_is_a_failed_read() -> None:
    stop = threading.Event()
    with device() as (driver, peer):

        def babble() -> None:
            while not stop.wait(0.0005):
                peer.send(b"\x55")

        helper = threading.Thread(target=babble)
        helper.start()
        try:
            with pytest.raises(ReadFailed):
                driver.read("s1")
        finally:
            stop.set()
            helper.join()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(min_size=1, max_size=60))
def test_random_answers_never_yield_a_value(noise: bytes) -> None:
    with device(noise, timeout_s=0.02) as (driver, _), pytest.raises((ReadFailed, ReadTimeout)):
        driver.read("s1")


# -- writing ----------------------------------------------------------------------------------------------


def echo(request: bytes) -> bytes:
    return request


@pytest.mark.parametrize(
    ("where", "value", "frame"),
    [
        (register("holding", 10, scale=0.1, write=True), 54, "01 06 00 0A 02 1C A9 61"),
        (register("coil", 0, write=True), True, "01 05 00 00 FF 00 8C 3A"),
        (register("coil", 0, write=True), False, "01 05 00 00 00 00 CD CA"),
    ],
)
def test_single_writes_use_functions_5_and_6(where: dict[str, Json], value: Json, frame: str) -> None:
    with device(echo, sensors=(sensor(register=where),)) as (driver, peer):
        assert driver.write("s1", {"value": value}) == {"value": value}
        assert peer.requests == [hexed(frame)]


def test_32_bits_are_written_at_once_with_function_16() -> None:
    with device(hexed("01 10 00 14 00 02 01 CC"), sensors=(on_holding(20, data_type="uint32"),)) as (
        driver,
        peer,
    ):
        assert driver.write("s1", {"value": 100000}) == {"value": 100000}
        assert peer.requests == [hexed("01 10 00 14 00 02 04 00 01 86 A0 C0 88")]


def test_a_refused_write_is_device_refused_with_its_name() -> None:
    with device(hexed("01 86 03 02 61"), sensors=(on_holding(),)) as (driver, _):
        assert "illegal data value (3)" in refusal(driver, {"value": 540})


def refusal(driver: ModbusRtu, values: dict[str, Json]) -> str:
    with pytest.raises(DeviceRefused) as caught:
        driver.write("s1", values)
    return str(caught.value)


def test_a_busy_device_is_device_refused() -> None:
    where = register("coil", 0, write=True)
    with device(hexed("01 85 06 C2 92"), sensors=(sensor(register=where),)) as (driver, _):
        message = refusal(driver, {"value": True})
        assert message == "unit 1 answered server device busy (6)"


def test_a_confirmation_of_another_value_is_not_taken() -> None:
    confirmation = hexed("01 06 00 0A 02 1C A9 61")  # of 540
    with device(confirmation, sensors=(on_holding(),)) as (driver, _), pytest.raises(ReadTimeout):
        driver.write("s1", {"value": 541})


@pytest.mark.parametrize(
    ("where", "value", "error"),
    [
        (register("holding", 10, write=True), True, InvalidCommand),
        (register("holding", 10, write=True), "5", InvalidCommand),
        (register("holding", 10, write=True), float("nan"), InvalidCommand),
        (register("coil", 0, write=True), 1, InvalidCommand),
        (register("holding", 10, write=True), 70000, ValueOutOfRange),
        (register("holding", 10, scale=0.1, write=True), 21.37, ValueOutOfRange),
    ],
)
def test_a_value_that_cannot_be_written_is_refused_before_anything_is_sent(
    where: dict[str, Json], value: Json, error: type[HubError]
) -> None:
    good: dict[str, Json] = {"a": register("holding", 1, write=True), "b": where}
    with device(echo, sensors=(sensor(properties=good),)) as (driver, peer):
        with pytest.raises(error):
            driver.write("s1", {"a": 1, "b": value})
        assert peer.requests == []


SPEED = register("holding", 10, bit=0, bits=4, write=True)
MODE = register("holding", 10, bit=4, bits=4, write=True)


def test_a_bit_field_is_merged_into_what_the_register_holds() -> None:
    replies = hexed("01 03 02 12 00 B4 E4"), echo, hexed("01 03 02 12 05 74 E7"), echo
    with device(*replies, sensors=(sensor(properties={"speed": SPEED, "mode": MODE}),)) as (driver, peer):
        assert driver.write("s1", {"speed": 5, "mode": 2}) == {"speed": 5, "mode": 2}
        assert peer.requests == [
            READ_10,
            hexed("01 06 00 0A 12 05 65 6B"),
            READ_10,
            hexed("01 06 00 0A 12 25 64 B3"),
        ]


def test_a_bit_field_that_cannot_be_encoded_is_refused_before_the_register_is_read() -> None:
    with device(echo, sensors=(sensor(properties={"speed": SPEED}),)) as (driver, peer):
        with pytest.raises(ValueOutOfRange, match="speed"):
            driver.write("s1", {"speed": 16})
        assert peer.requests == []


def test_a_text_that_does_not_fit_one_request_is_refused_before_anything_is_sent() -> None:
    label = register("holding", 0, data_type="string", length=124, write=True)
    with device(echo, sensors=(sensor(register=label),)) as (driver, peer):
        with pytest.raises(InvalidCommand, match="takes 124 registers, and one request writes 123"):
            driver.write("s1", {"value": "x"})
        assert peer.requests == []


def test_a_device_may_only_know_function_16() -> None:
    where = sensor(register=register("holding", 10, write=True), write_multiple=True)
    with device(hexed("01 10 00 0A 00 01 21 CB"), sensors=(where,)) as (driver, peer):
        assert driver.write("s1", {"value": 540}) == {"value": 540}
        assert peer.requests == [hexed("01 10 00 0A 00 01 02 02 1C A6 53")]


# -- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["line", "sensor"])
def test_a_delay_is_kept_between_an_answer_and_the_next_request(place: str) -> None:
    at: list[float] = []

    def noted(_: bytes) -> bytes:
        at.append(time.monotonic())
        return ANSWER_22_5

    delay: dict[str, Any] = {"delay_ms": 60}
    of_line, of_sensor = (delay, {}) if place == "line" else ({}, delay)
    slow = sensor(unit_id=3, register=register(data_type="int16", scale=0.1), **of_sensor)
    with on_pty(noted, noted) as peer, connected(line(peer.path, **of_line), slow) as driver:
        driver.read("s1")
        driver.read("s1")
    assert at[1] - at[0] >= 0.06


# -- the line itself --------------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_missing_port_says_so_and_200_tries_leak_nothing(tmp_path: object) -> None:
    driver = ModbusRtu(line(f"{tmp_path}/nowhere"), [TEMPERATURE])
    before = open_descriptors()
    for _ in range(200):
        with pytest.raises(TransportDown, match="No such file or directory"):
            driver.connect()
    assert open_descriptors() == before


def test_something_that_is_no_port_is_transport_down_and_leaks_nothing() -> None:
    driver = ModbusRtu(line("/dev/null"), [TEMPERATURE])
    before = open_descriptors()
    for _ in range(200):
        with pytest.raises(TransportDown):
            driver.connect()
    assert open_descriptors() == before


def test_a_busy_port_says_so_and_leaks_nothing() -> None:
    with device(ANSWER_22_5) as (driver, peer):
        second = ModbusRtu(line(peer.path), [TEMPERATURE])
        before = open_descriptors()
        for _ in range(50):
            with pytest.raises(TransportDown, match="in use by another program"):
                second.connect()
        assert open_descriptors() == before
        assert driver.read("s1") == {"value": 22.5}


def test_connecting_and_closing_200_times_leaks_nothing() -> None:
    with on_pty() as peer:
        driver = ModbusRtu(line(peer.path), [TEMPERATURE])
        before = open_descriptors()
        for _ in range(200):
            driver.connect()
        driver.close()
        driver.close()
        assert open_descriptors() == before


def test_an_unplugged_line_is_transport_down_and_the_port_is_let_go() -> None:
    with device(ANSWER_22_5) as (driver, peer):
        assert driver.read("s1") == {"value": 22.5}
        peer.unplug()
        with pytest.raises(TransportDown, match="is gone"):
            driver.read("s1")
        with pytest.raises(TransportDown, match="not connected"):
            driver.read("s1")


def test_a_line_unplugged_while_waiting_is_transport_down() -> None:
    with device(timeout_s=5) as (driver, peer):

        def pull() -> None:
            eventually(lambda: peer.requests)
            peer.unplug()

        helper = threading.Thread(target=pull)
        helper.start()
        with pytest.raises(TransportDown):
            driver.read("s1")
        helper.join()


def test_reading_before_connecting_is_transport_down() -> None:
    with pytest.raises(TransportDown, match="not connected"):
        ModbusRtu(line("/dev/ttyUSB0"), [TEMPERATURE]).read("s1")


@pytest.mark.parametrize("noisy", [ANSWER_22_5, b"\x00" + ANSWER_22_5])
def test_rtu_frames_travel_over_a_socket_url(noisy: bytes) -> None:
    with on_tcp(noisy, kind=RtuOverTcpPeer) as peer, connected(line(peer.url), TEMPERATURE) as driver:
        assert driver.read("s1") == {"value": 22.5}
        assert peer.requests == [ASK]


def test_a_socket_that_hangs_up_is_transport_down() -> None:
    with (
        on_tcp(CLOSE, kind=RtuOverTcpPeer) as peer,
        connected(line(peer.url), TEMPERATURE) as driver,
        pytest.raises(TransportDown),
    ):
        driver.read("s1")


def test_stale_bytes_on_a_socket_url_are_dropped() -> None:
    replies = b"", ANSWER_60_0
    with (
        on_tcp(*replies, kind=RtuOverTcpPeer) as peer,
        connected(line(peer.url, timeout_s=SHORT_S), TEMPERATURE, HUMIDITY) as driver,
    ):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert peer.connection is not None
        peer.connection.sendall(ANSWER_22_0)
        assert driver.read("s2") == {"value": 60.0}


def test_a_refused_socket_url_says_so() -> None:
    with on_tcp(kind=RtuOverTcpPeer) as peer:
        url = peer.url
    with pytest.raises(TransportDown, match="Connection refused"):
        ModbusRtu(line(url), [TEMPERATURE]).connect()
