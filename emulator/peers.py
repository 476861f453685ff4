"""What is at the far end of a line: how its bytes fall into requests, who answers, how an answer goes wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from emulator.faults import MODBUS, RAPI, TEXT, Fault, Faults, Kind, Strikes
from emulator.frames import RequestAssembler, framed
from emulator.modbus_pdu import refusal_of
from emulator.pacing import Speed
from emulator.rapi_lines import framed as rapi_framed
from emulator.rapi_lines import with_wrong_character, with_wrong_checksum
from emulator.units import Unit

Splitter = Callable[[bytes, float], list[bytes]]
Struck = Mapping[Kind, Fault]
LONGEST_TEXT = 1024
BROADCAST = 0
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|[\r\n])")
_CR_LINE = re.compile(rb"[^\r]*\r\n?")


class Peer(Protocol):
    """The devices of a line."""

    possible: frozenset[Kind]
    tick_s: float | None  # how often time is to be passed to it
    late_s: float  # how long the answer just given takes, besides `pause_s`

    def splitter(self) -> Splitter:
        """For a new client: its bytes and their time (monotonic, s) in, whole requests out."""

    def pause_s(self, speed: Speed) -> float:
        """How long it takes before it answers, on a line of that speed."""

    def meant(self, request: bytes) -> Faults | None:
        """The faults of the device that a request is for; None: nobody hears it."""

    def answer(self, request: bytes, struck: Struck) -> bytes:
        """Carry a request out; b"" when there is no answer to it."""

    def corrupted(self, answer: bytes) -> bytes:
        """An answer whose checksum is wrong, or with a wrong character where there is none."""

    def pass_time(self, seconds: float) -> None:
        """So much time is over."""

    def said(self, struck: Callable[[Faults], Strikes]) -> tuple[bytes, Strikes]:
        """What it says unasked, once, and what is wrong with that. `struck` asks for a device's faults."""

    def forget_news(self) -> None:
        """What it says unasked now nobody hears."""


class ModbusBus:
    """Modbus RTU units; who is not there is silent."""

    possible = MODBUS
    tick_s: float | None = None
    late_s = 0.0

    def __init__(self, units: Mapping[int, Unit]) -> None:
        """`units` by unit id."""
        self._units = units
        self._nobody = Faults((), random.Random())

    def splitter(self) -> Splitter:
        """As Peer."""
        return RequestAssembler().feed

    def pause_s(self, speed: Speed) -> float:
        """As Peer: a unit hears the silence at the end of the request."""
        return speed.silence_s

    def meant(self, request: bytes) -> Faults | None:
        """As Peer."""
        if request[0] == BROADCAST:
            return self._nobody
        unit = self._units.get(request[0])
        return None if unit is None else unit.faults

    def answer(self, request: bytes, struck: Struck) -> bytes:
        """As Peer: WRONG_UNIT and EXCEPTION are its own to carry out."""
        unit_id, pdu = request[0], request[1:-2]
        if unit_id == BROADCAST:
            self._carry_out(pdu, struck)
            return b""
        if Kind.EXCEPTION in struck:
            said = refusal_of(pdu, struck[Kind.EXCEPTION].says)
        else:
            said = self._units[unit_id].answer(pdu, stuck=Kind.STUCK in struck)
        return framed(unit_id % 247 + 1 if Kind.WRONG_UNIT in struck else unit_id, said)

    def _carry_out(self, pdu: bytes, struck: Struck) -> None:
        """What all are told and none answers: each does it, or what is wrong with it instead."""
        if Kind.EXCEPTION in struck:
            return
        for unit in self._units.values():
            own = Strikes(unit.faults)
            if Kind.SILENCE not in own and Kind.EXCEPTION not in own:
                unit.answer(pdu, stuck=Kind.STUCK in own or Kind.STUCK in struck)

    def corrupted(self, answer: bytes) -> bytes:
        """As Peer."""
        return answer[:-1] + bytes([answer[-1] ^ 0xFF])

    def pass_time(self, seconds: float) -> None:
        """Values are computed when they are read."""

    def said(self, struck: Callable[[Faults], Strikes]) -> tuple[bytes, Strikes]:
        """Units only answer."""
        return b"", Strikes()

    def forget_news(self) -> None:
        """Units only answer."""


class Talker(Protocol):
    """A device that speaks in lines of text."""

    device_id: str
    kind: str
    faults: Faults
    listens: bool  # False: nothing can be asked of it
    ends_at_cr: bool  # only a CR ends what it hears; else an LF does, too

    def heard(self, data: bytes, *, stuck: bool = False) -> bytes:
        """What it answers to bytes from the line; stuck, as it was when it last said something."""

    def pass_time(self, seconds: float) -> None:
        """So much time is over."""

    def has_news(self, *, stuck: bool) -> bool:
        """Whether it wants to say something unasked. `stuck`: a fault that makes it stuck is in force."""

    def take_said(self, *, stuck: bool = False) -> bytes:
        """These news, once; stuck, nothing that it has not said before."""

    def forget_news(self) -> None:
        """Nobody hears them."""


class TextPeer:
    """One talker; each line that it hears is a request."""

    tick_s: float | None = 0.1
    late_s = 0.0

    def __init__(self, device: Talker, *, is_charger: bool) -> None:
        self._device, self._is_charger = device, is_charger
        self.possible = RAPI if is_charger else TEXT

    def splitter(self) -> Splitter:
        """As Peer."""
        return TextSplitter(ends_at_cr=self._device.ends_at_cr).feed

    def pause_s(self, speed: Speed) -> float:
        """As Peer."""
        return 0.0

    def meant(self, request: bytes) -> Faults | None:
        """As Peer: an empty line (the LF after a CR) is for nobody."""
        return self._device.faults if self._device.listens and request.strip() else None

    def answer(self, request: bytes, struck: Struck) -> bytes:
        """As Peer: an EXCEPTION is a charger's NK."""
        if Kind.EXCEPTION in struck:
            return rapi_framed("NK")
        return self._device.heard(request, stuck=Kind.STUCK in struck)

    def corrupted(self, answer: bytes) -> bytes:
        """As Peer."""
        return with_wrong_checksum(answer) if self._is_charger else with_wrong_character(answer)

    def pass_time(self, seconds: float) -> None:
        """As Peer."""
        self._device.pass_time(seconds)

    def said(self, struck: Callable[[Faults], Strikes]) -> tuple[bytes, Strikes]:
        """As Peer."""
        found = struck(self._device.faults)
        if not self._device.has_news(stuck=found.is_in_force(Kind.STUCK)):
            return b"", Strikes()
        if Kind.SILENCE in found or Kind.DISCONNECT in found:
            self._device.forget_news()
            return b"", found
        return self._device.take_said(stuck=Kind.STUCK in found), found

    def forget_news(self) -> None:
        """As Peer: that it is stuck no more is told to who comes later."""
        if self._device.has_news(stuck=True):
            self._device.forget_news()


class TextSplitter:
    """Cuts after each line's end; of a line that does not end the last bytes are kept."""

    def __init__(self, *, ends_at_cr: bool = False) -> None:
        """`ends_at_cr`: an LF alone is no end."""
        self._line, self._ends = (_CR_LINE, b"\r") if ends_at_cr else (_LINE, b"\r\n")
        self._rest = b""

    def feed(self, data: bytes, _: float) -> list[bytes]:
        """The whole lines, their ends included."""
        whole = self._rest + data
        last = max(
            whole.rfind(bytes([end])) for end in self._ends
        )  # the pattern is slow where no end follows
        lines = self._line.findall(whole[: last + 2]) if last >= 0 else []
        self._rest = whole[sum(map(len, lines)) :][-LONGEST_TEXT:]
        return lines
