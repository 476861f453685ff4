"""Lines that break, as users see them over REST: what each fault is called, whom it concerns, and that it passes.

A bus with five units on a pseudo-terminal behind a link, a PLC behind a relay, and a good line that must not notice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.services import HOST, Api, Instance, Plc, in_process, plc
from tests.integration.bad_lines import (
    BadCable,
    Fault,
    Relay,
    RtuPlc,
    corrupted,
    echoing,
    from_the_next_unit,
    late_of,
    one_behind,
    only,
    silence,
    truncated,
    wrong_baudrate,
)
from tests.support import eventually
from tests.wire.scripted_peers import register

# Where a worker's place could matter; the rest is the driver's, which is the same in each.
in_every_mode = pytest.mark.parametrize("site", ["single", "thread", "process"], indirect=True)
in_threads = pytest.mark.parametrize("site", ["thread"], indirect=True)
UNITS = (1, 2, 3, 4, 5)
BAD = 3  # the unit that has the fault
INTERVAL_S, TIMEOUT_S, STALE_S = 0.1, 0.15, 1.0
SLOW_INTERVAL_S, SLOW_TIMEOUT_S = 0.15, 0.6
BUS = tuple(f"u{unit}" for unit in UNITS)
RIGHT = {f"u{unit}": 10.0 * unit for unit in UNITS} | {"far": 77.0, "plc": 22.5, "good": 22.5}
# Long enough for a unit that was left alone (a probe costs the line a twentieth of its time), and for a slow machine.
BACK_WITHIN_S = 30.0


class Site:
    """The handler, and the lines that can be made to fail."""

    api: Api
    cable: BadCable
    slow_cable: BadCable
    relay: Relay

    def readings(self) -> dict[str, dict[str, Any]]:
        return self.api.readings()

    def transport(self, name: str) -> dict[str, Any]:
        found = {each["transport_id"]: each for each in self.api.get("/transports")["transports"]}
        transport: dict[str, Any] = found[name]
        return transport

    def unit(self, name: str, unit_id: int) -> dict[str, Any]:
        found = {each["unit_id"]: each for each in self.transport(name)["units"]}
        unit: dict[str, Any] = found[unit_id]
        return unit

    def is_offline(self, sensor_id: str, code: str) -> bool:
        reading = self.readings()[sensor_id]
        return reading["status"] == "offline" and reading.get("error") == code

    def are_well(self, *sensor_ids: str) -> bool:
        """All online, each with its own value."""
        readings = self.readings()
        return all(
            readings[each]["status"] == "online" and readings[each]["value"] == RIGHT[each]
            for each in sensor_ids
        )


def transport(name: str, driver: str, url: str, **more: Any) -> dict[str, Any]:
    common = {"read_interval": INTERVAL_S, "timeout_s": TIMEOUT_S, "reconnect_backoff_ms": 200}
    return {"transport_id": name, "driver": driver, "url": url, **common, **more}


def sensor(sensor_id: str, name: str, unit_id: int, address: int = 1, **more: Any) -> dict[str, Any]:
    where = register("input", address, data_type="int16", scale=0.1)
    ids = {"sensor_id": sensor_id, "sensor_type": "generic", "transport": name, "unit_id": unit_id}
    return {**ids, "register": where, "stale_after": STALE_S, **more}


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp_path, site = tmp_path_factory.mktemp(request.param), Site()
    with ExitStack() as stack:
        bus = RtuPlc(UNITS)
        stack.callback(bus.close)
        other: Plc = stack.enter_context(plc())
        for unit in UNITS:
            bus.inputs[unit] = {1: 100 * unit, 40: 770}
        other.inputs[1] = {1: 225}
        site.cable = BadCable(tmp_path / "usb-one", bus.port)
        stack.callback(site.cable.close)
        site.slow_cable = BadCable(tmp_path / "usb-two", bus.port)
        stack.callback(site.slow_cable.close)
        site.relay = Relay(other.port)
        stack.callback(site.relay.close)
        slow = {"read_interval": SLOW_INTERVAL_S, "timeout_s": SLOW_TIMEOUT_S}
        content = {
            "parallelism": request.param,
            "transports": [
                transport("bus", "modbus_rtu", str(site.cable.link)),
                transport("slow", "modbus_rtu", str(site.slow_cable.link), **slow),
                transport("plc", "modbus_tcp", site.relay.url),
                transport("good", "modbus_tcp", other.url),
            ],
            "sensors": [
                *(sensor(f"u{unit}", "bus", unit) for unit in UNITS),
                sensor("far", "bus", BAD, 40),  # too far away to be read with the unit's other register
                *(sensor(f"s{unit}", "slow", unit, stale_after=10) for unit in UNITS),
                sensor("plc", "plc", 1),
                sensor("good", "good", 1, stale_after=10),
            ],
        }
        site.api = stack.enter_context(in_process(Instance(tmp_path, content), "serial-handler"))
        eventually(lambda: site.are_well(*RIGHT), 60)
        yield site


@pytest.fixture(autouse=True)
def _the_good_line_notices_nothing(site: Site) -> Iterator[None]:
    """Whatever a test does to the others; and what it did has passed in the end."""
    before = site.transport("good")
    yield
    eventually(lambda: site.are_well(*RIGHT), BACK_WITHIN_S)
    after = site.transport("good")
    assert (after["state"], after["since"]) == ("up", before["since"])
    assert after["counters"]["reads"] > before["counters"]["reads"]


# -- one unit of five ----------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[], Fault], str, str, str]] = {
    # fault -> what happens to answers, error code, the counter that grows, what is said
    "silent": (lambda: silence, "READ_TIMEOUT", "timeouts", "no answer from unit 3"),
    "late": (lambda: late_of(BAD), "READ_TIMEOUT", "timeouts", "no answer from unit 3"),
    "truncated": (lambda: truncated, "READ_FAILED", "crc_errors", "cut short"),
    "corrupted": (lambda: corrupted, "READ_FAILED", "crc_errors", "checksum"),
    "answered by another": (lambda: from_the_next_unit, "READ_TIMEOUT", "timeouts", "(unit 4 answered)"),
    "at another baud rate": (lambda: wrong_baudrate, "READ_FAILED", "crc_errors", "baud rate"),
}


@pytest.mark.parametrize("fault", FAULTS)
@in_threads
def test_a_fault_of_one_unit_has_a_name_and_concerns_nobody_else(site: Site, fault: str) -> None:
    make, code, counter, says = FAULTS[fault]
    bad = make() if fault == "late" else only(BAD, make())
    others = [each for each in BUS if each != f"u{BAD}"]
    before = site.unit("bus", BAD)[counter]
    with site.cable.suffering(bad):
        eventually(lambda: site.is_offline(f"u{BAD}", code) and site.is_offline("far", code), 20)
        eventually(lambda: site.are_well(*others))
        reading, line, unit = site.readings()[f"u{BAD}"], site.transport("bus"), site.unit("bus", BAD)
    assert says in reading["message"]
    assert says in unit["last_error"]
    assert unit["state"] == "offline"
    assert unit[counter] > before
    assert (line["state"], line["last_error"]) == ("up", None)  # it is not the line


@in_threads
def test_a_bus_at_the_wrong_baud_rate_is_offline_and_says_what_to_look_at(site: Site) -> None:
    with site.cable.suffering(wrong_baudrate):
        eventually(lambda: all(site.is_offline(each, "READ_FAILED") for each in BUS), 20)
        assert "are baud rate, parity and stop bits those of the device?" in site.readings()["u1"]["message"]
        status = site.api.error("GET", "/sensor/u1")
        assert status == (503, "READ_FAILED")


@in_threads
def test_an_adapter_that_echoes_changes_nothing(site: Site) -> None:
    with site.cable.suffering(echoing):
        before = {unit: site.unit("bus", unit)["reads"] for unit in UNITS}
        eventually(lambda: all(site.unit("bus", unit)["reads"] > before[unit] + 5 for unit in UNITS), 20)
        eventually(lambda: site.are_well(*BUS, "far"))


@in_threads
def test_answers_that_are_always_one_request_late_never_become_values_of_another(site: Site) -> None:
    with site.cable.suffering(one_behind()):
        eventually(lambda: site.is_offline(f"u{BAD}", "READ_TIMEOUT"), 20)
        seen: set[tuple[str, float]] = set()

        def all_have_been_asked_again() -> bool:
            for sensor_id, reading in site.readings().items():
                if "value" in reading:
                    seen.add((sensor_id, reading["value"]))
            return all(site.is_offline(each, "READ_TIMEOUT") for each in BUS)

        eventually(all_have_been_asked_again, 30)
    eventually(lambda: site.are_well(*BUS, "far"), BACK_WITHIN_S)
    seen |= {(each, reading["value"]) for each, reading in site.readings().items()}
    assert {each for each in seen if each[0] in RIGHT and each[1] != RIGHT[each[0]]} == set()


@in_threads
def test_a_unit_that_vanishes_leaves_the_others_their_interval(site: Site) -> None:
    others = [unit for unit in UNITS if unit != BAD]
    with site.slow_cable.suffering(only(BAD, silence)):
        eventually(lambda: "next_probe_s" in site.unit("slow", BAD), 30)
        assert site.unit("slow", BAD)["probe_share_max"] == 0.05
        began, before = time.monotonic(), {unit: site.unit("slow", unit)["reads"] for unit in others}
        eventually(lambda: time.monotonic() - began > 2)
        reads = {unit: site.unit("slow", unit)["reads"] - before[unit] for unit in others}
        turns = (time.monotonic() - began) / SLOW_INTERVAL_S
        # Waiting for it once in each cycle would leave them less than a quarter of their turns.
        assert min(reads.values()) / turns > 0.5
        assert site.api.error("GET", f"/sensor/s{BAD}") == (503, "CIRCUIT_OPEN")


# -- the whole line ------------------------------------------------------------------------------------------------


@in_every_mode
def test_a_port_that_is_unplugged_is_found_again_under_another_name(site: Site) -> None:
    terminal = os.readlink(site.cable.link)
    site.cable.pull_out()
    try:
        eventually(lambda: all(site.is_offline(each, "TRANSPORT_DOWN") for each in (*BUS, "far")))
        assert site.api.error("GET", "/sensor/u1") == (503, "TRANSPORT_DOWN")
        eventually(lambda: "is it plugged in?" in str(site.transport("bus")["last_error"]))
        line = site.transport("bus")
        assert line["state"] == "down"
        assert 0 <= line["next_retry_s"] <= 30
        assert site.are_well("good", "plc")
    finally:
        site.cable.plug_in()
    assert os.readlink(site.cable.link) != terminal
    eventually(lambda: site.are_well(*BUS, "far"), BACK_WITHIN_S)
    line = site.transport("bus")
    assert (line["state"], line["last_error"], line["next_retry_s"]) == ("up", None, None)


HOLDER = """
import fcntl, sys
port = open(sys.argv[1], "r+b", buffering=0)
fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("mine", flush=True)
sys.stdin.read()
"""


@in_threads
def test_a_port_that_another_program_has_is_taken_when_that_ends(site: Site) -> None:
    site.cable.pull_out()
    eventually(lambda: site.transport("bus")["state"] == "down")
    terminal = site.cable.link.with_name("locked")
    site.cable.link, link = terminal, site.cable.link  # it is there, but not yet where the hub looks
    site.cable.plug_in()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(terminal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        link.symlink_to(os.readlink(terminal))
        terminal.unlink()
        site.cable.link = link
        eventually(lambda: "it is in use by another program" in site.transport("bus")["last_error"], 20)
        assert site.is_offline("u1", "TRANSPORT_DOWN")
    finally:
        other.communicate()
    eventually(lambda: site.are_well(*BUS), BACK_WITHIN_S)


# -- TCP -----------------------------------------------------------------------------------------------------------


@in_every_mode
def test_a_refused_connection_is_transport_down_until_somebody_listens_again(site: Site) -> None:
    site.relay.refuse()
    try:
        eventually(lambda: site.is_offline("plc", "TRANSPORT_DOWN"))
        eventually(lambda: "Connection refused" in str(site.transport("plc")["last_error"]))
    finally:
        site.relay.listen_again()
    eventually(lambda: site.are_well("plc"), BACK_WITHIN_S)
    assert site.transport("plc")["state"] == "up"


@in_threads
def test_a_connection_that_is_reset_is_made_anew(site: Site) -> None:
    callers = site.relay.callers
    site.relay.reset()
    eventually(lambda: site.relay.callers > callers and site.are_well("plc"), BACK_WITHIN_S)
    assert site.transport("plc")["state"] == "up"


@in_threads
def test_a_connection_that_swallows_everything_is_given_up_for_a_new_one(site: Site) -> None:
    callers, since = site.relay.callers, site.transport("plc")["since"]
    site.relay.hang()
    eventually(lambda: site.is_offline("plc", "READ_TIMEOUT"), 20)
    eventually(lambda: site.are_well("plc"), BACK_WITHIN_S)
    assert site.relay.callers == callers + 1
    assert site.transport("plc")["since"] == since  # it was no loss of the line


@in_threads
def test_a_host_that_answers_nothing_at_all_is_transport_down(site: Site) -> None:
    site.relay.refuse()
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind((HOST, site.relay.port))
        hole.listen(0)
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex((HOST, site.relay.port))  # the queue is full now: the kernel drops who comes next
        try:
            eventually(lambda: "timed out" in str(site.transport("plc")["last_error"]), 30)
            assert site.is_offline("plc", "TRANSPORT_DOWN")
        finally:
            hole.close()
            site.relay.listen_again()
    eventually(lambda: site.are_well("plc"), BACK_WITHIN_S)
