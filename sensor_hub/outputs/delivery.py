"""From an output's queue to its sink: in batches, again after a failure, acknowledged once they are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sensor_hub import logs, wire
from sensor_hub.clock import Clock
from sensor_hub.outputs.counts import CountedQueue, Counts
from sensor_hub.outputs.sink import Message, NotTakenError, Refused, Sink
from sensor_hub.readings import Json
from sensor_hub.store_file import Queued
from sensor_hub.store_queue import Figures

log = logs.get(__name__)

LOOK_S = 0.25  # what was put is seen when it is on the disk; nobody tells when that is
REPEAT_S = 300.0  # how often it is said that an output still fails
# What is no message, and a row of a card that forgets: one must not stop all after it.
_BAD_ROW = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class State(StrEnum):
    """Of an output; `waiting`: nothing was to be sent yet."""

    WAITING = "waiting"
    UP = "up"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Report:
    """How an output is."""

    state: State
    since: datetime
    problem: str  # why nothing is delivered
    counts: Counts
    queue: Figures
    store_problem: str  # why the queue is in memory

    def body(self) -> dict[str, Json]:
        """As it is shown."""
        return {
            "state": str(self.state),
            "since": wire.timestamp_text(self.since),
            "problem": self.problem,
            **asdict(self.counts),
            "queue": self.queue.body(),
            "store_problem": self.store_problem,
        }


class Delivery:
    """`run` in one thread; `wake` and `report` in any."""

    def __init__(
        self,
        output_id: str,
        sink: Sink,
        queue: CountedQueue,
        message_of: Callable[[Queued], Message],
        clock: Clock,
    ) -> None:
        """`message_of` raises ValueError for an entry that is none; it is dropped."""
        self.queue, self._sink, self._message_of, self._clock = queue.queue, sink, message_of, clock
        self._counted = queue
        self._output_id = output_id
        self._woken = threading.Event()
        self._state, self._since, self._problem = State.WAITING, clock.now(), ""
        self._unreadable = ""  # why an entry of the queue was no message
        self._defect = ""  # of the sink, the last one that was told with its trace
        self._told, self._told_reason = State.WAITING, ""  # what the log said last
        self._often = logs.OncePerMinute(monotonic=clock.monotonic)
        self._repeat = logs.OncePerMinute(REPEAT_S, clock.monotonic)
        self._pause_s = 0.0

    def wake(self) -> None:
        """Something was put, or it shall stop."""
        self._woken.set()

    def report(self, store_problem: str) -> Report:
        """How it is, with what its store says."""
        return Report(
            self._state,
            self._since,
            self._problem,
            self._counted.counts,
            self.queue.figures(),
            store_problem,
        )

    def run(self, stop: threading.Event, chance: Callable[[], float]) -> None:
        """Deliver until stopped. `chance` (0..1) spreads the retries of several outputs."""
        try:
            while not stop.is_set():
                self._tell_recovery()
                batch = self._due()
                if not batch:
                    self._wait()
                    continue
                retry_s = self._deliver(batch)
                if retry_s is not None:
                    stop.wait(retry_s * (0.8 + 0.4 * chance()))
        finally:
            self._sink.close()

    def _wait(self) -> None:
        """Until something may be due; what is in the queue is looked at often, an empty one is left alone."""
        is_idle = not self.queue.figures().depth and self._told is self._state
        self._woken.wait(None if is_idle else LOOK_S)
        self._woken.clear()

    def _due(self) -> list[Queued]:
        """The next batch, if it is large or old enough."""
        batching = self._sink.batching
        batch = self.queue.peek(batching.size)
        if not batch or len(batch) >= batching.size:
            return batch
        age_s = self._clock.now().timestamp() - batch[0].at
        return batch if age_s < 0 or age_s >= batching.age_s else []

    def _deliver(self, batch: Sequence[Queued]) -> float | None:
        """The pause before the next try; None when all is well."""
        messages = [each for each in map(self._read, batch) if each is not None]
        unreadable = len(batch) - len(messages)
        try:
            refused = self._send(messages) if messages else None
        except NotTakenError as error:
            return self._failed(error)
        # It is taken from the words of a database.
        count = min(refused.count, len(messages)) if refused else 0
        self._succeeded(len(batch))
        self._counted.ack([each.id for each in batch], sent=len(messages) - count, refused=count + unreadable)
        if unreadable:
            self._tell_refused(unreadable, self._unreadable)
        if refused is not None:
            self._tell_refused(count, refused.reason)
        return None

    def _send(self, messages: Sequence[Message]) -> Refused | None:
        """Raises NotTakenError, also for a defect of the sink: what waits stays in the queue, and that grows."""
        try:
            return self._sink.send(messages)
        except NotTakenError:
            raise
        except OSError as error:
            raise NotTakenError(str(error) or type(error).__name__) from error
        except Exception as error:
            kind = type(error).__name__
            if kind != self._defect and self._often.passes(f"defect {kind}")[0]:
                self._defect = kind
                log.exception("output failed unexpectedly", output=self._output_id)
            raise NotTakenError(f"internal error ({kind}), see the log") from error

    def _read(self, queued: Queued) -> Message | None:
        try:
            return self._message_of(queued)
        except _BAD_ROW as error:
            self._unreadable = f"queued reading cannot be read: {error}"
            return None

    def _tell_refused(self, count: int, reason: str) -> None:
        passes, _ = self._often.passes("refused")
        if passes:
            log.error(
                "readings refused for good",
                output=self._output_id,
                count=count,
                total=self._counted.counts.refused,
                reason=reason,
            )

    def _succeeded(self, count: int) -> None:
        if self._state is not State.UP:
            self._turn(State.UP, "")
        self._tell_recovery(count)
        self._pause_s, self._defect = 0.0, ""

    def _tell_recovery(self, count: int = 0) -> None:
        """At most once a minute: some databases come and go with every batch. But it is told at last."""
        if self._state is not State.UP or self._told is State.UP:
            return
        if self._told is State.WAITING or self._often.passes("delivers")[0]:
            self._told, self._told_reason = State.UP, ""
            queued = max(0, self.queue.figures().depth - count)
            log.info("output delivers", output=self._output_id, queued=queued)

    def _failed(self, error: NotTakenError) -> float:
        reason = str(error)
        if self._state is not State.FAILING:
            self._turn(State.FAILING, reason)
        self._problem = reason
        self._tell_failure(reason)
        first_s, last_s = self._sink.pause_s
        self._pause_s = min(last_s, self._pause_s * 2) if self._pause_s else first_s
        return max(self._pause_s, error.retry_after_s or 0.0)

    def _tell_failure(self, reason: str) -> None:
        """At most once a minute, whatever the reason: many have the number of a request in them."""
        is_news = self._told is not State.FAILING or reason != self._told_reason
        passes = self._often.passes("fails")[0] if is_news else self._repeat.passes(reason)[0]
        if not passes:
            return
        if is_news:
            self._repeat.passes(reason)  # it counts from here
        self._told, self._told_reason = State.FAILING, reason
        queued = self.queue.figures().depth
        log.warning("output does not deliver", output=self._output_id, reason=reason, queued=queued)

    def _turn(self, state: State, problem: str) -> None:
        self._state, self._since, self._problem = state, self._clock.now(), problem
