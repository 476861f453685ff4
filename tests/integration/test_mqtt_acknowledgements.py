"""An acknowledgement that never comes while all else does: a real broker behind a line that swallows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.config import load
from sensor_hub.outputs import acknowledgements
from sensor_hub.outputs.base import Disconnected, Event, Message
from sensor_hub.outputs.platform_mqtt import PlatformMqtt
from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, mosquitto
from tests.contract.relay import Relay
from tests.support import eventually

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)]
PUBACK = 0x40


class Swallower:
    """Lets through what a broker sends but for acknowledgements, when it is told to. Packets here are short."""

    def __init__(self) -> None:
        self.hungry = False
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        out, self._rest = b"", self._rest + data
        while len(self._rest) >= 2 and len(self._rest) >= (length := 2 + self._rest[1]):
            assert self._rest[1] < 128
            packet, self._rest = self._rest[:length], self._rest[length:]
            out += b"" if self.hungry and packet[0] == PUBACK else packet
        return out


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as running:
        yield running


def test_a_message_that_is_not_acknowledged_is_sent_again_over_a_new_connection(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "STUCK_S", 2.0)
    events, swallower = list[Event](), Swallower()
    with Relay(broker.port, swallower) as relay, Witness(broker.port) as witness, capture_logs() as lines:
        through = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(relay.port)}
        hub = load({"INSTANCE_NAME": "sensor_hub_01", **through}, secrets_dir=tmp_path)
        output, told = PlatformMqtt(hub), list[int]()
        output.start(events.append)
        output.when_acknowledged(told.append)
        try:
            eventually(lambda: output.connected)
            swallower.hungry = True
            number = output.hand_over(Message("some/topic", "{}"))
            assert number is not None
            witness.wait_for("some/topic")
            assert not output.confirms(number)

            def hung_up() -> bool:
                output.problem()
                return any(isinstance(event, Disconnected) for event in events)

            eventually(hung_up, 60)
            swallower.hungry = False

            def is_acknowledged() -> bool:
                output.problem()
                return number in told and output.confirms(number)

            eventually(is_acknowledged, 100)
            eventually(lambda: len(witness.seen("some/topic")) >= 2)
            assert {message.payload for message in witness.seen("some/topic")} == {b"{}"}
        finally:
            output.stop()
    said = [line["event"] for line in lines]
    assert "a message is not acknowledged, it is sent again over a new connection" in said
