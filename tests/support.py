"""What several test packages need: waiting for a fact instead of sleeping."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], within_s: float = 10.0) -> T:
    """Poll until `condition` is truthy and return it; AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {condition!r}, last result {result!r}")
        time.sleep(0.02)


_GIVEN: set[int] = set()  # the system may choose the same one twice


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago, a new one each time."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def free_ports(count: int) -> list[int]:
    """So many."""
    return [free_port() for _ in range(count)]
