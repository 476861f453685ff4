"""Readings as points of InfluxDB, by the write API of 1.x or that of 2.x and 3.x.

A point is the same each time it is sent (series and time), so a batch may be sent again as often as needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sensor_hub import logs
from sensor_hub.config import values
from sensor_hub.config.model import OutputConfig
from sensor_hub.errors import Problem
from sensor_hub.outputs.influxdb_answers import (
    Fault,
    dropped_in,
    fault_of,
    in_words,
    is_taken,
    is_unreadable,
    reason_of,
    retry_after_s,
    shortened,
)
from sensor_hub.outputs.influxdb_http import Answer, InfluxHttp, NoAnswerError
from sensor_hub.outputs.influxdb_settings import InfluxSettings, filled
from sensor_hub.outputs.line_protocol import line
from sensor_hub.outputs.sink import Batching, Message, NotTakenError, Refused, Sink
from sensor_hub.readings import Json

log = logs.get(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_MS = {"ns": 1_000_000, "us": 1000, "ms": 1}
_SAME_MS = 1000  # entries of one device within a millisecond that stay apart
_SMALL = 4096  # bytes of a line; no database finds that too large, but a proxy that is set up wrongly may
_PROMPT = 0.25  # of the time for an answer: then twice as many points are probably answered in time, too
_UNREAD = 50  # points, so many of which a database cannot read before it is given up, not they
_STEADY = 8  # so many prompt answers one after the other, since "too slow" may be of another kind


class InfluxDb(Sink):
    """Writes points; those that the database refuses for good are counted and left out."""

    name = "influxdb"
    settings = InfluxSettings

    def __init__(self, output: OutputConfig, instance_id: str, folder: Path) -> None:
        """Open nothing."""
        self._options = InfluxSettings.model_validate(dict(output.options))
        self._instance_id = instance_id
        self._http = InfluxHttp(self._options)
        self._compressed = self._options.gzip
        self._readable = False  # whether the database has read a point since it was there
        self._unread = 0  # points of a batch that it could not
        self._at_once = self._options.batch_size  # points that a slow database answers in time
        self._prompt = 0  # answers one after the other to so many

    @property
    def batching(self) -> Batching:
        """As configured; fewer for a database that did not answer in time."""
        return Batching(self._at_once, self._options.batch_age_s)

    def send(self, messages: Sequence[Message]) -> Refused | None:
        """Write a point for each."""
        lines = [self.point(message) for message in messages]
        empty = sum(each is None for each in lines)
        refused = [Refused(empty, "nothing in it is a value that can be stored")] if empty else []
        refused += self._write_batch([each for each in lines if each is not None])
        if not refused:
            return None
        return Refused(sum(each.count for each in refused), refused[-1].reason)

    def point(self, message: Message) -> str | None:
        """Its line; None when it holds nothing that can be stored."""
        options = self._options
        info = {key: str(value) for key, value in message.source_transport_info.items()}
        facts = info | {
            "type": message.device_type,
            "device_id": message.device_id,
            "instance": self._instance_id,
            "source_transport": message.source_transport,
            "target_transport": message.target_transport,
            "quality": message.quality,
            "unit": str(message.extra.get("unit", "")),
            "emulated": "true" if message.extra.get("emulated") is True else "",
        }
        values = {name: value for name, value in message.data.items() if value is not None}
        fields: dict[str, Json] = {**values, "quality": message.quality} if values else {}
        tags = {name: filled(template, facts) for name, template in options.tags.items()}
        moment = time_of(message, options.precision)
        return line(filled(options.measurement, facts), tags, fields, moment, integers=options.integers)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @classmethod
    def check(cls, output: OutputConfig) -> Iterator[Problem]:
        """A CA file must be there at the start; one that is gone later is no reason for a worker to end."""
        problems = list(super().check(output))
        yield from problems
        given = output.options.get("ca_cert")
        if given is not None and not any(each.path == f"{output.path}.ca_cert" for each in problems):
            try:
                values.readable_file(given)
            except values.BadValueError as error:
                yield Problem(f"{output.path}.ca_cert", str(error))

    def _write_batch(self, lines: Sequence[str]) -> list[Refused]:
        self._unread = 0
        refused = self._write(lines, whole=True)
        if self._unread and not self._readable:
            raise _none_read(refused[-1].reason)
        return refused

    def _write(self, lines: Sequence[str], *, whole: bool = False) -> list[Refused]:
        """Write what can be; a batch that is refused as a whole for one of its points is written in halves."""
        if not lines:
            return []
        answer = self._post(lines)
        if whole and self._compressed and fault_of(answer) is Fault.POINTS and is_unreadable(answer):
            answer = self._uncompressed(lines, answer)
        if is_taken(answer):
            self._readable = True
            self._answered_within(answer.seconds, len(lines))
            return []
        reason, fault = reason_of(answer), fault_of(answer)
        if fault is Fault.REQUEST or (fault is Fault.SIZE and len(lines) == 1 and len(lines[0]) < _SMALL):
            raise NotTakenError(in_words(answer, reason), retry_after_s(answer))
        if fault is Fault.SOME_POINTS:
            self._readable = True
            return [Refused(min(len(lines), dropped_in(reason)), shortened(reason))]
        if len(lines) == 1:
            self._refused_one(answer)
            return [Refused(1, shortened(reason))]
        middle = len(lines) // 2
        return self._write(lines[:middle]) + self._write(lines[middle:])

    def _uncompressed(self, lines: Sequence[str], answer: Answer) -> Answer:
        """The answer to the same batch as it is, and from now on so, if that can be read."""
        plain = self._post(lines, compressed=False)
        if is_taken(plain) or fault_of(plain) is Fault.SOME_POINTS:
            self._compressed = False
            log.warning("database cannot read what is compressed", reason=shortened(reason_of(answer)))
        return plain

    def _refused_one(self, answer: Answer) -> None:
        """What cannot read a single point may be anything; for that they are not given up."""
        if self._readable or not is_unreadable(answer):
            return
        self._unread += 1
        if self._unread >= _UNREAD:
            raise _none_read(reason_of(answer))

    def _post(self, lines: Sequence[str], *, compressed: bool | None = None) -> Answer:
        how = self._compressed if compressed is None else compressed
        try:
            return self._http.write("\n".join(lines).encode(), compressed=how)
        except NoAnswerError as error:
            self._readable = False  # what answers next may be another
            if error.is_slow:
                self._at_once, self._prompt = max(1, len(lines) // 2), 0
            raise NotTakenError(str(error)) from error

    def _answered_within(self, seconds: float, points: int) -> None:
        """More at once again for a database that has become faster."""
        if points < self._at_once:
            return
        self._prompt = self._prompt + 1 if seconds < _PROMPT * self._options.timeout_s else 0
        if self._prompt >= _STEADY:
            self._at_once, self._prompt = min(self._options.batch_size, self._at_once * 2), 0


def time_of(message: Message, precision: str) -> int:
    """When the device was read, in that unit.

    Readings have milliseconds, and a point overwrites another of its series with the same time. In finer units than
    that, readings of one millisecond are told apart by the last digits of their number, which is always the same.
    """
    since = datetime.fromisoformat(message.timestamp) - _EPOCH
    milliseconds = since // timedelta(milliseconds=1)
    if precision == "s":
        return milliseconds // 1000
    moment = milliseconds * _PER_MS[precision]
    return moment if precision == "ms" else moment + int(message.id.rpartition("-")[2]) % _SAME_MS


def _none_read(reason: str) -> NotTakenError:
    return NotTakenError(f"it can read none of the points, is that InfluxDB? {shortened(reason)}")
