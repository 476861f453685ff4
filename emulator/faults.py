"""What a line or a device does wrong, and when: each fault with a probability, for a while, or for the next N."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Kind(StrEnum):
    """The faults there are."""

    SILENCE = "silence"
    DELAY = "delay"
    CRC_ERROR = "crc_error"
    TRUNCATION = "truncation"
    WRONG_UNIT = "wrong_unit"
    EXCEPTION = "exception"
    ECHO = "echo"
    GARBAGE = "garbage"
    DISCONNECT = "disconnect"
    STUCK = "stuck"
    HTTP_ERROR = "http_error"
    HANG = "hang"
    RESET = "reset"
    HUGE_BODY = "huge_body"


SERIAL = frozenset(
    (Kind.SILENCE, Kind.DELAY, Kind.CRC_ERROR, Kind.TRUNCATION, Kind.ECHO, Kind.GARBAGE, Kind.DISCONNECT)
)
TEXT = SERIAL | {Kind.STUCK}
RAPI = TEXT | {Kind.EXCEPTION}
MODBUS = TEXT | {Kind.WRONG_UNIT, Kind.EXCEPTION}
HTTP = frozenset((Kind.DELAY, Kind.HTTP_ERROR, Kind.HANG, Kind.RESET, Kind.HUGE_BODY, Kind.STUCK))

SECONDS = MappingProxyType({Kind.DELAY: 1.0, Kind.DISCONNECT: 1.0, Kind.HANG: 8.0})
CODES = MappingProxyType(
    {Kind.EXCEPTION: (4, 1, 255), Kind.HTTP_ERROR: (500, 400, 599)}
)  # default, low, high
HALF = -1
SIZES = MappingProxyType({Kind.GARBAGE: 8, Kind.HUGE_BODY: 10_000_000, Kind.TRUNCATION: HALF})
MAX_GARBAGE_BYTES = 65536
_ORDER = itertools.count()  # in which all faults came, whosever they are


class Fault(BaseModel):
    """One fault as it is asked for, in a scenario or at run time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    probability: float = Field(1.0, ge=0, le=1, description="Share of exchanges that it strikes.")
    duration_s: float | None = Field(None, gt=0, le=31_536_000, description="Then it is over; null: no end.")
    count: int | None = Field(None, ge=1, description="It is over after so many strikes; null: no end.")
    seconds: float | None = Field(
        None, gt=0, le=3600, description="delay (1), hang (8), disconnect (1): how long each strike lasts."
    )
    code: int | None = Field(
        None, description="exception (4): the Modbus exception code; http_error (500): the status."
    )
    size_bytes: int | None = Field(
        None,
        ge=0,
        le=100_000_000,
        description="garbage (8, at most 65536), huge_body (10000000): how much; truncation (half): what is left.",
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Fault:
        for name, allowed in (("seconds", SECONDS), ("code", CODES), ("size_bytes", SIZES)):
            if getattr(self, name) is not None and self.kind not in allowed:
                raise ValueError(f"{name} means nothing for {self.kind}")
        if self.kind is Kind.GARBAGE and self.size > MAX_GARBAGE_BYTES:
            raise ValueError(f"size_bytes of garbage must be 0..{MAX_GARBAGE_BYTES}")
        if self.code is not None:
            _, low, high = CODES[self.kind]
            if not low <= self.code <= high:
                raise ValueError(f"code of {self.kind} must be {low}..{high}")
        return self

    @property
    def lasts_s(self) -> float:
        """Seconds of one strike; 0.0 for kinds without."""
        return self.seconds if self.seconds is not None else SECONDS.get(self.kind, 0.0)

    @property
    def says(self) -> int:
        """The code, or the kind's own."""
        return self.code if self.code is not None else CODES[self.kind][0]

    @property
    def size(self) -> int:
        """The size in bytes, or the kind's own, which may be HALF."""
        return self.size_bytes if self.size_bytes is not None else SIZES[self.kind]

    def left_of(self, data: bytes) -> bytes:
        """What a truncation leaves."""
        return data[: (len(data) + 1) // 2 if self.size == HALF else self.size]


class NotPossibleError(Exception):
    """This line or device cannot have that fault; the message says which it can."""


@dataclass(frozen=True, slots=True)
class Active:
    """A fault that is in force: how often it struck, how long it still is (None: no end)."""

    fault_id: int
    fault: Fault
    struck: int
    remaining_s: float | None


@dataclass(slots=True)
class _Held:
    fault: Fault
    ends_at: float | None
    order: int = field(default_factory=lambda: next(_ORDER))
    struck: int = 0

    def is_over(self, now: float) -> bool:
        count = self.fault.count
        return (self.ends_at is not None and now >= self.ends_at) or (
            count is not None and self.struck >= count
        )


class Faults:
    """The faults of one line or one device. Any thread may ask and tell."""

    def __init__(
        self,
        possible: Collection[Kind],
        chance: random.Random,
        first: Sequence[Fault] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`possible`: the kinds it can have; `first`: in force from the start; `now`: monotonic, s."""
        self.possible = frozenset(possible)
        self._chance, self._now = chance, now
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}
        self._waiting: dict[Callable[[], object], Fault] = {}
        self._last_id = 0
        for fault in first:
            self.inject(fault)

    def inject(self, fault: Fault) -> int:
        """Put a fault in force and return its id. Raises NotPossibleError."""
        if fault.kind not in self.possible:
            raise NotPossibleError(f"{fault.kind} is not one of {', '.join(sorted(self.possible))}")
        with self._lock:
            self._last_id += 1
            ends_at = None if fault.duration_s is None else self._now() + fault.duration_s
            self._held[self._last_id] = _Held(fault, ends_at)
            return self._last_id

    def remove(self, fault_id: int) -> bool:
        """Take one back; False when it is not (or no longer) there."""
        with self._lock:
            self._forget_old()
            held = self._held.pop(fault_id, None)
            if held is not None:
                self._wake(held.fault)
            return held is not None

    def clear(self) -> None:
        """Take all back, and what still lasts of their strikes."""
        with self._lock:
            self._held.clear()
            self._wake(None)

    @contextmanager
    def waiting(self, fault: Fault, wake: Callable[[], object]) -> Iterator[None]:
        """While a strike lasts: `wake` is called, by any thread, when its fault is taken back."""
        with self._lock:
            self._waiting[wake] = fault
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[wake]

    def _wake(self, whose: Fault | None) -> None:
        for wake, fault in self._waiting.items():
            if whose is None or fault is whose:
                wake()

    def active(self) -> list[Active]:
        """Those in force, in the order they came."""
        with self._lock:
            now = self._forget_old()
            return [
                Active(
                    fault_id, held.fault, held.struck, None if held.ends_at is None else held.ends_at - now
                )
                for fault_id, held in self._held.items()
            ]

    def held(self, kind: Kind) -> list[tuple[int, int]]:
        """The order (of all faults there are) and the id of each fault of a kind."""
        if not self._held:
            return []
        with self._lock:
            return [
                (held.order, fault_id) for fault_id, held in self._held.items() if held.fault.kind is kind
            ]

    def strike(self, fault_id: int) -> Fault | None:
        """The fault, if it strikes now: chance is asked, what is counted counts."""
        with self._lock:
            self._forget_old()
            held = self._held.get(fault_id)
            if held is None:
                return None
            share = held.fault.probability
            if share < 1 and self._chance.random() >= share:
                return None
            held.struck += 1
            return held.fault

    def _forget_old(self) -> float:
        now = self._now()
        for fault_id in [key for key, held in self._held.items() if held.is_over(now)]:
            del self._held[fault_id]
        return now


class Strikes(Mapping[Kind, Fault]):
    """What strikes one exchange. Ask for a kind only where it can act: that is when it strikes, once, and counts.

    Of a kind the newest strikes, or the one before it if that does not, whether it is a line's or a device's.
    """

    def __init__(self, *owners: Faults) -> None:
        self._owners = owners
        self._asked: dict[Kind, Fault | None] = {}
        self._whose: dict[Kind, Faults] = {}

    def __getitem__(self, kind: Kind) -> Fault:
        if kind not in self._asked:
            self._asked[kind] = self._strike(kind)
        fault = self._asked[kind]
        if fault is None:
            raise KeyError(kind)
        return fault

    def __iter__(self) -> Iterator[Kind]:
        return (kind for kind in Kind if kind in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def is_in_force(self, kind: Kind) -> bool:
        """Whether one of a kind could strike; to ask so does not count."""
        return any(active.fault.kind is kind for owner in self._owners for active in owner.active())

    def waiting(self, kind: Kind, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """As Faults.waiting, of a kind that strikes."""
        fault = self[kind]
        return self._whose[kind].waiting(fault, wake)

    def _strike(self, kind: Kind) -> Fault | None:
        held = [(order, fault_id, owner) for owner in self._owners for order, fault_id in owner.held(kind)]
        held.sort(key=lambda each: each[0], reverse=True)
        for _, fault_id, owner in held:
            if (fault := owner.strike(fault_id)) is not None:
                self._whose[kind] = owner
                return fault
        return None


def share(kind: Kind, rate: float) -> list[Fault]:
    """The fault that an `error_rate` stands for; none at 0."""
    return [Fault(kind=kind, probability=rate)] if rate > 0 else []
