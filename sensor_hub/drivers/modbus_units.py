"""The units of a Modbus line: what lies where in them, what they take, and so which transactions read them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sensor_hub.drivers.base import Load, Point
from sensor_hub.drivers.modbus_learned import Learned
from sensor_hub.drivers.modbus_plan import Limits, ModbusBlock, Span, blocks_of
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.modbus_settings import Profile
from sensor_hub.drivers.modbus_timing import SerialTiming

_PLANS_MAX = 1000  # kept for one unit; with intervals of their own, points are due in ever other company
_ILLEGAL_FUNCTION = 1
_ILLEGAL_PLACE = (2, 3)  # an address, or a length, that the device does not have
_FAILURE = 4  # some answer so to a block that reaches beyond what they have


@dataclass(frozen=True, slots=True)
class Device:
    """One sensor: its registers by property, and where those lie that can be read."""

    sensor_id: str
    unit_id: int
    profile: Profile
    interval_s: float
    spans: Mapping[Point, Span]

    @classmethod
    def of(cls, sensor_id: str, unit_id: int, profile: Profile, interval_s: float) -> Device:
        """The sensor, read at this interval where its registers have none of their own."""
        spans = {
            Point(sensor_id, name): Span(item.table, item.address, item.count)
            for name, item in profile.registers.items()
            if item.read
        }
        return cls(sensor_id, unit_id, profile, interval_s, spans)

    @property
    def registers(self) -> Mapping[str, Register]:
        """By property."""
        return self.profile.registers


@dataclass(slots=True)
class Unit:
    """One address: its devices, what all of them allow, and what it turned out to take."""

    unit_id: int
    limits: Limits = field(default_factory=Limits)
    never_read: tuple[Span, ...] = ()
    delay_s: float = 0.0
    devices: dict[str, Device] = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)
    _plans: dict[tuple[Point, ...], list[ModbusBlock]] = field(default_factory=dict)
    _planned_with: tuple[frozenset[Span], Limits] | None = None

    def add(self, device: Device) -> None:
        """One more sensor with this address: the stricter word counts."""
        others, its = [each.profile.limits for each in self.devices.values()], device.profile.limits
        self.limits = Limits(
            min(limits.max_registers for limits in [*others, its]),
            min(limits.max_gap for limits in [*others, its]),
        )
        self.never_read = (*self.never_read, *device.profile.never_read)
        self.delay_s = max(self.delay_s, device.profile.delay_s)
        self.devices[device.sensor_id] = device

    def span(self, point: Point) -> Span:
        """Where a point that can be read lies."""
        return self.devices[point.sensor_id].spans[point]

    def plan(self, points: Sequence[Point], now: float) -> list[ModbusBlock]:
        """As few transactions as it takes. What it refused is left out where its sensor has other points."""
        refused, limits = self.learned.refused(now), self.learned.limits(self.limits, now)
        before = self._planned_with
        if before is None or before[0] is not refused or before[1] != limits or len(self._plans) > _PLANS_MAX:
            self._plans.clear()
            self._planned_with = refused, limits
        key = tuple(points)
        if key not in self._plans:
            self._plans[key] = self._new_plan(key, refused, limits)
        return self._plans[key]

    def plan_all(self, points: Sequence[Point], now: float) -> list[ModbusBlock]:
        """The same with nothing left out."""
        spans = {point: span for point in points if (span := self._readable_span(point)) is not None}
        refused, limits = self.learned.refused(now), self.learned.limits(self.limits, now)
        return blocks_of(self.unit_id, spans, limits, refused, self.never_read)

    def _readable_span(self, point: Point) -> Span | None:
        return self.devices[point.sensor_id].spans.get(point)

    def _new_plan(
        self, points: Iterable[Point], refused: frozenset[Span], limits: Limits
    ) -> list[ModbusBlock]:
        spans = {}
        for point in points:
            span = self._readable_span(point)
            if span is not None and not (span in refused and self._has_others(point, refused)):
                spans[point] = span
        return blocks_of(self.unit_id, spans, limits, refused, self.never_read)

    def _has_others(self, point: Point, refused: frozenset[Span]) -> bool:
        """Of a sensor that was refused everything, the first point is asked for all the same."""
        all_of_it = self.devices[point.sensor_id].spans
        return point != next(iter(all_of_it)) or any(span not in refused for span in all_of_it.values())

    def answered(self, block: ModbusBlock, now: float) -> None:
        """Remember that it read this."""
        self.learned.answer(block.span, now, map(self.span, block.points))

    def written(self, span: Span, now: float) -> None:
        """It took a value for this."""
        self.learned.ask_again(
            span, (each for device in self.devices.values() for each in device.spans.values()), now
        )

    def refused(self, block: ModbusBlock, code: int, now: float) -> list[Point]:
        """Remember that it refused this; the points that are the reason, if that is known now."""
        if code == _ILLEGAL_FUNCTION:
            for point in block.points:
                self.learned.refuse(self.span(point), now, [self.span(point)])
            return list(block.points)
        reasons = [point for point in block.points if self.span(point) == block.span]
        if code not in _ILLEGAL_PLACE and (code != _FAILURE or reasons):
            return []  # one register that fails may be well again the next time
        self.learned.refuse(block.span, now, map(self.span, block.points))
        return reasons

    def load(self, timing: SerialTiming) -> Load:
        """How busy it keeps its line; points with the same interval are read together."""
        by_interval: dict[float, dict[Point, Span]] = {}
        for device in self.devices.values():
            for point, span in device.spans.items():
                interval_s = device.registers[point.name].interval_s or device.interval_s
                by_interval.setdefault(interval_s, {})[point] = span
        per_s = share = 0.0
        for interval_s, spans in by_interval.items():
            for block in blocks_of(self.unit_id, spans, self.limits, untouchable=self.never_read):
                per_s += 1 / interval_s
                share += timing.read_s(block.span, self.delay_s) / interval_s
        return Load(self.unit_id, per_s, share)


def units_of(devices: Sequence[Device], delay_s: float) -> dict[int, Unit]:
    """The devices by address; `delay_s`: what the line wants before each request."""
    units: dict[int, Unit] = {}
    for device in devices:
        units.setdefault(device.unit_id, Unit(device.unit_id, delay_s=delay_s)).add(device)
    return units
