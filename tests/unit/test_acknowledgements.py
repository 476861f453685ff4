"""How long a broker has been silent; its answers are paho's."""

from __future__ import annotations

import pytest
from paho.mqtt.client import MQTT_ERR_CONN_LOST, MQTTMessageInfo

from sensor_hub.outputs.acknowledgements import ASK_AFTER_S, STUCK_S, Acknowledgements


@pytest.fixture
def broker() -> Acknowledgements:
    acknowledgements = Acknowledgements()
    acknowledgements.connected(0)
    return acknowledgements


def sent(broker: Acknowledgements, at: float) -> MQTTMessageInfo:
    info = MQTTMessageInfo(1)
    broker.sent(info, at)
    return info


def test_a_broker_that_owes_nothing_is_not_silent(broker: Acknowledgements) -> None:
    assert broker.silent_s(1000) == 0
    sent(broker, 1000)._set_as_published()
    assert (broker.silent_s(2000), broker.backlog(2000)) == (0, 0)


def test_silence_counts_from_the_oldest_message_that_is_not_acknowledged(broker: Acknowledgements) -> None:
    sent(broker, 10)
    sent(broker, 20)
    assert broker.silent_s(35) == 25
    assert broker.backlog(35) == 2


def test_a_slow_broker_that_answers_is_not_silent(broker: Acknowledgements) -> None:
    infos = [sent(broker, 10) for _ in range(5)]
    for step, info in enumerate(infos[:4]):
        info._set_as_published()
        assert broker.silent_s(30 + 15 * step) == 0
    assert broker.silent_s(30 + 15 * 3 + 7) == 7


def test_a_broker_of_which_nothing_was_heard_is_asked_once(broker: Acknowledgements) -> None:
    assert not broker.asks(ASK_AFTER_S)
    assert broker.asks(ASK_AFTER_S + 1)
    assert not broker.asks(ASK_AFTER_S + 2)
    assert broker.silent_s(ASK_AFTER_S + 11) == 10
    broker.answered(ASK_AFTER_S + 12)
    assert broker.silent_s(ASK_AFTER_S + 20) == 0
    assert broker.asks(2 * ASK_AFTER_S + 13)


def test_a_new_connection_owes_what_is_sent_again_and_no_more(broker: Acknowledgements) -> None:
    broker.sent(MQTTMessageInfo(1), 1, survives=False)
    again = sent(broker, 2)
    broker.connected(100)
    assert (broker.silent_s(105), broker.backlog(105)) == (5, 1)
    again._set_as_published()
    assert (broker.silent_s(200), broker.backlog(200)) == (0, 0)


def test_what_is_never_acknowledged_is_noticed_although_the_broker_speaks(broker: Acknowledgements) -> None:
    stuck = sent(broker, 0)
    sent(broker, 1)._set_as_published()
    broker.answered(STUCK_S)
    assert not broker.is_stuck(STUCK_S)
    assert broker.is_stuck(STUCK_S + 1)
    broker.connected(STUCK_S + 2)  # sent again, and patience is twice as long
    assert not broker.is_stuck(3 * STUCK_S + 2)
    assert broker.is_stuck(3 * STUCK_S + 3)
    stuck._set_as_published()
    assert not broker.is_stuck(100 * STUCK_S)
    sent(broker, 100 * STUCK_S)
    assert broker.is_stuck(101 * STUCK_S + 1)


def test_a_slow_broker_that_acknowledges_is_not_stuck(broker: Acknowledgements) -> None:
    infos = [sent(broker, 0) for _ in range(10)]
    for step, info in enumerate(infos, start=1):
        info._set_as_published()
        assert not broker.is_stuck(step * STUCK_S)


def test_a_message_that_was_lost_with_its_connection_is_not_waited_for(broker: Acknowledgements) -> None:
    sent(broker, 1).rc = MQTT_ERR_CONN_LOST
    assert broker.backlog(2) == 0


def test_what_is_acknowledged_behind_one_that_never_is_is_no_backlog(broker: Acknowledgements) -> None:
    stuck = sent(broker, 1)
    infos = [sent(broker, 1) for _ in range(10_001)]
    assert broker.backlog(2) == 10_002
    for info in infos[1:]:
        info._set_as_published()
    assert broker.backlog(4) == 2
    assert broker.is_stuck(2 + STUCK_S)  # that of the first is none the less owed
    infos[0]._set_as_published()
    stuck._set_as_published()
    assert broker.backlog(5 + STUCK_S) == 0
