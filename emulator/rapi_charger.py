"""An OpenEVSE charger: states, session and faults, in the two dialects there are: real firmware and its emulator.

Pure: bytes in, bytes out. What it says unasked is kept in `said` until somebody takes it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from emulator.ev_model import Vehicle, Warmth
from emulator.rapi_commands import AMPS_CONFIGURED, CHARGING, CONNECTED, SLEEPING, answer_of
from emulator.rapi_lines import LineReader, framed

READY, VENT_REQUIRED = 0x01, 0x04
EMU_SLEEPING, EMU_ERROR = 0xFD, 0xFE
AT_LIMIT, LOCKED, TIME_LIMIT, RELAY_CLOSED, EV_CONNECTED = 0x0004, 0x0008, 0x0010, 0x0040, 0x0100
CHARGE_LIMIT = 0x2000
OVER_TEMPERATURE_C = 65.0
# name -> the firmware's state, the emulator's flag; which of them is shown first
FAULTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "gfci": (0x06, 0x01),
        "stuck_relay": (0x08, 0x02),
        "no_ground": (0x07, 0x04),
        "diode_check": (0x05, 0x08),
        "over_temp": (0x0A, 0x10),
        "gfi_self_test": (0x09, 0x20),
    }
)
COUNTED = ("gfci", "no_ground", "stuck_relay")
MILLIVOLTS = MappingProxyType({"1": 120_000, "2": 240_000})


@dataclass(frozen=True, slots=True)
class Make:
    """What a charger is as it comes from the shelf. `amps` None: the dialect's own."""

    firmware_version: str = "8.2.1"
    protocol_version: str | None = None
    amps: int | None = None
    service_level: str = "A"
    serial: str = "OpenEVSE03AB12CD"


class Charger:
    """One charger. `dialect`: "firmware" or "emulator"."""

    def __init__(
        self, dialect: str = "firmware", make: Make | None = None, vehicle: Vehicle | None = None
    ) -> None:
        self.dialect, self.make = dialect, make or Make()
        self.vehicle = vehicle or Vehicle()
        self.amps = self.make.amps or (16 if self.is_firmware else AMPS_CONFIGURED)
        self.protocol_version = self.make.protocol_version or ("5.2.1" if self.is_firmware else "5.0.1")
        self.off: int | None = None  # SLEEPING or DISABLED
        self.locked = self.at_limit = False
        self.faults_now: list[str] = []
        self.trips = dict.fromkeys(COUNTED, 0)
        self.session_s = 0.0
        self.session_ws = self.total_wh = 0.0
        self._session_runs = False
        self.limit_quarters = self.limit_kwh = 0
        self.service_level = self.make.service_level
        self.millivolts = MILLIVOLTS.get(self.service_level, 240_000)
        self.heartbeat = (0, 0)
        self.lcd, self.backlight = ["", ""], 0
        self.warmth = Warmth(24.2)
        self.said = b""
        self.clock: datetime | None = None  # None: it goes
        self._reader = LineReader(self.is_firmware, self._answer)

    @property
    def is_firmware(self) -> bool:
        """Which of the two it is."""
        return self.dialect == "firmware"

    @property
    def faulty(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.faults_now)

    @property
    def pilot(self) -> int:
        """1: nobody there, 2: connected, 3: the car asks for charge, 4: its diode is missing."""
        if not self.vehicle.plugged:
            return READY
        if self.vehicle.diode_failure:
            return VENT_REQUIRED
        return CHARGING if self.vehicle.wants else CONNECTED

    @property
    def state(self) -> int:
        """The number that $GS says, by dialect."""
        if self.faults_now:
            return FAULTS[self.faults_now[0]][0] if self.is_firmware else EMU_ERROR
        if self.off is not None:
            return self.off if self.is_firmware else EMU_SLEEPING
        return CONNECTED if self.pilot == CHARGING and self.locked else self.pilot

    @property
    def flags(self) -> int:
        """The flags that $GS says, by dialect."""
        flags = EV_CONNECTED if self.vehicle.plugged else 0
        flags |= RELAY_CLOSED if self.state == CHARGING else 0
        if self.is_firmware:
            flags |= LOCKED if self.locked else 0
            flags |= AT_LIMIT if self.at_limit else 0
            flags |= TIME_LIMIT if self.limit_quarters else 0
            return flags | (CHARGE_LIMIT if self.limit_kwh else 0)
        return flags | sum(FAULTS[name][1] for name in self.faults_now)

    @property
    def current(self) -> float:
        """What flows, in A."""
        if self.state != CHARGING:
            return 0.0
        return self.vehicle.amps_of(self.amps, self.millivolts / 1000)

    def heard(self, data: bytes) -> bytes:
        """What it answers to bytes from the line."""
        return self._reader.feed(data)

    def pass_time(self, seconds: float) -> None:
        """Let a session go on."""
        self.vehicle.vary()
        amps = self.current
        self.warmth.pass_time(seconds, amps)
        if self.warmth.celsius > OVER_TEMPERATURE_C and "over_temp" not in self.faults_now:
            self.trip("over_temp")
        if self.pilot == VENT_REQUIRED and "diode_check" not in self.faults_now:
            self.trip("diode_check")
        is_charging = self.state == CHARGING
        self._session_runs |= is_charging
        if is_charging or (self._session_runs and not self.is_firmware):
            self.session_s += seconds
        if is_charging:
            joules = amps * self.millivolts / 1000 * seconds
            self.session_ws += joules
            self.total_wh += joules / 3600
            self.vehicle.charge(joules / 3600)
            self._keep_limits()
            if self.state != CHARGING:  # the car is full, or a limit is reached
                self.say_transition()

    def _keep_limits(self) -> None:
        is_over = (self.limit_quarters and self.session_s >= self.limit_quarters * 900) or (
            self.limit_kwh and self.session_ws >= self.limit_kwh * 3_600_000
        )
        if is_over:
            self.off, self.at_limit = SLEEPING, True
            self.limit_quarters = self.limit_kwh = 0

    # -- what happens to it --------------------------------------------------------------------------------------

    def plug(self) -> None:
        """A car comes that does not charge yet, or one that is there has enough."""
        if not self.vehicle.plugged:
            self._end_session()
        self.vehicle.plugged, self.vehicle.asks_for_charge = True, False
        self.say_transition()

    def ask_for_charge(self) -> None:
        """The car wants to charge."""
        self.vehicle.asks_for_charge = True
        self.say_transition()

    def unplug(self) -> None:
        """The car goes. The emulator ends the session and forgets its errors with it."""
        self.vehicle.plugged = self.vehicle.asks_for_charge = False
        self.limit_quarters = self.limit_kwh = 0
        if not self.is_firmware:
            self._end_session()
            self.faults_now.clear()
        if self.at_limit:
            self.off, self.at_limit = None, False
        self.say_transition()

    def trip(self, name: str = "gfci") -> None:
        """A fault of FAULTS."""
        if name not in self.faults_now:
            self.faults_now.append(name)
            if name in self.trips:
                self.trips[name] = min(0xFF, self.trips[name] + 1)
            self.say_transition()

    def clear(self) -> None:
        """All faults are gone."""
        if self.faults_now:
            self.faults_now.clear()
            self.say_transition()

    def boot(self) -> None:
        """It has just been switched on."""
        self.said += framed(f"AB 00 {self.make.firmware_version}")

    def restart(self) -> None:
        """$FR: what is volatile is forgotten."""
        self.off, self.locked, self.at_limit = None, False, False
        self.limit_quarters = self.limit_kwh = 0
        self._reader.echo = False
        self.boot()

    def take_said(self) -> bytes:
        """What it said unasked, once."""
        said, self.said = self.said, b""
        return said

    def echo(self, on: bool) -> None:
        """Say back what is heard."""
        self._reader.echo = on

    def changed(self) -> str:
        """An order changed the state: firmware tells, its emulator does not."""
        if self.is_firmware:
            self.say_transition()
        return ""

    def say_transition(self) -> None:
        """Tell the state, the pilot, the limit and the flags."""
        self.said += self.transition

    @property
    def time(self) -> datetime:
        """The time of its clock."""
        return self.clock or datetime.now().astimezone()

    @property
    def transition(self) -> bytes:
        """How it tells the state that it is in."""
        return framed(f"AT {self.state:02X} {self.pilot:02X} {self.amps} {self.flags:04X}")

    def twin(self) -> Charger:
        """Another one in the same state, whose clock stands: what happens to one does not to the other."""
        found = copy.copy(self)  # quick: it is made after every answer
        found.vehicle, found.warmth = copy.copy(self.vehicle), copy.copy(self.warmth)
        found.faults_now, found.trips, found.lcd = self.faults_now[:], self.trips.copy(), self.lcd[:]
        found._reader = self._reader.twin(found._answer)
        found.clock = self.time
        return found

    def _end_session(self) -> None:
        self.session_s = self.session_ws = 0.0
        self._session_runs = False

    def _answer(self, words: list[str]) -> str | None:
        return answer_of(self, words)
