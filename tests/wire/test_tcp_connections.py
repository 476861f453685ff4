"""Connections of Modbus TCP that break, as users see them over REST: what each is called, and that it passes.

Here and not with the emulator (tests/integration/test_line_faults.py), because it has no Modbus TCP, and because a
reset, a connection that swallows everything and a host that answers nothing are not made by any device: a relay
before a server of pymodbus makes them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.contract.services import Api, Instance, in_process, plc
from tests.support import eventually
from tests.wire.relay import HOST, Relay
from tests.wire.scripted_peers import register

WITHIN_S = 60.0
SENSORS = ("plc", "good")


class Site:
    """The handler, a line behind a relay, and one without, which must not notice."""

    def __init__(self, api: Api, relay: Relay) -> None:
        self.api, self.relay = api, relay

    def transport(self, name: str) -> dict[str, Any]:
        found = {each["transport_id"]: each for each in self.api.get("/transports")["transports"]}
        transport: dict[str, Any] = found[name]
        return transport

    def is_offline(self, code: str) -> bool:
        reading = self.api.readings()["plc"]
        return reading["status"] == "offline" and reading.get("error") == code

    def are_well(self, *sensor_ids: str) -> bool:
        readings = self.api.readings()
        return all(
            (readings[each]["status"], readings[each].get("value")) == ("online", 22.5) for each in sensor_ids
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(plc())
        server.inputs[1] = {1: 225}
        relay = Relay(server.port)
        stack.callback(relay.close)
        common = {"driver": "modbus_tcp", "read_interval": 0.1, "reconnect_backoff_ms": 200}
        transports = [
            {"transport_id": "plc", "url": relay.url, "timeout_s": 0.2, **common},
            {"transport_id": "good", "url": server.url, "timeout_s": 3, **common},
        ]
        where = register("input", 1, data_type="int16", scale=0.1)
        sensors = [
            {"sensor_id": name, "sensor_type": "generic", "transport": name, "unit_id": 1, "register": where}
            for name in SENSORS
        ]
        sensors[0]["stale_after"] = 1
        content = {"transports": transports, "sensors": sensors}
        instance = Instance(tmp_path_factory.mktemp("tcp"), content)
        found = Site(stack.enter_context(in_process(instance, "serial-handler")), relay)
        eventually(lambda: found.are_well(*SENSORS), WITHIN_S)
        yield found


@pytest.fixture(autouse=True)
def _the_good_line_notices_nothing(site: Site) -> Iterator[None]:
    """Whatever a test does to the other; and what it did has passed in the end."""
    before = site.transport("good")
    yield
    eventually(lambda: site.are_well(*SENSORS), WITHIN_S)
    reads = before["counters"]["reads"]
    eventually(lambda: site.transport("good")["counters"]["reads"] > reads, WITHIN_S)
    after = site.transport("good")
    assert (after["state"], after["since"]) == ("up", before["since"])


def test_a_refused_connection_is_transport_down_until_somebody_listens_again(site: Site) -> None:
    site.relay.refuse()
    try:
        eventually(lambda: site.is_offline("TRANSPORT_DOWN"), WITHIN_S)
        eventually(lambda: "Connection refused" in str(site.transport("plc")["last_error"]), WITHIN_S)
    finally:
        site.relay.listen_again()
    eventually(lambda: site.are_well("plc"), WITHIN_S)
    eventually(lambda: site.transport("plc")["state"] == "up", WITHIN_S)


def test_a_connection_that_is_reset_is_made_anew(site: Site) -> None:
    callers = site.relay.callers
    site.relay.reset()
    eventually(lambda: site.relay.callers > callers, WITHIN_S)
    eventually(lambda: site.are_well("plc"), WITHIN_S)
    eventually(lambda: site.transport("plc")["state"] == "up", WITHIN_S)


def test_a_connection_that_swallows_everything_is_given_up_for_a_new_one(site: Site) -> None:
    callers, since = site.relay.callers, site.transport("plc")["since"]
    site.relay.hang()
    eventually(lambda: site.is_offline("READ_TIMEOUT"), WITHIN_S)
    eventually(lambda: site.relay.callers > callers, WITHIN_S)
    eventually(lambda: site.are_well("plc"), WITHIN_S)
    assert site.transport("plc")["since"] == since  # it was no loss of the line


@contextmanager
def that_drops_all_calls(port: int) -> Iterator[None]:
    """A port whose queue is full: the kernel says nothing to who comes next."""
    with socket.socket() as hole, socket.socket() as waiting:
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind((HOST, port))
        hole.listen(0)
        waiting.setblocking(False)
        waiting.connect_ex((HOST, port))
        yield


def test_a_host_that_answers_nothing_at_all_is_transport_down(site: Site) -> None:
    site.relay.refuse()
    try:
        with that_drops_all_calls(site.relay.port):
            eventually(lambda: "timed out" in str(site.transport("plc")["last_error"]), WITHIN_S)
            eventually(lambda: site.is_offline("TRANSPORT_DOWN"), WITHIN_S)
    finally:
        site.relay.listen_again()
    eventually(lambda: site.are_well("plc"), WITHIN_S)
