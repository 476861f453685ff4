"""The short reason inside a library's exception, without the address (and its secrets) around it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all it was made from (causes, contexts, wrapped arguments), each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        waiting += [item for item in inner if isinstance(item, BaseException)]


def reason_of(error: BaseException) -> str:
    """Like `Connection refused`: the system's word for it, else the exception's kind."""
    return next((word for word in map(_word, causes(error)) if word), type(error).__name__)


def _word(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate not accepted ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({error.reason})"
        case socket.gaierror():
            return str(error.strerror)
        case OSError(errno=int(number)):
            return os.strerror(number)
        case TimeoutError():
            return "timed out"
        case IncompleteRead():
            return "the answer was cut short"
        case ConnectionError():
            return "the other side closed the connection"
        case HTTPException():
            return "no HTTP answer"
    return None
