"""Home Assistant's discovery with a real broker and either client: announced, usable, said again, taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sensor_hub.bridge.discovery import BIRTH_DELAY_S
from sensor_hub.clients import AggregatorClient
from tests import home_assistant as rules
from tests.contract.bridge import CLIENTS, Hub, running_hub
from tests.support import eventually

CONFIGS = "homeassistant/device/+/config"
DEVICES = {
    "cellar",
    "boiler",
    "meter",
    "yard",
    "plain",
    "flaky",
    "lamp",
    "slow",
    "odd",
}  # and `off`, disabled
ON = {"ha_discovery": True}


@pytest.fixture(scope="module", params=CLIENTS)
def home(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A running hub that announces its devices."""
    with running_hub(request.param, config=ON) as hub:
        eventually(lambda: announced(hub).keys() == DEVICES, 60)
        yield hub


def announced(hub: Hub) -> dict[str, dict[str, Any]]:
    """What the broker retains of this instance's devices, by device, with long names."""
    return {device_id: rules.spelled_out(json.loads(raw)) for device_id, (_, raw) in kept(hub).items()}


def kept(hub: Hub) -> dict[str, tuple[str, bytes]]:
    """Device -> topic and payload that the broker retains."""
    found = {}
    for topic, raw in hub.witness.retained(CONFIGS).items():
        availability = [each["t"] for each in json.loads(raw).get("avty", [])]
        if availability[:1] == [hub.topic("status")]:
            found[availability[1].split("/")[-2]] = topic, raw
    return found


def components(hub: Hub, device_id: str) -> dict[str, dict[str, Any]]:
    return dict(announced(hub)[device_id]["components"])


def shown(hub: Hub, body: Mapping[str, Any]) -> str:
    """What Home Assistant shows of a component now; nothing before its first value."""
    kept_there = hub.witness.retained(body["state_topic"])
    return rules.rendered(body["value_template"], kept_there.popitem()[1].decode()) if kept_there else ""


def times_announced(hub: Hub, after_s: float) -> set[int]:
    """How often each device that the broker retains, in no order."""
    return {len(hub.witness.seen(topic, after_s=after_s)) for topic, _ in kept(hub).values()}


# -- announced -----------------------------------------------------------------------------------------------------


def test_home_assistant_takes_every_config(home: Hub) -> None:
    found = {device_id: rules.problems(topic, raw) for device_id, (topic, raw) in kept(home).items()}
    assert found == dict.fromkeys(DEVICES, [])


def test_every_property_has_its_component(home: Hub) -> None:
    found = {
        device_id: [body["platform"] for body in config["components"].values()]
        for device_id, config in announced(home).items()
        if device_id != "odd"
    }
    assert found == {
        "cellar": ["sensor"],
        "boiler": ["number", "switch", "sensor"],
        "meter": ["binary_sensor"],  # its line is not written
        "yard": ["binary_sensor", "sensor", "sensor"],
        "plain": ["sensor"],
        "flaky": ["sensor"],
        "lamp": ["switch", "number", "text"],
        "slow": ["sensor", "text"],
    }


def test_what_is_announced_is_what_the_broker_retains(home: Hub) -> None:
    for device_id in ("cellar", "boiler", "yard", "odd"):
        config = announced(home)[device_id]
        topics = [body["state_topic"] for body in config["components"].values()]
        topics = [topic for topic in topics if not topic.endswith("signal_strength")]  # the device has none
        topics += [each["topic"] for each in config["availability"]]
        eventually(lambda topics=topics: set(topics) <= home.witness.retained().keys(), 60)  # type: ignore[misc]


def test_the_aggregator_tells_every_property_of_every_enabled_device(home: Hub) -> None:
    url = f"http://127.0.0.1:{home.environ['STATE_AGGREGATOR_PORT']}"
    client = AggregatorClient(url, home.instance_id)
    specs, is_complete = client.properties()
    assert is_complete
    assert specs.keys() == DEVICES
    assert client.get("/properties")["properties"]["boiler"] == {  # type: ignore[index, call-overload]
        "setpoint": {"kind": "number", "readable": True, "writable": True, "unit": "°C"}
        | {"min": 30, "max": 75, "step": 0.5},
        "pump": {"kind": "boolean", "readable": True, "writable": True},
        "flow": {"kind": "number", "readable": True, "writable": False}
        | {"min": 0, "max": 65535, "tolerance": 0.5},
    }
    assert specs["meter"]["reset"].writable is False, "its transport has write: false"


def test_what_an_http_device_only_takes_has_no_state(home: Hub) -> None:
    lamp = components(home, "lamp")
    assert {key for key, body in lamp.items() if "state_topic" in body} == {"switch_on"}
    home.witness.publish(
        home.topic("devices/lamp/cmd"), rules.rendered(lamp["number_level"]["command_template"], 40)
    )
    eventually(lambda: home.http.writes("lamp/level") == [40], 60)


def test_values_arrive_with_class_and_unit(home: Hub) -> None:
    value = components(home, "cellar")["sensor_value"]
    assert (value["device_class"], value["unit_of_measurement"]) == ("temperature", "°C")
    eventually(lambda: shown(home, value) == "21.5", 60)
    motion = components(home, "yard")["binary_sensor_motion_detected"]
    assert motion["device_class"] == "motion"
    home.http.values["yard"] = {"motion_detected": True, "battery_level": None}
    eventually(lambda: shown(home, motion) == motion["payload_on"], 60)
    eventually(lambda: shown(home, components(home, "yard")["sensor_battery_level"]) == "None", 60)


def test_a_number_and_a_switch_set_the_device(home: Hub) -> None:
    command = home.topic("devices/boiler/cmd")
    setpoint, pump = (components(home, "boiler")[key] for key in ("number_setpoint", "switch_pump"))
    assert announced(home)["boiler"]["command_topic"] == command
    assert (setpoint["min"], setpoint["max"], setpoint["step"]) == (30, 75, 0.5)
    home.witness.publish(command, rules.rendered(setpoint["command_template"], 47.5))
    home.witness.publish(command, pump["payload_on"])
    eventually(lambda: shown(home, setpoint) == "47.5", 60)
    eventually(lambda: shown(home, pump) == pump["state_on"], 60)
    assert (home.plc.words[10], home.plc.bits[0]) == (475, True)
    home.witness.publish(command, pump["payload_off"])
    eventually(lambda: shown(home, pump) == pump["state_off"], 60)


def test_ids_differ_from_those_of_another_instance_and_stay_over_a_restart(home: Hub) -> None:
    before = {device_id: raw for device_id, (_, raw) in kept(home).items()}
    mark = home.now()
    home.end_bridge()
    home.start_bridge()
    home.online()
    eventually(lambda: min(times_announced(home, mark)) > 0, 60)
    assert {device_id: raw for device_id, (_, raw) in kept(home).items()} == before
    with running_hub(home.client, port=home.port, config=ON) as other:
        eventually(lambda: announced(other).keys() == DEVICES, 60)

        def ids(hub: Hub) -> set[str]:
            return {
                body["unique_id"]
                for config in announced(hub).values()
                for body in config["components"].values()
            }

        assert ids(home).isdisjoint(ids(other))
        other.end_bridge()
    assert announced(home).keys() == DEVICES


# -- said again ----------------------------------------------------------------------------------------------------


def test_home_assistants_birth_brings_all_configs_again_and_its_end_none(home: Hub) -> None:
    mark = home.now()
    home.witness.publish("homeassistant/status", "offline")
    home.witness.publish("homeassistant/status", "online")
    within_s = BIRTH_DELAY_S[1] + 60
    eventually(lambda: min(times_announced(home, mark)) > 0, within_s)
    assert times_announced(home, mark) == {1}


def test_a_broker_that_has_lost_all_is_told_again(client: str) -> None:
    with running_hub(client, config=ON) as hub:
        eventually(lambda: announced(hub).keys() == DEVICES, 60)
        assert hub.broker is not None
        hub.broker.kill()
        hub.broker.start()
        hub.witness.wait_until_back(40)
        eventually(lambda: announced(hub).keys() == DEVICES, 60)
        mark = hub.now()
        hub.witness.publish("homeassistant/status", "online")
        eventually(lambda: min(times_announced(hub, mark)) > 0, 60)


def test_devices_of_a_handler_that_comes_late_are_announced_when_it_is_there(client: str) -> None:
    with running_hub(client, start=False, config=ON) as hub:
        hub.services.stop("http-poller")
        hub.start_bridge()
        hub.online(60)
        eventually(lambda: announced(hub).keys() == {"cellar", "boiler", "meter"}, 60)
        hub.services.start("http-poller")
        eventually(lambda: announced(hub).keys() == DEVICES, 60)


# -- off, and taken back -------------------------------------------------------------------------------------------


def test_nothing_is_announced_unless_it_is_asked_for(hub: Hub) -> None:
    assert hub.witness.retained("homeassistant/#") == {}
    assert hub.witness.seen("homeassistant/#") == []


def test_what_is_gone_is_taken_back_and_nothing_of_others(client: str) -> None:
    with running_hub(client, config=ON) as hub:
        eventually(lambda: announced(hub).keys() == DEVICES, 60)
        before = kept(hub)
        foreign = {
            "homeassistant/device/0x00158d/config": b'{"o":{"name":"other"},"dev":{},"cmps":{}}',
            "homeassistant/device/other_hub_1/config": before["cellar"][1].replace(
                hub.instance_id.encode(), b"other_hub"
            ),
            "homeassistant/sensor/x/config": b"{}",
        }
        for topic, payload in foreign.items():
            hub.witness.publish(topic, payload, retain=True)
        hub.end_bridge()
        path = hub.directory / "instances" / f"{hub.instance_id}.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        sensors = {sensor["sensor_id"]: sensor for sensor in document["config"]["sensors"]}
        del sensors["plain"], sensors["boiler"]["properties"]["pump"]
        sensors["flaky"]["enabled"] = False
        document["config"] |= {"sensors": list(sensors.values()), "groups": []}
        path.write_text(json.dumps(document), encoding="utf-8")
        hub.services.stop_all()
        hub.services.reload(hub.environ)
        mark = hub.now()
        hub.start_bridge()
        hub.online()
        eventually(lambda: announced(hub).keys() == DEVICES - {"plain", "flaky"}, 60)
        eventually(lambda: "switch_pump" not in components(hub, "boiler"), 60)
        boiler = before["boiler"][0]

        def said() -> list[Any]:
            told = hub.witness.seen(boiler, after_s=mark)
            return [json.loads(m.payload)["cmps"].get("switch_pump") for m in told]

        eventually(lambda: {"p": "switch"} in said(), 60)  # this removes it
        assert foreign.items() <= hub.witness.retained("homeassistant/#").items()

        hub.end_bridge()
        hub.environ["HA_DISCOVERY"] = "false"
        hub.start_bridge()
        hub.online()
        eventually(lambda: hub.witness.retained("homeassistant/#") == foreign, 60)
