"""What goes in and out of the control API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from emulator.faults import Active, Fault, Faults
from emulator.profile_runner import Running, State
from emulator.profiles import Profile

LONGEST_TEXT = 200
Found = bool | int | float | str | None


def _value(value: object) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str) or len(str(value)) > LONGEST_TEXT:
        raise ValueError(f"must be true, false, a number or a text of at most {LONGEST_TEXT} characters")
    return value


# not a union: that would tell of its first branch only
Given = Annotated[
    Any,
    AfterValidator(_value),
    WithJsonSchema({"type": ["boolean", "number", "string"], "maxLength": LONGEST_TEXT}),
]


class Body(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewValue(Body):
    """A value as it shall be."""

    value: Given


class NewValues(Body):
    """Values by name; they are set in this order until one cannot be."""

    values: Annotated[dict[str, Given], Field(min_length=1, max_length=100)]


class Press(Body):
    """Somebody walks by: motion for so long, then what the model says."""

    seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0


class NewProfile(Body):
    """A profile on a value of a device."""

    device_id: str
    value: str
    profile: Profile


class Answer(BaseModel):
    """What is told."""

    model_config = ConfigDict(frozen=True)


class Refused(Answer):
    """Why something could not be done."""

    error: str


class FaultInForce(Fault):
    """A fault with its id: how often it struck, how many seconds are left (null: no end)."""

    fault_id: int
    struck: int
    remaining_s: float | None


class FaultList(Answer):
    """The faults of a line or of a device, and which it could have."""

    faults: tuple[FaultInForce, ...]
    possible: tuple[str, ...]


class OwnedFault(Answer):
    """A fault with whose it is."""

    owner: Literal["line", "device"]
    owner_id: str
    fault: FaultInForce


class AllFaults(Answer):
    """All faults in force."""

    faults: tuple[OwnedFault, ...]


class Counters(Answer):
    """What came by since the start."""

    answered: int
    swallowed: int
    bytes_in: int
    bytes_out: int


class LineFacts(Answer):
    """A line, or the web server of the HTTP devices.

    `place`: what a hub connects to. `tty`: the terminal behind it. `clients`: addresses, or for a terminal the
    programs that have it open, as far as this user may see them. `back_in_s`: it is disconnected for so long.
    """

    line_id: str
    kind: str
    place: str
    is_up: bool
    back_in_s: float | None
    tty: str | None
    clients: tuple[str, ...]
    baudrate: int | None
    paced: bool
    counters: Counters
    devices: tuple[str, ...]
    faults: FaultList


class LineTable(Answer):
    """All lines."""

    lines: tuple[LineFacts, ...]


class DeviceFacts(Answer):
    """A device. `takes`: what each value that can be set may be; `held`: measured values that are held at present."""

    device_id: str
    kind: str
    line_id: str
    values: dict[str, Found]
    takes: dict[str, str]
    held: tuple[str, ...]
    faults: FaultList


class DeviceTable(Answer):
    """All devices."""

    devices: tuple[DeviceFacts, ...]


class ProfileFacts(Answer):
    """A profile. `elapsed_s` is of the present round; `error`: why it failed."""

    profile_id: int
    device_id: str
    value: str
    kind: str
    state: State
    elapsed_s: float
    lasts_s: float | None
    repeat: bool
    set_to: Found
    error: str | None


class ProfileTable(Answer):
    """Profiles in the order they began: those that run, and the last 50 that are over."""

    profiles: tuple[ProfileFacts, ...]


class Status(Answer):
    """The emulator and its lines."""

    instance_id: str
    uptime_s: float
    lines: tuple[LineFacts, ...]
    devices: int
    faults: int
    profiles_running: int


class Cleared(Answer):
    """How many were taken back."""

    cleared: int


class MotionHeld(Answer):
    """Whether motion is held on or off; null: left to chance."""

    sensor_id: str
    active: bool | None


class HoldMotion(Answer):
    """Motion on or off whatever the time; null: back to chance."""

    active: bool | None


class Poll(Answer):
    """What a motion detector says."""

    motion_detected: bool
    battery_level: float
    signal_strength: int


def fault_of(active: Active) -> FaultInForce:
    """As told."""
    remaining_s = None if active.remaining_s is None else round(active.remaining_s, 3)
    return FaultInForce(
        **active.fault.model_dump(), fault_id=active.fault_id, struck=active.struck, remaining_s=remaining_s
    )


def faults_of(faults: Faults) -> FaultList:
    """Those in force and those that could be."""
    return FaultList(
        faults=tuple(fault_of(each) for each in faults.active()), possible=tuple(sorted(faults.possible))
    )


def profile_of(running: Running) -> ProfileFacts:
    """As told."""
    return ProfileFacts(
        profile_id=running.profile_id,
        device_id=running.device.device_id,
        value=running.value,
        kind=running.profile.kind,
        state=running.state,
        elapsed_s=round(running.elapsed_s, 3),
        lasts_s=running.course.lasts_s,
        repeat=running.profile.repeat,
        set_to=running.set_to,
        error=running.error,
    )
