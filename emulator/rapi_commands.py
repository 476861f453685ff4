"""What a charger does for each RAPI command. None is NK, a text after `!` is NK with that text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.rapi_charger import Charger

Command = Callable[["Charger", list[str]], str | None]
AMPS_MIN, AMPS_MAX, AMPS_CONFIGURED = 6, 80, 32
CONNECTED, CHARGING = 0x02, 0x03
SLEEPING, DISABLED = 0xFE, 0xFF
LCD_COLUMNS = 16
_INTEGER = re.compile(r"-?[0-9]+")  # Python itself would take `1_0`, too
FEATURES = "BDEFGRTVLOPZ"


def answer_of(charger: Charger, words: list[str]) -> str | None:
    """What it says to a command, which it carries out."""
    commands = _FIRMWARES if charger.is_firmware else _EMULATORS
    command = commands.get(words[0]) if words else None
    try:
        return None if command is None else command(charger, words[1:])
    except (ValueError, IndexError):
        return None


# -- queries ---------------------------------------------------------------------------------------------------


def _state(charger: Charger, _: list[str]) -> str:
    return f"{charger.state:02X} {int(charger.session_s)} {charger.pilot:02X} {charger.flags:04X}"


def _current(charger: Charger, _: list[str]) -> str:
    more = "" if charger.is_firmware else f" {charger.state} 0"
    return f"{round(charger.current * 1000)} {charger.millivolts}{more}"


def _temperatures(charger: Charger, _: list[str]) -> str:
    tenths = round(charger.warmth.celsius * 10)
    return f"{tenths} -2560 {tenths + 9}" if charger.is_firmware else f"{tenths} {tenths} 0 0"


def _energy(charger: Charger, _: list[str]) -> str:
    if charger.is_firmware:
        return f"{int(charger.session_ws)} {int(charger.total_wh)}"
    watt_hours = int(charger.session_ws / 3600)
    return f"{watt_hours} {watt_hours * 3600}"


def _capacity(charger: Charger, _: list[str]) -> str:
    pilot = charger.amps if charger.is_firmware else AMPS_CONFIGURED
    return f"{AMPS_MIN} {AMPS_MAX} {pilot} {AMPS_CONFIGURED}"


def _settings(charger: Charger, _: list[str]) -> str:
    flags = {"A": 0x0000, "1": 0x0020, "2": 0x0021}[charger.service_level]
    return f"{charger.amps} {flags:04X}" if charger.is_firmware else f"{charger.amps} {flags}"


def _trips(charger: Charger, _: list[str]) -> str:
    trips, base = charger.trips, "X" if charger.is_firmware else "d"
    return " ".join(f"{trips[name]:{base}}" for name in ("gfci", "no_ground", "stuck_relay"))


def _version(charger: Charger, _: list[str]) -> str:
    return f"{charger.make.firmware_version} {charger.protocol_version}"


def _identity(charger: Charger, _: list[str]) -> str:
    return f"{' ' if charger.is_firmware else ''}{charger.make.serial}"


def _is_plugged(charger: Charger, _: list[str]) -> str:
    return f"{int(charger.vehicle.plugged)}"


def _is_locked(charger: Charger, _: list[str]) -> str:
    return f"{int(charger.locked)}"


def _is_faulty(charger: Charger, _: list[str]) -> str:
    return f"{int(charger.faulty)}"


def _time_limit(charger: Charger, _: list[str]) -> str:
    return f"{charger.limit_quarters}"


def _energy_limit(charger: Charger, _: list[str]) -> str:
    return f"{charger.limit_kwh}"


def _heartbeat(charger: Charger, _: list[str]) -> str:
    return f"{charger.heartbeat[0]} {charger.heartbeat[1]} 0"


# -- orders ----------------------------------------------------------------------------------------------------


def _set_current(charger: Charger, words: list[str]) -> str | None:
    wanted = _integer(words[0])
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


def _set_level(charger: Charger, words: list[str]) -> str | None:
    if words[0] not in ("1", "2", "A"):
        return None
    charger.service_level = words[0]
    charger.millivolts = {"1": 120_000, "2": 240_000}.get(words[0], charger.millivolts)
    return ""


def _set_heartbeat(charger: Charger, words: list[str]) -> str | None:
    if len(words) == 2:
        charger.heartbeat = _integer(words[0]), _integer(words[1])
    return _heartbeat(charger, words)


def _enable(charger: Charger, _: list[str]) -> str | None:
    if charger.faulty and not charger.is_firmware:
        return None
    charger.off, charger.at_limit = None, False
    return charger.changed()


def _switch_off(charger: Charger, how: int) -> str:
    charger.off = how
    return charger.changed()


def _restart(charger: Charger, _: list[str]) -> str:
    charger.restart()
    return ""


def _lock(charger: Charger, words: list[str]) -> str | None:
    if words[0] not in ("0", "1"):
        return None
    charger.locked = words[0] == "1"
    return charger.changed()


def _limit_time(charger: Charger, words: list[str]) -> str | None:
    if charger.state not in (CONNECTED, CHARGING):
        return None
    charger.limit_quarters = _whole(words[0], 255)
    return charger.changed()


def _limit_energy(charger: Charger, words: list[str]) -> str | None:
    if charger.state not in (CONNECTED, CHARGING):
        return None
    charger.limit_kwh = _whole(words[0], 255)
    return charger.changed()


def _set_total(charger: Charger, words: list[str]) -> str:
    charger.total_wh = _whole(words[0], 10**9)
    return ""


def _set_voltage(charger: Charger, words: list[str]) -> str | None:
    millivolts = _integer(words[0])
    if not 60_000 <= millivolts <= 300_000:
        return None
    charger.millivolts = millivolts
    return ""


def _press(charger: Charger, _: list[str]) -> str:
    """The front button: off, or on again."""
    charger.off = None if charger.off is not None else SLEEPING
    return charger.changed()


def _forget_trips(charger: Charger, _: list[str]) -> str:
    charger.trips = dict.fromkeys(charger.trips, 0)
    charger.total_wh = 0.0
    return ""


def _set_feature(charger: Charger, words: list[str]) -> str | None:
    if len(words) != 2 or words[0] not in FEATURES or words[1] not in ("0", "1"):
        return None
    if words[0] == "E":
        charger.echo(True)  # whichever was said: so does 5.2.1
    return ""


def _set_echo(charger: Charger, words: list[str]) -> str | None:
    if words[0] not in ("0", "1"):
        return None
    charger.echo(words[0] == "1")
    return ""


def _set_backlight(charger: Charger, words: list[str]) -> str | None:
    charger.backlight = _whole(words[0], 7)
    return ""


def _set_text(charger: Charger, words: list[str]) -> str | None:
    x, y = _whole(words[0], LCD_COLUMNS - 1), _whole(words[1], 1)
    text = " ".join(words[2:]).replace("\x11", " ").replace("\xfe", " ")
    row = charger.lcd[y].ljust(LCD_COLUMNS)
    charger.lcd[y] = (row[:x] + text + row[x + len(text) :])[:LCD_COLUMNS].rstrip()
    return ""


def _numbers(words: list[str], count: int) -> str | None:
    return "" if len([_integer(word) for word in words]) == count else None


def _integer(word: str) -> int:
    if not _INTEGER.fullmatch(word):
        raise ValueError(word)
    return int(word)


def _whole(word: str, most: int) -> int:
    number = _integer(word)
    if not 0 <= number <= most:
        raise ValueError(word)
    return number


# Nothing here knows a certain charger: a copy of one would go on ordering the original about.
_COMMON: dict[str, Command] = {
    "GS": _state,
    "GG": _current,
    "GP": _temperatures,
    "GU": _energy,
    "GC": _capacity,
    "GE": _settings,
    "GF": _trips,
    "GV": _version,
    "GI": _identity,
    "GA": lambda _, __: "220 0",
    "SC": _set_current,
    "SL": _set_level,
    "SY": _set_heartbeat,
    "FE": _enable,
    "FS": lambda charger, _: _switch_off(charger, SLEEPING),
    "FD": lambda charger, _: _switch_off(charger, DISABLED),
    "FR": _restart,
    "FB": _set_backlight,
    "FP": _set_text,
}
_FIRMWARES: dict[str, Command] = _COMMON | {
    "G0": _is_plugged,
    "G3": _time_limit,
    "G4": _is_locked,
    "GD": lambda _, __: "0 0 0 0",
    "GH": _energy_limit,
    "GM": lambda _, __: "259 0",
    "GO": lambda _, __: "650 520",
    "GT": lambda charger, _: charger.time.strftime("%y %-m %-d %-H %-M %-S"),
    "GY": _heartbeat,
    "S1": lambda _, words: _numbers(words, 6),
    "S3": _limit_time,
    "S4": _lock,
    "SB": _is_faulty,
    "SH": _limit_energy,
    "SK": _set_total,
    "ST": lambda _, words: _numbers(words, 4),
    "SV": _set_voltage,
    "F0": lambda _, words: _numbers(words, 1),
    "F1": _press,
    "FC": _forget_trips,
    "FF": _set_feature,
}
# Most of it in name only.
_EMULATORS: dict[str, Command] = (
    _COMMON
    | dict.fromkeys(("F0", "F1", "ST", "SH", "SK", "S1"), lambda _, __: "")
    | dict.fromkeys(("GT", "GH"), lambda _, __: "0")
    | {"SE": _set_echo}
)
