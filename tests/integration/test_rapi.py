"""A charger on a real pseudo-terminal, from its model in the emulator to what the handler says of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from emulator.rapi_charger import Charger
from sensor_hub.errors import DeviceRefused, HubError, ReadOnly, ValueOutOfRange
from sensor_hub.handler import HandlerService
from sensor_hub.readings import Json, Status
from tests.integration.text_hub import command, running
from tests.support import eventually
from tests.wire.text_peers import TextPeer, peer_that

DIALECTS = ("firmware", "emulator")
EV: list[dict[str, Json]] = [{"sensor_id": "ev"}]


class Bench:
    """A charger on a line, and the handler that reads it."""

    def __init__(self, charger: Charger, peer: TextPeer, service: HandlerService) -> None:
        self.charger, self.peer, self.service = charger, peer, service

    def happens(self, event: Callable[[], None]) -> None:
        """Something happens to the charger, which says so."""
        event()
        self.peer.say(self.charger.take_said())

    def last(self) -> dict[str, Any]:
        try:
            return self.service.last("ev")
        except HubError:
            return {}


@contextmanager
def bench(folder: Path, dialect: str, read_interval: float = 60) -> Iterator[Bench]:
    """Without notifications it would be read once a minute."""
    charger = Charger(dialect)
    lock = threading.Lock()

    def hears(data: bytes) -> bytes:
        with lock:
            return charger.heard(data) + charger.take_said()

    with peer_that(hears) as peer:
        transport: dict[str, Json] = {
            "driver": "rapi",
            "url": peer.path,
            "timeout_s": 2,
            "read_interval": read_interval,
        }
        with running(folder, transport, EV) as service:
            found = Bench(charger, peer, service)
            eventually(found.last)
            yield found


@pytest.fixture(params=DIALECTS)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, request.param) as found:
        yield found


def test_a_session_is_told_as_it_goes(either: Bench) -> None:
    assert either.last()["state"] == "ready"
    either.happens(either.charger.plug)
    eventually(lambda: either.last().get("state") == "connected")
    eventually(lambda: either.last().get("vehicle_connected") is True)
    either.happens(either.charger.ask_for_charge)
    eventually(lambda: either.last().get("charging") is True)
    eventually(lambda: either.last().get("current", 0) > 0)
    now = either.last()
    assert now["power"] == now["current"] * 240
    either.charger.pass_time(60)
    fresh = either.service.read("ev")
    assert fresh["session_time"] == 60
    assert fresh["session_energy"] == int(either.charger.session_ws / 3600)
    either.happens(either.charger.unplug)
    eventually(lambda: either.last().get("state") == "ready")


def test_a_fault_is_told_and_clears(either: Bench) -> None:
    either.happens(either.charger.plug)
    either.happens(either.charger.trip)
    eventually(lambda: either.last().get("state") == "fault")
    eventually(lambda: (either.last().get("fault"), either.last().get("gfci_trips")) == ("gfci", 1))
    either.happens(either.charger.clear)
    eventually(lambda: either.last().get("fault") == "none")


def test_a_limit_is_written_and_read_back(either: Bench) -> None:
    answer = command(either.service, "ev", current_limit=10)
    assert (answer["status"], answer["outcome"]) == ("success", "verified")
    assert answer["values"] == {"current_limit": 10}
    assert either.charger.amps == 10
    eventually(lambda: either.last().get("current_limit") == 10)


def test_a_limit_beyond_what_is_configured_in_it_is_kept_below(either: Bench) -> None:
    answer = command(either.service, "ev", current_limit=48)
    assert (answer["values"], answer["outcome"]) == ({"current_limit": 32}, "mismatch")
    assert either.charger.amps == 32


def test_a_limit_that_no_charger_has_is_refused(either: Bench) -> None:
    before = either.charger.amps
    for amps in (0, 81, 10.5):
        with pytest.raises(ValueOutOfRange):
            command(either.service, "ev", current_limit=amps)
    with pytest.raises(ReadOnly):
        command(either.service, "ev", state="charging")
    assert either.charger.amps == before


def test_it_is_put_to_sleep_and_woken(either: Bench) -> None:
    either.happens(either.charger.plug)
    eventually(lambda: either.last().get("state") == "connected")
    assert command(either.service, "ev", enabled=False)["values"] == {"enabled": False}
    eventually(lambda: either.last().get("state") == "sleeping")
    eventually(lambda: either.last().get("enabled") is False)
    assert command(either.service, "ev", enabled=True)["values"] == {"enabled": True}
    eventually(lambda: either.last().get("state") == "connected")


def test_a_service_level_is_written_and_read_back(either: Bench) -> None:
    for level in ("2", "1", "auto"):
        assert command(either.service, "ev", service_level=level)["values"] == {"service_level": level}


def test_a_firmware_is_locked_and_limited(tmp_path: Path) -> None:
    with bench(tmp_path, "firmware") as found:
        assert command(found.service, "ev", locked=True)["values"] == {"locked": True}
        with pytest.raises(DeviceRefused, match=r"refused \$S3 6"):
            command(found.service, "ev", limit_time=90)  # there is no car
        found.happens(found.charger.plug)
        eventually(lambda: found.last().get("state") == "connected")
        values = {"limit_time": 90, "limit_energy": 12}
        assert command(found.service, "ev", **values)["values"] == values
        eventually(lambda: found.last().get("limit_energy") == 12)
        assert found.last()["locked"] is True
        assert found.last()["serial"] == "OpenEVSE03AB12CD"


def test_an_emulator_says_no_to_what_it_has_not_got(tmp_path: Path) -> None:
    with bench(tmp_path, "emulator") as found:
        with pytest.raises(DeviceRefused):
            command(found.service, "ev", locked=True)
        found.happens(found.charger.trip)
        eventually(lambda: found.last().get("state") == "fault")
        with pytest.raises(DeviceRefused, match="fault gfci"):
            command(found.service, "ev", enabled=True)
        assert not {"locked", "limit_time", "total_energy"} & set(found.last())


def test_it_is_read_without_notifications_too(tmp_path: Path) -> None:
    with bench(tmp_path, "emulator", read_interval=0.1) as found:
        found.charger.plug()
        found.charger.take_said()
        eventually(lambda: found.last().get("state") == "connected")
        assert found.service.status("ev") is Status.ONLINE


def test_an_echoing_charger_is_read(tmp_path: Path) -> None:
    with bench(tmp_path, "firmware") as found:
        found.charger._reader.echo = True
        assert found.service.read("ev")["state"] == "ready"
        assert command(found.service, "ev", current_limit=12)["values"] == {"current_limit": 12}


def test_a_charger_that_is_gone_is_down_and_comes_back(tmp_path: Path) -> None:
    with bench(tmp_path, "firmware", read_interval=0.2) as found:
        found.peer.unplug()
        eventually(lambda: found.service.status("ev") is Status.OFFLINE)


@contextmanager
def over_tcp(charger: Charger) -> Iterator[int]:
    """The charger behind a TCP port, as the emulator offers it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    while data := connection.recv(4096):
                        connection.sendall(charger.heard(data) + charger.take_said())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_charger_behind_tcp_is_read_and_written(tmp_path: Path) -> None:
    charger = Charger("emulator")
    with over_tcp(charger) as port:
        transport: dict[str, Json] = {
            "driver": "rapi",
            "url": f"socket://127.0.0.1:{port}",
            "timeout_s": 2,
            "read_interval": 60,
        }
        with running(tmp_path, transport, EV) as service:
            eventually(lambda: service.status("ev") is Status.ONLINE)
            assert service.read("ev")["firmware"] == "8.2.1"
            assert command(service, "ev", current_limit=20)["values"] == {"current_limit": 20}
            assert charger.amps == 20
