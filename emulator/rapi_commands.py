"""What a charger does for each RAPI command. None is NK, a text after `!` is NK with that text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.rapi_charger import Charger

Command = Callable[[list[str]], str | None]
AMPS_MIN, AMPS_MAX, AMPS_CONFIGURED = 6, 80, 32
CONNECTED, CHARGING = 0x02, 0x03
SLEEPING, DISABLED = 0xFE, 0xFF
LCD_COLUMNS = 16
FEATURES = "BDEFGRTVLOPZ"


def commands_of(charger: Charger) -> dict[str, Command]:
    """The commands of its dialect."""
    orders = Orders(charger)
    return orders.common() | (orders.firmwares() if charger.is_firmware else orders.emulators())


class Orders:
    """The commands of one charger, each a method or less."""

    def __init__(self, charger: Charger) -> None:
        self._charger = charger

    def common(self) -> dict[str, Command]:
        """What both dialects have."""
        charger = self._charger
        return {
            "GS": lambda _: (
                f"{charger.state:02X} {int(charger.session_s)} {charger.pilot:02X} {charger.flags:04X}"
            ),
            "GG": self._current,
            "GP": self._temperatures,
            "GU": self._energy,
            "GC": self._capacity,
            "GE": self._settings,
            "GF": self._trips,
            "GV": self._version,
            "GI": lambda _: f"{' ' if charger.is_firmware else ''}{charger.make.serial}",
            "GA": lambda _: "220 0",
            "SC": self._set_current,
            "SL": self._set_level,
            "SY": self._set_heartbeat,
            "FE": self._enable,
            "FS": lambda _: self._switch_off(SLEEPING),
            "FD": lambda _: self._switch_off(DISABLED),
            "FR": self._restart,
            "FB": self._set_backlight,
            "FP": self._set_text,
        }

    def firmwares(self) -> dict[str, Command]:
        """What only real firmware has."""
        charger = self._charger
        return {
            "G0": lambda _: f"{int(charger.vehicle.plugged)}",
            "G3": lambda _: f"{charger.limit_quarters}",
            "G4": lambda _: f"{int(charger.locked)}",
            "GD": lambda _: "0 0 0 0",
            "GH": lambda _: f"{charger.limit_kwh}",
            "GM": lambda _: "259 0",
            "GO": lambda _: "650 520",
            "GT": lambda _: datetime.now().astimezone().strftime("%y %-m %-d %-H %-M %-S"),
            "GY": lambda _: f"{charger.heartbeat[0]} {charger.heartbeat[1]} 0",
            "S1": lambda words: self._numbers(words, 6),
            "S3": self._limit_time,
            "S4": self._lock,
            "SB": lambda _: f"{int(charger.faulty)}",
            "SH": self._limit_energy,
            "SK": self._set_total,
            "ST": lambda words: self._numbers(words, 4),
            "SV": self._set_voltage,
            "F0": lambda words: self._numbers(words, 1),
            "F1": self._press,
            "FC": self._forget_trips,
            "FF": self._set_feature,
        }

    def emulators(self) -> dict[str, Command]:
        """What only the emulator has, most of it in name only."""
        return {
            **{name: lambda _: "" for name in ("F0", "F1", "ST", "SH", "SK", "S1")},
            **{name: lambda _: "0" for name in ("GT", "GH")},
            "SE": self._set_echo,
        }

    # -- queries ---------------------------------------------------------------------------------------------------

    def _current(self, _: list[str]) -> str:
        charger = self._charger
        more = "" if charger.is_firmware else f" {charger.state} 0"
        return f"{round(charger.current * 1000)} {charger.millivolts}{more}"

    def _temperatures(self, _: list[str]) -> str:
        tenths = round(self._charger.warmth.celsius * 10)
        return f"{tenths} -2560 {tenths + 9}" if self._charger.is_firmware else f"{tenths} {tenths} 0 0"

    def _energy(self, _: list[str]) -> str:
        charger = self._charger
        if charger.is_firmware:
            return f"{int(charger.session_ws)} {int(charger.total_wh)}"
        watt_hours = int(charger.session_ws / 3600)
        return f"{watt_hours} {watt_hours * 3600}"

    def _capacity(self, _: list[str]) -> str:
        pilot = self._charger.amps if self._charger.is_firmware else AMPS_CONFIGURED
        return f"{AMPS_MIN} {AMPS_MAX} {pilot} {AMPS_CONFIGURED}"

    def _settings(self, _: list[str]) -> str:
        charger = self._charger
        flags = {"A": 0x0000, "1": 0x0020, "2": 0x0021}[charger.service_level]
        return f"{charger.amps} {flags:04X}" if charger.is_firmware else f"{charger.amps} {flags}"

    def _trips(self, _: list[str]) -> str:
        trips, base = self._charger.trips, "X" if self._charger.is_firmware else "d"
        return " ".join(f"{trips[name]:{base}}" for name in ("gfci", "no_ground", "stuck_relay"))

    def _version(self, _: list[str]) -> str:
        make = self._charger.make
        return f"{make.firmware_version} {make.protocol_version or ('5.2.1' if self._charger.is_firmware else '5.0.1')}"

    # -- orders ----------------------------------------------------------------------------------------------------

    def _set_current(self, words: list[str]) -> str | None:
        charger, wanted = self._charger, int(words[0])
        if not charger.is_firmware:
            if not AMPS_MIN <= wanted <= AMPS_MAX:
                return None
            charger.amps = wanted
            return ""
        if words[1:] not in ([], ["V"], ["M"]):
            return None
        before, charger.amps = charger.amps, max(AMPS_MIN, min(wanted, AMPS_CONFIGURED))
        if charger.amps != before:
            charger.say_transition()
        return f"{'' if charger.amps == wanted else '!'}{charger.amps}"

    def _set_level(self, words: list[str]) -> str | None:
        if words[0] not in ("1", "2", "A"):
            return None
        self._charger.service_level = words[0]
        self._charger.millivolts = {"1": 120_000, "2": 240_000}.get(words[0], self._charger.millivolts)
        return ""

    def _set_heartbeat(self, words: list[str]) -> str | None:
        charger = self._charger
        if len(words) == 2:
            charger.heartbeat = int(words[0]), int(words[1])
        return f"{charger.heartbeat[0]} {charger.heartbeat[1]} 0"

    def _enable(self, _: list[str]) -> str | None:
        charger = self._charger
        if charger.faulty and not charger.is_firmware:
            return None
        charger.off, charger.at_limit = None, False
        return charger.changed()

    def _switch_off(self, how: int) -> str:
        self._charger.off = how
        return self._charger.changed()

    def _restart(self, _: list[str]) -> str:
        self._charger.restart()
        return ""

    def _lock(self, words: list[str]) -> str | None:
        if words[0] not in ("0", "1"):
            return None
        self._charger.locked = words[0] == "1"
        return self._charger.changed()

    def _limit_time(self, words: list[str]) -> str | None:
        if self._charger.state not in (CONNECTED, CHARGING):
            return None
        self._charger.limit_quarters = _whole(words[0], 255)
        return self._charger.changed()

    def _limit_energy(self, words: list[str]) -> str | None:
        if self._charger.state not in (CONNECTED, CHARGING):
            return None
        self._charger.limit_kwh = _whole(words[0], 255)
        return self._charger.changed()

    def _set_total(self, words: list[str]) -> str:
        self._charger.total_wh = _whole(words[0], 10**9)
        return ""

    def _set_voltage(self, words: list[str]) -> str | None:
        millivolts = int(words[0])
        if not 60_000 <= millivolts <= 300_000:
            return None
        self._charger.millivolts = millivolts
        return ""

    def _press(self, _: list[str]) -> str:
        """The front button: off, or on again."""
        charger = self._charger
        charger.off = None if charger.off is not None else SLEEPING
        return charger.changed()

    def _forget_trips(self, _: list[str]) -> str:
        charger = self._charger
        charger.trips = dict.fromkeys(charger.trips, 0)
        charger.total_wh = 0.0
        return ""

    def _set_feature(self, words: list[str]) -> str | None:
        if len(words) != 2 or words[0] not in FEATURES or words[1] not in ("0", "1"):
            return None
        if words[0] == "E":
            self._charger.echo(True)  # whichever was said: so does 5.2.1
        return ""

    def _set_echo(self, words: list[str]) -> str | None:
        if words[0] not in ("0", "1"):
            return None
        self._charger.echo(words[0] == "1")
        return ""

    def _set_backlight(self, words: list[str]) -> str | None:
        self._charger.backlight = _whole(words[0], 7)
        return ""

    def _set_text(self, words: list[str]) -> str | None:
        x, y = _whole(words[0], LCD_COLUMNS - 1), _whole(words[1], 1)
        text = " ".join(words[2:]).replace("\x11", " ").replace("\xfe", " ")
        row = self._charger.lcd[y].ljust(LCD_COLUMNS)
        self._charger.lcd[y] = (row[:x] + text + row[x + len(text) :])[:LCD_COLUMNS].rstrip()
        return ""

    def _numbers(self, words: list[str], count: int) -> str | None:
        return "" if len([int(word) for word in words]) == count else None


def _whole(word: str, most: int) -> int:
    number = int(word)
    if not 0 <= number <= most:
        raise ValueError(word)
    return number
