"""Walks through the flows for emulated sensors and for Modbus: what a person fills in, and what comes of it."""

from __future__ import annotations

from typing import Any

from tests.contract.setup_places import HUB, Places, Walk

READ_225 = {"number_table": "input", "address": 1, "scale": 0.1, "unit_id": 3, "try_it": True}
TEMP = {"sensor_id": "temp_cellar", **READ_225}


def emulated(_: Places) -> Walk:
    more = '# two more\nhum_kitchen humidity\n\nmotion_hall motion friendly_name="Hall, upstairs"'
    sensor = {
        "sensor_id": "temp_living",
        "sensor_type": "temperature",
        "friendly_name": "Living",
        "more": more,
    }
    return Walk(
        "emulated",
        {"hub": {**HUB, "update_interval": 7, "cache_ttl": 0}, "sensor": sensor},
        {
            "temp_living": ("temperature", "emulator", 1),
            "hum_kitchen": ("humidity", "emulator", 2),
            "motion_hall": ("motion", "http:motion_hall", None),
        },
    )


def serial_port(at: Places) -> Walk:
    sensor = {"sensor_id": "kitchen", "unit_id": 1, "scale": 0.1, "try_it": True, "stale_after": "60"}
    more = "bath humidity unit_id=2 table=input address=0 data_type=int16 scale=0.1 stale_after=90"
    return Walk(
        "modbus_manual",
        {
            "hub": HUB,
            "line": {"url": at.emulated.pty, "read_interval": 0.5},
            "sensor": {**sensor, "more": more},
        },
        {"kitchen": ("temperature", "line", 1), "bath": ("humidity", "line", 2)},
    )


def socket_url(at: Places) -> Walk:
    line = {"url": f"socket://127.0.0.1:{at.rtu}", "baudrate": "9600", "parity": "E"}
    sensor = {**TEMP, "address": 20, "data_type": "int32", "unit": "°C", "offset": 5}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"temp_cellar": ("temperature", "line", 3)},
    )


def remote_port(at: Places) -> Walk:
    line = {"driver": "modbus_rtu", "url": at.remote.url, "baudrate": "57600", "stopbits": "2"}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": TEMP},
        {"temp_cellar": ("temperature", "line", 3)},
    )


def modbus_tcp(at: Places) -> Walk:
    line = {
        "driver": "modbus_tcp",
        "host": "127.0.0.1",
        "tcp_port": at.tcp,
        "read_interval": 1,
        "timeout_s": 1,
    }
    sensor = {
        "sensor_id": "setpoint",
        "sensor_type": "generic",
        "number_table": "holding",
        "address": 10,
        "scale": 0.1,
    }
    limits = {"write": True, "min": "30", "max": "75", "step": "0.5"}
    more = "pump generic unit_id=3 table=coil address=2 write=true\ndoor generic unit_id=3 table=discrete address=5"
    return Walk(
        "modbus_manual",
        {
            "hub": HUB,
            "line": line,
            "sensor": {**sensor, **limits, "unit_id": 3, "more": more, "try_it": True},
        },
        {"setpoint": ("generic", "line", 3), "pump": ("generic", "line", 3), "door": ("generic", "line", 3)},
    )


def switch(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp}
    sensor = {
        "sensor_id": "door",
        "sensor_type": "generic",
        "value_kind": "switch",
        "address": 5,
        "unit_id": 3,
        "try_it": True,
    }
    return Walk(
        "modbus_manual", {"hub": HUB, "line": line, "sensor": sensor}, {"door": ("generic", "line", 3)}
    )


def device_definition(at: Places) -> Walk:
    sensor = {
        **{"sensor_id": "kitchen", "registers": "map", "register_map": "emulator_temperature", "unit_id": 1},
        **{"include": "value, setpoint", "write": True, "try_it": True},
    }
    more = "bath generic unit_id=2 register_map=emulator_humidity include=value delay_ms=5"
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": {"url": at.emulated.pty, "delay_ms": 1}, "sensor": {**sensor, "more": more}},
        {"kitchen": ("generic", "line", 1), "bath": ("generic", "line", 2)},
    )


def own_definition(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp}
    own = {"registers": "map", "register_map": "own", "own_map": "boiler controller"}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": {"sensor_id": "boiler", "unit_id": 255, **own}},
        {"boiler": ("generic", "line", 255)},
        own_map="boiler controller",
    )


def parts_of_registers(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp}
    more = (
        "mode generic table=holding address=10 bit=4 bits=2 values.0=off values.1=on write=true\n"
        "name generic table=holding address=0 data_type=string length=4 read_interval=3600\n"
        "level generic table=holding address=3 allowed=0,5,7.5 scale=0.5 write=true max_registers=10"
    )
    sensor = {"sensor_id": "a", "data_type": "int64", "byte_order": "little", "more": more}
    return Walk(
        "modbus_manual",
        {"hub": HUB, "line": line, "sensor": sensor},
        {
            "a": ("temperature", "line", 1),
            **dict.fromkeys(("mode", "name", "level"), ("generic", "line", None)),
        },
    )


def every(values: list[Any]) -> list[Any]:
    return values


def searched_port(at: Places) -> Walk:
    line = {"url": at.emulated.pty, "last_unit": 3, "unit_timeout_s": 2.0}
    sensor = {"scale": 0.1, "name": "Room", "try_it": True}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"unit_1": ("temperature", "line", 1), "unit_2": ("temperature", "line", 2)},
        {"units": every},
    )


def listed_port(at: Places) -> Walk:
    line = {"list_ports": True, "last_unit": 2, "unit_timeout_s": 3.0}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": {"prefix": "room", "sensor_type": "humidity", "scale": 0.1}},
        {"room_2": ("humidity", "line", 2)},
        {"port": lambda _: at.emulated.pty, "units": lambda found: [found[-1]]},
    )


def searched_tcp(at: Places) -> Walk:
    line = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": at.tcp, "first_unit": 2, "last_unit": 4}
    sensor = {"address": 1, "scale": 0.1, "try_it": True}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"unit_3": ("temperature", "line", 3)},
        {"units": lambda found: [unit for unit in found if unit == 3]},
    )


def searched_definition(at: Places) -> Walk:
    line = {"url": at.emulated.pty, "last_unit": 2, "unit_timeout_s": 3.0}
    sensor = {"registers": "map", "register_map": "emulator_generic", "prefix": "dev", "try_it": True}
    return Walk(
        "modbus_scan",
        {"hub": HUB, "line": line, "sensor": sensor},
        {"dev_1": ("generic", "line", 1), "dev_2": ("generic", "line", 2)},
        {"units": every},
    )
