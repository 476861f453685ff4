"""What InfluxDB's answers to a write mean: which of them are about points, which about the request.

1.x says `{"error": …}`, 2.x `{"code": …, "message": …}`, 3.x `{"error": …, "data": [{"error_message": …, …}]}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, auto

from sensor_hub.outputs.influxdb_http import Answer
from sensor_hub.readings import Json

RETRY_AFTER_MAX_S = 300.0
# 1.x and 2.x keep what is good of a batch and say so; that other words are about points and not for the request is
# known by these, in an answer that is JSON (400 also means a wrong database or a proxy, and those must not cost a
# single reading; nor must a limit, which somebody raises).
_PARTIAL = re.compile(r"partial write:.*\bdropped=(\d+)", re.DOTALL)
_POINTS = re.compile(
    r"unable to parse '|field type conflict|schema conflict|partial write|invalid column type|beyond retention"
    r"|pars\w+ (failed for )?(line protocol|write_lp)|line protocol pars|errors encountered on line"
    r"|invalid (field|tag)",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"partial write: max-[a-z-]+ limit exceeded|would exceed (number|limit) of", re.IGNORECASE
)
_UNREADABLE = re.compile(
    r"unable to parse '|pars\w+ (failed for )?(line protocol|write_lp)|line protocol pars", re.IGNORECASE
)
_NO_POLICY = re.compile(r"retention policy (\S+ )?(not found|does not exist)", re.IGNORECASE)
_NOT_INFLUXDB = "is that InfluxDB?"
_ADVICE = {
    401: "username and password, or token, are wrong or missing",
    403: "the credentials may not write there",
    404: "no such database, retention policy, bucket or organisation",
}


class Fault(Enum):
    """What an answer finds wrong. Only points are ever left out."""

    REQUEST = auto()  # also everything that is not understood
    SIZE = auto()
    POINTS = auto()  # one at least, and none may have been written
    SOME_POINTS = auto()  # and the others were written


def is_taken(answer: Answer) -> bool:
    """All of it is there. 204; some say 200 (the first 3.x did) with nothing or with a few words of JSON."""
    if answer.status == 204:
        return True
    if not 200 <= answer.status < 300:
        return False
    if not answer.body.strip():
        return True
    said = _body_of(answer)
    return said is not None and not _words_of(said) and not {"errors", "code"} & said.keys()


def fault_of(answer: Answer) -> Fault:
    """Of an answer that is no success."""
    if answer.status == 413:
        return Fault.SIZE
    said = _body_of(answer)
    # 201: 3.x (Dedicated, Clustered) says so what it left out of a batch that it took.
    if answer.status not in (201, 400, 422) or said is None:
        return Fault.REQUEST
    words = _words_of(said)
    if _LIMIT.search(words) or not _POINTS.search(words):
        return Fault.REQUEST
    return Fault.SOME_POINTS if _PARTIAL.search(words) or answer.status == 201 else Fault.POINTS


def is_unreadable(answer: Answer) -> bool:
    """It says that it could not read what it was sent, not that it does not want it."""
    said = _body_of(answer)
    return said is not None and _UNREADABLE.search(_words_of(said)) is not None


def _body_of(answer: Answer) -> Mapping[str, Json] | None:
    """Databases answer with a JSON object; a page of HTML is a proxy's."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _words_of(body: Mapping[str, Json]) -> str:
    """What it says, without the lines that it quotes in fields of their own."""
    details = body.get("data")
    rows = details if isinstance(details, list) else [details]
    found = [each.get("error_message") for each in rows if isinstance(each, dict)]
    return "\n".join(str(each) for each in (body.get("error"), body.get("message"), *found) if each)


def reason_of(answer: Answer) -> str:
    """All that the database says, on one line; it has several forms for that."""
    body = _body_of(answer)
    text = ""
    if body is not None:
        details = body.get("data")
        parts = [body.get("error"), body.get("message"), json.dumps(details) if details else None]
        text = ": ".join(str(part) for part in parts if part)
    return " ".join((text or answer.text[:1000]).split())


def dropped_in(reason: str) -> int:
    """How many points the database left out, by its own words for SOME_POINTS."""
    found = _PARTIAL.search(reason)
    # Of lines that it cannot parse, 1.x says that it dropped none.
    return int(found[1]) if found and int(found[1]) else max(1, reason.count("unable to parse"))


def shortened(reason: str) -> str:
    """For a line of the log; what matters most is said first."""
    return reason if len(reason) <= 300 else reason[:297] + "..."


def in_words(answer: Answer, reason: str) -> str:
    """For people: why a request was not taken, and what may help."""
    if 200 <= answer.status < 300:
        what = "an error" if _body_of(answer) is not None else "a page"
        return f"HTTP {answer.status} with {what}: {_NOT_INFLUXDB} {shortened(reason)}"
    advice = _ADVICE.get(answer.status)
    if _NO_POLICY.search(reason):
        advice = "no such retention policy in the database"
    said = f"HTTP {answer.status}" + (f" {answer.reason}" if answer.reason else "")
    return ": ".join(part for part in (said, advice, shortened(reason)) if part)


def retry_after_s(answer: Answer) -> float | None:
    """When the database wants to be asked again."""
    try:
        return min(RETRY_AFTER_MAX_S, max(0.0, float(answer.headers.get("Retry-After", ""))))
    except ValueError:
        return None
