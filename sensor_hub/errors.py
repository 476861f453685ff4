"""Every failure of the hub, once: its class, its code on the wire and its HTTP status.

Errors are raised where they happen and translated once at each border: the web layer
turns them into status and body, a client turns status and body back into the same class,
the bridge turns them into an MQTT error code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class HubError(Exception):
    """Base of all failures with a wire code. `str(error)` is the message for people.

    `extra`: further JSON facts that stand beside code and message in an answer's body.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.extra: Mapping[str, Any] = extra

    def again(self) -> HubError:
        """The same failure to be raised once more, without the trace of this one (which keeps requests alive)."""
        return from_code(self.code, str(self), **self.extra)


class InvalidCommand(HubError):
    """The command is not an object, is empty, or names a wrong property or type."""

    code, status = "INVALID_COMMAND", 400


class ValueOutOfRange(HubError):
    """A command's value is outside min..max or off the step."""

    code, status = "VALUE_OUT_OF_RANGE", 400


class StaleCommand(HubError):
    """The command was written more than 30 s ago."""

    code, status = "STALE_COMMAND", 400


class ReadOnly(HubError):
    """The device or property cannot be written."""

    code, status = "READ_ONLY", 403


class UnknownSensor(HubError):
    """No such sensor in this handler's configuration."""

    code, status = "UNKNOWN_SENSOR", 404


class UnknownDevice(HubError):
    """No such device in this instance's configuration."""

    code, status = "UNKNOWN_DEVICE", 404


class UnknownGroup(HubError):
    """No such group in this instance's configuration."""

    code, status = "UNKNOWN_GROUP", 404


class NoCache(HubError):
    """The sensor was never read well."""

    code, status = "NO_CACHE", 404


class NotFound(HubError):
    """No such path."""

    code, status = "NOT_FOUND", 404


class MethodNotAllowed(HubError):
    """The path exists, the method does not."""

    code, status = "METHOD_NOT_ALLOWED", 405


class PayloadTooLarge(HubError):
    """A request body over the limit."""

    code, status = "PAYLOAD_TOO_LARGE", 413


class UnsupportedMediaType(HubError):
    """A body that does not call itself JSON."""

    code, status = "UNSUPPORTED_MEDIA_TYPE", 415


class DeviceRefused(HubError):
    """The device answered, and the answer was no; the message holds its reason."""

    code, status = "DEVICE_REFUSED", 502


class ReadTimeout(HubError):
    """The device did not answer in time."""

    code, status, retryable = "READ_TIMEOUT", 503, True


class ReadFailed(HubError):
    """The device answered something that is no reading (checksum, framing, HTTP status, shape)."""

    code, status, retryable = "READ_FAILED", 503, True


class BrokenFrame(ReadFailed):
    """An answer came damaged (checksum, length); on the wire the same as any that is no reading."""


class TransportDown(HubError):
    """The line itself is gone: port missing, connection refused, worker lost."""

    code, status, retryable = "TRANSPORT_DOWN", 503, True


class SensorUnavailable(HubError):
    """Not read yet, or offline."""

    code, status, retryable = "SENSOR_UNAVAILABLE", 503, True


class HandlerUnreachable(HubError):
    """The service that owns the device does not answer, or answers for another instance."""

    code, status, retryable = "HANDLER_ERROR", 503, True


class Busy(HandlerUnreachable):
    """The service has as many requests as it takes; on the wire the same as one that does not answer."""


class Unreadable(HandlerUnreachable):
    """The service answers something that cannot be read; on the wire the same as one that does not answer."""


class CircuitOpen(HubError):
    """The device failed so often that it is only probed now and then."""

    code, status, retryable = "CIRCUIT_OPEN", 503, True


class Disabled(HubError):
    """The device is switched off in the configuration."""

    code, status = "DISABLED", 503


class CommandTimeout(HubError):
    """No answer to a command within its timeout; it may or may not have been carried out."""

    code, status = "COMMAND_TIMEOUT", 504


def _family(cls: type[HubError]) -> list[type[HubError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _family(sub))]


# Of classes with the same code the first, which is the parent.
BY_CODE: dict[str, type[HubError]] = {cls.code: cls for cls in reversed(_family(HubError))}


def from_code(code: str, message: str, **extra: Any) -> HubError:
    """The error that a wire code stands for; an unknown code is a failed handler."""
    cls = BY_CODE.get(code)
    return cls(message, **extra) if cls is not None else HandlerUnreachable(f"{code}: {message}", **extra)


def defect() -> HubError:
    """What whoever asked is told when we met a defect of our own; its trace is in the log."""
    return HubError("internal error, see the log")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: where (JSON path or variable) and what is allowed.

    Not `fatal`: a warning, the hub starts all the same.
    """

    path: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Holds every problem found, not just the first."""

    exit_code: ClassVar[int] = 78  # EX_CONFIG of sysexits.h

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
