"""What every type of output must do. Derive a class named Test… from OutputSuite and say what its receiver is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs import check_output
from sensor_hub.outputs.sink import NO_INFO, Message, NotTakenError, Sink
from sensor_hub.readings import Json

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
Got = tuple[str, Json, datetime]  # device id, its `value`, when it was read


class Receiver(Protocol):
    """Where the messages shall arrive."""

    options: dict[str, Json]

    def got(self) -> Sequence[Got]:
        """What has arrived, in its order; what came twice and can be told so, once."""

    def leave(self) -> None:
        """Take nothing from now on."""

    def come_back(self) -> None:
        """Take what comes from now on."""


def message(number: int, data: dict[str, Json], when: datetime = NOON, **facts: Any) -> Message:
    given = {
        "id": f"0123456789ab-{number}",
        "device_id": "cellar",
        "device_type": "temperature",
        "timestamp": when.isoformat(timespec="milliseconds"),
        "quality": "good",
        "source_transport": "bus0",
        "target_transport": "history",
        "data": data,
        "source_transport_info": {**NO_INFO, "manufacturer": "Acme, Inc.", "model": "HP 5=b c"},
        "extra": {},
    }
    return Message(**{**given, **facts})


def readings(count: int, first: int = 0) -> list[Message]:
    """One each second, their values their numbers."""
    return [
        message(number, {"value": number + 0.5}, NOON + timedelta(seconds=number))
        for number in range(first, first + count)
    ]


def expected(count: int) -> list[Got]:
    return [("cellar", number + 0.5, NOON + timedelta(seconds=number)) for number in range(count)]


class OutputSuite:
    """`kind` is the type in OUTPUTS; `receiver` is where it delivers to."""

    kind: type[Sink]

    @pytest.fixture
    @abstractmethod
    def receiver(self) -> Receiver:
        """One that takes messages."""

    def output(self, receiver: Receiver) -> OutputConfig:
        return OutputConfig("history", self.kind.name, "config.outputs[0]", receiver.options)

    @pytest.fixture
    def sink(self, receiver: Receiver, tmp_path: Path) -> Iterator[Sink]:
        made = self.kind(self.output(receiver), "hub1", tmp_path)
        yield made
        made.close()

    def test_its_options_are_found_to_be_good(self, receiver: Receiver) -> None:
        assert list(self.kind.check(self.output(receiver))) == []

    def test_an_option_that_there_is_not_is_refused_with_its_path(self, receiver: Receiver) -> None:
        output = OutputConfig(
            "history", self.kind.name, "config.outputs[0]", {**receiver.options, "nonsense": 1}
        )
        found = [(each.path, each.message.partition(";")[0]) for each in self.kind.check(output)]
        assert found == [("config.outputs[0].nonsense", "unknown key")]

    def test_every_message_arrives_with_its_value_and_its_time(self, sink: Sink, receiver: Receiver) -> None:
        assert sink.send(readings(50)) is None
        assert list(receiver.got()) == expected(50)

    def test_what_comes_again_can_be_told_to_be_the_same(self, sink: Sink, receiver: Receiver) -> None:
        sink.send(readings(20))
        sink.send(readings(20)[5:])
        assert list(receiver.got()) == expected(20)

    def test_strange_names_and_values_neither_break_it_nor_each_other(
        self, sink: Sink, receiver: Receiver
    ) -> None:
        strange: dict[str, Json] = {"a b,c=d": 'x"y\\', "deep": {"list": [1, None]}, "none": None, "on": True}
        refused = sink.send([message(0, {"value": 0.5, **strange}, device_id="x:.-_"), *readings(1, 1)])
        assert refused is None
        assert [(device_id, value) for device_id, value, _ in receiver.got()] == [
            ("x:.-_", 0.5),
            ("cellar", 1.5),
        ]

    def test_a_receiver_that_is_away_is_said_and_gets_everything_when_it_is_back(
        self, sink: Sink, receiver: Receiver
    ) -> None:
        sink.send(readings(10))
        receiver.leave()
        for _ in range(2):
            with pytest.raises(NotTakenError, match=r"."):
                sink.send(readings(10, 10))
        receiver.come_back()
        assert sink.send(readings(10, 10)) is None
        assert list(receiver.got()) == expected(20)

    def test_one_that_was_closed_goes_on_when_it_gets_more(self, sink: Sink, receiver: Receiver) -> None:
        sink.send(readings(10))
        sink.close()
        sink.close()
        sink.send(readings(10, 10))
        assert list(receiver.got()) == expected(20)

    def test_another_of_its_kind_goes_on_after_it(
        self, sink: Sink, receiver: Receiver, tmp_path: Path
    ) -> None:
        sink.send(readings(10))
        sink.close()
        another = self.kind(self.output(receiver), "hub1", tmp_path)
        another.send(readings(10, 10))
        another.close()
        assert list(receiver.got()) == expected(20)

    def test_it_is_known_by_its_name(self, receiver: Receiver) -> None:
        assert list(check_output(self.output(receiver))) == []
