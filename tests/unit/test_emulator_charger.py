"""An emulated charger: every command of RAPI, any bytes at all, and the car behind it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emulator.ev_model import Vehicle
from emulator.faults import RAPI, Faults
from emulator.peers import TextPeer, TextSplitter
from emulator.rapi_charger import FAULTS, Charger, Make
from emulator.rapi_day import ChargerDevice
from emulator.rapi_lines import framed, with_wrong_checksum
from emulator.registry import BadValueError

DIALECTS = ("firmware", "emulator")
STATES = {"gfci": 6, "stuck_relay": 8, "no_ground": 7, "diode_check": 5, "over_temp": 10, "gfi_self_test": 9}


def said_to(charger: Charger, *lines: str) -> list[str]:
    """The answers' texts, without checksum."""
    answers = (charger.heard(line.encode("latin-1") + b"\r") for line in lines)
    return [answer.decode("latin-1").partition("^")[0] for answer in answers]


def charging(dialect: str = "firmware", vehicle: Vehicle | None = None, amps: int = 16) -> Charger:
    charger = Charger(dialect, Make(amps=amps), vehicle)
    charger.plug()
    charger.ask_for_charge()
    charger.take_said()
    return charger


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("$GS", "$OK 01 0 01 0000"),
        ("$GG", "$OK 0 240000"),
        ("$GP", "$OK 242 -2560 251"),
        ("$GU", "$OK 0 0"),
        ("$GC", "$OK 6 80 16 32"),
        ("$GE", "$OK 16 0000"),
        ("$GF", "$OK 0 0 0"),
        ("$GV", "$OK 8.2.1 5.2.1"),
        ("$GI", "$OK  OpenEVSE03AB12CD"),
        ("$GA", "$OK 220 0"),
        ("$GD", "$OK 0 0 0 0"),
        ("$GH", "$OK 0"),
        ("$GM", "$OK 259 0"),
        ("$GO", "$OK 650 520"),
        ("$GY", "$OK 0 0 0"),
        ("$G0", "$OK 0"),
        ("$G3", "$OK 0"),
        ("$G4", "$OK 0"),
        ("$G5", "$NK"),
        ("$GZ", "$NK"),
        ("$SC 10 V", "$OK 10"),
        ("$SC 5 V", "$NK 6"),
        ("$SC x V", "$NK"),
        ("$SC", "$NK"),
        ("$SL 1", "$OK"),
        ("$SL 3", "$NK"),
        ("$S4 1", "$OK"),
        ("$S4 2", "$NK"),
        ("$S3 4", "$NK"),
        ("$SH 4", "$NK"),
        ("$SY 100 6", "$OK 100 6 0"),
        ("$SY 165", "$OK 0 0 0"),
        ("$SB", "$OK 0"),
        ("$SK 1000", "$OK"),
        ("$SV 230000", "$OK"),
        ("$SV 1", "$NK"),
        ("$ST 0 0 0 0", "$OK"),
        ("$ST 1", "$NK"),
        ("$S1 26 11 20 14 0 0", "$OK"),
        ("$FE", "$OK"),
        ("$FS", "$OK"),
        ("$FD", "$OK"),
        ("$FR", "$OK"),
        ("$FB 7", "$OK"),
        ("$FB 8", "$NK"),
        ("$FP 0 0 Hello", "$OK"),
        ("$FP 16 0 Hello", "$NK"),
        ("$F0 1", "$OK"),
        ("$F1", "$OK"),
        ("$FC", "$OK"),
        ("$FF D 0", "$OK"),
        ("$FF Q 0", "$NK"),
        ("$QQ", "$NK"),
        ("$", "$NK"),
    ],
)
def test_firmware_answers_every_command(asked: str, said: str) -> None:
    assert said_to(Charger("firmware"), asked) == [said]


@pytest.mark.parametrize(
    ("order", "query", "said"),
    [
        ("$SC 20 V", "$GE", "$OK 20 0000"),
        ("$SL 2", "$GE", "$OK 16 0021"),
        ("$SL 1", "$GG", "$OK 0 120000"),
        ("$SV 230000", "$GG", "$OK 0 230000"),
        ("$S4 1", "$GS", "$OK 01 0 01 0008"),
        ("$FS", "$GS", "$OK FE 0 01 0000"),
        ("$FD", "$GS", "$OK FF 0 01 0000"),
        ("$F1", "$GS", "$OK FE 0 01 0000"),
        ("$SK 1234", "$GU", "$OK 0 1234"),
        ("$SY 100 6", "$GY", "$OK 100 6 0"),
    ],
)
def test_what_was_ordered_is_told(order: str, query: str, said: str) -> None:
    assert said_to(Charger("firmware"), order, query)[1] == said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("$SY 100 6^29", "$OK 100 6 0"),
        ("$GT", "$OK 0"),
        ("$GH", "$OK 0"),
        ("$ST 0 0 0 0", "$OK"),
        ("$F1", "$OK"),
        ("$FF D 0", "$NK"),
        ("$GM", "$NK"),
        ("$GD", "$NK"),
        ("$GO", "$NK"),
        ("$GY", "$NK"),
        ("$S3 1", "$NK"),
    ],
)
def test_the_emulator_answers_as_its_dialect_has_it(asked: str, said: str) -> None:
    assert said_to(Charger("emulator"), asked) == [said]


def test_the_emulators_echo_joins_the_words_with_dollars() -> None:
    charger = Charger("emulator")
    assert charger.heard(b"$SE 1\r") == b"$OK^20\r"
    assert charger.heard(b"$SC 16^13\r") == b"$SC$16^17\r$OK^20\r"


def test_firmwares_echo_cannot_be_switched_off_but_by_a_restart() -> None:
    charger = Charger("firmware")
    assert said_to(charger, "$FF E 0") == ["$OK"]
    assert charger.heard(b"$GV\r").startswith(b"$GV\r$OK 8.2.1")
    charger.heard(b"$FR\r")
    assert charger.take_said() == b"$AB 00 8.2.1^1C\r"
    assert charger.heard(b"$GV\r").startswith(b"$OK 8.2.1")


def test_text_goes_to_the_display() -> None:
    charger = Charger("firmware")
    said_to(charger, "$FP 0 0 Hello\x11you", "$FP 6 0 EV", "$FP 14 1 long")
    assert charger.lcd == ["Hello EVu", "              lo"]


# -- any bytes -----------------------------------------------------------------------------------------------------

BYTES = st.one_of(
    st.binary(max_size=60),
    st.text("$GSCFEABLTK ^*:0123456789\r\n", max_size=60).map(lambda text: text.encode()),
    st.binary(max_size=4).map(lambda data: b"$SE 1\r$GS :" + data + b"\r"),
)


def heard_in(charger: Charger, pieces: list[bytes]) -> bytes:
    return b"".join(charger.heard(piece) for piece in pieces)


@example([b"$GS :\xff\r$GS :\xb5\r"], "firmware")
@example([b"$\xff\r$SE 1\r$\xb5\r"], "emulator")
@given(st.lists(BYTES, max_size=6), st.sampled_from(DIALECTS))
def test_answers_are_framed_whatever_is_heard(pieces: list[bytes], dialect: str) -> None:
    charger = Charger(dialect)
    for line in heard_in(charger, pieces).split(b"\r")[:-1]:
        text, mark, digits = line.strip(b"\n").rpartition(b"^")
        if mark and text.startswith((b"$OK", b"$NK")):
            assert framed(text[1:].decode("latin-1")) == text + mark + digits + b"\r"
    charger.heard(b"\r")
    assert charger.heard(b"$GV\r").startswith((b"$OK 8.2.1", b"$GV"))


@given(BYTES, st.lists(st.integers(0, 60), max_size=6), st.sampled_from(DIALECTS))
def test_answers_are_the_same_however_the_bytes_are_cut(data: bytes, cuts: list[int], dialect: str) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert heard_in(Charger(dialect), pieces) == heard_in(Charger(dialect), [data])


@given(st.lists(BYTES, max_size=6), st.booleans())
def test_a_splitter_loses_and_adds_nothing(pieces: list[bytes], ends_at_cr: bool) -> None:
    splitter, whole = TextSplitter(ends_at_cr=ends_at_cr), b"".join(pieces)
    lines = [line for piece in pieces for line in splitter.feed(piece, 0.0)]
    assert whole.startswith(b"".join(lines))
    assert all(line.rstrip(b"\n" if ends_at_cr else b"").endswith((b"\r", b"\n")) for line in lines)
    rest = whole[len(b"".join(lines)) :]
    assert b"\r" not in rest
    assert ends_at_cr or b"\n" not in rest


@given(BYTES, st.lists(st.integers(0, 60), max_size=6), st.sampled_from(DIALECTS))
def test_a_client_gets_the_same_answers_however_its_bytes_are_cut(
    data: bytes, cuts: list[int], dialect: str
) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    answers = []
    for each in (pieces, [data]):
        peer = TextPeer(device(dialect), is_charger=True)
        feed = peer.splitter()
        requests = [request for piece in each for request in feed(piece, 0.0)]
        answers.append(b"".join(peer.answer(request, {}) for request in requests if peer.meant(request)))
    assert answers == [heard_in(Charger(dialect), [data])] * 2


@pytest.mark.parametrize("ends_at_cr", [False, True])
def test_of_a_line_that_does_not_end_only_the_last_bytes_are_kept(ends_at_cr: bool) -> None:
    splitter = TextSplitter(ends_at_cr=ends_at_cr)
    for _ in range(100):
        assert splitter.feed(b"x" * 1000, 0.0) == []
    assert splitter.feed(b"$GV\r", 0.0) == [b"x" * 1024 + b"$GV\r"]
    assert splitter.feed(b"$GV\r", 0.0) == [b"$GV\r"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_charger_keeps_only_the_last_bytes_of_a_line_that_does_not_end(dialect: str) -> None:
    charger = Charger(dialect)
    charger.echo(True)
    for _ in range(100):
        assert charger.heard(b"X" * 1000) == b""
    assert len(charger.heard(b"\r")) < 1100
    assert b"OK 8.2.1" in charger.heard(b"$GV\r")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("half", [b"$SC 1", b"$FS", b"$GV\n$SC 2"])
def test_what_one_client_has_not_ended_is_no_part_of_anothers_line(dialect: str, half: bytes) -> None:
    peer = TextPeer(device(dialect), is_charger=True)
    one, other = peer.splitter(), peer.splitter()
    before = [request for request in one(half, 0.0) if peer.answer(request, {})]
    assert len(before) == (half.count(b"\n") if dialect == "emulator" else 0)
    (request,) = other(b"$GV\r", 0.0)
    assert peer.answer(request, {}).startswith(b"$OK 8.2.1")


def test_a_line_feed_of_one_client_makes_no_order_of_what_another_says_to_firmware() -> None:
    peer = TextPeer(device("firmware"), is_charger=True)
    one, other = peer.splitter(), peer.splitter()
    assert [peer.answer(request, {}) for request in (*one(b"$FS\n", 0.0), *other(b"1\r", 0.0))] == [b""]
    assert peer.answer(b"$GS\r", {}).startswith(b"$OK 01")
    (whole,) = one(b"\r\n", 0.0)
    assert peer.answer(whole, {}).startswith(b"$OK^")


@given(st.text("0123456789 ABCDEF", max_size=30))
def test_a_wrong_checksum_is_wrong(text: str) -> None:
    line = framed(f"OK {text}")
    wrong = with_wrong_checksum(line)
    assert (wrong.partition(b"^")[0], len(wrong)) == (line.partition(b"^")[0], len(line))
    assert wrong != line


@given(st.binary(min_size=1, max_size=60))
@example(b"hello\r")
@example(b"hello^zz\r")
@example(b"$GS^\r")
@example(b"$GS^30\r\n")
@example(b"?\r")
def test_a_line_without_checksum_gets_a_wrong_character(data: bytes) -> None:
    wrong = with_wrong_checksum(data)
    assert (len(wrong), wrong == data) == (len(data), False)
    ends = len(data) - len(data.rstrip(b"\r\n"))
    assert ends == len(data) or wrong.endswith(data[len(data) - ends :])


# -- the car, the heat, the faults ----------------------------------------------------------------------------------


def test_a_car_takes_what_is_offered_up_to_its_own_limit() -> None:
    assert charging(amps=16).current == pytest.approx(16)
    assert charging(amps=32).current == pytest.approx(30)  # 7.2 kW at 240 V
    assert charging(vehicle=Vehicle(max_charge_kw=2.4)).current == pytest.approx(10)


@pytest.mark.parametrize(("soc", "amps"), [(50, 16), (80, 16), (90, 12), (99.999, 8)])
def test_a_nearly_full_battery_takes_less(soc: float, amps: float) -> None:
    assert charging(vehicle=Vehicle(soc=soc)).current == pytest.approx(amps, abs=0.01)


def test_an_hour_of_charging_is_counted_in_energy_time_and_charge() -> None:
    charger = charging()
    for _ in range(3600):
        charger.pass_time(1)
    assert charger.session_s == pytest.approx(3600)
    assert charger.session_ws / 3600 == pytest.approx(3840)
    assert charger.vehicle.soc == pytest.approx(50 + 3.84 / 75 * 100)
    _, watt_seconds, watt_hours = said_to(charger, "$GU")[0].split()
    assert int(watt_seconds) == pytest.approx(13_824_000, abs=1)
    assert int(watt_hours) == pytest.approx(3840, abs=1)
    emulator = charging("emulator")
    for _ in range(3600):
        emulator.pass_time(1)
    assert said_to(emulator, "$GU")[0] in ("$OK 3839 13820400", "$OK 3840 13824000")


def test_a_full_car_asks_no_more_and_says_so() -> None:
    charger = charging(vehicle=Vehicle(soc=99.9999, battery_kwh=1))
    charger.pass_time(10)
    assert (charger.vehicle.soc, charger.state, charger.current) == (100.0, 2, 0.0)
    assert charger.take_said().startswith(b"$AT 02 02 16 0100^")


def test_a_car_in_direct_mode_takes_what_it_wants() -> None:
    charger = charging(vehicle=Vehicle(direct_mode=True, direct_amps=40.0))
    assert charger.current == 40.0
    varied = charging(vehicle=Vehicle(direct_mode=True, direct_amps=40.0, variance=True))
    currents = []
    for _ in range(100):
        varied.pass_time(1)
        currents.append(varied.current)
        assert varied.current == currents[-1]  # whoever looks, until time passes
    assert len(set(currents)) > 10
    assert all(39.6 <= current <= 40.4 for current in currents)


def test_it_warms_up_while_it_charges_and_cools_down_again() -> None:
    charger = charging(amps=30)
    for _ in range(7200):
        charger.pass_time(1)
    warm = charger.warmth.celsius
    assert 40 < warm < 50
    assert said_to(charger, "$GP")[0].startswith("$OK 4")
    charger.unplug()
    for _ in range(7200):
        charger.pass_time(1)
    assert charger.warmth.celsius == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_stops_when_it_is_too_hot(dialect: str) -> None:
    charger = charging(dialect)
    charger.warmth.forced = 65.1
    charger.pass_time(1)
    assert (charger.current, charger.faults_now) == (0.0, ["over_temp"])
    assert charger.state == (0x0A if dialect == "firmware" else 0xFE)


@pytest.mark.parametrize("name", list(FAULTS))
def test_every_fault_has_its_state_in_the_firmware_and_its_flag_in_the_emulator(name: str) -> None:
    firmware, emulator = Charger("firmware"), Charger("emulator")
    for charger in (firmware, emulator):
        charger.trip(name)
        charger.trip(name)
        assert charger.take_said().count(b"$AT") == 1
    assert firmware.state == STATES[name]
    assert (emulator.state, emulator.flags) == (0xFE, FAULTS[name][1])
    counted = ["gfci", "no_ground", "stuck_relay"]
    assert firmware.trips == {each: int(each == name) for each in counted}


def test_a_missing_diode_is_a_fault_as_soon_as_the_car_is_there() -> None:
    charger = Charger("firmware", vehicle=Vehicle(diode_failure=True))
    charger.pass_time(1)
    assert charger.state == 1
    charger.plug()
    charger.pass_time(1)
    assert charger.state == 5


@pytest.mark.parametrize(("order", "seconds"), [("$S3 1", 900), ("$SH 1", 938)])
def test_a_limit_ends_the_session(order: str, seconds: int) -> None:
    charger = charging()
    assert said_to(charger, order) == ["$OK"]
    for _ in range(seconds - 2):
        charger.pass_time(1)
    assert charger.state == 3
    for _ in range(4):
        charger.pass_time(1)
    assert (charger.state, charger.flags & 0x0004) == (0xFE, 0x0004)


def device(dialect: str = "firmware", round_s: list[float] | None = None) -> ChargerDevice:
    return ChargerDevice("ev", "openevse", Faults(RAPI, random.Random(1)), Charger(dialect), round_s)


def test_a_car_comes_and_goes_in_rounds_until_somebody_takes_it_in_hand() -> None:
    charger = device(round_s=[2, 1, 3, 1])
    states = []
    for _ in range(8):
        charger.pass_time(1)
        states.append(charger.values()["state"])
    assert states == [1, 2, 3, 3, 3, 2, 1, 1]
    charger.set("plugged", True)
    for _ in range(20):
        charger.pass_time(1)
    assert (charger.values()["state"], charger.values()["rounds"]) == (2, False)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("plugged", True, {"state": 2}),
        ("soc", 42.5, {"soc": 42.5}),
        ("fault", "no_ground", {"state": 7, "fault": "no_ground"}),
        ("temperature", 64.0, {"temperature": 64.0}),
        ("current_limit", 10, {"current_limit": 10}),
        ("rounds", True, {"rounds": True}),
    ],
)
def test_a_value_of_a_charger_is_set_by_its_name(name: str, value: float, shown: dict[str, object]) -> None:
    charger = device()
    charger.set(name, value)
    assert {key: charger.values()[key] for key in shown} == shown


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("soc", 101, r"soc of ev must be a number, 0\.\.100, not 101"),
        ("fault", "tired", "fault of ev must be one of none, gfci"),
        ("state", 3, "state of ev can only be looked at"),
        ("current_limit", 5, r"must be a whole number, 6\.\.32"),
    ],
)
def test_a_wrong_value_of_a_charger_is_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(BadValueError, match=message):
        device().set(name, value)


@pytest.mark.parametrize("event", [Charger.plug, Charger.ask_for_charge, Charger.unplug, Charger.clear])
def test_any_event_at_any_time_is_fine(event: Callable[[Charger], None]) -> None:
    for dialect in DIALECTS:
        charger = Charger(dialect)
        event(charger)
        event(charger)
        assert said_to(charger, "$GS")[0].startswith("$OK 01") or charger.vehicle.plugged
