"""A charger, an Arduino that prints and a scale that is asked, each on a pseudo-terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.wire.text_peers import Answers, TextPeer, peer_that

CHARGER: Mapping[str, str] = {
    "GS": "OK 03 1234 03 0140",
    "GG": "OK 15200 240000",
    "GP": "OK 242 -2560 251",
    "GU": "OK 36000 1234567",
    "GC": "OK 6 80 16 32",
    "GE": "OK 16 0021",
    "GF": "OK A 0 0",
    "GV": "OK 8.2.1 5.2.1",
    "SC": "OK",
}
PRINTED = b"T=22.5 H=45\r\n"


def framed(text: str) -> bytes:
    checksum = 0
    for byte in text.encode("ascii"):
        checksum ^= byte
    return text.encode("ascii") + f"^{checksum:02X}\r".encode()


class ChargerModel:
    """Answers commands by their name, with the sequence id they carry."""

    def __init__(self, table: Mapping[str, str] = CHARGER) -> None:
        self._table, self._rest = table, b""

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\r")
        return b"".join(self._answer(line.decode("ascii")) for line in lines)

    def _answer(self, line: str) -> bytes:
        words = line[1:].rpartition("^")[0].split()
        sequence = f" {words[-1]}" if words[-1].startswith(":") else ""
        return framed(f"${self._table.get(words[0], 'NK')}{sequence}")


@contextmanager
def charger() -> Iterator[TextPeer]:
    """A charger that charges with 15.2 A."""
    with peer_that(ChargerModel()) as peer:
        yield peer


@contextmanager
def printer(line: bytes = PRINTED) -> Iterator[TextPeer]:
    """A device that says a line over and over, five times a second, heard or not."""
    stop = threading.Event()
    with peer_that(lambda _: b"") as peer:

        def talk() -> None:
            while not stop.wait(0.2):
                peer.say(line)

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        try:
            yield peer
        finally:
            stop.set()
            talker.join(5)


@contextmanager
def scale() -> Iterator[TextPeer]:
    """A scale: `W` is its weight, `?` its tare, `P…` sets that, `J` its weight as JSON."""
    table = {
        "W": b"+0012.34 kg\r\n",
        "?": b"TARE 1.25\r\n",
        "P2.50": b"OK\r\n",
        "J": b'{"weights": [12.34, 0.5], "stable": true}\r\n',
    }
    with peer_that(Answers(table, otherwise=b"ES\r\n")) as peer:
        yield peer
