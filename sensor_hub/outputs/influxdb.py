"""Readings as points of InfluxDB, by the write API of 1.x or that of 2.x and 3.x.

A point is the same each time it is sent (series and time), so a batch may be sent again as often as needed.
"""

from __future__ import annotations

import gzip
import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from urllib3.exceptions import InsecureRequestWarning

from sensor_hub.config import values
from sensor_hub.config.model import OutputConfig
from sensor_hub.errors import Problem
from sensor_hub.outputs.influxdb_answers import (
    Fault,
    dropped_in,
    fault_of,
    in_words,
    reason_of,
    retry_after_s,
    shortened,
)
from sensor_hub.outputs.influxdb_settings import InfluxSettings, filled
from sensor_hub.outputs.line_protocol import line
from sensor_hub.outputs.sink import Batching, Message, NotTakenError, Refused, Sink
from sensor_hub.readings import Json

CONNECT_TIMEOUT_S = 5.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_MS = {"ns": 1_000_000, "us": 1000, "ms": 1}
_SAME_MS = 1000  # entries of one device within a millisecond that stay apart
_SMALL = 4096  # bytes of a line; no database finds that too large, but a proxy that is set up wrongly may
_PROMPT = 0.25  # of the time for an answer: then twice as many points are probably answered in time, too
_STEADY = 8  # so many prompt answers one after the other, since "too slow" may be of another kind


class InfluxDb(Sink):
    """Writes points; those that the database refuses for good are counted and left out."""

    name = "influxdb"
    settings = InfluxSettings

    def __init__(self, output: OutputConfig, instance_id: str, folder: Path) -> None:
        """Open nothing."""
        self._options = InfluxSettings.model_validate(dict(output.options))
        self._instance_id = instance_id
        self._session: requests.Session | None = None
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
        refused += self._write([each for each in lines if each is not None])
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
        session, self._session = self._session, None
        if session is not None:
            session.close()

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

    def _write(self, lines: Sequence[str]) -> list[Refused]:
        """Write what can be; a batch that is refused as a whole for one of its points is written in halves."""
        if not lines:
            return []
        response = self._post("\n".join(lines).encode(), len(lines))
        if 200 <= response.status_code < 300:
            return []
        reason, fault = reason_of(response), fault_of(response)
        if fault is Fault.REQUEST or (fault is Fault.SIZE and len(lines) == 1 and len(lines[0]) < _SMALL):
            raise NotTakenError(in_words(response, reason), retry_after_s(response))
        if fault is Fault.SOME_POINTS:
            return [Refused(dropped_in(reason), shortened(reason))]
        if len(lines) == 1:
            return [Refused(1, shortened(reason))]
        middle = len(lines) // 2
        return self._write(lines[:middle]) + self._write(lines[middle:])

    def _post(self, body: bytes, points: int) -> requests.Response:
        options = self._options
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if options.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body, 5, mtime=0), "gzip"
        self._session = self._session or self._new_session()
        try:
            response = self._session.post(
                options.url + ("/api/v2/write" if options.bucket else "/write"),
                params=self._params(),
                data=body,
                headers=headers,
                timeout=(min(CONNECT_TIMEOUT_S, options.timeout_s), options.timeout_s),
                allow_redirects=False,
            )
        except OSError as error:  # any RequestException is one, and a CA file that is gone
            self.close()
            if _is_slow(error):
                self._at_once, self._prompt = max(1, points // 2), 0
            raise NotTakenError(_unreachable(error, options.timeout_s)) from error
        self._answered_within(response.elapsed.total_seconds(), points)
        return response

    def _answered_within(self, seconds: float, points: int) -> None:
        """More at once again for a database that has become faster."""
        if points < self._at_once:
            return
        self._prompt = self._prompt + 1 if seconds < _PROMPT * self._options.timeout_s else 0
        if self._prompt >= _STEADY:
            self._at_once, self._prompt = min(self._options.batch_size, self._at_once * 2), 0

    def _params(self) -> Mapping[str, str]:
        options = self._options
        if options.bucket:
            named = {"bucket": options.bucket, "org": options.org}
            precision: str = options.precision
        else:
            named = {"db": options.database, "rp": options.retention_policy}
            precision = "u" if options.precision == "us" else options.precision
        return {key: value for key, value in named.items() if value} | {"precision": precision}

    def _new_session(self) -> requests.Session:
        options, session = self._options, requests.Session()
        session.trust_env = False  # no proxy, and no ~/.netrc in the place of what is configured
        session.verify = str(options.ca_cert) if options.ca_cert else options.verify_tls
        if options.username is not None:
            login = f"{options.username}:{options.password or ''}".encode()
            session.headers["Authorization"] = f"Basic {b64encode(login).decode()}"
        if options.token is not None:
            session.headers["Authorization"] = f"Token {options.token}"
        if not session.verify:
            warnings.simplefilter("ignore", InsecureRequestWarning)  # it was asked for
        return session


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


def _is_slow(error: OSError) -> bool:
    """It is there, and did not take the request or answer it in time."""
    if isinstance(error, requests.ConnectTimeout):
        return False
    return isinstance(error, requests.Timeout) or isinstance(_innermost(error), TimeoutError)


def _unreachable(error: OSError, timeout_s: float) -> str:
    if not isinstance(error, requests.RequestException):
        return str(error)[:300]
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS: {error}"[:300]
    innermost = _innermost(error)
    return f"not reachable: {getattr(innermost, 'strerror', None) or type(innermost).__name__}"


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
