"""What the hub counts, in the text format of Prometheus (`GET /metrics` of the state-aggregator).

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sensor_hub import __version__
from sensor_hub.aggregator import PROGRAMS, Aggregator
from sensor_hub.readings import Json

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "sensor_hub_"
_COUNTED = "_total"  # how the name of a counter ends
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})

Sample = tuple[Mapping[str, str], float]
# key in a queue's figures -> name and help
_QUEUE: Mapping[str, tuple[str, str]] = {
    "depth": ("queue_entries", "Entries that wait for their receiver's acknowledgement."),
    "bytes": ("queue_bytes", "Their size."),
    "oldest_s": ("queue_oldest_seconds", "Age of the oldest entry, 0 when there is none."),
    "dropped": ("queue_dropped_total", "Entries lost because the queue was full or its file damaged."),
    "sent": ("queue_sent_total", "Readings that the receiver has acknowledged."),
    "refused": ("queue_refused_total", "Readings that the receiver will never take."),
    "missed": (
        "queue_missed_total",
        "Entries of the journal that never came here, of any device: at most so many readings were lost.",
    ),
    "interrupted": (
        "queue_interrupted_total",
        "How often the aggregator began anew, its last words perhaps lost.",
    ),
    "expired": ("queue_expired_total", "Answers to commands that were too old to be sent."),
    "on_disk": ("queue_on_disk", "1 while the queue is on disk, 0 while it is in memory only."),
    "reported_s": ("queue_reported_seconds", "How long ago the output said so."),
}


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one name. A name that ends in `_total` is a counter, any other a gauge."""

    name: str
    help: str
    samples: Sequence[Sample]


def exposition(families: Iterable[Family]) -> str:
    """The text; a family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            name = _PREFIX + family.name
            lines.append(f"# HELP {name} {family.help.translate(_HELP_ESCAPES)}")
            lines.append(f"# TYPE {name} {'counter' if name.endswith(_COUNTED) else 'gauge'}")
            lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    texts = [f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels.items()]
    return "{" + ",".join(texts) + "}" if texts else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def families(aggregator: Aggregator) -> list[Family]:
    """All there is. Asks the handlers: what one does not tell just now is missing."""
    health, cache = aggregator.health(), aggregator.cache_stats()
    info = {"instance_id": aggregator.config.instance_id, "version": __version__}
    return [
        Family("info", "Which instance this is.", [(info, 1)]),
        *_handlers(aggregator, health),
        *_journal(health),
        Family("cache_entries", "Readings in the cache.", _alone(cache["total_entries"])),
        Family("cache_hits_total", "Requests answered from the cache.", _alone(cache["hits"])),
        Family("cache_misses_total", "Requests that asked the handler.", _alone(cache["misses"])),
        *_queues(_object(health["queues"])),
    ]


def _handlers(aggregator: Aggregator, health: Mapping[str, Json]) -> list[Family]:
    names = {str(handler): program for handler, program in PROGRAMS.items()}
    handler_of = {sensor.sensor_id: str(sensor.handler) for sensor in aggregator.config.sensors}
    words = _object(health["dependencies"])
    up: list[Sample] = []
    for handler, program in names.items():
        word = _object(words[program.replace("-", "_")])["status"]
        up.append(({"handler": handler}, word not in ("unreachable", "unreadable")))
    counted: dict[str, Counter[str]] = {}
    for device_id, row in aggregator.telemetry().items():
        counts = counted.setdefault(handler_of.get(device_id, ""), Counter())
        for key, value in _object(row).items():
            if key in ("reads", "errors") and isinstance(value, int):
                counts[key] += value
    counted.pop("", None)
    devices = Counter((handler_of[s.device_id], str(s.status)) for s in aggregator.board.all())
    return [
        Family("handler_up", "1 while the handler answers.", up),
        Family("reads_total", "Reads of devices, failed ones too.", _of(counted, "reads")),
        Family("read_errors_total", "Reads that failed.", _of(counted, "errors")),
        Family(
            "devices",
            "Devices by status.",
            [({"handler": of, "status": word}, number) for (of, word), number in devices.items()],
        ),
    ]


def _of(counted: Mapping[str, Counter[str]], key: str) -> list[Sample]:
    return [({"handler": handler}, counts[key]) for handler, counts in counted.items()]


def _journal(health: Mapping[str, Json]) -> list[Family]:
    facts = _object(health["journal"])
    return [
        Family("journal_entries", "Readings and faults kept for followers.", _alone(facts["entries"])),
        Family("journal_bytes", "Memory they take.", _alone(facts["bytes"])),
        Family("journal_missed_total", "Entries of handlers that never came.", _alone(facts["missed"])),
        Family("journal_interrupted_total", "How often a handler began anew.", _alone(facts["interrupted"])),
    ]


def _queues(queues: Mapping[str, Json]) -> list[Family]:
    return [
        Family(
            name,
            text,
            [({"queue": queue}, _value(row[key])) for queue, row in _rows(queues) if key in row],
        )
        for key, (name, text) in _QUEUE.items()
    ]


def _rows(queues: Mapping[str, Json]) -> list[tuple[str, Mapping[str, Json]]]:
    return [(queue, _object(row)) for queue, row in queues.items()]


def _alone(value: Json) -> list[Sample]:
    return [({}, _value(value))]


def _value(value: Json) -> float:
    return value if isinstance(value, int | float) else 0


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
