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

from emulator.dialects import Bytes, Dialect, Lines, ModbusRtu, ModbusTcp, Rapi, dialect_of
from emulator.faults import TEXT, Fault, Faults, Kind
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


def nothing_strikes(_: Faults) -> dict[Kind, Fault]:
    return {}


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
