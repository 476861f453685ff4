"""RAPI frames and what they mean: every table of the protocol's description, then anything at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sensor_hub.drivers.rapi_frames import Assembler, Broken, Frame, parse, request, sum_of, xor_of
from sensor_hub.drivers.rapi_properties import command_of
from sensor_hub.drivers.rapi_values import QUERIES, Profile, decode, profile_of
from sensor_hub.errors import InvalidCommand, ReadFailed
from sensor_hub.readings import Json

FIRMWARE, EMULATOR = Profile.FIRMWARE, Profile.EMULATOR


@pytest.mark.parametrize(
    ("text", "xor", "total"),
    [
        ("$GS", 0x30, 0xBE),
        ("$GG", 0x24, 0xB2),
        ("$GU", 0x36, 0xC0),
        ("$GV", 0x35, 0xC1),
        ("$GC", 0x20, 0xAE),
        ("$FE", 0x27, 0xAF),
        ("$FD", 0x26, 0xAE),
        ("$FS", 0x31, 0xBD),
        ("$FB 7", 0x37, 0x03),
        ("$ST 0 0 0 0", 0x23, 0x0B),
        ("$OK", 0x20, 0xBE),
        ("$AB 00 8.2.1", 0x1C, 0x3E),
        ("$SC 16", 0x13, 0x41),
        ("$SC 16 V", 0x65, 0xB7),
        ("$SL A", 0x5A, 0x24),
        ("$SL 1", 0x2A, 0x14),
        ("$SY 165", 0x3C, 0x8C),
        ("$SY 100 6", 0x29, 0xD7),
        ("$GS :2A", 0x59, 0x8B),
        ("$OK 03 1234 03 0140 :2A", 0x48, 0x60),
        ("$AT 03 03 16 0140", 0x33, 0x2B),
        ("$WF 02", 0x17, 0x43),
        ("$NK", 0x21, 0xBD),
        ("$OK 16", 0x07, 0x45),
    ],
)
def test_both_checksums_are_those_of_the_description(text: str, xor: int, total: int) -> None:
    assert (xor_of(text.encode()), sum_of(text.encode())) == (xor, total)
    assert parse(b"%s^%02X" % (text.encode(), xor)) == parse(b"%s*%02X" % (text.encode(), total))


def test_the_worked_example_is_on_the_wire_as_described() -> None:
    assert request("GS") == bytes.fromhex("24 47 53 5E 33 30 0D")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("GP", "$GP^33"), ("GE", "$GE^26"), ("GF", "$GF^25"), ("GI", "$GI^2A"), ("GH", "$GH^2B"),
        ("G3", "$G3^50"), ("G0", "$G0^53"), ("G4", "$G4^57"), ("FR", "$FR^30"), ("S4 1", "$S4 1^52"),
        ("S4 0", "$S4 0^53"), ("SC 5", "$SC 5^21"), ("SC 81", "$SC 81^1D"),
    ],
)  # fmt: skip
def test_a_command_is_framed_as_described(text: str, line: str) -> None:
    assert request(text) == line.encode() + b"\r"


def test_a_sequence_id_is_two_digits_before_the_checksum() -> None:
    assert request("GC", 7) == b"$GC :07^3D\r"


RECORDED = [
    ("GV", "$OK 8.2.1 5.0.1^2F", {"firmware": "8.2.1", "protocol": "5.0.1"}),
    (
        "GS",
        "$OK 01 0 01 0000^10",
        {
            "state": "ready",
            "state_raw": 1,
            "vehicle_connected": False,
            "charging": False,
            "fault": "none",
            "enabled": True,
            "session_time": 0,
        },
    ),
    ("GG", "$OK 0 240000 1 0^17", {"current": 0.0, "voltage": 240.0, "power": 0.0}),
    ("GP", "$OK 242 242 0 0^20", {"temperature": 24.2, "temperature_2": 24.2}),
    ("GU", "$OK 0 0^20", {"session_energy": 0}),
    ("GC", "$OK 6 80 32 32^1E", {"current_min": 6, "current_max": 32, "current_hw_max": 80}),
    ("GE", "$OK 32 0^11", {"service_level": "auto", "current_limit": 32}),
    ("GF", "$OK 0 0 0^30", {"gfci_trips": 0, "no_ground_trips": 0, "stuck_relay_trips": 0}),
    ("GI", "$OK OpenEVSE03AB12CD^35", {"serial": "OpenEVSE03AB12CD"}),
    ("GS", "$OK 02 0 02 0100^11", {"state": "connected", "vehicle_connected": True, "charging": False}),
    ("GS", "$OK 03 1 03 0140^14", {"state": "charging", "charging": True, "session_time": 1}),
    ("GG", "$OK 16000 240000 3 0^12", {"current": 16.0, "voltage": 240.0, "power": 3840.0}),
    ("GU", "$OK 3 10800^2A", {"session_energy": 3}),
    (
        "GS",
        "$OK FD 14 03 0140^21",
        {"state": "sleeping", "enabled": False, "fault": "none", "charging": False},
    ),
    ("GS", "$OK FE 19 03 0141^2C", {"state": "fault", "fault": "gfci", "enabled": True, "state_raw": 0xFE}),
    ("GF", "$OK 1 0 0^31", {"gfci_trips": 1}),
]


@pytest.mark.parametrize(("command", "line", "values"), RECORDED, ids=[line for _, line, _ in RECORDED])
def test_what_the_emulator_was_recorded_to_say_is_understood(
    command: str, line: str, values: dict[str, Json]
) -> None:
    frame = parse(line.encode())
    assert isinstance(frame, Frame)
    assert frame.checked
    found = decode(QUERIES[command], frame.words[1:], EMULATOR)
    assert found | values == found
    assert "total_energy" not in found  # the emulator does not tell it


@pytest.mark.parametrize(
    "line",
    [
        "$AT 02 02 16 0100^37", "$AT 03 03 16 0140^33", "$AT FE 03 10 0141^34", "$AT 03 03 10 0140^35",
        "$AT 01 01 10 0000^30", "$AB 00 8.2.1^1C", "$WF 02^17", "$AN 0^3B", "$ST 02^01",
    ],
)  # fmt: skip
def test_a_notification_is_known_as_one(line: str) -> None:
    frame = parse(line.encode())
    assert isinstance(frame, Frame), line
    assert frame.is_notification
    assert not frame.is_reply


@pytest.mark.parametrize("line", ["$ST 0 0 0 0^23", "$GS^30", "$SC 16 V^65", "$OK 16^07", "$NK^21"])
def test_echoes_and_replies_are_no_notifications(line: str) -> None:
    frame = parse(line.encode())
    assert isinstance(frame, Frame)
    assert not frame.is_notification
    assert frame.is_reply == (line[1:3] in ("OK", "NK"))


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        (b"$OK 16^07", Frame(("OK", "16"), None, True)),
        (b"$NK 32^00", Frame(("NK", "32"), None, True)),
        (b"$OK 03 1234 03 0140 :2A^48", Frame(("OK", "03", "1234", "03", "0140"), 0x2A, True)),
        (b"$OK 03 1234 03 0140 :2a^68", Frame(("OK", "03", "1234", "03", "0140"), 0x2A, True)),
        (b"noise\xff$GS$OK 16^07", Frame(("OK", "16"), None, True)),
        (b"$OK  OpenEVSE03AB12CD^15", Frame(("OK", "OpenEVSE03AB12CD"), None, True)),
        (b"$OK 16", Frame(("OK", "16"), None, False)),
        (b"$OK 16*45", Frame(("OK", "16"), None, True)),
        (b"$OK 6 80 32 32^1e", Frame(("OK", "6", "80", "32", "32"), None, True)),
        (b"$OK 16^08", Broken()),
        (b"$OK 16*44", Broken()),
        (b"$OK 16^0", Broken()),
        (b"$OK 16^", Broken()),
        (b"$OK 16^07x", Broken()),
        (b"$OK 1^07", Broken()),
        (b"", None),
        (b"$", None),
        (b"OK 16^07", None),
    ],
)
def test_a_line_is_taken_apart(line: bytes, frame: Frame | Broken | None) -> None:
    assert parse(line) == frame


@given(st.binary(max_size=80))
def test_any_line_is_a_frame_or_broken_or_noise(line: bytes) -> None:
    frame = parse(line)
    assert frame is None or isinstance(frame, Frame | Broken)
    if isinstance(frame, Frame):
        assert frame.words
        assert all(word and " " not in word for word in frame.words)


WORDS = st.lists(st.text("0123456789ABCDEFabcdef.-", min_size=1, max_size=8), max_size=6)


@given(WORDS, st.none() | st.integers(1, 255))
def test_what_is_framed_is_understood(words: list[str], sequence: int | None) -> None:
    line = request(" ".join(["OK", *words]), sequence)
    assert parse(line[:-1]) == Frame(("OK", *words), sequence, True)


@given(WORDS, st.data())
def test_a_changed_byte_is_never_taken_for_checked(words: list[str], data: Any) -> None:
    line = bytearray(request(" ".join(["OK", *words]))[:-1])
    at = data.draw(st.integers(0, len(line) - 4))
    line[at] ^= data.draw(st.integers(1, 255))
    assume(line[at] != ord("$"))  # what follows is then another frame, whose checksum may be right by chance
    frame = parse(bytes(line))
    assert not (isinstance(frame, Frame) and frame.checked)


@given(st.lists(st.binary(max_size=30)), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: Any) -> None:
    stream = b"".join(line + b"\r" for line in lines)
    assembler, found = Assembler(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += assembler.feed(stream[:size])
        stream = stream[size:]
    expected = [piece for line in lines for piece in line.replace(b"\n", b"\r").split(b"\r") if piece]
    assert found == expected


def test_an_endless_line_is_kept_short_and_the_next_frame_is_found() -> None:
    assembler = Assembler()
    for _ in range(100):
        assert assembler.feed(b"x" * 1000) == []
    (line,) = assembler.feed(b"$OK 16^07\r")
    assert len(line) <= 256
    assert parse(line) == Frame(("OK", "16"), None, True)


# -- meaning -----------------------------------------------------------------------------------------------


def values(command: str, answer: str, profile: Profile = FIRMWARE) -> dict[str, Json]:
    return decode(QUERIES[command], answer.split(), profile)


@pytest.mark.parametrize(
    ("raw", "state", "fault"),
    [
        ("00", "unknown", "none"), ("01", "ready", "none"), ("02", "connected", "none"),
        ("03", "charging", "none"), ("04", "vent_required", "none"), ("05", "fault", "diode"),
        ("06", "fault", "gfci"), ("07", "fault", "no_ground"), ("08", "fault", "stuck_relay"),
        ("09", "fault", "gfi_test"), ("0A", "fault", "over_temp"), ("0B", "fault", "over_current"),
        ("0C", "fault", "other"), ("0E", "fault", "relay_closure"), ("0F", "fault", "pp_shorted"),
        ("10", "fault", "pp_missing"), ("11", "fault", "eeprom"), ("12", "unknown", "none"),
        ("FD", "unknown", "none"), ("FE", "sleeping", "none"), ("FF", "disabled", "none"),
    ],
)  # fmt: skip
def test_a_state_of_the_firmware_has_its_name(raw: str, state: str, fault: str) -> None:
    found = values("GS", f"{raw} 0 01 0000")
    assert (found["state"], found["fault"], found["state_raw"]) == (state, fault, int(raw, 16))
    assert found["enabled"] is (raw not in ("FE", "FF"))


@pytest.mark.parametrize(
    ("raw", "pilot", "flags", "state", "fault"),
    [
        ("FD", "01", "0000", "sleeping", "none"),
        ("FE", "03", "0141", "fault", "gfci"),
        ("FE", "03", "0142", "fault", "stuck_relay"),
        ("FE", "03", "0144", "fault", "no_ground"),
        ("FE", "03", "0148", "fault", "diode"),
        ("FE", "03", "0150", "fault", "over_temp"),
        ("FE", "03", "0160", "fault", "gfi_test"),
        ("FE", "04", "0100", "vent_required", "none"),
        ("FE", "03", "0140", "unknown", "none"),
        ("FF", "01", "0000", "unknown", "none"),
        ("06", "01", "0000", "unknown", "none"),
        ("03", "03", "0141", "charging", "none"),
    ],
)
def test_a_state_of_the_emulator_has_its_name(
    raw: str, pilot: str, flags: str, state: str, fault: str
) -> None:
    found = values("GS", f"{raw} 0 {pilot} {flags}", EMULATOR)
    assert (found["state"], found["fault"]) == (state, fault)


def test_the_same_flags_mean_other_things_in_the_two_dialects() -> None:
    firmware, emulator = values("GS", "FE 9 03 0149"), values("GS", "FE 9 03 0149", EMULATOR)
    assert (firmware["state"], firmware["locked"]) == ("sleeping", True)
    assert (emulator["state"], "locked" in emulator) == ("fault", False)


@pytest.mark.parametrize(
    ("answer", "connected"),
    [
        ("FE 0 02 0000", True),
        ("FE 0 03 0000", True),
        ("FF 0 04 0000", True),
        ("06 0 01 0100", True),
        ("FE 0 01 0000", False),
        ("02 0 01 0000", False),
    ],
)
def test_a_vehicle_is_known_by_the_pilot_or_its_flag(answer: str, connected: bool) -> None:
    assert values("GS", answer)["vehicle_connected"] is connected


def test_it_charges_only_while_the_relay_is_closed() -> None:
    assert values("GS", "03 0 03 0100")["charging"] is False
    assert values("GS", "03 0 03 0140")["charging"] is True


@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [
        ("GG", "15873 239871", {"current": 15.873, "voltage": 239.871, "power": 3807.5}),
        ("GG", "-1 0", {"current": None, "voltage": 0.0, "power": None}),
        ("GP", "242 -2560 -31", {"temperature": 24.2, "temperature_2": None, "temperature_3": -3.1}),
        ("GU", "36000 1234567", {"session_energy": 10.0, "total_energy": 1234.567}),
        (
            "GC",
            "6 80 16 48",
            {"current_min": 6, "current_hw_max": 80, "current_limit": 16, "current_max": 48},
        ),
        ("GF", "A 1 FF", {"gfci_trips": 10, "no_ground_trips": 1, "stuck_relay_trips": 255}),
        ("GE", "16 0021", {"service_level": "2", "current_limit": 16}),
        ("GE", "16 0020", {"service_level": "1", "current_limit": 16}),
        ("GE", "16 0001", {"service_level": "auto", "current_limit": 16}),
        ("GE", "16 4021", {"service_level": "2", "current_limit": 16}),
        ("G4", "1", {"locked": True}),
        ("G3", "6", {"limit_time": 90}),
        ("GH", "12", {"limit_energy": 12}),
        ("GV", "8.2.1 5.2.1", {"firmware": "8.2.1", "protocol": "5.2.1"}),
    ],
)
def test_an_answer_of_the_firmware_has_its_values(
    command: str, answer: str, expected: dict[str, Json]
) -> None:
    assert values(command, answer) == expected


def test_the_emulators_flags_and_counters_are_decimal() -> None:
    assert values("GE", "32 33", EMULATOR)["service_level"] == "2"
    assert values("GF", "10 0 0", EMULATOR)["gfci_trips"] == 10


@pytest.mark.parametrize(
    ("command", "answer"),
    [("GS", "03 1"), ("GS", "6 80 32 32"), ("GS", "XY 0 01 0000"), ("GG", "16000"), ("GG", "x 240000"),
     ("GP", ""), ("GU", "1"), ("GC", "6 80"), ("GF", "1 2"), ("G3", "")],
)  # fmt: skip
def test_an_answer_to_something_else_is_no_reading(command: str, answer: str) -> None:
    with pytest.raises(ReadFailed, match=f"unusable answer to .{command}"):
        values(command, answer)


@given(st.sampled_from(sorted(QUERIES)), st.lists(st.text(max_size=6), max_size=6), st.sampled_from(Profile))
def test_any_answer_is_values_or_no_reading(command: str, words: list[str], profile: Profile) -> None:
    try:
        found = decode(QUERIES[command], words, profile)
    except ReadFailed:
        return
    assert found


@pytest.mark.parametrize(
    ("current", "temperatures", "profile"),
    [
        (("16000", "240000"), (), FIRMWARE),
        (("0", "240000", "1", "0"), (), EMULATOR),
        ((), ("242", "242", "0", "0"), EMULATOR),
        ((), ("242", "-2560", "251"), FIRMWARE),
        ((), (), FIRMWARE),
        (("16000", "240000"), ("242", "242", "0", "0"), FIRMWARE),  # one answer decides, not two
    ],
)
def test_the_dialect_is_told_by_the_number_of_fields(
    current: tuple[str, ...], temperatures: tuple[str, ...], profile: Profile
) -> None:
    assert profile_of(current, temperatures) is profile


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("enabled", True, "FE"),
        ("enabled", False, "FS"),
        ("locked", True, "S4 1"),
        ("locked", False, "S4 0"),
        ("service_level", "1", "SL 1"),
        ("service_level", "2", "SL 2"),
        ("service_level", "auto", "SL A"),
        ("limit_time", 90, "S3 6"),
        ("limit_time", 0.0, "S3 0"),
        ("limit_energy", 12, "SH 12"),
    ],
)
def test_a_property_is_written_with_its_command(name: str, value: Json, command: str) -> None:
    assert command_of(name, value, "sleep") == command


def test_a_hard_stop_disables() -> None:
    assert command_of("enabled", False, "disable") == "FD"


@pytest.mark.parametrize(
    ("name", "value"),
    [("enabled", 1), ("locked", "yes"), ("service_level", "3"), ("limit_time", 20), ("limit_time", 4000),
     ("limit_energy", -1), ("limit_energy", 1.5), ("limit_energy", 256), ("limit_energy", True),
     ("limit_time", float("inf")), ("state", "ready")],
)  # fmt: skip
def test_what_no_command_can_say_is_refused(name: str, value: Json) -> None:
    with pytest.raises(InvalidCommand):
        command_of(name, value, "sleep")
