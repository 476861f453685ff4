"""What a handler says of its devices as reads succeed, fail, or do not happen. Interval 5 s, stale after 15 s."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import pytest
import structlog

from sensor_hub import logs, wire
from sensor_hub.config.model import Handler, SensorConfig
from sensor_hub.errors import CircuitOpen, DeviceRefused, HubError, ReadFailed, ReadTimeout, TransportDown
from sensor_hub.readings import Quality, Snapshot, Status
from sensor_hub.tracking import Tracker, plausible
from tests.unit.manual_clock import NOON, ManualClock

TIMEOUT, BROKEN, DOWN = ReadTimeout("no answer"), ReadFailed("bad checksum"), TransportDown("no such port")


def sensor(
    sensor_id: str = "a",
    sensor_type: str = "temperature",
    handler: Handler = Handler.SERIAL,
    emulated: bool = False,
) -> SensorConfig:
    return SensorConfig(
        sensor_id, sensor_type, "", "bus0", handler, "x", interval_s=5, stale_after_s=15, emulated=emulated
    )


class Tracked:
    """One device and its time. Steps: a number of seconds passes, an error, or a value that was read."""

    def __init__(self, config: SensorConfig | None = None, unit: str | None = None) -> None:
        self.time = ManualClock()
        config = config or sensor()
        self.id = config.sensor_id
        self.tracker = Tracker([config], self.time.clock, {self.id: unit})

    def go(self, *steps: Any) -> Snapshot:
        for step in steps:
            if isinstance(step, HubError):
                self.tracker.failed(self.id, step)
            elif isinstance(step, dict):
                self.tracker.succeeded(self.id, step, 12.3456)
            else:
                self.time.advance(step)
        return self.tracker.snapshot(self.id)


class Stuck(io.StringIO):
    """A stdout that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.free.wait(30)
        return super().write(text)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = Stuck()
    logs.set_up_plain("serial-handler", "INFO", "text", UTC, stream)
    yield stream
    stream.free.set()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_log_that_does_not_take_a_line_delays_no_reading_and_tells_all_in_order_later(stuck: Stuck) -> None:
    tracked = Tracked()
    first = threading.Thread(target=tracked.go, args=(READ,))
    first.start()
    assert stuck.asked.wait(30)
    assert tracked.go(DOWN, READ).status is Status.ONLINE  # returns though the first one still waits
    stuck.free.set()
    first.join(30)
    lines = stuck.getvalue().splitlines()
    assert [word for word, line in zip(WORDS, lines, strict=True) if word in line] == list(WORDS)


WORDS = ("device online", "device offline", "device back online")
READ: dict[str, Any] = {"value": 21.5}
HOT: dict[str, Any] = {"value": 1000.5}

SERIAL_TABLE = [
    ([], "unknown", None, "SENSOR_UNAVAILABLE"),
    ([TIMEOUT], "offline", None, "READ_TIMEOUT"),
    ([DOWN], "offline", None, "TRANSPORT_DOWN"),
    ([READ], "online", "good", None),
    ([HOT], "online", "poor", None),
    ([READ, 9], "online", "good", None),
    ([READ, 11], "online", "poor", None),
    ([READ, 14.9], "online", "poor", None),
    ([READ, 15.1], "offline", "poor", "SENSOR_UNAVAILABLE"),
    ([READ, 5, TIMEOUT], "degraded", "fair", "READ_TIMEOUT"),
    ([READ, 5, BROKEN], "degraded", "fair", "READ_FAILED"),
    ([READ, 5, DeviceRefused("exception 2")], "degraded", "fair", "DEVICE_REFUSED"),
    ([HOT, 5, TIMEOUT], "degraded", "poor", "READ_TIMEOUT"),
    ([READ, 11, TIMEOUT], "degraded", "poor", "READ_TIMEOUT"),
    ([READ, 5, TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT], "degraded", "fair", "READ_TIMEOUT"),
    ([READ, 16, TIMEOUT], "offline", "poor", "READ_TIMEOUT"),
    ([READ, 1, DOWN], "offline", "fair", "TRANSPORT_DOWN"),
    ([READ, 1, DOWN, TIMEOUT], "degraded", "fair", "READ_TIMEOUT"),
    ([READ, 1, DOWN, READ], "online", "good", None),
    ([READ, 5, TIMEOUT, 5, READ], "online", "good", None),
    ([READ, 16, READ], "online", "good", None),
    ([TIMEOUT, READ], "online", "good", None),
]
HTTP_TABLE = [
    ([], "unknown", None, "SENSOR_UNAVAILABLE"),
    ([READ, TIMEOUT], "degraded", "fair", "READ_TIMEOUT"),
    ([READ, TIMEOUT, BROKEN], "degraded", "fair", "READ_FAILED"),
    ([READ, TIMEOUT, BROKEN, TIMEOUT], "offline", "fair", "READ_TIMEOUT"),
    ([READ, TIMEOUT, TIMEOUT, READ, TIMEOUT], "degraded", "fair", "READ_TIMEOUT"),
    ([READ, TIMEOUT, TIMEOUT, TIMEOUT, READ], "online", "good", None),
    ([TIMEOUT], "offline", None, "READ_TIMEOUT"),
]


@pytest.mark.parametrize(
    ("handler", "steps", "status", "quality", "fault"),
    [
        *((Handler.SERIAL, *row) for row in SERIAL_TABLE),
        *((Handler.HTTP, *row) for row in HTTP_TABLE),
    ],
)
def test_status_quality_and_fault(
    handler: Handler, steps: list[Any], status: str, quality: str | None, fault: str | None
) -> None:
    found = Tracked(sensor(handler=handler)).go(*steps)
    assert (str(found.status), found.quality) == (status, quality)
    assert (found.fault.code if found.fault else None) == fault


def test_a_reading_carries_the_time_of_its_reading_and_its_unit() -> None:
    found = Tracked().go(7, READ, 4)
    assert found.reading is not None
    assert (found.reading.values, found.reading.timestamp) == ({"value": 21.5}, NOON + timedelta(seconds=7))
    assert found.extra == {"unit": "°C"}


def test_a_failed_read_keeps_the_last_value_with_its_own_time() -> None:
    found = Tracked().go(READ, 5, TIMEOUT)
    assert found.reading is not None
    assert (found.reading.values, found.reading.timestamp) == ({"value": 21.5}, NOON)


@pytest.mark.parametrize(
    ("sensor_type", "configured", "values", "unit"),
    [
        ("temperature", None, {"value": 1.0}, "°C"),
        ("temperature", "K", {"value": 1.0}, "K"),
        ("humidity", None, {"value": 1.0}, "%"),
        ("generic", None, {"value": 1.0}, None),
        ("generic", "l/min", {"value": 1.0}, "l/min"),
    ],
)
def test_a_single_value_has_the_unit_of_its_configuration_or_its_type(
    sensor_type: str, configured: str | None, values: dict[str, Any], unit: str | None
) -> None:
    found = Tracked(sensor(sensor_type=sensor_type), configured).go(values)
    assert found.extra == {"unit": unit}


def test_several_properties_have_no_unit_beside_them_and_emulated_devices_say_so() -> None:
    assert Tracked(sensor(emulated=True)).go({"a": 1, "b": True}).extra == {"emulated": True}


@pytest.mark.parametrize(
    ("sensor_type", "read", "told"),
    [
        ("temperature", 21.456789, 21.46),
        ("humidity", 45.678, 45.7),
        ("co2", 650.4, 650.0),
        ("generic", 1.23456789, 1.23456789),
        ("temperature", 21, 21),
        ("temperature", True, True),
        ("temperature", "21.456789", "21.456789"),
    ],
)
def test_values_are_rounded_as_their_type_says(sensor_type: str, read: Any, told: Any) -> None:
    found = Tracked(sensor(sensor_type=sensor_type)).go({"value": read})
    assert found.reading is not None
    assert (found.reading.values["value"], type(found.reading.values["value"])) == (told, type(told))


@pytest.mark.parametrize(
    ("sensor_type", "value", "expected"),
    [
        ("temperature", -100, True),
        ("temperature", -100.1, False),
        ("temperature", 1000, True),
        ("temperature", 1000.1, False),
        ("humidity", 0, True),
        ("humidity", -0.1, False),
        ("humidity", 100.1, False),
        ("generic", 1e300, True),
        ("temperature", "hot", True),
        ("temperature", True, True),
    ],
)
def test_plausible_limits(sensor_type: str, value: Any, expected: bool) -> None:
    assert plausible(sensor_type, {"value": value}) is expected


def test_a_fault_of_the_same_kind_keeps_the_time_it_began_and_tells_the_latest_message() -> None:
    found = Tracked().go(ReadTimeout("first"), 5, ReadTimeout("second"))
    assert found.fault is not None
    assert (found.fault.timestamp, found.fault.message) == (NOON, "second")


def test_another_kind_of_fault_begins_anew() -> None:
    found = Tracked().go(TIMEOUT, 5, BROKEN)
    assert found.fault is not None
    assert found.fault.timestamp == NOON + timedelta(seconds=5)


def test_a_value_that_goes_stale_says_since_when() -> None:
    found = Tracked().go(READ, 60)
    assert found.fault is not None
    assert (found.fault.timestamp, found.fault.message) == (
        NOON + timedelta(seconds=15),
        "no reading for 15 s",
    )


def test_counters_of_reads_in_a_row() -> None:
    tracked = Tracked()
    tracked.go(READ, 1, READ, 1, TIMEOUT, 1, TIMEOUT)
    history = tracked.tracker.history("a")
    assert (history.total_reads, history.total_failures) == (4, 2)
    assert (history.consecutive_successes, history.consecutive_failures) == (0, 2)
    assert (history.last_success, history.last_failure) == (
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=3),
    )
    assert history.round_trip_ms == 12.35
    tracked.go(READ)
    history = tracked.tracker.history("a")
    assert (history.consecutive_successes, history.consecutive_failures) == (1, 0)


def test_status_and_counters_that_are_told_together_are_of_the_same_moment() -> None:
    tracked, is_over = Tracked(sensor(handler=Handler.HTTP)), threading.Event()

    def change() -> None:
        while not is_over.is_set():
            tracked.go(READ, TIMEOUT, TIMEOUT, TIMEOUT)

    tracked.go(READ)
    changing = threading.Thread(target=change)
    changing.start()
    found = {
        (history.consecutive_failures, snapshot.status)
        for snapshot, history in (tracked.tracker.known("a") for _ in range(5000))
    }
    is_over.set()
    changing.join(30)
    degraded = {(1, Status.DEGRADED), (2, Status.DEGRADED)}
    assert found <= {(0, Status.ONLINE), *degraded, (3, Status.OFFLINE)}


def test_a_device_that_was_not_asked_has_a_fault_and_no_failed_read() -> None:
    tracked = Tracked(sensor(handler=Handler.HTTP))
    tracked.go(READ, 1, TIMEOUT)
    for _ in range(5):
        found = tracked.tracker.unreachable("a", ReadTimeout("left alone"))
    assert found.fault is not None
    assert (found.status, found.fault.message) == (Status.DEGRADED, "left alone")
    assert found.fault.timestamp == NOON + timedelta(seconds=1)  # the fault goes on
    history = tracked.tracker.history("a")
    assert (history.total_reads, history.total_failures, history.consecutive_failures) == (2, 1, 1)
    assert history.last_failure == NOON + timedelta(seconds=1)
    assert tracked.tracker.unreachable("a", DOWN).status is Status.OFFLINE
    assert tracked.tracker.history("a").total_reads == 2


def test_every_read_is_a_change_on_the_board_and_refresh_tells_only_what_time_has_changed() -> None:
    tracked = Tracked()
    board, refresh = tracked.tracker.board, tracked.tracker.refresh
    cursor, _ = board.since(None)
    table: list[tuple[list[Any], list[str]]] = [
        ([READ], ["online"]),
        ([READ], ["online"]),
        ([4], []),
        ([7], ["online"]),  # good -> poor
        ([1], []),
        ([5], ["offline"]),
        ([100], []),
    ]
    for steps, changes in table:
        tracked.go(*steps)
        refresh()
        cursor, found = board.since(cursor)
        assert [str(snapshot.status) for snapshot in found] == changes, steps


def test_the_age_of_a_reading_is_counted_from_the_read_and_none_without_one() -> None:
    tracked = Tracked()
    assert tracked.tracker.age_s("a") is None
    tracked.go(READ, 3, TIMEOUT, 4)
    assert tracked.tracker.age_s("a") == 7.0


def test_a_clock_that_is_set_back_makes_no_value_younger_or_older() -> None:
    tracked = Tracked()
    tracked.go(READ, 5)
    tracked.tracker._clock = type(tracked.time.clock)(
        now=lambda: NOON - timedelta(days=365), monotonic=lambda: tracked.time.seconds
    )
    found = tracked.tracker.snapshot("a")
    assert (found.status, found.quality) == (Status.ONLINE, Quality.GOOD)


def test_an_open_circuit_is_a_failed_read_like_any_other() -> None:
    assert Tracked().go(READ, 5, CircuitOpen("left alone")).status is Status.DEGRADED


def test_a_device_that_is_not_tracked_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Tracked().tracker.snapshot("b")


def journal_of(tracked: Tracked) -> list[tuple[str, object]]:
    """Value or error of each entry, and its time in seconds after noon."""
    _, page = tracked.tracker.board.since_with_journal(None, None)
    found = [wire.journal_from_body(json.loads(text), "sensor_id") for text in page.texts]
    return [
        (
            entry.snapshot.fault.code if entry.snapshot.fault else "read",
            (entry.timestamp - NOON).total_seconds(),
        )
        for entry in found
    ]


def test_every_read_that_was_tried_is_in_the_journal_with_its_own_time() -> None:
    tracked = Tracked()
    tracked.go(READ, 1, READ, 1, TIMEOUT, 1, TIMEOUT, 1, READ, 100)
    tracked.tracker.refresh()  # that it is offline now is no read
    assert journal_of(tracked) == [
        ("read", 0.0),
        ("read", 1.0),
        ("READ_TIMEOUT", 2.0),
        ("READ_TIMEOUT", 3.0),
        ("read", 4.0),
    ]


def test_of_a_device_that_is_not_asked_only_the_beginning_is_in_the_journal() -> None:
    tracked = Tracked()
    for error in (DOWN, DOWN, CircuitOpen("left alone"), CircuitOpen("left alone"), DOWN):
        tracked.tracker.unreachable("a", error)
    assert [code for code, _ in journal_of(tracked)] == ["TRANSPORT_DOWN", "CIRCUIT_OPEN", "TRANSPORT_DOWN"]


def test_a_reading_that_comes_too_late_to_be_fresh_is_in_the_journal_as_a_reading() -> None:
    tracked = Tracked()
    taken = NOON, -1000.0
    assert tracked.tracker.succeeded("a", READ, 1.0, taken).status is Status.OFFLINE
    assert journal_of(tracked) == [("read", 0.0)]
