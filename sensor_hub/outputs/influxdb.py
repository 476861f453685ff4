"""Readings as points of InfluxDB, by the write API of 1.x or that of 2.x and 3.x.

A point is the same each time it is sent (series and time), so a batch may be sent again as often as needed.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from urllib3.exceptions import InsecureRequestWarning

from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs.influxdb_settings import InfluxSettings, filled
from sensor_hub.outputs.line_protocol import line
from sensor_hub.outputs.sink import Batching, Message, NotTakenError, Refused, Sink
from sensor_hub.readings import Json

CONNECT_TIMEOUT_S = 5.0
RETRY_AFTER_MAX_S = 300.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_MS = {"ns": 1_000_000, "us": 1000, "ms": 1}
_SAME_MS = 1000  # entries of one device within a millisecond that stay apart
# 1.x and 2.x keep what is good of a batch and say so; that other words are about points and not for the request is
# known by these (400 also means a wrong database or a proxy, and those must not cost a single reading).
_PARTIAL = re.compile(r"partial write:.*\bdropped=(\d+)", re.DOTALL)
_POINTS = re.compile(
    r"unable to parse|field type conflict|partial write|schema|line protocol|beyond retention|invalid (field|tag)",
    re.IGNORECASE,
)
_ADVICE = {
    401: "username and password, or token, are wrong or missing",
    403: "the credentials may not write there",
    404: "no such database, retention policy, bucket or organisation",
}


class InfluxDb(Sink):
    """Writes points; those that the database refuses for good are counted and left out."""

    name = "influxdb"
    settings = InfluxSettings

    def __init__(self, output: OutputConfig, instance_id: str, folder: Path) -> None:
        """Open nothing."""
        self._options = InfluxSettings.model_validate(dict(output.options))
        self._instance_id = instance_id
        self._session: requests.Session | None = None

    @property
    def batching(self) -> Batching:
        """As configured."""
        return Batching(self._options.batch_size, self._options.batch_age_s)

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

    def _write(self, lines: Sequence[str]) -> list[Refused]:
        """Write what can be; a batch that is refused as a whole for one of its points is written in halves."""
        if not lines:
            return []
        response = self._post("\n".join(lines).encode())
        if 200 <= response.status_code < 300:
            return []
        reason = reason_of(response)
        if response.status_code in (400, 422) and (found := _PARTIAL.search(reason)):
            # Of lines that it cannot parse, 1.x says that it dropped none.
            return [Refused(int(found[1]) or max(1, reason.count("unable to parse")), shortened(reason))]
        splits = response.status_code == 413 or (
            response.status_code in (400, 422) and _POINTS.search(reason) is not None
        )
        if not splits:
            raise NotTakenError(_in_words(response, reason), _retry_after_s(response))
        if len(lines) == 1:
            return [Refused(1, shortened(reason))]
        middle = len(lines) // 2
        return self._write(lines[:middle]) + self._write(lines[middle:])

    def _post(self, body: bytes) -> requests.Response:
        options = self._options
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if options.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body, 5, mtime=0), "gzip"
        self._session = self._session or self._new_session()
        try:
            return self._session.post(
                options.url + ("/api/v2/write" if options.bucket else "/write"),
                params=self._params(),
                data=body,
                headers=headers,
                timeout=(min(CONNECT_TIMEOUT_S, options.timeout_s), options.timeout_s),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            self.close()
            raise NotTakenError(_unreachable(error, options.timeout_s)) from error

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


def reason_of(response: requests.Response) -> str:
    """All that the database says, on one line; it has several forms for that."""
    try:
        body = response.json()
    except ValueError:
        body = None
    text = ""
    if isinstance(body, dict):
        details = body.get("data")
        parts = [body.get("error"), body.get("message"), json.dumps(details) if details else None]
        text = ": ".join(str(part) for part in parts if part)
    return " ".join((text or response.text[:1000]).split())


def shortened(reason: str) -> str:
    """For a line of the log; what matters most is said first."""
    return reason if len(reason) <= 300 else reason[:297] + "..."


def _in_words(response: requests.Response, reason: str) -> str:
    advice = _ADVICE.get(response.status_code)
    said = f"HTTP {response.status_code}" + (f" {response.reason}" if response.reason else "")
    return ": ".join(part for part in (said, advice, shortened(reason)) if part)


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        return min(RETRY_AFTER_MAX_S, max(0.0, float(response.headers.get("Retry-After", ""))))
    except ValueError:
        return None


def _unreachable(error: requests.RequestException, timeout_s: float) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS: {error}"[:300]
    innermost: BaseException = error
    while (cause := innermost.__cause__ or innermost.__context__) is not None:
        innermost = cause
    return f"not reachable: {getattr(innermost, 'strerror', None) or type(innermost).__name__}"
