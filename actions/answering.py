"""How every tool talks to the platform: one JSON object in, one out, in time, whatever comes.

stdin {"tool": …, "input": {…}} -> stdout {"ok": true, "result": …} or {"ok": false, "error": {"code",
"message", "retriable"}}; exit code 0 in both cases; logs on stderr.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

INPUT_MAX_BYTES = 1 << 20
DEPTH_MAX = 32
GRACE_S = 1.5  # after the budget: for what cannot be cut short, such as the resolution of a name

Json = Any


class ToolError(Exception):
    """Why there is no result; the message is for the person at the wizard."""

    def __init__(self, code: str, message: str, *, retriable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retriable = retriable


class Job:
    """One call: its input, its deadline, and what can be said if it never ends."""

    def __init__(self, budget_s: float) -> None:
        self._end = time.monotonic() + budget_s
        self.partial: Callable[[], dict[str, Json]] | None = None

    def left_s(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self._end - time.monotonic())

    def limit(self, budget_s: float) -> None:
        """Set an earlier deadline, counted from now."""
        self._end = min(self._end, time.monotonic() + budget_s)


Work = Callable[[dict[str, Json], Job], dict[str, Json]]


def run(tool: str, work: Work, budget_s: float) -> None:
    """Read the call from stdin, do the work, answer and end the process."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever prints, prints to the log
    job = Job(budget_s)
    answers: list[dict[str, Json]] = []
    worker = threading.Thread(target=lambda: answers.append(_answer(tool, work, job)), daemon=True)
    worker.start()
    worker.join(budget_s + GRACE_S)
    answer = answers[0] if answers else _too_late(job, budget_s)
    try:
        out.buffer.write(_encoded(answer) + b"\n")
        out.buffer.flush()
    except (OSError, AttributeError):
        pass  # nobody listens
    os._exit(0)  # a worker that hangs must not keep the process


def log(text: str) -> None:
    """A line for the platform's log."""
    print(text.encode("ascii", "backslashreplace").decode(), file=sys.stderr)


def shown(value: Json) -> str:
    """The value as a message may show it: short, on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _answer(tool: str, work: Work, job: Job) -> dict[str, Json]:
    try:
        return {"ok": True, "result": work(_input(tool), job)}
    except ToolError as error:
        return _failure(error.code, str(error), error.retriable)
    except Exception as error:  # noqa: BLE001 - a traceback is no answer
        log(f"{tool}: {type(error).__name__}: {error}")
        return _failure("internal_error", f"the tool failed ({type(error).__name__}); see its log", False)


def _failure(code: str, message: str, retriable: bool) -> dict[str, Json]:
    return {"ok": False, "error": {"code": code, "message": message, "retriable": retriable}}


def _too_late(job: Job, budget_s: float) -> dict[str, Json]:
    if job.partial is not None:
        return {"ok": True, "result": job.partial()}
    return _failure("timeout", f"no result within {budget_s:g} s", True)


def _input(tool: str) -> dict[str, Json]:
    call = _parsed(_stdin())
    if not isinstance(call, dict):
        raise ToolError("invalid_input", 'expected one JSON object {"tool": …, "input": {…}} on stdin')
    if call.get("tool") not in (None, tool):
        raise ToolError("invalid_input", f"this is the tool {tool!r}, not {shown(call['tool'])}")
    given = call.get("input")
    if not isinstance(given, dict):
        raise ToolError("invalid_input", f"input must be an object, not {shown(given)}")
    return given


def _stdin() -> bytes:
    content = b""
    while len(content) <= INPUT_MAX_BYTES:
        try:
            piece = os.read(0, 65536)
        except OSError:
            piece = b""
        if not piece:
            return content
        content += piece
    raise ToolError("invalid_input", f"the input is larger than {INPUT_MAX_BYTES} bytes")


def _parsed(content: bytes) -> Json:
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ToolError("invalid_input", _TOO_DEEP) from None
    except (ValueError, ArithmeticError) as error:  # also bytes that are no UTF-8, and endless digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise ToolError("invalid_input", f"the input is no JSON ({reason})") from None
    if depth_of(value) > DEPTH_MAX:
        raise ToolError("invalid_input", _TOO_DEEP)
    return value


_TOO_DEEP = f"the input is nested too deeply; at most {DEPTH_MAX} levels are allowed"


def depth_of(value: Json) -> int:
    """Levels of lists and objects in a JSON value; 0 for a plain one."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _no_number(word: str) -> Json:
    raise ValueError(word)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _encoded(answer: dict[str, Json]) -> bytes:
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")  # half a surrogate pair is no text
