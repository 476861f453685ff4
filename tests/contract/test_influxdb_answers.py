"""What an output to InfluxDB makes of answers that no InfluxDB gives, and of those that come slowly or are large."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs.influxdb import InfluxDb
from sensor_hub.outputs.sink import NotTakenError
from sensor_hub.readings import Json
from tests.contract.output_suite import readings
from tests.influx2 import Answer, Influx2

PAGE = "<html>Log in to the network of this guest house: unable to parse 'it'</html>"
PARSE = {"code": "invalid", "message": "unable to parse 'x': missing fields"}


@pytest.fixture
def influx2() -> Iterator[Influx2]:
    with Influx2() as running:
        yield running


def sink(influx: Influx2, **options: Json) -> InfluxDb:
    options = {"url": influx.url, "bucket": "b", "timeout_s": 30, **options}
    return InfluxDb(OutputConfig("history", "influxdb", "x", options), "hub1", Path("."))


# -- success ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, PAGE, is_json=False),
        Answer(200, "ok", is_json=False),
        Answer(200, [1]),
        Answer(200, {"error": "no such database"}),
        Answer(200, {"code": "internal error", "message": "no"}),
        Answer(200, {"data": "x" * 100_000}),
        Answer(200, b"junk!", headers=(("Content-Encoding", "gzip"),)),
        Answer(202, PAGE, is_json=False),
        Answer(201, {"message": "come back later"}),
    ],
)
def test_a_success_that_no_influxdb_gives_delivers_nothing_and_is_said(
    influx2: Influx2, answer: Answer
) -> None:
    influx2.answers.append(answer)
    its = sink(influx2)
    with pytest.raises(NotTakenError, match=rf"^HTTP {answer.status} with .*: is that InfluxDB\?"):
        its.send(readings(3))
    assert its.send(readings(3)) is None
    assert len(influx2.kept) == 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b""),
        Answer(200, b" \r\n"),
        Answer(200, {}),
        Answer(200, {"results": []}),
        Answer(200, gzip.compress(b"{}"), headers=(("Content-Encoding", "gzip"),)),
        Answer(204, b"", headers=(("Content-Encoding", "gzip"),)),
    ],
)
def test_nothing_and_a_word_of_json_without_an_error_are_a_success(influx2: Influx2, answer: Answer) -> None:
    influx2.always = answer
    assert sink(influx2).send(readings(3)) is None
    assert len(influx2.writes) == 1


def test_points_that_a_success_leaves_out_are_counted(influx2: Influx2) -> None:
    body = {
        "message": "partial write has occurred, errors encountered on line(s): line 2: invalid column type"
    }
    influx2.always = Answer(201, body)
    refused = sink(influx2).send(readings(3))
    assert refused is not None
    assert (refused.count, "invalid column type" in refused.reason) == (1, True)


def test_what_a_database_says_it_dropped_is_never_more_than_it_was_sent(influx2: Influx2) -> None:
    influx2.always = Answer(400, {"error": "partial write: field type conflict: x dropped=999999"})
    refused = sink(influx2).send(readings(3))
    assert refused is not None
    assert refused.count == 3


# -- time and size ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("body", [None, "some"], ids=["headers", "body"])
def test_an_answer_that_drips_ends_within_the_time_and_asks_for_fewer_points(
    influx2: Influx2, status: int, body: str | None
) -> None:
    influx2.answers.append(Answer(status, body, drips=True))
    its = sink(influx2, timeout_s=0.3, batch_size=16)
    with pytest.raises(NotTakenError, match="no answer within 0.3 s"):
        its.send(readings(16))
    assert its.batching.size == 8


@pytest.mark.parametrize("status", [200, 302, 400, 500])
def test_of_an_answer_of_any_size_only_the_beginning_is_taken(influx2: Influx2, status: int) -> None:
    packed = gzip.compress(b"a" * 100_000_000, 1)
    headers = (("Content-Encoding", "gzip"), ("Location", "/elsewhere"))
    influx2.answers.append(Answer(status, packed, headers=headers))
    its = sink(influx2)
    tracemalloc.start()
    try:
        with pytest.raises(NotTakenError, match=f"HTTP {status} .*aaaa"):
            its.send(readings(1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_an_answer_that_breaks_off_is_said_to(influx2: Influx2) -> None:
    influx2.answers.append(Answer(500, b"short", headers=(("Content-Length", "10"),)))
    with pytest.raises(NotTakenError, match="^(HTTP 500 .*short|the answer broke off: )"):
        sink(influx2).send(readings(1))


def test_the_connection_is_kept_from_one_batch_to_the_next(influx2: Influx2) -> None:
    influx2.keeps = True
    influx2.answers += [Answer(500, {"error": "busy"}), Answer(200, {}), Answer(204, b"")]
    its = sink(influx2)
    with pytest.raises(NotTakenError):
        its.send(readings(1))
    for _ in range(4):
        its.send(readings(1))
    its.close()
    assert influx2.connections == 1


# -- what cannot read our points ---------------------------------------------------------------------------------------


def test_a_database_that_cannot_unpack_gets_every_point_as_it_is(influx2: Influx2) -> None:
    influx2.unpacks = False
    its = sink(influx2)
    with capture_logs() as told:
        assert its.send(readings(20)) is None
        assert its.send(readings(20)) is None
    assert len(influx2.kept) == 20
    assert [bool(each.headers.get("Content-Encoding")) for each in influx2.writes] == [True, False, False]
    assert [each["event"] for each in told] == ["database cannot read what is compressed"]


@pytest.mark.parametrize("count", [1, 5, 500])
@pytest.mark.parametrize("compress", [True, False])
def test_what_can_read_none_of_the_points_costs_none_of_them(
    influx2: Influx2, count: int, compress: bool
) -> None:
    influx2.always = Answer(400, PARSE)
    its = sink(influx2, gzip=compress)
    with pytest.raises(NotTakenError, match="it can read none of the points, is that InfluxDB"):
        its.send(readings(count))
    assert len(influx2.writes) < 150
    influx2.always = None
    assert its.send(readings(count)) is None
    assert len(influx2.kept) == count


def test_a_database_that_has_read_others_may_refuse_all_of_a_batch(influx2: Influx2) -> None:
    its = sink(influx2)
    assert its.send(readings(3)) is None
    influx2.always = Answer(400, PARSE)
    refused = its.send(readings(3))
    assert refused is not None
    assert refused.count == 3
    assert its._compressed


def test_another_one_that_answers_after_an_outage_is_not_taken_for_the_same(influx2: Influx2) -> None:
    its = sink(influx2)
    assert its.send(readings(3)) is None
    influx2.stop()
    with pytest.raises(NotTakenError, match="not reachable"):
        its.send(readings(3))
    influx2.start()
    influx2.always = Answer(400, PARSE)
    with pytest.raises(NotTakenError, match="it can read none"):
        its.send(readings(3))
