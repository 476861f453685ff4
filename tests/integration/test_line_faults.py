"""Lines that break, as users see them over REST: what each fault is called, whom it concerns, and that it passes.

Every fault is made by a running emulator, over its control API. What it cannot make, connections of Modbus TCP that
break, is in tests/wire/test_tcp_connections.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contract.services import Api, Instance, in_process
from tests.integration.emulated import Control, emulators, free_port, http_of, scenario_of
from tests.support import eventually
from tests.wire.scripted_peers import register

# Where a worker's place could matter; the rest is the driver's, which is the same in each.
in_every_mode = pytest.mark.parametrize("site", ["single", "thread", "process"], indirect=True)
in_threads = pytest.mark.parametrize("site", ["thread"], indirect=True)
WITHIN_S = 60.0
BUSES = ("bus", "spare")  # two lines with the same units; the hub's link leads to one of them
UNITS = (1, 2, 3, 4, 5)
FAR = 3  # the unit with a second register, too far away to be read with the other
INTERVAL_S, TIMEOUT_S, PATIENT_S = 0.1, 0.15, 3.0
RIGHT = {f"u{unit}": 10.0 * unit for unit in UNITS} | {"far": 77.0, "gateway": 22.5, "good": 22.5}
ON_BUS = (*(f"u{unit}" for unit in UNITS), "far")
PROBE_SHARE = 0.05

# -- one unit of three: each fault on a line of its own, all of them at the same time -------------------------------

BAD = 2
Faults = tuple[dict[str, Any], ...]
NOISE: Faults = ({"kind": "garbage", "size_bytes": 13}, {"kind": "truncation", "size_bytes": 0})
SEEN: dict[str, tuple[Faults, str, str, str]] = {
    # line -> faults of the unit, error code, the counter that grows, what is said
    "silent": (({"kind": "silence"},), "READ_TIMEOUT", "timeouts", "no answer from unit 2"),
    "late": (({"kind": "delay", "seconds": 1},), "READ_TIMEOUT", "timeouts", "no answer from unit 2"),
    "truncated": (({"kind": "truncation"},), "READ_FAILED", "crc_errors", "cut short"),
    "corrupted": (({"kind": "crc_error"},), "READ_FAILED", "crc_errors", "checksum"),
    "stranger": (({"kind": "wrong_unit"},), "READ_TIMEOUT", "timeouts", "(unit 3 answered)"),
    "noise": (NOISE, "READ_FAILED", "crc_errors", "baud rate"),
    "refusing": (({"kind": "exception"},), "DEVICE_REFUSED", "exceptions", "server device failure (4)"),
}
STUCK = "stuck"
TRIOS = (*SEEN, STUCK)


def device_of(line: str, unit_id: int) -> str:
    """How the emulator and the hub call a unit."""
    return f"{line}_{unit_id}"


class Site:
    """The handler, the emulator, and the link by which the handler finds the bus."""

    api: Api
    control: Control
    folder: Path
    plugged = BUSES[0]  # where the link leads

    @property
    def link(self) -> Path:
        return self.folder / "by-id"

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

    def reads(self, name: str) -> dict[int, int]:
        return {each["unit_id"]: each["reads"] for each in self.transport(name)["units"]}

    def are_offline(self, code: str, *sensor_ids: str) -> bool:
        readings = self.readings()
        return all(
            readings[each]["status"] == "offline" and readings[each].get("error") == code
            for each in sensor_ids
        )

    def are_well(self, *sensor_ids: str) -> bool:
        """All online, each with its own value."""
        readings = self.readings()
        return all(
            readings[each]["status"] == "online" and readings[each]["value"] == right_of(each)
            for each in sensor_ids
        )

    def pull_out(self) -> None:
        """The link goes, then the terminal that it led to."""
        self.link.unlink()
        self.control.inject(f"lines/{self.plugged}", "disconnect", seconds=0.2, count=1)

    def other_bus(self) -> Path:
        """A terminal with the same units, at which nobody is."""
        self.plugged = BUSES[1 - BUSES.index(self.plugged)]
        return self.folder / self.plugged

    def plug_in(self, terminal: Path) -> None:
        self.link.symlink_to(terminal)


def right_of(sensor_id: str) -> float:
    line, _, unit_id = sensor_id.partition("_")
    return 10.0 * int(unit_id) if line in TRIOS else RIGHT[sensor_id]


# -- what is emulated, and who reads it ----------------------------------------------------------------------------


def unit_of(line: str, unit_id: int) -> dict[str, Any]:
    words = {"1": 100 * unit_id, "40": 770}
    return {"unit_id": unit_id, "sensor_id": device_of(line, unit_id), "kind": "registers", "input": words}


def line_of(name: str, *units: int, **place: Any) -> dict[str, Any]:
    return {"line_id": name, "units": [unit_of(name, unit) for unit in units], **place}


def tcp_line_of(name: str) -> dict[str, Any]:
    line = line_of(name, 1, tcp_port=free_port())
    line["units"][0]["input"]["1"] = 225
    return line


def transport(name: str, url: str, **more: Any) -> dict[str, Any]:
    common = {"read_interval": INTERVAL_S, "timeout_s": TIMEOUT_S, "reconnect_backoff_ms": 200}
    return {"transport_id": name, "driver": "modbus_rtu", "url": url, **common, **more}


def sensor(sensor_id: str, name: str, unit_id: int, address: int = 1, **more: Any) -> dict[str, Any]:
    where = register("input", address, data_type="int16", scale=0.1)
    ids = {"sensor_id": sensor_id, "sensor_type": "generic", "transport": name, "unit_id": unit_id}
    return {**ids, "register": where, "stale_after": 1, **more}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A running emulator: the folder with its terminals, and its scenario."""
    folder = tmp_path_factory.mktemp("lines")
    lines = [
        *(line_of(name, *UNITS, pty_path=str(folder / name)) for name in BUSES),
        *(line_of(name, 1, 2, 3, pty_path=str(folder / name)) for name in TRIOS),
        tcp_line_of("gateway"),
        tcp_line_of("good"),
    ]
    scenario = scenario_of(*lines, http=http_of())
    with emulators(folder) as start:
        start(scenario)
        yield folder, scenario


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest,
    emulated: tuple[Path, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    site = Site()
    site.folder, scenario = emulated
    site.control = Control(scenario["http"]["port"])
    urls = {
        line["line_id"]: f"socket://127.0.0.1:{line['tcp_port']}"
        for line in scenario["lines"]
        if "tcp_port" in line
    }
    trios = TRIOS if request.param == "thread" else ()
    content = {
        "parallelism": request.param,
        "transports": [
            transport("bus", str(site.link)),
            transport("gateway", urls["gateway"]),
            transport("good", urls["good"], timeout_s=PATIENT_S),
            *(transport(name, str(site.folder / name), read_interval=0.2) for name in trios),
        ],
        "sensors": [
            *(sensor(f"u{unit}", "bus", unit) for unit in UNITS),
            sensor("far", "bus", FAR, 40),
            sensor("gateway", "gateway", 1),
            sensor("good", "good", 1, stale_after=60),
            *(sensor(device_of(name, unit), name, unit) for name in trios for unit in (1, 2, 3)),
        ],
    }
    site.plug_in(site.folder / site.plugged)
    with ExitStack() as stack:
        stack.callback(lambda: site.link.unlink(missing_ok=True))
        stack.callback(site.control.heal)
        tmp_path = tmp_path_factory.mktemp(request.param)
        site.api = stack.enter_context(in_process(Instance(tmp_path, content), "serial-handler"))
        everybody = (*RIGHT, *(device_of(name, unit) for name in trios for unit in (1, 2, 3)))
        eventually(lambda: site.are_well(*everybody), WITHIN_S)
        yield site


@pytest.fixture(autouse=True)
def _the_good_line_notices_nothing(site: Site) -> Iterator[None]:
    """Whatever a test does to the others; and what it did has passed in the end."""
    before = site.transport("good")
    yield
    site.control.heal("lines/bus")
    site.control.heal("lines/spare")
    site.control.heal("lines/gateway")
    eventually(lambda: site.are_well(*RIGHT), WITHIN_S)
    eventually(lambda: site.reads("good")[1] > before["counters"]["reads"], WITHIN_S)
    after = site.transport("good")
    assert (after["state"], after["since"]) == ("up", before["since"])


# -- one unit of three ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def struck(site: Site) -> dict[str, dict[str, Any]]:
    """One unit of each line has its fault; what was known of it before."""
    before = {name: site.unit(name, BAD) for name in SEEN}
    for name, (faults, *_) in SEEN.items():
        for fault in faults:
            site.control.inject(f"devices/{device_of(name, BAD)}", **fault)
    return before


@pytest.fixture(scope="module")
def healed(site: Site, struck: dict[str, dict[str, Any]]) -> None:
    """The faults are gone, after each has struck."""
    for name in struck:
        device = f"devices/{device_of(name, BAD)}"
        eventually(lambda device=device: all(site.control.struck(device).values()), WITHIN_S)  # type: ignore[misc]
        site.control.heal(device)


@pytest.mark.parametrize("line", SEEN)
@in_threads
def test_a_fault_of_one_unit_has_a_name_and_concerns_nobody_else(
    site: Site, struck: dict[str, dict[str, Any]], line: str
) -> None:
    faults, code, counter, says = SEEN[line]
    bad, others = device_of(line, BAD), [device_of(line, unit) for unit in (1, 3)]
    eventually(lambda: site.are_offline(code, bad), WITHIN_S)
    eventually(lambda: site.unit(line, BAD)[counter] > struck[line][counter], WITHIN_S)
    eventually(lambda: says in site.readings()[bad]["message"], WITHIN_S)
    eventually(lambda: says in (site.unit(line, BAD)["last_error"] or ""), WITHIN_S)
    eventually(lambda: site.are_well(*others), WITHIN_S)
    found = site.transport(line)
    assert (found["state"], found["last_error"]) == ("up", None)  # it is not the line
    hits = site.control.struck(f"devices/{bad}")
    assert hits.keys() == {fault["kind"] for fault in faults}
    assert all(hits.values()), hits


@in_threads
def test_a_unit_that_vanishes_costs_its_line_a_twentieth_of_the_time(
    site: Site, struck: dict[str, dict[str, Any]]
) -> None:
    eventually(lambda: "next_probe_s" in site.unit("silent", BAD), WITHIN_S)
    assert site.unit("silent", BAD)["probe_share_max"] == PROBE_SHARE
    eventually(lambda: site.api.error_or_none("/sensor/silent_2") == (503, "CIRCUIT_OPEN"), WITHIN_S)
    begun_s, before, reads = time.monotonic(), site.unit("silent", BAD)["timeouts"], site.reads("silent")
    eventually(
        lambda: all(site.reads("silent")[unit] >= reads[unit] + 15 for unit in (1, 3)), WITHIN_S
    )  # of these 15 turns each was one of its own
    waited_for = site.unit("silent", BAD)["timeouts"] - before
    assert waited_for <= 2 + PROBE_SHARE * (time.monotonic() - begun_s) / TIMEOUT_S


@pytest.mark.parametrize("line", SEEN)
@in_threads
@pytest.mark.usefixtures("healed")
def test_a_unit_is_back_when_its_fault_is_gone(site: Site, line: str) -> None:
    eventually(lambda: site.are_well(device_of(line, BAD)), WITHIN_S)
    eventually(lambda: site.unit(line, BAD)["state"] == "online", WITHIN_S)


@in_threads
def test_a_stuck_unit_says_the_same_until_it_is_stuck_no_more(site: Site) -> None:
    device, seen = device_of(STUCK, BAD), set[float]()

    def asked() -> int:
        return site.control.struck(f"devices/{device}")["stuck"]

    def look(asked_before: int, reads_before: int) -> bool:
        seen.add(site.readings()[device].get("value", right_of(device)))  # it may be late, on a busy machine
        return asked() > asked_before + 3 and site.reads(STUCK)[BAD] > reads_before + 3

    site.control.inject(f"devices/{device}", "stuck")
    eventually(lambda: asked() > 0, WITHIN_S)
    site.control.put(device, input_1=999)
    before, reads = asked(), site.reads(STUCK)[BAD]
    eventually(lambda: look(before, reads), WITHIN_S)
    assert seen == {right_of(device)}
    site.control.heal(f"devices/{device}")
    eventually(lambda: site.readings()[device].get("value") == 99.9, WITHIN_S)


# -- the whole line ------------------------------------------------------------------------------------------------


@in_threads
def test_a_bus_at_the_wrong_baud_rate_is_offline_and_says_what_to_look_at(site: Site) -> None:
    for fault in NOISE:
        site.control.inject(f"lines/{site.plugged}", **fault)
    eventually(lambda: site.are_offline("READ_FAILED", *ON_BUS), WITHIN_S)
    says = "are baud rate, parity and stop bits those of the device?"
    eventually(lambda: says in site.readings()["u1"]["message"], WITHIN_S)


@in_threads
@pytest.mark.parametrize("kind", ["echo", "garbage"])
def test_what_comes_before_every_answer_changes_nothing(site: Site, kind: str) -> None:
    line = f"lines/{site.plugged}"
    site.control.inject(line, kind)
    before = site.reads("bus")
    eventually(lambda: all(reads > before[unit] + 5 for unit, reads in site.reads("bus").items()), WITHIN_S)
    assert site.control.struck(line)[kind] > 5 * len(UNITS)
    eventually(lambda: site.are_well(*ON_BUS), WITHIN_S)


@in_threads
def test_answers_that_come_during_the_next_request_never_become_values_of_another(site: Site) -> None:
    line, seen = f"lines/{site.plugged}", set[tuple[str, float]]()

    def look() -> int:
        seen.update((each, read["value"]) for each, read in site.readings().items() if "value" in read)
        return site.control.struck(line)["delay"]

    timeouts = {unit: site.unit("bus", unit)["timeouts"] for unit in UNITS}
    site.control.inject(line, "delay", seconds=TIMEOUT_S * 1.4)
    eventually(lambda: look() >= 3 * len(ON_BUS), WITHIN_S)
    eventually(lambda: all(site.unit("bus", unit)["timeouts"] > timeouts[unit] for unit in UNITS), WITHIN_S)
    look()
    site.control.heal(line)
    eventually(lambda: site.are_well(*ON_BUS), WITHIN_S)
    assert {each for each in seen if each[0] in RIGHT and each[1] != RIGHT[each[0]]} == set()
    assert {each for each, _ in seen} >= set(ON_BUS)


@in_every_mode
def test_a_port_that_is_unplugged_is_found_again_under_another_name(site: Site) -> None:
    terminal = os.path.realpath(site.link)
    site.pull_out()
    eventually(lambda: site.are_offline("TRANSPORT_DOWN", *ON_BUS), WITHIN_S)
    assert site.api.error("GET", "/sensor/u1") == (503, "TRANSPORT_DOWN")
    eventually(lambda: "is it plugged in?" in str(site.transport("bus")["last_error"]), WITHIN_S)
    line = site.transport("bus")
    assert line["state"] == "down"
    assert 0 <= line["next_retry_s"] <= 30
    eventually(lambda: site.are_well("good", "gateway"), WITHIN_S)
    site.plug_in(site.other_bus())
    assert os.path.realpath(site.link) != terminal
    eventually(lambda: site.are_well(*ON_BUS), WITHIN_S)
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
    site.pull_out()
    eventually(lambda: site.transport("bus")["state"] == "down", WITHIN_S)
    terminal = site.other_bus()
    command = [sys.executable, "-c", HOLDER, str(terminal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"mine\n"
            site.plug_in(terminal)
            says = "it is in use by another program"
            eventually(lambda: says in str(site.transport("bus")["last_error"]), WITHIN_S)
            eventually(lambda: site.are_offline("TRANSPORT_DOWN", "u1"), WITHIN_S)
        finally:
            other.communicate()
    eventually(lambda: site.are_well(*ON_BUS), WITHIN_S)


@in_every_mode
def test_a_refused_connection_is_transport_down_until_somebody_listens_again(site: Site) -> None:
    site.control.inject("lines/gateway", "disconnect", seconds=1.5, count=1)
    eventually(lambda: site.are_offline("TRANSPORT_DOWN", "gateway"), WITHIN_S)
    eventually(lambda: "Connection refused" in str(site.transport("gateway")["last_error"]), WITHIN_S)
    eventually(lambda: site.are_well("gateway"), WITHIN_S)
    eventually(lambda: site.transport("gateway")["state"] == "up", WITHIN_S)
