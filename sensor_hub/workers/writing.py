"""Writing to a device: relative values made absolute, its present values looked at, the outcome read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from sensor_hub import logs
from sensor_hub.config.model import WriteChecks
from sensor_hub.drivers.base import Driver, Point
from sensor_hub.errors import HubError, InvalidCommand, ReadOnly, TransportDown
from sensor_hub.properties import PropertySpec, check_range, is_relative, number_of
from sensor_hub.readings import Json
from sensor_hub.workers.transactions import Transactions

log = logs.get(__name__)

# How much of a device must hold what its configuration allows before anything is written to it.
PLAUSIBLE_SHARE = 0.9
MOST_READ_FOR_LOOKING = (
    125  # of those that were not read in the background yet: somebody waits for the answer
)


class Outcome(StrEnum):
    """What became of a written value, worst first: `mismatch` where the device holds something else."""

    MISMATCH = "mismatch"
    APPLIED = "applied"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Written:
    """Per property: what the device now holds (what was sent, where that cannot be read back), and the outcome."""

    values: Mapping[str, Json]
    outcomes: Mapping[str, Outcome]

    @property
    def outcome(self) -> Outcome:
        """Of all of them together: the worst."""
        return next((each for each in Outcome if each in self.outcomes.values()), Outcome.APPLIED)


class Writer:
    """Writes for one line. Belongs to its worker's thread."""

    def __init__(
        self,
        driver: Driver,
        checks: WriteChecks,
        transactions: Transactions,
        known: Callable[[str], Mapping[str, Json]],
    ) -> None:
        """`checks`: what is looked at before something is sent. `known`: what was read of a sensor last."""
        self._driver, self._checks, self._transactions, self._known = driver, checks, transactions, known
        self.lost: TransportDown | None = None  # the line broke after the last value was sent
        self._known_good: set[str] = set()  # sensors whose values were looked at since the line was opened

    def forget(self) -> None:
        """The line is new: whatever was on it may be another device now."""
        self._known_good.clear()

    def write(self, sensor_id: str, values: Mapping[str, Json], may_send: Callable[[], None]) -> Written:
        """Send checked values (see `properties.check_values`); `may_send` raises when it is too late to.

        Raises ReadOnly, InvalidCommand, ValueOutOfRange before anything is sent; then what the driver raises.
        """
        self.lost = None
        specs = self._driver.properties(sensor_id)
        if self._checks is not WriteChecks.UNSAFE:
            self._look_at(sensor_id, specs)
        needs = [name for name, value in values.items() if self._needs_current(specs[name], value)]
        now = self._now(sensor_id, needs)
        if self._checks is not WriteChecks.UNSAFE:
            for name in needs:
                _refuse_strange(name, now.get(name), specs[name])
        wanted = {name: _absolute(name, value, now, specs[name]) for name, value in values.items()}
        for name, value in wanted.items():
            if self._checks is not WriteChecks.UNSAFE:
                check_range(name, value, specs[name])
        may_send()
        sent = self._transactions.write(sensor_id, wanted)
        return self._read_back(sensor_id, sent, specs)

    def _look_at(self, sensor_id: str, specs: Mapping[str, PropertySpec]) -> None:
        """Before the first write: does the device hold what its configuration says it may? A wrong map does not."""
        if sensor_id in self._known_good:
            return
        names = [name for name, spec in specs.items() if spec.readable and is_limited(spec)]
        now = {name: value for name, value in self._known(sensor_id).items() if name in names}
        unread = [name for name in names if name not in now][:MOST_READ_FOR_LOOKING]
        try:
            now |= self._now(sensor_id, unread, insist=False)
        except TransportDown:
            raise
        except HubError:
            if self._checks is WriteChecks.FULL and not now:
                raise
        strange = [name for name in now if not is_allowed(now[name], specs[name])]
        if strange and len(strange) >= (1 - PLAUSIBLE_SHARE) * len(now):
            told = ", ".join(f"{name} is {now[name]!r}" for name in strange[:3])
            message = (
                f"{len(strange)} of {len(now)} properties hold what the configuration does not allow: {told}"
            )
            if self._checks is WriteChecks.FULL:
                raise ReadOnly(
                    f"{message}; is it the right device and map? write: relaxed does not ask for all"
                )
            log.warning("device holds strange values", device=sensor_id, reason=message)
        self._known_good.add(sensor_id)

    def _needs_current(self, spec: PropertySpec, value: Json) -> bool:
        if is_relative(value, spec):
            return True
        return spec.readable and is_limited(spec) and self._checks is not WriteChecks.UNSAFE

    def _now(self, sensor_id: str, names: Sequence[str], *, insist: bool = True) -> dict[str, Json]:
        if not names:
            return {}
        found = self._transactions.read([Point(sensor_id, name) for name in names], insist=insist)
        return {point.name: value for point, value in found.items() if point.sensor_id == sensor_id}

    def _read_back(
        self, sensor_id: str, sent: Mapping[str, Json], specs: Mapping[str, PropertySpec]
    ) -> Written:
        names = [name for name in sent if specs[name].readable]
        try:
            now = self._now(sensor_id, names)
        except HubError as error:
            # It was sent and acknowledged; that reading failed is told with the next reading.
            self.lost = error if isinstance(error, TransportDown) else None
            log.warning("written value could not be read back", device=sensor_id, reason=str(error))
            now = {}
        outcomes = {
            name: _compare(value, now.get(name), name in now, specs[name]) for name, value in sent.items()
        }
        return Written({name: now.get(name, value) for name, value in sent.items()}, outcomes)


def is_limited(spec: PropertySpec) -> bool:
    """Whether its definition says what the device may hold (and not only what a command may say)."""
    return spec.limited


def is_allowed(value: Json, spec: PropertySpec) -> bool:
    """Whether the device's own value lies within what the configuration allows (steps apart)."""
    if spec.choices is not None:
        return value in spec.choices
    number = number_of(value)
    if number is None:
        return spec.kind != "number"
    if spec.allowed is not None and not any(
        math.isclose(number, each, rel_tol=1e-6) for each in spec.allowed
    ):
        return False
    above = spec.minimum is None or number >= spec.minimum
    return above and (spec.maximum is None or number <= spec.maximum)


def _refuse_strange(name: str, value: Json, spec: PropertySpec) -> None:
    if value is not None and is_limited(spec) and not is_allowed(value, spec):
        raise ReadOnly(
            f"{name} is {value!r} now, which its configuration does not allow: is it the right register? "
            "write: unsafe writes anyway"
        )


def _absolute(name: str, value: Json, now: Mapping[str, Json], spec: PropertySpec) -> Json:
    """The value to send: "+10", "-0.5" and "toggle" refer to what the device holds now."""
    if not is_relative(value, spec):
        return value
    current = now.get(name)
    if spec.kind == "boolean":
        if not isinstance(current, bool):
            raise InvalidCommand(f"{name} cannot be toggled: what it is now cannot be read")
        return not current
    number = number_of(current)
    if number is None:
        raise InvalidCommand(f"{name} cannot be changed by {value}: what it is now cannot be read")
    total = Decimal(repr(current)) + Decimal(str(value))
    return int(total) if total == total.to_integral_value() and isinstance(current, int) else float(total)


def _compare(sent: Json, now: Json, was_read: bool, spec: PropertySpec) -> Outcome:
    if not was_read:
        return Outcome.APPLIED
    wanted, found = number_of(sent), number_of(now)
    if wanted is None or found is None:
        return Outcome.VERIFIED if sent == now else Outcome.MISMATCH
    tolerance = spec.tolerance if spec.tolerance is not None else (spec.step or 0.0) / 2
    dust = 1e-9 * max(1.0, abs(wanted))
    return Outcome.VERIFIED if abs(wanted - found) <= tolerance + dust else Outcome.MISMATCH
