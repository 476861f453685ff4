"""Runs what a scenario asks for until told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

from emulator import logs
from emulator.building import Emulated
from emulator.precise_loop import new_loop
from emulator.ptys import PathTakenError
from emulator.scenario import Scenario


def run(scenario: Scenario) -> int:
    """Run until SIGTERM or SIGINT; the exit code: 0, or 1 when a line or the port cannot be had (any more)."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_run(scenario, Emulated(scenario)))


async def _run(scenario: Scenario, emulated: Emulated) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()

    def end(error: Exception | None = None) -> None:
        if not ended.done():
            ended.set_result(error)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with AsyncExitStack() as stack:
        try:
            for line in emulated.lines:
                stack.push_async_callback(line.stop)
                line.start(end)
            if emulated.web is not None:
                stack.callback(emulated.profiles.close)
                stack.callback(emulated.web.stop)
                emulated.web.start()
        except (PathTakenError, OSError) as error:
            print(f"device-emulator: cannot start: {error}", file=sys.stderr)
            return 1
        logs.event("emulator ready", instance_id=scenario.instance_id, seed=scenario.seed)
        why = await ended
    if why is not None:
        print(f"device-emulator: {why}", file=sys.stderr)
        return 1
    logs.event("emulator stopped")
    return 0
