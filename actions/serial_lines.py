"""Opening the serial line of a transport, wherever it is: a port, one found by its hardware, socket://, rfc2217://."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import serial_ports
from answering import ToolError
from byte_streams import Stream, connected, opened_port, reason_of, telnet
from expressions import regex_problem
from urls import HWGREP, hwgrep

CONNECT_S = 5.0
USUAL_BAUDRATES = {"modbus_rtu": 19200, "rapi": 115_200, "ascii_line": 9600}
_NAMES_MAX_CHARS = 300


@contextmanager
def opened_line(transport: dict[str, Any], timeout_s: float) -> Iterator[Stream]:
    """The line of a checked transport. Raises ToolError saying why it cannot be had, or that it was lost."""
    url = str(transport["url"])
    settings = {"baudrate": USUAL_BAUDRATES[transport["driver"]], **transport}
    stream: Stream
    if url.startswith(HWGREP):
        stream = opened_port(_matching(url), settings)
    elif "://" not in url:
        stream = opened_port(url, settings)
    else:
        parts = urlsplit(url)
        stream = connected(parts.hostname or "", parts.port or 0, min(CONNECT_S, timeout_s))
        if parts.scheme == "rfc2217":
            stream = telnet(stream, settings)
    try:
        yield stream
    except OSError as error:
        raise ToolError("line_lost", f"{url} is gone: {reason_of(error)}", retriable=True) from None
    finally:
        stream.close()


def _matching(url: str) -> str:
    """Path of the port whose name, description or hardware id matches, now."""
    expression, number = hwgrep(url)
    problem = regex_problem(expression, _NAMES_MAX_CHARS)
    if problem:
        raise ToolError("no_port", f"the expression in {url[:80]} {problem}; it is not looked up here")
    ports = sorted(serial_ports.listed(), key=lambda port: str(port["device"]))
    found = [
        str(port["device"])
        for port in ports
        if any(
            re.search(expression, port[key][:_NAMES_MAX_CHARS], re.IGNORECASE)
            for key in ("device", "product", "hardware_id")
        )
    ]
    if len(found) >= number:
        return found[number - 1]
    few = f"only {len(found)} ports match" if found else "no port matches"
    there = ", ".join(f"{port['device']} ({port['hardware_id']})" for port in ports)
    hint = f"there are {there}" if there else "there is no port at all"
    raise ToolError("no_port", f"cannot open {url[:80]}: {few}; {hint} in the tool's own container")
