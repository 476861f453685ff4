"""Lines in one thread, in a thread each and in a process each: what comes out is the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sensor_hub.config.model import Parallelism
from sensor_hub.errors import CommandTimeout, DeviceRefused, HubError, InvalidCommand, TransportDown
from sensor_hub.workers.messages import Message, SourceInfo, Taken
from tests.integration.crew import ROOT, Crew
from tests.support import eventually

MODES = [Parallelism.SINGLE, Parallelism.THREAD, Parallelism.PROCESS]


@pytest.fixture(autouse=True, scope="module")
def children_find_the_driver() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module", params=MODES)
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """Two lines; for tests that leave them as they are."""
    made = Crew(request.param, 2).start()
    yield made
    made.stop()


Make = Callable[..., Crew]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Crew] = []

    def begin(*args: Any, **kwargs: Any) -> Crew:
        made.append(Crew(*args, **kwargs))
        return made[-1]

    yield begin
    for crew in made:
        crew.stop()


def test_a_read_is_a_fresh_one(crew: Crew) -> None:
    first, second = crew.read(), crew.read()
    assert second["reads"] == int(str(first["reads"])) + 1
    assert second["value"] == 1


def test_the_process_that_is_shown_is_the_one_that_drives_the_line(crew: Crew) -> None:
    described = crew.shown(1)
    assert described["worker_pid"] == crew.read(1)["pid"]
    assert (described["worker_pid"] == os.getpid()) == (described["parallelism"] != "process")


def test_1000_commands_of_10_callers_get_their_own_answers(crew: Crew) -> None:
    def ask(caller: int) -> list[Any]:
        return [crew.command(caller % 2, echo=[caller, number])["echo"] for number in range(100)]

    with ThreadPoolExecutor(10) as pool:
        answers = [answer for each in pool.map(ask, range(10)) for answer in each]
    assert answers == [[caller, number] for caller in range(10) for number in range(100)]
    described = [crew.shown(number) for number in range(2)]
    assert [(each["pending"], each["late_answers"]) for each in described] == [(0, 0), (0, 0)]
    # what is shown may be a moment old
    eventually(lambda: sum(crew.shown(number)["counters"]["commands"] for number in range(2)) >= 1000)


def test_what_is_read_back_is_told(crew: Crew) -> None:
    written = crew.lines[0].command("line0.a", {"value": 41}, 30)
    assert (written.values, str(written.outcome)) == ({"value": 41}, "verified")
    assert crew.lines[0].command("line0.a", {"value": "+0.5"}, 30).values == {"value": 41.5}
    crew.command(value=1)


def test_a_devices_error_is_raised_where_it_was_asked_for_with_what_it_says(crew: Crew) -> None:
    with pytest.raises(DeviceRefused, match="not today") as caught:
        crew.command(refuse="not today")
    assert caught.value.extra == {"exception": 2}
    assert crew.command(echo="after") == {"echo": "after"}


@pytest.mark.parametrize("value", ["x" * 5_000_000, [[{"a": None}] * 10] * 10_000], ids=["long", "many"])
def test_a_huge_value_comes_back_whole(crew: Crew, value: Any) -> None:
    assert crew.command(echo=value)["echo"] == value


def test_what_cannot_be_handed_over_is_the_callers_error_at_once(crew: Crew) -> None:
    strange: Any = threading.Lock()
    if str(crew.lines[0].parallelism) != "process":
        assert crew.command(echo=strange) == {"echo": strange}  # it is handed over as it is
        return
    with pytest.raises(InvalidCommand, match="cannot be handed to a worker process"):
        crew.command(echo=strange)
    with pytest.raises(InvalidCommand, match="cannot be handed to a worker process"):
        crew.command(echo=lambda: None)
    assert crew.shown()["pending"] == 0
    assert crew.command(echo="after") == {"echo": "after"}


def test_a_read_that_is_answered_is_on_the_board(crew: Crew) -> None:
    """Its news come before its answer, whoever else asks at the same time."""

    def ask(_: int) -> bool:
        before = int(str(crew.read()["reads"]))
        return int(str(crew.read()["reads"])) > before

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(200)))


def test_reports_come_at_once_while_the_device_keeps_its_worker_busy(crew: Crew) -> None:
    with ThreadPoolExecutor(1) as pool:
        before = crew.shown()["counters"]["commands"]
        hanging, _ = crew.hang(pool, 2.0)
        assert crew.shown()["counters"]["commands"] == before
        assert not hanging.done()
        assert hanging.result(30) == {"hang_s": 2.0}
    eventually(lambda: crew.shown()["counters"]["commands"] == before + 1)


# -- each on its own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_late_answer_is_dropped_and_counted(make: Make, mode: Parallelism) -> None:
    crew = make(mode).start()
    with pytest.raises(CommandTimeout, match=r"no answer within 0\.1 s"):
        crew.command(within_s=0.1, hang_s=0.4)
    assert crew.shown()["pending"] == 0
    assert crew.command(echo="next") == {"echo": "next"}
    assert crew.shown()["late_answers"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_command_whose_time_is_over_before_its_turn_is_never_sent(make: Make, mode: Parallelism) -> None:
    crew = make(mode).start()
    with ThreadPoolExecutor(1) as pool:
        hanging, _ = crew.hang(pool, 2.0)
        with pytest.raises(CommandTimeout):
            crew.command(within_s=0.1, value=99)
        hanging.result(30)
    assert crew.read()["value"] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["defect", "answer_with_object"])
def test_a_defect_of_a_driver_is_told_and_the_line_comes_back(
    make: Make, mode: Parallelism, order: str
) -> None:
    if mode is not Parallelism.PROCESS and order == "answer_with_object":
        pytest.skip("nothing has to be packed there")
    crew = make(mode, reconnect_backoff_s=0.05).start()
    with pytest.raises(HubError, match="internal error") as caught:
        crew.command(**{order: 1})
    assert caught.value.code == "INTERNAL_ERROR"
    eventually(lambda: str(crew.lines[0].state) == "up" and crew.status() == "online")
    assert crew.shown()["restarts"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_line_that_is_lost_comes_back(make: Make, mode: Parallelism) -> None:
    crew = make(mode, reconnect_backoff_s=1.5).start()  # long enough to be seen
    with pytest.raises(TransportDown, match="unplugged"):
        crew.command(unplug=True)
    eventually(lambda: crew.status() == "offline" and crew.shown()["next_retry_s"] is not None)
    assert crew.shown()["last_error"] == "unplugged"
    crew.eventually_online()


@pytest.mark.parametrize("mode", MODES)
def test_a_line_without_its_port_refuses_at_once_and_says_why(make: Make, mode: Parallelism) -> None:
    crew = make(mode, options={"unplugged": True}, reconnect_backoff_s=30.0)
    for worker in crew.workers:
        worker.start()
    eventually(lambda: str(crew.lines[0].state) == "down", 30)
    with pytest.raises(TransportDown, match="no such port"):
        crew.read()


def test_readings_say_where_they_come_from(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"device_name": "Boiler bus", "manufacturer": "Acme", "model": "X1", "serial_number": "AB12"}
    crew = make(Parallelism.PROCESS, **named)
    heard: list[Message] = []
    take = crew.lines[0].take

    def listen(news: Any) -> None:
        heard.append(news)
        take(news)

    monkeypatch.setattr(crew.lines[0], "take", listen)
    crew.start()
    taken = next(news for news in heard if isinstance(news, Taken))
    assert (taken.source_transport, taken.sensor_id) == ("line0", "line0.a")
    assert taken.source_transport_info == SourceInfo("Boiler bus", "ab12", "Acme", "X1", "AB12")
    assert taken.data["value"] == 1
    assert abs(taken.read_at - time.monotonic()) < 60


@pytest.mark.parametrize(
    ("mode", "other_waits"),
    [(Parallelism.SINGLE, True), (Parallelism.THREAD, False), (Parallelism.PROCESS, False)],
)
def test_what_a_blocked_line_costs_another(make: Make, mode: Parallelism, other_waits: bool) -> None:
    """In one thread as long as one transaction of it takes, else nothing."""
    crew = make(mode, 2).start()
    with ThreadPoolExecutor(1) as pool:
        hanging, since = crew.hang(pool, 3.0)
        assert crew.command(1, echo="other") == {"echo": "other"}
        took_s = time.monotonic() - since
        if other_waits:
            assert took_s >= 3
        else:
            assert took_s < 3
        hanging.result(30)


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_while_a_device_hangs_takes_about_a_second(make: Make, mode: Parallelism) -> None:
    crew = make(mode, 2).start()
    with ThreadPoolExecutor(1) as pool:
        hanging, _ = crew.hang(pool, 30.0)
        began = time.monotonic()
        crew.stop()
        assert time.monotonic() - began < 15
        with pytest.raises(TransportDown, match="stopping"):
            hanging.result(10)
    with pytest.raises(TransportDown, match="stopping"):
        crew.command(echo=1)


@pytest.mark.parametrize("mode", MODES)
def test_a_start_after_a_stop_that_did_not_wait_for_a_hanging_device(make: Make, mode: Parallelism) -> None:
    crew = make(mode).start()
    with ThreadPoolExecutor(1) as pool:
        crew.hang(pool, 2.5)
        crew.stop()
    crew.workers[0].start()
    eventually(lambda: crew.shown()["state"] == "up", 30)
    assert crew.command(echo="again") == {"echo": "again"}
    assert crew.shown()["restarts"] == 0
