"""Conversations with a charger on a pseudo-terminal: literal lines, and everything that may come between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sensor_hub.drivers import check_options
from sensor_hub.drivers.base import Point
from sensor_hub.drivers.rapi import Rapi
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
from tests.wire.scripted_peers import line, sensor
from tests.wire.text_peers import Answers, Hears, TextPeer, peer_that

NK, OK = b"$NK^21\r", b"$OK^20\r"
# A device that knows no sequence ids, and one that does.
PLAIN: dict[str, bytes | list[bytes]] = {
    "$GV :01^2E": b"$OK 8.2.1 5.0.1^2F\r",
    "$GG^24": b"$OK 0 240000^16\r",
    "$GS^30": b"$OK 01 0 01 0000^10\r",
}
NUMBERED: dict[str, bytes | list[bytes]] = {
    "$GV :01^2E": b"$OK 8.2.1 5.2.1 :01^36\r",
    "$GG :02^3C": b"$OK 0 240000 :02^0E\r",
    "$GS :03^29": b"$OK 03 1234 03 0140 :03^38\r",
}


@contextmanager
def charger(
    hears: Hears, timeout_s: float = 0.6, options: dict[str, Json] | None = None, **of_sensor: Any
) -> Iterator[tuple[Rapi, TextPeer]]:
    with peer_that(hears) as peer:
        transport = line(peer.path, "rapi", timeout_s=timeout_s, **(options or {}))
        driver = Rapi(transport, [sensor("ev", **of_sensor)])
        driver.connect()
        try:
            yield driver, peer
        finally:
            driver.close()


def read(driver: Rapi, *names: str) -> dict[str, Json]:
    """The values of these properties, as a worker reads them."""
    found: dict[Point, Json] = {}
    for block in driver.plan([Point("ev", name) for name in names]):
        found.update(driver.exchange(block))
    return {point.name: value for point, value in found.items() if point.name in names}


def framed(text: str) -> bytes:
    checksum = 0
    for byte in text.encode("latin-1"):
        checksum ^= byte
    return text.encode("latin-1") + f"^{checksum:02X}\r".encode()


class Model:
    """Answers by command, in sequence with ids if it knows them; `table` may be changed while it talks."""

    def __init__(self, table: dict[str, str], *, numbered: bool = False) -> None:
        self.table, self.numbered, self._rest = table, numbered, b""

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\r")
        return b"".join(self.answer(each.decode()) for each in lines)

    def answer(self, request: str) -> bytes:
        words = request[1:].rpartition("^")[0].split()
        sequence = words.pop() if words[-1].startswith(":") else ""
        answer = self.table.get(" ".join(words), self.table.get(words[0], "NK"))
        return framed(f"${answer} {sequence}" if sequence and self.numbered else f"${answer}")


FIRMWARE = {
    "GS": "OK 02 10 02 0100",
    "GG": "OK -1 240000",
    "GP": "OK 242 -2560 251",
    "GU": "OK 36000 1234567",
    "GC": "OK 6 80 16 32",
    "GE": "OK 16 0021",
    "GF": "OK A 0 0",
    "GV": "OK 8.2.1 5.2.1",
    "GI": "OK  OpenEVSE03AB12CD",
    "G4": "OK 0",
    "G3": "OK 2",
    "GH": "OK 7",
}
EMULATOR = {
    "GS": "OK FE 19 03 0141",
    "GG": "OK 0 240000 254 0",
    "GP": "OK 242 242 0 0",
    "GU": "OK 3 10800",
    "GC": "OK 6 80 32 32",
    "GE": "OK 10 33",
    "GF": "OK 10 0 0",
    "GV": "OK 8.2.1 5.0.1",
    "GI": "OK OpenEVSE03AB12CD",
    "GH": "OK 0",
}


def read_all(driver: Rapi) -> dict[str, Json]:
    return read(driver, *driver.properties("ev"))


# -- reading ------------------------------------------------------------------------------------------------


def test_the_first_read_finds_out_who_it_is_and_asks_for_the_state() -> None:
    with charger(Answers(PLAIN)) as (driver, peer):
        assert read(driver, "state", "session_time") == {"state": "ready", "session_time": 0}
        assert peer.requests == ["$GV :01^2E", "$GG^24", "$GS^30"]


def test_sequence_ids_are_used_where_the_device_knows_them() -> None:
    with charger(Answers(NUMBERED)) as (driver, peer):
        assert read(driver, "state", "session_time") == {"state": "charging", "session_time": 1234}
        assert peer.requests == ["$GV :01^2E", "$GG :02^3C", "$GS :03^29"]


def test_a_device_that_refuses_the_sequence_id_is_asked_without() -> None:
    old = PLAIN | {"$GV :01^2E": NK, "$GV^35": b"$OK 3.10.4 2.0.1^15\r"}
    with charger(Answers(old)) as (driver, peer):
        assert read(driver, "state", "firmware") == {"state": "ready", "firmware": "3.10.4"}
        assert peer.requests == ["$GV :01^2E", "$GV^35", "$GG^24", "$GS^30"]


def test_everything_of_a_firmware_is_read_with_its_meaning() -> None:
    with charger(Model(FIRMWARE, numbered=True)) as (driver, _):
        assert read_all(driver) == {
            "state": "connected",
            "state_raw": 2,
            "vehicle_connected": True,
            "charging": False,
            "fault": "none",
            "enabled": True,
            "session_time": 10,
            "current": None,
            "voltage": 240.0,
            "power": None,
            "session_energy": 10.0,
            "total_energy": 1234.567,
            "temperature": 24.2,
            "temperature_2": None,
            "temperature_3": 25.1,
            "current_min": 6,
            "current_max": 32,
            "current_hw_max": 80,
            "current_limit": 16,
            "service_level": "2",
            "gfci_trips": 10,
            "no_ground_trips": 0,
            "stuck_relay_trips": 0,
            "locked": False,
            "limit_time": 30,
            "limit_energy": 7,
            "firmware": "8.2.1",
            "protocol": "5.2.1",
            "serial": "OpenEVSE03AB12CD",
        }


def test_everything_of_an_emulator_is_read_with_its_own_meaning() -> None:
    with charger(Model(EMULATOR)) as (driver, _):
        read_all(driver)  # now it is known to be one
        found = read_all(driver)
        assert (found["state"], found["fault"], found["enabled"]) == ("fault", "gfci", True)
        assert (found["session_energy"], found["current_limit"], found["gfci_trips"]) == (3, 10, 10)
        assert found["service_level"] == "2"
        assert {"temperature_3", "total_energy", "locked", "limit_time"} & set(found) == set()


@pytest.mark.parametrize(
    ("profile", "state"), [("firmware", "sleeping"), ("emulator", "fault"), ("auto", "fault")]
)
def test_the_dialect_can_be_configured(profile: str, state: str) -> None:
    with charger(Model(EMULATOR), options={"profile": profile}) as (driver, peer):
        assert read(driver, "state") == {"state": state}
        assert ("$GG^24" in peer.requests) is (profile == "auto")


def test_an_old_limit_of_a_firmware_is_read_from_the_settings_where_it_has_no_capacity() -> None:
    with charger(Model({**FIRMWARE, "GC": "NK"})) as (driver, _):
        read_all(driver)
        assert read(driver, "current_limit") == {"current_limit": 16}


def test_what_the_charger_has_not_got_is_asked_twice_and_then_never_again() -> None:
    model = Model({**FIRMWARE, "G4": "NK"})
    with charger(model) as (driver, peer):
        assert read(driver, "limit_time", "locked") == {"limit_time": 30}
        assert [each for each in peer.requests if each.startswith("$G4")] == ["$G4^57", "$G4^57"]
        peer.heard = b""
        # The state says it too, in a flag; a firmware without the option never sets it.
        assert read(driver, "limit_time", "locked") == {"limit_time": 30, "locked": False}
        assert peer.requests == ["$G3^50", "$GS^30"]
        driver.connect()
        read(driver, "locked")
        assert "$G4^57" in peer.requests


def test_a_refused_state_is_an_error_each_time() -> None:
    with charger(Model({**FIRMWARE, "GS": "NK"})) as (driver, _):
        for _ in range(2):
            with pytest.raises(DeviceRefused, match=r"refused \$GS"):
                read(driver, "state")


def test_one_refusal_may_be_a_damaged_command() -> None:
    with charger(Answers(PLAIN | {"$GF^25": [NK, b"$OK 0 1 0^31\r"]})) as (driver, _):
        assert read(driver, "no_ground_trips") == {"no_ground_trips": 1}


def test_who_it_is_is_asked_once_per_connection() -> None:
    with charger(Model(FIRMWARE)) as (driver, peer):
        for _ in range(3):
            assert read(driver, "firmware", "serial") == {
                "firmware": "8.2.1",
                "serial": "OpenEVSE03AB12CD",
            }
        assert [each for each in peer.requests if each.startswith(("$GV", "$GI"))] == ["$GV :01^2E", "$GI^2A"]


def test_slow_properties_keep_their_own_pace() -> None:
    with peer_that(Model(FIRMWARE)) as peer:
        specs = Rapi(line(peer.path, "rapi"), [sensor("ev")]).properties("ev")
    assert specs["state"].interval_s is None
    assert specs["current"].interval_s is None
    assert specs["temperature"].interval_s == 30
    assert specs["current_limit"].interval_s == specs["gfci_trips"].interval_s == 60
    assert specs["firmware"].interval_s == 3600


def test_a_block_is_one_query_for_all_its_properties() -> None:
    with charger(Model(FIRMWARE)) as (driver, _):
        blocks = driver.plan([Point("ev", name) for name in ("current", "state", "voltage", "power")])
        assert [[point.name for point in block.points] for block in blocks] == [
            ["current", "voltage", "power"],
            ["state"],
        ]
        assert {block.unit_id for block in blocks} == {"charger"}


def test_two_sensors_of_a_line_are_the_same_charger() -> None:
    with peer_that(Model(FIRMWARE)) as peer:
        driver = Rapi(line(peer.path, "rapi"), [sensor("a"), sensor("b")])
        driver.connect()
        (block,) = driver.plan([Point("a", "state"), Point("b", "state")])
        values = driver.exchange(block)
        driver.close()
    assert values[Point("a", "state")] == values[Point("b", "state")] == "connected"


# -- what comes between ---------------------------------------------------------------------------------------


def known(answers: dict[str, bytes | list[bytes]]) -> Answers:
    """Answers after the state was read once."""
    return Answers(PLAIN | answers)


@pytest.mark.parametrize(
    "before",
    [
        b"$AT 02 02 16 0100^37\r",
        b"$WF 02^17\r",
        b"$AN 0^3B\r",
        b"$ST 02^01\r",
        b"\n",
        b"\r\r\n",
        b"noise\xff\x00\r",
        b"$GS^30\r",  # an echo
        b"$GS^30",  # an echo without an end
        b"$SC$16^17\r",
        b"$OK 02 3",  # cut off by the next `$`
        b"$OK 02 3 02 0100^FF\r",  # damaged
        b"$OK 02 3 02 01\r",  # its checksum is lost
        b"$OK 02 3 02 0100 :7F^79\r",  # the answer to something else
    ],
)
def test_what_comes_before_the_answer_is_not_the_answer(before: bytes) -> None:
    with charger(known({"$GS^30": before + b"$OK 03 1 03 0140^14\r\n"})) as (driver, _):
        assert read(driver, "state", "session_time") == {"state": "charging", "session_time": 1}


def test_an_answer_in_pieces_is_put_together() -> None:
    with charger(known({"$GS^30": b"$OK 03 "})) as (driver, peer):
        read_thread: list[dict[str, Json]] = []
        thread = threading.Thread(target=lambda: read_thread.append(read(driver, "state")), daemon=True)
        thread.start()
        eventually(lambda: "$GS^30" in peer.requests)
        peer.say(b"1 03 01", b"40^1", b"4\r")
        thread.join(5)
        assert read_thread == [{"state": "charging"}]


def test_a_notification_after_the_answer_is_heard_by_who_listens() -> None:
    with charger(known({"$GS^30": b"$OK 03 1 03 0140^14\r$AT 02 02 16 0100^37\r"})) as (driver, _):
        assert read(driver, "state") == {"state": "charging"}
        assert eventually(lambda: driver.listen(0.1)) == {"ev": None}


def test_a_notification_before_the_answer_is_heard_by_who_listens() -> None:
    with charger(known({"$GS^30": b"$AT 02 02 16 0100^37\r$OK 03 1 03 0140^14\r"})) as (driver, _):
        assert driver.listen(0.0) == {}
        read(driver, "state")
        assert driver.listen(0.0) == {"ev": None}
        assert driver.listen(0.0) == {}


def test_who_listens_is_told_of_a_transition_at_once() -> None:
    with charger(known({})) as (driver, peer):
        threading.Timer(0.1, lambda: peer.say(b"$AT 02 02 16 0100^37\r")).start()
        began = time.monotonic()
        assert driver.listen(20.0) == {"ev": None}
        assert time.monotonic() - began < 10


def test_a_transition_that_is_told_again_and_again_is_news_once() -> None:
    with charger(known({})) as (driver, peer):
        peer.say(b"$AT FE 04 16 0100^30\r" * 3)
        assert eventually(lambda: driver.listen(0.1)) == {"ev": None}
        peer.say(b"$AT FE 04 16 0100^30\r" * 3)
        eventually(lambda: not driver._client or not driver._client.notifications(0.0))
        assert driver.listen(0.05) == {}
        peer.say(b"$AT 02 02 16 0100^37\r")
        assert eventually(lambda: driver.listen(0.1)) == {"ev": None}


@pytest.mark.parametrize("said", [b"$WF 02^17\r", b"$AN 0^3B\r", b"garbage\r", b"$AT 02 02 16 0100^00\r"])
def test_what_is_no_transition_is_no_news(said: bytes) -> None:
    with charger(known({})) as (driver, peer):
        peer.say(said)
        assert driver.listen(0.2) == {}


def test_after_a_boot_it_is_got_to_know_again() -> None:
    model = Model(dict(FIRMWARE))
    with charger(model) as (driver, peer):
        assert read(driver, "firmware")["firmware"] == "8.2.1"
        model.table |= EMULATOR | {"GV": "OK 9.0.0 6.0.0"}
        peer.say(b"$AB 00 8.2.1^1C\r")
        assert eventually(lambda: driver.listen(0.1)) == {"ev": None}
        assert read(driver, "firmware", "fault") == {"firmware": "9.0.0", "fault": "gfci"}


# -- what goes wrong ---------------------------------------------------------------------------------------------


def failure(driver: Rapi, *names: str) -> HubError:
    with pytest.raises(HubError) as caught:
        read(driver, *names)
    return caught.value


def test_silence_is_a_timeout() -> None:
    with charger(known({"$GS^30": b""})) as (driver, _):
        error = failure(driver, "state")
        assert isinstance(error, ReadTimeout)
        assert str(error) == "no answer to $GS within 0.6 s"


@pytest.mark.parametrize(
    "said",
    [b"$OK 03 1 03 0140^15\r", b"$OK 03 1 03 01\r", b"$OK 03 1 03 0140^1\r", b"$\xffK 03 1 03 0140^14\r"],
)
def test_a_damaged_answer_is_a_broken_frame(said: bytes) -> None:
    with charger(known({"$GS^30": said})) as (driver, _):
        assert isinstance(failure(driver, "state"), BrokenFrame)


def test_noise_that_is_no_frame_is_silence() -> None:
    with charger(known({"$GS^30": b"\xff\x00hello\r"})) as (driver, _):
        assert isinstance(failure(driver, "state"), ReadTimeout)


def test_an_answer_of_another_shape_is_no_reading() -> None:
    with charger(known({"$GS^30": b"$OK 16000 240000 3 0^12\r"})) as (driver, _):
        error = failure(driver, "state")
        assert isinstance(error, ReadFailed)
        assert "unusable answer to $GS" in str(error)


def test_notifications_without_end_do_not_hold_a_read_up() -> None:
    with charger(known({"$GS^30": b""})) as (driver, peer):
        read(driver, "voltage")
        stop = threading.Event()

        def babble() -> None:
            while not stop.wait(0.02):
                peer.say(b"$AT FE 04 16 0100^30\r")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        try:
            assert isinstance(failure(driver, "state"), ReadTimeout)
        finally:
            stop.set()
            thread.join(5)


def test_a_late_answer_is_not_the_answer_to_the_next_query() -> None:
    late = b"$OK 03 1 03 0140^14\r"
    with charger(known({"$GS^30": b"", "$GC^20": late + b"$OK 6 80 16 32^18\r"}), timeout_s=0.5) as (
        driver,
        _,
    ):
        assert isinstance(failure(driver, "state"), ReadTimeout)
        assert read(driver, "current_min", "current_limit") == {"current_min": 6, "current_limit": 16}


def test_an_answer_that_never_came_does_not_spoil_the_next() -> None:
    with charger(known({"$GS^30": b"", "$GC^20": b"$OK 6 80 16 32^18\r"}), timeout_s=0.5) as (driver, _):
        assert isinstance(failure(driver, "state"), ReadTimeout)
        assert read(driver, "current_limit") == {"current_limit": 16}


def test_a_late_answer_with_another_sequence_id_is_dropped() -> None:
    table = NUMBERED | {
        "$GS :03^29": b"",
        "$GS :04^2E": b"$OK 01 5 01 0000 :03^0C\r$OK 03 1234 03 0140 :04^3F\r",
    }
    with charger(Answers(table), timeout_s=0.5) as (driver, _):
        assert isinstance(failure(driver, "state"), ReadTimeout)
        assert read(driver, "state") == {"state": "charging"}


def test_an_unplugged_line_is_down_and_comes_back_with_connect() -> None:
    with charger(Model(FIRMWARE)) as (driver, peer):
        assert read(driver, "state") == {"state": "connected"}
        peer.unplug()
        with pytest.raises(TransportDown):
            read(driver, "state")
        with pytest.raises(TransportDown):
            driver.listen(0.1)
        with pytest.raises(TransportDown):
            driver.connect()
        driver.close()
        driver.close()


# -- writing -------------------------------------------------------------------------------------------------


def sent(peer: TextPeer, *commands: str) -> list[str]:
    return [each for each in peer.requests if each.startswith(tuple(f"${command}" for command in commands))]


@pytest.mark.parametrize(
    ("name", "value", "request_line"),
    [
        ("enabled", True, "$FE^27"),
        ("enabled", False, "$FS^31"),
        ("locked", True, "$S4 1^52"),
        ("locked", False, "$S4 0^53"),
        ("service_level", "auto", "$SL A^5A"),
        ("service_level", "1", "$SL 1^2A"),
        ("limit_time", 30, "$S3 2^56"),
        ("limit_energy", 7, "$SH 7^28"),
    ],
)
def test_a_write_is_one_command(name: str, value: Json, request_line: str) -> None:
    command = request_line[1:3]
    with charger(Model({**FIRMWARE, command: "OK"})) as (driver, peer):
        assert driver.write("ev", {name: value}) == {name: value}
        assert sent(peer, command) == [request_line]


def test_a_hard_stop_opens_the_relay() -> None:
    with charger(Model({**FIRMWARE, "FD": "OK"}), stop="disable") as (driver, peer):
        driver.write("ev", {"enabled": False})
        assert sent(peer, "F") == ["$FD^26"]


@pytest.mark.parametrize(
    ("asked", "request_line"),
    [(16, "$SC 16 V^65"), (6.0, "$SC 6 V^54"), (32, "$SC 32 V^63")],
)
def test_a_current_that_the_charger_allows_is_sent_as_asked(asked: Json, request_line: str) -> None:
    with charger(Model({**FIRMWARE, "SC": "OK"})) as (driver, peer):
        assert driver.write("ev", {"current_limit": asked}) == {"current_limit": asked}
        assert sent(peer, "GC", "SC") == ["$GC^20", request_line]


@pytest.mark.parametrize(("limits", "highest"), [("6 80 16 32", 32), ("6 24 16 32", 24)])
def test_of_a_current_beyond_the_chargers_own_only_that_is_sent(limits: str, highest: int) -> None:
    with charger(Model({**FIRMWARE, "GC": f"OK {limits}", "SC": "OK"})) as (driver, peer):
        driver.write("ev", {"current_limit": 40})
        assert [each.partition("^")[0] for each in sent(peer, "SC")] == [f"$SC {highest} V"]


def test_a_current_that_was_lessened_and_cannot_be_read_again_is_no_success() -> None:
    answers = [framed("$OK 6 80 16 32"), b""]
    with charger(known({"$GC^20": answers, "$SC 32 V^63": OK})) as (driver, _), pytest.raises(ReadTimeout):
        driver.write("ev", {"current_limit": 40})


@pytest.mark.parametrize(("low", "asked"), [(6, 5), (6, -5), (10, 9), (48, 16)])
def test_a_current_below_the_chargers_least_is_refused_and_never_raised(low: int, asked: int) -> None:
    with charger(Model({**FIRMWARE, "GC": f"OK {low} 80 48 80", "SC": "OK", "FE": "OK"})) as (driver, peer):
        with pytest.raises(ValueOutOfRange, match=f"must be at least {low}"):
            driver.write("ev", {"enabled": True, "current_limit": asked})
        assert sent(peer, "SC", "FE") == []


@pytest.mark.parametrize(
    "limits",
    [
        "3600 1000 16 32",
        "3600 3600 3600 3600",
        "70 80 16 32",
        "48 16 16 80",
        "200 200 200 200",
        "-5 -5 -5 -5",
        "6 80 3600 32",
        "6 80 5 32",
        "6 3600 16 32",
        "0 80 16 32",
    ],
)
def test_limits_that_no_charger_has_are_no_reading_and_nothing_is_sent(limits: str) -> None:
    with charger(Model({**FIRMWARE, "GC": f"OK {limits}", "SC": "OK"})) as (driver, peer):
        assert isinstance(failure(driver, "current_min"), ReadFailed)
        with pytest.raises(ReadFailed, match=r"unusable answer to \$GC"):
            driver.write("ev", {"current_limit": 16})
        assert sent(peer, "SC") == []


def test_a_charger_that_does_not_tell_its_limits_is_sent_what_was_asked() -> None:
    table = {name: answer for name, answer in FIRMWARE.items() if name != "GC"} | {"SC": "OK"}
    with charger(Model(table)) as (driver, peer):
        assert driver.write("ev", {"current_limit": 20}) == {"current_limit": 20}
        assert [each.partition("^")[0] for each in sent(peer, "SC")] == ["$SC 20 V"]


@pytest.mark.parametrize("answer", ["OK", "OK 20", "NK 16"])
def test_an_answer_that_names_a_current_is_no_failure(answer: str) -> None:
    with charger(Model({**FIRMWARE, "SC": answer})) as (driver, _):
        assert driver.write("ev", {"current_limit": 20}) == {"current_limit": 20}


def test_a_bare_refusal_of_a_current_names_what_it_holds() -> None:
    with (
        charger(Model({**FIRMWARE, "SC": "NK"})) as (driver, _),
        pytest.raises(DeviceRefused, match=r"refused \$SC 20 V; it holds 16 A"),
    ):
        driver.write("ev", {"current_limit": 20})


def test_a_refusal_of_what_it_holds_already_is_no_failure() -> None:
    with charger(Model({**FIRMWARE, "SC": "NK"})) as (driver, peer):
        driver.write("ev", {"current_limit": 16})
        assert sent(peer, "GC", "SC") == ["$GC^20", "$SC 16 V^65", "$GC^20"]


def test_a_refused_write_is_refused_and_not_repeated() -> None:
    with charger(Model(FIRMWARE)) as (driver, peer):
        with pytest.raises(DeviceRefused, match=r"refused \$S3 2"):
            driver.write("ev", {"limit_time": 30})
        assert sent(peer, "S3") == ["$S3 2^56"]


def test_a_charger_that_cannot_be_enabled_says_for_which_fault() -> None:
    with (
        charger(Model({**EMULATOR, "FE": "NK"})) as (driver, _),
        pytest.raises(DeviceRefused, match="fault gfci"),
    ):
        driver.write("ev", {"enabled": True})


def test_nothing_is_sent_when_one_of_several_values_is_wrong() -> None:
    with charger(Model(FIRMWARE)) as (driver, peer):
        with pytest.raises(InvalidCommand):
            driver.write("ev", {"enabled": False, "limit_energy": 1.5})
        assert peer.heard == b""


def test_properties_are_writable_only_if_the_line_is() -> None:
    specs = Rapi(line("/dev/x", "rapi"), [sensor("ev")]).properties("ev")
    writable = {name: spec for name, spec in specs.items() if spec.writable}
    assert set(writable) == {
        "current_limit", "service_level", "enabled", "locked", "limit_time", "limit_energy",
    }  # fmt: skip
    limit = writable["current_limit"]
    assert (limit.unit, limit.minimum, limit.maximum, limit.step) == ("A", 6, 80, 1)
    assert (writable["limit_time"].unit, writable["limit_time"].step) == ("min", 15)
    assert writable["service_level"].choices == ("1", "2", "auto")


# -- options --------------------------------------------------------------------------------------------------


def problems(
    url: str = "/dev/ttyUSB0", line_options: dict[str, Any] | None = None, **options: Any
) -> list[str]:
    found = check_options(line(url, "rapi", **(line_options or {})), [sensor("ev", **options)])
    return [f"{problem.path}: {problem.message}" for problem in found]


@pytest.mark.parametrize("url", ["/dev/ttyUSB0", "socket://h:8023", "rfc2217://h:23", "hwgrep://0403:6001"])
def test_a_charger_needs_no_options(url: str) -> None:
    assert problems(url) == []
    assert problems(url, {"profile": "Emulator", "baudrate": "9600"}, stop="DISABLE") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"line_options": {"profile": "esp"}},
            "transports[0].profile: must be one of auto, firmware, emulator",
        ),
        ({"line_options": {"baudrate": 10}}, "transports[0].baudrate: must be a whole number"),
        ({"stop": "now"}, "sensors[0].stop: must be one of sleep, disable"),
        ({"unit_id": 1}, "sensors[0].unit_id: unknown key; known are stop"),
        ({"url": "tcp://host:1"}, "transports[0].url: must be a device path"),
    ],
)
def test_a_bad_option_is_named_with_its_path(arguments: dict[str, Any], says: str) -> None:
    (problem,) = problems(**arguments)
    assert says in problem


def test_the_load_of_a_charger_is_a_small_part_of_its_line() -> None:
    (load,) = Rapi(line("/dev/ttyUSB0", "rapi"), [sensor("ev")]).load()
    assert load.unit_id == "charger"
    assert 0.6 < load.transactions_per_s < 1.0  # three every 5 s, the others seldom
    assert 0 < load.share < 0.01
    assert Rapi(line("socket://h:1", "rapi"), [sensor("ev")]).load() == ()
