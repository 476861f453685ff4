"""One conversation with a charger: a command and its own answer, whatever else it says in between."""

from __future__ import annotations

import time
from collections import deque

from sensor_hub.drivers.late_answers import DRAIN_MAX_S, LINGER_S, LateAnswers
from sensor_hub.drivers.rapi_frames import Assembler, Broken, Frame, parse, request
from sensor_hub.drivers.serial_port import Port
from sensor_hub.errors import BrokenFrame, ReadTimeout

_UNASKED_MAX = 64


class RapiClient:
    """Asks on an open port. One command at a time is under way.

    The first command carries a sequence id; whether the answer has it too tells if the device knows them. Without
    them an answer that comes late looks like the answer to the next command, see LateAnswers.
    """

    def __init__(self, port: Port, timeout_s: float) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._assembler = Assembler()
        self._late = LateAnswers(timeout_s)
        self._unasked: deque[Frame] = deque(maxlen=_UNASKED_MAX)
        self._sequence = 0
        self._has_sequences: bool | None = None  # None: not known yet
        self._has_checksums = False

    def ask(self, text: str) -> Frame:
        """Send a command such as `SC 16 V`; its answer, yes or no.

        Raises ReadTimeout, BrokenFrame, TransportDown.
        """
        self._drain()
        sequence = self._next_sequence()
        self._port.write(request(text, sequence))
        now = sent_at = time.monotonic()
        deadline, broken = sent_at + self._timeout_s, False
        answers: list[Frame] = []
        while not answers or not self._is_settled(answers, now):
            if not answers and now >= deadline:
                raise self._failure(text, sent_at, broken)
            for frame in self._hear(LINGER_S if answers else deadline - now):
                if isinstance(frame, Broken):
                    broken = True
                elif frame.is_reply and frame.sequence in (sequence, None):  # else it answers something else
                    answers.append(frame)
            now = time.monotonic()
        return self._accept(answers[-1])

    def notifications(self, within_s: float) -> list[Frame]:
        """What the charger has said unasked; waits at most so long for it. Raises TransportDown."""
        until = time.monotonic() + within_s
        while not self._unasked:
            left_s = until - time.monotonic()
            for frame in self._hear(max(0.0, left_s)):
                self._note_stray(frame)
            if left_s <= 0:
                break
        said = list(self._unasked)
        self._unasked.clear()
        return said

    def rebooted(self) -> None:
        """It may have another firmware now."""
        self._has_sequences, self._has_checksums = None, False

    def _next_sequence(self) -> int | None:
        if self._has_sequences is False:
            return None
        self._sequence = self._sequence % 0xFF + 1  # 0 is reserved
        return self._sequence

    def _hear(self, wait_s: float) -> list[Frame | Broken]:
        """Frames that came, notifications put aside."""
        heard: list[Frame | Broken] = []
        for line in self._assembler.feed(self._port.read(wait_s)):
            frame = parse(line)
            if isinstance(frame, Frame) and frame.is_reply and self._has_checksums and not frame.checked:
                frame = Broken()  # cut off: it always sends checksums
            if isinstance(frame, Frame) and frame.is_notification:
                self._unasked.append(frame)
            elif frame is not None:
                heard.append(frame)
        return heard

    def _drain(self) -> None:
        """Take what came since the last exchange; answers among it are late ones."""
        until = time.monotonic() + DRAIN_MAX_S
        while True:
            waiting = self._hear(0.0)
            for frame in waiting:
                self._note_stray(frame)
            if not waiting or time.monotonic() > until:
                return

    def _note_stray(self, frame: Frame | Broken) -> None:
        if isinstance(frame, Frame) and frame.is_reply:
            self._late.came()

    def _is_settled(self, answers: list[Frame], now: float) -> bool:
        """Whether the last of these is the answer to the last command."""
        return answers[-1].sequence is not None or self._late.is_ours(len(answers), now)

    def _accept(self, answer: Frame) -> Frame:
        self._late.settled()
        self._has_checksums = self._has_checksums or answer.checked
        if self._has_sequences is None:
            self._has_sequences = answer.sequence is not None
        return answer

    def _failure(self, text: str, sent_at: float, broken: bool) -> ReadTimeout | BrokenFrame:
        if broken:
            return BrokenFrame(f"broken answer to ${text}: wrong checksum or cut off")
        self._late.missed(sent_at)
        return ReadTimeout(f"no answer to ${text} within {self._timeout_s:g} s")
