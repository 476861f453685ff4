"""Every type of output does what an output must; and what InfluxDB's API of 2.x is to get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs.influxdb import InfluxDb
from sensor_hub.outputs.json_lines import JsonLines
from sensor_hub.outputs.sink import NotTakenError
from sensor_hub.readings import Json
from tests.contract.output_suite import Got, OutputSuite, message, readings
from tests.influx import Influx, needs_influxd
from tests.influx2 import Answer, Influx2
from tests.support import eventually


class File:
    """The file of `json_lines`; it is away while its folder is a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "out"
        self.path = self._folder / "readings.jsonl"
        self.options: dict[str, Json] = {"path": str(self.path), "fsync": True}

    def got(self) -> Sequence[Got]:
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        once = {line["id"]: line for line in lines}
        return [
            (line["device_id"], line["data"]["value"], datetime.fromisoformat(line["timestamp"]))
            for line in once.values()
        ]

    def leave(self) -> None:
        self._folder.rename(self._folder.with_name("kept"))
        self._folder.write_text("no folder", encoding="ascii")

    def come_back(self) -> None:
        self._folder.unlink()
        self._folder.with_name("kept").rename(self._folder)


class TestJsonLines(OutputSuite):
    kind = JsonLines

    @pytest.fixture
    def receiver(self, tmp_path: Path) -> File:
        return File(tmp_path)


class Database:
    """A real InfluxDB of the API of 1.x."""

    def __init__(self, influx: Influx) -> None:
        self._influx = influx
        self.options: dict[str, Json] = {"url": influx.url, "database": "suite", "timeout_s": 5}
        influx.query("DROP DATABASE suite")
        influx.database("suite")

    def got(self) -> Sequence[Got]:
        rows = self._influx.query("SELECT device_id, value FROM temperature", "suite")
        return [
            (row["device_id"], row["value"], datetime.fromtimestamp(row["time"] // 1_000_000 / 1000, UTC))
            for row in rows
        ]

    def leave(self) -> None:
        self._influx.stop()

    def come_back(self) -> None:
        self._influx.start()


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with Influx(tmp_path_factory.mktemp("influx")) as running:
        yield running


@needs_influxd
class TestInfluxDb1(OutputSuite):
    kind = InfluxDb

    @pytest.fixture
    def receiver(self, influx: Influx) -> Database:
        return Database(influx)


class Bucket:
    """The API of 2.x."""

    def __init__(self, influx: Influx2) -> None:
        self._influx = influx
        self.options: dict[str, Json] = {
            "url": influx.url,
            "bucket": "home/1",
            "org": "me & you",
            "token": "s3cret-t0ken==",
            "timeout_s": 5,
        }

    def got(self) -> Sequence[Got]:
        found: list[Got] = []
        for line in self._influx.kept.values():
            device_id, value = re.search(r"device_id=([^,]+)", line), re.search(r"value=([0-9.]+)", line)
            assert device_id, line
            assert value, line
            time = datetime.fromtimestamp(int(line.rsplit(" ", 1)[1]) // 1_000_000 / 1000, UTC)
            found.append((device_id[1], float(value[1]), time))
        return found

    def leave(self) -> None:
        self._influx.stop()

    def come_back(self) -> None:
        self._influx.start()


@pytest.fixture
def influx2() -> Iterator[Influx2]:
    with Influx2() as running:
        yield running


class TestInfluxDb2(OutputSuite):
    kind = InfluxDb

    @pytest.fixture
    def receiver(self, influx2: Influx2) -> Bucket:
        return Bucket(influx2)


# -- the API of 2.x ------------------------------------------------------------------------------------------------


def sink(influx: Influx2, **options: Json) -> InfluxDb:
    options = {**Bucket(influx).options, **options}
    return InfluxDb(OutputConfig("history", "influxdb", "x", options), "hub1", Path("."))


def test_a_write_goes_to_bucket_and_org_with_the_token_and_is_compressed(influx2: Influx2) -> None:
    sink(influx2, precision="us").send([message(7, {"value": 21})])
    (write,) = influx2.writes
    assert write.path == "/api/v2/write"
    assert write.query == {"bucket": "home/1", "org": "me & you", "precision": "us"}
    assert write.headers["Authorization"] == "Token s3cret-t0ken=="
    assert write.headers["Content-Encoding"] == "gzip"
    assert write.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert write.lines == [
        "temperature,device_id=cellar,instance=hub1,source_transport=bus0"
        ' quality="good",value=21.0 1772366400123007'
    ]


def test_without_gzip_org_and_token_none_is_sent(influx2: Influx2) -> None:
    options: dict[str, Json] = {"url": influx2.url + "/", "bucket": "b", "gzip": "false"}
    its = InfluxDb(OutputConfig("h", "influxdb", "x", options), "hub1", Path("."))
    its.send([message(1, {"value": 1})])
    (write,) = influx2.writes
    assert write.query == {"bucket": "b", "precision": "ns"}
    assert not {"Authorization", "Content-Encoding"} & write.headers.keys()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            Answer(401, {"code": "unauthorized", "message": "unauthorized access"}),
            "HTTP 401.*wrong or missing",
        ),
        (Answer(403, {"code": "forbidden", "message": "no"}), "HTTP 403.*may not write"),
        (
            Answer(404, {"code": "not found", "message": 'bucket "b" not found'}),
            "HTTP 404.*no such.*not found",
        ),
        (Answer(429, {"message": "slow down"}), "HTTP 429.*slow down"),
        (Answer(500, {"error": "timeout"}), "HTTP 500.*timeout"),
        (Answer(302, {}, headers=(("Location", "http://127.0.0.1:1/"),)), "HTTP 302"),
        (Answer(400, "<html>bad gateway of somebody"), "HTTP 400"),
        (Answer(400, {"message": "precision x is not known"}), "HTTP 400.*precision"),
        (Answer(400, "partial write: field type conflict dropped=3"), "HTTP 400"),
        (
            Answer(
                422,
                {
                    "code": "unprocessable entity",
                    "message": "failure writing points to database: partial write: max-series-per-database"
                    " limit exceeded: (1000000) dropped=2",
                },
            ),
            "HTTP 422.*limit exceeded",
        ),
        (
            Answer(
                400,
                {
                    "error": "partial write of line protocol occurred",
                    "data": [
                        {
                            "error_message": "Update to schema would exceed number of columns per table limit"
                            " of 500 columns",
                            "line_number": 2,
                            "original_line": "temperature,device_",
                        }
                    ],
                },
            ),
            "HTTP 400.*would exceed",
        ),
        (Answer(400, {"message": "which uses explicit schemas"}), "HTTP 400.*schemas"),
    ],
)
def test_an_answer_that_is_not_about_points_costs_none_of_them(
    influx2: Influx2, answer: Answer, reason: str
) -> None:
    influx2.answers.append(answer)
    its = sink(influx2)
    with pytest.raises(NotTakenError, match=reason):
        its.send(readings(3))
    assert its.send(readings(3)) is None
    assert len(influx2.kept) == 3


PAGE = """<!DOCTYPE html><html itemscope itemtype="http://schema.org/WebPage"><title>400</title>
<p>Your request is invalid: unable to parse 'it', partial write: dropped=2, field type conflict</html>"""


def test_a_page_that_a_proxy_answers_with_costs_no_point_whatever_its_words(influx2: Influx2) -> None:
    influx2.answers.append(Answer(400, PAGE, is_json=False))
    its = sink(influx2)
    with pytest.raises(NotTakenError, match="HTTP 400"):
        its.send(readings(3))
    assert its.send(readings(3)) is None
    assert len(influx2.kept) == 3


def test_a_point_that_is_not_large_is_kept_for_a_proxy_that_finds_everything_too_large(
    influx2: Influx2,
) -> None:
    its = sink(influx2)
    influx2.always = Answer(413, PAGE, is_json=False)
    with pytest.raises(NotTakenError, match="HTTP 413"):
        its.send(readings(3))
    influx2.always = None
    assert its.send(readings(3)) is None
    assert len(influx2.kept) == 3


def test_a_ca_file_that_is_gone_is_said_and_loses_nothing(influx2: Influx2, tmp_path: Path) -> None:
    gone = tmp_path / "ca.pem"
    its = sink(influx2, url=influx2.url.replace("http:", "https:"), ca_cert=str(gone))
    with pytest.raises(NotTakenError, match=f"CA certificate.*{gone}"):
        its.send(readings(1))


def test_a_database_that_is_too_slow_for_a_batch_gets_fewer_at_once_and_more_again_when_it_is_fast(
    influx2: Influx2,
) -> None:
    its, left = sink(influx2, batch_size=16, timeout_s=0.5), readings(20)
    influx2.most, reasons = 5, set[str]()

    def next_batch() -> bool:
        batch = left[: its.batching.size]
        try:
            its.send(batch)
        except NotTakenError as error:
            reasons.add(str(error))
            return False
        del left[: len(batch)]
        return not left

    eventually(next_batch, 60)
    assert [len(write.lines) for write in influx2.writes[:3]] == [16, 8, 4]
    assert (len(influx2.kept), reasons) == (20, {"no answer within 0.5 s"})
    influx2.most = 16

    def is_whole_again() -> bool:
        its.send(readings(its.batching.size))
        return its.batching.size == 16

    eventually(is_whole_again, 60)


def test_a_database_that_is_quick_to_refuse_is_not_asked_for_more_at_once(influx2: Influx2) -> None:
    its = sink(influx2, batch_size=16, timeout_s=0.5)
    influx2.most = 8
    with pytest.raises(NotTakenError, match="no answer"):
        its.send(readings(16))
    influx2.most, influx2.always = 16, Answer(503, {"message": "busy"})
    for _ in range(10):
        with pytest.raises(NotTakenError):
            its.send(readings(its.batching.size))
    assert its.batching.size <= 8


def test_a_demos_point_says_so_in_a_tag(influx2: Influx2) -> None:
    sink(influx2).send([message(7, {"value": 21}, extra={"emulated": True}), message(8, {"value": 21})])
    (write,) = influx2.writes
    assert [re.findall("emulated=[^, ]*", line) for line in write.lines] == [["emulated=true"], []]


def test_the_receivers_word_for_when_to_come_again_counts(influx2: Influx2) -> None:
    influx2.answers.append(Answer(503, {"message": "busy"}, headers=(("Retry-After", "17"),)))
    with pytest.raises(NotTakenError) as caught:
        sink(influx2).send(readings(1))
    assert caught.value.retry_after_s == 17.0


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, {"code": "invalid", "message": "unable to parse 'x': bad"}, bad="value=37.5"),
        Answer(422, {"code": "unprocessable entity", "message": "schema conflict"}, bad="value=37.5"),
        Answer(
            400,
            {
                "error": "partial write of line protocol occurred",
                "data": [{"error_message": "invalid column"}],
            },
            bad="value=37.5",
        ),
    ],
    ids=["parse", "schema", "3.x"],
)
def test_a_batch_that_is_refused_for_one_point_loses_that_point_only(
    influx2: Influx2, answer: Answer
) -> None:
    influx2.always = answer
    refused = sink(influx2).send(readings(100))
    assert refused is not None
    assert refused.count == 1
    assert len(influx2.kept) == 99


def test_a_batch_that_is_too_large_is_sent_in_parts_and_only_what_is_large_by_itself_is_left_out(
    influx2: Influx2,
) -> None:
    influx2.always = Answer(413, {"code": "request too large"}, bad="xxxx")
    refused = sink(influx2).send([*readings(20), message(20, {"value": 1, "text": "x" * 5000})])
    assert refused is not None
    assert refused.count == 1
    assert len(influx2.kept) == 20


def test_a_partial_write_is_not_repeated(influx2: Influx2) -> None:
    body = {
        "code": "unprocessable entity",
        "message": "failure: partial write: field type conflict dropped=2",
    }
    influx2.answers.append(Answer(422, body))
    refused = sink(influx2).send(readings(10))
    assert refused is not None
    assert (refused.count, len(influx2.writes)) == (2, 1)
