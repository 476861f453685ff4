"""What a paho client lacks, whichever of the platform's clients wraps it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

CONFIRMED_WITHIN_S = 0.05


def chain(client: mqtt.Client, name: str, ours: Callable[..., None], *, first: bool = False) -> None:
    """Call the client's own callback and ours; both callback versions of paho pass through."""
    theirs = getattr(client, name) or (lambda *_: None)
    callbacks = (ours, theirs) if first else (theirs, ours)

    def both(*args: Any) -> None:
        for callback in callbacks:
            callback(*args)

    setattr(client, name, both)


def words(reason: Any, of_number: Callable[[Any], str]) -> str:
    """Why, for people: callbacks of version 1 have a number, those of version 2 an object that says it."""
    return of_number(reason) if isinstance(reason, int) else str(reason)


def hang_up(client: mqtt.Client) -> None:
    """End the connection as a network does; the client makes a new one and sends again what is owed."""
    connection = client.socket()
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            # Not TLS's own method: that takes away what the client's thread reads with.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class HandedOver:
    """Messages with QoS 1 that the client has, by its numbers. Not thread-safe.

    Its `on_publish` alone is no acknowledgement: a message with QoS 0 may have the number of one that is owed.
    """

    def __init__(self) -> None:
        self._owed: dict[int, mqtt.MQTTMessageInfo] = {}

    def note(self, info: mqtt.MQTTMessageInfo) -> int:
        """The number of a message that the client keeps, also if there is no connection just now."""
        info.rc = mqtt.MQTT_ERR_SUCCESS
        self._owed[info.mid] = info
        return info.mid

    def confirms(self, number: int) -> bool:
        """Whether it is acknowledged, once `on_publish` has said so: paho notes it a moment later."""
        info = self._owed.get(number)
        if info is not None:
            info.wait_for_publish(CONFIRMED_WITHIN_S)
            if not info.is_published():
                return False
            del self._owed[number]
        return True
