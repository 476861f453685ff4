"""Writing: relative values, what is looked at before something is sent, what is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sensor_hub.config.model import WriteChecks
from sensor_hub.crew.messages import Answer
from sensor_hub.drivers.base import PropertySpec
from sensor_hub.errors import DeviceRefused, HubError, ReadFailed, ReadTimeout, TransportDown
from sensor_hub.readings import Json
from sensor_hub.workers.writing import Outcome, Written
from tests.unit.scripted_line import Bare, ByPoints

SETPOINT = PropertySpec("number", True, "°C", 5.0, 30.0, 0.5, limited=True)
ON = PropertySpec("boolean", True)


class Device(Bare):
    """One device that holds `holds`; what is written is held then, unless `keeps` says what it makes of it."""

    def __init__(
        self, holds: Mapping[str, Json], specs: Mapping[str, PropertySpec], **transport: Any
    ) -> None:
        super().__init__(specs, **transport)
        self.keeps: dict[str, Json] = {}
        self.driver.holds = dict(holds)
        write = self.driver.write

        def keep(sensor_id: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
            sent: Mapping[str, Json] = write(sensor_id, values)
            self.driver.holds |= {**values, **self.keeps}
            return sent

        self.driver.write = keep
        self.work()
        self.driver.done.clear()

    def tell(self, **values: Any) -> Written:
        answer = self.asked_to(**values)
        if answer.error is not None:
            raise answer.error
        assert isinstance(answer.result, Written)
        return answer.result

    def asked_to(self, **values: Any) -> Answer:
        request_id = self.command(**values)
        self.engine.turn()
        return self.answer(request_id)

    def error(self, **values: Any) -> str:
        error = self.asked_to(**values).error
        assert error is not None
        return f"{error.code}: {error}"


def thermostat(checks: WriteChecks = WriteChecks.FULL, **holds: Json) -> Device:
    specs = {"setpoint": SETPOINT, "low": replace(SETPOINT, writable=False), "on": ON}
    return Device({"setpoint": 20.0, "low": 10.0, "on": False} | holds, specs, write_checks=checks)


def test_a_value_that_the_device_then_holds_is_verified() -> None:
    written = thermostat().tell(setpoint=22.5, on=True)
    assert written == Written(
        {"setpoint": 22.5, "on": True}, {"setpoint": Outcome.VERIFIED, "on": Outcome.VERIFIED}
    )
    assert written.outcome is Outcome.VERIFIED


def test_a_value_that_the_device_does_not_hold_is_a_mismatch_with_what_it_holds() -> None:
    device = thermostat()
    device.keeps = {"setpoint": 25.0}
    written = device.tell(setpoint=28.0, on=True)
    assert written.values == {"setpoint": 25.0, "on": True}
    assert written.outcomes == {"setpoint": "mismatch", "on": "verified"}
    assert written.outcome is Outcome.MISMATCH


@pytest.mark.parametrize(
    ("spec", "sent", "held", "outcome"),
    [
        (SETPOINT, 20.0, 20.25, "verified"),  # within half a step
        (SETPOINT, 20.0, 20.3, "mismatch"),
        (PropertySpec("number", True), 0.3, 0.1 + 0.2, "verified"),
        (PropertySpec("number", True), 100.0, 100.1, "mismatch"),
        (PropertySpec("number", True, tolerance=1.0), 100.0, 101.0, "verified"),
        (PropertySpec("number", True, tolerance=1.0), 100.0, 101.1, "mismatch"),
        (PropertySpec("number", True), 2**53 + 1, 2**53, "verified"),  # what a float can tell apart
        (PropertySpec("number", True), 5, None, "mismatch"),
        (ON, True, False, "mismatch"),
        (PropertySpec("text", True), "eco", "ECO", "mismatch"),
        (PropertySpec("text", True), "eco", "eco", "verified"),
    ],
)
def test_equal_is_what_lies_within_the_tolerance(
    spec: PropertySpec, sent: Json, held: Json, outcome: str
) -> None:
    device = Device({"it": sent}, {"it": spec})
    device.keeps = {"it": held}
    assert device.tell(it=sent).outcomes == {"it": outcome}


def test_what_cannot_be_read_is_applied() -> None:
    device = Device({}, {"door": PropertySpec("text", True, readable=False)})
    assert device.tell(door="1234") == Written({"door": "1234"}, {"door": Outcome.APPLIED})
    assert device.driver.done == [("write", "a")]


@pytest.mark.parametrize("error", [ReadTimeout("silent"), ReadFailed("bad"), DeviceRefused("no")])
def test_what_was_sent_and_could_not_be_read_back_is_applied(error: HubError) -> None:
    device = Device({"it": 1}, {"it": PropertySpec("number", True)})
    write = device.driver.write
    device.driver.write = lambda *what: (write(*what), device.driver.fails.update(a=error))[0]
    assert device.tell(it=5) == Written({"it": 5}, {"it": Outcome.APPLIED})


def test_a_read_follows_a_write_and_shows_the_new_value() -> None:
    device = thermostat()
    device.taken()
    device.tell(setpoint=25)
    device.work()
    assert device.taken() == [{"setpoint": 25, "low": 10.0, "on": False}]


# -- relative values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "change", "sent"),
    [
        (10, "+10", 20),
        (10, "-15", -5),
        (10, "+0.5", 10.5),
        (0.1, "+0.2", 0.3),
        (22.7, "-0.5", 22.2),
        (1e-7, "+1", 1.0000001),
        (2**60, "+1", 2**60 + 1),
        (20.0, " +1 ", 21.0),
        (20.0, "+1.00", 21.0),
    ],
)
def test_a_relative_number_is_added_exactly(now: Json, change: str, sent: Json) -> None:
    device = Device({"it": now}, {"it": PropertySpec("number", True)})
    assert device.tell(it=change).values == {"it": sent}
    assert device.driver.written == [{"it": sent}]
    assert type(device.driver.written[0]["it"]) is type(sent)


@pytest.mark.parametrize(("now", "sent"), [(True, False), (False, True)])
def test_toggle_turns_over_what_the_device_holds(now: bool, sent: bool) -> None:
    device = Device({"on": now}, {"on": ON})
    assert device.tell(on="toggle").values == {"on": sent}


def test_what_the_device_refused_to_read_before_is_asked_for_when_a_command_needs_it() -> None:
    bare = Bare({"it": PropertySpec("number", True), "other": ON}, driver=ByPoints)
    bare.driver.holds, bare.driver.known_refused = {"it": 10, "other": True}, {"it"}
    bare.work()
    request_id = bare.command(it="+1")
    bare.work()
    assert bare.answer(request_id).error is None
    assert bare.driver.written == [{"it": 11}]


@pytest.mark.parametrize("holds", [{}, {"it": None}, {"it": "off"}])
def test_a_relative_value_of_something_unknown_is_refused(holds: dict[str, Json]) -> None:
    device = Device({"other": 1, **holds}, {"it": PropertySpec("number", True), "on": ON, "other": ON})
    assert "cannot be changed by +1: what it is now cannot be read" in device.error(it="+1")
    assert device.error(on="toggle").startswith("INVALID_COMMAND: on cannot be toggled")
    assert device.driver.written == []


@pytest.mark.parametrize("change", ["+10.5", "-15.5", "+0.3"])
def test_the_result_of_a_relative_value_is_checked_and_nothing_is_sent(change: str) -> None:
    device = thermostat()
    assert device.error(setpoint=change).startswith("VALUE_OUT_OF_RANGE: setpoint must")
    assert device.driver.written == []


def test_unsafe_sends_a_relative_value_whatever_it_amounts_to() -> None:
    device = thermostat(WriteChecks.UNSAFE)
    assert device.tell(setpoint="+100.3").values == {"setpoint": 120.3}


# -- what is looked at before ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "is_sent"),
    [(WriteChecks.FULL, False), (WriteChecks.RELAXED, True), (WriteChecks.UNSAFE, True)],
)
def test_a_device_that_holds_what_its_map_does_not_allow_is_not_written_to_in_full(
    checks: WriteChecks, is_sent: bool
) -> None:
    device = thermostat(checks, low=6553.5)
    if is_sent:
        device.tell(setpoint=22)
    else:
        assert device.error(setpoint=22).startswith(
            "READ_ONLY: 1 of 2 properties hold what the configuration does not allow: low is 6553.5"
        )
    assert bool(device.driver.written) == is_sent


@pytest.mark.parametrize(
    ("checks", "is_sent"),
    [(WriteChecks.FULL, False), (WriteChecks.RELAXED, False), (WriteChecks.UNSAFE, True)],
)
def test_a_property_that_holds_what_its_map_does_not_allow_is_written_in_unsafe_only(
    checks: WriteChecks, is_sent: bool
) -> None:
    device = thermostat(checks, setpoint=400.0)
    if is_sent:
        device.tell(setpoint=22)
    else:
        assert "READ_ONLY" in device.error(setpoint=22)
    assert bool(device.driver.written) == is_sent


@pytest.mark.parametrize(("count", "is_sent"), [(10, False), (11, True)])
def test_more_than_nine_of_ten_must_be_what_the_map_allows(count: int, is_sent: bool) -> None:
    specs = {f"p{number}": replace(SETPOINT, writable=number == 1) for number in range(count)}
    device = Device(dict.fromkeys(specs, 20.0) | {"p0": -1.0}, specs)
    answer = device.asked_to(p1=21)
    assert (answer.error is None) == is_sent


def test_the_device_is_looked_at_once_and_again_on_a_new_line() -> None:
    device = thermostat()
    device.tell(setpoint=21)
    device.driver.holds["low"] = 6553.5
    device.tell(setpoint=22)
    device.driver.fails["a"] = TransportDown("unplugged")
    device.work()
    device.driver.fails.clear()
    device.later(1)
    assert device.error(setpoint=23).startswith("READ_ONLY")


def test_a_device_that_cannot_be_looked_at_is_not_written_to_in_full() -> None:
    device = thermostat()
    device.driver.fails["a"] = ReadTimeout("silent")
    assert device.error(setpoint=21) == "READ_TIMEOUT: silent"
    assert device.driver.written == []


def test_properties_without_limits_are_written_without_looking() -> None:
    device = Device({"it": 5}, {"it": PropertySpec("number", True, minimum=0.0, maximum=65535.0)})
    device.tell(it=6)
    assert device.driver.done == [("write", "a"), ("read", "a")]


def test_a_command_whose_time_is_over_after_looking_is_not_sent() -> None:
    device = thermostat()
    read = device.driver.read

    def slow(sensor_id: str) -> Mapping[str, Json]:
        device.time.advance(6)
        values: Mapping[str, Json] = read(sensor_id)
        return values

    device.driver.read = slow
    request_id = device.command(patience_s=5, setpoint=21)
    device.engine.turn()
    error = device.answer(request_id).error
    assert error is not None
    assert (error.code, str(error)) == (
        "COMMAND_TIMEOUT",
        "the line was busy for too long; the command was not sent",
    )
    assert device.driver.written == []
