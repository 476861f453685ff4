"""The platform's tools as programs: one JSON answer and exit code 0, whatever comes in."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.contract.setup_devices import took
from tests.contract.setup_wizard import ROOT, call, connector_folder

TOOLS = ("validate_setup", "discover", "test_sensor")
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return connector_folder(tmp_path_factory.mktemp("platform"))


class Told(Answer):
    """An answer that says what came instead of what is asked for."""

    def __missing__(self, key: str) -> Any:
        raise AssertionError(f"no {key} in {dict(self)}")


def ask(folder: Path, tool: str, given: Any) -> Answer:
    return Told(call(folder, f"actions/{tool}.py", json.dumps({"tool": tool, "input": given}).encode()))


def refusal(answer: Answer) -> tuple[str, str]:
    assert answer["ok"] is False
    return answer["error"]["code"], answer["error"]["message"]


def nested(levels: int) -> bytes:
    return b'{"input": {"sensors": ' + b"[" * levels + b"]" * levels + b"}}"


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b'{"input": {"x": NaN}}', "no JSON"),
        (b'{"input": {"x": -Infinity}}', "no JSON"),
        (b'{"input": {"x": 1e999}}', "no JSON"),
        (b'{"input": {"x": ' + b"9" * 5000 + b"}}", "no JSON"),
        (nested(40), "nested too deeply"),
        (nested(100_000), "nested too deeply"),
        (b'{"input": {"x": "' + b"y" * (2 << 20) + b'"}}', "larger than 1048576 bytes"),
        (b"[]", "expected one JSON object"),
        (b"null", "expected one JSON object"),
        (b"{}", "input must be an object"),
        (b'{"input": "x"}', "input must be an object"),
        (b'{"tool": "rm", "input": {}}', "this is the tool"),
        (b'{"tool": {"a": []}, "input": {}}', "this is the tool"),
    ],
    ids=lambda value: value[:24].decode("ascii", "replace") if isinstance(value, bytes) else "",
)
def test_what_is_no_call_is_refused(folder: Path, stdin: bytes, told: str) -> None:
    tool = TOOLS[len(stdin) % 3]  # they share the code for this
    code, message = refusal(call(folder, f"actions/{tool}.py", stdin))
    assert code == "invalid_input"
    assert told in message


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_refuses_what_is_no_json(folder: Path, tool: str) -> None:
    assert refusal(call(folder, f"actions/{tool}.py", b"hello"))[0] == "invalid_input"


def test_nobody_on_stdin_is_refused(folder: Path) -> None:
    for tool in TOOLS:
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -S -E actions/{tool}.py <&-"],
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert json.loads(done.stdout)["error"]["code"] == "invalid_input"


def test_a_caller_that_never_ends_its_input_gets_an_answer(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "actions/validate_setup.py"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"input": ')
        process.stdin.flush()
        assert json.loads(process.stdout.read())["error"]["code"] == "timeout"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_caller_that_does_not_listen_is_no_failure(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "actions/discover.py"],
            cwd=folder,
            input=b'{"input": {"what": "serial_ports"}}',
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@contextmanager
def silent_server() -> Iterator[int]:
    """Accepts and says nothing."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for connection in connections:
        connection.close()


def test_hosts_that_hang_cost_no_more_than_was_allowed(folder: Path) -> None:
    with silent_server() as port:
        http = {"what": "http_sensors", "base_url": f"http://127.0.0.1:{port}/", "within_s": 1}
        tcp = {"driver": "modbus_tcp", "host": "127.0.0.1", "tcp_port": port}
        units = {"what": "modbus_units", "line": tcp, "within_s": 1}
        answers: list[Answer] = []
        assert took(lambda: answers.append(ask(folder, "discover", http))) < 12
        assert took(lambda: answers.append(ask(folder, "discover", units))) < 12
        for answer in answers:
            assert answer["ok"]
            assert (answer["result"]["count"], answer["result"]["complete"]) == (0, False)
            assert "not reached: " in answer["result"]["note"]
        sensor = {"sensor_id": "a", "sensor_type": "generic", "url": f"http://127.0.0.1:{port}/"}
        answer = ask(folder, "test_sensor", {"sensors": sensor, "timeout_s": 0.5})
        assert refusal(answer) == ("timeout", "no whole answer within 0.5 s")
        assert answer["error"]["retriable"] is True


def test_the_tools_need_nothing_but_pythons_standard_library() -> None:
    sources = list((ROOT / "actions").glob("*.py"))
    imported = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names <= {path.stem for path in sources}


def test_the_documentation_names_every_code() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "actions").glob("*.py"))
    codes = set(re.findall(r'(?:ToolError|_failure)\(\s*"(\w+)"', sources))
    assert len(codes) > 15
    text = (ROOT / "docs/setup.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_the_documentations_example_is_what_comes(folder: Path) -> None:
    text = (ROOT / "docs/setup.md").read_text(encoding="utf-8")
    stdin, told = re.findall(r"^\$ echo '(.+)' \| python actions/discover\.py\n(.+)$", text, re.M)[1]
    assert call(folder, "actions/discover.py", stdin.encode()) == json.loads(told)


def test_no_module_of_the_tools_hides_one_of_pythons() -> None:
    assert {path.stem for path in (ROOT / "actions").glob("*.py")} & sys.stdlib_module_names == set()


# -- serial ports -----------------------------------------------------------------------------------------


def fake_machine(root: Path) -> None:
    """A USB adapter with a stable name, one that may not be opened, a UART that is not there, a console."""
    usb = root / "sys/devices/usb1/1-2"
    adapter = usb / "1-2:1.0/ttyUSB0"
    for name, text in (
        *(("idVendor", "0403"), ("idProduct", "6001"), ("manufacturer", "FTDI\n")),
        *(("product", "FT232R USB UART"), ("serial", "A600XYZ")),
    ):
        usb.mkdir(parents=True, exist_ok=True)
        (usb / name).write_text(text)
    adapter.mkdir(parents=True)
    tty = root / "sys/class/tty"
    for name in ("ttyUSB0", "ttyS0", "ttyS1", "console"):
        (tty / name).mkdir(parents=True)
    (tty / "ttyUSB0/device").symlink_to(adapter)
    for name, kind in (("ttyS0", "4"), ("ttyS1", "0")):
        (tty / name / "device").mkdir()
        (tty / name / "type").write_text(kind)
    by_id = root / "dev/serial/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-FTDI_FT232R_USB_UART_A600XYZ-if00-port0").symlink_to("../../ttyUSB0")
    for name in ("ttyUSB0", "ttyS0", "ttyS1", "console"):
        (root / "dev" / name).touch()


def test_serial_ports_are_listed_with_their_usb_names_and_a_stable_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_machine(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "actions"))
    import serial_ports

    adapter, uart = serial_ports.listed(tmp_path)
    del sys.modules["serial_ports"]
    assert adapter == {
        "url": "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A600XYZ-if00-port0",
        "device": "/dev/ttyUSB0",
        "label": "/dev/ttyUSB0: FTDI FT232R USB UART, serial number A600XYZ",
        "usable": True,
        "manufacturer": "FTDI",
        "product": "FT232R USB UART",
        "serial_number": "A600XYZ",
        "usb_id": "0403:6001",
        "hardware_id": "USB VID:PID=0403:6001 SER=A600XYZ LOCATION=1-2",
    }
    assert (uart["url"], uart["label"]) == ("/dev/ttyS0", "/dev/ttyS0: serial port")


def test_the_ports_of_this_machine_can_be_asked_for(folder: Path) -> None:
    result = ask(folder, "discover", {"what": "serial_ports"})["result"]
    assert result["count"] == len(result["ports"])
    assert result["complete"] is True
    assert result["ports"] or "no serial port here" in result["note"]
