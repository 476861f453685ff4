"""What several test packages need: waiting for a fact instead of sleeping."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], within_s: float = 30.0) -> T:
    """Poll until `condition` is truthy and return it; AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {condition!r}, last result {result!r}")
        time.sleep(0.02)


# Below those that the system chooses itself, for another's connection perhaps; workers of one run share none.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_PORTS = random.sample(range(10_000 + 2_700 * _WORKER, 12_700 + 2_700 * _WORKER), 2_700)


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago, a new one each time."""
    while True:
        port = _PORTS.pop()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_ports(count: int) -> list[int]:
    """So many."""
    return [free_port() for _ in range(count)]
