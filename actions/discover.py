"""Look around: serial ports, Modbus units that answer, HTTP sensors. What was found in time, and what was not reached.

Input: `what`, and
  serial_ports   nothing more -> ports
  modbus_units   `line` (a line's form, or a transport), `port` (a chosen serial port), `first`, `last`,
                 `unit_timeout_s` -> units
  http_sensors   `base_url`, `paths` (more paths, one a line), `auth_kind`, `username`, `password`, `token`,
                 `verify_tls`, `timeout_s` -> sensors
`within_s` shortens the search. Result: the list, count, message, complete, note.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import checks
import forms
import http_finds
import http_wire
import modbus_wire
import rules
import serial_ports
import urls
from answering import Job, Json, ToolError, run, shown
from byte_streams import reason_of
from validate_setup import sensor_types

BUDGET_S = 18.0
UNIT_TIMEOUT_S = 0.3
HTTP_TIMEOUT_S = 3.0
PROBES_AT_ONCE = 4  # small devices serve few connections
DOCUMENTS_MAX = 200
PATHS = (
    *("sensors", "api/sensors", "devices", "api/devices", "api", "status", "api/status", "state"),
    *("api/state", "sensor", "values", "readings", "data", "json", "motion", "pir", "api/pir"),
    *("temperature", "humidity"),
)
NOWHERE = "no-such-path"  # who answers there answers the same everywhere


def discover(given: dict[str, Json], job: Job) -> dict[str, Json]:
    """The result for an input. Raises ToolError when the search cannot even begin."""
    what = given.get("what")
    if not isinstance(what, str) or what not in SEARCHES:
        raise ToolError("invalid_input", f"what must be one of {', '.join(SEARCHES)}, not {shown(what)}")
    options = _Options(given)
    job.limit(options.number("within_s", 0.1, BUDGET_S, BUDGET_S))
    return SEARCHES[what](options, job)


class _Options:
    """The input, its numbers checked."""

    def __init__(self, given: dict[str, Json]) -> None:
        self.given = given

    def number(self, key: str, low: float, high: float, default: float) -> float:
        """A number, or the default when it is not given."""
        value = self.given.get(key)
        if checks.blank(value):
            return default
        try:
            return float(checks.number(low, high)(value))
        except checks.WrongError as error:
            raise ToolError("invalid_input", f"{key} {error}") from None


def ports(_options: _Options, _job: Job) -> dict[str, Json]:
    """Serial ports."""
    found = serial_ports.listed()
    note = (
        ""
        if found
        else (
            "no serial port here: the tool sees only what its own container was given;"
            " say its path by hand, or reach the line over the network (socket://, rfc2217://, Modbus TCP)"
        )
    )
    return _result("ports", found, "serial port", [note])


def units(options: _Options, job: Job) -> dict[str, Json]:
    """Modbus units that answer (if only to refuse) to a read of holding register 0."""
    transport = _transport(options)
    # Behind Modbus TCP, 0 and 255 are the connection's own device; on a serial line they are nobody's.
    lowest, highest = (0, 255) if transport["driver"] == "modbus_tcp" else (1, 247)
    first = int(options.number("first", lowest, highest, 1))
    last = int(options.number("last", lowest, highest, 247))
    if first > last:
        raise ToolError("invalid_input", f"first {first} is greater than last {last}")
    timeout_s = options.number("unit_timeout_s", 0.02, 5, UNIT_TIMEOUT_S)
    scan = _Scan(first, last)
    job.partial = scan.result
    with modbus_wire.open_line(transport, job.left_s()) as line:
        scan.run(line, timeout_s, job)
    return scan.result()


class _Scan:
    """Units asked one after the other; late answers count."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last, self._next = first, last, first
        self._found: dict[int, str] = {}
        self._lost = ""

    def run(self, line: modbus_wire.Line, timeout_s: float, job: Job) -> None:
        """Ask until all were asked or the time is over."""
        while self._next <= self._last and job.left_s() > 0:
            try:
                answers = line.ask(self._next, 3, 0, 1, min(timeout_s, job.left_s()))
            except OSError as error:
                self._lost = f"the line was lost: {reason_of(error)}"
                return
            for answer in answers:
                if answer.exception not in modbus_wire.GATEWAY_EXCEPTIONS:
                    self._found[answer.unit_id] = answer.refusal if answer.exception else ""
            self._next += 1

    def result(self) -> dict[str, Json]:
        """What is known so far."""
        found: list[dict[str, Json]] = [
            {"unit_id": unit_id, "label": f"unit {unit_id}" + (f" (says {refusal})" if refusal else "")}
            for unit_id, refusal in sorted(dict(self._found).items())
        ]
        asked = self._next - self._first
        notes = [self._lost]
        if self._next <= self._last:
            missing = (
                f"unit {self._last}" if self._next == self._last else f"units {self._next} to {self._last}"
            )
            notes.append(f"not reached: {missing}; search again from unit {self._next}")
        if len(found) == asked > 5:
            notes.append("every unit id answers: the device probably looks at none, so choose one")
        if not found and not any(notes):
            notes.append("nobody answered: check address, speed, parity and wiring, or give units more time")
        return _result("units", found, "unit", notes, complete=self._next > self._last)


def _transport(options: _Options) -> dict[str, Any]:
    line = options.given.get("line")
    if not isinstance(line, dict):
        raise ToolError("invalid_input", f"line must be an object, not {shown(line)}")
    if "transport_id" not in line:
        line = forms.line_of(line, options.given.get("port"))
    problems = checks.Problems()
    transport = rules.check_transports([line], ["the line"], problems)[0]
    if transport.get("driver") not in (None, *rules.MODBUS_DRIVERS):
        problems.add("the line.driver", "must be modbus_rtu or modbus_tcp")
    problems.raise_if_any()
    return transport


def http_sensors(options: _Options, job: Job) -> dict[str, Json]:
    """HTTP sensors below a base URL: the document itself, usual paths, and what listings name."""
    given = options.given
    try:
        base = urls.http_url("" if checks.blank(given.get("base_url")) else given["base_url"])
    except checks.WrongError as error:
        raise ToolError("invalid_input", f"base_url {error}") from None
    problems = checks.Problems()
    access = forms.access_of(given, given)
    probe = {"sensor_id": "probe", "sensor_type": "generic", "url": base, **access}
    checked = rules.check_sensors([probe], ["access"], [], ["generic"], problems)[0]
    problems.raise_if_any()
    more = given.get("paths")
    extra = more.split() if isinstance(more, str) else []
    timeout_s = options.number("timeout_s", 0.1, 10, HTTP_TIMEOUT_S)
    search = _HttpSearch(base, checked, timeout_s)
    job.partial = search.result
    search.run(extra, job)
    return search.result()


class _HttpSearch:
    """Documents fetched side by side; what hangs is left behind."""

    def __init__(self, base: str, access: dict[str, Any], timeout_s: float) -> None:
        parts = urlsplit(base)
        self._base, self._query = (
            base.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0].rstrip("/"),
            parts.query,
        )
        self._access, self._timeout_s = access, timeout_s
        self._types = sensor_types()
        self._asked: list[str] = []
        self._open: set[str] = set()
        self._late: set[str] = set()
        self._found: dict[str, list[dict[str, Any]]] = {}
        self._reasons: dict[str, int] = {}
        self._answered = self._full = False
        self._guesses: set[str] = set()
        self._done: queue.Queue[tuple[str, Json | ToolError]] = queue.Queue()
        self._waiting: queue.Queue[str] = queue.Queue()

    def run(self, paths: list[str], job: Job) -> None:
        """Ask for the base, these paths and the usual ones until nothing is left or the time is over."""
        for _ in range(PROBES_AT_ONCE):
            threading.Thread(target=self._fetch, args=(job,), daemon=True).start()
        self._ask(self._base + ("" if urlsplit(self._base).path else "/"))
        for path in paths:
            self._ask(f"{self._base}/{path.strip('/')}")
        wanted = set(self._asked)
        self._guesses = {self._ask(f"{self._base}/{path}") for path in (*PATHS, NOWHERE)} - wanted
        while self._open and job.left_s() > 0:
            try:
                url, outcome = self._done.get(timeout=job.left_s())
            except queue.Empty:
                return
            self._open.discard(url)
            if isinstance(outcome, ToolError):
                if outcome.code == "timeout":
                    self._late.add(url)
                if outcome.code != "http_error":
                    self._reasons[str(outcome)] = self._reasons.get(str(outcome), 0) + 1
                elif "not accepted" in str(outcome):
                    self._reasons[str(outcome)] = 1
                continue
            self._answered = True
            self._take(url, outcome)

    def _ask(self, url: str) -> str:
        url += f"?{self._query}" if self._query else ""
        if len(self._asked) >= DOCUMENTS_MAX:
            self._full = True
        elif url not in self._asked:
            self._asked.append(url)
            self._open.add(url)
            self._waiting.put(url)
        return url

    def _fetch(self, job: Job) -> None:
        while job.left_s() > 0:
            url = self._waiting.get()
            outcome: Json | ToolError
            try:
                headers = http_wire.headers_of(self._access, self._access["url"])
                limit_s = max(0.05, min(self._timeout_s, job.left_s()))
                verify = self._access.get("verify_tls", True)
                outcome = http_wire.get_json(url, headers, limit_s, verify_tls=verify)
            except ToolError as error:
                outcome = error
            self._done.put((url, outcome))

    def _take(self, url: str, document: Json) -> None:
        names = http_finds.names_in(document)
        found = [] if names else http_finds.sensors_in(document, url, self._types)
        if found:
            self._found[url] = found
        plain = url.split("?", maxsplit=1)[0].rstrip("/")
        for name in names:
            self._ask(f"{plain}/{quote(name, safe='')}")

    def result(self) -> dict[str, Json]:
        """What is known so far, in the order asked."""
        nowhere = any(f"/{NOWHERE}" in url for url in list(self._found))
        asked = [url for url in self._asked if not (nowhere and url in self._guesses)]
        found = [dict(item) for url in asked for item in self._found.get(url, [])]
        notes = []
        pending = [http_finds.plain_url(url) for url in list(self._asked) if url in self._open | self._late]
        if pending:
            more = f" and {len(pending) - 5} more" if len(pending) > 5 else ""
            notes.append(f"not reached: {', '.join(pending[:5])}{more}")
        if self._full:
            notes.append(f"at most {DOCUMENTS_MAX} documents are looked at")
        if not found and not self._answered and self._reasons:
            notes.append(max(self._reasons, key=lambda reason: self._reasons[reason]))
        elif not found:
            notes.append("nothing there looks like a sensor; give the path of its JSON document")
        return _result(
            "sensors", http_finds.numbered(found), "sensor", notes, complete=not (pending or self._full)
        )


def _result(
    key: str, found: list[dict[str, Json]], word: str, notes: list[str], *, complete: bool = True
) -> dict[str, Json]:
    note = "; ".join(filter(None, notes))
    count = f"{len(found)} {word}{'' if len(found) == 1 else 's'}"
    message = f"{count} found" + (f"; {note}" if note else "")
    return {key: found, "count": len(found), "message": message, "complete": complete, "note": note}


Search = Callable[[_Options, Job], dict[str, Json]]
SEARCHES: dict[str, Search] = {
    "serial_ports": ports,
    "modbus_units": units,
    "http_sensors": http_sensors,
}


if __name__ == "__main__":
    run("discover", discover, BUDGET_S)
