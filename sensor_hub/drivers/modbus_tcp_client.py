"""pymodbus' synchronous TCP client, made strict: one request, and only its own answer or an error of ours."""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pymodbus.client import ModbusTcpClient

from sensor_hub.drivers.modbus_frames import MBAP_BYTES, Expected, is_read, mbap_length
from sensor_hub.drivers.reasons import reason_of
from sensor_hub.errors import BrokenFrame, HubError, ReadFailed, ReadTimeout, TransportDown

# A peer that vanished without a word: the kernel gives up after this, not after a quarter of an hour.
_UNACKNOWLEDGED_MAX_MS = 10_000
# A gateway that lost its side of a connection may take all and say nothing; it often answers on a new one.
_SILENCES_MAX = 3
_RECEIVED_BYTES = 4096
_UNREAD_MAX = 64  # such pieces
_UNANSWERED_MAX = 32


class TcpClient(ModbusTcpClient):
    """A Modbus TCP connection. The transaction id says which request an answer belongs to.

    Many devices hang up on a connection that rested for a while. A read that meets such an end, before a byte
    was heard, is asked once more on a new connection; a write never is: it may have been carried out.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float, delays_s: Mapping[int, float]) -> None:
        """`delays_s`: least pause before a request to a unit. Opens nothing."""
        super().__init__(host, port=port, timeout=timeout_s, retries=0)
        self._timeout_s, self._delays_s = timeout_s, delays_s
        self._buffer = bytearray()
        self._unanswered: deque[bytes] = deque(maxlen=_UNANSWERED_MAX)  # transaction ids, of this connection
        self._request = b""
        self._answered = False  # something was answered on this connection
        self._read_from: set[int] = set()  # the units that gave values on this connection
        self._heard = False  # something was heard since the request
        self._silences = 0  # requests in a row after which nothing at all was heard
        self._hung_up = False  # the peer did, having said nothing since the request
        self._expected = Expected(b"\0\0", 0)
        self._sent_at = 0.0
        self._active_at = -math.inf

    def connect(self) -> bool:
        """Connect. Raises TransportDown with the reason."""
        if self.socket is not None:
            return True
        address = (self.comm_params.host, self.comm_params.port)
        try:
            self.socket = socket.create_connection(address, timeout=self._timeout_s)
        except (OSError, UnicodeError) as error:
            raise TransportDown(f"cannot connect to {self._peer}: {reason_of(error)}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MAX_MS)
        self._buffer.clear()
        self._unanswered.clear()
        self._answered = False
        self._read_from.clear()
        self._silences = 0
        return True

    def close(self) -> None:
        """Close the connection; never raises."""
        connection, self.socket = self.socket, None
        if connection is not None:
            with suppress(OSError):  # it is gone, which is what was wanted
                connection.close()

    def send(self, request: bytes, addr: tuple[object, ...] | None = None) -> int:
        """Send one frame."""
        self._request = bytes(request)
        self._expected = Expected.to(self._request[MBAP_BYTES - 1 :])
        self._pause(self._delays_s.get(self._expected.unit_id, 0.0))
        if self._silences >= _SILENCES_MAX:
            self.close()
            self.connect()
        self._drop_unread()
        try:
            self._transmit()
        except TransportDown:
            if not self._may_ask_again:
                raise
            self._ask_again()
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """The one frame that answers the request. Raises ReadTimeout, ReadFailed, TransportDown."""
        try:
            return self._answer()
        except TransportDown:
            if not self._may_ask_again:
                raise
        self._ask_again()
        return self._answer()

    def has_read_from(self, unit_id: int) -> bool:
        """Whether the unit has given values on this connection."""
        return unit_id in self._read_from

    def _note_values(self, answer: bytes) -> None:
        if is_read(answer):  # a refusal has another function code
            self._read_from.add(answer[0])

    def _pause(self, delay_s: float) -> None:
        left_s = self._active_at + delay_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)

    @property
    def _may_ask_again(self) -> bool:
        return self._answered and self._hung_up and is_read(self._request[MBAP_BYTES - 1 :])

    def _ask_again(self) -> None:
        self.connect()
        self._transmit()

    def _drop_unread(self) -> None:
        """What came before a request is not its answer; but the rest of a late answer may still be to come."""
        self._take_unread()
        while len(self._buffer) >= MBAP_BYTES:
            length = mbap_length(bytes(self._buffer[:MBAP_BYTES]))
            if length is None:
                self._buffer.clear()
                return
            if len(self._buffer) < length:
                return
            del self._buffer[:length]
        if not any(each.startswith(self._buffer[:2]) for each in self._unanswered):
            self._buffer.clear()

    def _take_unread(self) -> None:
        with suppress(OSError):  # there is nothing, or the connection is gone, which shows when it is used
            assert self.socket is not None
            self.socket.settimeout(0)
            for _ in range(_UNREAD_MAX):
                self._buffer += self.socket.recv(_RECEIVED_BYTES)

    def _transmit(self) -> None:
        self._hung_up = self._heard = False
        with self._line_errors():
            assert self.socket is not None
            self.socket.settimeout(self._timeout_s)
            self.socket.sendall(self._request)
        self._sent_at = self._active_at = time.monotonic()

    def _answer(self) -> bytes:
        deadline = self._sent_at + self._timeout_s
        others: set[int] = set()
        while True:
            frame = self._next_frame()
            if frame is None:
                self._receive(deadline, others)
            elif frame[:2] == self._request[:2]:
                if self._expected.fits(frame[MBAP_BYTES - 1 :]):
                    self._answered = True
                    self._note_values(frame[MBAP_BYTES - 1 :])
                    return frame
                if frame[MBAP_BYTES - 1] == self._expected.unit_id:
                    raise ReadFailed(f"the answer of unit {self._expected.unit_id} does not fit the request")
                others.add(frame[MBAP_BYTES - 1])

    def _next_frame(self) -> bytes | None:
        """Take one whole frame out of the buffer; None: more bytes are needed."""
        if len(self._buffer) < MBAP_BYTES:
            return None
        length = mbap_length(bytes(self._buffer[:MBAP_BYTES]))
        if length is None:
            raise self._broken("no Modbus TCP frame")
        if len(self._buffer) < length:
            return None
        frame = bytes(self._buffer[:length])
        del self._buffer[:length]
        return frame

    def _receive(self, deadline: float, others: set[int]) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise self._too_late(others)
        with self._line_errors():
            assert self.socket is not None
            self.socket.settimeout(left_s)
            try:
                data = self.socket.recv(_RECEIVED_BYTES)
            except TimeoutError as error:
                if error.errno is not None:  # the kernel's, for a peer that is gone; ours has no number
                    raise
                return
        if not data:
            self.close()
            self._hung_up = not self._heard
            raise TransportDown(f"{self._peer} closed the connection")
        self._buffer += data
        self._heard, self._silences = True, 0
        self._active_at = time.monotonic()

    def _too_late(self, others: set[int]) -> HubError:
        if self._buffer:
            return self._broken("incomplete frame")
        self._unanswered.append(self._request[:2])
        self._silences += not self._heard
        note = f" ({', '.join(f'unit {other}' for other in sorted(others))} answered)" if others else ""
        return ReadTimeout(f"no answer from unit {self._expected.unit_id} within {self._timeout_s:g} s{note}")

    def _broken(self, what: str) -> HubError:
        """Where the next frame begins is lost; only a new connection (made by the next request) helps."""
        self.close()
        return BrokenFrame(f"broken answer from unit {self._expected.unit_id}: {what}")

    @property
    def _peer(self) -> str:
        host = self.comm_params.host
        return f"[{host}]:{self.comm_params.port}" if ":" in host else f"{host}:{self.comm_params.port}"

    @contextmanager
    def _line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            self._hung_up = isinstance(error, ConnectionError) and not self._heard
            raise TransportDown(f"{self._peer} is gone: {reason_of(error)}") from None
