"""A whole hub as its users run it: a process with an environment, its output, and what it leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

from tests.support import eventually

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SENSOR_HUB = BIN / "sensor-hub"
UP_WITHIN_S = 120.0
# The hub takes 8 s at most, of which it waits for 6.5; the rest is work, for which a busy machine needs longer.
STOPPED_WITHIN_S = 8.0 + 7.0
OURS: tuple[str, ...] = (
    "INSTANCE_NAME",
    "IOT2MQTT_PATH",
    "CONNECTOR_TYPE",
    "MQTT_",
    "EMULATOR_",
    "SERVICE_",
    "LOG_",
    "TZ",
)
OURS += ("UPDATE_INTERVAL", "CACHE_TTL", "POLL_INTERVAL", "SERIAL_HANDLER_", "HTTP_POLLER_")
OURS += ("STATE_AGGREGATOR_", "SENSOR_HUB_", "PYTEST_", "COV_")
DEVICES = ("temp_cellar", "motion_yard")
MARKS = {  # what tells a program's command line from the others'
    "hub-guard": "sensor_hub.guard",
    "mqtt-broker": "sensor_hub.embedded_broker",
    "device-emulator": "emulator",
    "serial-handler": "serial-handler",
    "http-poller": "http-poller",
    "state-aggregator": "state-aggregator",
    "mqtt-bridge": "mqtt_bridge.py",
}


def new_id() -> str:
    """An instance id that nobody else uses."""
    return f"t{uuid.uuid4().hex[:8]}"


def instance_file(root: Path, instance_id: str, **top: Any) -> Path:
    """Write the file of an instance with one emulated thermometer and one motion detector."""
    sensors = [
        {"sensor_id": DEVICES[0], "sensor_type": "temperature", "friendly_name": "Cellar"},
        {"sensor_id": DEVICES[1], "sensor_type": "motion", "friendly_name": "Yard"},
    ]
    document: dict[str, Any] = {"instance_id": instance_id, "config": {"sensors": sensors}} | top
    path = root / "instances" / f"{instance_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def environment(instance_id: str, root: Path, **more: str) -> dict[str, str]:
    """This process's environment less all that a hub understands, plus what an instance needs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return inherited | {
        "INSTANCE_NAME": instance_id,
        "IOT2MQTT_PATH": str(root),
        "EMULATOR_ERROR_RATE": "0",
        **more,
    }


def command(
    *arguments: str, env: Mapping[str, str], cwd: Path = ROOT, within_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `sensor-hub` to its end, in a pipe."""
    line = [str(SENSOR_HUB), *arguments]
    return subprocess.run(
        line, check=False, env=env, cwd=cwd, capture_output=True, text=True, timeout=within_s
    )


class Hub:
    """`sensor-hub run` of one instance. Ended on exit, with all it has started and its files."""

    def __init__(
        self,
        root: Path,
        *options: str,
        instance_id: str = "",
        terminal: bool = False,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `terminal` gives it a pseudo-terminal instead of a pipe. Write its file before."""
        self.id = instance_id or new_id()
        self.cwd = cwd
        self.env = environment(self.id, root, **(env or {}))
        self.lines: list[str] = []
        self._arrived = threading.Condition()
        self._master = -1
        stdout: int = subprocess.PIPE
        if terminal:
            self._master, stdout = pty.openpty()
        self.process = subprocess.Popen(
            [str(SENSOR_HUB), "run", *options],
            env=self.env,
            cwd=cwd,
            stdin=stdout if terminal else subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout == subprocess.PIPE else stdout,
            start_new_session=True,
            preexec_fn=_take_terminal if terminal else None,  # noqa: PLW1509 - one system call
        )
        if terminal:
            os.close(stdout)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- output of {self.id}", *self.lines[-60:], sep="\n")
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOPPED_WITHIN_S + 4)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in leftovers(self.id):
            process.kill()
        self._reader.join(30)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def run_dir(self) -> Path:
        """Where it keeps sockets and links."""
        return Path("/tmp") / f"sensor-hub-{self.id}"

    @property
    def output(self) -> str:
        """All it has said so far."""
        return "\n".join(self.lines)

    def _read(self) -> None:
        if self._master >= 0:
            source: IO[bytes] = os.fdopen(self._master, "rb")
        else:
            assert self.process.stdout is not None
            source = self.process.stdout
        with source:
            try:
                for line in source:
                    with self._arrived:
                        self.lines.append(line.decode(errors="replace").rstrip("\r\n"))
                        self._arrived.notify_all()
            except OSError:  # a terminal that everybody has left
                pass

    def press_ctrl_c(self) -> None:
        """As typed at its terminal."""
        os.write(self._master, b"\x03")

    def wait_for_line(self, pattern: str, within_s: float = UP_WITHIN_S, *, after: int = 0) -> str:
        """The first line that matches the regular expression, from line number `after` on."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [line for line in self.lines[after:] if re.search(pattern, line)]
            return bool(found)

        with self._arrived:
            assert self._arrived.wait_for(there, within_s), f"no line {pattern!r} in:\n{self.output}"
        return found[0]

    def wait_until_online(self, within_s: float = UP_WITHIN_S) -> None:
        """Until the bridge says that the broker took it."""
        self.wait_for_line("mqtt-bridge.*connected to the broker", within_s)

    def facts(self) -> dict[str, Any]:
        """What the launcher has decided, for the command line to find."""
        body = json.loads((self.run_dir / "instance.json").read_text())
        assert isinstance(body, dict)
        return body

    def url(self, service: str) -> str:
        """Where a service is, on loopback by number."""
        return str(self.facts()["urls"][service]).replace("localhost", "127.0.0.1")

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `sensor-hub` with its INSTANCE_NAME, as from another shell."""
        return command(*arguments, env=self.env | more)

    def program(self, name: str) -> psutil.Process:
        """The running process of a supervised program (gunicorn's master), as soon as there is one."""
        eventually(lambda: name in self.programs(), UP_WITHIN_S)
        return self.programs()[name]

    def programs(self) -> dict[str, psutil.Process]:
        """Running programs by name."""
        found: dict[str, psutil.Process] = {}
        for child in self.supervisord().children():
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            found |= {name: child for name, mark in MARKS.items() if mark in words}
        return found

    def supervisord(self) -> psutil.Process:
        """The launcher's own child; besides it the launcher adopts whatever lost its parent."""
        return eventually(self._supervisords, UP_WITHIN_S)[0]

    def _supervisords(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                found += [child] if "supervisor.supervisord" in child.cmdline() else []
        return found

    def stop(self, how: signal.Signals = signal.SIGTERM, within_s: float = STOPPED_WITHIN_S) -> int:
        """Send the signal; the exit code, which must come in time."""
        self.process.send_signal(how)
        return self.ended(within_s)

    def ended(self, within_s: float = STOPPED_WITHIN_S) -> int:
        """Its exit code, which must come in time; the output is then complete."""
        code = self.process.wait(within_s)
        self._reader.join(30)
        return code


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def leftovers(instance_id: str) -> list[psutil.Process]:
    """Every living process of an instance, whoever its parent is now."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("INSTANCE_NAME") == instance_id
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def run_dir_of(instance_id: str) -> Iterator[Path]:
    """The path of a run directory, removed at the end whatever it has become."""
    path = Path("/tmp") / f"sensor-hub-{instance_id}"
    try:
        yield path
    finally:
        if path.is_symlink() or path.is_file():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)


def terminal_output(
    arguments: Sequence[str], env: Mapping[str, str], until: str = "", within_s: float = 120
) -> str:
    """What a `sensor-hub` command shows at a terminal of 120 columns; Ctrl-C once `until` is seen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(SENSOR_HUB), *arguments],
        env={**env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - one system call
    )
    os.close(slave)
    guard = threading.Timer(within_s, process.kill)
    guard.start()
    seen = b""
    pressed = not until
    try:
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
            if not pressed and until in seen.decode(errors="replace"):
                os.write(master, b"\x03")
                pressed = True
        process.wait()
    finally:
        guard.cancel()
        os.close(master)
    assert process.returncode == 0, seen.decode(errors="replace")
    return seen.decode(errors="replace")
