"""Putting Modbus RTU requests together: literal frames."""

from __future__ import annotations

import pytest

from emulator.frames import GAP_S, RequestAssembler, answer_size

READ_1 = bytes.fromhex("010400000001 31ca")


def crc_of(body: bytes) -> bytes:
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def framed(body: str) -> bytes:
    data = bytes.fromhex(body)
    return data + crc_of(data)


def test_the_documented_read_request_is_one_frame() -> None:
    assert RequestAssembler().feed(READ_1, 1.0) == [READ_1]


@pytest.mark.parametrize(
    "body",
    ["0105 0000 ff00", "010f 0000 000a 02 cd01", "0110 0000 0002 04 000a0102", "0116 0000 00f2 0025",
     "0117 0000 0001 0000 0001 02 00ff", "0107", "0111", "012b 0e0100", "0145 0102030405"],
)  # fmt: skip
def test_a_request_in_single_bytes_is_one_frame_whatever_its_function(body: str) -> None:
    frame, assembler = framed(body), RequestAssembler()
    found = [assembler.feed(bytes([byte]), 1.0 + index / 1000) for index, byte in enumerate(frame)]
    assert found == [[]] * (len(frame) - 1) + [[frame]]


def test_two_requests_in_one_piece_come_out_in_order() -> None:
    other = framed("0204 0000 0001")
    assert RequestAssembler().feed(READ_1 + other, 1.0) == [READ_1, other]


def test_a_request_with_a_wrong_checksum_is_dropped_and_the_next_one_passes() -> None:
    assembler = RequestAssembler()
    assert assembler.feed(READ_1[:-1] + b"\x00", 1.0) == []
    assert assembler.feed(READ_1, 1.01) == [READ_1]


def test_half_a_request_is_forgotten_after_silence() -> None:
    assembler = RequestAssembler()
    assert assembler.feed(READ_1[:5], 1.0) == []
    assert assembler.feed(READ_1, 1.0 + GAP_S * 2) == [READ_1]


def test_noise_without_end_is_not_kept() -> None:
    assembler = RequestAssembler()
    for index in range(1000):
        assert assembler.feed(b"\x99" * 64, 1.0 + index / 1000) == []
    assert assembler.feed(READ_1, 10.0) == [READ_1]


@pytest.mark.parametrize(
    "body",
    ["0103 04 00010002", "0101 01 05", "0106 0000 00c8", "0110 0000 0002", "0183 02", "0107 6d",
     "0116 0000 00f2 0025", "0111 02 01ff", "0145 0102030405"],
)  # fmt: skip
def test_an_answer_is_as_long_as_its_function_says(body: str) -> None:
    frame = framed(body)
    assert answer_size(frame) == len(frame)
    assert [answer_size(frame[:cut]) for cut in range(len(frame))] == [0] * len(frame)
    assert answer_size(frame[:-1] + bytes([frame[-1] ^ 1])) == 0


def test_what_follows_an_answer_is_not_part_of_it() -> None:
    assert answer_size(framed("0103 02 0001") + b"more") == 7
