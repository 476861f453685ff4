"""Recordings: what is written and read, what answers what, and how a replay answers."""

from __future__ import annotations

import json
import random
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator import recording
from emulator.dialects import Bytes, Dialect, LineEnds, Lines, ModbusRtu, ModbusTcp, Rapi, dialect_of
from emulator.faults import TEXT, Fault, Faults, Kind, Strikes
from emulator.frames import framed
from emulator.rapi_lines import framed as rapi
from emulator.recording import (
    FROM,
    TO,
    Piece,
    Recording,
    RecordingError,
    RecordingFile,
    head_of,
    read,
    without_user,
)
from emulator.replay import ReplayDevice, ReplayPeer, Script, script_of

HEAD = head_of("/dev/ttyUSB0", 9600, "E", 1, datetime(2026, 11, 20, tzinfo=UTC))
READ_1, READ_2 = framed(1, bytes.fromhex("0400000001")), framed(2, bytes.fromhex("0400000001"))
SAYS_20, SAYS_21 = framed(1, bytes.fromhex("040200c8")), framed(1, bytes.fromhex("040200d2"))


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def recorded(*pieces: tuple[float, str, bytes], lasts_s: float = 60.0) -> Recording:
    return Recording(
        HEAD,
        tuple(Piece.model_validate({"t": t, "dir": where, "hex": data.hex()}) for t, where, data in pieces),
        lasts_s,
    )


def replay_of(*pieces: tuple[float, str, bytes], lasts_s: float = 60.0) -> tuple[ReplayPeer, ReplayDevice]:
    script = script_of(recorded(*pieces, lasts_s=lasts_s))
    device = ReplayDevice("replay", Faults(TEXT, random.Random(1)), script)
    return ReplayPeer(device, script), device


def nothing_strikes(_: Faults) -> Strikes:
    return Strikes()


# -- the file ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.jsonl"
    file = RecordingFile(path, HEAD, 10_000, clock)
    file.event("opened")
    file.piece(TO, b"W\r\n", 50.5)
    clock.now = 51.0
    file.piece(FROM, bytes(range(256)), 51.0)
    clock.now = 62.0
    file.end("stopped")
    found = read(path)
    assert found.head == HEAD
    assert [(piece.t, piece.dir, piece.data) for piece in found.pieces] == [
        (0.5, "to", b"W\r\n"),
        (1.0, "from", bytes(range(256))),
    ]
    assert found.lasts_s == 12.0
    assert '"text": "W\\r\\n"' in path.read_text()


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=50))
def test_any_bytes_survive_the_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = RecordingFile(Path(folder) / "r", HEAD, 10_000, Clock())
        file.piece(FROM, data, 51.0)
        assert [piece.data for piece in read(Path(folder) / "r").pieces] == [
            data
        ]  # not ended: it was flushed
        file.end("stopped")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    with pytest.raises(FileExistsError):
        RecordingFile(tmp_path / "r", HEAD, 10_000, Clock())
    assert (tmp_path / "r").read_text() == "mine"


def test_a_full_file_says_so_and_takes_nothing_more(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "r", HEAD, 1000, Clock())
    for _ in range(100):
        file.piece(FROM, b"x" * 50, 51.0)
    assert file.is_full
    file.end("stopped")
    lines = (tmp_path / "r").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "full"
    assert (tmp_path / "r").stat().st_size < 1200


def test_a_password_in_the_url_is_not_written() -> None:
    begun_at = datetime(2026, 11, 20, tzinfo=UTC)
    assert (
        head_of("rfc2217://me:secret@192.0.2.1:4000", 9600, "N", 1, begun_at).source
        == "rfc2217://192.0.2.1:4000"
    )
    assert head_of("/dev/tty@1", 9600, "N", 1, begun_at).source == "/dev/tty@1"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("socket://me:secret@192.0.2.1:4000", "socket://192.0.2.1:4000"),
        ("socket://me:secr@et@192.0.2.1:4000", "socket://192.0.2.1:4000"),
        ("rfc2217://me:se/cr?et@[2001:db8::1]:4000", "rfc2217://[2001:db8::1]:4000"),
        ("rfc2217://192.0.2.1:4000?timeout=3", "rfc2217://192.0.2.1:4000?timeout=3"),
        ("hwgrep://0403:.*@home", "hwgrep://0403:.*@home"),
    ],
)
def test_nothing_of_a_password_stays_whatever_is_in_it(source: str, says: str) -> None:
    assert without_user(source) == says


@pytest.mark.parametrize("cut_at", [-1, -3, -30])
def test_a_file_cut_anywhere_after_its_head_is_read_up_to_there(cut_at: int, tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "r", HEAD, 10_000, Clock())
    file.piece(TO, b"W\r", 51.0)
    file.piece(FROM, b"+1.5 kg\r\n", 52.0)
    (tmp_path / "cut").write_bytes((tmp_path / "r").read_bytes()[:cut_at])
    assert [piece.data for piece in read(tmp_path / "cut").pieces] == [b"W\r"]


def test_a_file_of_another_editor_is_read(tmp_path: Path) -> None:
    text = f'\ufeff{HEAD.model_dump_json()}\r\n{{"t": 1, "dir": "to", "text": "a\u2028b"}}\r\n'
    (tmp_path / "r").write_text(text, encoding="utf-8", newline="")
    assert [piece.text for piece in read(tmp_path / "r").pieces] == ["a\u2028b"]


def test_a_file_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_FILE_BYTES", 1000)
    with pytest.raises(RecordingError, match="/dev/zero: more than 1000 bytes"):
        read(Path("/dev/zero"))


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    text = HEAD.model_dump_json() + '\n{"t": 1, "dir": "to", "text": "W"}\n{"t": 2, "dir": "fr'
    (tmp_path / "r").write_text(text)
    assert [piece.data for piece in read(tmp_path / "r").pieces] == [b"W"]


def test_a_file_may_have_keys_of_a_later_version(tmp_path: Path) -> None:
    text = HEAD.model_dump_json()[:-1] + ', "note": "x"}\n{"t": 1, "dir": "to", "text": "W", "line": 3}\n'
    (tmp_path / "r").write_text(text)
    assert read(tmp_path / "r").pieces[0].data == b"W"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "empty"),
        (["hello"], "r:1: "),
        (
            ['{"format": "something else", "version": 1}'],
            "r:1: format: must be one of 'sensor-hub-recording'",
        ),
        (['{"format": "sensor-hub-recording", "version": 2}'], "r:1: version: must be one of 1, not 2"),
        ([None, '{"t": 1, "dir": "up", "text": "W"}'], "r:2: "),
        ([None, '{"t": 1, "dir": "to", "hex": "0"}'], "r:2: "),
        ([None, '{"t": -1, "dir": "to", "hex": "00"}'], "r:2: "),
        ([None, '{"t": 2, "dir": "to", "hex": "00"}', '{"t": 1, "dir": "to", "hex": "00"}'], "t goes back"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_line(
    lines: list[str | None], why: str, tmp_path: Path
) -> None:
    (tmp_path / "r").write_text("".join(f"{line or HEAD.model_dump_json()}\n" for line in lines))
    with pytest.raises(RecordingError, match=why):
        read(tmp_path / "r")


def test_the_recording_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```jsonl\n(.*?)```", text, re.S)
    (tmp_path / "r").write_text(example)
    found = read(tmp_path / "r")
    assert [piece.dir for piece in found.pieces] == ["to", "from"]
    assert script_of(found).dialect.name == "modbus rtu"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        read(tmp_path / "r")


# -- what answers what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "dialect"),
    [
        ([READ_1, READ_2[:3], READ_2[3:]], ModbusRtu),
        ([bytes.fromhex("000100000006010400000001"), bytes.fromhex("000200000006010400000001")], ModbusTcp),
        ([b"$GS^30\r", b"$GG :01^3A\r"], Rapi),
        ([b"$GS\r"], Rapi),
        ([b"W\r\n", b"T\r"], Lines),
        ([b"\r", b"\r"], LineEnds),
        ([b"\r\n", b"\r", b"\n"], LineEnds),
        ([b"\r", b"W\r"], Lines),
        ([], Lines),
        ([b"\x02\x80\x03", b"\x02\x81\x03"], Bytes),
        ([b"caf\xe9\r"], Bytes),
    ],
)
def test_the_dialect_is_known_by_what_was_sent(sent: list[bytes], dialect: type[Dialect]) -> None:
    assert type(dialect_of([(n * 0.02 if n else 0, data) for n, data in enumerate(sent)])) is dialect


def test_the_first_burst_after_a_request_is_its_answer_and_the_rest_was_said_unasked() -> None:
    script = script_of(
        recorded(
            (1.0, FROM, b"hello\r\n"),
            (2.0, TO, b"W\r"),
            (2.3, FROM, b"+1"),
            (2.4, FROM, b".5 kg\r\n"),
            (4.0, FROM, b"low battery\r\n"),
            (5.0, TO, b"X\r"),
            (9.0, FROM, b"late\r\n"),
        )
    )
    (weight,) = script.answers[b"W"]
    assert (round(weight.after_s, 3), weight.data) == (0.3, b"+1.5 kg\r\n")
    assert [answer.data for answer in script.answers[b"X"]] == [b""]
    assert script.unasked == [(1.0, b"hello\r\n"), (4.0, b"low battery\r\n"), (9.0, b"late\r\n")]


def test_a_request_that_was_cut_off_by_the_end_is_left_out() -> None:
    pieces = [(1.0, TO, READ_1), (1.1, FROM, SAYS_20), (2.0, TO, READ_1)]
    assert len(script_of(recorded(*pieces, lasts_s=2.1)).answers[READ_1]) == 1
    assert len(script_of(recorded(*pieces, lasts_s=9)).answers[READ_1]) == 2  # the device was silent


UNIT_2 = framed(2, bytes.fromhex("04020123"))
REFUSED = framed(1, bytes.fromhex("8402"))
WRITE = framed(1, bytes.fromhex("0600050001"))
Script_ = dict[bytes, list[tuple[float, bytes]]]


def understood(*pieces: tuple[float, str, bytes]) -> tuple[Script_, list[tuple[float, bytes]]]:
    """Answers by request, and what was said unasked."""
    script = script_of(recorded(*pieces))
    return {
        key: [(round(each.after_s, 3), each.data) for each in answers]
        for key, answers in script.answers.items()
    }, script.unasked


def test_the_answer_of_a_slow_gateway_is_for_the_unit_that_it_is_from() -> None:
    answers, unasked = understood(
        (1.0, TO, READ_1), (2.0, TO, READ_2), (2.05, FROM, SAYS_20), (2.1, FROM, UNIT_2)
    )
    assert answers == {READ_1: [(1.05, SAYS_20)], READ_2: [(0.1, UNIT_2)]}
    assert unasked == []


def test_two_answers_in_one_piece_are_for_their_two_requests() -> None:
    answers, _ = understood((1.0, TO, READ_1), (1.5, TO, READ_2), (1.6, FROM, SAYS_20 + UNIT_2))
    assert answers == {READ_1: [(0.6, SAYS_20)], READ_2: [(0.1, UNIT_2)]}


def test_the_frame_of_a_unit_that_was_not_asked_answers_nobody() -> None:
    answers, unasked = understood((1.0, TO, READ_1), (1.1, FROM, UNIT_2))
    assert (answers, unasked) == ({READ_1: [(0, b"")]}, [(1.1, UNIT_2)])


def test_answers_that_are_a_request_late_are_for_the_requests_in_their_order() -> None:
    answers, unasked = understood(
        (1.0, TO, READ_1), (2.0, TO, READ_1), (2.1, FROM, SAYS_20), (2.5, FROM, SAYS_21)
    )
    assert (answers, unasked) == ({READ_1: [(1.1, SAYS_20), (0.5, SAYS_21)]}, [])


# one unit polled in two blocks: 4 registers, and one
Q1, A1 = framed(1, bytes.fromhex("0300000004")), framed(1, bytes.fromhex("03080001000200030004"))
Q2, A2 = framed(1, bytes.fromhex("0300640001")), framed(1, bytes.fromhex("03021234"))


def test_blocks_of_one_unit_that_are_answered_a_request_late_get_each_its_own() -> None:
    answers, unasked = understood(
        (0, TO, Q1), (1, TO, Q2), (1.2, FROM, A1), (2, TO, Q1), (2.2, FROM, A2), (3, TO, Q2), (3.2, FROM, A1)
    )
    assert answers == {Q1: [(1.2, A1), (1.2, A1)], Q2: [(1.2, A2), (0, b"")]}
    assert unasked == []


def test_the_lost_answer_of_one_block_is_not_made_of_the_late_one_of_another() -> None:
    answers, unasked = understood(
        (0, TO, Q1),
        (1, TO, Q2),
        (1.1, FROM, A1),
        (4.5, TO, Q1),
        (4.6, FROM, A1),
        (5, TO, Q2),
        (5.1, FROM, A2),
    )
    assert answers == {Q1: [(1.1, A1), (0.1, A1)], Q2: [(0, b""), (0.1, A2)]}
    assert unasked == []


@pytest.mark.parametrize(
    ("first", "first_answer", "second"),
    [
        ("010000000a", "0102ff03", "0100000008"),
        ("0200000008", "0201ff", "0200000009"),
        ("0300000002", "030400010002", "0300000003"),
        ("0400000002", "040400010002", "0400000003"),
        ("17000000020010000102abcd", "170400010002", "17000000010010000102abcd"),
        ("050001ff00", "050001ff00", "050002ff00"),
        ("0600010007", "0600010007", "0600020007"),
        ("0f000100080155", "0f00010008", "0f000200080155"),
        ("10000100010200ff", "1000010001", "10000200010200ff"),
        ("16000100f20025", "16000100f20025", "16000200f20025"),
    ],
)
def test_a_late_answer_is_for_the_request_of_which_it_speaks(
    first: str, first_answer: str, second: str
) -> None:
    one, answer, two = (framed(1, bytes.fromhex(pdu)) for pdu in (first, first_answer, second))
    answers, unasked = understood((1, TO, one), (2, TO, two), (2.1, FROM, answer))
    assert (answers, unasked) == ({one: [(1.1, answer)], two: [(0, b"")]}, [])


def test_an_answer_with_another_count_than_was_asked_for_is_the_answer_of_a_device_that_is_so() -> None:
    answers, unasked = understood((1, TO, Q2), (1.1, FROM, A1), (2, TO, Q2), (2.1, FROM, A1))
    assert (answers, unasked) == ({Q2: [(0.1, A1), (0.1, A1)]}, [])


def test_the_echo_of_an_adapter_is_for_the_request_that_it_is_whatever_it_looks_like() -> None:
    far = framed(1, bytes.fromhex("0308000001"))  # its address looks like the count of what Q1 asks for
    answers, unasked = understood((1, TO, Q1), (2, TO, far), (2.01, FROM, far), (2.1, FROM, A2))
    assert (answers, unasked) == ({Q1: [(0, b"")], far: [(0.01, far + A2)]}, [])


def test_an_answer_in_pieces_with_a_request_between_them_is_one() -> None:
    answers, _ = understood(
        (1.0, TO, READ_1), (2.0, FROM, SAYS_20[:3]), (2.1, TO, READ_2), (2.2, FROM, SAYS_20[3:] + UNIT_2)
    )
    assert answers == {READ_1: [(1.0, SAYS_20)], READ_2: [(0.1, UNIT_2)]}


@pytest.mark.parametrize(
    "said",
    [REFUSED, SAYS_20[:-1] + b"\0", SAYS_20[:4], b"\xff\0" + SAYS_20, READ_1 + SAYS_20],
    ids=["refusal", "wrong checksum", "half", "noise before", "echo before"],
)
def test_an_answer_that_is_spoiled_is_the_answer_nevertheless(said: bytes) -> None:
    answers, unasked = understood((1.0, TO, READ_2), (1.5, TO, READ_1), (1.6, FROM, said))
    assert (answers[READ_1], unasked) == ([(0.1, said)], [])


def test_the_echo_of_a_write_and_its_answer_belong_together() -> None:
    answers, unasked = understood(
        (1.0, TO, WRITE), (2.0, TO, WRITE), (2.01, FROM, WRITE), (2.02, FROM, WRITE)
    )
    assert (answers, unasked) == ({WRITE: [(0, b""), (0.01, WRITE + WRITE)]}, [])


def tcp(transaction: int, pdu: str) -> bytes:
    body = b"\1" + bytes.fromhex(pdu)
    return transaction.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body


def test_answers_over_tcp_are_for_the_requests_with_their_transaction_ids() -> None:
    first, second = "0400000001", "0400010001"
    answers, unasked = understood(
        (1.0, TO, tcp(1, first) + tcp(2, second)),
        (1.1, FROM, tcp(2, "0402000b") + tcp(1, "0402000a")[:5]),
        (1.2, FROM, tcp(1, "0402000a")[5:]),
        (1.3, FROM, tcp(7, "0402000c")),
    )
    assert answers == {
        tcp(0, first)[2:]: [(0.1, tcp(1, "0402000a"))],
        tcp(0, second)[2:]: [(0.1, tcp(2, "0402000b"))],
    }
    assert unasked == [(1.3, tcp(7, "0402000c"))]


# -- replaying -----------------------------------------------------------------------------------------------------


def test_a_request_gets_its_answers_in_order_and_then_the_last_one_again() -> None:
    peer, device = replay_of((1, TO, READ_1), (1.2, FROM, SAYS_20), (2, TO, READ_1), (2.1, FROM, SAYS_21))
    answers = [(peer.answer(READ_1, {}), round(peer.late_s, 3)) for _ in range(4)]
    assert answers == [(SAYS_20, 0.2), (SAYS_21, 0.1), (SAYS_21, 0.1), (SAYS_21, 0.1)]
    assert (device.values()["asked"], device.values()["unknown"]) == (4, 0)


def test_a_request_that_was_not_recorded_gets_silence_and_is_told() -> None:
    peer, device = replay_of((1, TO, READ_1), (1.2, FROM, SAYS_20))
    assert peer.answer(READ_2, {}) == b""
    assert device.values() | {"asked": 1} == {
        "dialect": "modbus rtu",
        "known_requests": 1,
        "asked": 1,
        "unknown": 1,
        "last_unknown": READ_2.hex(" "),
    }


def test_a_device_that_did_not_answer_does_not_answer() -> None:
    peer, device = replay_of((1, TO, READ_1), (2, TO, READ_1), (2.1, FROM, SAYS_20))
    assert [peer.answer(READ_1, {}) for _ in range(2)] == [b"", SAYS_20]
    assert device.values()["unknown"] == 0


def test_a_stuck_replay_says_the_same_once_more() -> None:
    peer, _ = replay_of((1, TO, READ_1), (1.2, FROM, SAYS_20), (2, TO, READ_1), (2.1, FROM, SAYS_21))
    stuck = {Kind.STUCK: Fault(kind=Kind.STUCK)}
    assert [peer.answer(READ_1, struck) for struck in ({}, stuck, stuck, {})] == [SAYS_20] * 3 + [SAYS_21]


def test_the_transaction_id_of_modbus_tcp_is_the_requests() -> None:
    ask, say = "00000006010400000001", "0000000501040200c8"
    peer, _ = replay_of((1, TO, bytes.fromhex("0001" + ask)), (1.1, FROM, bytes.fromhex("0001" + say)))
    assert peer.answer(bytes.fromhex("abcd" + ask), {}) == bytes.fromhex("abcd" + say)


def test_the_sequence_id_of_rapi_is_the_requests_and_the_checksum_fits() -> None:
    peer, _ = replay_of((1, TO, rapi("GS :01")), (1.1, FROM, rapi("AT 01 01 16 0000") + rapi("OK 01 0 :01")))
    assert peer.answer(rapi("GS :7F"), {}) == rapi("AT 01 01 16 0000") + rapi("OK 01 0 :7F")
    assert peer.answer(b"$GS\r", {}) == rapi("AT 01 01 16 0000") + rapi("OK 01 0 :01")


def test_what_was_said_unasked_comes_at_its_time_once_if_the_device_was_asked_things_too() -> None:
    peer, _ = replay_of((1, FROM, b"boot\r"), (2, TO, b"W\r"), (2.1, FROM, b"1\r"), (6, FROM, b"low\r"))
    heard = []
    for _ in range(300):
        peer.pass_time(0.5)
        heard.append(peer.said(nothing_strikes)[0])
    assert [(n, data) for n, data in enumerate(heard, 1) if data] == [(2, b"boot\r"), (12, b"low\r")]


def test_a_device_that_only_talks_begins_anew_at_the_end() -> None:
    peer, _ = replay_of((1, FROM, b"a\r"), (2, FROM, b"b\r"), lasts_s=3)
    heard = b""
    for _ in range(12):
        peer.pass_time(0.5)
        heard += peer.said(nothing_strikes)[0]
    assert heard == b"a\rb\ra\rb\r"


@pytest.mark.parametrize("asks", [b"\r", b"\n", b"\r\n"])
def test_a_device_that_is_asked_by_a_bare_line_end_answers(asks: bytes) -> None:
    peer, device = replay_of(
        (1, TO, asks), (1.2, FROM, b"1 kg\r"), (2, TO, asks), (2.1, FROM, b"2 kg\r"), lasts_s=9
    )
    (one,), (two,) = (peer.splitter()(asks, at) for at in (10.0, 20.0))
    assert peer.meant(one) is device.faults
    assert [peer.answer(each, {}) for each in (one, two)] == [b"1 kg\r", b"2 kg\r"]


def test_cr_and_lf_in_two_pieces_are_one_request() -> None:
    pieces = [(1, TO, b"\r"), (1.01, TO, b"\n"), (1.2, FROM, b"1 kg\r"), (2, TO, b"\r\n")]
    script = script_of(recorded(*pieces, lasts_s=9))
    assert [each.data for each in script.answers[b"\r"]] == [b"1 kg\r", b""]
    feed = script.dialect.splitter(script.answers.keys())
    assert [feed(b"\r", 10.0), feed(b"\n", 10.01), feed(b"\n", 20.0)] == [[b"\r"], [], [b"\n"]]


def test_what_was_said_unasked_is_not_lost_while_a_late_answer_is_awaited() -> None:
    peer, _ = replay_of((1, FROM, b"a\r"), (2, TO, b"W\r"), (4, FROM, b"1\r"))
    peer.pass_time(4.0)
    assert peer.said(nothing_strikes)[0] == b"a\r"


def test_bytes_of_no_known_form_are_recognised_in_pieces_and_garbage_waits_for_silence() -> None:
    one, two = b"\x02\x81\x03", b"\x02\x81\x04\x05"
    script = script_of(recorded((1, TO, one), (1.1, FROM, b"A"), (2, TO, two), (2.1, FROM, b"B"), lasts_s=9))
    assert isinstance(script.dialect, Bytes)
    feed = script.dialect.splitter(script.answers.keys())
    assert [feed(one[:2], 10.0), feed(one[2:], 10.01), feed(two + one, 10.02)] == [[], [one], [two, one]]
    assert [feed(b"\x99", 10.03), feed(one, 10.04), feed(one, 10.5)] == [[b"\x99"], [], [one]]


SCRIPTS: dict[str, Script] = {
    "rtu": script_of(recorded((1, TO, READ_1), (1.2, FROM, SAYS_20))),
    "tcp": script_of(recorded((1, TO, bytes.fromhex("000100000006010400000001")), (1.1, FROM, b"x"))),
    "rapi": script_of(recorded((1, TO, rapi("GS :01")), (1.1, FROM, rapi("OK :01")))),
    "text": script_of(recorded((1, TO, b"W\r"), (1.1, FROM, b"1\r"))),
    "bytes": script_of(recorded((1, TO, b"\x02\x80"), (1.1, FROM, b"1"), lasts_s=9)),
}


_PIECES = st.tuples(
    st.floats(0, 0.4),
    st.sampled_from((TO, FROM)),
    st.sampled_from((READ_1, READ_2, SAYS_20, UNIT_2, REFUSED, tcp(1, "0400000001"), b"\r", b"$GS\r", b"W"))
    | st.binary(max_size=20),
)


@given(st.lists(_PIECES, max_size=30))
def test_every_byte_of_a_device_is_an_answer_or_said_unasked(
    pieces: list[tuple[float, str, bytes]],
) -> None:
    t, found = 0.0, []
    for after_s, direction, data in pieces:
        t += after_s
        found.append((t, direction, data))
    script = script_of(recorded(*found, lasts_s=t + 60))
    answers = [answer for each in script.answers.values() for answer in each]
    heard = [data for _, data in script.unasked] + [answer.data for answer in answers]
    assert sorted(b"".join(heard)) == sorted(b"".join(data for _, where, data in found if where == FROM))
    assert all(answer.after_s >= 0 for answer in answers)


@pytest.mark.parametrize("name", SCRIPTS)
@given(pieces=st.lists(st.binary(max_size=300), max_size=6))
def test_nothing_that_is_sent_disturbs_a_replay(name: str, pieces: list[bytes]) -> None:
    script = SCRIPTS[name]
    device = ReplayDevice("replay", Faults(TEXT, random.Random(1)), script)
    peer = ReplayPeer(device, script)
    feed, known = peer.splitter(), next(iter(script.answers))
    requests = [request for n, data in enumerate(pieces) for request in feed(data, float(n))]
    assert all(isinstance(peer.answer(each, {}), bytes) for each in requests if peer.meant(each))
    assert sum(map(len, requests)) <= sum(map(len, pieces))
    ends = {"tcp": b"\0\1" + known, "rapi": b"\r" + known + b"\r", "text": b"\r" + known + b"\r"}
    after = feed(ends.get(name, known), 100.0)
    assert peer.answer(after[-1], {}) != b""
