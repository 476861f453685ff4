"""How busy a serial line would be with what is read from it, as the hub works it out before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import device_maps
import rules_text
from checks import Problems
from rules_register import BIT_TABLES, count_of
from serial_lines import USUAL_BAUDRATES

_REQUEST_AND_ENVELOPE_BYTES = 13
_ANSWER_LATENCY_S = 0.005
_GAP_CHARS, _GAP_MIN_S = 3.5, 0.00175
_RAPI_QUERIES_S = (*[0.0] * 3, 30.0, *[60.0] * 6, *[3600.0] * 2)
_RAPI_CHARS = 64

Item = dict[str, Any]


def check(
    transports: Sequence[Item], places: Sequence[str], sensors: Sequence[Item], problems: Problems
) -> None:
    """A problem for each checked line that would be busy for more than all of its time."""
    for line, place in zip(transports, places, strict=True):
        on_it = [
            item
            for item in sensors
            if item.get("transport") == line["transport_id"] and item.get("enabled", True)
        ]
        share = _share(line, on_it)
        if share > 1:
            told = f"would be busy {100 * share:.0f} % of the time with what is read from it"
            problems.add(place, f"{told}: read less often, or raise the speed")


def _share(line: Item, sensors: Sequence[Item]) -> float:
    driver, interval_s = line["driver"], float(line.get("read_interval", 5))
    is_socket = line["url"].startswith("socket:")
    if (
        driver not in USUAL_BAUDRATES
        or not sensors
        or is_socket
        and (driver != "modbus_rtu" or "baudrate" not in line)
    ):
        return 0.0  # only a gateway knows how fast it is
    bits = 1 + line.get("bytesize", 8) + (line.get("parity", "N") != "N") + line.get("stopbits", 1)
    char_s: float = bits / line.get("baudrate", USUAL_BAUDRATES[driver])
    if driver == "rapi":
        return sum(_RAPI_CHARS * char_s / max(each_s, interval_s) for each_s in _RAPI_QUERIES_S)
    if driver == "ascii_line":
        ends = len(rules_text.end_of(line, "send_terminator")) + len(rules_text.end_of(line))
        asked = [str(sensor["request"]) for sensor in sensors if "request" in sensor]
        return sum((len(request) + ends + 1) * char_s / interval_s for request in asked)
    return sum(_modbus_shares(line, sensors, char_s))


def _modbus_shares(line: Item, sensors: Sequence[Item], char_s: float) -> Iterator[float]:
    """Of each request: what it and its answer take of the line's time."""
    gap_s = max(_GAP_CHARS * char_s, _GAP_MIN_S)
    units: dict[int, list[Item]] = {}
    for sensor in sensors:
        units.setdefault(sensor.get("unit_id", 1), []).append(sensor)
    for devices in units.values():
        options = [device_maps.options_of(sensor) for sensor in devices]
        delay_s = max(line.get("delay_ms", 0), *(each.get("delay_ms", 0) for each in options)) / 1000
        at_once = min(each.get("max_registers", 125) for each in options)
        over = min(each.get("max_gap", 8) for each in options)
        by_kind: dict[tuple[float, str], list[tuple[int, int]]] = {}
        for sensor in devices:
            for register in device_maps.of_sensor(sensor).values():
                if register.get("read", True):
                    interval_s = float(register.get("read_interval") or line.get("read_interval", 5))
                    by_kind.setdefault((interval_s, register["table"]), []).append(
                        (register["address"], count_of(register))
                    )
        for (interval_s, table), spans in by_kind.items():
            of_bits = 16 if table in BIT_TABLES else 1
            for count in _requests(sorted(spans), at_once * of_bits, over * of_bits):
                content = -(-count // 8) if of_bits > 1 else 2 * count
                frames_s = (_REQUEST_AND_ENVELOPE_BYTES + content) * char_s
                yield (frames_s + max(gap_s, _ANSWER_LATENCY_S) + max(gap_s, delay_s)) / interval_s


def _requests(spans: Sequence[tuple[int, int]], at_once: int, over: int) -> Iterator[int]:
    """How much each request reads: neighbours together."""
    start, end = spans[0][0], sum(spans[0])
    for address, count in spans[1:]:
        if address - end <= over and max(end, address + count) - start <= at_once:
            end = max(end, address + count)
        else:
            yield end - start
            start, end = address, address + count
    yield end - start
