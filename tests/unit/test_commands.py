"""Commands before they reach a line: parsing, ids, staleness, and repeated ids."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_hub import wire
from sensor_hub.commands import (
    MAX_PAYLOAD_BYTES,
    MAX_REMEMBERED,
    Command,
    Memory,
    Unanswerable,
    check_not_stale,
    from_outside,
    parse,
)
from sensor_hub.errors import HubError, InvalidCommand, ReadOnly, StaleCommand
from sensor_hub.readings import Json
from tests.support import eventually
from tests.unit.manual_clock import NOON, ManualClock


def payload(body: Any) -> bytes:
    return wire.dumps(body).encode()


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"id": "c1", "values": {"a": 1}}, Command("c1", {"a": 1})),
        ({"id": 7, "values": {"a": 1}, "timeout": 500}, Command(7, {"a": 1}, 500)),
        ({"values": {"a": 1}, "timestamp": "x"}, Command(None, {"a": 1}, None, "x")),
        ({"a": 1, "b": None}, Command(None, {"a": 1, "b": None})),
        ({"id": "c1", "timestamp": 5, "timeout": 9, "a": 1}, Command("c1", {"a": 1}, 9, 5)),
        ({"id": "c1", "values": {"a": 1}, "b": 2}, Command("c1", {"a": 1})),
        ({"id": "c1", "values": None}, Command("c1", None)),
        ({"id": "c1", "values": [1]}, Command("c1", [1])),
        ({"id": "c1"}, Command("c1", {})),
        ({}, Command(None, {})),
        ({"id": None, "a": 1}, Command(None, {"a": 1})),
        ({"id": 0, "a": 1}, Command(0, {"a": 1})),
        ({"id": -(10**126), "a": 1}, Command(-(10**126), {"a": 1})),
        ({"id": "x" * 128, "a": 1}, Command("x" * 128, {"a": 1})),
        ({"id": "\ud800", "a": 1}, Command("\ud800", {"a": 1})),
    ],
)
def test_a_command_is_parsed(body: Any, command: Command) -> None:
    assert from_outside(payload(body)) == parse(payload(body)) == command


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not JSON"),
        (b"on", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b'"on"', "not an object"),
        (b"5", "not an object"),
        (b'{"id": ""}', "unusable id"),
        (b'{"id": true}', "unusable id"),
        (b'{"id": 1.0}', "unusable id"),
        (b'{"id": []}', "unusable id"),
        (b'{"id": {}}', "unusable id"),
        (payload({"id": "x" * 129}), "unusable id"),
        (payload({"id": 10**128}), "unusable id"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}", "not JSON"),
        (b'{"a": "' + b"x" * MAX_PAYLOAD_BYTES + b'"}', "too large"),
    ],
)
def test_what_cannot_be_answered_says_what_kind_it_is(data: bytes, kind: str) -> None:
    with pytest.raises(Unanswerable) as caught:
        from_outside(data)
    assert (caught.value.kind, caught.value.code) == (kind, "INVALID_COMMAND")


def test_a_command_may_have_64_kib_and_32_levels() -> None:
    data = b'{"a": "' + b"x" * (MAX_PAYLOAD_BYTES - 9) + b'"}'
    assert len(data) == 64 * 1024
    assert from_outside(data).id is None
    assert from_outside(b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}").id is None


def test_what_was_within_the_limits_still_is_when_a_service_hands_it_on() -> None:
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    for values in ({"a": deep}, {"a": "x" * (MAX_PAYLOAD_BYTES - 9)}):
        assert from_outside(payload(values)).values == values
        assert parse(payload({"id": "c1", "values": values, "timeout": 5000.0})).values == values


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789.eE+-idvaluestrfln \\').map(str.encode))
def test_any_bytes_are_a_command_or_unanswerable(data: bytes) -> None:
    try:
        command = parse(data)
    except Unanswerable:
        return
    assert command.id is None or 0 < len(str(command.id)) <= 128


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
envelopes = st.dictionaries(st.sampled_from(["id", "timestamp", "timeout", "values", "a"]), json_values)
odd_times = (
    json_values
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.]{0,12}(Z|[+-][0-9]{2}:[0-9]{2})?", fullmatch=True)
)


@given(envelopes, odd_times)
def test_any_object_is_checked_without_a_defect(body: dict[str, Any], timestamp: Any) -> None:
    try:
        command = parse(payload({**body, "timestamp": timestamp}))
        check_not_stale(command, NOON)
    except (InvalidCommand, StaleCommand):
        return
    assert 0 < command.left(0.0)[0] <= 60


ROME = ZoneInfo("Europe/Rome")  # one hour ahead of UTC in March: NOON is 13:00 there
UNIX_NOON = NOON.timestamp()


def is_stale(written: Json) -> bool:
    try:
        check_not_stale(Command(None, {}, written=written), NOON.astimezone(ROME))
    except StaleCommand:
        return True
    return False


@pytest.mark.parametrize(
    "written",
    [
        None,
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T11:59:30+00:00",
        "2026-03-01T13:00:00",  # without a zone: local time
        "2026-03-01 12:59:30.5",
        "2026-03-01T17:45:00+05:45",
        "20260301T120000Z",
        "2030-01-01T00:00:00Z",  # the future is accepted
        "9999-12-31T23:59:59",
        "9999-12-31T23:59:59-14:00",
        UNIX_NOON,
        UNIX_NOON - 30,
        int(UNIX_NOON * 1000),
        int((UNIX_NOON - 29) * 1000),
        UNIX_NOON + 10**7,
        1e11,  # still seconds: the year 5138
    ],
)
def test_a_command_is_fresh_for_30_s(written: Json) -> None:
    assert not is_stale(written)


@pytest.mark.parametrize(
    "written",
    [
        "2026-03-01T11:59:29Z",
        "2026-03-01T12:00:00",  # without a zone: local time, an hour ago in Rome
        "2026-03-01T12:59:29.9",
        "2026-03-01",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+14:00",
        UNIX_NOON - 31,
        int((UNIX_NOON - 31) * 1000),
        0,
        1,
        -5.5,
        1e11 + 1,  # milliseconds: 1973
    ],
)
def test_an_older_one_is_stale(written: Json) -> None:
    assert is_stale(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "12:00",
        "2026-13-01T00:00:00Z",
        "1772366400",
        True,
        False,
        [],
        {},
        1e300,
        -1e300,
        10**400,
    ],
)
def test_a_time_that_cannot_be_read_is_invalid(written: Json) -> None:
    with pytest.raises(InvalidCommand, match="timestamp must be"):
        check_not_stale(Command(None, {}, written=written), NOON)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, 5.0), (500, 0.5), (1, 0.001), (1.5, 0.0015), (60_000, 60.0), (10**9, 60.0)],
)
def test_a_timeout_is_milliseconds_and_at_most_a_minute(timeout: Json, seconds: float) -> None:
    assert Command(None, {}, timeout).timeout_s == seconds


@pytest.mark.parametrize("timeout", [0, -1, "500", True, [], {}, -(10**400)])
def test_a_timeout_that_is_none_is_invalid(timeout: Json) -> None:
    with pytest.raises(InvalidCommand, match="timeout must be"):
        _ = Command(None, {}, timeout).timeout_s
    assert Command(None, {}, timeout).left(2.0) == (3.0, timeout)


class Executed:
    """Counts its calls; the answer tells which it was."""

    def __init__(self, error: HubError | None = None) -> None:
        self.count = 0
        self._error = error

    def __call__(self) -> Mapping[str, Json]:
        self.count += 1
        if self._error is not None:
            raise self._error
        return {"values": {"call": self.count}}


def test_a_repeated_id_gets_the_first_answer_again_whatever_else_it_says() -> None:
    memory, execute = Memory(ManualClock().clock), Executed()
    first = memory.answer("a", Command("c1", {"x": 1}), execute)
    assert memory.answer("a", Command("c1", {"x": 2}, timeout=-1), execute) == first
    assert execute.count == 1


def test_a_repeated_id_gets_the_first_error_again() -> None:
    memory, execute = Memory(ManualClock().clock), Executed(ReadOnly("no"))
    for _ in range(2):
        with pytest.raises(ReadOnly, match="no"):
            memory.answer("a", Command("c1", {}), execute)
    assert execute.count == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", Command("c1", {})), ("b", Command("c1", {}))),
        (("a", Command("1", {})), ("a", Command(1, {}))),
        (("a", Command(None, {})), ("a", Command(None, {}))),
    ],
)
def test_another_target_another_id_and_no_id_are_no_duplicates(
    one: tuple[str, Command], other: tuple[str, Command]
) -> None:
    memory, execute = Memory(ManualClock().clock), Executed()
    memory.answer(one[0], one[1], execute)
    memory.answer(other[0], other[1], execute)
    assert execute.count == 2


def test_an_id_is_forgotten_after_5_minutes() -> None:
    time = ManualClock(UTC)
    memory, execute = Memory(time.clock), Executed()
    for seconds, count in [(0, 1), (299, 1), (0.9, 1), (0.1, 2), (299.9, 2)]:
        time.advance(seconds)
        memory.answer("a", Command("c1", {}), execute)
        assert execute.count == count, seconds


def test_the_oldest_ids_go_when_there_are_too_many() -> None:
    memory, execute = Memory(ManualClock().clock), Executed()
    for number in range(MAX_REMEMBERED + 1):
        memory.answer("a", Command(number, {}), execute)
    memory.answer("a", Command(MAX_REMEMBERED, {}), execute)
    assert execute.count == MAX_REMEMBERED + 1
    memory.answer("a", Command(0, {}), execute)
    assert execute.count == MAX_REMEMBERED + 2


def test_duplicates_that_come_while_the_first_is_under_way_wait_for_its_answer() -> None:
    memory, gate, begun = Memory(ManualClock().clock), threading.Event(), threading.Event()
    calls: list[int] = []

    def execute() -> Mapping[str, Json]:
        calls.append(1)
        begun.set()
        assert gate.wait(30)
        return {"values": {"done": True}}

    def ask() -> Mapping[str, Json]:
        return memory.answer("a", Command("c1", {}), execute)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask)
        assert begun.wait(30)
        others = [pool.submit(ask) for _ in range(8)]
        eventually(lambda: sum(other.running() for other in others) == 8)
        assert not any(other.done() for other in [first, *others])
        gate.set()
        assert [asked.result(30) for asked in [first, *others]] == [{"values": {"done": True}}] * 9
    assert calls == [1]


@pytest.mark.parametrize(
    ("now", "written", "fresh"),
    [
        ("2026-03-29T01:00:05Z", "2026-03-29T01:59:50", True),  # 15 s ago, the clock's face says 3:00:05
        ("2026-03-29T01:00:05Z", 1774745990, True),
        ("2026-10-25T01:00:05Z", 1792889990, True),  # 2:59:50 and then 2:00:05
        ("2026-10-25T00:30:00Z", "2026-10-25T02:29:45", True),  # the first 2:29
        ("2026-10-25T01:30:00Z", "2026-10-25T02:29:45", True),  # the second
        ("2026-10-25T01:30:00Z", "2026-10-25T02:29:15", False),
        ("2026-10-25T01:00:05Z", 1792887000, False),  # 50 minutes ago, 10 by the clock's face ahead
    ],
)
def test_the_age_of_a_command_is_right_while_the_local_time_is_changed(
    now: str, written: Json, fresh: bool
) -> None:
    moment = datetime.fromisoformat(now).astimezone(ROME)
    command = Command(None, {}, written=written)
    if fresh:
        check_not_stale(command, moment)
    else:
        with pytest.raises(StaleCommand):
            check_not_stale(command, moment)


def test_a_remembered_error_keeps_nothing_of_the_request_alive() -> None:
    class Payload:
        pass

    memory, gone = Memory(ManualClock().clock), list[weakref.ref[Payload]]()

    def execute() -> Mapping[str, Json]:
        payload = Payload()
        gone.append(weakref.ref(payload))
        raise ReadOnly("no")

    for _ in range(2):
        with pytest.raises(ReadOnly, match="no"):
            memory.answer("a", Command("c1", {}), execute)
    gc.collect()
    assert [each() for each in gone] == [None]


def test_a_defect_is_raised_once_and_told_to_duplicates_as_an_internal_error() -> None:
    memory = Memory(ManualClock().clock)

    def broken() -> Mapping[str, Json]:
        raise ZeroDivisionError

    execute: Callable[[], Mapping[str, Json]] = broken
    with pytest.raises(ZeroDivisionError):
        memory.answer("a", Command("c1", {}), execute)
    with pytest.raises(HubError) as caught:
        memory.answer("a", Command("c1", {}), execute)
    assert caught.value.code == "INTERNAL_ERROR"
