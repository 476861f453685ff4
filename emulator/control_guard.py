"""Who may call: no page of another site, and control only by a name that nobody outside can point at this machine.

A browser sends what a page of any site asks for, to loopback, too. Such a call tells its `Origin`, unless the site's
own name was made to lead here (DNS rebinding): then its `Host` is a name that is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any

# never of the public DNS: loopback, mDNS, networks of containers and homes
PRIVATE_ENDS = (".localhost", ".local", ".internal", ".home.arpa", ".lan")
_HOST = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:]*))(?::\d*)?")


def refusal(environ: Mapping[str, Any], own_names: Collection[str], *, is_poll: bool) -> str | None:
    """Why a request (WSGI) is refused; None when it is not. `own_names`: as configured.

    A poll is answered by any name, as that of a device would be.
    """
    if is_of_another_site(environ, is_poll=is_poll):
        return (
            f"foreign origin: {environ.get('HTTP_ORIGIN', 'another site')} is not {environ.get('HTTP_HOST')}; "
            "a browser may call from the emulator's own page only (a proxy must hand on the Host header)"
        )
    host = _name(environ.get("HTTP_HOST", ""))
    if is_poll or _is_ours(host, own_names):
        return None
    return (
        f"foreign host: the emulator is not known as {host}; call it by its IP address, as localhost, or by a "
        "name that is in http.names (WEB_NAMES, --web-names)"
    )


def is_of_another_site(environ: Mapping[str, Any], *, is_poll: bool) -> bool:
    """Whether a page from elsewhere asks, as far as the browser says so.

    A link from there to the page is followed by a person. Nobody follows one to a poll, but a page can open it.
    """
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None:
        place = str(origin).partition("://")[2].lower()
        return place == "" or place != str(environ.get("HTTP_HOST", "")).lower()
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    if is_poll:
        return site not in ("same-origin", "none")
    return site == "cross-site" and environ.get("HTTP_SEC_FETCH_MODE") != "navigate"


def _is_ours(host: str, own_names: Collection[str]) -> bool:
    """No host at all: no browser."""
    if "." not in host or host.endswith(PRIVATE_ENDS):
        return True
    if host in {name.lower().rstrip(".") for name in own_names}:
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
