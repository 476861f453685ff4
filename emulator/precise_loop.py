"""An event loop whose timers are exact to some ten microseconds: a line at 115200 baud needs that."""

from __future__ import annotations

import asyncio
import selectors
from contextlib import suppress
from select import select

WAKING_S = 0.00015  # that long a process may take to wake up


class PreciseSelector(selectors.EpollSelector):
    """epoll, whose own timeout counts in milliseconds, waited for by select, whose timeout does not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As every selector's."""
        if timeout is not None and timeout > 0:
            select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for asyncio.Runner."""
    return asyncio.SelectorEventLoop(PreciseSelector())


async def until(moment: float) -> None:
    """Sleep until the running loop's clock says `moment`; it may be some hundred microseconds later."""
    pause_s = moment - asyncio.get_running_loop().time()
    if pause_s > 0:
        await asyncio.sleep(pause_s)


async def exactly(moment: float) -> None:
    """As `until`, but wake up a little earlier and spend the rest of the time looking at the clock."""
    await until(moment - WAKING_S)
    clock = asyncio.get_running_loop().time
    while clock() < moment:
        pass


async def passed(seconds: float, over: asyncio.Event | None = None) -> None:
    """Sleep so long, or until it is `over`."""
    with suppress(TimeoutError):
        await asyncio.wait_for((over or asyncio.Event()).wait(), seconds)
