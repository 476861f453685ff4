"""Devices that speak unasked: what is heard while the line has nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from sensor_hub.config.model import Handler, SensorConfig, TransportConfig
from sensor_hub.drivers.base import PropertySpec
from sensor_hub.errors import HubError, ReadFailed, TransportDown
from sensor_hub.readings import Json
from sensor_hub.workers import LineSetup
from sensor_hub.workers.engine import LISTEN_SLICE_S
from sensor_hub.workers.hosts import ThreadHost
from sensor_hub.workers.messages import Message, Taken
from tests.support import eventually
from tests.unit.scripted_line import Bare, Scripted

SPECS = {"t": PropertySpec("number"), "h": PropertySpec("number")}
Heard = Mapping[str, Mapping[str, Json] | HubError | None]


class Talkative(Scripted):
    """Says `news` when it is listened to, once each; `polled` are those that also answer."""

    listens = True
    polled: frozenset[str] = frozenset()

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.news: list[Heard | TransportDown] = []
        self.ears: list[float] = []

    def is_polled(self, sensor_id: str) -> bool:
        return sensor_id in self.polled

    def listen(self, within_s: float) -> Heard:
        self.ears.append(within_s)
        self._time.advance(within_s)
        said = self.news.pop(0) if self.news else {}
        if isinstance(said, TransportDown):
            raise said
        return said


class Answering(Talkative):
    polled = frozenset({"a"})


def heard(line: Bare, *news: Heard | TransportDown) -> Bare:
    line.driver.news += news
    for _ in range(len(news) + 1):
        line.engine.turn()
    return line


def test_what_is_said_unasked_is_a_reading() -> None:
    line = heard(Bare(SPECS, Talkative), {"a": {"t": 22.5, "h": 45}}, {"a": {"t": 22.6}})
    assert line.taken() == [{"t": 22.5, "h": 45}, {"t": 22.6, "h": 45}]
    assert line.driver.done == []  # it was never asked
    assert line.engine.report().counters.reads == 2


def test_what_is_said_unasked_and_is_no_reading_has_its_reason_and_answers_who_asked() -> None:
    line = Bare(SPECS, Talkative)
    line.engine.turn()
    asked = line.ask()
    heard(line, {"a": ReadFailed("T=nan is no number")})
    assert str(line.answer(asked).error) == "T=nan is no number"
    assert line.missed() == [("a", "READ_FAILED", True)]
    [unit] = line.engine.report().units
    assert (unit.counters.reads, unit.counters.errors, unit.last_error) == (1, 1, "T=nan is no number")


def test_a_value_that_was_not_said_for_too_long_is_not_told_with_a_new_time() -> None:
    line = heard(Bare(SPECS, Talkative), {"a": {"t": 22.5, "h": 45}})
    line.time.advance(31)  # stale after 30 s
    assert heard(line, {"a": {"t": 23.0}}).taken()[-1] == {"t": 23.0}


def test_what_was_said_before_the_line_was_lost_is_not_told_with_a_new_time() -> None:
    line = heard(Bare(SPECS, Talkative), {"a": {"t": 22.5, "h": 45}}, TransportDown("unplugged"))
    line.taken()
    line.time.advance(1)
    heard(line, {"a": {"t": 20}})
    assert line.taken() == [{"t": 20}]


def test_a_lost_line_is_noticed_while_listening() -> None:
    line = heard(Bare(SPECS, Talkative), TransportDown("unplugged"))
    assert line.missed() == [("a", "TRANSPORT_DOWN", False)]


def test_a_device_may_ask_to_be_read_now() -> None:
    line = Bare(SPECS, Answering, interval_s=1000)
    line.engine.turn()
    assert line.driver.done == [("read", "a")]
    heard(line, {"a": None})
    assert line.driver.done == [("read", "a")] * 2


def test_who_asks_for_a_device_that_only_speaks_unasked_gets_its_next_message() -> None:
    line = heard(Bare(SPECS, Talkative))
    asked = [line.ask(), line.ask()]
    heard(line)
    assert line.driver.done == []
    heard(line, {"a": {"t": 1}})
    assert [line.answer(each).error for each in asked] == [None, None]
    assert line.taken() == [{"t": 1}]


def test_who_asks_for_a_device_that_stays_silent_is_told_so_in_time() -> None:
    line = heard(Bare(SPECS, Talkative))
    asked = line.ask(patience_s=10)
    line.time.advance(10)
    heard(line)
    error = line.answer(asked).error
    assert error is not None
    assert (error.code, str(error)) == ("READ_TIMEOUT", "it speaks only unasked, and has said nothing")


def test_a_device_that_can_be_asked_is_asked_even_when_it_has_just_said_something() -> None:
    line = Bare(SPECS, Answering, interval_s=1000)
    line.engine.turn()
    asked = line.ask()
    heard(line, {"a": {"t": 1}})
    assert line.driver.count("read", "a") == 2
    assert line.answer(asked).error is None


def test_an_idle_line_is_listened_to_in_slices_that_end_when_something_is_due() -> None:
    line = Bare(SPECS, Answering, interval_s=0.12)
    for _ in range(5):
        line.engine.turn()
    assert [round(each, 3) for each in line.driver.ears] == [0.05, 0.05, 0.02]
    assert line.driver.count("read", "a") == 2


def test_a_command_waits_no_longer_than_a_slice_for_the_ear() -> None:
    specs = {**SPECS, "x": PropertySpec("number", writable=True, readable=False)}
    line = heard(Bare(specs, Talkative))
    asked = line.command(x=1)
    began = line.time.seconds
    line.engine.turn()
    assert line.answer(asked).error is None
    assert line.time.seconds - began <= LISTEN_SLICE_S


def test_lines_that_share_a_thread_are_listened_to_in_turn_without_waiting_for_any() -> None:
    lines = [Bare(SPECS, Talkative) for _ in range(2)]
    setups = []
    for number, line in enumerate(lines):
        config = TransportConfig(f"bus{number}", "scripted", "x", Handler.SERIAL, "x")
        sensor = SensorConfig("a", "generic", "", f"bus{number}", Handler.SERIAL, "x", 10, 30)
        setups.append(LineSetup(config, [sensor], lambda *_, line=line: line.driver))
    host, told = ThreadHost(setups, lines[0].time.clock), list[Message]()
    for line in lines:
        line.driver.news.append({"a": {"t": 1}})
    thread = threading.Thread(target=host.run, args=(told.append,))
    thread.start()
    try:
        eventually(
            lambda: {each.source_transport for each in told if isinstance(each, Taken)} == {"bus0", "bus1"}
        )
    finally:
        host.stop()
        thread.join(10)
    assert {ear for line in lines for ear in line.driver.ears} == {0.0}


@pytest.mark.parametrize("sensor", ["a", "b"])
def test_only_the_device_that_spoke_has_a_reading(sensor: str) -> None:
    line = heard(Bare(SPECS, Talkative, {"a": 1, "b": 2}), {sensor: {"t": 1}})
    assert [each.sensor_id for each in line.told if isinstance(each, Taken)] == [sensor]
