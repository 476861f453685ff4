"""What an output is to the bridge: a place to publish to that comes and goes, and a source of requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One outgoing message: full topic, text payload (empty and retained: clears the topic).

    One that `can_wait` is refused where many wait already: its sender sends it later.
    """

    topic: str
    payload: str
    retain: bool = False
    can_wait: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """Connected, and every subscription acknowledged: now it makes sense to say so."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; the output reconnects alone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """A message somebody sent us, `topic` below the instance's prefix."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Retained:
    """A message that the receiver still keeps from an earlier life of this instance; `topic` below the prefix."""

    topic: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that was listened for; `topic` is the full one."""

    topic: str
    payload: bytes
    retained: bool


Event = Connected | Disconnected | Request | Retained | Heard


class Output(Protocol):
    """Thread-safe. Events come on a foreign thread: whoever takes them must only enqueue."""

    @property
    def name(self) -> str:
        """The word that a device's `bridge` uses for it."""

    @property
    def connected(self) -> bool:
        """Whether a message published now has a way to go."""

    def problem(self) -> str:
        """What is wrong with the connection, in words; empty when nothing is known to be. Never waits.

        Called every few seconds: it also asks a receiver that is silent for a sign of life.
        """

    def start(self, take: Callable[[Event], None]) -> None:
        """Begin to connect in the background, for ever."""

    def publish(self, message: Message) -> bool:
        """Send; False when it was not taken (not connected, too many waiting) and is lost. Never waits."""

    def hand_over(self, message: Message) -> int | None:
        """Send what must not be lost: the number by which it is acknowledged; None: not taken. Never waits.

        What was taken is sent again by the output itself after a reconnect, before anything newer.
        """

    def when_acknowledged(self, call: Callable[[int], None]) -> None:
        """`call` for each message that the receiver seems to have acknowledged, on a foreign thread: it must not wait.

        Whoever handed it over then asks `confirms`, again after a while if it does not.
        """

    def confirms(self, number: int) -> bool:
        """Whether the message of that number is acknowledged. For the thread that hands over; hardly waits."""

    def listen(self, topic_filter: str) -> None:
        """Report messages outside the instance's topics as Heard events, also after a reconnect."""

    def stop_listening(self, topic_filter: str) -> None:
        """End what `listen` began."""

    def forget_retained(self) -> None:
        """Stop reporting Retained events (whatever was there has been seen)."""

    def stop(self) -> None:
        """Say goodbye (`offline`) and disconnect, within about 2 s."""
