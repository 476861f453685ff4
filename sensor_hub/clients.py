"""How one service asks another: every failure comes back as the hub's error, never as None."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from sensor_hub import property_facts, wire
from sensor_hub.errors import HandlerUnreachable, HubError, Unreadable, from_code
from sensor_hub.journal import ANSWER_CHARS, ANSWER_ENTRIES, Had, News
from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Entry, Json, Snapshot
from sensor_hub.wire import INSTANCE_HEADER

CONNECT_TIMEOUT_S = 2.0
CONNECTIONS = 128  # kept open to a service; as many as it answers at once (web.MAX_ANSWERING)
FEED_WAIT_S = 20.0
_ERROR_KEYS = ("error", "message", "timestamp", "sensor_id", "device_id")
LOST_GRACE_S = 3.0  # a service that restarts is back within this; nobody needs to hear of it
_FOLLOW_PAUSE_S, _MAX_FOLLOW_PAUSE_S = 0.2, 5.0
_EARLY_S = 1.0  # an empty answer sooner than this is no wait that ended


@dataclass(frozen=True, slots=True)
class Entries:
    """Part of a service's journal: the position after it, the entries, and how many before them are gone.

    `missed` is None when the service did not know the position it was asked with: it is another process.
    """

    position: str
    found: Sequence[Entry]
    missed: int | None


class ServiceClient:
    """One service of this instance. Thread-safe; another instance on the same port refuses and is refused.

    `id_key` is the service's word for a device: `sensor_id` (handlers) or `device_id` (aggregator).
    """

    def __init__(self, url: str, instance_id: str, id_key: str) -> None:
        """Open nothing yet."""
        self.url = url.rstrip("/")
        self._instance_id, self._id_key = instance_id, id_key
        self._session = requests.Session()
        self._session.headers[INSTANCE_HEADER] = instance_id
        self._session.trust_env = False  # a proxy for the outside world must not see loopback traffic
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)
        self._session.mount("http://", adapter)
        # That a connection too many is closed after use is no news.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

    def get(self, path: str, timeout_s: float = 5.0) -> dict[str, Json]:
        """The JSON object at `path`. Raises the error in the answer, or HandlerUnreachable."""
        return self._ask("GET", path, timeout_s)

    def post(self, path: str, body: Mapping[str, Json], timeout_s: float = 5.0) -> dict[str, Json]:
        """As `get`."""
        # Not `json=`: that writes what is not ASCII as escapes, up to three times as long.
        data, headers = wire.dumps(body).encode(), {"Content-Type": "application/json"}
        return self._ask("POST", path, timeout_s, data=data, headers=headers)

    def health(self, timeout_s: float = 2.0) -> dict[str, Json]:
        """The service's `/health`, whatever it says. Raises HandlerUnreachable."""
        return self._body(self._send("GET", "/health", timeout_s))

    def feed(self, since: str | None, wait_s: float) -> tuple[str, list[Snapshot]]:
        """New cursor and what changed after `since`. Raises HandlerUnreachable."""
        body = self._readings(since, wait_s)
        with self._reading():
            return str(body["cursor"]), self._changes(body)

    def feed_with_journal(
        self, since: str | None, position: str | None, wait_s: float
    ) -> tuple[str, list[Snapshot], Entries]:
        """As `feed`, and the journal after `position`. Raises HandlerUnreachable."""
        body = self._readings(since, wait_s, journal=position or "")
        with self._reading():
            journal = body["journal"]
            if not isinstance(journal, dict):
                raise ValueError("journal is not an object")
            found = [wire.journal_from_body(each, self._id_key) for each in _objects(journal["entries"])]
            missed = journal["missed"]
            entries = Entries(str(journal["position"]), found, None if missed is None else int(str(missed)))
            return str(body["cursor"]), self._changes(body), entries

    def _readings(self, since: str | None, wait_s: float, **params: str) -> dict[str, Json]:
        params |= {"wait": str(wait_s), **({"since": since} if since else {})}
        return self._ask("GET", "/readings", wait_s + 5.0, params=params)

    def _changes(self, body: Mapping[str, Json]) -> list[Snapshot]:
        return [wire.entry_from_body(entry, self._id_key) for entry in _objects(body["readings"])]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, ValueError) as error:
            raise Unreadable(f"feed of {self.url} cannot be read: {error!r}") from error

    def follow(
        self,
        on_changes: Callable[[list[Snapshot]], None],
        on_lost: Callable[[HubError], None],
        stop: threading.Event,
    ) -> None:
        """Hand over every change until `stop` is set; after a failure all is handed over anew.

        `on_lost` is called when nothing came for LOST_GRACE_S, and again with every further failed try.
        """

        def ask(cursor: str | None, wait_s: float) -> tuple[str, bool, Callable[[], None]]:
            newer, changes = self.feed(cursor, wait_s)
            return newer, bool(changes), lambda: on_changes(changes)

        self._follow(ask, on_lost, stop)

    def follow_journal(
        self,
        on_news: Callable[[News], None],
        on_lost: Callable[[HubError], None],
        stop: threading.Event,
        had: Had,
    ) -> None:
        """As `follow`, and every entry of the journal once, in order, also after a failure or a restart.

        `had` is noted when `on_news` has returned; whoever keeps it goes on where it was.
        """
        position: str | None = None
        is_behind = True

        def ask(cursor: str | None, wait_s: float) -> tuple[str, bool, Callable[[], None]]:
            newer, changes, answer = self.feed_with_journal(cursor, position, wait_s)
            with self._reading():
                fresh, gaps = had.sift(answer.found)
            is_anew = answer.missed is None and position is not None
            missed = gaps if answer.missed is None else answer.missed
            may_have_more = is_behind and self._may_be_cut(answer.found)
            news = News(changes, fresh, missed, is_anew, had.after(fresh).dump(), may_have_more)

            def tell() -> None:
                nonlocal position, is_behind
                on_news(news)
                had.note(fresh)
                position, is_behind = answer.position, news.is_behind

            return newer, bool(changes or answer.found), tell

        self._follow(ask, on_lost, stop)

    def _may_be_cut(self, found: Sequence[Entry]) -> bool:
        """Whether the service may have had more entries than it puts into one answer."""
        if len(found) >= ANSWER_ENTRIES:
            return True
        return sum(len(wire.journal_text(each, self._id_key)) for each in found) > ANSWER_CHARS / 2

    def _follow(
        self,
        ask: Callable[[str | None, float], tuple[str, bool, Callable[[], None]]],
        on_lost: Callable[[HubError], None],
        stop: threading.Event,
    ) -> None:
        """`ask(cursor, seconds to wait)` gives the next cursor, whether anything came, and what tells it."""
        cursor: str | None = None
        pause_s = _FOLLOW_PAUSE_S
        answered_at = time.monotonic()
        while not stop.is_set():
            asked_at = time.monotonic()
            try:
                newer, came, tell = ask(cursor, FEED_WAIT_S if cursor else 0.0)
            except HubError as error:
                cursor = None
                if time.monotonic() - answered_at > LOST_GRACE_S:
                    on_lost(error)
                stop.wait(pause_s)
                pause_s = min(_MAX_FOLLOW_PAUSE_S, pause_s * 2)
                continue
            cursor, pause_s, answered_at = newer, _FOLLOW_PAUSE_S, time.monotonic()
            if not came and answered_at - asked_at < _EARLY_S:
                stop.wait(_FOLLOW_PAUSE_S)  # a service that is ending lets nobody wait
            tell()

    def _ask(self, method: str, path: str, timeout_s: float, **kwargs: Any) -> dict[str, Json]:
        response = self._send(method, path, timeout_s, **kwargs)
        body = self._body(response)
        if response.status_code >= 400:
            extra = {key: value for key, value in body.items() if key not in _ERROR_KEYS}
            raise from_code(str(body.get("error", "")), str(body.get("message", response.reason)), **extra)
        return body

    def _send(self, method: str, path: str, timeout_s: float, **kwargs: Any) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
                **kwargs,
            )
        except requests.Timeout as error:
            raise HandlerUnreachable(f"{self.url} did not answer in {timeout_s:g} s") from error
        except requests.RequestException as error:
            raise HandlerUnreachable(f"{self.url} is not reachable: {_reason(error)}") from error
        owner = response.headers.get(INSTANCE_HEADER)
        if owner != self._instance_id:
            raise HandlerUnreachable(f"{self.url} belongs to {owner or 'something that is no sensor hub'}")
        return response

    def _body(self, response: requests.Response) -> dict[str, Json]:
        try:
            body = wire.loads(response.content, wire.INNER_NESTING)
        except wire.MalformedJson as error:
            raise Unreadable(f"answer of {self.url} cannot be read: {error}") from error
        if not isinstance(body, dict):
            raise Unreadable(f"{self.url} did not answer with an object")
        return body


def _objects(value: Json) -> list[dict[str, Json]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("readings is not a list of objects")
    return [item for item in value if isinstance(item, dict)]


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words: urllib3 wraps the operating system's word several times."""
    text = str(error)
    for word in ("Connection refused", "Connection reset", "Remote end closed", "Name or service not known"):
        if word in text:
            return word.lower()
    return type(error).__name__


class HandlerClient(ServiceClient):
    """A handler (serial-handler, http-poller)."""

    def __init__(self, url: str, instance_id: str) -> None:
        super().__init__(url, instance_id, "sensor_id")

    def sensor(self, sensor_id: str) -> dict[str, Json]:
        """The handler's reading of a sensor: fresh (serial) or the last poll (HTTP). Raises its errors."""
        return self.get(f"/sensor/{sensor_id}", timeout_s=15.0)

    def command(self, sensor_id: str, body: Mapping[str, Json], timeout_s: float) -> dict[str, Json]:
        """The handler's answer to a command. Raises its errors."""
        return self.post(f"/sensor/{sensor_id}/command", body, timeout_s + 2.0)


class AggregatorClient(ServiceClient):
    """The state-aggregator."""

    def __init__(self, url: str, instance_id: str) -> None:
        super().__init__(url, instance_id, "device_id")

    def device(self, device_id: str) -> dict[str, Json]:
        """The device's reading, from the cache if young enough. Raises its errors."""
        return self.get(f"/device/{device_id}", timeout_s=20.0)

    def properties(self) -> tuple[dict[str, dict[str, PropertySpec]], bool]:
        """Of every device its properties, and whether all handlers have told theirs. Raises HandlerUnreachable."""
        body = self.get("/properties", timeout_s=20.0)
        try:
            return property_facts.specs_of(body["properties"]), body["complete"] is True
        except (KeyError, ValueError) as error:
            raise Unreadable(f"properties of {self.url} cannot be read: {error!r}") from error

    def command(self, device_id: str, body: Mapping[str, Json], timeout_s: float) -> dict[str, Json]:
        """The answer to a command. Raises its errors."""
        return self.post(f"/device/{device_id}/command", body, timeout_s + 4.0)
