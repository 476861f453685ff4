"""What a worker and its owner say to each other; they may live in two processes, so everything here pickles.

A request has an id, and its answer has the same. What has no id is news, of whatever kind the job has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sensor_hub.errors import HubError


@dataclass(frozen=True, slots=True)
class Request:
    """Base of what a job can be asked. After `deadline` (monotonic) nobody waits any more.

    An `at_once` one is answered beside the work, by whoever receives it.
    """

    id: str  # UUID
    deadline: float
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """To the request of that id: its result, or why there is none."""

    id: str
    result: Any = None
    error: HubError | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life from a process whose job promises them (see `Job.patience_s`)."""


class Control(StrEnum):
    """What an owner says to the whole worker."""

    STOP = "stop"
