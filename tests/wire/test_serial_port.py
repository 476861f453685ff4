"""Serial ports: found by path, by link or by what their hardware says; and why one cannot be opened."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from serial.tools import list_ports  # type: ignore[import-untyped]
from serial.tools.list_ports_common import ListPortInfo  # type: ignore[import-untyped]

from sensor_hub.drivers.serial_port import Port, open_port
from sensor_hub.errors import TransportDown
from tests.wire.scripted_peers import PtyPeer, on_pty


def opened(url: str) -> Port:
    return open_port(url, baudrate=19200)


@contextmanager
def unserved_pty() -> Iterator[tuple[str, int]]:
    """A pseudo-terminal that nobody serves: its path, and its other end."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield os.ttyname(slave), master
    finally:
        os.close(master)
        os.close(slave)


def why_not(url: str) -> str:
    with pytest.raises(TransportDown) as caught:
        opened(url)
    return str(caught.value)


def plug_in(monkeypatch: pytest.MonkeyPatch, **ports: str) -> None:
    """Serial number -> path, as the system's list of ports."""
    found = []
    for serial_number, path in ports.items():
        info = ListPortInfo(path)
        info.hwid = f"USB VID:PID=0403:6001 SER={serial_number} LOCATION=1-1"
        found.append(info)
    monkeypatch.setattr(list_ports, "comports", lambda *_: found)


def hears(port: Port, peer: PtyPeer) -> bool:
    peer.send(b"22.5\n")
    return port.read(5) == b"22.5\n"


@pytest.fixture
def descriptors_to_1023_are_taken() -> Iterator[None]:
    """All that select() takes are in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as stack:
        while (taken := os.open(os.devnull, os.O_RDONLY)) < 1024:
            stack.callback(os.close, taken)
        os.close(taken)
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_with_a_descriptor_beyond_1023_is_read_and_written(
    descriptors_to_1023_are_taken: None,
) -> None:
    with unserved_pty() as (path, master):
        port = opened(path)
        os.write(master, b"22.5\n")
        assert port.read(5) == b"22.5\n"
        port.write(b"W\r\n")
        assert os.read(master, 100) == b"W\r\n"
        port.close()


def test_a_socket_with_a_descriptor_beyond_1023_is_down_with_the_reason_and_closed_again(
    descriptors_to_1023_are_taken: None,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = len(os.listdir("/proc/self/fd"))
        assert "too many open files" in why_not(f"socket://127.0.0.1:{server.getsockname()[1]}")
        assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_other_side_does_not_take_is_transport_down() -> None:
    with unserved_pty() as (path, _):
        port = opened(path)
        with pytest.raises(TransportDown, match="Write timeout"):
            port.write(b"x" * 1_000_000)


def test_a_link_by_id_is_followed_at_every_opening(tmp_path: Path) -> None:
    link = tmp_path / "usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"
    with on_pty() as first, on_pty() as second:
        for peer in (first, second):  # plugged in again, it has another name
            link.unlink(missing_ok=True)
            link.symlink_to(peer.path)
            port = opened(str(link))
            assert hears(port, peer)
            port.close()


def test_a_port_is_found_by_its_serial_number_at_every_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_pty() as first, on_pty() as second:
        for mine, other in ((first, second), (second, first)):
            plug_in(monkeypatch, A50285BI=mine.path, B0000001=other.path)
            port = opened("hwgrep://SER=A50285BI")
            assert hears(port, mine)
            port.close()


def test_of_several_that_match_one_may_be_picked_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_pty() as one, on_pty() as other:
        plug_in(monkeypatch, A1=one.path, A2=other.path)
        first, second = sorted((one, other), key=lambda peer: peer.path)
        for url, peer in (("hwgrep://FFFF|0403&n=1", first), ("hwgrep://0403&n=2", second)):
            port = opened(url)
            assert hears(port, peer)
            port.close()
        assert "only 2 ports match" in why_not("hwgrep://0403&n=3")


def test_a_port_that_is_not_there_is_told_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, B0000001="/dev/ttyUSB7")
    message = why_not("hwgrep://A50285BI")
    assert message.startswith("cannot open hwgrep://A50285BI: no port matches; there are /dev/ttyUSB7 (USB ")
    plug_in(monkeypatch)
    assert why_not("hwgrep://A50285BI").endswith("no port matches; there is no port at all")


def test_a_missing_path_asks_whether_it_is_plugged_in(tmp_path: Path) -> None:
    path = tmp_path / "ttyUSB0"
    assert why_not(str(path)) == f"cannot open {path}: No such file or directory; is it plugged in?"


def test_a_port_that_another_has_open_is_in_use() -> None:
    with on_pty() as peer:
        port = opened(peer.path)
        assert why_not(peer.path) == f"cannot open {peer.path}: it is in use by another program"
        port.close()
        opened(peer.path).close()


def test_a_port_that_another_program_keeps_for_itself_is_in_use() -> None:
    """TIOCEXCL, as screen and others set it; only an almighty root may open such a port."""
    with on_pty() as peer:
        holder = os.open(peer.path, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(holder, termios.TIOCEXCL)
        code = "import sys; from sensor_hub.drivers.serial_port import open_port; open_port(sys.argv[1], baudrate=9600)"
        mortal = ["setpriv", "--bounding-set=-sys_admin"] if os.geteuid() == 0 else []
        tried = subprocess.run(
            [*mortal, sys.executable, "-c", code, peer.path], capture_output=True, text=True, check=False
        )
        os.close(holder)
    assert "TransportDown" in tried.stderr
    assert "it is in use by another program" in tried.stderr


def test_waiting_ends_with_the_first_bytes_or_when_the_time_is_over() -> None:
    with on_pty() as peer:
        port = opened(peer.path)
        started = time.monotonic()
        assert port.read(0.05) == b""
        assert time.monotonic() - started >= 0.05
        peer.send(b"x")
        started = time.monotonic()
        assert port.read(30) == b"x"
        assert time.monotonic() - started < 10
        assert port.read(0) == b""
        port.close()


def test_an_unplugged_port_is_transport_down_and_stays_so() -> None:
    with on_pty() as peer:
        port = opened(peer.path)
        peer.unplug()
        with pytest.raises(TransportDown, match="is gone: (it was unplugged|Input/output error)"):
            port.read(5)
        with pytest.raises(TransportDown, match="is not open"):
            port.read(0)
        with pytest.raises(TransportDown, match="is not open"):
            port.write(b"x")
        port.close()


def test_a_gateway_that_vanishes_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = opened(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
        wait_ms = connection_of(port).getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert wait_ms == 10_000
        connection.close()
        with pytest.raises(TransportDown, match="is gone: the other side closed the connection"):
            port.read(5)


def connection_of(port: Port) -> socket.socket:
    found = port._port._socket
    assert isinstance(found, socket.socket)
    return found


def test_opening_and_closing_leaves_nothing_open() -> None:
    with on_pty() as peer:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            opened(peer.path).close()
        assert len(os.listdir("/proc/self/fd")) == before
