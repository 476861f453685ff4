"""An OpenEVSE charger as RAPI shows it, in the two dialects there are: real firmware and its emulator.

Pure: bytes in, bytes out. What it says unasked is kept in `said` until somebody takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.rapi_lines import LineReader, framed

AMPS_MIN, AMPS_MAX, AMPS_CONFIGURED = 6, 80, 32
MILLIVOLTS = 240_000
READY, CONNECTED, CHARGING, GFCI_TRIP = 0x01, 0x02, 0x03, 0x06
SLEEPING, DISABLED = 0xFE, 0xFF
EMU_SLEEPING, EMU_ERROR = 0xFD, 0xFE
LOCKED, TIME_LIMIT, RELAY_CLOSED, EV_CONNECTED, CHARGE_LIMIT = 0x0008, 0x0010, 0x0040, 0x0100, 0x2000
EMU_GFCI = 0x0001


@dataclass(slots=True)
class Vehicle:
    """What stands at the other end of the cable."""

    plugged: bool = False
    asks_for_charge: bool = False


class Charger:
    """One charger. `dialect`: "firmware" or "emulator"."""

    def __init__(self, dialect: str = "firmware") -> None:
        self.dialect = dialect
        self.vehicle = Vehicle()
        self.amps = 16 if self._is_firmware else AMPS_CONFIGURED
        self.off: int | None = None  # SLEEPING or DISABLED
        self.locked = self.faulty = False
        self.gfci_trips = 0
        self.session_s = 0.0
        self.session_ws = self.total_wh = 0.0
        self.limit_quarters = self.limit_kwh = 0
        self.service_level = "A"
        self.said = b""
        self._reader = LineReader(self._is_firmware, self._answer)
        self._commands: dict[str, Callable[[list[str]], str | None]] = self._table()

    @property
    def _is_firmware(self) -> bool:
        return self.dialect == "firmware"

    @property
    def pilot(self) -> int:
        """1: nobody there, 2: connected, 3: the car asks for charge."""
        if not self.vehicle.plugged:
            return READY
        return CHARGING if self.vehicle.asks_for_charge else CONNECTED

    @property
    def state(self) -> int:
        """The number that $GS says, by dialect."""
        if self.faulty:
            return GFCI_TRIP if self._is_firmware else EMU_ERROR
        if self.off is not None:
            return self.off if self._is_firmware else EMU_SLEEPING
        return CONNECTED if self.pilot == CHARGING and self.locked else self.pilot

    @property
    def flags(self) -> int:
        """The flags that $GS says, by dialect."""
        flags = EV_CONNECTED if self.vehicle.plugged else 0
        flags |= RELAY_CLOSED if self.state == CHARGING else 0
        if self._is_firmware:
            flags |= LOCKED if self.locked else 0
            flags |= TIME_LIMIT if self.limit_quarters else 0
            return flags | (CHARGE_LIMIT if self.limit_kwh else 0)
        return flags | (EMU_GFCI if self.faulty else 0)

    def heard(self, data: bytes) -> bytes:
        """What it answers to bytes from the line."""
        return self._reader.feed(data)

    def pass_time(self, seconds: float) -> None:
        """Let a session go on."""
        if self.vehicle.plugged:
            self.session_s += seconds
        if self.state == CHARGING:
            joules = self.amps * MILLIVOLTS / 1000 * seconds
            self.session_ws += joules
            self.total_wh += joules / 3600

    def plug(self) -> None:
        """A car comes that does not charge yet, or one that is there has enough."""
        if not self.vehicle.plugged:
            self.session_s = self.session_ws = 0.0
        self.vehicle.plugged, self.vehicle.asks_for_charge = True, False
        self._say_transition()

    def ask_for_charge(self) -> None:
        """The car wants to charge."""
        self.vehicle.asks_for_charge = True
        self._say_transition()

    def unplug(self) -> None:
        """The car goes."""
        self.vehicle.plugged = self.vehicle.asks_for_charge = False
        self._say_transition()

    def trip(self) -> None:
        """The GFCI trips."""
        self.faulty, self.gfci_trips = True, self.gfci_trips + 1
        self._say_transition()

    def clear(self) -> None:
        """The fault is gone."""
        self.faulty = False
        self._say_transition()

    def boot(self) -> None:
        """It has just been switched on."""
        self.said += framed("AB 00 8.2.1")

    def take_said(self) -> bytes:
        """What it said unasked, once."""
        said, self.said = self.said, b""
        return said

    def _say_transition(self) -> None:
        self.said += framed(f"AT {self.state:02X} {self.pilot:02X} {self.amps} {self.flags:04X}")

    # -- commands: None is NK, a text after `!` is NK with that text -----------------------------------------

    def _answer(self, words: list[str]) -> str | None:
        command = self._commands.get(words[0]) if words else None
        try:
            return None if command is None else command(words[1:])
        except (ValueError, IndexError):
            return None

    def _table(self) -> dict[str, Callable[[list[str]], str | None]]:
        shared: dict[str, Callable[[list[str]], str | None]] = {
            "GS": lambda _: f"{self.state:02X} {int(self.session_s)} {self.pilot:02X} {self.flags:04X}",
            "GG": self._current,
            "GP": lambda _: "242 -2560 251" if self._is_firmware else "242 242 0 0",
            "GU": self._energy,
            "GC": lambda _: f"{AMPS_MIN} {AMPS_MAX} {self._pilot_amps} {AMPS_CONFIGURED}",
            "GE": self._settings,
            "GF": lambda _: f"{self.gfci_trips:{'X' if self._is_firmware else 'd'}} 0 0",
            "GV": lambda _: "8.2.1 5.2.1" if self._is_firmware else "8.2.1 5.0.1",
            "GI": lambda _: " OpenEVSE03AB12CD" if self._is_firmware else "OpenEVSE03AB12CD",
            "GH": lambda _: f"{self.limit_kwh if self._is_firmware else 0}",
            "SC": self._set_current,
            "FE": self._enable,
            "FS": lambda _: self._switch_off(SLEEPING),
            "FD": lambda _: self._switch_off(DISABLED),
            "SL": self._set_level,
            "SH": self._limit_energy,
        }
        firmware: dict[str, Callable[[list[str]], str | None]] = {
            "G3": lambda _: f"{self.limit_quarters}",
            "G4": lambda _: f"{int(self.locked)}",
            "S4": self._lock,
            "S3": self._limit_time,
        }
        return shared | (firmware if self._is_firmware else {})

    @property
    def _pilot_amps(self) -> int:
        return self.amps if self._is_firmware else AMPS_CONFIGURED

    def _current(self, _: list[str]) -> str:
        milliamps = self.amps * 1000 if self.state == CHARGING else 0
        more = "" if self._is_firmware else f" {self.state} 0"
        return f"{milliamps} {MILLIVOLTS}{more}"

    def _energy(self, _: list[str]) -> str:
        if self._is_firmware:
            return f"{int(self.session_ws)} {int(self.total_wh)}"
        watt_hours = int(self.session_ws / 3600)
        return f"{watt_hours} {watt_hours * 3600}"

    def _settings(self, _: list[str]) -> str:
        flags = {"A": 0x0000, "1": 0x0020, "2": 0x0021}[self.service_level]
        return f"{self.amps} {flags:04X}" if self._is_firmware else f"{self.amps} {flags}"

    def _set_current(self, words: list[str]) -> str | None:
        wanted = int(words[0])
        if not self._is_firmware:
            if not AMPS_MIN <= wanted <= AMPS_MAX:
                return None
            self.amps = wanted
            return ""
        before, self.amps = self.amps, max(AMPS_MIN, min(wanted, AMPS_CONFIGURED))
        if self.amps != before:
            self._say_transition()
        return f"{'' if self.amps == wanted else '!'}{self.amps}"

    def _enable(self, _: list[str]) -> str | None:
        if self.faulty and not self._is_firmware:
            return None
        self.off = None
        return self._changed()

    def _switch_off(self, how: int) -> str:
        self.off = how
        return self._changed()

    def _changed(self) -> str:
        if self._is_firmware:
            self._say_transition()
        return ""

    def _set_level(self, words: list[str]) -> str | None:
        if words[0] not in ("1", "2", "A"):
            return None
        self.service_level = words[0]
        return ""

    def _lock(self, words: list[str]) -> str | None:
        if words[0] not in ("0", "1"):
            return None
        self.locked = words[0] == "1"
        return self._changed()

    def _limit_time(self, words: list[str]) -> str | None:
        if self.state not in (CONNECTED, CHARGING):
            return None
        self.limit_quarters = int(words[0])
        return self._changed()

    def _limit_energy(self, words: list[str]) -> str | None:
        if not self._is_firmware:
            return ""
        if self.state not in (CONNECTED, CHARGING):
            return None
        self.limit_kwh = int(words[0])
        return self._changed()
