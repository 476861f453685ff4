"""One HTTP exchange, bounded in time (headers and body), in size, and to the host it was meant for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin

import requests
import urllib3

from sensor_hub.bounded_http import BoundedSession
from sensor_hub.drivers.http_settings import Endpoint, http_url_problem, origin_of
from sensor_hub.drivers.reasons import causes, reason_of
from sensor_hub.errors import HubError, ReadFailed, ReadTimeout, TransportDown
from sensor_hub.readings import Json

BODY_MAX_BYTES = 1 << 20
REDIRECTS_MAX = 5

_CHUNK_BYTES = 16_384
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and whole decoded body."""

    status: int
    body: bytes = field(repr=False)


class HttpSession:
    """Keep-alive connections to one endpoint. `close` may be called from any thread."""

    def __init__(self, *, verify_tls: bool) -> None:
        """Open nothing yet."""
        self._requests = BoundedSession()
        self._requests.verify = verify_tls
        self._closed = False
        self._used = False
        if not verify_tls:  # asked for in the configuration; no need to be told with every request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close(self) -> None:
        """Close all connections and end an exchange under way."""
        self._closed = True
        self._requests.abort()
        self._requests.close()

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """GET within `timeout_s` in all, following up to five redirects on the same host.

        Raises ReadTimeout, ReadFailed.
        """
        with self._watched(timeout_s) as deadline:
            for _ in range(REDIRECTS_MAX + 1):
                answer = self._retried("GET", url, headers, deadline)
                if isinstance(answer, Answer):
                    return answer
                url = _target(url, answer)
            raise ReadFailed(f"more than {REDIRECTS_MAX} redirects")

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> int:
        """Send a command once, never again and never elsewhere; its HTTP status. Raises as `get`."""
        with (
            self._watched(timeout_s) as deadline,
            self._ask(method, url, headers, body, deadline) as response,
        ):
            return response.status_code

    def _retried(self, method: str, url: str, headers: Mapping[str, str], deadline: float) -> Answer | str:
        """The answer, or where it redirects to.

        A kept connection may close at the very moment it is used; that is no failure of the device.
        """
        try:
            return self._answer(method, url, headers, deadline)
        except requests.ConnectionError as error:
            gone = any(isinstance(cause, ConnectionResetError | BrokenPipeError) for cause in causes(error))
            if not (gone and self._used) or time.monotonic() >= deadline or self._closed:
                raise
            return self._answer(method, url, headers, deadline)

    def _answer(self, method: str, url: str, headers: Mapping[str, str], deadline: float) -> Answer | str:
        with self._ask(method, url, headers, None, deadline) as response:
            location = response.headers.get("Location")
            if response.status_code in _REDIRECTS and location is not None:
                return location
            body = _limited_body(response) if response.ok else b""
            self._used = True
            return Answer(response.status_code, body)

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> requests.Response:
        left_s = max(deadline - time.monotonic(), 0.001)
        return self._requests.request(
            method, url, headers=headers, data=body, timeout=left_s, stream=True, allow_redirects=False
        )

    @contextmanager
    def _watched(self, timeout_s: float) -> Iterator[float]:
        """Give the deadline (monotonic), enforce it, and turn every library error into one of ours."""
        if self._closed:
            raise TransportDown("not connected")
        with self._requests.cut_after(timeout_s) as expired:
            try:
                yield time.monotonic() + timeout_s
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if self._closed:
                    raise TransportDown("closed while waiting for the answer") from None
                if expired.is_set() or any(isinstance(cause, TimeoutError) for cause in causes(error)):
                    raise _no_answer(timeout_s) from None
                raise ReadFailed(f"request failed: {reason_of(error)}") from None
            except ReadFailed:
                if expired.is_set():
                    raise _no_answer(timeout_s) from None
                raise
        if expired.is_set():  # a body that ends with the connection looks whole when we cut it off
            raise _no_answer(timeout_s)


def _no_answer(timeout_s: float) -> HubError:
    return ReadTimeout(f"no whole answer within {timeout_s:g} s")


def _limited_body(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise ReadFailed(f"the answer is larger than {BODY_MAX_BYTES} bytes")
    return bytes(body)


def _target(url: str, location: str) -> str:
    """Where a redirect leads, if it stays where headers and credentials may go."""
    target = urljoin(url, location)
    if http_url_problem(target):
        raise ReadFailed("redirect to something that is no http url refused")
    old, new = origin_of(url), origin_of(target)
    upgraded = (old[0], new[0]) == ("http", "https") and old[1] == new[1]
    if old != new and not upgraded:
        raise ReadFailed("redirect to another host refused")
    return Endpoint.of(target).url


def parse_json(body: bytes) -> Json:
    """The document in an answer's body. Raises ReadFailed."""
    try:
        document: Json = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ReadFailed("the answer is nested too deeply") from None
    except ValueError:
        raise ReadFailed("the answer is not JSON") from None
    return document


def _refuse_constant(word: str) -> Json:
    raise ValueError(word)
