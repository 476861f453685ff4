"""pymodbus' synchronous serial client, made strict: one request, and only its own answer or an error of ours.

pymodbus builds requests and decodes answers. What it leaves open is decided here: it takes any function
code for an answer, it cannot tell a late answer from the right one, and it hides why a line failed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pymodbus.client import ModbusSerialClient

from sensor_hub.drivers.late_answers import LATE_FACTOR
from sensor_hub.drivers.modbus_frames import Expected, is_read, rtu_answers, rtu_strangers
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_probe import probe_of
from sensor_hub.drivers.modbus_surplus import Surplus
from sensor_hub.drivers.modbus_timing import SerialTiming
from sensor_hub.drivers.serial_port import Port
from sensor_hub.drivers.serial_settings import SerialSettings
from sensor_hub.errors import BrokenFrame, HubError, ReadTimeout, TransportDown

_HEARD_MAX_BYTES = 1024
_SHOWN_BYTES = 8
# A line on which answers are behind is not looked at again for so long whether they still are.
_BEHIND_S = 60.0
# A device that answers so knows neither the function nor the place: it would say the same again.
_REFUSED_FOR_GOOD = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A request whose answer may still come; `sent_at` is monotonic."""

    request: bytes
    expected: Expected
    sent_at: float


class RtuClient(ModbusSerialClient):
    """A serial line: a port, a pseudo-terminal, socket:// or rfc2217://.

    RTU frames carry no transaction id, so the answer to a request that timed out looks like the answer to
    the next one to the same unit. Such requests are remembered for `LATE_FACTOR` timeouts. When an answer
    comes that could belong to one of them, further answers are waited for: devices answer in order, so the
    last one is ours.

    Some adapters let an answer out only when the next request goes in, however much later that is. So the last
    unanswered request of a unit and function stays in doubt: where its answer would fit another request, that is
    sent twice. What comes then is right, whether the first was lost or is still behind. Which of the two it was, a
    read of another length tells, so that a line that lost an answer is not asked twice for ever.
    """

    def __init__(
        self,
        url: str,
        settings: SerialSettings,
        *,
        timeout_s: float,
        delays_s: Mapping[int, float],
        never_read: Mapping[int, Collection[Span]],
    ) -> None:
        """By unit, `delays_s`: least pause before a request; `never_read`: what must not be. Opens nothing."""
        super().__init__(url, timeout=timeout_s, retries=0)
        self._url, self._settings = url, settings
        self._timeout_s, self._delays_s, self._never_read = timeout_s, delays_s, never_read
        self._timing = SerialTiming.of(settings.char_s)
        self._surplus = Surplus(timeout_s)
        self._port: Port | None = None
        self._request = b""
        self._expected = Expected(b"\0\0", 0)
        self._sent_at = 0.0
        self._active_at = 0.0
        self._echoes = False
        self._unanswered: list[_Unanswered] = []
        self._doubts: dict[bytes, _Unanswered] = {}  # by unit and function
        self._behind_until: dict[bytes, float] = {}  # likewise; answers are, as far as is known

    def connect(self) -> bool:
        """Open the port. Raises TransportDown with the reason."""
        if self._port is None:
            self._port = self._settings.open(self._url)
            self._surplus.forget()
            self._unanswered.clear()
            self._doubts.clear()
            self._behind_until.clear()
            self._echoes = False
        return True

    def close(self) -> None:
        """Close the port; never raises."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def send(self, request: bytes, addr: tuple[object, ...] | None = None) -> int:
        """Send one frame after the silence that is due; what is still in the input is dropped."""
        self._drain(self._timing.pause_s(self._delays_s.get(request[0], 0.0)), is_read(request))
        self._request = bytes(request)
        self._expected = Expected.to(self._request[:-2])
        self._open_port.write(self._request)
        if is_read(self._request):
            self._surplus.asked(self._expected)
        self._sent_at = self._active_at = time.monotonic()
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """The one frame that answers the request. Raises ReadTimeout, BrokenFrame, TransportDown."""
        answer = self._next_answer()
        doubt = self._doubts.get(self._expected.exception_prefix)
        if doubt is not None and doubt.request != self._request:
            if doubt.expected.fits(answer[:-2]) and is_read(self._request):
                answer = self._second_answer()
            else:
                del self._doubts[self._expected.exception_prefix]  # ours came before it: it was lost
        return answer

    def _second_answer(self) -> bytes:
        """What comes when the request is sent once more: answers this one or the same request before it."""
        self.send(self._request)
        answer = self._next_answer()
        self._doubts[self._expected.exception_prefix] = self._as_unanswered()
        if self._refusal_in(answer) is None:
            self._look_behind()
        return answer

    def _look_behind(self) -> None:
        """End the doubt, if nothing is behind: then reads of different lengths get their own answers.

        The second of them is for devices that do not answer the first. Where something is behind, each gets the
        answer to the one before it.
        """
        key, request = self._expected.exception_prefix, self._request
        probe = probe_of(request, self._never_read.get(self._expected.unit_id, ()))
        if probe is None or self._sent_at < self._behind_until.get(key, 0.0):
            return
        if self._is_answered(probe, _REFUSED_FOR_GOOD) or self._is_answered(request, ()):
            self._doubts.pop(key, None)
        else:
            self._behind_until[key] = time.monotonic() + _BEHIND_S

    def _is_answered(self, request: bytes, refusals: Collection[int]) -> bool:
        """Whether a read gets its own answer; these refusals are one, others may be that to another request."""
        try:
            self.send(request)
            code = self._refusal_in(self._next_answer())
        except (ReadTimeout, BrokenFrame):
            return False
        return code is None or code in refusals

    def _refusal_in(self, answer: bytes) -> int | None:
        return answer[2] if answer.startswith(self._expected.exception_prefix) else None

    def _as_unanswered(self) -> _Unanswered:
        return _Unanswered(self._request, self._expected, self._sent_at)

    def _next_answer(self) -> bytes:
        """The last of the answers that came, when no other one is to be expected."""
        wire_s = self._timing.wire_s(len(self._request) + self._expected.length + 2)
        deadline = self._sent_at + wire_s + self._timeout_s
        linger = self._sent_at + wire_s + LATE_FACTOR * self._timeout_s
        heard = bytearray()
        while True:
            answers = list(rtu_answers(self._without_echo(heard), self._expected))
            left_s = (linger if answers else deadline) - time.monotonic()
            over = left_s <= 0 or len(heard) > _HEARD_MAX_BYTES
            rivals = self._rivals(answers) if answers else 0
            if answers and (over or len(answers) > rivals):
                return self._accept(self._and_more(answers, heard), rivals)
            if over:
                raise self._failure(self._without_echo(heard))
            heard += self._receive(left_s)

    def _and_more(self, answers: list[bytes], heard: bytearray) -> list[bytes]:
        """On a line that sends more answers than requests: these, and those that come while it is waited for them."""
        began, delay_s = time.monotonic(), 0.0
        until = began + self._surplus.wait_s
        while (left_s := until - time.monotonic()) > 0 and len(heard) <= _HEARD_MAX_BYTES:
            heard += self._receive(left_s)
            count, answers = len(answers), list(rtu_answers(self._without_echo(heard), self._expected))
            if len(answers) > count:
                delay_s = time.monotonic() - began
        if until > began:
            self._surplus.listened(delay_s)
        return answers

    @property
    def _open_port(self) -> Port:
        if self._port is None:
            raise TransportDown(f"{self._url} is not open")
        return self._port

    def _receive(self, wait_s: float) -> bytes:
        data = self._open_port.read(wait_s)
        if data:
            self._active_at = time.monotonic()
        return data

    def _drain(self, silence_s: float, may_fail: bool) -> None:
        """Drop the input until the line was silent for so long."""
        dropped = bytearray()
        give_up = time.monotonic() + silence_s + self._timeout_s
        while data := self._receive(self._active_at + silence_s - time.monotonic()):
            dropped += data
            if time.monotonic() > give_up:
                raise BrokenFrame("the line is never silent: something sends without being asked")
        self._settle(bytes(dropped))
        if self._request and is_read(self._request):
            count = sum(1 for _ in rtu_answers(bytes(dropped), self._expected))
            if self._surplus.stray(self._expected, count) and may_fail:
                raise BrokenFrame(
                    f"unit {self._expected.unit_id} sent more answers than it was sent requests"
                )

    def _without_echo(self, heard: bytearray) -> bytes:
        """Some adapters hear what they send.

        A write's echo looks just like its answer, so that a line echoes is learned from its reads.
        """
        data = bytes(heard)
        answer_is_copy = self._request[:-2] == self._expected.prefix
        if data.startswith(self._request) and (self._echoes or not answer_is_copy):
            self._echoes = True
            return data[len(self._request) :]
        return b"" if self._echoes and self._request.startswith(data) else data

    def _rivals(self, answers: list[bytes]) -> int:
        """How many earlier requests could have got these answers."""
        self._forget_old()
        refused = any(answer.startswith(self._expected.exception_prefix) for answer in answers)
        return sum(
            item.expected.exception_prefix == self._expected.exception_prefix
            if refused
            else item.expected == self._expected
            for item in self._unanswered
        )

    def _forget_old(self) -> None:
        """Nobody answers these any more; on a line where nobody answers at all they would grow without end."""
        oldest = self._sent_at - LATE_FACTOR * self._timeout_s
        self._unanswered = [item for item in self._unanswered if item.sent_at > oldest]

    def _accept(self, answers: list[bytes], rivals: int) -> bytes:
        if 0 < rivals < len(answers):
            self._doubts.pop(self._expected.exception_prefix, None)  # all of them have answered
        self._unanswered = [item for item in self._unanswered if item.expected != self._expected]
        if is_read(self._request):
            self._surplus.came(self._expected, len(answers))
        if self._surplus.is_known and len(set(answers[rivals:])) > 1:
            raise BrokenFrame(f"unit {self._expected.unit_id} sent different answers to one request")
        return answers[-1]

    def _settle(self, heard: bytes) -> None:
        """Late answers that came by: their requests are answered now."""
        for key, doubt in list(self._doubts.items()):
            if any(rtu_answers(heard, doubt.expected)):
                del self._doubts[key]
        for item in list(self._unanswered):
            answer = next(rtu_answers(heard, item.expected), None)
            if answer is not None:
                self._unanswered.remove(item)
                heard = heard.replace(answer, b"", 1)

    def _failure(self, heard: bytes) -> HubError:
        """Why there is no answer, from what was heard instead."""
        unit_id = self._expected.unit_id
        self._forget_old()
        self._settle(heard)
        strangers = rtu_strangers(heard)
        broken = bool(heard) and not strangers
        began = self._expected.prefix[:2] in heard or self._expected.exception_prefix in heard
        if not (broken and began):
            self._unanswered.append(self._as_unanswered())
            self._doubts[self._expected.exception_prefix] = self._unanswered[-1]
        if broken:
            return BrokenFrame(f"broken answer from unit {unit_id}: {self._damage(heard, began)}")
        others = ", ".join(f"unit {other}" for other in sorted(strangers - {unit_id}))
        note = f" ({others} answered)" if others else ""
        return ReadTimeout(f"no answer from unit {unit_id} within {self._timeout_s:g} s{note}")

    def _damage(self, heard: bytes, began: bool) -> str:
        """What is wrong with bytes that hold no valid frame."""
        length = self._expected.length + 2
        if not began:
            shown = heard[:_SHOWN_BYTES].hex(" ") + (" …" if len(heard) > _SHOWN_BYTES else "")
            return f"no Modbus frame ({shown}); are baud rate, parity and stop bits those of the device?"
        if len(heard) < length:
            return f"cut short or wrong checksum ({len(heard)} of {length} bytes)"
        return f"wrong checksum or length ({len(heard)} bytes)"
