"""When a request is there as a whole, and which ones are for /health's own threads."""

from __future__ import annotations

import pytest

from services.web_worker import MAX_BODY_BYTES, MAX_HEAD_BYTES, is_for_health, is_whole

POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    b"x" * (MAX_HEAD_BYTES + 1),
    POST + b"Content-Length: 3\r\n\r\nabc",
    POST + b"content-length:3\r\nX: y\r\n\r\nabcGET / HT",
    POST + b"Content-Length: 0\r\n\r\n",
    POST + b"Content-Length: ten\r\n\r\n",
    POST + b"Content-Length: -5\r\n\r\n",
    POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
    POST + b"Content-Length: %d\r\n\r\n" % 10**30,
    POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n000;x=y\r\nTrailer: z\r\n\r\n",
    CHUNKED + b"x" * (MAX_BODY_BYTES + 1),
]
PART = [
    b"",
    b"G",
    b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"\x16\x03\x01\x02\x00",
    POST + b"Content-Length: 3\r\n\r\nab",
    POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES,
    CHUNKED,
    CHUNKED + b"3\r\nabc\r\n0\r\n",
    CHUNKED + b"a0\r\n\r\n",
]


@pytest.mark.parametrize("data", WHOLE)
def test_a_request_is_whole(data: bytes) -> None:
    assert is_whole(data)


@pytest.mark.parametrize("data", PART)
def test_a_request_is_not_whole_yet(data: bytes) -> None:
    assert not is_whole(data)


@pytest.mark.parametrize(
    ("data", "own"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"HEAD /health?x=y HTTP/1.1\r\n\r\n", True),
        (b"GET /healthy HTTP/1.1\r\n\r\n", False),
        (b"GET /sensor/a HTTP/1.1\r\nX: GET /health \r\n\r\n", False),
        (b"POST /health HTTP/1.1\r\n\r\n", False),
        (b"GET /health HTTP/1.1\r\nContent-Length: 9\r\n\r\n", False),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", False),
    ],
)
def test_only_a_request_for_health_without_a_body_gets_its_threads(data: bytes, own: bool) -> None:
    assert is_for_health(data) is own
