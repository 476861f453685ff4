"""pymodbus' synchronous serial client, made strict: one request, and only its own answer or an error of ours.

pymodbus builds requests and decodes answers. What it leaves open is decided here: it takes any function
code for an answer, it cannot tell a late answer from the right one, and it hides why a line failed.
"""

from __future__ import annotations

import errno
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import serial  # type: ignore[import-untyped]
from pymodbus.client import ModbusSerialClient

from sensor_hub.drivers.base import LineCounters
from sensor_hub.drivers.modbus_frames import Expected, rtu_answers, rtu_strangers
from sensor_hub.drivers.reasons import reason_of
from sensor_hub.errors import HubError, ReadFailed, ReadTimeout, TransportDown

# pyserial reconfigures the port (rfc2217: over the network) when its timeout changes: wait in slices.
_TICK_S = 0.02
# An answer is never later than this many timeouts after its request; see RtuClient.
_LATE_FACTOR = 4
_GAP_CHARS = 3.5
_GAP_MIN_S = 0.00175
_HEARD_MAX_BYTES = 1024
_BUSY = (errno.EAGAIN, errno.EBUSY)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A request whose answer may still come; `sent_at` is monotonic."""

    expected: Expected
    sent_at: float


class RtuClient(ModbusSerialClient):
    """A serial line: a port, a pseudo-terminal, socket:// or rfc2217://.

    RTU frames carry no transaction id, so the answer to a request that timed out looks like the answer to
    the next one to the same unit. Such requests are remembered for `_LATE_FACTOR` timeouts. When an answer
    comes that could belong to one of them, further answers are waited for: devices answer in order, so the
    last one is ours.
    """

    def __init__(
        self,
        url: str,
        *,
        baudrate: int,
        bytesize: int,
        parity: str,
        stopbits: int,
        timeout_s: float,
        counters: LineCounters,
    ) -> None:
        """Take the line's settings; `counters.crc_errors` is counted here. Opens nothing."""
        super().__init__(
            url,
            baudrate=baudrate,
            bytesize=bytesize,
            parity=parity,
            stopbits=stopbits,
            timeout=timeout_s,
            retries=0,
        )
        self._timeout_s = timeout_s
        self._counters = counters
        self._char_s = (1 + bytesize + (parity != "N") + stopbits) / baudrate
        self._gap_s = max(_GAP_CHARS * self._char_s, _GAP_MIN_S)
        self._request = b""
        self._expected = Expected(b"\0\0", 0)
        self._sent_at = 0.0
        self._active_at = 0.0
        self._echoes = False
        self._unanswered: list[_Unanswered] = []

    def connect(self) -> bool:
        """Open the port. Raises TransportDown with the reason."""
        if self.socket is not None:
            return True
        params = self.comm_params
        # pyserial's rfc2217 refuses to open with a write timeout.
        write_timeout_s = None if params.host.startswith("rfc2217:") else max(self._timeout_s, 1.0)
        try:
            self.socket = serial.serial_for_url(
                params.host,
                timeout=_TICK_S,
                write_timeout=write_timeout_s,
                baudrate=params.baudrate,
                bytesize=params.bytesize,
                parity=params.parity,
                stopbits=params.stopbits,
                exclusive=True,
            )
        except (OSError, ValueError, OverflowError, termios.error) as error:
            raise TransportDown(f"cannot open {params.host}: {_port_reason(error)}") from None
        self._unanswered.clear()
        self._echoes = False
        return True

    def close(self) -> None:
        """Close the port; never raises."""
        port, self.socket = self.socket, None
        if port is not None:
            with suppress(OSError, termios.error):  # the port is gone, which is what was wanted
                port.close()

    def send(self, request: bytes, addr: tuple[object, ...] | None = None) -> int:
        """Send one frame after the silence that RTU asks for; what is still in the input is dropped."""
        self._drain()
        self._request = bytes(request)
        self._expected = Expected.to(self._request[:-2])
        with self._line_errors():
            assert self.socket is not None
            sent = self.socket.write(request)
        self._sent_at = self._active_at = time.monotonic()
        return int(sent)

    def recv(self, size: int | None) -> bytes:
        """The one frame that answers the request. Raises ReadTimeout, ReadFailed, TransportDown."""
        wire_s = (len(self._request) + self._expected.length + 2) * self._char_s
        deadline = self._sent_at + wire_s + self._timeout_s
        linger = self._sent_at + wire_s + _LATE_FACTOR * self._timeout_s
        heard = bytearray()
        while True:
            answers = list(rtu_answers(self._without_echo(heard), self._expected))
            over = time.monotonic() >= (linger if answers else deadline) or len(heard) > _HEARD_MAX_BYTES
            if answers and (over or len(answers) > self._rivals(answers)):
                return self._accept(answers)
            if over:
                raise self._failure(self._without_echo(heard))
            heard += self._receive()

    def _receive(self) -> bytes:
        """What has come, waiting at most one tick for it."""
        with self._line_errors():
            assert self.socket is not None
            data = bytes(self.socket.read(max(1, self.socket.in_waiting)))
        if data:
            self._active_at = time.monotonic()
        return data

    def _drain(self) -> None:
        """Drop the input until the line was silent for 3.5 characters."""
        dropped = bytearray()
        give_up = time.monotonic() + self._timeout_s
        while True:
            with self._line_errors():
                if self.socket is None:
                    raise TransportDown(f"{self.comm_params.host} is not open")
                waiting = self.socket.in_waiting
            pause_s = self._active_at + self._gap_s - time.monotonic()
            if waiting:
                dropped += self._receive()
            elif pause_s <= 0:
                break
            else:
                time.sleep(pause_s)
            if time.monotonic() > give_up:
                raise ReadFailed("the line is never silent")
        self._settle(bytes(dropped))

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
        oldest = self._sent_at - _LATE_FACTOR * self._timeout_s
        self._unanswered = [item for item in self._unanswered if item.sent_at > oldest]

    def _accept(self, answers: list[bytes]) -> bytes:
        self._unanswered = [item for item in self._unanswered if item.expected != self._expected]
        return answers[-1]

    def _settle(self, heard: bytes) -> None:
        """Late answers that came by: their requests are answered now."""
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
            self._unanswered.append(_Unanswered(self._expected, self._sent_at))
        if broken:
            self._counters.crc_errors += 1
            what = f"wrong checksum or length ({len(heard)} bytes)"
            return ReadFailed(f"broken answer from unit {unit_id}: {what}")
        others = ", ".join(f"unit {other}" for other in sorted(strangers - {unit_id}))
        note = f" ({others} answered)" if others else ""
        return ReadTimeout(f"no answer from unit {unit_id} within {self._timeout_s:g} s{note}")

    @contextmanager
    def _line_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, termios.error) as error:
            self.close()
            raise TransportDown(f"{self.comm_params.host} is gone: {_port_reason(error)}") from None


def _port_reason(error: BaseException) -> str:
    if isinstance(error, termios.error):
        return str(error.args[-1])
    if isinstance(error, OSError) and error.errno in _BUSY:
        return "it is in use by another program"
    reason = reason_of(error)
    return reason if reason != type(error).__name__ else str(error)
