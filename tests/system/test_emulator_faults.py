"""What a hub says of devices that go wrong, which the control API of their emulator makes them do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Witness, mosquitto
from tests.integration.emulated import emulators, free_port
from tests.support import eventually
from tests.system.hub import Hub, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
]
WITHIN_S = 60.0
QUICK = {"read_interval": 1}
INT16 = {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1}
BUS, WALLBOX, SCALE, PRINTER, MOTION = "on_bus", "wallbox", "scale", "printer", "detector"
DEVICES = (BUS, WALLBOX, SCALE, PRINTER, MOTION)
TIMEOUT, FAILED, REFUSED = "READ_TIMEOUT", "READ_FAILED", "DEVICE_REFUSED"
DOWN, GONE = "TRANSPORT_DOWN", "SENSOR_UNAVAILABLE"
# kind of fault -> its facts, and device -> the codes that are right for it
SEEN: dict[str, tuple[dict[str, Any], dict[str, set[str]]]] = {
    "silence": ({}, {BUS: {TIMEOUT}, WALLBOX: {TIMEOUT}, SCALE: {TIMEOUT}, PRINTER: {GONE}}),
    "delay": ({"seconds": 3}, {BUS: {TIMEOUT}, WALLBOX: {TIMEOUT}, SCALE: {TIMEOUT}, MOTION: {TIMEOUT}}),
    "crc_error": ({}, {BUS: {FAILED}, WALLBOX: {FAILED, TIMEOUT}, SCALE: {FAILED}, PRINTER: {GONE}}),
    "truncation": (
        {},
        {BUS: {FAILED, TIMEOUT}, WALLBOX: {FAILED, TIMEOUT}, SCALE: {FAILED, TIMEOUT}, PRINTER: {GONE}},
    ),
    "wrong_unit": ({}, {BUS: {FAILED, TIMEOUT}}),
    "exception": ({}, {BUS: {REFUSED}, WALLBOX: {REFUSED}}),
    "garbage": ({}, {SCALE: {FAILED}}),
    "disconnect": ({"seconds": 2}, {BUS: {DOWN}, WALLBOX: {DOWN}, SCALE: {DOWN}, PRINTER: {DOWN}}),
    "http_error": ({"code": 500}, {MOTION: {FAILED}}),
    "hang": ({"seconds": 3}, {MOTION: {TIMEOUT}}),
    "reset": ({}, {MOTION: {FAILED}}),
    "huge_body": ({}, {MOTION: {FAILED}}),
}
BORNE = {"echo": (BUS, WALLBOX, SCALE), "garbage": (BUS, WALLBOX)}
# device -> how its value is set and read
VALUES = {BUS: ("value", "value"), WALLBOX: ("temperature", "temperature"), SCALE: ("weight", "value")}


class Bench:
    """A hub, the devices that it reads, and the broker that it tells."""

    def __init__(self, hub: Hub, control_url: str, witness: Witness) -> None:
        self.hub, self.witness = hub, witness
        self._control_url = control_url

    def inject(self, device: str, fault: dict[str, Any]) -> None:
        answer = requests.post(f"{self._control_url}/api/devices/{device}/faults", json=fault, timeout=10)
        assert answer.status_code == 201, answer.text

    def heal(self) -> None:
        assert requests.delete(f"{self._control_url}/api/faults", timeout=10).ok

    def cure(self, device: str) -> None:
        assert requests.delete(f"{self._control_url}/api/devices/{device}/faults", timeout=10).ok

    def put(self, device: str, **values: Any) -> None:
        url = f"{self._control_url}/api/devices/{device}/values"
        assert requests.patch(url, json={"values": values}, timeout=10).ok

    def _rest(self, path: str) -> Any:
        return requests.get(f"{self.hub.url('state-aggregator')}{path}", timeout=10).json()

    def error(self, device: str) -> str:
        """The code that GET /errors has for a device; "" for none."""
        return str(self._rest("/errors")["errors"].get(device, {}).get("error", ""))

    def status(self, device: str) -> str:
        (found,) = (each for each in self._rest("/devices")["devices"] if each["device_id"] == device)
        return str(found["status"])

    def reading(self, device: str) -> Any:
        return self._rest(f"/device/{device}")

    def refreshed(self, device: str) -> Any:
        """Read now, never from the cache."""
        url = f"{self.hub.url('state-aggregator')}/device/{device}/force-refresh"
        return requests.post(url, timeout=15).json()

    def topic(self, device: str, leaf: str) -> str:
        return f"IoT2mqtt/v1/instances/{self.hub.id}/devices/{device}/{leaf}"

    def told_error(self, device: str, codes: set[str], after_s: float) -> None:
        """The error topic had one of the codes since then."""
        self.witness.wait_for(
            lambda message: (
                message.topic == self.topic(device, "error") and code_in(message.payload) in codes
            ),
            WITHIN_S,
            after_s=after_s,
        )

    def is_well(self, device: str) -> bool:
        return self.status(device) == "online" and self.error(device) == ""


def code_in(payload: bytes) -> str:
    return str(json.loads(payload or b"{}").get("error_code", ""))


def scenario(folder: Path, port: int) -> dict[str, Any]:
    unit = {"unit_id": 1, "sensor_id": BUS, "kind": "temperature"}
    text: dict[str, dict[str, Any]] = {
        WALLBOX: {"kind": "openevse", "charger": {"round_s": None}},
        SCALE: {"kind": "scale"},
        PRINTER: {"kind": "arduino"},
    }
    return {
        "seed": 1,
        "lines": [{"pty_path": str(folder / "bus"), "units": [unit]}],
        "text_lines": [
            {"pty_path": str(folder / name), "sensor_id": name, **facts} for name, facts in text.items()
        ],
        "http": {"port": port, "motion": [MOTION]},
    }


def instance(folder: Path, instance_id: str, port: int) -> dict[str, Any]:
    """Short times: nothing takes long to be seen."""
    drivers = {"bus": "modbus_rtu", WALLBOX: "rapi", SCALE: "ascii_line", PRINTER: "ascii_line"}
    timeouts = {"bus": 0.5, WALLBOX: 1, SCALE: 1, PRINTER: 2.5}
    transports = [
        {"transport_id": name, "driver": driver, "url": str(folder / name), "timeout_s": timeouts[name]}
        | QUICK
        for name, driver in drivers.items()
    ]
    weight = {"regex": "^([-+]\\d+\\.\\d+) kg$", "unit": "kg"}
    sensors = [
        {"sensor_id": BUS, "sensor_type": "temperature", "transport": "bus", "unit_id": 1, "register": INT16},
        {"sensor_id": WALLBOX, "sensor_type": "generic", "transport": WALLBOX},
        {"sensor_id": SCALE, "sensor_type": "generic", "transport": SCALE, "request": "W", "value": weight},
        {
            "sensor_id": PRINTER,
            "sensor_type": "temperature",
            "transport": PRINTER,
            "stale_after": 3,
            "value": {"regex": "^T=([-\\d.]+) H=\\d+$", "unit": "°C"},
        },
        {
            "sensor_id": MOTION,
            "sensor_type": "motion",
            "url": f"http://127.0.0.1:{port}/sensors/{MOTION}",
            "timeout_s": 1,
        },
    ]
    return {
        "instance_id": instance_id,
        "update_interval": 1,
        "config": {"transports": transports, "sensors": sensors},
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, port, instance_id = tmp_path_factory.mktemp("faults"), free_port(), new_id()
    path = folder / "instances" / f"{instance_id}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(instance(folder, instance_id, port)))
    with emulators(folder) as start, mosquitto() as broker, Witness(broker.port) as witness:
        start(scenario(folder, port))
        env = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port), "POLL_INTERVAL": "1"}
        with Hub(folder, instance_id=instance_id, env=env) as hub:
            hub.wait_until_online()
            found = Bench(hub, f"http://127.0.0.1:{port}", witness)
            eventually(lambda: all(found.is_well(device) for device in DEVICES), 60)
            yield found


@pytest.fixture
def well(bench: Bench) -> Iterator[Bench]:
    """All devices are well before and after a test."""
    yield bench
    bench.heal()
    eventually(lambda: all(bench.is_well(device) for device in DEVICES), WITHIN_S)


@pytest.mark.parametrize("kind", SEEN)
def test_a_fault_is_seen_by_its_code_and_gone_when_it_is_cleared(well: Bench, kind: str) -> None:
    facts, devices = SEEN[kind]
    begun_s = time.monotonic()
    for device in devices:
        # a charger is asked three things in a row, and left alone for a while if it answers none
        well.inject(device, {"kind": kind, **facts} | ({"count": 2} if device == WALLBOX else {}))
    for device, codes in devices.items():
        well.told_error(device, codes, begun_s)
        well.cure(device)
    for device in devices:
        eventually(lambda device=device: well.is_well(device), WITHIN_S)  # type: ignore[misc]
    healed_s = time.monotonic()
    for device in devices:
        well.witness.wait_for(well.topic(device, "state"), WITHIN_S, after_s=healed_s)
    assert {device for device in DEVICES if not well.is_well(device)} == set()


@pytest.mark.parametrize("kind", ["silence", "exception", "http_error", "disconnect"])
def test_rest_has_the_code_and_the_device_is_not_online_while_a_fault_lasts(well: Bench, kind: str) -> None:
    facts, devices = SEEN[kind]
    device = MOTION if MOTION in devices else BUS
    well.inject(device, {"kind": kind, **facts})
    eventually(lambda: well.error(device) in devices[device], WITHIN_S)
    eventually(lambda: well.status(device) in ("degraded", "offline"), WITHIN_S)


@pytest.mark.parametrize(
    ("kind", "device"), [(kind, device) for kind, devices in BORNE.items() for device in devices]
)
def test_what_a_hub_can_put_up_with_does_no_harm(well: Bench, kind: str, device: str) -> None:
    name, key = VALUES[device]
    begun_s = time.monotonic()
    well.inject(device, {"kind": kind})
    well.put(device, **{name: 33.0})
    eventually(lambda: well.reading(device).get(key) == 33.0, WITHIN_S)
    well.put(device, **{name: 44.0})
    eventually(lambda: well.reading(device).get(key) == 44.0, WITHIN_S)
    assert well.witness.seen(well.topic(device, "error"), after_s=begun_s) == []


@pytest.mark.parametrize("device", VALUES)
def test_a_stuck_device_says_the_same_until_it_is_cleared(well: Bench, device: str) -> None:
    name, key = VALUES[device]
    well.put(device, **{name: 21.0})
    eventually(lambda: well.reading(device).get(key) == 21.0, WITHIN_S)
    well.inject(device, {"kind": "stuck"})
    assert well.refreshed(device)[key] == 21.0  # it is stuck at what it says next
    well.put(device, **{name: 55.0})
    for _ in range(2):
        assert well.refreshed(device)[key] == 21.0
    well.heal()
    eventually(lambda: well.reading(device).get(key) == 55.0, WITHIN_S)
    assert well.is_well(device)


def test_the_next_polls_fail_and_motion_then_is_seen(well: Bench) -> None:
    begun_s = time.monotonic()
    well.inject(MOTION, {"kind": "http_error", "code": 503, "count": 1})
    well.told_error(MOTION, {FAILED}, begun_s)
    well.put(MOTION, motion_detected=True)
    eventually(lambda: well.reading(MOTION).get("motion_detected") is True, WITHIN_S)
    well.put(MOTION, motion_detected=False)
    eventually(lambda: well.reading(MOTION).get("motion_detected") is False, WITHIN_S)
