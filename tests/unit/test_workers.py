"""A line's worker with a driver that does what the test says: order of work, dead units, reconnecting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from sensor_hub.config.model import Handler
from sensor_hub.errors import (
    CircuitOpen,
    CommandTimeout,
    DeviceRefused,
    HubError,
    ReadFailed,
    ReadTimeout,
    TransportDown,
)
from sensor_hub.line_report import LineState
from sensor_hub.readings import Status
from tests.support import eventually
from tests.unit.scripted_line import Bench

Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bench] = []

    def begin(units: Sequence[str] | Mapping[str, int] = ("a",), **kwargs: Any) -> Bench:
        by_name = units if isinstance(units, Mapping) else {name: n for n, name in enumerate(units, 1)}
        made.append(Bench(by_name, **kwargs))
        return made[-1]

    yield begin
    for bench in made:
        bench.driver.gate.set()
        bench.worker.stop(10)


def test_commands_go_before_reads_that_somebody_waits_for_and_those_before_background_reads(
    make: Make,
) -> None:
    bench = make(["a", "b", "c", "d"])
    bench.driver.gate.clear()
    bench.start()
    eventually(lambda: bench.driver.done == [("read", "a")])  # b, c and d are due in the background
    with ThreadPoolExecutor(3) as pool:
        reads = pool.submit(bench.line.read, "d")
        eventually(lambda: bench.queued == 1)
        writes = [pool.submit(bench.line.command, "c", {"x": 1}, 30.0)]
        eventually(lambda: bench.queued == 2)
        writes.append(pool.submit(bench.line.command, "b", {"x": 2}, 30.0))
        eventually(lambda: bench.queued == 3)
        bench.driver.gate.set()
        assert [write.result(30).values for write in writes] == [{"x": 1}, {"x": 2}]
        assert reads.result(30).status is Status.ONLINE
    bench.read_all_once()
    order = bench.driver.done
    assert order[:4] == [("read", "a"), ("write", "c"), ("write", "b"), ("read", "d")]
    assert set(order[4:]) <= {("read", "b"), ("read", "c")}


def test_a_read_for_somebody_and_a_background_read_take_turns(make: Make) -> None:
    bench = make(["a", "b", "c", "d", "e"])
    bench.driver.gate.clear()
    bench.start()
    eventually(lambda: bench.driver.done == [("read", "a")])  # the others are due in the background
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(bench.line.read, "d")]
        eventually(lambda: bench.queued == 1)
        asked.append(pool.submit(bench.line.read, "e"))
        eventually(lambda: bench.queued == 2)
        bench.driver.gate.set()
        assert [each.result(30).status for each in asked] == [Status.ONLINE] * 2
    bench.read_all_once()
    assert [name for _, name in bench.driver.done] == ["a", "d", "b", "e", "c"]


def test_callers_that_wait_for_the_same_device_share_one_read(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.gate.clear()
    with ThreadPoolExecutor(11) as pool:
        busy = pool.submit(bench.line.read, "b")
        eventually(lambda: bench.driver.count("read", "b") == 2)
        asked = [pool.submit(bench.line.read, "a") for _ in range(10)]
        eventually(lambda: bench.waiting_for("a") == 10)
        bench.driver.gate.set()
        snapshots = [each.result(30) for each in asked]
        assert busy.result(30).status is Status.ONLINE
    assert bench.driver.count("read", "a") == 2  # the one at the start, and the one they share
    assert all(snapshot.status is Status.ONLINE for snapshot in snapshots)


def test_a_read_is_fresh_each_time(make: Make) -> None:
    bench = make().start().read_all_once()
    first, second = bench.line.read("a"), bench.line.read("a")
    assert first.reading is not None
    assert second.reading is not None
    assert second.reading.values["value"] == int(str(first.reading.values["value"])) + 1


def test_a_command_that_nobody_waits_for_any_more_is_never_sent(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(bench.line.read, "b")
        eventually(lambda: bench.driver.count("read", "b") == 2)
        with pytest.raises(CommandTimeout, match=r"no answer within 0\.05 s"):
            bench.line.command("a", {"x": 1}, 0.05)
        bench.time.advance(0.06)
        bench.driver.gate.set()
        busy.result(30)
    assert bench.line.command("b", {"x": 2}, 30.0).values == {"x": 2}
    assert [what for what in bench.driver.done if what[0] == "write"] == [("write", "b")]


def test_a_written_device_is_read_at_once(make: Make) -> None:
    bench = make().start().read_all_once()
    bench.line.command("a", {"x": 1}, 30.0)
    eventually(lambda: bench.driver.done == [("read", "a"), ("write", "a"), ("read", "a")])


@pytest.mark.parametrize("error", [DeviceRefused("exception 2"), ReadFailed("bad"), ReadTimeout("silent")])
def test_a_commands_error_is_its_answer_and_the_line_goes_on(make: Make, error: HubError) -> None:
    bench = make().start().read_all_once()
    bench.driver.fails["a"] = error
    with pytest.raises(type(error)):
        bench.line.command("a", {"x": 1}, 30.0)
    del bench.driver.fails["a"]
    assert bench.line.command("a", {"x": 1}, 30.0).values == {"x": 1}
    assert bench.line.state is LineState.UP


# -- units that do not answer --------------------------------------------------------------------------------------


def test_a_unit_that_is_silent_three_times_is_left_alone_and_then_probed(make: Make) -> None:
    bench = make()
    bench.driver.fails["a"] = ReadTimeout("silent")
    bench.start().read_all_once()
    assert [bench.error_of_read("a") for _ in range(3)] == ["READ_TIMEOUT", "READ_TIMEOUT", "CIRCUIT_OPEN"]
    with pytest.raises(CircuitOpen, match=r"unit 1 did not answer 3 times in a row; next try in 10\.0 s"):
        bench.line.command("a", {"x": 1}, 30.0)
    assert bench.driver.count("read", "a") == 3
    assert bench.driver.count("write", "a") == 0
    bench.time.advance(10.0)
    assert bench.error_of_read("a") == "READ_TIMEOUT"
    assert bench.error_of_read("a") == "CIRCUIT_OPEN"
    bench.time.advance(10.0)
    del bench.driver.fails["a"]
    assert bench.error_of_read("a") is None
    assert bench.status("a") is Status.ONLINE


@pytest.mark.parametrize("error", [ReadFailed("bad checksum"), DeviceRefused("exception 2")])
def test_a_unit_that_answers_wrongly_lives_and_is_not_left_alone(make: Make, error: HubError) -> None:
    bench = make()
    bench.driver.fails["a"] = error
    bench.start().read_all_once()
    assert [bench.error_of_read("a") for _ in range(5)] == [error.code] * 5


def test_many_sensors_of_a_dead_unit_cost_no_more_time_than_one(make: Make) -> None:
    names = [f"dead{number}" for number in range(10)]
    bench = make({**dict.fromkeys(names, 9), "alive": 1})
    bench.driver.fails.update(dict.fromkeys(names, ReadTimeout("silent")))
    bench.start().read_all_once()
    assert len([sensor_id for _, sensor_id in bench.driver.done if sensor_id in names]) == 3
    assert {str(bench.status(name)) for name in names} == {"offline"}
    fault = bench.tracker.snapshot("dead9").fault
    assert fault is not None
    assert (fault.code, fault.message) == ("READ_TIMEOUT", "silent")
    assert bench.status("alive") is Status.ONLINE


def test_a_dead_unit_does_not_close_the_circuit_of_another(make: Make) -> None:
    bench = make(["a", "b"])
    bench.driver.fails["a"] = ReadTimeout("silent")
    bench.start().read_all_once()
    for _ in range(2):
        bench.error_of_read("a")
    assert bench.error_of_read("a") == "CIRCUIT_OPEN"
    assert bench.error_of_read("b") is None
    assert bench.error_of_read("a") == "CIRCUIT_OPEN"


def test_commands_to_a_silent_unit_open_its_circuit(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.fails["a"] = ReadTimeout("silent")
    bench.driver.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(bench.line.command, "a", {"x": number}, 30.0) for number in range(6)]
        eventually(lambda: bench.driver.count("write", "a") == 1 and bench.queued == 5)
        bench.driver.gate.set()
        codes = sorted(getattr(each.exception(30), "code", "") for each in asked)
    assert codes == ["CIRCUIT_OPEN"] * 3 + ["READ_TIMEOUT"] * 3
    assert bench.driver.count("write", "a") == 3  # what waited is not sent either
    assert bench.error_of_read("a") == "CIRCUIT_OPEN"
    assert bench.line.command("b", {"x": 1}, 30.0).values == {"x": 1}
    bench.time.advance(10.0)
    bench.driver.fails.clear()
    assert bench.line.command("a", {"x": 1}, 30.0).values == {"x": 1}
    assert bench.error_of_read("a") is None


def test_reads_that_were_not_made_are_not_counted(make: Make) -> None:
    names = [f"dead{number}" for number in range(10)]
    bench = make(dict.fromkeys(names, 9))
    bench.driver.fails.update(dict.fromkeys(names, ReadTimeout("silent")))
    bench.start().read_all_once()
    histories = [bench.tracker.history(name) for name in names]
    assert [each.total_reads for each in histories] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [each.total_failures for each in histories] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_an_http_endpoint_has_no_circuit(make: Make) -> None:
    bench = make(handler=Handler.HTTP)
    bench.driver.fails["a"] = ReadTimeout("silent")
    bench.start().read_all_once()
    assert [bench.error_of_read("a") for _ in range(5)] == ["READ_TIMEOUT"] * 5


# -- the line itself -----------------------------------------------------------------------------------------------


def down_bench(make: Make, units: Sequence[str] = ("a",), **transport: Any) -> Bench:
    bench = make(units, **transport)
    bench.driver.down = TransportDown("no such port")
    bench.start()
    eventually(lambda: bench.line.state is LineState.DOWN)
    return bench


def test_a_line_that_is_down_fails_every_job_at_once_and_all_its_devices_are_offline(make: Make) -> None:
    bench = down_bench(make, ["a", "b"])
    assert bench.error_of_read("a") == "TRANSPORT_DOWN"
    with pytest.raises(TransportDown, match="no such port"):
        bench.line.command("b", {"x": 1}, 30.0)
    assert {str(bench.status(name)) for name in ("a", "b")} == {"offline"}
    assert bench.driver.done == []


def pauses(bench: Bench, count: int) -> list[float]:
    """The pauses before the next tries; time moves on to each."""
    found: list[float] = []
    for number in range(1, count + 1):
        tried = eventually(lambda: bench.line.describe()["next_retry_s"] and bench.driver.connects)
        assert tried == number
        pause_s = float(str(bench.line.describe()["next_retry_s"]))
        found.append(pause_s)
        bench.time.advance(pause_s)
        bench.error_of_read("a")  # makes the worker look at the clock
    return found


@pytest.mark.parametrize(
    ("backoff_s", "expected"),
    [(1.0, [1, 2, 4, 8, 16, 30, 30]), (0.25, [0.25, 0.5, 1, 2]), (45.0, [45, 45, 45])],
)
def test_pauses_between_tries_double_up_to_30_s(make: Make, backoff_s: float, expected: list[float]) -> None:
    bench = down_bench(make, reconnect_backoff_s=backoff_s)
    assert pauses(bench, len(expected)) == expected


def test_a_line_that_comes_back_reads_everything_and_begins_with_short_pauses_again(make: Make) -> None:
    bench = down_bench(make, ["a", "b"])
    pauses(bench, 3)
    bench.driver.down = None
    bench.time.advance(8)
    bench.error_of_read("a")
    eventually(lambda: {str(bench.status(name)) for name in ("a", "b")} == {"online"})
    described = bench.line.describe()
    assert (described["state"], described["last_error"], described["next_retry_s"]) == ("up", None, None)
    bench.driver.down = bench.driver.fails["a"] = TransportDown("unplugged")
    assert bench.error_of_read("a") == "TRANSPORT_DOWN"
    eventually(lambda: bench.line.describe()["next_retry_s"] == 1.0)
    eventually(lambda: bench.status("b") is Status.OFFLINE)


def test_tries_to_connect_are_no_reads(make: Make) -> None:
    bench = down_bench(make)
    pauses(bench, 3)
    history = bench.tracker.history("a")
    assert (history.total_reads, history.total_failures) == (0, 0)


def test_describing_a_line_changes_nothing(make: Make) -> None:
    bench = down_bench(make, reconnect_timeout_s=10.0, reconnect_backoff_s=600.0)
    bench.time.advance(3600)  # the worker has not looked at the clock yet
    described = bench.line.describe()
    assert (described["last_error"], described["next_retry_s"]) == ("no such port", 0.0)
    bench.error_of_read("a")  # makes it look
    assert bench.line.describe()["last_error"] == "gave up after 10 s (reconnect_timeout_sec): no such port"


def test_a_line_is_given_up_after_reconnect_timeout_sec(make: Make) -> None:
    bench = down_bench(make, reconnect_timeout_s=10.0)
    assert pauses(bench, 4) == [1, 2, 4, 8]
    described = bench.line.describe()
    assert described["last_error"] == "gave up after 10 s (reconnect_timeout_sec): no such port"
    assert (described["state"], described["next_retry_s"]) == ("down", None)
    bench.driver.down = None
    bench.time.advance(3600)
    with pytest.raises(TransportDown, match="gave up after 10 s"):
        bench.line.read("a")
    assert bench.driver.connects == 4


def test_a_command_that_loses_the_line_says_so(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.fails["a"] = bench.driver.down = TransportDown("unplugged")
    with pytest.raises(TransportDown, match="unplugged"):
        bench.line.command("a", {"x": 1}, 30.0)
    eventually(lambda: bench.status("b") is Status.OFFLINE)


def test_a_defect_in_a_driver_does_not_silence_the_line_for_ever(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.fails["a"] = ZeroDivisionError("defect")
    with pytest.raises(HubError, match="internal error") as caught:
        bench.line.command("a", {"x": 1}, 30.0)
    assert caught.value.code == "INTERNAL_ERROR"
    eventually(lambda: bench.line.state is LineState.DOWN)
    bench.driver.fails.clear()
    bench.time.advance(1.0)
    bench.error_of_read("b")
    eventually(lambda: bench.line.state is LineState.UP)
    assert bench.error_of_read("b") is None


def test_a_defect_in_a_driver_is_the_answer_of_the_read_that_met_it(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.fails["a"] = ZeroDivisionError("defect")
    assert bench.error_of_read("a") == "INTERNAL_ERROR"


def test_stopping_fails_what_waits_and_refuses_what_comes(make: Make) -> None:
    bench = make(["a", "b"]).start().read_all_once()
    bench.driver.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        pool.submit(bench.line.read, "b")
        eventually(lambda: bench.driver.count("read", "b") == 2)
        waiting: list[Future[Any]] = [
            pool.submit(bench.line.read, "a"),
            pool.submit(bench.line.command, "a", {"x": 1}, 30.0),
        ]
        eventually(lambda: bench.queued == 2)
        stopping = pool.submit(bench.worker.stop, 30.0)
        eventually(bench.worker._stop.is_set)
        bench.driver.gate.set()
        for each in waiting:
            with pytest.raises(TransportDown, match="stopping"):
                each.result(30)
        stopping.result(30)
    assert bench.error_of_read("a") == "TRANSPORT_DOWN"
    with pytest.raises(TransportDown, match="stopping"):
        bench.line.command("a", {"x": 1}, 30.0)
    assert bench.driver.count("write", "a") == 0


def test_a_line_describes_itself_without_the_password_in_its_url(make: Make) -> None:
    bench = make(["a", "b"])
    bench.driver.fails["b"] = ReadFailed("bad checksum")
    bench.start().read_all_once()
    described = bench.line.describe()
    assert described.keys() == {
        "transport_id", "driver", "url", "parallelism", "worker_pid", "restarts", "pending", "late_answers",
        "state", "since", "last_error", "next_retry_s", "utilisation", "missed_turns", "counters", "units",
        "round_trip_ms",
    }  # fmt: skip
    assert (described["parallelism"], described["worker_pid"]) == ("thread", os.getpid())
    assert described["url"] == "tcp://u:***@h"
    zero = dict.fromkeys(("errors", "timeouts", "crc_errors", "exceptions", "commands"), 0)
    unit = {**zero, "reads": 1, "utilisation": 0.0}
    assert described["units"] == [
        {**unit, "unit_id": 1, "state": "online", "round_trip_ms": 0.0, "last_error": None},
        {
            **unit,
            "unit_id": 2,
            "state": "offline",
            "errors": 1,
            "round_trip_ms": None,
            "last_error": "bad checksum",
        },
    ]
