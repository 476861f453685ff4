"""The journal: `GET /readings?journal=`, and the way of every reading from handler over aggregator to a follower."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import ItemsView, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensor_hub.clients import AggregatorClient
from sensor_hub.journal import Had, News
from sensor_hub.readings import Entry
from tests.contract.services import Api, Instance, Plc, in_process, plc
from tests.support import eventually

REGISTER = {"table": "input", "address": 1, "data_type": "uint16"}
UNITS = tuple(range(1, 11))
PLENTY = 1000


class Counting(dict[int, int]):
    """Input registers of a unit: each time they are read, register 1 is one more."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def items(self) -> ItemsView[int, int]:  # type: ignore[override]
        self.reads += 1
        return {1: self.reads}.items()


def instance_of(folder: Path, device: Plc, interval_s: float, units: tuple[int, ...], **env: str) -> Instance:
    for unit in units:
        device.inputs[unit] = Counting()
    line = {"driver": "modbus_tcp", "url": device.url, "read_interval": interval_s, "timeout_s": 5}
    common = {"sensor_type": "generic", "transport": "plc", "register": REGISTER}
    return Instance(
        folder,
        {
            "transports": [{"transport_id": "plc", **line}],
            "sensors": [{"sensor_id": f"d{unit}", "unit_id": unit, **common} for unit in units],
        },
        **env,
    )


def journal(api: Api, position: str = "", **params: str) -> dict[str, Any]:
    response = api.ask("GET", "/readings", params={"journal": position, **params})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer.keys() == {"cursor", "readings", "journal"}
    found: dict[str, Any] = answer["journal"]
    assert found.keys() == {"position", "missed", "entries"}
    return found


class Quiet:
    """A handler whose device is read when the test says so (and once at the start), and keeps 100 entries."""

    def __init__(self, api: Api, aggregator: Api, device: Plc) -> None:
        self.api, self.aggregator, self.plc = api, aggregator, device

    def read(self, times: int = 1) -> list[int]:
        return [self.api.get("/sensor/d1")["value"] for _ in range(times)]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quiet]:
    with ExitStack() as stack:
        device = stack.enter_context(plc())
        folder = tmp_path_factory.mktemp("journal")
        instance = instance_of(folder, device, 86400, (1,), JOURNAL_ENTRIES="100")
        api = stack.enter_context(in_process(instance, "serial-handler"))
        aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        eventually(lambda: journal(api)["entries"], 30)
        yield Quiet(api, aggregator, device)


def values(found: dict[str, Any]) -> list[int | None]:
    return [each["entry"].get("value") for each in found["entries"]]


def test_every_reading_after_the_position_is_told_in_order_with_its_time_and_an_id(quiet: Quiet) -> None:
    before = journal(quiet.api)
    read = quiet.read(5)
    found = journal(quiet.api, before["position"])
    assert (values(found), found["missed"]) == (read, 0)
    ids = [each["id"].rsplit("-", 1) for each in found["entries"]]
    assert len({generation for generation, _ in ids}) == 1
    assert [int(number) for _, number in ids] == list(range(int(ids[0][1]), int(ids[0][1]) + 5))
    for each in found["entries"]:
        assert each["timestamp"] == each["entry"]["timestamp"]
        assert each["entry"].keys() == {
            "sensor_id",
            "type",
            "value",
            "unit",
            "timestamp",
            "quality",
            "status",
        }
    assert journal(quiet.api, found["position"])["entries"] == []


def test_a_failed_read_is_an_entry_without_values(quiet: Quiet) -> None:
    position = journal(quiet.api)["position"]
    quiet.plc.asleep.add(1)
    try:
        assert quiet.api.ask("GET", "/sensor/d1").status_code == 503
    finally:
        quiet.plc.asleep.discard(1)
    entry = journal(quiet.api, position)["entries"][0]
    assert entry["entry"]["error"] == "READ_TIMEOUT"
    assert entry["entry"].keys() == {"sensor_id", "type", "status", "error", "message", "timestamp"}
    eventually(lambda: "value" in quiet.api.ask("GET", "/sensor/d1").json(), 30)


def test_the_aggregator_tells_the_same_entries_by_its_word_for_a_device(quiet: Quiet) -> None:
    read = quiet.read(3)
    eventually(lambda: values(journal(quiet.aggregator))[-3:] == read, 30)
    ours, its = (journal(api)["entries"][-3:] for api in (quiet.api, quiet.aggregator))
    for entry in its:
        entry["entry"]["sensor_id"] = entry["entry"].pop("device_id")
    assert its == ours


def test_a_wait_is_answered_as_soon_as_something_is_taken(quiet: Quiet) -> None:
    body = quiet.api.get("/readings?journal=")
    position, cursor = body["journal"]["position"], body["cursor"]
    reader = threading.Timer(0.3, quiet.read)
    reader.start()
    found = journal(quiet.api, position, since=cursor, wait="60")
    reader.join(30)
    assert len(values(found)) == 1


def test_who_was_away_longer_than_the_journal_learns_how_many_are_gone(quiet: Quiet) -> None:
    position = journal(quiet.api)["position"]
    read = quiet.read(130)
    found = journal(quiet.api, position)
    assert (found["missed"], values(found)) == (30, read[30:])
    assert quiet.api.get("/health")["journal"]["entries"] == 100


@pytest.mark.parametrize("position", ["", "x", "deadbeef0123-5", "%00", "a" * 3000, "\u0663", "-1"])
def test_from_a_position_of_another_process_all_there_is_comes_and_the_loss_is_unknown(
    quiet: Quiet, position: str
) -> None:
    found = journal(quiet.api, position, wait="60")
    assert found["missed"] is None
    assert len(found["entries"]) == quiet.api.get("/health")["journal"]["entries"]


# -- a flood -----------------------------------------------------------------------------------------------------


class Follower:
    """Follows an aggregator's journal as an output does."""

    def __init__(self, instance: Instance) -> None:
        self.entries: list[Entry] = []
        self.missed = 0
        self._client = AggregatorClient(instance.api("state-aggregator").url, instance.instance_id)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._client.follow_journal(self._take, lambda _: None, self._stop, Had())

    def _take(self, news: News) -> None:
        self.entries += news.entries
        self.missed += news.missed

    def numbers(self) -> dict[str, list[int]]:
        """By generation."""
        found = defaultdict(list)
        for entry in list(self.entries):
            generation, number = entry.id.rsplit("-", 1)
            found[generation].append(int(number))
        return dict(found)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


@contextmanager
def following(instance: Instance) -> Iterator[Follower]:
    follower = Follower(instance)
    try:
        yield follower
    finally:
        follower.stop()


def is_whole(numbers: list[int]) -> bool:
    return numbers == list(range(1, len(numbers) + 1))


def grow(entries: list[Entry]) -> bool:
    """Whether the values of each device grow: none twice, none out of order."""
    by_device = defaultdict(list)
    for entry in entries:
        if entry.snapshot.reading is not None:
            by_device[entry.snapshot.device_id].append(int(str(entry.snapshot.reading.values["value"])))
    return len(by_device) == len(UNITS) and all(each == sorted(set(each)) for each in by_device.values())


def test_a_flood_loses_and_repeats_nothing_on_its_way_to_a_follower(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(plc(UNITS))
        instance = instance_of(tmp_path, device, 0.05, UNITS)
        handler = stack.enter_context(in_process(instance, "serial-handler"))
        aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        follower = stack.enter_context(following(instance))
        eventually(lambda: handler.get("/health")["journal"]["entries"] >= PLENTY, 80)
        last = int(journal(handler)["position"].rsplit("-", 1)[1])
        eventually(lambda: len(follower.entries) >= last, 60)
        ((_, numbers),) = follower.numbers().items()
        assert is_whole(numbers)
        assert grow(follower.entries)
        assert follower.missed == 0
        told = aggregator.get("/health")["journal"]
        assert (told["missed"], told["interrupted"]) == (0, 0)


def test_an_aggregator_that_begins_anew_costs_a_follower_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(plc(UNITS))
        instance = instance_of(tmp_path, device, 0.05, UNITS)
        handler = stack.enter_context(in_process(instance, "serial-handler"))
        first = stack.enter_context(ExitStack())
        first.enter_context(in_process(instance, "state-aggregator"))
        follower = stack.enter_context(following(instance))
        eventually(lambda: len(follower.entries) >= 100, 30)
        first.close()
        had = len(follower.entries)
        eventually(lambda: handler.get("/health")["journal"]["entries"] > had + 100, 30)
        stack.enter_context(in_process(instance, "state-aggregator"))
        eventually(lambda: len(follower.entries) > had + 200, 30)
        ((_, numbers),) = follower.numbers().items()
        assert is_whole(numbers)
        assert grow(follower.entries)
        assert follower.missed == 0


def test_a_handler_that_begins_anew_is_told_in_the_aggregators_health(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(plc(UNITS))
        instance = instance_of(tmp_path, device, 0.05, UNITS)
        first = stack.enter_context(ExitStack())
        first.enter_context(in_process(instance, "serial-handler"))
        aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        follower = stack.enter_context(following(instance))
        eventually(lambda: len(follower.entries) >= 50, 30)
        first.close()
        stack.enter_context(in_process(instance, "serial-handler"))
        eventually(lambda: len(follower.numbers()) == 2, 30)
        eventually(lambda: all(len(each) >= 50 for each in follower.numbers().values()), 30)
        assert all(is_whole(each) for each in follower.numbers().values())
        told = aggregator.get("/health")["journal"]
        assert (told["missed"], told["interrupted"]) == (0, 1)


def test_what_the_aggregators_journal_had_to_drop_is_told_to_who_was_away(tmp_path: Path) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(plc(UNITS))
        instance = instance_of(tmp_path, device, 0.05, UNITS)
        stack.enter_context(in_process(instance, "serial-handler"))
        instance.hub = replace(instance.hub, journal_entries=100)  # the handler keeps all
        aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        follower = stack.enter_context(following(instance))
        eventually(lambda: len(follower.entries) >= 50, 30)
        assert aggregator.get("/health")["journal"]["missed"] == 0
        follower.stop()  # it is the follower's journal that runs over now, and it alone learns of it
        had = len(follower.entries) + follower.missed
        position = f"{journal(aggregator)['position'].rsplit('-', 1)[0]}-{had}"
        eventually(lambda: journal(aggregator, position)["missed"], 30)
        found = journal(aggregator, position)
        numbers = Counter(each["id"].rsplit("-", 1)[0] for each in found["entries"])
        assert sum(numbers.values()) == 100
        first_there = int(found["entries"][0]["id"].rsplit("-", 1)[1])
        assert first_there == had + found["missed"] + 1
