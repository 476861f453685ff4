"""Eight pairs of emulator and hub on one machine, by the documented shell lines, share nothing by accident."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path

import psutil
import pytest
import requests

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Message, Witness, mosquitto
from tests.integration.emulated import free_port
from tests.support import eventually
from tests.system.hub import BIN, ROOT, environment, new_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO),
    pytest.mark.timeout(500),
]
ON_TERMINALS, OVER_TCP = ("1", "2", "3", "4"), ("5", "6", "7", "8")
NUMBERS = (*ON_TERMINALS, *OVER_TCP)
UP_WITHIN_S = 300.0
DEVICES = {"temperature", "humidity", "co2", "ev", "motion"}


def documented(mark: str) -> str:
    text = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*)\n```", text)
    assert found is not None, mark
    assert "\n" not in found[1]
    return found[1]


class Pairs:
    """All of them; `line` is a shell line with places and ports of this test's own, and one broker for all."""

    def __init__(self, folder: Path, broker_port: int, witness: Witness) -> None:
        self.folder, self.witness, self.name = folder, witness, new_id()
        self.ports = {number: free_port() for number in NUMBERS}
        self._log = (folder / "log").open("wb")
        mqtt = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker_port)}
        env = environment("", folder, UPDATE_INTERVAL="2", **mqtt)
        env |= {"PATH": f"{BIN}:{env['PATH']}", "TMPDIR": str(folder)}
        in_threads = env | {"PARALLELISM": "thread"}
        lines = {
            "pairs on terminals": ("1 2", ON_TERMINALS, env),  # a process for each line
            "pairs over tcp": ("3 4", OVER_TCP, in_threads),
        }
        self._shells = [
            subprocess.Popen(
                ["sh", "-c", self._own(documented(mark), theirs, ours)],
                env=environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
            for mark, (theirs, ours, environ) in lines.items()
        ]

    def _own(self, line: str, theirs: str, ours: tuple[str, ...]) -> str:
        """The same line for four pairs, with ports that are free (`1808$n` is the control page's)."""
        changes = {
            f"for n in {theirs};": f"for n in {' '.join(ours)};",
            "/tmp/pairs": str(self.folder),
            "pair_": f"{self.name}_",
            "run --demo": "run",
        }
        for old, new in changes.items():
            assert old in line, old
            line = line.replace(old, new)
        ports = "; ".join(f"port_{number}={port}" for number, port in self.ports.items())
        line = line.replace("--web-port 1808$n", '--web-port $(eval echo "\\$port_$n")')
        for base in ("1850$n", "1860$n"):
            if base in line:
                own = {number: free_port() for number in ours}
                ports += "".join(f"; p{base[:4]}_{number}={port}" for number, port in own.items())
                line = line.replace(base, f'$(eval echo "\\$p{base[:4]}_$n")')
        return f"{ports}; {line}"

    def id(self, number: str) -> str:
        return f"{self.name}_{number}"

    def put(self, number: str, celsius: float) -> None:
        url = f"http://127.0.0.1:{self.ports[number]}/api/devices/temperature/values/value"
        assert requests.put(url, json={"value": celsius}, timeout=30).ok

    def inject(self, number: str, kind: str) -> None:
        url = f"http://127.0.0.1:{self.ports[number]}/api/lines/bus/faults"
        assert requests.post(url, json={"kind": kind}, timeout=30).status_code == 201

    def answers(self, number: str) -> bool:
        try:
            url = f"http://127.0.0.1:{self.ports[number]}/api/status"
            return bool(requests.get(url, timeout=30).json()["instance_id"] == self.id(number))
        except requests.ConnectionError:
            return False

    def tells(self, number: str, celsius: float, message: Message) -> bool:
        return message.topic == self.topic(number, "state/value") and message.payload == str(celsius).encode()

    def tells_lost(self, number: str, message: Message) -> bool:
        """Whether it says that the line of the pair's hub is down."""
        if message.topic != self.topic(number, "error"):
            return False
        return bool(json.loads(message.payload or b"{}").get("error_code") == "TRANSPORT_DOWN")

    def topic(self, number: str, leaf: str) -> str:
        return f"IoT2mqtt/v1/instances/{self.id(number)}/devices/temperature/{leaf}"

    def processes(self) -> dict[str, list[psutil.Process]]:
        """By number: the hub's, by their INSTANCE_NAME, and the emulator, by its command line."""
        found: dict[str, list[psutil.Process]] = {number: [] for number in NUMBERS}
        number_of = {self.id(number): number for number in NUMBERS}
        for process in psutil.process_iter():
            try:
                words, hub = process.cmdline(), process.environ().get("INSTANCE_NAME", "")
                is_gone = process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            names = {hub, *words} if "emulator" in words else {hub}
            for number in {number_of[name] for name in names & number_of.keys()}:
                found[number] += [] if is_gone else [process]
        return found

    def _are_gone(self) -> bool:
        return not any(self.processes().values())

    def end(self) -> None:
        """As Ctrl-C does: the whole group is told."""
        running = [process for processes in self.processes().values() for process in processes]
        for shell in self._shells:
            os.killpg(shell.pid, signal.SIGINT)
        try:
            psutil.wait_procs(running, 60)
            eventually(self._are_gone, 10)
        finally:
            for processes in self.processes().values():
                for process in processes:
                    process.kill()
            for shell in self._shells:
                shell.kill()
                shell.wait(10)
            self._log.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairs]:
    folder = tmp_path_factory.mktemp("pairs")
    with mosquitto() as broker, Witness(broker.port) as witness:
        begun_s = time.monotonic()
        found = Pairs(folder, broker.port, witness)
        try:
            for number in NUMBERS:
                eventually(partial(found.answers, number), UP_WITHIN_S)
                found.put(number, 20.0 + int(number))
            for number in NUMBERS:
                witness.wait_for(partial(found.tells, number, 20.0 + int(number)), UP_WITHIN_S)
            print(f"eight pairs up after {time.monotonic() - begun_s:.1f} s")
            yield found
        except BaseException:
            print(found.log[-6000:])
            raise
        finally:
            found.end()
            for number in NUMBERS:
                shutil.rmtree(f"/tmp/sensor-hub-{found.id(number)}", ignore_errors=True)


def facts_of(pairs: Pairs) -> dict[str, dict[str, set[str]]]:
    """What the processes of each pair have to themselves: ports, sockets, terminals, files that they write."""
    found: dict[str, dict[str, set[str]]] = {}
    number_of: dict[int | None, str] = {}
    for number, processes in pairs.processes().items():
        number_of |= {process.pid: number for process in processes}
        found[number] = {"ports": set(), "sockets": set(), **files_of(processes)}
        found[number]["files"].discard(str(pairs.folder / "log"))
    for connection in psutil.net_connections("tcp"):
        if connection.pid in number_of and connection.laddr and connection.status == psutil.CONN_LISTEN:
            found[number_of[connection.pid]]["ports"].add(str(connection.laddr.port))
    for connection in psutil.net_connections("unix"):
        if connection.pid in number_of and connection.laddr:
            found[number_of[connection.pid]]["sockets"].add(str(connection.laddr))
    return found


def files_of(processes: list[psutil.Process]) -> dict[str, set[str]]:
    """The terminals that they have open, and the files that they write; what has just been closed is left out."""
    found: dict[str, set[str]] = {"terminals": set(), "files": set()}
    for process in processes:
        with suppress(psutil.Error, OSError):
            found["files"] |= {file.path for file in process.open_files() if set(file.mode) & set("wa+")}
        with suppress(OSError):
            for path in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    found["terminals"] |= set(re.findall(r"^/dev/pts/\d+$", os.readlink(path)))
    return found


def has_all_it_needs(number: str, facts: dict[str, set[str]]) -> bool:
    """Three services, the control page, a terminal for each line, and something to keep."""
    terminals = 2 if number in ON_TERMINALS else 0
    has_files = bool(facts["files"] or facts["sockets"])
    return len(facts["ports"]) >= 4 and len(facts["terminals"]) == terminals and has_files


def test_no_port_socket_terminal_or_file_belongs_to_two_pairs(pairs: Pairs) -> None:
    facts: dict[str, dict[str, set[str]]] = {}

    def are_complete() -> bool:
        facts.update(facts_of(pairs))
        return all(has_all_it_needs(number, facts[number]) for number in NUMBERS)

    eventually(are_complete, 120)
    shared = {
        (kind, one, other): both
        for one, other in combinations(NUMBERS, 2)
        for kind in facts[one]
        if (both := facts[one][kind] & facts[other][kind])
    }
    assert shared == {}


def test_every_link_leads_to_a_terminal_of_its_own_and_every_pid_file_to_its_own_process(
    pairs: Pairs,
) -> None:
    targets = [
        os.readlink(pairs.folder / f"{name}_{number}")
        for number in ON_TERMINALS
        for name in ("bus", "wallbox")
    ]
    assert len(set(targets)) == len(targets) == 8
    pids = {
        number: {int(path.read_text()) for path in Path(f"/tmp/sensor-hub-{pairs.id(number)}").glob("*.pid")}
        for number in NUMBERS
    }
    running = pairs.processes()
    for number in NUMBERS:
        assert pids[number]
        assert pids[number] <= {process.pid for process in running[number]}
    assert len(set().union(*pids.values())) == sum(map(len, pids.values()))


def test_every_hub_publishes_its_own_emulators_devices_and_no_other(pairs: Pairs) -> None:
    def states() -> dict[tuple[str, str], bytes]:
        found = pairs.witness.retained("IoT2mqtt/v1/instances/+/devices/+/state")
        return {(topic.split("/")[3], topic.split("/")[5]): payload for topic, payload in found.items()}

    wanted = {(pairs.id(number), device) for number in NUMBERS for device in DEVICES}
    eventually(lambda: set(states()) == wanted, 120)
    for number in NUMBERS:
        assert (
            pairs.witness.retained(pairs.topic(number, "state/value")).popitem()[1]
            == str(20.0 + int(number)).encode()
        )


def test_what_happens_to_one_emulator_is_seen_by_its_hub_alone(pairs: Pairs) -> None:
    one = NUMBERS[2]
    others = [number for number in NUMBERS if number != one]
    begun_s = time.monotonic()
    pairs.put(one, 77.0)
    pairs.witness.wait_for(partial(pairs.tells, one, 77.0), 60, after_s=begun_s)
    seen = pairs.witness.seen(
        lambda message: message.topic.endswith("/devices/temperature/state/value"), after_s=begun_s
    )
    assert {message.topic for message in seen if message.payload == b"77.0"} == {
        pairs.topic(one, "state/value")
    }
    pairs.inject(one, "disconnect")
    pairs.witness.wait_for(partial(pairs.tells_lost, one), 60, after_s=begun_s)
    failed_s = time.monotonic()
    for number in others:
        pairs.witness.wait_for(pairs.topic(number, "state"), 120, after_s=failed_s)
    lost = [n for n in others if pairs.witness.seen(partial(pairs.tells_lost, n), after_s=begun_s)]
    assert lost == []  # an answer that is late, on a busy machine, is another error
