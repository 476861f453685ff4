"""The feed: `GET /readings?since&wait`, the same on all three services."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.services import Api, Instance, Plc, Reply, endpoints, in_process, plc
from tests.support import eventually

REGISTER = {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1}


class Feed:
    """One service, its word for a device, and a device that changes when `nudge` is called."""

    def __init__(self, api: Api, id_key: str, device_id: str, site: Site) -> None:
        self.api, self.id_key, self.device_id, self.site = api, id_key, device_id, site

    def since(self, cursor: str | None = None, wait: str = "0") -> dict[str, Any]:
        params = {"wait": wait, **({"since": cursor} if cursor is not None else {})}
        response = self.api.ask("GET", "/readings", params=params)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert answer.keys() == {"cursor", "readings"}
        return answer

    def ids(self, answer: dict[str, Any]) -> list[str]:
        return [entry[self.id_key] for entry in answer["readings"]]

    def quiet_cursor(self) -> str:
        """A cursor after which nothing has changed."""

        def unchanged() -> str | None:
            cursor = str(self.since()["cursor"])
            return None if self.since(cursor, wait="0.3")["readings"] else cursor

        return str(eventually(unchanged, 60))

    def nudge(self) -> None:
        self.site.serial.get("/sensor/temp")


class Site:
    """An instance that reads its devices only when nudged: once at the start, then once a day (or hour)."""

    plc: Plc
    serial: Api
    http: Api
    aggregator: Api


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site()
    with ExitStack() as stack:
        site.plc = stack.enter_context(plc())
        site.plc.inputs[1] = {1: 225}
        web = stack.enter_context(endpoints())
        web.replies["/pir"] = Reply({"motion_detected": False})
        line = {"driver": "modbus_tcp", "url": site.plc.url, "read_interval": 86400, "timeout_s": 5}
        common = {"sensor_type": "temperature", "transport": "plc", "register": REGISTER}
        instance = Instance(
            tmp_path_factory.mktemp("feed"),
            {
                "poll_interval": 3600,
                "transports": [{"transport_id": "plc", **line}],
                "sensors": [
                    {"sensor_id": "temp", **common},
                    {"sensor_id": "nowhere", **common, "register": {**REGISTER, "address": 5000}},
                    {"sensor_id": "off", **common, "enabled": False},
                    {"sensor_id": "pir", "sensor_type": "motion", "url": web.url + "/pir", "timeout_s": 5},
                    {"sensor_id": "lost", "sensor_type": "generic", "url": web.url + "/404", "timeout_s": 5},
                    {"sensor_id": "away", "sensor_type": "motion", "url": web.url, "enabled": False},
                ],
            },
        )
        site.serial = stack.enter_context(in_process(instance, "serial-handler"))
        site.http = stack.enter_context(in_process(instance, "http-poller"))
        site.aggregator = stack.enter_context(in_process(instance, "state-aggregator"))
        eventually(
            lambda: all(e["status"] != "unknown" for e in site.aggregator.readings("device_id").values()), 60
        )
        yield site


@pytest.fixture(params=["serial-handler", "http-poller", "state-aggregator"])
def feed(request: pytest.FixtureRequest, site: Site) -> Feed:
    if request.param == "serial-handler":
        return Feed(site.serial, "sensor_id", "temp", site)
    if request.param == "http-poller":
        return Feed(site.http, "sensor_id", "pir", site)
    return Feed(site.aggregator, "device_id", "temp", site)


@pytest.fixture(params=["serial-handler", "state-aggregator"])
def nudged(request: pytest.FixtureRequest, site: Site) -> Feed:
    """A feed whose device is read when the test wants it (a poller reads when it wants)."""
    if request.param == "serial-handler":
        return Feed(site.serial, "sensor_id", "temp", site)
    return Feed(site.aggregator, "device_id", "temp", site)


def test_without_a_cursor_every_enabled_device_is_told_once(feed: Feed, site: Site) -> None:
    ids = feed.ids(feed.since())
    expected = {
        id(site.serial): {"temp", "nowhere"},
        id(site.http): {"pir", "lost"},
        id(site.aggregator): {"temp", "nowhere", "pir", "lost"},
    }[id(feed.api)]
    assert set(ids) == expected
    assert len(ids) == len(expected)


def test_an_entry_is_what_a_read_says_and_its_status(nudged: Feed) -> None:
    feed = nudged
    path = "/sensor/temp" if feed.id_key == "sensor_id" else "/device/temp/force-refresh"
    read = feed.api.get(path) if feed.id_key == "sensor_id" else feed.api.post(path)
    entry: dict[str, Any] = eventually(
        lambda: next(
            (e for e in feed.since()["readings"] if e.get("timestamp") == read["timestamp"]),
            {},
        )
    )
    assert entry.pop("status") == "online"
    assert entry == {key: value for key, value in read.items() if key not in ("cached", "cache_age")}


def test_a_failed_device_has_no_value_but_why(feed: Feed) -> None:
    failed = "lost" if feed.device_id == "pir" else "nowhere"
    (entry,) = [e for e in feed.since()["readings"] if e[feed.id_key] == failed]
    assert entry.keys() == {feed.id_key, "type", "status", "error", "message", "timestamp"}
    assert entry["status"] == "offline"
    assert entry["error"] in ("DEVICE_REFUSED", "READ_FAILED")


def test_after_the_cursor_only_what_changed_is_told(nudged: Feed) -> None:
    cursor = nudged.quiet_cursor()
    assert nudged.since(cursor) == {"cursor": cursor, "readings": []}
    nudged.nudge()
    answer = nudged.since(cursor, wait="30")
    assert nudged.ids(answer) == ["temp"]
    assert nudged.since(answer["cursor"])["readings"] == []


def test_an_equal_reading_counts_as_a_change(nudged: Feed) -> None:
    cursor = nudged.quiet_cursor()
    values = set()
    for _ in range(3):
        nudged.nudge()
        answer = nudged.since(cursor, wait="30")
        assert nudged.ids(answer) == ["temp"]
        values.add(answer["readings"][0]["value"])
        cursor = answer["cursor"]
    assert values == {22.5}


@pytest.mark.parametrize("wait", ["60", "1e9", "inf", "Infinity"])
def test_a_wait_is_answered_as_soon_as_something_changes(nudged: Feed, wait: str) -> None:
    cursor = nudged.quiet_cursor()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(nudged.since, cursor, wait)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        nudged.nudge()
        assert nudged.ids(waiting.result(60)) == ["temp"]


def test_40_followers_wait_at_the_same_time(nudged: Feed) -> None:
    cursor = nudged.quiet_cursor()
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(nudged.since, cursor, "60") for _ in range(40)]
        assert wait(waiting, timeout=1, return_when=FIRST_COMPLETED).done == set()
        nudged.nudge()
        assert [nudged.ids(follower.result(60)) for follower in waiting] == [["temp"]] * 40


def test_a_wait_without_a_change_ends_empty_with_the_same_cursor(feed: Feed) -> None:
    cursor = feed.quiet_cursor()
    assert feed.since(cursor, wait="0.2") == {"cursor": cursor, "readings": []}
    assert feed.since(cursor, wait="0") == {"cursor": cursor, "readings": []}
    assert feed.since(cursor, wait="-0.0") == {"cursor": cursor, "readings": []}


@pytest.mark.parametrize("wait", ["-1", "nan", "NaN", "-inf", "soon", "", "1s", "0x10", "1 2"])
def test_a_wait_that_is_no_time_is_refused(feed: Feed, wait: str) -> None:
    response = feed.api.ask("GET", "/readings", params={"wait": wait})
    assert response.status_code == 400
    assert response.json()["error"] == "INVALID_COMMAND"
    assert "wait" in response.json()["message"]


@pytest.mark.parametrize(
    "cursor", ["", "0", "x", "deadbeef0123-5", "-1", "é", "%00", "a" * 3000, "../../etc/passwd", "\u0663"]
)
def test_a_cursor_of_another_process_yields_all_at_once(feed: Feed, cursor: str) -> None:
    answer = feed.since(cursor, wait="60")
    assert sorted(feed.ids(answer)) == sorted(feed.ids(feed.since()))


def test_a_cursor_of_another_service_yields_all(site: Site) -> None:
    serial, http = (Feed(api, "sensor_id", "", site) for api in (site.serial, site.http))
    assert sorted(serial.ids(serial.since(http.since()["cursor"], wait="60"))) == ["nowhere", "temp"]


def test_disabled_devices_never_appear(feed: Feed) -> None:
    feed.api.ask("GET", "/sensor/off")
    feed.api.ask("POST", "/device/off/command", json={"value": 1})
    assert not {"off", "away"} & set(feed.ids(feed.since()))


def test_a_change_reaches_a_follower_of_the_aggregator_while_the_device_is_still_new(site: Site) -> None:
    follower = Feed(site.aggregator, "device_id", "temp", site)
    cursor = follower.quiet_cursor()
    site.plc.inputs[1][1] = 300
    try:
        follower.nudge()
        (entry,) = follower.since(cursor, wait="30")["readings"]
        assert (entry["device_id"], entry["value"]) == ("temp", 30.0)
    finally:
        site.plc.inputs[1][1] = 225
