"""serial-handler's REST API, row by row, against a real Modbus server, the real emulator and lines that are bad."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.contract.services import (
    NOBODY,
    READ_INPUT,
    WRITE_HOLDING,
    Api,
    Instance,
    Plc,
    emulator,
    free_ports,
    in_process,
    plc,
)
from tests.support import eventually
from tests.wire.scripted_peers import RtuOverTcpPeer, on_tcp

NEVER = 86400  # seconds: the line is read once at the start, then only when asked
BOILER_PROPERTIES = {
    "setpoint": {"table": "holding", "address": 10, "data_type": "uint16", "scale": 0.1, "unit": "°C",
                 "write": True, "min": 30, "max": 75, "step": 0.5},
    "pump": {"table": "coil", "address": 0, "write": True},
    "flow": {"table": "input", "address": 5, "scale": 0.01},
}  # fmt: skip


def value_at(address: int, **more: Any) -> dict[str, Any]:
    return {"table": "input", "address": address, "data_type": "int16", "scale": 0.1, **more}


def sensor(sensor_id: str, transport: str, unit_id: int, sensor_type: str = "generic", **more: Any) -> Any:
    return {
        "sensor_id": sensor_id, "sensor_type": sensor_type, "transport": transport, "unit_id": unit_id, **more
    }  # fmt: skip


def line(transport_id: str, url: str, driver: str = "modbus_tcp", **more: Any) -> dict[str, Any]:
    return {
        "transport_id": transport_id, "driver": driver, "url": url, "read_interval": NEVER, "timeout_s": 5,
        "write": True, **more,
    }  # fmt: skip


class Site:
    """All the devices of these tests and the handler that reads them."""

    plc: Plc
    api: Api
    garbled: RtuOverTcpPeer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp_path, site = tmp_path_factory.mktemp("serial"), Site()
    with ExitStack() as stack:
        site.plc = stack.enter_context(plc(units=(1, 2, 3, 4)))
        garbled = stack.enter_context(on_tcp(*[bytes(7)] * 1000, kind=RtuOverTcpPeer))
        assert isinstance(garbled, RtuOverTcpPeer)
        for unit in (1, 2, 3, 4):
            site.plc.inputs[unit] = {1: 225, 5: 1250, 6: 5000}
            site.plc.holding[unit] = {10: 545}  # what the setpoint may be, or nothing is written
        site.plc.asleep.add(4)
        site.plc.holding[1] = {10: 545, 20: 0x7FC0, 21: 0}
        instance = Instance(
            tmp_path,
            {
                "transports": [
                    line("plc", site.plc.url),
                    line("shown", site.plc.url, write=False),
                    line("lazy", site.plc.url, timeout_s=30),
                    line("quiet", site.plc.url, timeout_s=0.5),
                    line("noise", garbled.url, "modbus_rtu", timeout_s=1),
                    line("gone", f"tcp://127.0.0.1:{NOBODY}", reconnect_backoff_ms=200),
                ],
                "sensors": [
                    sensor("temp", "plc", 1, "temperature", register=value_at(1)),
                    sensor("hot", "plc", 1, "humidity", register=value_at(6)),
                    sensor("boiler", "plc", 1, properties=BOILER_PROPERTIES),
                    sensor(
                        "nan", "plc", 1, register={"table": "holding", "address": 20, "data_type": "float32"}
                    ),
                    sensor("nowhere", "plc", 1, register=value_at(5000)),
                    sensor(
                        "nowrite", "plc", 1, register={"table": "holding", "address": 5000, "write": True}
                    ),
                    sensor("locked", "shown", 1, properties=BOILER_PROPERTIES),
                    sensor("slow", "lazy", 2, properties=BOILER_PROPERTIES),
                    sensor("silent", "quiet", 4, register={**value_at(1), "table": "holding", "write": True}),
                    sensor("garbled", "noise", 1, register=value_at(1)),
                    sensor("offline", "gone", 1, register={"table": "holding", "address": 1, "write": True}),
                    sensor("off", "plc", 3, register=value_at(1), enabled=False),
                    {"sensor_id": "emulated", "sensor_type": "temperature"},
                    {"sensor_id": "moist", "sensor_type": "humidity"},
                    {"sensor_id": "elsewhere", "sensor_type": "motion", "url": "http://127.0.0.1:9/"},
                ],
            },
        )
        stack.enter_context(emulator(instance.hub, tmp_path))
        site.api = stack.enter_context(in_process(instance, "serial-handler"))
        good = ("temp", "hot", "boiler", "locked", "slow", "emulated", "moist")
        eventually(lambda: all(site.api.readings()[each]["status"] == "online" for each in good), 60)
        eventually(lambda: all(e["status"] != "unknown" for e in site.api.readings().values()), 60)
        yield site


def verified(**values: Any) -> dict[str, Any]:
    """What the answer to a command says of values that the device now holds."""
    return {"values": values, "outcome": "verified", "outcomes": dict.fromkeys(values, "verified")}


def asked_of(site: Site, unit: int) -> int:
    """Requests to a unit so far."""
    return sum(count for (of, _), count in site.plc.asked.items() if of == unit)


def command(api: Api, sensor_id: str, **body: Any) -> dict[str, Any]:
    return api.post(f"/sensor/{sensor_id}/command", body)


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    assert found.tzinfo is not None
    return found


def is_now(text: str) -> bool:
    return abs(datetime.now(UTC) - moment(text)) < timedelta(seconds=60)


# -- rows of the table ---------------------------------------------------------------------------------------------


def test_health_names_service_instance_state_counts_and_lines(site: Site) -> None:
    health = site.api.get("/health")
    assert health["service"] == "serial-handler"
    assert health["instance_id"].startswith("t")
    assert health["status"] == "degraded"  # some lines are down, some sensors too
    assert is_now(health["timestamp"])
    assert health["sensors_tracked"] == 13  # without the disabled one
    assert health["errors_count"] == site.api.get("/errors")["count"]
    states = {line["transport_id"]: line["state"] for line in health["transports"]}
    assert states["plc"] == "up"
    assert states["gone"] == "down"


def test_sensors_lists_all_configured_ones_read_or_not(site: Site) -> None:
    answer = site.api.get("/sensors")
    listed = {each["sensor_id"]: each for each in answer["sensors"]}
    assert answer["count"] == 14
    assert list(listed)[:3] == ["temp", "hot", "boiler"]
    assert "elsewhere" not in listed
    last_update = listed["temp"].pop("last_update")
    assert is_now(last_update)
    assert listed["temp"] == {"sensor_id": "temp", "type": "temperature", "status": "online"}
    assert listed["off"] == {"sensor_id": "off", "type": "generic", "status": "disabled", "last_update": None}
    assert listed["offline"]["status"] == "offline"
    assert listed["offline"]["last_update"] is None


def test_a_sensor_is_read_afresh_each_time(site: Site) -> None:
    for raw, value in ((225, 22.5), (-15, -1.5)):
        site.plc.inputs[1][1] = raw & 0xFFFF
        reading = site.api.get("/sensor/temp")
        assert is_now(reading.pop("timestamp"))
        assert reading == {
            "sensor_id": "temp", "type": "temperature", "value": value, "unit": "°C", "quality": "good"
        }  # fmt: skip


def test_the_time_of_a_reading_is_when_the_device_was_read(site: Site) -> None:
    first = site.api.get("/sensor/temp")["timestamp"]
    assert site.api.get("/sensor/temp/cached")["timestamp"] == first
    assert site.api.readings()["temp"]["timestamp"] == first
    assert moment(site.api.get("/sensor/temp")["timestamp"]) > moment(first)


def test_several_properties_stand_beside_the_type_instead_of_a_value(site: Site) -> None:
    site.plc.holding[1][10] = 545
    reading = site.api.get("/sensor/boiler")
    assert is_now(reading.pop("timestamp"))
    assert reading == {
        "sensor_id": "boiler", "type": "generic", "setpoint": 54.5, "pump": False, "flow": 12.5, "quality": "good"
    }  # fmt: skip


def test_a_value_outside_plausible_limits_is_poor(site: Site) -> None:
    reading = site.api.get("/sensor/hot")
    assert (reading["value"], reading["unit"], reading["quality"]) == (500.0, "%", "poor")


def test_an_emulated_device_is_a_real_one_that_says_so(site: Site) -> None:
    reading = site.api.get("/sensor/emulated")
    assert reading["emulated"] is True
    assert 15 < reading["value"] < 29
    assert reading["unit"] == "°C"
    assert 19 < site.api.get("/sensor/moist")["value"] < 81
    assert "emulated" not in site.api.get("/sensor/temp")


def test_cached_is_the_last_reading_without_asking_the_device(site: Site) -> None:
    fresh, asked = site.api.get("/sensor/temp"), site.plc.asked[1, READ_INPUT]
    cached = site.api.get("/sensor/temp/cached")
    assert site.plc.asked[1, READ_INPUT] == asked
    assert cached.pop("cached") is True
    assert 0 <= cached.pop("cache_age") < 30
    assert cached == fresh


def test_transports_shows_every_line_with_counters_and_units(site: Site) -> None:
    site.api.get("/sensor/temp")

    def line_of_plc() -> dict[str, Any]:
        return next(e for e in site.api.get("/transports")["transports"] if e["transport_id"] == "plc")

    # a worker that is busy tells its counters a little later
    eventually(lambda: line_of_plc()["counters"]["reads"] >= 5 and line_of_plc()["pending"] == 0)
    answer = site.api.get("/transports")
    lines = {each["transport_id"]: each for each in answer["transports"]}
    assert answer["count"] == len(lines) == 7  # six of the file and the emulator's
    up, gone = lines["plc"], lines["gone"]
    assert up["driver"] == "modbus_tcp"
    assert up["url"] == site.plc.url
    assert (up["state"], up["last_error"], up["next_retry_s"]) == ("up", None, None)
    assert isinstance(up["worker_pid"], int)
    assert up["parallelism"] == "process"  # one of several
    assert up["worker_pid"] != os.getpid()
    assert (up["restarts"], up["pending"], up["late_answers"]) == (0, 0, 0)
    assert 0 <= up["utilisation"] <= 1
    assert is_now(up["since"])
    assert up["counters"].keys() == {"reads", "errors", "timeouts", "crc_errors", "exceptions", "commands"}
    assert up["counters"]["reads"] >= 5
    assert up["counters"]["exceptions"] >= 1  # the register that is not there
    (unit,) = up["units"]
    assert unit.keys() == {"unit_id", "state", *up["counters"], "round_trip_ms", "utilisation", "last_error"}
    assert (unit["unit_id"], unit["reads"] >= 3, unit["round_trip_ms"] > 0) == (1, True, True)
    assert gone["state"] == "down"
    assert "refused" in gone["last_error"]
    assert 0 <= gone["next_retry_s"] <= 30


def test_errors_names_code_message_and_since_when(site: Site) -> None:
    answer = site.api.get("/errors")
    assert is_now(answer["timestamp"])
    assert answer["count"] == len(answer["errors"])
    found = answer["errors"]["offline"]
    assert (found["error"], is_now(found["timestamp"])) == ("TRANSPORT_DOWN", True)
    assert "refused" in found["message"]
    assert answer["errors"]["nowhere"]["error"] == "DEVICE_REFUSED"
    assert not {"temp", "boiler", "off", "emulated"} & answer["errors"].keys()


def test_an_error_goes_when_the_sensor_reads_well_again(site: Site) -> None:
    site.plc.holding[1][20] = 0x7FC0  # not a number
    assert site.api.error("GET", "/sensor/nan") == (503, "READ_FAILED")
    assert site.api.get("/errors")["errors"]["nan"]["error"] == "READ_FAILED"
    assert "value" not in site.api.readings()["nan"]
    site.plc.holding[1][20] = 0x41C8  # 25.0
    assert site.api.get("/sensor/nan")["value"] == 25.0
    assert "nan" not in site.api.get("/errors")["errors"]


def test_after_a_failed_read_the_last_value_is_fair_and_the_sensor_degraded(site: Site) -> None:
    site.plc.holding[1][20] = 0x41C8
    good = site.api.get("/sensor/nan")
    site.plc.holding[1][20] = 0x7FC0
    assert site.api.error("GET", "/sensor/nan") == (503, "READ_FAILED")
    entry = site.api.readings()["nan"]
    assert (entry["status"], entry["quality"], entry["value"]) == ("degraded", "fair", 25.0)
    assert (entry["timestamp"], entry["error"]) == (good["timestamp"], "READ_FAILED")
    assert site.api.get("/sensor/nan/cached")["quality"] == "fair"


# -- commands ------------------------------------------------------------------------------------------------------


def test_a_command_reaches_the_device_and_is_answered_with_its_id(site: Site) -> None:
    answer = command(site.api, "boiler", id="c1", values={"setpoint": 60.5, "pump": True}, timeout=20_000)
    assert answer == {"id": "c1", "status": "success", **verified(setpoint=60.5, pump=True)}
    assert (site.plc.holding[1][10], site.plc.coils[1][0]) == (605, True)
    assert site.api.get("/sensor/boiler")["setpoint"] == 60.5


def test_what_was_written_is_on_the_feed_without_being_asked_for(site: Site) -> None:
    command(site.api, "boiler", values={"setpoint": 33})
    eventually(lambda: site.api.readings()["boiler"].get("setpoint") == 33.0)
    command(site.api, "boiler", values={"setpoint": 34})
    eventually(lambda: site.api.readings()["boiler"].get("setpoint") == 34.0)


def test_without_values_all_other_keys_are_the_values_and_an_id_may_be_a_number(site: Site) -> None:
    answer = command(site.api, "boiler", id=7, setpoint=40)
    assert answer == {"id": 7, "status": "success", **verified(setpoint=40.0)}
    assert command(site.api, "boiler", setpoint=41)["id"] is None
    assert site.plc.holding[1][10] == 410


def test_a_repeated_id_is_not_executed_again_and_gets_the_first_answer(site: Site) -> None:
    first = command(site.api, "boiler", id="twice", values={"setpoint": 50})
    command(site.api, "boiler", values={"setpoint": 51})
    asked = site.plc.asked[1, WRITE_HOLDING]
    stale = "2020-01-01T00:00:00Z"
    assert command(site.api, "boiler", id="twice", values={"setpoint": 52}, timestamp=stale) == first
    assert (site.plc.holding[1][10], site.plc.asked[1, WRITE_HOLDING]) == (510, asked)


def test_a_repeated_id_gets_the_first_error_again_and_other_devices_are_no_matter(site: Site) -> None:
    url = "/sensor/boiler/command"
    bad = {"id": "err", "values": {"setpoint": 99}}
    assert site.api.error("POST", url, json=bad) == (400, "VALUE_OUT_OF_RANGE")
    assert site.api.error("POST", url, json={"id": "err", "setpoint": 50}) == (400, "VALUE_OUT_OF_RANGE")
    assert command(site.api, "slow", id="err", setpoint=50)["status"] == "success"


def test_a_command_that_is_not_answered_in_time_says_so(site: Site) -> None:
    site.plc.asleep.add(2)
    try:
        body = {"values": {"setpoint": 50}, "timeout": 200}
        assert site.api.error("POST", "/sensor/slow/command", json=body) == (504, "COMMAND_TIMEOUT")
    finally:
        site.plc.asleep.discard(2)
    assert site.api.get("/sensor/slow")["quality"] == "good"


def test_many_duplicates_at_the_same_time_are_written_once(site: Site) -> None:
    before = site.plc.asked[2, WRITE_HOLDING]
    site.plc.asleep.add(2)
    with ThreadPoolExecutor(10) as pool:
        try:
            asked = [
                pool.submit(command, site.api, "slow", id="storm", setpoint=44, timeout=30_000)
                for _ in range(10)
            ]
            eventually(lambda: site.plc.asked[2, WRITE_HOLDING] > before)
        finally:
            site.plc.asleep.discard(2)
        answers = [each.result(60) for each in asked]
    assert answers == [{"id": "storm", "status": "success", **verified(setpoint=44.0)}] * 10
    assert site.plc.asked[2, WRITE_HOLDING] == before + 1


LONG_AGO = {"timestamp": "2020-01-01T00:00:00Z", "setpoint": 50}
COMMANDS: list[tuple[str, Any, int, str]] = [
    ("boiler", {}, 400, "INVALID_COMMAND"),
    ("boiler", [], 400, "INVALID_COMMAND"),
    ("boiler", "on", 400, "INVALID_COMMAND"),
    ("boiler", {"values": {}}, 400, "INVALID_COMMAND"),
    ("boiler", {"values": None}, 400, "INVALID_COMMAND"),
    ("boiler", {"values": {"pressure": 5}}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": "50"}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": True}, 400, "INVALID_COMMAND"),
    ("boiler", {"pump": 1}, 400, "INVALID_COMMAND"),
    ("boiler", {"pump": True, "setpoint": "x"}, 400, "INVALID_COMMAND"),
    ("boiler", {"id": "", "setpoint": 50}, 400, "INVALID_COMMAND"),
    ("boiler", {"id": "x" * 129, "setpoint": 50}, 400, "INVALID_COMMAND"),
    ("boiler", {"id": 1.5, "setpoint": 50}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": 50, "timeout": 0}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": 50, "timeout": "1s"}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": 50, "timestamp": "yesterday"}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": 50, "padding": "x" * 65_536}, 400, "INVALID_COMMAND"),
    ("boiler", {"setpoint": 75.5}, 400, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"setpoint": 29.5}, 400, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"setpoint": 50.3}, 400, "VALUE_OUT_OF_RANGE"),
    ("boiler", {"setpoint": 10**400}, 400, "VALUE_OUT_OF_RANGE"),
    ("nowrite", {"value": 65536}, 400, "VALUE_OUT_OF_RANGE"),
    ("boiler", LONG_AGO, 400, "STALE_COMMAND"),
    ("boiler", {"timestamp": 1_600_000_000, "setpoint": 50}, 400, "STALE_COMMAND"),
    ("boiler", {"flow": 5}, 403, "READ_ONLY"),
    ("temp", {"value": 5}, 403, "READ_ONLY"),
    ("temp", {"nonsense": 5}, 403, "READ_ONLY"),
    ("locked", {"setpoint": 50}, 403, "READ_ONLY"),
    ("nobody", {"setpoint": 50}, 404, "UNKNOWN_SENSOR"),
    ("elsewhere", {"setpoint": 50}, 404, "UNKNOWN_SENSOR"),
    ("off", {"value": 5}, 503, "DISABLED"),
    ("nowrite", {"value": 5}, 502, "DEVICE_REFUSED"),
    ("offline", {"value": 5}, 503, "TRANSPORT_DOWN"),
    # the first check that fails is the answer
    ("nobody", LONG_AGO, 404, "UNKNOWN_SENSOR"),
    ("off", LONG_AGO, 503, "DISABLED"),
    ("locked", LONG_AGO, 400, "STALE_COMMAND"),
    ("locked", {"nonsense": 5}, 403, "READ_ONLY"),
    ("locked", {}, 403, "READ_ONLY"),
    ("offline", {"value": "x"}, 400, "INVALID_COMMAND"),
]


@pytest.mark.parametrize(("sensor_id", "body", "status", "code"), COMMANDS)
def test_a_bad_command_is_refused_and_nothing_is_written(
    site: Site, sensor_id: str, body: Any, status: int, code: str
) -> None:
    written = site.plc.asked[1, WRITE_HOLDING], dict(site.plc.coils[1])
    response = site.api.ask("POST", f"/sensor/{sensor_id}/command", json=body)
    answer = response.json()
    assert (response.status_code, answer["error"]) == (status, code)
    assert answer["sensor_id"] == sensor_id
    assert is_now(answer["timestamp"])
    if code != "DEVICE_REFUSED":
        assert (site.plc.asked[1, WRITE_HOLDING], site.plc.coils[1]) == written


@pytest.mark.parametrize("data", [b"", b"on", b"{", b"\xff\xfe", b'{"setpoint": NaN}', b"[" * 60_000])
def test_a_body_that_is_no_json_object_is_an_invalid_command(site: Site, data: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    found = site.api.error("POST", "/sensor/boiler/command", data=data, headers=headers)
    assert found == (400, "INVALID_COMMAND")


def test_a_body_that_does_not_call_itself_json_is_refused(site: Site) -> None:
    data = json.dumps({"setpoint": 50})
    found = site.api.error(
        "POST", "/sensor/boiler/command", data=data, headers={"Content-Type": "text/plain"}
    )
    assert found == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_devices_exception_is_in_the_message(site: Site) -> None:
    answer = site.api.ask("GET", "/sensor/nowhere").json()
    assert answer["error"] == "DEVICE_REFUSED"
    assert "address" in answer["message"].lower()


# -- errors of reads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/sensor/nobody", 404, "UNKNOWN_SENSOR"),
        ("/sensor/elsewhere", 404, "UNKNOWN_SENSOR"),
        ("/sensor/nobody/cached", 404, "UNKNOWN_SENSOR"),
        ("/sensor/offline/cached", 404, "NO_CACHE"),
        ("/sensor/nowhere/cached", 404, "NO_CACHE"),
        ("/sensor/off", 503, "DISABLED"),
        ("/sensor/off/cached", 503, "DISABLED"),
        ("/sensor/nowhere", 502, "DEVICE_REFUSED"),
        ("/sensor/garbled", 503, "READ_FAILED"),
        ("/sensor/offline", 503, "TRANSPORT_DOWN"),
    ],
)
def test_a_read_that_fails_says_why(site: Site, path: str, status: int, code: str) -> None:
    response = site.api.ask("GET", path)
    assert (response.status_code, response.json()["error"]) == (status, code)
    assert response.json()["sensor_id"] == path.split("/")[2]


def test_a_silent_unit_times_out_and_is_then_left_alone(site: Site) -> None:
    found = [site.api.error("GET", "/sensor/silent") for _ in range(4)]
    assert set(found) <= {(503, "READ_TIMEOUT"), (503, "CIRCUIT_OPEN")}
    assert found[-1] == (503, "CIRCUIT_OPEN")
    assert site.api.error("POST", "/sensor/silent/command", json={"value": 1}) == (503, "CIRCUIT_OPEN")
    assert site.api.readings()["silent"]["error"] == "READ_TIMEOUT"


def test_reading_what_is_not_configured_creates_nothing(site: Site) -> None:
    before = site.api.get("/sensors")
    site.api.error("GET", "/sensor/temp_new_sensor")
    site.api.error("POST", "/sensor/temp_new_sensor/command", json={"value": 1})
    assert site.api.get("/sensors")["count"] == before["count"]
    assert "temp_new_sensor" not in site.api.readings()


def test_a_unit_that_does_not_answer_delays_no_other_line(site: Site) -> None:
    asked, answered = asked_of(site, 2), threading.Event()

    def read_slowly() -> None:
        site.api.ask("GET", "/sensor/slow")
        answered.set()

    site.plc.asleep.add(2)
    try:
        threading.Thread(target=read_slowly, daemon=True).start()
        eventually(lambda: asked_of(site, 2) > asked)
        for _ in range(20):
            assert site.api.get("/sensor/temp")["quality"] == "good"
        assert command(site.api, "boiler", values={"setpoint": 70})["status"] == "success"
        assert not answered.is_set()
    finally:
        site.plc.asleep.discard(2)
    assert answered.wait(60)


def test_health_answers_while_a_line_hangs(site: Site) -> None:
    asked = asked_of(site, 2)
    site.plc.asleep.add(2)
    with ThreadPoolExecutor(20) as pool:
        try:
            waiting = [pool.submit(site.api.ask, "GET", "/sensor/slow") for _ in range(20)]
            eventually(lambda: asked_of(site, 2) > asked)
            assert site.api.health_took_s() < 2
            assert not any(each.done() for each in waiting)
        finally:
            site.plc.asleep.discard(2)
        assert {each.result(60).status_code for each in waiting} <= {200, 503}


# -- the line's own turn -------------------------------------------------------------------------------------------


def test_asking_often_does_not_put_off_the_reads_in_the_background(tmp_path: Path) -> None:
    with plc() as device:
        device.inputs[1][1] = 201
        content = {
            "transports": [line("plc", device.url, read_interval=0.5)],
            "sensors": [sensor("temp", "plc", 1, register=value_at(1))],
        }
        with in_process(Instance(tmp_path, content), "serial-handler") as api:
            for _ in range(60):  # put off by half a second each, the next would be half a minute away
                assert api.get("/sensor/temp")["value"] == 20.1
            asked = device.asked[1, READ_INPUT]
            eventually(lambda: device.asked[1, READ_INPUT] >= asked + 3, 15)
            eventually(lambda: api.readings()["temp"]["status"] == "online")


def test_a_handler_whose_lines_are_all_down_is_unavailable_also_without_sensors(tmp_path: Path) -> None:
    ports = free_ports(2)
    lines = [line(f"gone{port}", f"tcp://127.0.0.1:{port}") for port in ports]
    with in_process(Instance(tmp_path, {"transports": lines, "sensors": []}), "serial-handler") as api:
        eventually(lambda: {each["state"] for each in api.get("/health")["transports"]} == {"down"}, 30)
        eventually(lambda: api.get("/health")["status"] == "unavailable")


def test_the_log_of_a_command_names_its_properties_and_not_their_values(site: Site) -> None:
    with structlog.testing.capture_logs() as told:
        command(site.api, "boiler", id="logged", values={"setpoint": 61.5, "pump": True})
    (entry,) = [each for each in told if each["event"] == "command done" and each["id"] == "logged"]
    assert (entry["device"], entry["properties"]) == ("boiler", "setpoint, pump")
    assert "61.5" not in str(entry)
