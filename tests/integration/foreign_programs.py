"""Programs that we did not write, as peers of our lines: socat, ser2net, mbpoll, and servers of libmodbus."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.services import HOST, ROOT
from tests.support import eventually

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
UNIT = 3  # of every server here


def missing(*names: str) -> str:
    """Which of these programs are not here, as a reason to skip; empty: none. CI installs them all."""
    found = {name: shutil.which(name, path=PATH) for name in names}
    gone = [name for name, path in found.items() if path is None]
    if "mbpoll" in names and ctypes.util.find_library("modbus") is None:
        gone.append("libmodbus")
    return f"not installed: {', '.join(gone)}" if gone else ""


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips where one is missing, but never in CI."""
    why = missing(*names)
    return pytest.mark.skipif(bool(why) and not os.environ.get("CI"), reason=why)


@contextmanager
def program(
    arguments: Sequence[str], log: Path, ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block; `ready` says when it may be used."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env={**os.environ, "PATH": PATH}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        eventually(lambda: ready() or process.poll() is not None, 30)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Make it end; returns when it has."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@dataclass(frozen=True)
class Cable:
    """Two pseudo-terminals that socat joins, each behind a link with a name that stays, as in /dev/serial/by-id."""

    near: Path
    far: Path

    @classmethod
    def at(cls, directory: Path, name: str) -> Cable:
        return cls(directory / f"{name}-near", directory / f"{name}-far")

    @contextmanager
    def plugged_in(self) -> Iterator[subprocess.Popen[bytes]]:
        """The cable is there until the end of the block, or until its program is ended."""
        ends = [f"pty,raw,echo=0,link={end}" for end in (self.near, self.far)]
        log = self.near.with_suffix(".log")
        with program(["socat", *ends], log, lambda: self.near.exists() and self.far.exists()) as socat:
            yield socat


@contextmanager
def socat_listener(port: int, device: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A cheap serial server: whoever connects has the device's bytes."""
    arguments = [
        "socat",
        f"tcp-listen:{port},bind={HOST},reuseaddr,fork",
        f"file:{device},raw,echo=0,nonblock",
    ]
    with program(arguments, device.with_suffix(".listener.log"), lambda: is_listening(port)) as socat:
        yield socat


@contextmanager
def ser2net(accepter: str, port: int, device: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A serial server; `accepter`: how it is spoken there, `tcp` or `telnet(rfc2217),tcp`."""
    path = device.with_suffix(".yaml")
    path.write_text(
        textwrap.dedent(f"""\
            %YAML 1.1
            ---
            connection: &line
              accepter: {accepter},{HOST},{port}
              connector: serialdev(nouucplock=true),{device},19200n81,local
            """)
    )
    arguments = ["ser2net", "-n", "-d", "-c", str(path)]
    with program(arguments, device.with_suffix(".ser2net"), lambda: is_listening(port)) as running:
        yield running


@contextmanager
def libmodbus(directory: Path, *addresses: str) -> Iterator[subprocess.Popen[bytes]]:
    """Servers of libmodbus, see `libmodbus_server`."""
    log = directory / "libmodbus.log"
    arguments = [sys.executable, "-m", "tests.integration.libmodbus_server", str(UNIT), *addresses]
    with program(arguments, log, lambda: "serving" in log.read_text()) as running:
        yield running


def mbpoll(*arguments: str) -> dict[int, str]:
    """Ask once; reference (from 0) -> what it shows. AssertionError with its words when it does not get it."""
    done = subprocess.run(
        ["mbpoll", "-1", "-0", "-o", "2", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row.split(":", 1) for row in done.stdout.splitlines() if row.startswith("[")]
    return {int(place.strip("[] ")): value.strip() for place, value in rows}


def is_listening(port: int) -> bool:
    """Whether somebody listens there; asks the kernel, as a connection would be somebody's caller."""
    wanted = f":{port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows)
