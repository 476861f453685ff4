"""What a charger's answers mean: the queries, their properties, and the two dialects in which they are answered.

Firmware and emulator disagree about state numbers, flags, orders and bases; a device speaks one of the two, and
every answer is read with that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sensor_hub.errors import ReadFailed
from sensor_hub.readings import Json

FAULTS: Mapping[int, str] = {
    0x05: "diode",
    0x06: "gfci",
    0x07: "no_ground",
    0x08: "stuck_relay",
    0x09: "gfi_test",
    0x0A: "over_temp",
    0x0B: "over_current",
    0x0C: "other",
    0x0D: "other",
    0x0E: "relay_closure",
    0x0F: "pp_shorted",
    0x10: "pp_missing",
    0x11: "eeprom",
}
LIMIT_TIME_STEP_MIN = 15
AMPS_MIN, AMPS_MAX = 6, 80  # of any charger; each has its own limits within

_PILOT_STATES = {1: "ready", 2: "connected", 3: "charging", 4: "vent_required"}
_EMULATOR_FAULTS: Mapping[int, str] = {
    0x01: "gfci",
    0x02: "stuck_relay",
    0x04: "no_ground",
    0x08: "diode",
    0x10: "over_temp",
    0x20: "gfi_test",
}
_SLEEPING, _DISABLED = 0xFE, 0xFF
_EMULATOR_SLEEPING, _EMULATOR_ERROR = 0xFD, 0xFE
_LOCKED, _RELAY_CLOSED, _EV_CONNECTED = 0x0008, 0x0040, 0x0100
_LEVEL_2, _LEVEL_IS_SET = 0x0001, 0x0020
_NO_SENSOR = -2560
_DECIMAL = re.compile(r"-?[0-9]{1,12}")
_HEX = re.compile(r"[0-9A-Fa-f]{1,8}")


class Profile(StrEnum):
    """The dialect of a device."""

    FIRMWARE = "firmware"
    EMULATOR = "emulator"


Values = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Query:
    """A query, the properties that its answer holds, how often it is sent (None: as its device), its reader."""

    command: str
    properties: Sequence[str]
    interval_s: float | None
    read: Callable[[Sequence[str], Profile], Values]


def decode(query: Query, words: Sequence[str], profile: Profile) -> Values:
    """The properties in an answer's parameters. Raises ReadFailed for an answer that is none to this query."""
    try:
        return query.read(words, profile)
    except (ValueError, IndexError):
        raise ReadFailed(f"unusable answer to ${query.command}: {' '.join(words)!r}") from None


def profile_of(current: Sequence[str], temperatures: Sequence[str]) -> Profile:
    """The dialect, from the parameters of $GG and, where that says nothing, of $GP (empty: refused)."""
    is_emulator = len(current) == 4 or (len(current) != 2 and len(temperatures) == 4)
    return Profile.EMULATOR if is_emulator else Profile.FIRMWARE


def _dec(word: str) -> int:
    if not _DECIMAL.fullmatch(word):
        raise ValueError(word)
    return int(word)


def _hex(word: str, digits: int | None = None) -> int:
    if not _HEX.fullmatch(word) or (digits is not None and len(word) != digits):
        raise ValueError(word)
    return int(word, 16)


def _state(words: Sequence[str], profile: Profile) -> Values:
    """$GS: state, seconds, pilot state, flags. Its digits tell it from most other answers."""
    raw, seconds, pilot, flags = _hex(words[0], 2), _dec(words[1]), _hex(words[2], 2), _hex(words[3], 4)
    name = _name_of_state(raw, pilot, flags, profile)
    off = (_SLEEPING, _DISABLED) if profile is Profile.FIRMWARE else (_EMULATOR_SLEEPING,)
    values: Values = {
        "state": name,
        "state_raw": raw,
        "vehicle_connected": pilot in (2, 3, 4) or bool(flags & _EV_CONNECTED),
        "charging": raw == 3 and bool(flags & _RELAY_CLOSED),
        "fault": _fault(name, raw, flags, profile),
        "enabled": raw not in off,
        "session_time": seconds,
    }
    if profile is Profile.FIRMWARE:
        values["locked"] = bool(flags & _LOCKED)
    return values


def _name_of_state(raw: int, pilot: int, flags: int, profile: Profile) -> str:
    if raw in _PILOT_STATES:
        return _PILOT_STATES[raw]
    if profile is Profile.FIRMWARE:
        if raw in FAULTS:
            return "fault"
        return {_SLEEPING: "sleeping", _DISABLED: "disabled"}.get(raw, "unknown")
    if raw == _EMULATOR_ERROR and flags & sum(_EMULATOR_FAULTS):
        return "fault"
    if raw == _EMULATOR_ERROR and pilot == 4:
        return "vent_required"
    return "sleeping" if raw == _EMULATOR_SLEEPING else "unknown"


def _fault(name: str, raw: int, flags: int, profile: Profile) -> str:
    if name != "fault":
        return "none"
    if profile is Profile.FIRMWARE:
        return FAULTS[raw]
    return next(fault for bit, fault in _EMULATOR_FAULTS.items() if flags & bit)


def _current(words: Sequence[str], _: Profile) -> Values:
    """$GG: mA (negative: it has no ammeter), mV; the emulator adds state and flags."""
    milliamps, millivolts = _dec(words[0]), _dec(words[1])
    volts = millivolts / 1000
    if milliamps < 0:
        return {"current": None, "voltage": volts, "power": None}
    return {
        "current": milliamps / 1000,
        "voltage": volts,
        "power": round(milliamps * millivolts / 1_000_000, 1),
    }


def _energy(words: Sequence[str], profile: Profile) -> Values:
    """$GU: Ws of the session and Wh in total; the emulator: Wh and Ws of the session."""
    first, second = _dec(words[0]), _dec(words[1])
    if profile is Profile.EMULATOR:
        return {"session_energy": first}
    return {"session_energy": round(first / 3600, 3), "total_energy": second / 1000}


def _temperatures(words: Sequence[str], profile: Profile) -> Values:
    """$GP: tenths of °C; the emulator's last two fields are errors."""
    names = ("temperature", "temperature_2", "temperature_3")
    tenths = [_dec(word) for word in words[: 3 if profile is Profile.FIRMWARE else 2]]
    if not tenths:
        raise IndexError
    return {name: None if raw == _NO_SENSOR else raw / 10 for name, raw in zip(names, tenths, strict=False)}


def _capacity(words: Sequence[str], profile: Profile) -> Values:
    """$GC: least and greatest A of the hardware, A now, greatest A that is set.

    The emulator's third stays what it was, whatever is set: the limit is in $GE there. Raises ValueError for what
    no charger has: a current is set by what this says.
    """
    low, hardware, now, configured = (_dec(word) for word in words[:4])
    if not AMPS_MIN <= low <= min(hardware, configured) <= max(hardware, configured) <= AMPS_MAX:
        raise ValueError("limits that contradict each other")
    if profile is Profile.FIRMWARE and not low <= now <= hardware:
        raise ValueError("a current outside the limits")
    limit: Values = {"current_limit": now} if profile is Profile.FIRMWARE else {}
    return {"current_min": low, "current_max": configured, "current_hw_max": hardware, **limit}


def _settings(words: Sequence[str], profile: Profile) -> Values:
    """$GE: A, flags (the emulator's are decimal). Whether the A are the limit is for whoever asks to know."""
    amps, flags = _dec(words[0]), _by_dialect(words[1], profile)
    level = "auto" if not flags & _LEVEL_IS_SET else "2" if flags & _LEVEL_2 else "1"
    return {"service_level": level, "current_limit": amps}


def _trips(words: Sequence[str], profile: Profile) -> Values:
    """$GF: counters (the emulator's are decimal)."""
    names = ("gfci_trips", "no_ground_trips", "stuck_relay_trips")
    return {name: _by_dialect(words[index], profile) for index, name in enumerate(names)}


def _by_dialect(word: str, profile: Profile) -> int:
    return _hex(word) if profile is Profile.FIRMWARE else _dec(word)


def _lock(words: Sequence[str], _: Profile) -> Values:
    return {"locked": bool(_dec(words[0]))}


def _limit_time(words: Sequence[str], _: Profile) -> Values:
    return {"limit_time": _dec(words[0]) * LIMIT_TIME_STEP_MIN}


def _limit_energy(words: Sequence[str], _: Profile) -> Values:
    return {"limit_energy": _dec(words[0])}


def _versions(words: Sequence[str], _: Profile) -> Values:
    return dict(zip(("firmware", "protocol"), (words[0], *words[1:2]), strict=False))


def _serial(words: Sequence[str], _: Profile) -> Values:
    return {"serial": words[0]}


STATE = "GS"
QUERIES: Mapping[str, Query] = {
    query.command: query
    for query in (
        Query(
            STATE,
            ("state", "state_raw", "vehicle_connected", "charging", "fault", "enabled", "session_time"),
            None,
            _state,
        ),
        Query("GG", ("current", "voltage", "power"), None, _current),
        Query("GU", ("session_energy", "total_energy"), None, _energy),
        Query("GP", ("temperature", "temperature_2", "temperature_3"), 30.0, _temperatures),
        Query("GC", ("current_min", "current_max", "current_hw_max", "current_limit"), 60.0, _capacity),
        Query("GE", ("service_level",), 60.0, _settings),
        Query("GF", ("gfci_trips", "no_ground_trips", "stuck_relay_trips"), 60.0, _trips),
        Query("G4", ("locked",), 60.0, _lock),
        Query("G3", ("limit_time",), 60.0, _limit_time),
        Query("GH", ("limit_energy",), 60.0, _limit_energy),
        # Asked once per connection; what is known rides along with the state after that.
        Query("GV", ("firmware", "protocol"), 3600.0, _versions),
        Query("GI", ("serial",), 3600.0, _serial),
    )
}
IDENTITY = ("GV", "GI")
QUERY_OF: Mapping[str, str] = {name: query.command for query in QUERIES.values() for name in query.properties}
