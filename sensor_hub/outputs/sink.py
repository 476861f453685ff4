"""What a type of output is: where one follower's messages go. It neither follows, nor queues, nor retries.

A sink is used by one thread at a time. What it cannot deliver now it says with NotTakenError: the same messages come
again. So a message may come twice (with the same id), and is never skipped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sensor_hub.config.model import OutputConfig
from sensor_hub.config.options import Settings, problems_of
from sensor_hub.errors import Problem
from sensor_hub.readings import Json

NO_INFO: Mapping[str, Json] = {
    "name": "",
    "device_identifier": "",
    "manufacturer": "",
    "model": "",
    "serial_number": "",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One reading on its way out.

    `id` is the journal's, the same each time it is sent. `timestamp` (ISO 8601) is when the device was read. `data` is
    property -> value; a single unnamed one is `value`. `extra`: facts beside them (unit, emulated).
    """

    id: str
    device_id: str
    device_type: str
    timestamp: str
    quality: str
    source_transport: str
    target_transport: str
    data: Mapping[str, Json]
    source_transport_info: Mapping[str, Json]
    extra: Mapping[str, Json]

    def body(self) -> dict[str, Json]:
        """As outputs write it."""
        return {
            "id": self.id,
            "timestamp": self.timestamp,
            "device_id": self.device_id,
            "type": self.device_type,
            "data": dict(self.data),
            "quality": self.quality,
            **self.extra,
            "source_transport": self.source_transport,
            "target_transport": self.target_transport,
            "source_transport_info": dict(self.source_transport_info),
        }


@dataclass(frozen=True, slots=True)
class Batching:
    """A batch is sent when it has `size` messages, or its oldest has waited so long."""

    size: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """So many messages of a batch the receiver will never take; it has the others."""

    count: int
    reason: str


class NotTakenError(Exception):
    """The receiver has not got the batch, or perhaps not all of it; the message says why, for people.

    `retry_after_s`: the receiver's own word for when to come again.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Sink(ABC):
    """One type of output."""

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]
    pause_s: ClassVar[tuple[float, float]] = (
        1.0,
        60.0,
    )  # after a failure: the first, doubling up to the last

    @abstractmethod
    def __init__(self, output: OutputConfig, instance_id: str, folder: Path) -> None:
        """Take validated configuration (see `check`); open nothing. `folder`: where the instance's files are kept."""

    @property
    @abstractmethod
    def batching(self) -> Batching:
        """How many messages `send` wants at once."""

    @abstractmethod
    def send(self, messages: Sequence[Message]) -> Refused | None:
        """Deliver all of them: they are the receiver's when this returns. Raises NotTakenError, nothing else.

        Returns how many it refused for good. Takes at most some seconds.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; never raises; may be called twice."""

    @classmethod
    def check(cls, output: OutputConfig) -> Iterator[Problem]:
        """Every problem of its options."""
        yield from problems_of(cls.settings, output.options, output.path)
