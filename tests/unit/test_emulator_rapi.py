"""The emulated charger says byte for byte what was recorded of the real emulator, and is strict as firmware is."""

from __future__ import annotations

import pytest

from emulator.rapi_charger import Charger


def answer(charger: Charger, line: str) -> str:
    return charger.heard(line.encode() + b"\r").decode().replace("\r", "|").strip("|")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("$GV^35", "$OK 8.2.1 5.0.1^2F"),
        ("$GS^30", "$OK 01 0 01 0000^10"),
        ("$GG^24", "$OK 0 240000 1 0^17"),
        ("$GP^33", "$OK 242 242 0 0^20"),
        ("$GU^36", "$OK 0 0^20"),
        ("$GC^20", "$OK 6 80 32 32^1E"),
        ("$GE^26", "$OK 32 0^11"),
        ("$GF^25", "$OK 0 0 0^30"),
        ("$GI^2A", "$OK OpenEVSE03AB12CD^35"),
        ("$G0^53", "$NK^21"),
        ("$G3^50", "$NK^21"),
        ("$G4^57", "$NK^21"),
        ("$S4 1^52", "$NK^21"),
        ("$GC :07^3D", "$OK 6 80 32 32^1E"),
        ("$SC 16^13", "$OK^20"),
        ("$SC 5^21", "$NK^21"),
        ("$SC 81^1D", "$NK^21"),
        ("$GS^00", "$OK 01 0 01 0000^10"),
        ("$GS*CA", "$NK^21"),
        ("$gs", "$OK 01 0 01 0000^10"),
        ("$SC 1_0", "$NK^21"),
        ("xx$GS^30", "$NK^21"),
        ("$GS^30\r$GV^35", "$OK 01 0 01 0000^10|$OK 8.2.1 5.0.1^2F"),
    ],
)
def test_the_emulator_answers_as_it_was_recorded(asked: str, said: str) -> None:
    assert answer(Charger("emulator"), asked) == said


def test_a_session_of_the_emulator_goes_as_it_was_recorded() -> None:
    charger = Charger("emulator")
    charger.boot()
    assert charger.take_said() == b"$AB 00 8.2.1^1C\r"
    assert answer(charger, "$SC 16^13") == "$OK^20"
    charger.plug()
    assert charger.take_said() == b"$AT 02 02 16 0100^37\r"
    assert answer(charger, "$GS^30") == "$OK 02 0 02 0100^11"
    charger.ask_for_charge()
    assert charger.take_said() == b"$AT 03 03 16 0140^33\r"
    charger.pass_time(1)
    assert answer(charger, "$GS^30") == "$OK 03 1 03 0140^14"
    assert answer(charger, "$GG^24") == "$OK 16000 240000 3 0^12"
    assert answer(charger, "$FS^31") == "$OK^20"
    assert charger.take_said() == b""  # it tells no transition of its own making
    assert answer(charger, "$GS^30").startswith("$OK FD 1 03 01")
    assert answer(charger, "$FE^27") == "$OK^20"
    charger.trip()
    assert answer(charger, "$FE^27") == "$NK^21"
    assert answer(charger, "$GF^25") == "$OK 1 0 0^31"
    charger.clear()
    charger.unplug()
    assert answer(charger, "$GS^30") == "$OK 01 0 01 0000^10"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("$GS^30", "$OK 01 0 01 0000^10"),
        ("xx$GS^30", "$OK 01 0 01 0000^10"),
        ("$GS*BE", "$OK 01 0 01 0000^10"),
        ("$GS", "$OK 01 0 01 0000^10"),
        ("$GS^31", "$NK^21"),
        ("$gs", "$NK^21"),
        ("$GS :2A^59", "$OK 01 0 01 0000 :2A^79"),
        ("$GS " + "0" * 40, ""),
        ("$SC 16 V^65", "$OK 16^07"),
        ("$SC 99 V^62", "$NK 32^00"),
        ("$GS :2a", "$OK 01 0 01 0000 :2A^79"),
        ("$GS :00", "$OK 01 0 01 0000^10"),
        ("$GS :2A7", "$OK 01 0 01 0000^10"),
        ("$GS :xy", "$OK 01 0 01 0000^10"),
        ("$SC 1_0 V", "$NK^21"),
        ("$SV 23e4", "$NK^21"),
    ],
)
def test_firmware_is_strict(asked: str, said: str) -> None:
    assert answer(Charger("firmware"), asked) == said


def test_firmware_tells_every_transition() -> None:
    charger = Charger("firmware")
    answer(charger, "$FS^31")
    assert charger.take_said().startswith(b"$AT FE 01 16 0000^")
    answer(charger, "$SC 20 V^60")
    assert charger.take_said().startswith(b"$AT FE 01 20 0000^")
