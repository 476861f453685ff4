"""Modbus TCP: literal frames, transaction ids, and connections that end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensor_hub.config.model import SensorConfig
from sensor_hub.drivers.modbus import ModbusTcp
from sensor_hub.errors import (
    BrokenFrame,
    DeviceRefused,
    InvalidCommand,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.readings import Json
from tests.support import eventually
from tests.wire.scripted_peers import CLOSE, Reply, TcpPeer, hexed, line, on_tcp, register, sensor

TEMPERATURE = sensor(unit_id=3, register=register(data_type="int16", scale=0.1))
SHORT_S = 0.5
PDU_22_5 = "03 04 02 00 E1"
PDU_60_0 = "03 04 02 02 58"


def frame(tid: int, adu: str, *, protocol: int = 0) -> bytes:
    body = hexed(adu)
    return tid.to_bytes(2, "big") + protocol.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


@contextmanager
def device(
    *replies: Reply, sensors: tuple[SensorConfig, ...] = (TEMPERATURE,), timeout_s: float = SHORT_S
) -> Iterator[tuple[ModbusTcp, TcpPeer]]:
    with on_tcp(*replies) as peer:
        driver = ModbusTcp(line(peer.url, "modbus_tcp", timeout_s=timeout_s), sensors)
        driver.connect()
        try:
            yield driver, peer
        finally:
            driver.close()


def test_an_input_register_is_asked_for_and_scaled() -> None:
    answer = hexed("00 01 00 00 00 05 03 04 02 00 E1")
    with device(answer) as (driver, peer):
        assert driver.read("s1") == {"value": 22.5}
        assert peer.requests == [hexed("00 01 00 00 00 06 03 04 00 01 00 01")]


def test_every_request_has_its_own_transaction_id() -> None:
    with device(frame(1, PDU_22_5), frame(2, PDU_60_0)) as (driver, peer):
        assert driver.read("s1") == {"value": 22.5}
        assert driver.read("s1") == {"value": 60.0}
        assert [request[:2] for request in peer.requests] == [b"\x00\x01", b"\x00\x02"]


@pytest.mark.parametrize(
    ("where", "value", "request_bytes", "answer"),
    [
        (
            register("holding", 10, scale=0.1, write=True),
            54,
            "00 01 00 00 00 06 01 06 00 0A 02 1C",
            "00 01 00 00 00 06 01 06 00 0A 02 1C",
        ),
        (
            register("coil", 0, write=True),
            True,
            "00 01 00 00 00 06 01 05 00 00 FF 00",
            "00 01 00 00 00 06 01 05 00 00 FF 00",
        ),
        (
            register("holding", 20, data_type="float32", write=True),
            21.5,
            "00 01 00 00 00 0B 01 10 00 14 00 02 04 41 AC 00 00",
            "00 01 00 00 00 06 01 10 00 14 00 02",
        ),
    ],
)
def test_writes_are_sent_and_confirmed(
    where: dict[str, Json], value: Json, request_bytes: str, answer: str
) -> None:
    with device(hexed(answer), sensors=(sensor(register=where),)) as (driver, peer):
        assert driver.write("s1", {"value": value}) == {"value": value}
        assert peer.requests == [hexed(request_bytes)]


def test_an_exception_is_the_devices_no() -> None:
    with (
        device(frame(1, "03 84 0A")) as (driver, _),
        pytest.raises(DeviceRefused, match=r"unit 3 answered gateway path unavailable \(10\)"),
    ):
        driver.read("s1")


def test_a_gateway_whose_unit_is_silent_is_a_timeout_of_that_unit() -> None:
    with (
        device(frame(1, "03 84 0B")) as (driver, _),
        pytest.raises(
            ReadTimeout, match=r"no answer from unit 3: gateway target device failed to respond \(11\)"
        ),
    ):
        driver.read("s1")


def test_units_behind_a_gateway_share_the_connection() -> None:
    other = sensor("s9", unit_id=9, register=register(data_type="int16", scale=0.1))
    replies = frame(1, PDU_22_5), frame(2, "09 04 02 02 58")
    with device(*replies, sensors=(TEMPERATURE, other)) as (driver, peer):
        assert (driver.read("s1"), driver.read("s9")) == ({"value": 22.5}, {"value": 60.0})
        assert peer.requests[1] == hexed("00 02 00 00 00 06 09 04 00 01 00 01")
        assert peer.connections == 1


@pytest.mark.parametrize("unit_id", [0, 255])
def test_the_device_at_the_connection_itself_has_unit_0_or_255(unit_id: int) -> None:
    own = sensor(unit_id=unit_id, register=register("holding", 1, write=True))
    number = f"{unit_id:02X}"
    replies = frame(1, f"{number} 03 02 00 E1"), frame(2, f"{number} 06 00 01 00 05")
    with device(*replies, sensors=(own,)) as (driver, peer):
        assert driver.read("s1") == {"value": 225}
        assert driver.write("s1", {"value": 5}) == {"value": 5}
        assert peer.requests[0] == hexed(f"00 01 00 00 00 06 {number} 03 00 01 00 01")


def test_a_broadcast_behind_a_gateway_is_refused() -> None:
    everybody = sensor("all", unit_id=0, register=register("holding", 1, write=True))
    with device(sensors=(TEMPERATURE, everybody)) as (driver, peer):
        with pytest.raises(InvalidCommand, match="broadcasts are refused"):
            driver.write("all", {"value": 5})
        assert peer.requests == []


OWN = sensor(unit_id=0, register=register("holding", 1, write=True))
ASKED = "00 03 00 01 00 01"
WRITTEN = "00 06 00 01 00 05"


def test_unit_0_is_written_only_after_it_has_answered_a_read() -> None:
    replies = frame(1, "00 03 02 00 E1"), frame(2, WRITTEN), frame(3, WRITTEN)
    with device(*replies, sensors=(OWN,)) as (driver, peer):
        assert [driver.write("s1", {"value": 5}) for _ in range(2)] == [{"value": 5}] * 2
        assert [request[6:] for request in peer.requests] == [hexed(ASKED), hexed(WRITTEN), hexed(WRITTEN)]


@pytest.mark.parametrize(("said", "error"), [(b"", ReadTimeout), (frame(1, "00 83 0A"), DeviceRefused)])
def test_unit_0_of_a_gateway_is_not_written_even_if_it_is_the_only_sensor(
    said: bytes, error: type[Exception]
) -> None:
    with device(said, sensors=(OWN,)) as (driver, peer):
        with pytest.raises(error):
            driver.write("s1", {"value": 5})
        assert [request[6:] for request in peer.requests] == [hexed(ASKED)]


def test_unit_0_that_cannot_be_read_is_not_written() -> None:
    mute = sensor(unit_id=0, register=register("holding", 1, write=True, read=False))
    with device(sensors=(mute,)) as (driver, peer):
        with pytest.raises(InvalidCommand, match="it is written after it has answered a read"):
            driver.write("s1", {"value": 5})
        assert peer.requests == []


def test_on_a_new_connection_unit_0_is_read_again_before_it_is_written() -> None:
    replies = frame(1, "00 03 02 00 E1"), frame(1, "00 03 02 00 E1"), frame(2, WRITTEN)
    with device(*replies, sensors=(OWN,)) as (driver, peer):
        driver.read("s1")
        driver.connect()
        assert driver.write("s1", {"value": 5}) == {"value": 5}
        assert [request[6:] for request in peer.requests] == [hexed(ASKED), hexed(ASKED), hexed(WRITTEN)]


def test_neighbours_are_read_at_once() -> None:
    two = sensor(unit_id=3, properties={"t": register(address=1), "h": register(address=2)})
    with device(frame(1, "03 04 04 00 E1 02 58"), sensors=(two,)) as (driver, peer):
        assert driver.read("s1") == {"t": 225, "h": 600}
        assert peer.requests == [hexed("00 01 00 00 00 06 03 04 00 01 00 02")]


def test_a_delay_is_kept_between_an_answer_and_the_next_request() -> None:
    at: list[float] = []

    def noted(request: bytes) -> bytes:
        at.append(time.monotonic())
        return request[:2] + frame(0, PDU_22_5)[2:]

    slow = sensor(unit_id=3, register=register(data_type="int16", scale=0.1), delay_ms=60)
    with device(noted, noted, sensors=(slow,)) as (driver, _):
        driver.read("s1")
        driver.read("s1")
    assert at[1] - at[0] >= 0.06


def test_silence_is_a_timeout_and_the_connection_stays() -> None:
    with device(b"", frame(2, PDU_22_5)) as (driver, peer):
        with pytest.raises(ReadTimeout, match=r"no answer from unit 3 within 0\.5 s"):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}
        assert peer.connections == 1


def test_a_connection_on_which_nothing_is_heard_any_more_is_made_anew() -> None:
    with device(b"", b"", b"", frame(4, PDU_22_5)) as (driver, peer):
        for _ in range(3):
            with pytest.raises(ReadTimeout):
                driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}
        assert peer.connections == 2


def test_a_late_answer_to_an_earlier_request_is_not_taken() -> None:
    with device(b"", frame(1, PDU_22_5), frame(2, PDU_22_5) + frame(3, PDU_60_0)) as (driver, _):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert driver.read("s1") == {"value": 60.0}


@pytest.mark.parametrize("tid", [0, 2, 0xFFFF])
def test_an_answer_with_another_transaction_id_is_not_taken(tid: int) -> None:
    with device(frame(tid, PDU_22_5)) as (driver, _), pytest.raises(ReadTimeout):
        driver.read("s1")


def test_what_another_unit_answers_is_not_taken() -> None:
    with (
        device(frame(1, "05 04 02 00 E1")) as (driver, _),
        pytest.raises(ReadTimeout, match="unit 5 answered"),
    ):
        driver.read("s1")


@pytest.mark.parametrize(
    "adu",
    ["03 03 02 00 E1", "03 04 04 00 E1 00 E1", "03 04 02 00 E1 00", "03 04 00", "03 84 02 00", "03 04 02 00"],
)
def test_an_answer_that_does_not_fit_the_request_is_a_failed_read(adu: str) -> None:
    with device(frame(1, adu), frame(2, PDU_22_5)) as (driver, _):
        with pytest.raises(ReadFailed, match="does not fit"):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}


@pytest.mark.parametrize(
    "broken",
    [
        frame(1, PDU_22_5, protocol=1),
        hexed("00 01 00 00 FF FF 03 04 02 00 E1"),
        hexed("00 01 00 00 00 00 00 00"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        hexed("00 01 00 00 00 05 03 04 02"),  # truncated
    ],
)
def test_after_bytes_that_are_no_frame_a_new_connection_is_made(broken: bytes) -> None:
    with device(broken, frame(2, PDU_22_5)) as (driver, peer):
        with pytest.raises(BrokenFrame, match="broken answer from unit 3"):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}
        assert peer.connections == 2


def test_an_answer_in_pieces_is_put_together() -> None:
    with device(timeout_s=2) as (driver, peer):

        def answer_slowly() -> None:
            eventually(lambda: peer.requests and peer.connection)
            assert peer.connection is not None
            for byte in frame(1, PDU_22_5):
                peer.connection.sendall(bytes([byte]))

        helper = threading.Thread(target=answer_slowly)
        helper.start()
        assert driver.read("s1") == {"value": 22.5}
        helper.join()


def test_half_a_late_frame_behind_an_answer_does_not_spoil_the_next() -> None:
    late = frame(1, PDU_22_5)
    with device(b"", frame(2, PDU_22_5) + late[:5], late[5:] + frame(3, PDU_60_0)) as (driver, peer):
        with pytest.raises(ReadTimeout):
            driver.read("s1")
        assert driver.read("s1") == {"value": 22.5}
        assert driver.read("s1") == {"value": 60.0}
        assert peer.connections == 1


@pytest.mark.parametrize("unasked", [b"\x55", b"\x00\x01\x00", bytes(range(1, 31)), frame(1, PDU_60_0)])
def test_bytes_behind_an_answer_do_not_spoil_a_write(unasked: bytes) -> None:
    where = sensor(unit_id=3, register=register("holding", 10, write=True))
    answers = frame(1, "03 03 02 00 E1") + unasked, frame(2, "03 06 00 0A 00 07")
    with device(*answers, sensors=(where,)) as (driver, peer):
        assert driver.read("s1") == {"value": 225}
        assert driver.write("s1", {"value": 7}) == {"value": 7}
        assert peer.connections == 1


def test_a_peer_that_hangs_up_is_transport_down_until_connected_again() -> None:
    with device(CLOSE, frame(1, PDU_22_5)) as (driver, peer):
        with pytest.raises(TransportDown, match="closed the connection"):
            driver.read("s1")
        with pytest.raises(TransportDown, match="not connected"):
            driver.read("s1")
        driver.connect()
        assert driver.read("s1") == {"value": 22.5}
        assert peer.connections == 2


LIMITS = sensor(unit_id=3, register=register("holding", 1, write=True))
CONFIRMED = "03 06 00 01 00 05"


@contextmanager
def that_hung_up_after_an_answer(*replies: Reply) -> Iterator[tuple[ModbusTcp, TcpPeer]]:
    """The peer answered one read and has closed the connection since."""
    with device(frame(1, "03 03 02 00 E1"), *replies, sensors=(LIMITS,), timeout_s=5) as (driver, peer):
        assert driver.read("s1") == {"value": 225}
        peer.hang_up()
        yield driver, peer


def test_a_read_on_a_connection_that_rested_and_was_closed_is_asked_again_on_a_new_one() -> None:
    with that_hung_up_after_an_answer(frame(2, "03 03 02 00 E2")) as (driver, peer):
        assert driver.read("s1") == {"value": 226}
        assert peer.connections == 2


def test_a_read_is_asked_again_when_the_peer_hangs_up_at_the_request() -> None:
    replies = frame(1, "03 03 02 00 E1"), CLOSE, frame(2, "03 03 02 00 E2")
    with device(*replies, sensors=(LIMITS,), timeout_s=5) as (driver, peer):
        assert [driver.read("s1") for _ in range(2)] == [{"value": 225}, {"value": 226}]
        assert (peer.connections, len(peer.requests)) == (2, 3)


def test_a_read_is_asked_again_once_only() -> None:
    replies = frame(1, "03 03 02 00 E1"), CLOSE, CLOSE, frame(2, "03 03 02 00 E2")
    with device(*replies, sensors=(LIMITS,), timeout_s=5) as (driver, peer):
        driver.read("s1")
        with pytest.raises(TransportDown, match="closed the connection"):
            driver.read("s1")
        assert (peer.connections, len(peer.requests)) == (2, 3)


def test_a_read_is_not_asked_again_after_a_part_of_its_answer() -> None:
    def part(_: bytes) -> bytes:
        assert peer.connection is not None
        peer.connection.sendall(frame(2, "03 03 02 00 E2")[:5])
        return CLOSE

    with device(frame(1, "03 03 02 00 E1"), part, sensors=(LIMITS,), timeout_s=5) as (driver, peer):
        driver.read("s1")
        with pytest.raises(TransportDown, match="closed the connection"):
            driver.read("s1")
        assert peer.connections == 1


def test_a_write_is_never_sent_twice() -> None:
    with that_hung_up_after_an_answer(frame(2, CONFIRMED)) as (driver, peer):
        with pytest.raises(TransportDown):
            driver.write("s1", {"value": 5})
        assert peer.connections == 1
        driver.connect()
    replies = frame(1, "03 03 02 00 E1"), CLOSE, frame(2, CONFIRMED)
    with device(*replies, sensors=(LIMITS,), timeout_s=5) as (driver, peer):
        driver.read("s1")
        with pytest.raises(TransportDown):
            driver.write("s1", {"value": 5})
        assert (peer.connections, len(peer.requests)) == (1, 2)


def test_a_refused_connection_says_so_and_200_tries_leak_nothing() -> None:
    with on_tcp() as peer:
        url = peer.url
    driver = ModbusTcp(line(url, "modbus_tcp"), [TEMPERATURE])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        with pytest.raises(TransportDown, match="Connection refused"):
            driver.connect()
    assert len(os.listdir("/proc/self/fd")) < before + 50  # other tests' sockets come and go in this process


def test_a_host_name_that_cannot_be_is_transport_down() -> None:
    driver = ModbusTcp(line(f"tcp://{'a' * 70}.invalid", "modbus_tcp"), [TEMPERATURE])
    with pytest.raises(TransportDown, match="cannot connect"):
        driver.connect()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(min_size=1, max_size=60))
def test_random_answers_never_yield_a_value(noise: bytes) -> None:
    with device(noise, timeout_s=0.02) as (driver, _), pytest.raises((ReadFailed, ReadTimeout)):
        driver.read("s1")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(min_size=2, max_size=40))
def test_a_random_body_in_a_good_header_never_crashes(body: bytes) -> None:
    refusals = (ReadFailed, ReadTimeout, DeviceRefused)
    with device(frame(1, body.hex()), timeout_s=0.02) as (driver, _), pytest.raises(refusals):
        driver.read("s1")
