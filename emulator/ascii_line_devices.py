"""Devices that speak in lines of text: one prints by itself, in words or JSON, one answers requests."""

from __future__ import annotations

import json
from collections.abc import Callable

PRINT_PERIOD_S = 1.0


class Printer:
    """An Arduino that prints temperature and humidity once a period; nothing can be asked of it."""

    def __init__(
        self, temperature: Callable[[], float], humidity: Callable[[], float], *, as_json: bool
    ) -> None:
        self._temperature, self._humidity, self._as_json = temperature, humidity, as_json
        self._waited_s = 0.0
        self._said = b""

    def heard(self, data: bytes) -> bytes:
        """It does not listen."""
        return b""

    def pass_time(self, seconds: float) -> None:
        """Print when a period is over."""
        self._waited_s += seconds
        if self._waited_s >= PRINT_PERIOD_S:
            self._waited_s = 0.0
            self._said += self.line()

    def line(self) -> bytes:
        """One line as it prints it."""
        temperature, humidity = round(self._temperature(), 1), round(self._humidity())
        if self._as_json:
            return json.dumps({"t": temperature, "air": {"h": humidity}}).encode() + b"\n"
        return f"T={temperature} H={humidity}\r\n".encode()

    def take_said(self) -> bytes:
        """What it printed, once."""
        said, self._said = self._said, b""
        return said


class Scale:
    """A scale: W asks for the weight, T sets the tare, P<n> presets it; anything else is an error."""

    def __init__(self, weight: Callable[[], float]) -> None:
        """`weight` in kg."""
        self._weight = weight
        self._tare = 0.0
        self._heard = b""

    def heard(self, data: bytes) -> bytes:
        """The answers to the requests that `data` completes."""
        *lines, self._heard = (self._heard + data).replace(b"\r\n", b"\r").split(b"\r")
        return b"".join(
            self._answer(line.decode("latin-1").strip()) + b"\r\n" for line in lines if line.strip()
        )

    def pass_time(self, seconds: float) -> None:
        """It weighs whenever it is asked."""

    def take_said(self) -> bytes:
        """It says nothing by itself."""
        return b""

    def _answer(self, line: str) -> bytes:
        if line == "W":
            return f"{self._weight() - self._tare:+08.2f} kg".encode()
        if line == "?":
            return f"TARE {self._tare:.2f}".encode()
        if line == "T":
            self._tare = self._weight()
            return b"OK"
        try:
            self._tare = float(line.removeprefix("P"))
        except ValueError:
            return b"ERR 1"
        return b"OK"
