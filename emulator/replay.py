"""A recording as the far end of a line: recorded requests get their recorded answers, as late as then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from emulator import logs
from emulator.answering import answered
from emulator.controls import Control, Controls
from emulator.dialects import Dialect, dialect_of
from emulator.faults import TEXT, Faults, Kind, Strikes
from emulator.pacing import Speed
from emulator.peers import Splitter, Struck
from emulator.recording import TO, Recording

LOST_S = 5.0  # how far behind its time something unasked may be and is still said
TICK_S = 0.02
MAX_TOLD = 100  # unknown requests, each told once


@dataclass(slots=True)
class Answer:
    """What came after a request, and how long after. Empty: nothing came."""

    after_s: float = 0.0
    data: bytes = b""


@dataclass(slots=True)
class Script:
    """A recording, understood: answers by request in their order, and what was said unasked with its time."""

    dialect: Dialect
    answers: dict[bytes, list[Answer]] = field(default_factory=dict)
    unasked: list[tuple[float, bytes]] = field(default_factory=list)
    lasts_s: float = 0.0


def script_of(recording: Recording) -> Script:
    """Sort out what answers what."""
    dialect = dialect_of([(piece.t, piece.data) for piece in recording.pieces if piece.dir == TO])
    asked, unasked = answered(dialect, recording)
    script = Script(dialect, unasked=unasked, lasts_s=recording.lasts_s)
    for each in asked:
        answer = Answer(each.said.begun_at - each.at if each.said.data else 0.0, bytes(each.said.data))
        script.answers.setdefault(dialect.key(each.request), []).append(answer)
    return script


class ReplayDevice(Controls):
    """What the control API sees of a replay: how well it knows what it is asked."""

    def __init__(self, device_id: str, faults: Faults, script: Script) -> None:
        super().__init__(device_id, "replay", faults)
        self.asked = self.unknown = 0
        self.last_unknown = ""
        self.controls = {
            "dialect": Control(lambda: script.dialect.name),
            "known_requests": Control(lambda: len(script.answers)),
            "asked": Control(lambda: self.asked),
            "unknown": Control(lambda: self.unknown),
            "last_unknown": Control(lambda: self.last_unknown),
        }


class ReplayPeer:
    """As peers.Peer."""

    possible = TEXT

    def __init__(self, device: ReplayDevice, script: Script) -> None:
        self._device, self._script = device, script
        self.tick_s: float | None = TICK_S if script.unasked else None
        self.late_s = 0.0
        self._next: dict[bytes, int] = {}
        self._told: set[bytes] = set()
        self._clock_s, self._said = 0.0, 0

    def splitter(self) -> Splitter:
        """As Peer."""
        return self._script.dialect.splitter(self._script.answers.keys())

    def pause_s(self, speed: Speed) -> float:
        """As Peer: the recorded times have it."""
        return 0.0

    def meant(self, request: bytes) -> Faults | None:
        """As Peer."""
        return self._device.faults if self._script.dialect.key(request) else None

    def answer(self, request: bytes, struck: Struck) -> bytes:
        """As Peer: the next of the recorded answers, the last one again and again; stuck, the same once more."""
        dialect, key = self._script.dialect, self._script.dialect.key(request)
        answers = self._script.answers.get(key)
        self._device.asked += 1
        if answers is None:
            self._tell(key)
            return b""
        place = self._next.get(key, 0)
        if Kind.STUCK in struck:
            place = max(0, place - 1)
        else:
            self._next[key] = min(place + 1, len(answers))
        found = answers[min(place, len(answers) - 1)]
        self.late_s = found.after_s
        return dialect.fitted(found.data, request)

    def corrupted(self, answer: bytes) -> bytes:
        """As Peer."""
        place = len(answer) // 2 if self._script.dialect.is_text else len(answer) - 1
        return answer[:place] + bytes([answer[place] ^ 0x40]) + answer[place + 1 :]

    def pass_time(self, seconds: float) -> None:
        """As Peer."""
        self._clock_s += seconds

    def forget_news(self) -> None:
        """As Peer."""
        self._due()

    def said(self, struck: Callable[[Faults], Strikes]) -> tuple[bytes, Strikes]:
        """As Peer: a device that was never asked anything begins anew at the end of its recording."""
        due = self._due()
        return (due, struck(self._device.faults)) if due else (b"", Strikes())

    def _due(self) -> bytes:
        unasked, found = self._script.unasked, b""
        while self._said < len(unasked) and unasked[self._said][0] <= self._clock_s:
            at, data = unasked[self._said]
            found += data if self._clock_s - at < LOST_S else b""
            self._said += 1
        if self._said == len(unasked) and not self._script.answers and self._clock_s >= self._script.lasts_s:
            self._clock_s = self._said = 0
        return found

    def _tell(self, key: bytes) -> None:
        self._device.unknown += 1
        shown = repr(key)[2:-1] if self._script.dialect.is_text else key.hex(" ")
        self._device.last_unknown = shown[:200]
        if key not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(key)
            logs.event("request that was not recorded", device=self._device.device_id, request=shown[:200])
