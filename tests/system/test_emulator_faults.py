"""What a hub says of devices that go wrong, which the control API of their emulator makes them do.

Each fault has a device of its own on a line of its own, so that all of them are made, and passed, at the same time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Message, Witness, mosquitto
from tests.integration.emulated import Control, emulators, http_of, scenario_of
from tests.support import eventually
from tests.system.hub import Hub, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
]
WITHIN_S = 120.0
BUS, WALLBOX, SCALE, PRINTER, MOTION = "bus", "wallbox", "scale", "printer", "motion"
TIMEOUT, FAILED, REFUSED = "READ_TIMEOUT", "READ_FAILED", "DEVICE_REFUSED"
DOWN, GONE = "TRANSPORT_DOWN", "SENSOR_UNAVAILABLE"


@dataclass(frozen=True)
class Case:
    """A device with its fault, and the code that is right for it ("": none). `name` tells it from others alike."""

    kind: str
    what: str
    code: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def device(self) -> str:
        return f"{self.name or self.kind}_{self.what}"

    @property
    def owner(self) -> str:
        return f"devices/{self.device}"

    def __str__(self) -> str:
        return self.device


SEEN = (
    *(Case("silence", what, TIMEOUT) for what in (BUS, WALLBOX, SCALE)),
    Case("silence", PRINTER, GONE),
    *(Case("delay", what, TIMEOUT, {"seconds": 3}) for what in (BUS, WALLBOX, SCALE, MOTION)),
    *(Case("crc_error", what, FAILED) for what in (BUS, WALLBOX, SCALE, PRINTER)),
    Case("truncation", BUS, FAILED),
    *(Case("truncation", what, TIMEOUT) for what in (WALLBOX, SCALE)),  # no line ever ends
    Case("truncation", PRINTER, GONE),
    Case("wrong_unit", BUS, TIMEOUT),
    *(Case("exception", what, REFUSED) for what in (BUS, WALLBOX)),
    *(Case("garbage", what, FAILED) for what in (SCALE, PRINTER)),
    *(Case("disconnect", what, DOWN, {"seconds": 2}) for what in (BUS, WALLBOX, SCALE, PRINTER)),
    Case("http_error", MOTION, FAILED, {"code": 500}),
    Case("hang", MOTION, TIMEOUT, {"seconds": 3}),
    Case("reset", MOTION, FAILED),
    Case("huge_body", MOTION, FAILED),
)
BORNE = (
    *(Case("echo", what) for what in (BUS, WALLBOX, SCALE)),
    *(Case("garbage", what) for what in (BUS, WALLBOX)),
)
PASSING = (
    Case("exception", BUS, REFUSED, {"duration_s": 3}, name="for_a_while"),
    Case("http_error", MOTION, FAILED, {"code": 503, "count": 2}, name="twice"),
)
STUCK = tuple(Case("stuck", what) for what in (BUS, SCALE, PRINTER, MOTION))
STUCK_WALLBOX = Case("stuck", WALLBOX)
CASES = (*SEEN, *BORNE, *PASSING, *STUCK, STUCK_WALLBOX)
# what -> how its value is set, how it is read, two values
VALUES: dict[str, tuple[str, str, Any, Any]] = {
    BUS: ("value", "value", 21.0, 55.0),
    WALLBOX: ("plugged", "vehicle_connected", False, True),
    SCALE: ("weight", "value", 21.0, 55.0),
    PRINTER: ("temperature", "value", 21.0, 55.0),
    MOTION: ("motion_detected", "motion_detected", False, True),
}


class Bench:
    """A hub, the devices that it reads, and the broker that it tells."""

    def __init__(self, hub: Hub, control: Control, witness: Witness) -> None:
        self.hub, self.control, self.witness = hub, control, witness

    def inject(self, case: Case) -> None:
        self.control.inject(case.owner, case.kind, **case.facts)

    def struck(self, case: Case) -> int:
        return self.control.struck(case.owner)[case.kind]

    def put(self, case: Case, value: Any) -> None:
        self.control.put(case.device, **{VALUES[case.what][0]: value})

    def shows(self, case: Case, value: Any) -> bool:
        """Whether its reading has the value now."""
        return bool(self._rest("GET", f"device/{case.device}").get(VALUES[case.what][1]) == value)

    def error(self, case: Case) -> str:
        """The code that GET /errors has for a device; "" for none."""
        return str(self._rest("GET", "errors")["errors"].get(case.device, {}).get("error", ""))

    def statuses(self) -> dict[str, str]:
        return {each["device_id"]: str(each["status"]) for each in self._rest("GET", "devices")["devices"]}

    def refreshed(self, case: Case) -> Any:
        """Read now, never from the cache."""
        return self._rest("POST", f"device/{case.device}/force-refresh")

    def command(self, case: Case, **values: Any) -> Any:
        return self._rest("POST", f"device/{case.device}/command", {"values": values, "timeout": 60_000})

    def _rest(self, method: str, path: str, body: Any = None) -> Any:
        return requests.request(
            method, f"{self.hub.url('state-aggregator')}/{path}", json=body, timeout=90
        ).json()

    def topic(self, case: Case, leaf: str) -> str:
        return f"IoT2mqtt/v1/instances/{self.hub.id}/devices/{case.device}/{leaf}"

    def tells(self, case: Case, message: Message) -> bool:
        """Whether it is the case's error, with its code."""
        return message.topic == self.topic(case, "error") and code_in(message.payload) == case.code

    def is_well(self, case: Case) -> bool:
        return self.statuses()[case.device] == "online" and self.error(case) == ""

    def wait_until_each_was_well(self) -> None:
        """Not all at the same time: on a busy machine one or the other may be late."""
        left = {case.device for case in CASES}

        def look() -> bool:
            left.difference_update(name for name, status in self.statuses().items() if status == "online")
            return not left

        try:
            eventually(look, WITHIN_S)
        except AssertionError:
            raise AssertionError(f"never well: {left}") from None


def code_in(payload: bytes) -> str:
    return str(json.loads(payload or b"{}").get("error_code", ""))


# -- what is emulated, and who reads it ----------------------------------------------------------------------------


def scenario(folder: Path) -> dict[str, Any]:
    kinds = {WALLBOX: {"kind": "openevse", "charger": {"round_s": None}}}
    kinds |= {SCALE: {"kind": "scale"}, PRINTER: {"kind": "arduino"}}
    buses, texts = [], []
    for case in CASES:
        place = {"line_id": case.device, "pty_path": str(folder / case.device)}
        if case.what == BUS:
            unit = {"unit_id": 1, "sensor_id": case.device, "kind": "temperature"}
            buses.append(place | {"units": [unit]})
        elif case.what != MOTION:
            texts.append(place | {"sensor_id": case.device, **kinds[case.what]})
    http = http_of(*(case.device for case in CASES if case.what == MOTION))
    return scenario_of(*buses, http=http) | {"text_lines": texts}


DRIVERS = {BUS: "modbus_rtu", WALLBOX: "rapi", SCALE: "ascii_line", PRINTER: "ascii_line"}
OPTIONS: dict[str, dict[str, Any]] = {
    BUS: {"register": {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1}, "unit_id": 1},
    WALLBOX: {},
    SCALE: {"request": "W", "value": {"regex": "^([-+]\\d+\\.\\d+) kg$", "unit": "kg"}},
    PRINTER: {"value": {"regex": "^T=([-\\d.]+) H=\\d+$", "unit": "°C"}, "stale_after": 4},
}


def instance(folder: Path, instance_id: str, http_port: int) -> dict[str, Any]:
    """Who shall fail fails soon; nobody else fails because the machine is slow."""
    transports: list[dict[str, Any]] = []
    sensors: list[dict[str, Any]] = []
    for case in CASES:
        sensor: dict[str, Any] = {"sensor_id": case.device, "sensor_type": "generic"}
        timeout_s = 0.5
        if case not in SEEN:
            timeout_s, sensor["stale_after"] = 20, 100
        if case.what == MOTION:
            url = f"http://127.0.0.1:{http_port}/sensors/{case.device}"
            sensors.append(sensor | {"sensor_type": "motion", "url": url, "timeout_s": max(1, timeout_s)})
            continue
        line = {"transport_id": case.device, "driver": DRIVERS[case.what], "url": str(folder / case.device)}
        times = {"timeout_s": timeout_s, "read_interval": 1, "reconnect_backoff_ms": 200}
        transports.append({**line, **times, "write": True})
        sensors.append(OPTIONS[case.what] | {"transport": case.device} | sensor)
    return {
        "instance_id": instance_id,
        "update_interval": 1,
        "config": {"parallelism": "thread", "transports": transports, "sensors": sensors},
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, instance_id = tmp_path_factory.mktemp("faults"), new_id()
    emulated = scenario(folder)
    port = emulated["http"]["port"]
    path = folder / "instances" / f"{instance_id}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(instance(folder, instance_id, port)))
    with emulators(folder) as start, mosquitto() as broker, Witness(broker.port) as witness:
        start(emulated)
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port), "POLL_INTERVAL": "1"}
        with Hub(folder, instance_id=instance_id, env=env) as hub:
            hub.wait_until_online()
            found = Bench(hub, Control(port), witness)
            for case in (*BORNE, *STUCK):
                found.put(case, VALUES[case.what][2])
            found.wait_until_each_was_well()
            yield found


@pytest.fixture(scope="module")
def struck_s(bench: Bench) -> float:
    """All faults are in force; since when (monotonic)."""
    begun_s = time.monotonic()
    for case in (*SEEN, *BORNE, *PASSING):
        bench.inject(case)
    return begun_s


@pytest.fixture(scope="module")
def healed_s(bench: Bench, struck_s: float) -> float:
    """All faults are cleared, after each was told; since when."""
    for case in SEEN:
        bench.witness.wait_for(partial(bench.tells, case), WITHIN_S, after_s=struck_s)
    bench.control.heal()
    return time.monotonic()


@pytest.fixture(scope="module")
def stuck(bench: Bench) -> dict[str, int]:
    """These are stuck at one value and have got another; how often the fault had struck before that."""
    for case in STUCK:
        eventually(lambda case=case: bench.shows(case, VALUES[case.what][2]), WITHIN_S)  # type: ignore[misc]
        bench.inject(case)
    for case in STUCK:
        bench.put(case, VALUES[case.what][3])
    return {case.device: bench.struck(case) for case in STUCK}


# -- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SEEN, ids=str)
def test_a_fault_is_told_by_its_code_and_the_device_is_not_online(
    bench: Bench, struck_s: float, case: Case
) -> None:
    bench.witness.wait_for(partial(bench.tells, case), WITHIN_S, after_s=struck_s)
    eventually(lambda: bench.error(case) == case.code, WITHIN_S)
    eventually(lambda: bench.statuses()[case.device] in ("degraded", "offline"), WITHIN_S)
    eventually(lambda: bench.struck(case) > 0, WITHIN_S)


@pytest.mark.parametrize("case", [case for case in SEEN if case.what in (BUS, WALLBOX, SCALE)], ids=str)
@pytest.mark.usefixtures("struck_s")
def test_who_is_taken_for_silent_was_silent_only_if_that_is_the_fault(bench: Bench, case: Case) -> None:
    eventually(lambda: bench.struck(case) > 0, WITHIN_S)
    if case.kind == "silence":
        eventually(lambda: bench.control.counters(case.device)["swallowed"] > 0, WITHIN_S)
    else:
        assert bench.control.counters(case.device)["swallowed"] == 0


@pytest.mark.parametrize("case", BORNE, ids=str)
def test_what_a_hub_can_put_up_with_does_no_harm(bench: Bench, struck_s: float, case: Case) -> None:
    eventually(lambda: bench.struck(case) > 2, WITHIN_S)
    value = VALUES[case.what][3]
    bench.put(case, value)
    eventually(lambda: bench.shows(case, value), WITHIN_S)
    eventually(lambda: bench.is_well(case), WITHIN_S)
    assert bench.witness.seen(bench.topic(case, "error"), after_s=struck_s) == []


@pytest.mark.parametrize("case", PASSING, ids=str)
def test_a_fault_that_was_asked_for_some_time_is_over_by_itself(
    bench: Bench, struck_s: float, case: Case
) -> None:
    bench.witness.wait_for(partial(bench.tells, case), WITHIN_S, after_s=struck_s)
    eventually(lambda: bench.control.struck(case.owner) == {}, WITHIN_S)
    eventually(lambda: bench.is_well(case), WITHIN_S)


@pytest.mark.parametrize("case", SEEN, ids=str)
def test_a_device_is_well_again_when_its_fault_is_cleared(bench: Bench, healed_s: float, case: Case) -> None:
    eventually(lambda: bench.is_well(case), WITHIN_S)
    bench.witness.wait_for(bench.topic(case, "state"), WITHIN_S, after_s=healed_s)


@pytest.mark.parametrize("case", STUCK, ids=str)
def test_a_stuck_device_says_the_same_until_it_is_cleared(
    bench: Bench, stuck: dict[str, int], case: Case
) -> None:
    *_, before, after = VALUES[case.what]
    eventually(lambda: bench.struck(case) > stuck[case.device] + 2, WITHIN_S)
    assert bench.shows(case, before)
    bench.control.heal(case.owner)
    eventually(lambda: bench.shows(case, after), WITHIN_S)
    eventually(lambda: bench.is_well(case), WITHIN_S)


def test_a_stuck_charger_takes_no_car_and_no_order(bench: Bench) -> None:
    case, was = (
        STUCK_WALLBOX,
        {"state": "ready", "vehicle_connected": False, "charging": False, "enabled": True},
    )
    was |= {"current_limit": 16, "current": 0, "locked": False}

    def shown() -> dict[str, Any]:
        reading = bench.refreshed(case)
        return {name: reading[name] for name in was}

    assert shown() == was
    bench.inject(case)
    bench.control.put(case.device, plugged=True, requesting_charge=True)
    assert shown() == was
    answer = bench.command(case, current_limit=10, enabled=False)
    assert answer["outcomes"] == {
        "current_limit": "mismatch",
        "enabled": "mismatch",
    }  # acknowledged, and not done
    assert shown() == was
    assert bench.struck(case) > 0
    bench.control.heal(case.owner)
    now = {
        "state": "charging",
        "vehicle_connected": True,
        "charging": True,
        "enabled": True,
        "current_limit": 16,
    }
    assert {name: shown()[name] for name in now} == now
    eventually(lambda: bench.shows(case, True), WITHIN_S)
    eventually(lambda: bench.is_well(case), WITHIN_S)
