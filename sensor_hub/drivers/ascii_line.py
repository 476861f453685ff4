"""Devices that speak in lines of text: some answer a request, some print without being asked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sensor_hub.config.model import SensorConfig, TransportConfig
from sensor_hub.config.values import shown
from sensor_hub.drivers.ascii_line_complaints import Complaints
from sensor_hub.drivers.ascii_line_frames import Garbage, LineAssembler
from sensor_hub.drivers.ascii_line_settings import (
    UNIT_PLACEHOLDER,
    AsciiLineOptions,
    AsciiSensor,
    TextProperty,
)
from sensor_hub.drivers.ascii_line_values import NoValueError, command_of, values_in
from sensor_hub.drivers.base import Driver, Load, PropertySpec, options_of, problems_of
from sensor_hub.drivers.late_answers import DRAIN_MAX_S, LINGER_S, LateAnswers
from sensor_hub.drivers.serial_port import Port, serial_url_problem
from sensor_hub.errors import (
    BrokenFrame,
    DeviceRefused,
    HubError,
    InvalidCommand,
    Problem,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.readings import Json

# What comes so soon after opening may be the rest of a line.
_QUIET_S = 0.25
_COMMAND_MAX_CHARS = 512


@dataclass(frozen=True, slots=True)
class _Sensor:
    unit_id: str
    request: str | None
    match: str | None
    fields: Mapping[str, TextProperty]

    @classmethod
    def of(cls, sensor_id: str, settings: AsciiSensor) -> _Sensor:
        """The sensor with its unit id in all its templates."""
        unit_id = settings.unit_id or sensor_id

        def filled(template: str | None) -> str | None:
            return template and template.replace(UNIT_PLACEHOLDER, unit_id)

        fields = {
            name: item.model_copy(update={"command": filled(item.command)})
            for name, item in settings.fields.items()
        }
        return cls(unit_id, filled(settings.request), filled(settings.match), fields)

    def values_in(self, line: str) -> dict[str, Json]:
        """What the line says. Raises NoValueError if it is none of this sensor's."""
        return values_in(line, self.match, self.fields)

    def is_marked(self, line: str | Garbage) -> bool:
        """Whether the line begins as those of this sensor do, and nobody else's."""
        return self.match is not None and isinstance(line, str) and line.startswith(self.match)


class AsciiLine(Driver):
    """A line of text devices: a serial port, a pseudo-terminal, socket:// or rfc2217://."""

    name = "ascii_line"
    transport_settings = AsciiLineOptions
    sensor_settings = AsciiSensor
    url_problem = staticmethod(serial_url_problem)
    listens = True

    def __init__(self, transport: TransportConfig, sensors: Sequence[SensorConfig]) -> None:
        """Take validated configuration; open nothing."""
        super().__init__(transport, sensors)
        self._line = AsciiLineOptions.model_validate(dict(transport.options))
        self._sensors = {
            sensor.sensor_id: _Sensor.of(
                sensor.sensor_id, AsciiSensor.model_validate(dict(options_of(type(self), sensor)))
            )
            for sensor in sensors
        }
        self._speakers = {name: item for name, item in self._sensors.items() if item.request is None}
        self._port: Port | None = None
        self._start()

    def _start(self) -> None:
        self._assembler = LineAssembler(
            self._line.terminator, self._line.encoding, self._line.max_line_length
        )
        self._late = LateAnswers(self.transport.timeout_s)
        self._said: dict[str, dict[str, Json]] = {}  # unasked, not told yet
        self._complaints = Complaints(self._speakers, self.transport.read_interval_s, time.monotonic())
        self._opened_at: float | None = time.monotonic()  # None: it is known where lines begin

    def unit_id(self, sensor_id: str) -> str:
        """As configured, else the sensor itself."""
        return self._sensors[sensor_id].unit_id

    def properties(self, sensor_id: str) -> Mapping[str, PropertySpec]:
        """The sensor's properties; those with a command are writable if the line is."""
        fields = self._sensors[sensor_id].fields
        return {name: item.spec(writable=self.transport.write) for name, item in fields.items()}

    def is_polled(self, sensor_id: str) -> bool:
        """Only what has a request is asked."""
        return self._sensors[sensor_id].request is not None

    def connect(self) -> None:
        """Open the line. Raises TransportDown."""
        self.close()
        self._port = self._line.open(self.transport.url)
        self._start()

    def close(self) -> None:
        """Close the line; never raises."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def read(self, sensor_id: str) -> dict[str, Json]:
        """Ask the device, which has a request (see `is_polled`)."""
        sensor = self._sensors[sensor_id]
        assert sensor.request is not None
        self._drain()
        return self._answer(sensor, sensor.request)

    def write(self, sensor_id: str, values: Mapping[str, Json]) -> dict[str, Json]:
        """Send each value's command, all of them found good before; returns the values that were sent."""
        fields = self._sensors[sensor_id].fields
        orders = []
        for name, value in values.items():
            if name not in fields:
                raise InvalidCommand(f"unknown property {name[:64]!r}")
            ends = (self._line.terminator, self._line.end_of_request)
            command, said = command_of(name, fields[name], value, ends)
            orders.append((name, self._encoded(name, command), command, said))
        for name, data, command, _ in orders:
            self._drain()
            self._send(data)
            expected = fields[name].answer
            if expected is not None:
                self._expect(name, command, expected)
        return {name: said for name, _, _, said in orders}

    def listen(self, within_s: float) -> dict[str, Mapping[str, Json] | HubError | None]:
        """What devices say unasked; why it is no reading, where no other comes. Raises TransportDown."""
        until = time.monotonic() + within_s
        while not self._said:
            left_s = until - time.monotonic()
            for line in self._hear(max(0.0, left_s)):
                self._stray(line)
            if self._assembler.is_endless:
                self._stray(self._assembler.too_long())
            if left_s <= 0:
                break
        said, self._said = self._said, {}
        return {**self._complaints.due(time.monotonic()), **said}

    def load(self) -> Sequence[Load]:
        """At the least: requests are as long as they are, an answer has a character and its end."""
        if self.transport.url.startswith("socket:"):
            return ()
        rates = {item.unit_id: 0.0 for item in self._sensors.values()}
        shares = dict(rates)
        for item in self._sensors.values():
            if item.request is not None:
                sent = len(item.request) + len(self._line.end_of_request)
                rates[item.unit_id] += 1 / self.transport.read_interval_s
                shares[item.unit_id] += (sent + 1 + len(self._line.terminator)) * self._line.char_s
        interval_s = self.transport.read_interval_s
        return [Load(unit, rate, shares[unit] / interval_s) for unit, rate in rates.items() if rate]

    # -- reading ------------------------------------------------------------------------------------------------

    def _answer(self, sensor: _Sensor, request: str) -> dict[str, Json]:
        """Send the request; the line that answers it."""
        self._send(self._encoded("request", request))
        now = sent_at = time.monotonic()
        deadline = sent_at + self.transport.timeout_s
        answers: list[dict[str, Json]] = []
        failure: HubError | None = None
        while not self._late.is_ours(len(answers), now):
            if not answers and now >= deadline:
                if failure is None:
                    self._late.missed(sent_at)
                raise failure or ReadTimeout(self._silence())
            for line in self._hear(LINGER_S if answers else deadline - now):
                try:
                    answers.append(self._values(sensor, line))
                except (NoValueError, BrokenFrame) as error:
                    if line != request and not self._stray(line):  # some lines echo what is sent
                        failure = _failure(error)
            now = time.monotonic()
        self._late.settled()
        return answers[-1]

    def _expect(self, name: str, command: str, expected: str) -> None:
        """Wait for a command's answer. Raises DeviceRefused for another one."""
        sent_at = time.monotonic()
        deadline = sent_at + self.transport.timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            for line in self._hear(left_s):
                if isinstance(line, str) and re.search(expected, line):
                    return
                if line != command and not self._stray(line):
                    reason = line.reason if isinstance(line, Garbage) else shown(line)
                    raise DeviceRefused(f"{name} was answered with {reason}")
        self._late.missed(sent_at)
        raise ReadTimeout(self._silence())

    def _values(self, sensor: _Sensor, line: str | Garbage) -> dict[str, Json]:
        if isinstance(line, Garbage):
            raise BrokenFrame(line.reason)
        return sensor.values_in(line)

    def _silence(self) -> str:
        return f"no line within {self.transport.timeout_s:g} s"

    # -- the line -----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Take what came since the last exchange; answers among it are late ones."""
        until = time.monotonic() + DRAIN_MAX_S
        while (waiting := self._hear(0.0)) and time.monotonic() < until:
            for line in waiting:
                self._stray(line)
        if not self._speakers:
            self._assembler.drop_rest()

    def _hear(self, wait_s: float) -> list[str | Garbage]:
        if self._port is None:
            raise TransportDown(f"{self.transport.url} is not connected")
        data = self._port.read(max(0.0, wait_s))
        if data and self._opened_at is not None:
            if self._speakers and time.monotonic() < self._opened_at + _QUIET_S:
                self._assembler.skip_line()
            self._opened_at = None
        return self._assembler.feed(data)

    def _send(self, data: bytes) -> None:
        if self._port is None:
            raise TransportDown(f"{self.transport.url} is not connected")
        self._port.write(data)

    def _stray(self, line: str | Garbage) -> bool:
        """A line that nobody asked for: whether it is one of those who speak unasked, else of an old request."""
        taken = False
        for sensor_id, sensor in self._speakers.items():
            try:
                values = self._values(sensor, line)
            except (NoValueError, BrokenFrame) as error:
                if len(self._sensors) == 1 or sensor.is_marked(line):
                    self._complaints.bad(sensor_id, _failure(error))
                continue
            self._complaints.good(sensor_id, time.monotonic())
            self._said[sensor_id] = self._said.get(sensor_id, {}) | values
            taken = True
        if not taken and isinstance(line, str) and self._late.owed(time.monotonic()):
            self._late.came()
            return True
        return taken

    def _encoded(self, what: str, text: str) -> bytes:
        if len(text) > _COMMAND_MAX_CHARS:
            raise InvalidCommand(f"{what} may have {_COMMAND_MAX_CHARS} characters")
        try:
            return (text + self._line.end_of_request).encode(self._line.encoding)
        except UnicodeEncodeError:
            raise InvalidCommand(f"{what} has characters that are no {self._line.encoding}") from None

    # -- options ------------------------------------------------------------------------------------------------

    @classmethod
    def check_sensor(cls, sensor: SensorConfig, transport: TransportConfig) -> Iterator[Problem]:
        """Every problem of the sensor's options, and of them on this line."""
        found = [*super().check_sensor(sensor, transport)]
        yield from found
        if not found and not list(problems_of(cls.transport_settings, transport.options, transport.path)):
            settings = AsciiSensor.model_validate(dict(options_of(cls, sensor)))
            line = AsciiLineOptions.model_validate(dict(transport.options))
            yield from settings.problems(line, sensor.path)


def _failure(error: NoValueError | BrokenFrame) -> HubError:
    return error if isinstance(error, BrokenFrame) else ReadFailed(str(error))
