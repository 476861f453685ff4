"""Where lines and endpoints are: checks of urls."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from answering import Json
from checks import WrongError, refuse, text

HWGREP = "hwgrep://"
NETWORK_SCHEMES = ("socket", "rfc2217")
_SERIAL = "a device path such as /dev/ttyUSB0, socket://host:port, rfc2217://host:port or hwgrep://expression"
_RFC2217_OPTIONS = {"ign_set_control", "poll_modem", "timeout"}


def serial_url(value: Json) -> str:
    """Check for the place of a serial line."""
    url = text(value)
    if url.startswith(HWGREP):
        hwgrep(url)
        return url
    if "://" not in url:
        if url.startswith("/"):
            return url
        raise refuse(_SERIAL, value)
    parts = _split(url, _SERIAL)
    good = parts.scheme in NETWORK_SCHEMES and parts.hostname and parts.port
    if not good or parts.path not in ("", "/") or parts.fragment or parts.username is not None:
        raise WrongError(f"must be {_SERIAL}")
    known = _RFC2217_OPTIONS if parts.scheme == "rfc2217" else set()
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise WrongError(f"unknown option {name!r} in the url")
    return url


def hwgrep(url: str) -> tuple[str, int]:
    """Expression and number (from 1) of `hwgrep://expression&n=2`."""
    expression, *options = url.removeprefix(HWGREP).split("&")
    number = 1
    for option in options:
        name, _, value = option.partition("=")
        if name != "n":
            raise WrongError(f"unknown option {name[:60]!r} in the url")
        if not value.isdecimal() or len(value) > 9 or int(value) < 1:
            raise WrongError("n in the url must be a whole number from 1")
        number = int(value)
    if not expression:
        raise WrongError(f"must be {_SERIAL}")
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongError(f"{expression[:60]!r} is no regular expression: {error}") from None
    return expression, number


def held_alone(url: str) -> str | None:
    """What only one transport may have of a serial line: its port, or that of a gateway; None elsewhere."""
    if url.startswith("/"):
        return url
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.scheme in NETWORK_SCHEMES else None
    except ValueError:
        return None


def tcp_url(value: Json) -> str:
    """Check for the place of a Modbus TCP device."""
    allowed = "tcp://host, tcp://host:port or host:port"
    url = text(value)
    parts = _split(url if "://" in url else f"tcp://{url}", allowed)
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    spaces = any(char.isspace() for char in parts.hostname or "")
    if parts.scheme != "tcp" or not parts.hostname or parts.port == 0 or extra or spaces:
        raise WrongError(f"must be {allowed}")
    return url


def http_url(value: Json) -> str:
    """Check for an endpoint; the message never repeats it (it may hold a secret)."""
    allowed = "http://host[:port]/path or https://host[:port]/path"
    url = text(value)
    parts = _split(url, allowed)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise WrongError(f"must be {allowed}")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise WrongError(f"must be {allowed}, without spaces")
    return url


def _split(url: str, allowed: str) -> Any:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise WrongError(f"must be {allowed}") from None
    return parts
