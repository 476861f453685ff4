"""A charger on a line: its values by name, and a car that comes and goes by itself if it is wanted so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emulator.controls import Control, Controls, choice, number, switch, whole
from emulator.faults import Faults
from emulator.rapi_charger import FAULTS, Charger
from emulator.rapi_commands import AMPS_CONFIGURED, AMPS_MIN, CHARGING

# Seconds of a round: nobody, plugged in, charging, plugged in and full.
ROUND_S = (20.0, 5.0, 60.0, 5.0)
NO_FAULT = "none"


class ChargerDevice(Controls):
    """A charger as a device of a text line."""

    def __init__(
        self, device_id: str, kind: str, faults: Faults, charger: Charger, round_s: Sequence[float] | None
    ) -> None:
        """`round_s`: four pauses of a round, or None: the car stays as it is."""
        super().__init__(device_id, kind, faults)
        self.charger, self.listens, self.ends_at_cr = charger, True, charger.is_firmware
        self._as_it_was: Charger | None = None  # when it last said something
        self._is_stuck = False
        self._rounds = round_s is not None
        self._clock_s, self._step = 0.0, 0
        self._pauses_s = tuple(round_s or ROUND_S)
        self._steps: tuple[Callable[[], None], ...] = (
            charger.plug,
            charger.ask_for_charge,
            charger.plug,
            charger.unplug,
        )
        self.controls = self._state() | self._vehicle() | self._whims()
        charger.boot()

    def heard(self, data: bytes, *, stuck: bool = False) -> bytes:
        """As peers.Talker. Stuck, no order does anything; behind that time and events go on, and show afterwards."""
        with self.lock:
            if stuck:
                self._as_it_was = self._as_it_was or self.charger.twin()
                self._is_stuck = True
                return self._as_it_was.twin().heard(data)
            answer = self.charger.heard(data)
            if not self.charger.said and self._is_behind():
                self.charger.say_transition()
            self._keep()
            return answer

    def pass_time(self, seconds: float) -> None:
        """Let the session go on, or the next part of the round begin."""
        with self.lock:
            self.charger.pass_time(seconds)
            self._clock_s += seconds
            if self._rounds and self._clock_s >= self._pauses_s[self._step]:
                self._steps[self._step]()
                self._clock_s, self._step = 0.0, (self._step + 1) % len(self._steps)

    def has_news(self, *, stuck: bool) -> bool:
        """As peers.Talker: stuck no more, it tells its state if that is another than it last told."""
        with self.lock:
            return bool(self.charger.said) or (not stuck and self._is_behind())

    def take_said(self, *, stuck: bool = False) -> bytes:
        """As peers.Talker."""
        with self.lock:
            said = self.charger.take_said()
            if stuck:
                self._as_it_was = self._as_it_was or self.charger.twin()
                self._is_stuck = True
                return b""
            said = said or self.charger.transition
            self._keep()
            return said

    def forget_news(self) -> None:
        """As peers.Talker."""
        with self.lock:
            if not self.charger.take_said():
                self._is_stuck = False  # so it was the end of that

    def _is_behind(self) -> bool:
        """Whether it was stuck when it last spoke, and what it then told is true no more."""
        before = self._as_it_was
        return self._is_stuck and before is not None and before.transition != self.charger.transition

    def _keep(self) -> None:
        self._as_it_was, self._is_stuck = self.charger.twin(), False

    # -- values by name ------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Control]:
        charger, warmth = self.charger, self.charger.warmth

        def force(celsius: float | None) -> None:
            warmth.forced = celsius

        return {
            "state": Control(lambda: charger.state),
            "current": Control(lambda: round(charger.current, 3)),
            "voltage": Control(lambda: charger.millivolts / 1000),
            "session_time_s": Control(lambda: round(charger.session_s, 1)),
            "session_energy_wh": Control(lambda: round(charger.session_ws / 3600, 1)),
            "total_energy_wh": Control(lambda: round(charger.total_wh, 1)),
            "display": Control(lambda: "\n".join(charger.lcd)),
            "current_limit": Control(
                lambda: charger.amps, *whole(self._limit_current, AMPS_MIN, AMPS_CONFIGURED)
            ),
            "temperature": Control(
                lambda: round(warmth.celsius, 1), *number(force, -40, 125), lambda: force(None)
            ),
        }

    def _vehicle(self) -> dict[str, Control]:
        charger, car = self.charger, self.charger.vehicle

        def attribute(name: str) -> Callable[[object], None]:
            return lambda value: setattr(car, name, value)

        def read(name: str) -> Callable[[], bool | float]:
            return lambda: getattr(car, name)

        return {
            "plugged": Control(read("plugged"), *switch(self._plug)),
            "requesting_charge": Control(read("asks_for_charge"), *switch(self._request)),
            "soc": Control(lambda: round(car.soc, 2), *number(attribute("soc"), 0, 100)),
            "battery_kwh": Control(read("battery_kwh"), *number(attribute("battery_kwh"), 0.1, 1000)),
            "max_charge_kw": Control(read("max_charge_kw"), *number(attribute("max_charge_kw"), 0, 100)),
            "direct_mode": Control(read("direct_mode"), *switch(attribute("direct_mode"))),
            "direct_amps": Control(read("direct_amps"), *number(attribute("direct_amps"), 0, 200)),
            "variance": Control(read("variance"), *switch(attribute("variance"))),
            "diode_failure": Control(read("diode_failure"), *switch(attribute("diode_failure"))),
            "is_charging": Control(lambda: charger.state == CHARGING),
        }

    def _whims(self) -> dict[str, Control]:
        charger = self.charger

        def fault(name: str) -> None:
            charger.clear()
            if name != NO_FAULT:
                charger.trip(name)

        return {
            "fault": Control(
                lambda: charger.faults_now[0] if charger.faulty else NO_FAULT,
                *choice(fault, (NO_FAULT, *FAULTS)),
            ),
            "rounds": Control(lambda: self._rounds, *switch(self._go_round)),
        }

    def _limit_current(self, amps: int) -> None:
        self.charger.amps = amps
        self.charger.say_transition()

    def _plug(self, plugged: bool) -> None:
        """Somebody takes the car in hand: it comes and goes no more by itself."""
        self._rounds = False
        if plugged != self.charger.vehicle.plugged:
            (self.charger.plug if plugged else self.charger.unplug)()

    def _request(self, wanted: bool) -> None:
        self._rounds = False
        if wanted:
            self.charger.ask_for_charge()
        elif self.charger.vehicle.plugged:
            self.charger.plug()

    def _go_round(self, on: bool) -> None:
        """A round begins anew, without a car."""
        self._rounds, self._clock_s, self._step = on, 0.0, 0
        if on and self.charger.vehicle.plugged:
            self.charger.unplug()
