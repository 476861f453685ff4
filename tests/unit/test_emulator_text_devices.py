"""A scale and an Arduino that prints: what they say, and what goes wrong with it."""

from __future__ import annotations

import random

import pytest

from emulator.ascii_line_devices import Printer, Scale
from emulator.faults import TEXT, Fault, Faults, Kind, Strikes
from emulator.peers import TextPeer


def faults() -> Faults:
    return Faults(TEXT, random.Random(1))


def scale() -> tuple[Scale, TextPeer]:
    found = Scale("s", "scale", faults(), lambda: 12.34)
    return found, TextPeer(found, is_charger=False)


def asked(peer: TextPeer, *lines: str) -> list[str]:
    """Each as a client of its own asks it."""
    answers = []
    for line in lines:
        for request in peer.splitter()(line.encode(), 0.0):
            owner = peer.meant(request)
            answers += [] if owner is None else [peer.answer(request, Strikes(owner)).decode()]
    return answers


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_scale_is_asked_in_lines_of_any_end(end: str) -> None:
    _, peer = scale()
    said = asked(peer, f"W{end}", f"P2.5{end}", f"?{end}W{end}", f"T{end}", f"W{end}")
    assert said == [
        "+0012.34 kg\r\n",
        "OK\r\n",
        "TARE 2.50\r\n",
        "+0009.84 kg\r\n",
        "OK\r\n",
        "+0000.00 kg\r\n",
    ]


@pytest.mark.parametrize("tare", [12.341, 12.344])
def test_a_scale_says_no_minus_nothing(tare: float) -> None:
    found, peer = scale()
    found.set("tare", tare)
    assert asked(peer, "W\r") == ["+0000.00 kg\r\n"]
    found.set("tare", -0.001)
    assert asked(peer, "?\r") == ["TARE 0.00\r\n"]


@pytest.mark.parametrize("line", ["Pnan", "Pinf", "P", "P1e9", "P12345", "12", "w", "W2", "nan", "P\u0663"])
def test_what_a_scale_does_not_know_is_an_error_and_changes_nothing(line: str) -> None:
    _, peer = scale()
    assert asked(peer, f"{line}\r", "?\r") == ["ERR 1\r\n", "TARE 0.00\r\n"]


def test_what_one_client_of_a_scale_has_not_ended_is_no_part_of_anothers_line() -> None:
    _, peer = scale()
    assert asked(peer, "P9", "W\r") == ["+0012.34 kg\r\n"]


def test_a_stuck_scale_acknowledges_and_keeps_weight_and_tare() -> None:
    found, peer = scale()
    asked(peer, "P2\r")
    found.faults.inject(Fault(kind=Kind.STUCK))
    found.set("weight", 50.0)
    found.set("tare", 10.0)
    said = asked(peer, "W\r", "?\r", "T\r", "P3\r", "W\r")
    assert said == ["+0010.34 kg\r\n", "TARE 2.00\r\n", "OK\r\n", "OK\r\n", "+0010.34 kg\r\n"]
    found.faults.clear()
    assert asked(peer, "W\r", "?\r") == ["+0040.00 kg\r\n", "TARE 10.00\r\n"]


def test_a_wrong_character_is_none_that_a_scale_sends_and_no_end_of_a_line() -> None:
    _, peer = scale()
    for answer in (b"OK\r\n", b"ERR 1\r\n", b"+0012.34 kg\r\n", b"TARE 0.00\r\n"):
        wrong = peer.corrupted(answer)
        assert wrong.endswith(b"\r\n")
        assert wrong.count(b"?") == 1
        assert len(wrong) == len(answer)


def printer(kind: str = "arduino") -> tuple[Printer, TextPeer]:
    temperatures = iter(range(20, 1000))
    found = Printer("p", kind, faults(), lambda: float(next(temperatures)), lambda: 45.0)
    return found, TextPeer(found, is_charger=False)


def printed(found: Printer, peer: TextPeer) -> bytes:
    found.pass_time(1.0)
    return peer.said(Strikes)[0]


def test_a_stuck_printer_prints_the_last_line_again() -> None:
    found, peer = printer()
    first = printed(found, peer)
    assert first == b"T=20.0 H=45\r\n"
    found.faults.inject(Fault(kind=Kind.STUCK, count=2))
    found.set("humidity", 60.0)
    assert [printed(found, peer) for _ in range(3)] == [first, first, b"T=21.0 H=60\r\n"]


def test_nothing_that_is_sent_to_a_printer_uses_up_its_faults() -> None:
    found, peer = printer()
    found.faults.inject(Fault(kind=Kind.SILENCE, count=1))
    assert asked(peer, "hello\r\n", "W\r") == []
    assert [active.struck for active in found.faults.active()] == [0]
