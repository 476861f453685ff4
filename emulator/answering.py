"""Which recorded bytes answer which recorded request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from emulator.dialects import Dialect, requests_of
from emulator.recording import FROM, TO, Recording

ANSWER_S = 3.0  # what comes later after a request is no answer
BURST_S = 0.25  # silence that ends an answer
LONGEST = 260  # bytes of an answer that has a form

Bytes = tuple[float, bytes]  # when they came


@dataclass(slots=True)
class Said:
    """What came after a request: since when, until when. Empty: nothing came."""

    begun_at: float = 0.0
    ended_at: float = 0.0
    data: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Asked:
    """A request, when it was complete, and its answer."""

    at: float
    request: bytes
    said: Said = field(default_factory=Said)


def answered(dialect: Dialect, recording: Recording) -> tuple[list[Asked], list[Bytes]]:
    """The requests with their answers, and what was said unasked.

    An answer is the first burst of bytes within ANSWER_S after a request; where answers can be told from each other,
    it is for the latest of the requests that it fits best. Requests at the end that had no answer yet are left out.
    """
    asked = [
        Asked(at, request)
        for at, request in requests_of(dialect, _pieces(recording, TO))
        if dialect.key(request)
    ]
    unasked = []
    place = 0
    for at, data in _answers_in(dialect, _pieces(recording, FROM)):
        while place < len(asked) and asked[place].at <= at:
            place += 1
        if not _entered(dialect, asked[max(0, place - dialect.most_open) : place], at, data):
            unasked.append((at, data))
    while asked and not asked[-1].said.data and recording.lasts_s - asked[-1].at < ANSWER_S:
        asked.pop()
    return asked, unasked


def _pieces(recording: Recording, direction: str) -> list[Bytes]:
    return [(piece.t, piece.data) for piece in recording.pieces if piece.dir == direction and piece.data]


def _entered(dialect: Dialect, asked: Sequence[Asked], at: float, data: bytes) -> bool:
    """Whether it is an answer to one of these (the last ones before it), with whom it now stands."""
    is_whole = bool(dialect.answer_size(data))
    fits = [dialect.fit(data, each.request) for each in asked]
    fitting = [
        each for each, fit in zip(asked, fits, strict=True) if fit and (fit == max(fits) or not is_whole)
    ]
    if not fitting and not is_whole:
        fitting = list(asked[-1:])  # spoiled: nothing in it can be trusted
    if not fitting:
        return False
    last = fitting[-1]
    waiting = [n for n, each in enumerate(fitting) if not each.said.data and at - each.at <= ANSWER_S]
    is_echo = last.said.data == last.request
    if last.said.data and at - last.said.ended_at <= BURST_S and (is_echo or not waiting):
        last.said.data += data
        last.said.ended_at = at
        return True
    if not waiting:
        return False
    # the latest has had one: then that was for the one before, and this is for the latest
    for earlier, later in zip(fitting[waiting[-1] :], fitting[waiting[-1] + 1 :], strict=False):
        earlier.said = later.said
    last.said = Said(at, at, bytearray(data))
    return True


def _answers_in(dialect: Dialect, pieces: list[Bytes]) -> Iterator[Bytes]:
    """The whole ones, each with the time of its first byte; what is none stays in pieces as it came."""
    for burst in _bursts(pieces):
        whole = b"".join(data for _, data in burst)
        ends = list(accumulate(len(data) for _, data in burst))
        place = 0
        while place < len(whole):
            piece = bisect_right(ends, place)
            size = dialect.answer_size(whole[place : place + LONGEST]) or ends[piece] - place
            yield burst[piece][0], whole[place : place + size]
            place += size


def _bursts(pieces: list[Bytes]) -> Iterator[list[Bytes]]:
    burst: list[Bytes] = []
    for piece in pieces:
        if burst and piece[0] - burst[-1][0] > BURST_S:
            yield burst
            burst = []
        burst.append(piece)
    if burst:
        yield burst
