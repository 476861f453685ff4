"""How a recorded line talks: where requests end, what makes two the same, what of them returns in answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol

from emulator.frames import RequestAssembler, answer_size
from emulator.peers import Splitter, TextSplitter
from emulator.rapi_lines import framed

GAP_S = 0.1  # silence that ends a request whose form is not known
MOST = 0.9  # share of what was sent that must have the form of a dialect
LONGEST = 4096
NOT, LOOSELY, WELL = 0, 1, 2  # how an answer fits a request
_RAPI = re.compile(
    rb"\$(?P<words>[^\^*\r\n]*?)(?P<sequence> :[0-9A-Fa-f]{2})?(?:[\^*][0-9A-Fa-f]{2})?[\r\n]+"
)
_TCP_HEAD = 6
Sent = Sequence[tuple[float, bytes]]  # what the hub sent: time, bytes


class Dialect(Protocol):
    """What there is to know of a way to talk."""

    name: str
    is_text: bool
    most_open: int  # so many of the last requests may still get their answers

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """Cuts what comes into requests; `known`: those that were recorded."""

    def key(self, request: bytes) -> bytes:
        """Requests with the same key are the same; b"": it is none."""

    def fitted(self, answer: bytes, request: bytes) -> bytes:
        """A recorded answer as it answers this request."""

    def fit(self, answer: bytes, request: bytes) -> int:
        """How well these bytes answer that request: NOT, LOOSELY (what they say of it differs) or WELL."""

    def answer_size(self, heard: bytes) -> int:
        """Length of the whole answer that these bytes begin with; 0: they begin with none that can be told."""


class _Formless:
    """Any bytes may answer the last request."""

    most_open = 1

    def fitted(self, answer: bytes, request: bytes) -> bytes:
        """As Dialect."""
        return answer

    def fit(self, answer: bytes, request: bytes) -> int:
        """As Dialect."""
        return WELL

    def answer_size(self, heard: bytes) -> int:
        """As Dialect."""
        return 0


class ModbusRtu:
    """Frames with a checksum."""

    name, is_text, most_open = "modbus rtu", False, 16

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """As Dialect."""
        return RequestAssembler().feed

    def key(self, request: bytes) -> bytes:
        """As Dialect."""
        return request

    def fitted(self, answer: bytes, request: bytes) -> bytes:
        """As Dialect."""
        return answer

    def fit(self, answer: bytes, request: bytes) -> int:
        """As Dialect: unit and function are the request's, and so is what else a good answer says of it."""
        if answer[:1] != request[:1] or _function(answer[1:2]) != _function(request[1:2]):
            return NOT
        return WELL if _says_what_is_asked(answer[1:], request[1:]) else LOOSELY

    def answer_size(self, heard: bytes) -> int:
        """As Dialect."""
        return answer_size(heard)


class ModbusTcp(ModbusRtu):
    """Frames with a transaction id, which is another one each time, and a length."""

    name = "modbus tcp"

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """As Dialect."""
        return _TcpSplitter().feed

    def key(self, request: bytes) -> bytes:
        """As Dialect."""
        return request[2:]

    def fitted(self, answer: bytes, request: bytes) -> bytes:
        """As Dialect: the transaction id is the request's."""
        return request[:2] + answer[2:]

    def fit(self, answer: bytes, request: bytes) -> int:
        """As Dialect: the transaction id is the request's, too."""
        return super().fit(answer[_TCP_HEAD:], request[_TCP_HEAD:]) if answer[:2] == request[:2] else NOT

    def answer_size(self, heard: bytes) -> int:
        """As Dialect."""
        size = _tcp_size(heard)
        return size if size <= len(heard) else 0


class Lines(_Formless):
    """Lines of text."""

    name, is_text = "text", True

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """As Dialect."""
        return TextSplitter().feed

    def key(self, request: bytes) -> bytes:
        """As Dialect: whatever ends the line."""
        return request.strip(b"\r\n")


class Rapi(Lines):
    """Lines of a charger, whose sequence ids count on."""

    name = "rapi"

    def key(self, request: bytes) -> bytes:
        """As Dialect: without sequence id and checksum."""
        found = _RAPI.fullmatch(request)
        return super().key(request) if found is None else b"$" + found["words"]

    def fitted(self, answer: bytes, request: bytes) -> bytes:
        """As Dialect: the sequence id is the request's, if the answer has one."""
        asked = _RAPI.fullmatch(request)
        if asked is None or asked["sequence"] is None:
            return answer
        return _RAPI.sub(partial(_with_sequence, asked["sequence"]), answer)


class LineEnds(Lines):
    """Nothing but line ends is sent: each asks for the same."""

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """As Dialect."""
        return _EndSplitter().feed

    def key(self, request: bytes) -> bytes:
        """As Dialect."""
        return super().key(request) or b"\r"


class Bytes(_Formless):
    """Nothing is known but that there is silence between requests."""

    name, is_text = "bytes", False

    def splitter(self, known: Collection[bytes]) -> Splitter:
        """As Dialect."""
        return _KnownSplitter(known).feed

    def key(self, request: bytes) -> bytes:
        """As Dialect."""
        return request


def dialect_of(sent: Sent) -> Dialect:
    """The dialect of what a hub sent."""
    total = sum(len(data) for _, data in sent)
    if total and not any(data.strip(b"\r\n") for _, data in sent):
        return LineEnds()
    dialects: tuple[Dialect, ...] = (ModbusTcp(), ModbusRtu(), Rapi(), Lines())
    for dialect in dialects:
        requests = [request for _, request in requests_of(dialect, sent)]
        fitting = [each for each in requests if _has_form(dialect, each)]
        if sum(map(len, fitting)) >= MOST * total:
            return Lines() if not total else dialect
    return Bytes()


def requests_of(dialect: Dialect, sent: Sent) -> list[tuple[float, bytes]]:
    """The requests in what a hub sent, each with the time when it was complete."""
    if not isinstance(dialect, Bytes):
        feed = dialect.splitter(())
        return [(at, request) for at, data in sent for request in feed(data, at)]
    found: list[tuple[float, bytearray]] = []
    for at, data in sent:
        if found and at - found[-1][0] <= GAP_S:
            found[-1] = (at, found[-1][1])
        else:
            found.append((at, bytearray()))
        found[-1][1].extend(data)
    return [(at, bytes(request)) for at, request in found]


def _has_form(dialect: Dialect, request: bytes) -> bool:
    if isinstance(dialect, Rapi):
        return _RAPI.fullmatch(request) is not None or not request.strip()
    return not dialect.is_text or all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in request)


def _with_sequence(sequence: bytes, line: re.Match[bytes]) -> bytes:
    if line["sequence"] is None:
        return line[0]
    end = line[0][len(line[0].rstrip(b"\r\n")) :]
    return framed((line["words"] + sequence).decode("latin-1")).rstrip(b"\r") + end


def _function(code: bytes) -> int:
    """A refusal has the function of what it refuses."""
    return code[0] & 0x7F if code else -1


def _says_what_is_asked(answer: bytes, request: bytes) -> bool:
    """Whether a PDU has as many values as are asked for, or the address to write to; a refusal says neither."""
    code, count = answer[0], int.from_bytes(request[3:5], "big")
    if code in (1, 2):
        return answer[1:2] == bytes([(count + 7) // 8 & 0xFF])
    if code in (3, 4, 23):
        return answer[1:2] == bytes([count * 2 & 0xFF])
    return code not in (5, 6, 15, 16, 22) or answer[1:3] == request[1:3]


def _tcp_size(buffer: bytes) -> int:
    """Length of the frame whose head this is; 0: it is none."""
    size = _TCP_HEAD + int.from_bytes(buffer[4:6], "big")
    return size if buffer[2:4] == b"\0\0" and _TCP_HEAD + 2 <= size <= 260 else 0


class _EndSplitter:
    """Cuts after each CR or LF; the LF of a CR LF may come a little later."""

    def __init__(self) -> None:
        self._lines = TextSplitter()
        self._awaits_lf_until = 0.0

    def feed(self, data: bytes, now: float) -> list[bytes]:
        if data.startswith(b"\n") and now <= self._awaits_lf_until:
            data = data[1:]
        if data:
            self._awaits_lf_until = now + GAP_S if data.endswith(b"\r") else 0.0
        return self._lines.feed(data, now)


class _TcpSplitter:
    """Cuts by the length in each head; without such a head nothing is a request."""

    def __init__(self) -> None:
        self._rest = b""
        self._last_at = 0.0

    def feed(self, data: bytes, now: float) -> list[bytes]:
        self._rest = data if now - self._last_at > GAP_S else self._rest + data
        self._last_at = now
        found = []
        while len(self._rest) >= _TCP_HEAD:
            size = _tcp_size(self._rest)
            if not size:
                self._rest = b""
            if not self._rest or len(self._rest) < size:
                break
            found.append(self._rest[:size])
            self._rest = self._rest[size:]
        return found


class _KnownSplitter:
    """Waits for a known request; what cannot become one is passed on as it is, once a silence."""

    def __init__(self, known: Collection[bytes]) -> None:
        self._known = sorted(known, key=len, reverse=True)
        self._rest = b""
        self._last_at = 0.0
        self._is_lost = False

    def feed(self, data: bytes, now: float) -> list[bytes]:
        if now - self._last_at > GAP_S:
            self._rest, self._is_lost = b"", False
        self._last_at = now
        if self._is_lost:
            return []
        self._rest += data
        found = []
        while request := next((each for each in self._known if self._rest.startswith(each)), b""):
            found.append(request)
            self._rest = self._rest[len(request) :]
        if self._rest and not any(each.startswith(self._rest) for each in self._known):
            found.append(self._rest[:LONGEST])
            self._rest, self._is_lost = b"", True
        return found
