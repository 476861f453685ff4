"""What a command must pass before it reaches a line, in the contract's order, by MQTT and REST alike.

payload -> duplicate -> known -> enabled -> not stale -> writable at all -> properties, types, ranges -> line.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass
from datetime import UTC, datetime

from sensor_hub import wire
from sensor_hub.clock import Clock
from sensor_hub.errors import CommandTimeout, HubError, InvalidCommand, StaleCommand, defect
from sensor_hub.properties import number_of
from sensor_hub.readings import Json

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_ID_LENGTH = 128
DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 60.0
STALE_AFTER_S = 30.0
REMEMBERED_S = 300.0
MAX_REMEMBERED = 10_000
_ENVELOPE = ("id", "timestamp", "timeout")

Answer = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Command:
    """A well-formed command. `values` and `timeout` are not yet checked; `written` is its timestamp, if any."""

    id: str | int | None
    values: Json
    timeout: Json = None
    written: Json = None

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for the answer. Raises InvalidCommand unless it is a positive number of ms."""
        if self.timeout is None:
            return DEFAULT_TIMEOUT_S
        number = number_of(self.timeout)
        if number is None or number <= 0:
            raise InvalidCommand("timeout must be a positive number of milliseconds")
        return min(number / 1000, MAX_TIMEOUT_S)

    def left(self, waited_s: float) -> tuple[float, Json]:
        """Seconds left for the answer after `waited_s`, and the `timeout` to hand on with the command.

        A bad `timeout` is handed on as it is: it is refused there, in its turn.
        """
        try:
            left_s = self.timeout_s - waited_s
        except InvalidCommand:
            return DEFAULT_TIMEOUT_S - waited_s, self.timeout
        return left_s, left_s * 1000


class Unanswerable(InvalidCommand):
    """A payload so broken that there is no id to answer to; `kind` for counting in the log."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def from_outside(payload: bytes) -> Command:
    """The command in an MQTT payload or somebody's request, within the contract's limits. Raises Unanswerable."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Unanswerable("too large", f"a command may have {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    return parse(payload, wire.MAX_NESTING)


def parse(payload: bytes, max_nesting: int = wire.INNER_NESTING) -> Command:
    """The command in a body that one of our services sent, or that was checked already. Raises Unanswerable.

    It was within the limits when it came from outside; handed on it has another spelling and its own `values`.
    """
    try:
        body = wire.loads(payload, max_nesting)
    except wire.MalformedJson as error:
        raise Unanswerable("not JSON", str(error)) from error
    if not isinstance(body, dict):
        raise Unanswerable("not an object", 'a command is a JSON object such as {"values": {…}}')
    values = body["values"] if "values" in body else {k: v for k, v in body.items() if k not in _ENVELOPE}
    return Command(_command_id(body.get("id")), values, body.get("timeout"), body.get("timestamp"))


def _command_id(raw: Json) -> str | int | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, str | int) or not 0 < len(str(raw)) <= MAX_ID_LENGTH:
        raise Unanswerable("unusable id", f"id must be a text or integer of 1..{MAX_ID_LENGTH} characters")
    return raw


def check_not_stale(command: Command, now: datetime) -> None:
    """Raise StaleCommand when it was written more than 30 s before `now`, InvalidCommand when unparsable.

    Zone-less text is local time (`now`'s zone); numbers are Unix seconds, above 1e11 milliseconds.
    """
    if command.written is None:
        return
    age_s = now.timestamp() - _moment(command.written, now)
    if age_s > STALE_AFTER_S:
        raise StaleCommand(f"written {age_s:.0f} s ago; a command is valid for {STALE_AFTER_S:.0f} s")


def _moment(raw: Json, now: datetime) -> float:
    """As Unix seconds: two times of one zone would be subtracted as their clocks' faces, wrong across a change."""
    try:
        number = number_of(raw)
        if number is not None:
            return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC).timestamp()
        if isinstance(raw, str):
            moment = datetime.fromisoformat(raw)
            if moment.tzinfo is not None:
                return moment.timestamp()
            both = [moment.replace(tzinfo=now.tzinfo, fold=fold).timestamp() for fold in (0, 1)]
            return min(
                both, key=lambda each: abs(now.timestamp() - each)
            )  # the hour that comes twice: the nearer
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidCommand("timestamp must be ISO 8601 or Unix seconds")


class Memory:
    """Answers of the last 5 minutes by target and id, so that a repeated command is answered, not repeated."""

    def __init__(self, clock: Clock) -> None:
        """Thread-safe; at most MAX_REMEMBERED answers, the oldest go first."""
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], tuple[float, Future[Answer | HubError]]] = OrderedDict()

    def answer(self, target: str, command: Command, execute: Callable[[], Answer]) -> Answer:
        """`execute()`'s answer or error; for a duplicate the first one's, waited for if it is still under way."""
        if command.id is None:
            return execute()
        key = (target, wire.dumps(command.id))
        with self._lock:
            self._forget()
            known = self._seen.get(key)
            if known is None:
                mine: Future[Answer | HubError] = Future()
                self._seen[key] = (self._clock.monotonic(), mine)
        if known is not None:
            return self._wait(known[1])
        try:
            answer = execute()
        except HubError as error:
            mine.set_result(error.again())  # its trace would keep all that is on the stack for five minutes
            raise
        except BaseException:
            mine.set_result(defect())
            raise
        mine.set_result(answer)
        return answer

    @staticmethod
    def _wait(first: Future[Answer | HubError]) -> Answer:
        try:
            outcome = first.result(MAX_TIMEOUT_S + 5)
        except WaitTimeout:
            raise CommandTimeout("the first command with this id is still under way") from None
        if isinstance(outcome, HubError):
            raise outcome.again()
        return outcome

    def _forget(self) -> None:
        oldest = self._clock.monotonic() - REMEMBERED_S
        while self._seen:
            key, (seen_at, _) = next(iter(self._seen.items()))
            if seen_at > oldest and len(self._seen) < MAX_REMEMBERED:
                return
            del self._seen[key]
