"""What is told of messages that a paho client has; its answers are set here."""

from __future__ import annotations

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTTMessageInfo

from sensor_hub.outputs.paho_parts import HandedOver


def test_a_number_is_confirmed_when_its_own_message_is_acknowledged() -> None:
    handed_over, info = HandedOver(), MQTTMessageInfo(7)
    assert handed_over.note(info) == 7
    assert not handed_over.confirms(7)  # on_publish was of a message with QoS 0 and the same number
    info._set_as_published()
    assert handed_over.confirms(7)


def test_one_that_the_client_kept_without_a_connection_is_confirmed_too() -> None:
    handed_over, info = HandedOver(), MQTTMessageInfo(7)
    info.rc = MQTT_ERR_NO_CONN
    handed_over.note(info)
    assert not handed_over.confirms(7)
    info._set_as_published()
    assert handed_over.confirms(7)


def test_a_number_that_comes_again_is_that_of_the_later_message() -> None:
    handed_over, first, second = HandedOver(), MQTTMessageInfo(7), MQTTMessageInfo(7)
    handed_over.note(first)
    first._set_as_published()
    assert handed_over.confirms(7)
    handed_over.note(second)
    assert not handed_over.confirms(7)
