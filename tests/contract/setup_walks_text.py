"""Walks through the flows for chargers and devices that speak in lines of text."""

from __future__ import annotations

from tests.contract.setup_places import HUB, Places, Walk


def charger(at: Places) -> Walk:
    sensor = {
        "sensor_id": "wallbox",
        "friendly_name": "Garage",
        "write": True,
        "stop": "disable",
        "try_it": True,
    }
    return Walk(
        "charger",
        {"hub": HUB, "line": {"url": at.charger, "profile": "firmware"}, "sensor": sensor},
        {"wallbox": ("generic", "line", None)},
    )


def printed_value(at: Places) -> Walk:
    sensor = {"sensor_id": "air", "sensor_type": "temperature", "regex": r"T=([-\d.]+)", "try_it": True}
    more = r"damp humidity regex='H=(\d+)' unit=% stale_after=20"
    return Walk(
        "text",
        {"hub": HUB, "line": {"url": at.printer, "timeout_s": 2}, "sensor": {**sensor, "more": more}},
        {"air": ("temperature", "line", None), "damp": ("humidity", "line", None)},
    )


def printed_values(at: Places) -> Walk:
    second = {"two": True, "name": "temperature", "name_2": "humidity", "regex_2": r"H=(\d+)", "unit_2": "%"}
    sensor = {"sensor_id": "air", "regex": r"T=([-\d.]+)", "unit": "°C", **second, "try_it": True}
    return Walk(
        "text",
        {"hub": HUB, "line": {"url": at.printer, "terminator": "lf"}, "sensor": sensor},
        {"air": ("generic", "line", None)},
    )


def asked_value(at: Places) -> Walk:
    line = {"url": at.scale, "baudrate": "1200", "parity": "E", "bytesize": "7", "encoding": "ascii"}
    sensor = {
        **{"sensor_id": "tare", "speaks": "asked", "request": "?", "regex": r"TARE (\d+\.\d+)", "unit": "kg"},
        **{
            "write": True,
            "command": "P{value:.2f}",
            "answer": "^OK",
            "min": "0",
            "max": "10",
            "try_it": True,
        },
    }
    more = r"weight generic request=W regex='([-+]\d+\.\d+) kg' unit=kg"
    return Walk(
        "text",
        {"hub": HUB, "line": line, "sensor": {**sensor, "more": more}},
        {"tare": ("generic", "line", None), "weight": ("generic", "line", None)},
    )


def asked_json(at: Places) -> Walk:
    second = {"two": True, "name": "net", "name_2": "tare", "path_2": "weights.1"}
    sensor = {"sensor_id": "scale", "speaks": "asked", "request": "J", "find": "json", "path": "weights.0"}
    return Walk(
        "text",
        {"hub": HUB, "line": {"url": at.scale}, "sensor": {**sensor, **second, "try_it": True}},
        {"scale": ("generic", "line", None)},
    )
