"""Requests to an InfluxDB: answered within a time, and what is kept of an answer is bounded."""

from __future__ import annotations

import gzip
import time
import warnings
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import requests
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from sensor_hub.bounded_http import BoundedSession
from sensor_hub.outputs.influxdb_settings import InfluxSettings

CONNECT_TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 65_536  # databases say what is wrong in less, but for the lines that they quote:
QUOTED = 8  # bytes of those, as JSON, for one that was sent


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; of the body the beginning."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    seconds: float  # until all of that was there

    @property
    def text(self) -> str:
        """The body, whatever it is."""
        return self.body.decode("utf-8", "replace")


class NoAnswerError(Exception):
    """There was none; the message says why. `is_slow`: the database is there, and was not done in time."""

    def __init__(self, reason: str, *, is_slow: bool = False) -> None:
        super().__init__(reason)
        self.is_slow = is_slow


class InfluxHttp:
    """One connection that is kept, opened when something is written."""

    def __init__(self, options: InfluxSettings) -> None:
        self._options = options
        self._session: BoundedSession | None = None

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def write(self, lines: bytes, *, compressed: bool) -> Answer:
        """Raises NoAnswerError."""
        self._session = session = self._session or self._new_session()
        timeout_s, connect_s = self._options.timeout_s, min(CONNECT_TIMEOUT_S, self._options.timeout_s)
        try:
            # For what drips; that nothing comes at all is seen earlier.
            with session.cut_after(connect_s + timeout_s) as expired:
                answer = self._exchange(session, lines, compressed, (connect_s, timeout_s))
        except (OSError, urllib3.exceptions.HTTPError) as error:  # a RequestException is an OSError, too
            self.close()
            if expired.is_set():
                raise NoAnswerError(_too_late(timeout_s), is_slow=True) from error
            raise NoAnswerError(_unreachable(error, timeout_s), is_slow=_is_slow(error)) from error
        if expired.is_set() and answer.status != 204:  # what was cut off may look whole
            self.close()
            raise NoAnswerError(_too_late(timeout_s), is_slow=True)
        return answer

    def _exchange(
        self, session: BoundedSession, body: bytes, compressed: bool, timeout: tuple[float, float]
    ) -> Answer:
        most = ANSWER_MAX_BYTES + QUOTED * len(body)
        headers = {"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"}
        if compressed:
            body, headers["Content-Encoding"] = gzip.compress(body, 5, mtime=0), "gzip"
        began = time.monotonic()
        url = self._options.url + ("/api/v2/write" if self._options.bucket else "/write")
        response = session.post(
            url,
            params=self._params(),
            data=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        )
        with response:
            raw = _beginning(response, most)
        seconds = time.monotonic() - began
        return Answer(response.status_code, response.reason or "", response.headers, raw, seconds)

    def _params(self) -> Mapping[str, str]:
        options = self._options
        if options.bucket:
            named = {"bucket": options.bucket, "org": options.org}
            precision: str = options.precision
        else:
            named = {"db": options.database, "rp": options.retention_policy}
            precision = "u" if options.precision == "us" else options.precision
        return {key: value for key, value in named.items() if value} | {"precision": precision}

    def _new_session(self) -> BoundedSession:
        options, session = (
            self._options,
            BoundedSession(),
        )  # which has no ~/.netrc in the place of what is configured
        session.verify = str(options.ca_cert) if options.ca_cert else options.verify_tls
        if options.username is not None:
            login = f"{options.username}:{options.password or ''}".encode()
            session.headers["Authorization"] = f"Basic {b64encode(login).decode()}"
        if options.token is not None:
            session.headers["Authorization"] = f"Token {options.token}"
        if not session.verify:
            warnings.simplefilter("ignore", InsecureRequestWarning)  # it was asked for
        return session


def _beginning(response: requests.Response, most: int) -> bytes:
    """As it was sent: libraries unpack as much as there is. Who packs unasked is read as far as that is right."""
    raw: bytes = response.raw.read(most, decode_content=False)
    if response.headers.get("Content-Encoding", "").lower() not in ("gzip", "x-gzip", "deflate"):
        return raw
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, most)
    except zlib.error:
        return raw


def _is_slow(error: Exception) -> bool:
    """It is there, and did not take the request or answer it in time."""
    if isinstance(error, requests.ConnectTimeout):
        return False
    return isinstance(error, requests.Timeout) or isinstance(_innermost(error), TimeoutError)


def _unreachable(error: Exception, timeout_s: float) -> str:
    if isinstance(error, urllib3.exceptions.HTTPError):  # while its answer was read
        return _too_late(timeout_s) if _is_slow(error) else f"the answer broke off: {_word(error)}"
    if not isinstance(error, requests.RequestException):
        return str(error)[:300]
    if isinstance(error, requests.Timeout):
        return _too_late(timeout_s)
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS: {error}"[:300]
    if not isinstance(error, requests.ConnectionError):
        return f"no answer that can be read: {_word(error)}"
    return f"not reachable: {_word(error)}"


def _too_late(timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s"


def _word(error: Exception) -> str:
    innermost = _innermost(error)
    return getattr(innermost, "strerror", None) or type(innermost).__name__


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
