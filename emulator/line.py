"""One emulated line: requests come in through its endpoint, answers go out as late and as wrong as they shall be."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial

from emulator import logs, registry
from emulator.endpoints import Endpoint, Status
from emulator.faults import Faults, Kind, Strikes
from emulator.links import Link
from emulator.pacing import Direction, Speed
from emulator.peers import Peer, Splitter
from emulator.precise_loop import exactly, passed, until

AHEAD_S = 0.005
MAX_WAITING_BYTES = 65536  # of one client; more it cannot send before some of it is done


@dataclass(slots=True)
class _Heard:
    link: Link
    data: bytes
    at: float


@dataclass(slots=True)
class _Clients:
    splitters: dict[Link, Splitter] = field(default_factory=dict)
    heard: asyncio.Queue[_Heard] = field(default_factory=asyncio.Queue)
    waiting: Counter[Link] = field(default_factory=Counter)  # bytes


class SerialLine:
    """One line of the scenario, running between `start` and `stop`."""

    def __init__(
        self, facts: registry.Line, endpoint: Endpoint, peer: Peer, speed: Speed, chance: random.Random
    ) -> None:
        """`facts`: its name, faults and counters; `chance` makes garbage."""
        self.facts = facts
        self._endpoint, self._peer, self._speed, self._chance = endpoint, peer, speed, chance
        char_s = speed.char_s if facts.paced else 0.0
        self._inward, self._outward = Direction(char_s), Direction(char_s)
        self._pause_s = peer.pause_s(speed) if facts.paced else 0.0
        self._clients = _Clients()
        self._speaking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = self._is_dropped = False
        self._back_at: float | None = None  # when the cable that is pulled will be plugged in; monotonic, s
        self._failed: Callable[[Exception], None] = lambda _: None

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Let clients come. Raises PathTakenError, OSError; `failed` is told of what ends the line later."""
        self._failed = failed
        self._endpoint.open(self, failed)
        self._is_open = True
        self._run(self._serve())
        if self._peer.tick_s is not None:
            self._run(self._tick(self._peer.tick_s))
        logs.event(
            "line up",
            line=self.facts.line_id,
            place=self.facts.place,
            kind=self.facts.kind,
            devices=",".join(self.facts.device_ids),
            baudrate=f"{self._speed.baudrate}{' paced' if self.facts.paced else ''}",
        )

    async def stop(self) -> None:
        """Take the line down and remove its link."""
        for task in self._tasks:
            task.cancel()
        self._endpoint.close()
        if self._is_open:
            counters = self.facts.counters
            logs.event(
                "line down",
                line=self.facts.line_id,
                answered=counters.answered,
                swallowed=counters.swallowed,
            )

    @property
    def status(self) -> Status:
        """How its endpoint is now; any thread may ask."""
        status, back_at = self._endpoint.status, self._back_at
        return status if back_at is None else replace(status, back_in_s=max(0.0, back_at - time.monotonic()))

    def received(self, link: Link, data: bytes) -> None:
        """As endpoints.Host."""
        self.facts.counters.bytes_in += len(data)
        self._clients.heard.put_nowait(_Heard(link, data, asyncio.get_running_loop().time()))
        self._clients.waiting[link] += len(data)
        if self._clients.waiting[link] > MAX_WAITING_BYTES:
            link.pause()

    def ended(self, link: Link) -> None:
        """As endpoints.Host."""
        self._clients.splitters.pop(link, None)

    # -- what happens on it ---------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        clients = self._clients
        while True:
            heard = await clients.heard.get()
            if heard.link in self._endpoint.links:  # it has not left meanwhile
                await self._hear(heard)
            clients.waiting[heard.link] -= len(heard.data)
            if clients.waiting[heard.link] <= MAX_WAITING_BYTES:
                heard.link.resume()
            clients.waiting += Counter()  # forgets who has nothing waiting
            await asyncio.sleep(0)  # other lines have their turn

    async def _hear(self, heard: _Heard) -> None:
        splitters = self._clients.splitters
        begins_at = self._inward.take(heard.at, len(heard.data))
        is_in_at = begins_at + len(heard.data) * self._inward.char_s
        if heard.link not in splitters:
            splitters[heard.link] = self._peer.splitter()
        try:
            for request in splitters[heard.link](heard.data, heard.at):
                await self._exchange(heard.link, request, is_in_at)
        except Exception:
            # whatever a client sent: the others are served
            logging.getLogger("emulator").exception("exchange failed on line %s", self.facts.line_id)

    async def _exchange(self, link: Link, request: bytes, is_in_at: float) -> None:
        faults = self._peer.meant(request)
        if faults is None:
            return
        struck = self._struck(faults)
        if Kind.SILENCE in struck:
            self.facts.counters.swallowed += 1
            return
        if Kind.DISCONNECT in struck:
            await self._disconnect(struck)
            return
        answer = self._peer.answer(request, struck)
        if Kind.ECHO in struck:
            answer = request + answer
        if answer:
            self.facts.counters.answered += 1
        await self._say([link], answer, struck, is_in_at + self._pause_s + self._peer.late_s)
        await self._say_news()

    async def _tick(self, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        self._greet()
        while True:
            await asyncio.sleep(period_s)
            now = loop.time()
            self._peer.pass_time(now - last)
            last = now
            await self._say_news()

    def _greet(self) -> None:
        """What it says because it was switched on: a terminal keeps that for its first client. No fault strikes it."""
        data, _ = self._peer.said(lambda _: Strikes())
        for link in self._endpoint.links:
            link.keep(data)

    async def _say_news(self) -> None:
        links = [link for link in self._endpoint.links if link.is_heard()]
        if not links:  # said to nobody, and nothing goes wrong with it
            self._peer.forget_news()
            return
        data, struck = self._peer.said(self._struck)
        if Kind.SILENCE in struck:
            return
        if Kind.DISCONNECT in struck:
            await self._disconnect(struck)
            return
        await self._say(links, data, struck, asyncio.get_running_loop().time())

    async def _disconnect(self, struck: Strikes) -> None:
        if self._is_dropped:
            return
        fault, loop, cleared = struck[Kind.DISCONNECT], asyncio.get_running_loop(), asyncio.Event()
        self._is_dropped, self._back_at = True, loop.time() + fault.lasts_s
        logs.event("line disconnected", line=self.facts.line_id, for_s=fault.lasts_s)
        self._clients.splitters.clear()
        with struck.waiting(Kind.DISCONNECT, partial(loop.call_soon_threadsafe, cleared.set)):
            is_back = await self._endpoint.drop(fault.lasts_s, cleared)
        self._is_dropped, self._back_at = False, None
        if is_back:
            logs.event("line connected again", line=self.facts.line_id)

    async def _say(self, links: list[Link], answer: bytes, struck: Strikes, earliest: float) -> None:
        """An answer that is delayed holds nobody up: the next one may overtake it."""
        data = self._spoiled(answer, struck)
        if not data:
            return
        if Kind.DELAY in struck:
            self._run(self._send_late(links, data, earliest, struck))
        else:
            await self._send(links, data, earliest)

    def _spoiled(self, answer: bytes, struck: Strikes) -> bytes:
        if not answer:
            return b""
        if Kind.CRC_ERROR in struck:
            answer = self._peer.corrupted(answer)
        if Kind.TRUNCATION in struck:
            answer = struck[Kind.TRUNCATION].left_of(answer)
        if Kind.GARBAGE in struck:
            answer = self._chance.randbytes(struck[Kind.GARBAGE].size) + answer
        return answer

    async def _send_late(self, links: list[Link], data: bytes, earliest: float, struck: Strikes) -> None:
        loop, cleared = asyncio.get_running_loop(), asyncio.Event()
        at = earliest + struck[Kind.DELAY].lasts_s
        with struck.waiting(Kind.DELAY, partial(loop.call_soon_threadsafe, cleared.set)):
            await passed(at - loop.time() - AHEAD_S, cleared)
        await self._send(links, data, earliest if cleared.is_set() else at)

    async def _send(self, links: list[Link], data: bytes, earliest: float) -> None:
        """Each byte is there not before its last bit could have come."""
        await until(earliest - AHEAD_S)  # what comes late keeps nothing else from being said
        async with self._speaking:
            char_s = self._outward.char_s
            begins_at = self._outward.take(earliest, len(data))
            chunk, sent = self._outward.chunk(len(data)), 0
            while sent < len(data):
                upto = min(sent + chunk, len(data))
                is_out_at = begins_at + upto * char_s
                await (until(is_out_at) if upto < len(data) or not char_s else exactly(is_out_at))
                for link in links:
                    link.write(data[sent:upto])
                sent = upto
        self.facts.counters.bytes_out += len(data)

    def _struck(self, faults: Faults) -> Strikes:
        """The device's faults and the line's."""
        return Strikes(faults, self.facts.faults)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            logging.getLogger("emulator").error("line %s failed", self.facts.line_id, exc_info=error)
            self._failed(error)
