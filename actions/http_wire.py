"""HTTP, as much as a probe needs: GET a JSON document within a time, and pick values out of it."""

from __future__ import annotations

import http.client
import json
import math
import ssl
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from answering import DEPTH_MAX, Json, ToolError, depth_of
from byte_streams import reason_of

BODY_MAX_BYTES = 1 << 20
REDIRECTS_MAX = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_BOOLEANS = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def values_of(sensor: dict[str, Any], url: str, timeout_s: float) -> dict[str, Json]:
    """The properties of a checked sensor with an endpoint. Raises ToolError saying why there are none."""
    document = get_json(url, headers_of(sensor, url), timeout_s, verify_tls=sensor.get("verify_tls", True))
    motion = sensor["sensor_type"] == "motion"
    optional: tuple[str, ...] = ()
    fields = sensor.get("fields")
    if fields is None:
        optional = ("battery_level", "signal_strength") if motion else ()
        fields = {name: name for name in (("motion_detected", *optional) if motion else ("value",))}
    values = {}
    for name, path in fields.items():
        try:
            value = at(document, path)
        except LookupError:
            if name in optional:
                continue
            raise ToolError("no_value", f"{path} is missing from the answer{_hint(document)}") from None
        if motion and name == "motion_detected":
            value = _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
            if value is None:
                raise ToolError("no_value", f"{path} is not true or false")
        values[name] = value
    return values


def headers_of(sensor: dict[str, Any], url: str) -> dict[str, str]:
    """Headers of the request, with what lets us in."""
    headers = {"Accept": "application/json", "User-Agent": "sensor-hub-setup", **sensor.get("headers", {})}
    if "authorization" in {name.lower() for name in headers}:
        return headers
    auth = sensor.get("auth") or {}
    userinfo, at_sign, _ = urlsplit(url).netloc.rpartition("@")
    if "bearer" in auth:
        headers["Authorization"] = f"Bearer {auth['bearer']}"
    elif "username" in auth:
        headers["Authorization"] = _basic(auth["username"], auth.get("password", ""))
    elif at_sign:
        user, _, password = userinfo.partition(":")
        headers["Authorization"] = _basic(unquote(user), unquote(password))
    return headers


def get_json(url: str, headers: dict[str, str], timeout_s: float, *, verify_tls: bool = True) -> Json:
    """The JSON document at a url. Raises ToolError; its message does not hold the url (it may be a secret)."""
    deadline = time.monotonic() + timeout_s
    for _ in range(REDIRECTS_MAX + 1):
        status, location, body = _get(url, headers, deadline, timeout_s, verify_tls)
        if status in _REDIRECTS and location:
            url = _target(url, location)
            continue
        if not 200 <= status < 300:
            denied = " (user, password or token not accepted)" if status in (401, 403) else ""
            raise ToolError("http_error", f"HTTP {status}{denied}", retriable=status >= 500)
        return _document(body)
    raise ToolError("redirect", f"more than {REDIRECTS_MAX} redirects")


def _target(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        if urlsplit(target)[:2] == urlsplit(url)[:2]:
            return target
    except ValueError:
        pass  # no address at all
    raise ToolError("redirect", "it redirects to another host, which the hub will not follow")


def at(document: Json, path: str) -> Json:
    """The value at a dotted path; numbers are places in lists. Raises LookupError."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document[part]
        elif isinstance(document, list) and part.isascii() and part.isdecimal() and len(part) < 9:
            document = document[int(part)]
        else:
            raise LookupError(part)
    return document


def _get(
    url: str, headers: dict[str, str], deadline: float, timeout_s: float, verify_tls: bool
) -> tuple[int, str | None, bytes]:
    parts = urlsplit(url)
    left_s = max(0.01, deadline - time.monotonic())
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=left_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=left_s)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=?~-._")
    try:
        connection.request("GET", f"{target}?{query}" if query else target, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location"), _body(answer, connection, deadline)
    except ssl.SSLCertVerificationError as error:
        raise ToolError("tls", f"its certificate is not accepted ({error.verify_message})") from None
    except ssl.SSLError as error:
        raise ToolError("tls", f"TLS failed ({error.reason})") from None
    except TimeoutError:
        raise ToolError("timeout", f"no whole answer within {timeout_s:g} s", retriable=True) from None
    except OSError as error:
        raise ToolError("unreachable", f"cannot connect: {reason_of(error)}", retriable=True) from None
    except (
        http.client.HTTPException,
        ValueError,
    ) as error:  # ValueError: a header or name that cannot be sent
        raise ToolError("no_http", f"no HTTP answer ({type(error).__name__})") from None
    finally:
        connection.close()


def _body(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    body = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        piece = answer.read1(65536)
        if not piece:
            return body
        body += piece
        if len(body) > BODY_MAX_BYTES:
            raise ToolError("too_large", f"the answer is larger than {BODY_MAX_BYTES} bytes")


def _document(body: bytes) -> Json:
    try:
        document = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ToolError("no_json", "the answer is not JSON") from None
    if depth_of(document) > DEPTH_MAX:
        raise ToolError("no_json", "the answer is nested too deeply")
    return document


def _refuse(word: str) -> Json:
    raise ValueError(word)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _basic(username: str, password: str) -> str:
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def _hint(document: Json) -> str:
    if isinstance(document, dict) and document:
        return f"; it has {', '.join(str(key)[:40] for key in list(document)[:10])}"
    return "; it is a list" if isinstance(document, list) else ""
