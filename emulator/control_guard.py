"""Who may call: no page of another site, and control only by a name that nobody outside can point at this machine.

A browser sends what a page of any site asks for, to loopback, too. Such a call tells its `Origin`, unless the site's
own name was made to lead here (DNS rebinding): then its `Host` is a name that is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

# never of the public DNS: loopback, mDNS, networks of containers and homes
PRIVATE_ENDS = (".localhost", ".local", ".internal", ".home.arpa", ".lan")
_HOST = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:]*))(?::\d*)?")


def refusal(environ: Mapping[str, Any], own_host: str, *, is_poll: bool) -> str | None:
    """Why a request (WSGI) is refused; None when it is not. `own_host`: as configured.

    A poll is answered by any name, as that of a device would be.
    """
    if is_of_another_site(environ):
        return (
            f"foreign origin: {environ.get('HTTP_ORIGIN', 'another site')} is not {environ.get('HTTP_HOST')}; "
            "a browser may call from the emulator's own page only (a proxy must hand on the Host header)"
        )
    host = _name(environ.get("HTTP_HOST", ""))
    if is_poll or _is_ours(host, own_host):
        return None
    return (
        f"foreign host: the emulator is not known as {host}; call it by its IP address, as localhost, or by the "
        "name that http.host (WEB_HOST, --web-host) gives it"
    )


def is_of_another_site(environ: Mapping[str, Any]) -> bool:
    """Whether a page from elsewhere asks; a link from there to here is followed by a person."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None:
        place = str(origin).partition("://")[2].lower()
        return place == "" or place != str(environ.get("HTTP_HOST", "")).lower()
    mode = environ.get("HTTP_SEC_FETCH_MODE")
    return environ.get("HTTP_SEC_FETCH_SITE") == "cross-site" and mode != "navigate"


def _is_ours(host: str, own_host: str) -> bool:
    """No host at all: no browser."""
    if host in ("", own_host.lower().rstrip(".")) or "." not in host or host.endswith(PRIVATE_ENDS):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """A Host header without its port."""
    found = _HOST.fullmatch(host)
    name = (found["address"] or found["name"] or "") if found else host
    return name.lower().rstrip(".")
