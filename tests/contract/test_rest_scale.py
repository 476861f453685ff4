"""500 HTTP endpoints of which 50 hang: the other 450 are polled as if there were no others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.services import Api, Endpoints, Instance, Reply, endpoints, in_process
from tests.support import eventually

GOOD = [f"good{number}" for number in range(450)]
BAD = [f"hang{number}" for number in range(50)]
POLL_S = 4.0
HANG_S = 60  # the longest that may be configured


class Site:
    """The endpoints and their poller."""

    web: Endpoints
    api: Api
    began: float


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site()
    with ExitStack() as stack:
        site.web = stack.enter_context(endpoints())
        site.web.replies = {f"/{name}": Reply({"value": 20.5}) for name in GOOD} | {
            f"/{name}": Reply(hangs=True) for name in BAD
        }
        sensors = (
            [
                {
                    "sensor_id": name,
                    "sensor_type": "temperature",
                    "url": f"{site.web.url}/{name}",
                    "timeout_s": HANG_S if name in BAD else 10,
                }
                for pair in zip(GOOD[:50], BAD, strict=True)  # the bad ones among the good ones
                for name in pair
            ]
            + [
                {
                    "sensor_id": name,
                    "sensor_type": "temperature",
                    "url": f"{site.web.url}/{name}",
                    "timeout_s": 10,
                }
                for name in GOOD[50:]
            ]
        )
        instance = Instance(tmp_path_factory.mktemp("scale"), {"poll_interval": POLL_S, "sensors": sensors})
        site.began = time.monotonic()
        site.api = stack.enter_context(in_process(instance, "http-poller"))
        yield site


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_450_good_endpoints_are_polled_at_their_interval_while_50_hang(site: Site) -> None:
    eventually(lambda: all(site.web.asked[f"/{name}"] >= 1 for name in (*GOOD, *BAD)), 100)
    before = {name: site.web.asked[f"/{name}"] for name in GOOD}
    eventually(lambda: all(site.web.asked[f"/{name}"] >= before[name] + 2 for name in GOOD), 100)
    rounds = 1 + (time.monotonic() - site.began) // HANG_S  # one, unless the machine is very slow
    assert all(site.web.asked[f"/{name}"] <= rounds for name in BAD)  # they still hang, each in its poll
    counts = [site.web.asked[f"/{name}"] - before[name] for name in GOOD]
    assert max(counts) <= 2 * min(counts) + 1  # nobody is polled at the cost of another

    def all_are_online() -> dict[str, Any]:
        found = site.api.readings()
        return found if {found[name]["status"] for name in GOOD} == {"online"} else {}

    readings = eventually(all_are_online, 60)  # a busy machine may leave one out for a moment
    assert {readings[name]["value"] for name in GOOD} == {20.5}
    assert {readings[name]["status"] for name in BAD} <= {"unknown", "offline"}
    assert site.api.get("/health")["sensors_total"] == 500
    eventually(lambda: site.api.get("/health")["sensors_online"] == 450)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_answer_of_the_feed_carries_all_500(site: Site) -> None:
    eventually(lambda: len([e for e in site.api.readings().values() if "value" in e]) == 450, 60)
    feed = site.api.get("/readings")
    assert len(feed["readings"]) == 500

    def values() -> set[Any]:
        changed = site.api.get(f"/readings?since={feed['cursor']}&wait=30")["readings"]
        return {entry["value"] for entry in changed if "value" in entry}

    assert eventually(values) == {20.5}
