"""Devices that speak in lines of text: one prints by itself, in words or JSON, one answers requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from emulator.controls import Control, Controls, number
from emulator.faults import Faults

PRINT_PERIOD_S = 1.0
_PRESET = re.compile(r"P([-+]?\d{1,4}(?:\.\d*)?)", re.ASCII)


class Measured:
    """A value that is measured, or held."""

    def __init__(self, measure: Callable[[], float]) -> None:
        self._measure = measure
        self._held: float | None = None
        self._last: float | None = None

    def now(self, *, stuck: bool = False) -> float:
        """The value; while stuck the last one."""
        if not stuck or self._last is None:
            self._last = self._measure() if self._held is None else self._held
        return self._last

    def control(self, low: float, high: float, digits: int = 1) -> Control:
        """To look at it and to hold it."""
        return Control(
            lambda: round(self._measure() if self._held is None else self._held, digits),
            *number(self._hold, low, high),
            self._release,
        )

    def _hold(self, value: float) -> None:
        self._held = value

    def _release(self) -> None:
        self._held = None


class Printer(Controls):
    """An Arduino that prints temperature and humidity once a period; nothing can be asked of it."""

    listens = ends_at_cr = False

    def __init__(
        self,
        device_id: str,
        kind: str,
        faults: Faults,
        temperature: Callable[[], float],
        humidity: Callable[[], float],
    ) -> None:
        """`kind`: arduino, or arduino_json."""
        super().__init__(device_id, kind, faults)
        self._temperature, self._humidity = Measured(temperature), Measured(humidity)
        self._waited_s = 0.0
        self.controls = {
            "temperature": self._temperature.control(-3000, 3000),
            "humidity": self._humidity.control(0, 100),
        }

    def heard(self, data: bytes, *, stuck: bool = False) -> bytes:
        """It does not listen."""
        return b""

    def pass_time(self, seconds: float) -> None:
        """Wait for the next line."""
        self._waited_s += seconds

    def has_news(self, *, stuck: bool) -> bool:
        """Whether a period is over."""
        return self._waited_s >= PRINT_PERIOD_S

    def forget_news(self) -> None:
        """A line that nobody hears is not even measured."""
        self._waited_s = 0.0

    def take_said(self, *, stuck: bool = False) -> bytes:
        """The next line; stuck, the last one again."""
        self._waited_s = 0.0
        with self.lock:
            temperature = round(self._temperature.now(stuck=stuck), 1)
            humidity = round(self._humidity.now(stuck=stuck))
        if self.kind == "arduino_json":
            return json.dumps({"t": temperature, "air": {"h": humidity}}).encode() + b"\n"
        return f"T={temperature} H={humidity}\r\n".encode()


class Scale(Controls):
    """A scale: W asks for the weight, T sets the tare, P<n> presets it; anything else is an error."""

    ends_at_cr = False
    listens = True

    def __init__(self, device_id: str, kind: str, faults: Faults, weight: Callable[[], float]) -> None:
        """`weight` in kg."""
        super().__init__(device_id, kind, faults)
        self._weight = Measured(weight)
        self._tare = 0.0
        self._tare_told = Measured(lambda: self._tare)
        self.controls = {
            "weight": self._weight.control(-9999, 9999, 2),
            "tare": Control(lambda: round(self._tare, 2), *number(self._set_tare, -9999, 9999)),
        }

    def heard(self, data: bytes, *, stuck: bool = False) -> bytes:
        """The answers to the lines of `data`; stuck, weight and tare are what they were at the last request."""
        with self.lock:
            lines = [line.decode("latin-1").strip() for line in data.replace(b"\n", b"\r").split(b"\r")]
            return b"".join(self._answer(line, stuck) + b"\r\n" for line in lines if line)

    def pass_time(self, seconds: float) -> None:
        """It weighs whenever it is asked."""

    def has_news(self, *, stuck: bool) -> bool:
        """It says nothing by itself."""
        return False

    def forget_news(self) -> None:
        """There are none."""

    def take_said(self, *, stuck: bool = False) -> bytes:
        """Nothing."""
        return b""

    def _answer(self, line: str, stuck: bool) -> bytes:
        weight, tare = self._weight.now(stuck=stuck), self._tare_told.now(stuck=stuck)
        preset = _PRESET.fullmatch(line)
        if line == "W":
            return f"{_hundredths(weight - tare):+08.2f} kg".encode()
        if line == "?":
            return f"TARE {_hundredths(tare):.2f}".encode()
        if line != "T" and preset is None:
            return b"ERR 1"
        if not stuck:
            self._set_tare(weight if preset is None else float(preset[1]))
            self._tare_told.now()
        return b"OK"

    def _set_tare(self, tare: float) -> None:
        self._tare = tare


def _hundredths(value: float) -> float:
    """Rounded, and never less than nothing by a minus sign alone."""
    return round(value, 2) + 0.0
