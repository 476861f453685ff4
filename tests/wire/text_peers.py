"""Devices on a pseudo-terminal that speak in lines: each line they hear is handed to a function, or to a model."""

from __future__ import annotations

import os
import pty
import re
import select
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Hears = Callable[[bytes], bytes]


class TextPeer:
    """Hears bytes and says what `hears` makes of them; keeps what it heard."""

    def __init__(self, hears: Hears) -> None:
        self._hears = hears
        self.heard = b""
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._stop_read, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[str]:
        """The lines that it heard, without their ends."""
        return [line.decode("latin-1") for line in re.split(rb"[\r\n]+", self.heard) if line]

    def say(self, *parts: bytes) -> None:
        """Say something unasked."""
        for part in parts:
            os.write(self.master, part)

    def unplug(self) -> None:
        """Take the line away under the driver; the second time nothing happens."""
        if self.master >= 0:
            os.write(self._stop, b"x")
            self._thread.join(5)
            for descriptor in (self.master, self._slave, self._stop, self._stop_read):
                os.close(descriptor)
            self.master = -1

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self.master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            data = os.read(self.master, 4096)
            self.heard += data
            said = self._hears(data)
            if said:
                os.write(self.master, said)


@contextmanager
def peer_that(hears: Hears) -> Iterator[TextPeer]:
    peer = TextPeer(hears)
    try:
        yield peer
    finally:
        peer.unplug()


class Answers:
    """Answers lines by a table: a line has one answer, or several that are used one after another.

    What is not in the table is answered with `otherwise`.
    """

    def __init__(self, table: Mapping[str, bytes | list[bytes]], otherwise: bytes = b"") -> None:
        self._table = {
            line: [said] if isinstance(said, bytes) else list(said) for line, said in table.items()
        }
        self._otherwise, self._rest = otherwise, b""

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        return b"".join(self._answer(line.decode("latin-1")) for line in lines if line)

    def _answer(self, line: str) -> bytes:
        answers = self._table.get(line)
        if not answers:
            return self._otherwise
        return answers.pop(0) if len(answers) > 1 else answers[0]
