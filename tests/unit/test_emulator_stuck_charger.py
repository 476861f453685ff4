"""A charger that is stuck: orders to it, events behind it, and which faults an exchange with it uses up."""

from __future__ import annotations

import random
from datetime import UTC, datetime, tzinfo

import pytest

from emulator import rapi_charger
from emulator.faults import RAPI, Fault, Faults, Kind, Strikes
from emulator.peers import TextPeer
from emulator.rapi_charger import Charger, Make
from emulator.rapi_day import ChargerDevice

DIALECTS = ("firmware", "emulator")
QUERIES = ("GS", "GG", "GP", "GU", "GC", "GE", "GF", "GV", "GI", "G0", "G3", "G4", "GH", "GY", "SB")
ORDERS = (
    "$FS", "$FD", "$FE", "$F1", "$FC", "$FR", "$FB 3", "$FP 0 0 Hello", "$FF E 0", "$SE 1", "$SC 10 V", "$SC 10",
    "$SC 99 V", "$SL 1", "$SL 2", "$S3 1", "$S4 1", "$SH 1", "$SK 77", "$SV 230000", "$SY 100 6", "$F0 1",
)  # fmt: skip
LIMIT = {"firmware": "$SC 12 V", "emulator": "$SC 12"}


class OnLine:
    """A charger on a line, asked and heard as a client does."""

    def __init__(self, dialect: str = "firmware", **facts: float) -> None:
        charger = Charger(dialect, Make(amps=16))
        self.device = ChargerDevice("ev", "openevse", Faults(RAPI, random.Random(1)), charger, None)
        self.peer = TextPeer(self.device, is_charger=True)
        for name, value in facts.items():
            self.device.set(name, value)
        self.news()

    def ask(self, *lines: str) -> list[str]:
        struck = [(line.encode() + b"\r", Strikes(self.device.faults)) for line in lines]
        return [self.peer.answer(*each).decode() for each in struck]

    def state(self) -> list[str]:
        return self.ask(*(f"${query}" for query in QUERIES))

    def news(self) -> list[str]:
        data, _ = self.peer.said(Strikes)
        return [line.partition("^")[0] for line in data.decode().split("\r")[:-1]]

    def stick(self, **facts: int) -> None:
        self.device.faults.inject(Fault.model_validate({"kind": Kind.STUCK, **facts}))


def charging_on_line(dialect: str) -> OnLine:
    found = OnLine(dialect, plugged=True, requesting_charge=True)
    found.ask(LIMIT[dialect])
    found.device.pass_time(600)
    found.news()
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("order", ORDERS)
def test_an_order_to_a_stuck_charger_is_acknowledged_and_never_does_anything(
    dialect: str, order: str
) -> None:
    charger, well = charging_on_line(dialect), charging_on_line(dialect)
    before, values = charger.state(), charger.device.values()
    charger.stick()
    assert charger.ask(order, order) == [well.ask(order)[0]] * 2
    assert charger.state() == before
    assert charger.news() == []
    charger.device.faults.clear()
    assert (charger.state(), charger.news()) == (before, [])
    assert charger.device.values() == values


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("plugged", False),
        ("requesting_charge", False),
        ("current_limit", 20),
        ("fault", "gfci"),
        ("temperature", 66.0),
        ("soc", 99.99),
        ("direct_mode", True),
        ("diode_failure", True),
    ],
)
def test_what_happens_to_a_stuck_charger_shows_when_it_is_stuck_no_more(
    dialect: str, name: str, value: float
) -> None:
    charger, well = charging_on_line(dialect), charging_on_line(dialect)
    before = charger.state()
    charger.stick()
    for each in (charger, well):
        each.device.set(name, value)
        each.device.pass_time(60)
    assert (charger.state(), charger.news()) == (before, [])
    charger.device.set("current_limit", 18)  # and nothing of the first is forgotten over the second
    well.device.set("current_limit", 18)
    assert (charger.state(), charger.news()) == (before, [])
    charger.device.faults.clear()
    assert charger.state() == well.state() != before
    assert charger.news() == well.news()[-1:]


def test_a_charger_is_stuck_at_what_it_last_said_whatever_was_set_before_it_is_asked_again() -> None:
    charger = OnLine()
    before = charger.state()
    charger.stick()
    charger.device.set("plugged", True)
    assert (charger.state(), charger.news()) == (before, [])
    told = OnLine()
    told.device.set("plugged", True)
    assert told.news() == ["$AT 02 02 16 0100"]
    told.stick()
    told.device.set("plugged", False)
    assert told.ask("$GS")[0].startswith("$OK 02 0 02 0100")


def test_what_nobody_hears_a_stuck_charger_has_not_said() -> None:
    charger = OnLine()
    charger.stick()
    before = charger.state()
    charger.device.set("plugged", True)
    charger.peer.forget_news()
    charger.peer.forget_news()
    assert charger.state() == before
    charger.device.faults.clear()
    assert charger.state() != before
    assert charger.news() == ["$AT 02 02 16 0100"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_charger_that_is_stuck_no_more_tells_its_new_state_by_itself_and_once(dialect: str) -> None:
    charger, well = charging_on_line(dialect), charging_on_line(dialect)
    charger.stick()
    for each in (charger, well):
        each.ask("$GS")
        each.device.set("plugged", False)
    assert [charger.news() for _ in range(3)] == [[], [], []]
    charger.device.faults.clear()
    assert [charger.news() for _ in range(3)] == [well.news(), [], []]


def test_who_comes_when_a_charger_is_stuck_no_more_is_told_what_nobody_heard() -> None:
    charger = OnLine()
    charger.stick()
    charger.ask("$GS")
    charger.device.set("plugged", True)
    for _ in range(3):
        charger.peer.forget_news()
    charger.device.faults.clear()
    charger.peer.forget_news()
    assert [charger.news() for _ in range(2)] == [["$AT 02 02 16 0100"], []]


def test_a_charger_that_is_stuck_no_more_and_as_it_was_tells_nothing() -> None:
    charger = charging_on_line("firmware")
    charger.stick()
    charger.ask("$GS")
    for plugged in (False, True):
        charger.device.set("plugged", plugged)
    charger.device.set("requesting_charge", True)
    assert charger.news() == []
    charger.device.faults.clear()
    assert charger.news() == []


def test_looking_for_news_uses_up_no_stuck_of_the_charger_or_its_line() -> None:
    charger = OnLine()
    line = Faults(RAPI, random.Random(1))
    for faults in (charger.device.faults, line):
        faults.inject(Fault(kind=Kind.STUCK, count=3))
    charger.device.set("plugged", True)
    for _ in range(10):
        charger.peer.said(lambda own: Strikes(own, line))
    assert [active.struck for active in (*charger.device.faults.active(), *line.active())] == [0, 1]
    charger.device.faults.clear()
    assert charger.peer.said(lambda own: Strikes(own, line))[0] == b""


def test_a_silent_charger_that_is_stuck_no_more_uses_up_one_silence() -> None:
    charger = OnLine()
    charger.stick()
    charger.device.set("plugged", True)
    assert charger.news() == []
    charger.device.faults.clear()
    charger.device.faults.inject(Fault(kind=Kind.SILENCE, count=5))
    assert [charger.news() for _ in range(4)] == [[]] * 4
    assert [active.struck for active in charger.device.faults.active()] == [1]


def test_the_clock_of_a_stuck_charger_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(datetime(2026, 11, 20, 10, 0, second, tzinfo=UTC) for second in range(60))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return next(times)

    monkeypatch.setattr(rapi_charger, "datetime", Clock)
    charger = OnLine()
    before = charger.ask("$GT")
    charger.stick()
    stuck = [charger.ask("$GT")[0].partition("^")[0] for _ in range(3)]
    charger.device.faults.clear()
    after = charger.ask("$GT")
    assert len(set(stuck)) == 1
    seconds = [int(each.partition("^")[0].split()[-1]) for each in (before[0], stuck[0], after[0])]
    assert seconds == sorted(seconds)
    assert seconds[2] > seconds[1]


def test_the_time_of_a_session_goes_on_behind_a_stuck_charger() -> None:
    charger = charging_on_line("firmware")
    charger.stick(count=2)
    said = []
    for _ in range(4):
        charger.device.pass_time(100)
        said.append(charger.ask("$GS")[0].split()[2])
    assert said == ["600", "600", "900", "1000"]


def each_second(charger: OnLine) -> list[str]:
    """What it says of its current for a while."""
    said = []
    for _ in range(20):
        charger.device.pass_time(1)
        said += charger.ask("$GG")
    return said


def test_the_current_of_a_stuck_charger_does_not_even_vary() -> None:
    charger = OnLine(plugged=True, requesting_charge=True, direct_mode=True, variance=True)
    charger.device.pass_time(1)
    (before,) = charger.ask("$GG")
    charger.stick()
    assert set(each_second(charger)) == {before}
    charger.device.faults.clear()
    assert len(set(each_second(charger))) > 5


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_copy_of_a_charger_is_another_charger(dialect: str) -> None:
    found = charging_on_line(dialect)
    charger, before = found.device.charger, found.state()
    twin = charger.twin()
    for order in ("$FP 0 0 Hello", *ORDERS):
        twin.heard(order.encode() + b"\r")
    twin.vehicle.soc, twin.warmth.forced = 3.0, 50.0
    twin.trip("gfci")
    twin.unplug()
    assert found.state() == before
    assert (charger.said, charger.lcd, charger.vehicle.soc > 50) == (b"", ["", ""], True)
    charger.plug()
    assert not twin.vehicle.plugged


# -- faults that cannot act -----------------------------------------------------------------------------------------


def test_news_use_up_no_fault_of_answers() -> None:
    charger = OnLine()
    for kind in (Kind.EXCEPTION, Kind.ECHO):
        charger.device.faults.inject(Fault(kind=kind, count=1))
    charger.device.set("plugged", True)
    assert charger.news() == ["$AT 02 02 16 0100"]
    assert [active.struck for active in charger.device.faults.active()] == [0, 0]
    assert charger.ask("$GV", "$GV") == ["$NK^21\r", "$OK 8.2.1 5.2.1^2D\r"]


def test_a_refused_order_uses_up_no_stuck() -> None:
    charger = OnLine()
    charger.stick(count=1)
    charger.device.faults.inject(Fault(kind=Kind.EXCEPTION, count=1))
    said = charger.ask("$SC 10 V", "$SC 10 V", "$GE")
    assert [each.partition("^")[0] for each in said] == ["$NK", "$OK 10", "$OK 16 0000"]


def test_silent_news_use_up_no_stuck() -> None:
    charger = OnLine()
    charger.stick(count=1)
    charger.device.faults.inject(Fault(kind=Kind.SILENCE, count=1))
    charger.device.set("plugged", True)
    _, struck = charger.peer.said(Strikes)
    assert Kind.SILENCE in struck
    assert [active.fault.kind for active in charger.device.faults.active()] == [Kind.STUCK]
