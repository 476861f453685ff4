"""OpenEVSE chargers, as much as a probe needs: one question for the state ($GS)."""

from __future__ import annotations

import re
import time
from functools import reduce
from operator import xor

from answering import Json, ToolError, shown
from byte_streams import Stream

COMMAND = "$GS"
# State and flags that both dialects of RAPI call alike.
_STATES = {1: "ready", 2: "connected", 3: "charging", 4: "vent_required"}
_RELAY_CLOSED, _EV_CONNECTED = 0x0040, 0x0100
_ANSWER = re.compile(r"\$OK ([0-9A-F]{2}) (-?[0-9]{1,12}) ([0-9A-F]{2}) ([0-9A-F]{4})( .*)?", re.IGNORECASE)
_TRIES = 2  # chargers refuse what came to them damaged, and some start anew when the port is opened
_HEARD_MAX_BYTES = 65536


def state_of(stream: Stream, timeout_s: float) -> dict[str, Json]:
    """What the charger says of its state. Raises ToolError saying why it says nothing."""
    failure = ToolError("no_answer", "unreachable")
    for _ in range(_TRIES):
        try:
            return _asked(stream, timeout_s)
        except ToolError as error:
            failure = error
    raise failure


def framed(text: str) -> bytes:
    """A command with its checksum."""
    return b"%s^%02X\r" % (text.encode("ascii"), reduce(xor, text.encode("ascii"), 0))


def _asked(stream: Stream, timeout_s: float) -> dict[str, Json]:
    heard, end = b"", time.monotonic() + timeout_s
    stream.send(framed(COMMAND))
    while (left_s := end - time.monotonic()) > 0 and len(heard) < _HEARD_MAX_BYTES:
        heard += stream.receive(left_s)
        *lines, _ = re.split(rb"[\r\n]", heard)
        for line in lines:
            text = _intact(line)
            if text is not None and text.split(" ")[0] in ("$OK", "$NK"):
                return _values(text)
    raise _failure(heard, timeout_s)


def _failure(heard: bytes, timeout_s: float) -> ToolError:
    if not heard.replace(framed(COMMAND)[:-1], b"").strip():
        told = f"no answer to {COMMAND} within {timeout_s:g} s: check speed and wiring"
        return ToolError("no_answer", told, retriable=True)
    if re.search(rb"\$(OK|NK)", heard):
        return ToolError(
            "no_rapi", f"the answer to {COMMAND} came damaged: check speed and wiring", retriable=True
        )
    said = shown(heard[-80:].decode("latin-1"))
    return ToolError("no_rapi", f"what is there does not speak RAPI; it said {said}: check speed and device")


def _intact(line: bytes) -> str | None:
    """The text of a frame without its checksum; None for noise and what came damaged."""
    start = line.rfind(b"$")
    if start < 0:
        return None
    text, mark, digits = line[start:].rpartition(b"^")
    if not mark:
        text, mark, digits = line[start:].rpartition(b"*")
    if not mark:
        return line[start:].decode("latin-1")
    wanted = reduce(xor, text, 0) if mark == b"^" else sum(text) % 256
    good = re.fullmatch(rb"[0-9A-Fa-f]{2}", digits) and int(digits, 16) == wanted
    return text.decode("latin-1") if good else None


def _values(answer: str) -> dict[str, Json]:
    if answer.startswith("$NK"):
        raise ToolError("refused", f"the charger refused {COMMAND}")
    found = _ANSWER.fullmatch(answer)
    if found is None:
        raise ToolError("no_rapi", f"the answer to {COMMAND} is none that is known: {shown(answer)}")
    raw, seconds, pilot, flags = int(found[1], 16), int(found[2]), int(found[3], 16), int(found[4], 16)
    return {
        "state": _STATES.get(raw, f"{raw:02X}"),
        "vehicle_connected": pilot in (2, 3, 4) or bool(flags & _EV_CONNECTED),
        "charging": raw == 3 and bool(flags & _RELAY_CLOSED),
        "session_time": seconds,
    }
