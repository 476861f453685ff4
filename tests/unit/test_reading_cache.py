"""The aggregator's cache: time to live, one request for all who ask, and clearing while one is under way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sensor_hub import wire
from sensor_hub.errors import HubError, ReadTimeout
from sensor_hub.reading_cache import Cached, ReadingCache
from sensor_hub.readings import Json
from tests.support import eventually
from tests.unit.manual_clock import NOON, ManualClock


class Device:
    """Counts who asks; `gate` lets it answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def fetch(self, device_id: str) -> dict[str, Json]:
        self.asked += 1
        asked = self.asked
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return {"device_id": device_id, "value": asked, "timestamp": wire.timestamp_text(NOON)}


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def cache(device: Device, time: ManualClock) -> ReadingCache:
    return ReadingCache(device.fetch, 10.0, time.clock)


def value(found: Cached | dict[str, Json]) -> Json:
    return found.body["value"] if isinstance(found, Cached) else found["value"]


def test_an_answer_is_kept_for_its_time(cache: ReadingCache, time: ManualClock) -> None:
    seen = []
    for seconds in (0, 9.9, 0.1, 9.9):
        time.advance(seconds)
        found = cache.get("a")
        seen.append((isinstance(found, Cached), value(found)))
    assert seen == [(False, 1), (True, 1), (False, 2), (True, 2)]
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["cache_ttl"]) == (2, 2, 10)
    assert stats["entries"] == [{"device_id": "a", "age": 9.9, "valid": True}]


def test_a_refresh_asks_and_is_kept(cache: ReadingCache) -> None:
    cache.get("a")
    assert cache.refresh("a")["value"] == 2
    assert value(cache.get("a")) == 2


def test_what_is_forgotten_is_asked_for_again(cache: ReadingCache) -> None:
    cache.get("a")
    cache.get("b")
    cache.forget("a")
    assert (len(cache), isinstance(cache.get("b"), Cached), isinstance(cache.get("a"), Cached)) == (
        1,
        True,
        False,
    )
    assert (cache.clear(), len(cache)) == (2, 0)


def test_all_who_ask_at_the_same_time_share_one_request(cache: ReadingCache, device: Device) -> None:
    device.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(cache.get, "a") for _ in range(20)]
        eventually(lambda: cache.stats()["misses"] == 20)
        device.gate.set()
        assert {str(value(each.result(30))) for each in asking} == {"1"}
    assert device.asked == 1


def test_an_answer_that_was_asked_for_before_the_clearing_is_not_kept(
    cache: ReadingCache, device: Device
) -> None:
    device.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(cache.get, "a")
        eventually(lambda: device.asked == 1)
        cache.clear()
        device.gate.set()
        assert value(asking.result(30)) == 1
    assert len(cache) == 0


@pytest.mark.parametrize("error", [ReadTimeout("silent"), ZeroDivisionError("of ours")])
def test_a_failure_is_everybodys_and_is_not_kept(
    cache: ReadingCache, device: Device, error: Exception
) -> None:
    device.error = error
    device.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(cache.get, "a")
        eventually(lambda: device.asked == 1)
        other = pool.submit(cache.get, "a")
        eventually(lambda: cache.stats()["misses"] == 2)
        device.gate.set()
        with pytest.raises(type(error)):
            leader.result(30)
        with pytest.raises(HubError) as caught:
            other.result(30)
    assert caught.value.code == ("READ_TIMEOUT" if isinstance(error, ReadTimeout) else "INTERNAL_ERROR")
    device.error = None
    assert value(cache.get("a")) == 2
