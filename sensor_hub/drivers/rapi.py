"""OpenEVSE chargers over RAPI. There is one charger on a line; several sensors of a line are all that charger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.drivers.base import Block, Driver, Load, Point, PropertySpec, Settings, options_of
from sensor_hub.drivers.rapi_client import RapiClient
from sensor_hub.drivers.rapi_frames import Frame
from sensor_hub.drivers.rapi_properties import Stop, command_of, specs, whole_of
from sensor_hub.drivers.rapi_values import (
    AMPS_MAX,
    AMPS_MIN,
    IDENTITY,
    QUERIES,
    QUERY_OF,
    STATE,
    Profile,
    Values,
    decode,
    profile_of,
)
from sensor_hub.drivers.serial_port import Port, serial_url_problem
from sensor_hub.drivers.serial_settings import SerialSettings
from sensor_hub.drivers.settings import one_of, whole
from sensor_hub.errors import DeviceRefused, ReadFailed, TransportDown, ValueOutOfRange
from sensor_hub.readings import Json

UNIT = "charger"
_LIMITS_OF_ANY = {
    "current_min": AMPS_MIN,
    "current_max": AMPS_MAX,
    "current_hw_max": AMPS_MAX,
}  # not told in $GC
_TRANSACTION_MAX_CHARS = 64  # the longest query and its answer


class RapiLine(SerialSettings):
    """Options of a charger's line."""

    baudrate: Annotated[int, whole(50, 4_000_000)] = 115200
    profile: Annotated[Literal["auto", "firmware", "emulator"], one_of(("auto", *Profile))] = "auto"


class RapiSensor(Settings):
    """A charger. `stop`: what `enabled: false` does."""

    stop: Annotated[Stop, one_of(("sleep", "disable"))] = "sleep"


@dataclass(frozen=True, slots=True)
class QueryBlock(Block):
    """One query."""

    command: str


class Rapi(Driver):
    """One charger on a serial line."""

    name = "rapi"
    transport_settings = RapiLine
    sensor_settings = RapiSensor
    url_problem = staticmethod(serial_url_problem)
    listens = True

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration; open nothing."""
        super().__init__(transport, sensors)
        self._line = RapiLine.model_validate(dict(transport.options))
        self._sensors = {
            sensor.sensor_id: RapiSensor.model_validate(dict(options_of(type(self), sensor)))
            for sensor in sensors
        }
        self._specs = {
            sensor.sensor_id: specs(sensor.interval_s, writable=transport.write) for sensor in sensors
        }
        self._port: Port | None = None
        self._client: RapiClient | None = None
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of the charger: it may be another one, or have another firmware."""
        profile = self._line.profile
        self._profile = None if profile == "auto" else Profile(profile)
        self._absent: set[str] = set()  # queries that it refuses
        self._identity: dict[str, Values] = {}  # by query; those that were asked
        self._last_transition: tuple[str, ...] = ()

    def unit_id(self, sensor_id: str) -> str:
        """There is one charger on the line."""
        return UNIT

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """Everything that a charger may have; what this one has not got never gets a value."""
        return self._specs[sensor_id]

    def connect(self) -> None:
        """Open the line. Raises TransportDown."""
        self.close()
        self._forget()
        self._port = self._line.open(self.transport.url)
        self._client = RapiClient(self._port, self.transport.timeout_s)

    def close(self) -> None:
        """Close the line; never raises."""
        port, self._port, self._client = self._port, None, None
        if port is not None:
            port.close()

    def plan(self, points: Sequence[Point]) -> Sequence[Block]:
        """One query for all points that it answers.

        What the charger refused, and what is known for good, rides along with the state at no cost.
        """
        queries: dict[str, list[Point]] = {}
        for point in points:
            queries.setdefault(self._query_of(point.name), []).append(point)
        return [QueryBlock(UNIT, tuple(asked), command) for command, asked in queries.items()]

    def exchange(self, block: Block) -> Mapping[Point, Json]:
        """Send the block's query. Points that the charger has not got are missing in what comes back."""
        assert isinstance(block, QueryBlock)
        self._get_to_know()
        values = self._query(block.command)
        for known in self._identity.values():
            values = values | known
        sensors = dict.fromkeys(point.sensor_id for point in block.points)
        return {Point(sensor_id, name): value for sensor_id in sensors for name, value in values.items()}

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Send checked values in their order; they come back as they were asked for.

        `current_limit` is never more than what was asked for, and less where the charger allows no more: that it is
        another than what comes back here, whoever reads it back sees.
        """
        stop = self._sensors[sensor_id].stop
        orders = [
            whole_of(name, value) if name == "current_limit" else command_of(name, value, stop)
            for name, value in values.items()
        ]
        self._get_to_know()
        limits = {order: self._allowed(order) for order in orders if isinstance(order, int)}
        for order in orders:
            if isinstance(order, int):
                self._limit_current(limits[order], order)
            elif not self._ask(order).is_accepted:
                raise DeviceRefused(f"the charger refused ${order}{self._reason(order)}")
        return dict(values)

    def listen(self, within_s: float) -> dict[str, None]:
        """A new state or a reboot: everything is to be read now. Raises TransportDown."""
        news = [self._is_news(frame) for frame in self._open_client().notifications(within_s)]
        return dict.fromkeys(self._sensors) if any(news) else {}

    def load(self) -> Sequence[Load]:
        """All queries at their intervals, each with the longest answer; a socket has no such limit."""
        if not self._sensors or self.transport.url.startswith("socket:"):
            return ()
        interval_s = self.transport.read_interval_s
        rate = sum(1 / max(query.interval_s or 0.0, interval_s) for query in QUERIES.values())
        return [Load(UNIT, rate, rate * _TRANSACTION_MAX_CHARS * self._line.char_s)]

    # -- the conversation ---------------------------------------------------------------------------------------

    def _open_client(self) -> RapiClient:
        if self._client is None:
            raise TransportDown(f"{self.transport.url} is not connected")
        return self._client

    def _ask(self, text: str) -> Frame:
        return self._open_client().ask(text)

    def _query_of(self, name: str) -> str:
        command = QUERY_OF[name]
        if name == "current_limit" and self._limit_is_in_settings():
            command = "GE"
        return STATE if command in self._absent or command in self._identity else command

    def _limit_is_in_settings(self) -> bool:
        return self._profile is Profile.EMULATOR or "GC" in self._absent

    def _get_to_know(self) -> None:
        """Before the first exchange of a connection: who it is, and which dialect it speaks."""
        if "GV" not in self._identity:
            self._identity["GV"] = self._query("GV")
        if self._profile is None:
            current = self._words("GG")
            self._profile = profile_of(current, self._words("GP") if len(current) not in (2, 4) else ())

    def _query(self, command: str) -> Values:
        """The properties that a query's answer holds: none if the charger does not know it."""
        if command in self._identity:
            return {}
        words = self._words(command)
        profile = self._profile or Profile.FIRMWARE  # who it is comes first, alike in both
        values = decode(QUERIES[command], words, profile) if words else {}
        if command == "GE" and not self._limit_is_in_settings():
            del values["current_limit"]
        if command in IDENTITY:
            self._identity[command] = values
        return values

    def _words(self, command: str) -> Sequence[str]:
        """The parameters of a query's answer; none if the charger does not know it, which is remembered.

        A charger also refuses what came to it damaged, so it is asked twice.
        """
        if command in self._absent:
            return ()
        for _ in range(2):
            answer = self._ask(command)
            if answer.is_accepted:
                if len(answer.words) == 1:
                    raise ReadFailed(f"the answer to ${command} is empty")
                return answer.words[1:]
        if command == STATE:
            raise DeviceRefused(f"the charger refused ${command}")
        self._absent.add(command)
        return ()

    def _allowed(self, asked: int) -> int:
        """As many of the A that are asked for as the charger allows. Raises ValueOutOfRange where those are too few."""
        limits = self._query("GC")
        low, high, hardware = (
            whole_of(name, limits.get(name, amps)) for name, amps in _LIMITS_OF_ANY.items()
        )
        if asked < low:
            raise ValueOutOfRange(f"current_limit must be at least {low}: this charger allows no less")
        return min(asked, high, hardware)

    def _limit_current(self, amps: int, asked: int) -> None:
        """Set the limit until the next restart (the lasting one wears the charger's memory out).

        An answer that names a value is no failure: the charger took that one instead.
        """
        answer = self._ask(f"SC {amps} V")
        if not answer.is_accepted and len(answer.words) == 1:
            held = self._query(self._query_of("current_limit")).get("current_limit")
            if held != amps:
                raise DeviceRefused(f"the charger refused $SC {amps} V; it holds {held} A")
        if amps != asked:  # who cannot read it back must not believe in what was asked for
            self._query(self._query_of("current_limit"))

    def _reason(self, command: str) -> str:
        """The fault for which it refuses to be enabled, if it names one."""
        if command != "FE":
            return ""
        fault = self._query(STATE)["fault"]
        return "" if fault == "none" else f": fault {fault}"

    def _is_news(self, frame: Frame) -> bool:
        """Whether a notification tells a change. The emulator repeats some without end."""
        match frame.words[0]:
            case "AB":
                self._forget()
                self._open_client().rebooted()
                return True
            case "AT" | "ST":
                before, self._last_transition = self._last_transition, frame.words
                return frame.words != before
        return False
