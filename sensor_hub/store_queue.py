"""One queue of a store between two commits: what waits for the disk, and what is to leave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sensor_hub import logs
from sensor_hub.readings import Json
from sensor_hub.store_file import Change, Facts, Limits, Queued

log = logs.get(__name__)

DROPPING_S = 60.0
MEMORY = Limits(10_000, 8 * 1024 * 1024)  # of a queue, for what has not reached the disk


@dataclass(frozen=True, slots=True)
class Figures:
    """How a queue is. `dropped`: lost for want of room or with a damaged file, since the file was begun.

    `dropping`: some were lost for want of room within DROPPING_S.
    """

    depth: int
    size_bytes: int
    oldest_s: float | None
    dropped: int
    on_disk: bool
    dropping: bool = False

    def body(self) -> dict[str, Json]:
        """As `/health` and telemetry show it."""
        oldest = None if self.oldest_s is None else round(self.oldest_s, 3)
        return {
            "depth": self.depth,
            "bytes": self.size_bytes,
            "oldest_s": oldest,
            "dropped": self.dropped,
            "dropping": self.dropping,
            "on_disk": self.on_disk,
        }


def total(of: Sequence[Figures]) -> Figures:
    """Of several queues of one file, as if they were one."""
    return Figures(
        depth=sum(each.depth for each in of),
        size_bytes=sum(each.size_bytes for each in of),
        oldest_s=max((each.oldest_s for each in of if each.oldest_s is not None), default=None),
        dropped=sum(each.dropped for each in of),
        on_disk=all(each.on_disk for each in of),
        dropping=any(each.dropping for each in of),
    )


def telemetry_of(rows: Iterable[Mapping[str, Json]]) -> dict[str, Json]:
    """Bodies of figures as what telemetry says of all queues together."""
    rows = list(rows)
    oldest = [found for row in rows if isinstance(found := row.get("oldest_s"), int | float)]
    return {
        "queue_depth": sum(found for row in rows if isinstance(found := row.get("depth"), int)),
        "queue_oldest_s": max(oldest, default=None),
        "queue_dropped": sum(found for row in rows if isinstance(found := row.get("dropped"), int)),
        "queue_missed": sum(found for row in rows if isinstance(found := row.get("missed"), int)),
    }


class Losses:
    """Says what queues lose, once a minute each. Thread-safe."""

    def __init__(self) -> None:
        self._often = logs.OncePerMinute()

    def full(self, queues: Mapping[str, QueueState]) -> None:
        """If anything was lost for want of room since it was said last."""
        for name, state in list(queues.items()):
            if state.dropped > state.told and self._often.passes(name)[0]:
                state.told = state.dropped
                log.error("queue is full, its oldest entries are dropped", queue=name, dropped=state.told)

    def spoilt(self, name: str, state: QueueState, rows: Sequence[int]) -> None:
        """These of the file cannot be read."""
        if rows and self._often.passes(f"{name} spoilt")[0]:
            words = "entries of a queue cannot be read and are left out"
            log.error(words, queue=name, count=len(rows), dropped=state.dropped)


@dataclass(slots=True)
class QueueState:
    """One queue; the store's lock guards it. `waiting`: not on the disk yet; `gone`: to be removed from it."""

    limits: Limits
    facts: Facts = field(default_factory=Facts)
    waiting: dict[int, Queued] = field(default_factory=dict)
    waiting_bytes: int = 0
    gone: dict[int, None] = field(default_factory=dict)
    mark: str = ""
    dropped: int = 0
    told: int = 0  # of the dropped
    seen: int = 0  # of the dropped, by the last figures
    dropped_at: float | None = None  # Unix time

    @property
    def has_work(self) -> bool:
        """Whether the disk lacks something."""
        return bool(self.waiting or self.gone or self.mark != self.facts.mark)

    def forget(self, entry_id: int) -> bool:
        """Whether it waited; it does not any more."""
        found = self.waiting.pop(entry_id, None)
        if found is not None:
            self.waiting_bytes -= found.item.size
        return found is not None

    def add(self, entry: Queued) -> None:
        """It waits for the disk. The oldest make room in memory; on the disk they do when it is committed."""
        self.waiting[entry.id] = entry
        self.waiting_bytes += entry.item.size
        most, most_bytes = (
            min(self.limits.entries, MEMORY.entries),
            min(self.limits.size_bytes, MEMORY.size_bytes),
        )
        while self.waiting and (len(self.waiting) > most or self.waiting_bytes > most_bytes):
            self.forget(next(iter(self.waiting)))
            self.dropped += 1

    def acknowledged(self, entry_id: int) -> None:
        """It is to be nowhere any more."""
        if not self.forget(entry_id):
            self.gone[entry_id] = None

    def given_up(self, entry_id: int) -> None:
        """It can be of no use to anybody: it leaves as if acknowledged, and counts as lost, not for want of room."""
        if entry_id not in self.gone:
            self.acknowledged(entry_id)
            self.dropped, self.told, self.seen = self.dropped + 1, self.told + 1, self.seen + 1

    def loaded(self, facts: Facts) -> None:
        """The file holds so much."""
        self.facts, self.mark = facts, self.mark or facts.mark
        self.dropped = max(self.dropped, facts.dropped)
        self.told, self.seen = max(self.told, facts.dropped), max(self.seen, facts.dropped)

    def change(self, *, adds: bool) -> Change | None:
        """What the next commit does to it; without `adds` it only removes."""
        if not self.gone and not (adds and self.has_work):
            return None
        added = list(self.waiting.values()) if adds else []
        mark = self.mark if adds else self.facts.mark
        return Change(list(self.gone), added, mark, self.dropped, self.limits)

    def committed(self, change: Change, facts: Facts) -> None:
        """The disk has it now."""
        self.facts = facts
        self.dropped += facts.dropped - change.dropped
        for entry_id in change.removed:
            self.gone.pop(entry_id, None)
        for entry in change.added:
            if not self.forget(entry.id):
                self.gone[entry.id] = None  # acknowledged or dropped while it was written

    def damaged(self) -> None:
        """The file is gone with all it held."""
        self.dropped += self.facts.depth
        self.told = self.seen = self.dropped
        self.emptied()

    def emptied(self) -> None:
        """The file is gone, and it held nothing that anybody needs."""
        self.facts, self.gone = Facts(), {}

    def figures(self, now: float, *, on_disk: bool) -> Figures:
        """`now` is Unix time."""
        oldest_at = self.facts.oldest_at
        if oldest_at is None and self.waiting:
            oldest_at = next(iter(self.waiting.values())).at
        depth = max(0, self.facts.depth - len(self.gone)) + len(self.waiting)
        age_s = None if oldest_at is None or not depth else max(0.0, now - oldest_at)
        if self.dropped > self.seen:
            self.seen, self.dropped_at = self.dropped, now
        dropping = self.dropped_at is not None and abs(now - self.dropped_at) < DROPPING_S
        # What was acknowledged is on the disk for a second more.
        size = self.facts.size + self.waiting_bytes if depth else 0
        return Figures(depth, size, age_s, self.dropped, on_disk, dropping)
