"""Which names and pages the emulator's web server takes orders from."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from emulator.control_guard import refusal


def refused(*, own: Collection[str] = ("127.0.0.1",), is_poll: bool = False, **headers: str) -> str | None:
    environ = {f"HTTP_{name.upper()}": text for name, text in headers.items()}
    return refusal(environ, own, is_poll=is_poll)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "192.168.178.20",
        "[::1]:8080",
        "[fe80::1]",
        "[::ffff:192.0.2.1]:80",
        "localhost:8080",
        "LOCALHOST.",
        "emulator-1:5004",
        "host.docker.internal:5004",
        "raspberrypi.local",
        "nas.home.arpa",
        "nas.lan:81",
        "lab.localhost",
        "",
    ],
)
def test_a_name_that_no_other_site_can_have_is_ours(host: str) -> None:
    assert refused(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:8080",
        "localhost.evil.example",
        "evil.local.example",
        "evil-local.com",
        "1.2.3",
        "[::1].evil.example",
    ],
)
def test_a_name_of_the_public_net_is_refused_unless_it_is_a_configured_one(host: str) -> None:
    why = refused(host=host)
    assert why is not None
    assert why.startswith("foreign host: ")
    assert "http.names (WEB_NAMES, --web-names)" in why
    assert refused(own=("0.0.0.0", host.removesuffix(":8080").upper()), host=host) is None
    assert refused(is_poll=True, host=host) is None


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("LocalHost:8080", "http://localhost:8080", True),
        ("lab.lan", "https://lab.lan", True),  # behind a proxy that speaks TLS
        ("127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("127.0.0.1:8080", "http://127.0.0.1", False),
        ("127.0.0.1:8080", "http://localhost:8080", False),
        ("127.0.0.1:8080", "null", False),
        ("127.0.0.1:8080", "", False),
        ("127.0.0.1:8080", "http://[", False),
        ("", "null", False),
    ],
)
def test_only_the_own_page_may_call(host: str, origin: str, is_own: bool) -> None:
    for is_poll in (True, False):
        why = refused(host=host, origin=origin, is_poll=is_poll)
        assert why is None if is_own else why is not None and why.startswith("foreign origin: ")


@pytest.mark.parametrize(
    ("site", "mode", "is_fine"),
    [
        ("cross-site", "no-cors", False),
        ("cross-site", "cors", False),
        ("cross-site", "navigate", True),  # somebody followed a link to the page
        ("same-origin", "cors", True),
        ("none", "navigate", True),
    ],
)
def test_what_a_page_elsewhere_embeds_is_refused(site: str, mode: str, is_fine: bool) -> None:
    assert (refused(host="localhost", sec_fetch_site=site, sec_fetch_mode=mode) is None) is is_fine


@pytest.mark.parametrize("mode", ["navigate", "no-cors", "cors"])  # navigate: an iframe, a window, a refresh
@pytest.mark.parametrize(
    ("site", "is_fine"),
    [("cross-site", False), ("same-site", False), ("anything", False), ("same-origin", True), ("none", True)],
)
def test_no_page_elsewhere_can_poll_not_even_by_opening_the_poll(site: str, mode: str, is_fine: bool) -> None:
    why = refused(host="localhost", sec_fetch_site=site, sec_fetch_mode=mode, is_poll=True)
    assert (why is None) is is_fine
