"""Clients that send nothing, half a request, or never read: a service under gunicorn answers all others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.contract.services import HOST, Gunicorn, Instance, under_gunicorn
from tests.support import eventually

SERVICE = "http-poller"
MANY = 250  # more than there are threads
HALVES = {
    "nothing": b"",
    "half a head": b"GET /readings?wait=30 HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST /sensor/pir/command HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "half a chunk": b"POST /sensor/pir/command HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{",
    "a promise": b"POST /sensor/pir/command HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    sensor = {
        "sensor_id": "pir",
        "sensor_type": "motion",
        "url": "http://127.0.0.1:9/",
        "commands": {"led": {}},
    }
    instance = Instance(tmp_path_factory.mktemp("clients"), {"sensors": [sensor]})
    with under_gunicorn(instance, SERVICE) as running:
        yield running


@pytest.fixture
def worker(service: Gunicorn) -> psutil.Process:
    (found,) = psutil.Process(service.process.pid).children()
    return found


def connections(stack: ExitStack, service: Gunicorn, count: int, data: bytes) -> list[socket.socket]:
    port = int(service.api.url.rsplit(":", 1)[1])
    found = []
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection((HOST, port), timeout=60))
        connection.sendall(data)
        found.append(connection)
    return found


@pytest.mark.parametrize("data", HALVES.values(), ids=HALVES.keys())
def test_health_answers_within_2_s_while_250_clients_have_sent(service: Gunicorn, data: bytes) -> None:
    with ExitStack() as stack:
        connections(stack, service, MANY, data)
        assert service.api.health_took_s() < 2


def test_other_requests_are_answered_too_while_250_clients_have_sent_half_of_theirs(
    service: Gunicorn,
) -> None:
    with ExitStack() as stack:
        connections(stack, service, MANY, HALVES["half a body"])
        assert service.api.ask("GET", "/sensors").status_code == 200


@pytest.mark.parametrize("data", [HALVES["nothing"], HALVES["half a head"]], ids=["nothing", "half a head"])
def test_a_client_that_does_not_finish_its_request_is_let_go(service: Gunicorn, data: bytes) -> None:
    with ExitStack() as stack:
        (connection,) = connections(stack, service, 1, data)
        assert connection.recv(1) == b""


def test_a_request_in_many_pieces_and_two_in_one_piece_are_answered(service: Gunicorn) -> None:
    request = b"GET /sensors HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        (connection,) = connections(stack, service, 1, b"")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(len(request)):
            connection.sendall(request[number : number + 1])
        connection.sendall(request + request[:20])
        connection.sendall(request[20:])
        answers = b""
        while answers.count(b'"count":1') < 3:
            data = connection.recv(65_536)
            assert data, answers
            answers += data
        assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_promises_a_body_is_told_to_go_on(service: Gunicorn) -> None:
    body = b'{"nope": 1}'
    head = HALVES["a promise"].replace(b"100\r\n", b"%d\r\n" % len(body), 1)
    with ExitStack() as stack:
        (connection,) = connections(stack, service, 1, head)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_a_service_without_file_descriptors_lets_silent_clients_go_and_lives_on(
    service: Gunicorn, worker: psutil.Process
) -> None:
    limit = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 20, limit[1]))
    try:
        with ExitStack() as stack:
            connections(stack, service, 100, b"")
            eventually(service.api.answers, 60)
    finally:
        worker.rlimit(psutil.RLIMIT_NOFILE, limit)
    assert service.api.ask("GET", "/sensors").status_code == 200
    assert worker.is_running()
    assert psutil.Process(service.process.pid).children() == [worker]


def test_more_clients_than_the_service_may_have_cost_the_oldest_silent_one(service: Gunicorn) -> None:
    with ExitStack() as stack:
        connections(stack, service, 1100, b"")
        assert service.api.ask("GET", "/health").status_code == 200


def test_a_service_that_can_start_no_further_thread_still_tells_its_health(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "start = threading._start_new_thread\n"
        "def limited(*arguments):\n"
        '  if len(threading._limbo) + len(threading._active) > 12: raise RuntimeError("can\'t start new thread")\n'
        "  return start(*arguments)\n"
        "threading._start_new_thread = limited\n"
    )
    sensor = {"sensor_id": "pir", "sensor_type": "motion", "url": "http://127.0.0.1:9/"}
    instance = Instance(tmp_path, {"sensors": [sensor]})
    instance.environment["PYTHONPATH"] = str(tmp_path)
    with under_gunicorn(instance, SERVICE) as running, ExitStack() as stack:
        request = b"GET /readings?since=%s&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
        cursor = running.api.get("/readings")["cursor"]
        connections(stack, running, 30, request % cursor.encode())
        for _ in range(3):
            assert running.api.ask("GET", "/health").status_code == 200
