"""What a sensor that answers HTTP requests may say."""

from __future__ import annotations

import re

import checks
from answering import Json, shown
from checks import Entry, WrongError
from property_names import named
from urls import http_url

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_BEARER = re.compile(r"[\x21-\x7e]+")


def check_endpoint(entry: Entry) -> None:
    """The options of a sensor that answers HTTP requests."""
    entry.take("timeout_s", checks.number(0.1, 60))
    entry.take("headers", _headers)
    entry.take("verify_tls", checks.boolean)
    auth, fields, commands = entry.pop("auth"), entry.pop("fields"), entry.pop("commands")
    if isinstance(auth, dict):
        entry.kept["auth"] = _auth(auth, entry)
    elif auth is not None:
        entry.fail("auth", "must be an object")  # what it is instead may be a secret
    names: dict[str, Json] = {}
    if fields is not None:
        names |= named(entry, "fields", fields)
        if not names:
            entry.fail("fields", "must have at least one field")
        for name, path in names.items():
            if not isinstance(path, str) or not all(path.split(".")):
                entry.fail(f"fields.{name}", f"{shown(path)} is no path like list.0.x")
        entry.kept["fields"] = dict(names)
    if commands is not None:
        found = named(entry, "commands", commands, names)
        entry.kept["commands"] = {
            name: _command(content, f"{entry.where}.commands.{name}", entry)
            for name, content in found.items()
        }


def _auth(content: dict[str, Json], owner: Entry) -> dict[str, Json]:
    entry = Entry(content, f"{owner.where}.auth", owner.problems)
    username = entry.take("username", checks.secret)
    password, bearer = entry.take("password", checks.secret), entry.take("bearer", checks.secret)
    entry.refuse_rest()
    if (username is None) == (bearer is None) or (password is not None and username is None):
        entry.fail("", "must be username and password, or bearer")
    if bearer is not None and not _BEARER.fullmatch(bearer):
        entry.fail("bearer", "must be printable ASCII without spaces")
    return entry.kept


def _command(content: Json, where: str, owner: Entry) -> dict[str, Json]:
    entry = Entry(content, where, owner.problems)
    entry.take("method", checks.choice(("POST", "PUT", "PATCH", "GET")))
    entry.take("url", lambda value: http_url(value) if _plain(value) else None)
    entry.take("headers", _headers)
    kind = entry.take("kind", checks.choice(("number", "boolean", "text", "any")))
    low, high = entry.take("min", checks.finite), entry.take("max", checks.finite)
    step = entry.take("step", checks.positive)
    body = entry.pop("body")
    if body is not None:
        entry.kept["body"] = body
    entry.refuse_rest()
    if low is not None and high is not None and low > high:
        entry.fail("min", f"{low:g} is greater than max {high:g}")
    if kind != "number" and (low, high, step) != (None, None, None):
        entry.fail("kind", "min, max and step need the kind number")
    return entry.kept


def _plain(url: Json) -> bool:
    """`{value}` may stand in the path and the query only."""
    head = url.split("://", 1)[-1].split("/", 1)[0] if isinstance(url, str) else ""
    if "{value}" in head:
        raise WrongError("{value} may stand in the path and the query only")
    return True


def _headers(value: Json) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongError("must be an object of names and texts")
    clean = {}
    for name, given in value.items():
        content = str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given
        if not _HEADER_NAME.fullmatch(name):
            raise WrongError(f"{name[:60]!r} is no header name")
        if not isinstance(content, str) or not _HEADER_VALUE.fullmatch(content):
            raise WrongError(f"the value of {name} has characters that no header may have")
        clean[name] = content.strip()
    return clean
