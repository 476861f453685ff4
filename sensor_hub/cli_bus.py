"""The command line's tools for an unknown device: `scan` finds what answers, `decode` what its registers mean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.markup import escape

from sensor_hub import config
from sensor_hub.bus_tools.decode_output import show_guesses, show_view
from sensor_hub.bus_tools.expectation import Expectation, expectation_of
from sensor_hub.bus_tools.guesses import Guess, guesses, still_fitting
from sensor_hub.bus_tools.looking import Looker
from sensor_hub.bus_tools.places import Place, places_of, statement
from sensor_hub.bus_tools.scan_output import ScanScreen, announce, show_hits
from sensor_hub.bus_tools.scan_plan import (
    BAUDRATES,
    PARITIES,
    Plan,
    in_order,
    open_s_of,
    units_of,
)
from sensor_hub.bus_tools.scan_run import Scan
from sensor_hub.bus_tools.target import BadTarget, Target, owner_of, target_of
from sensor_hub.drivers.modbus_register import Table
from sensor_hub.errors import TransportDown

err = Console(stderr=True, soft_wrap=True, highlight=False)

_UNITS_SERIAL, _UNITS_TCP = "1-32", "1-32,255"
_HIGHEST_SERIAL, _HIGHEST_TCP = 247, 255
_SCAN_TIMEOUT_S, _SCAN_TIMEOUT_TCP_S = 0.15, 0.5

Where = Annotated[
    str,
    typer.Argument(
        metavar="URL|TRANSPORT_ID",
        help="Device path, socket://, rfc2217://, hwgrep:// or tcp:// address; or a transport of the instance.",
        show_default=False,
    ),
]
Baudrate = Annotated[
    int | None, typer.Option(help="As the hub: 19200, or the transport's.", show_default=False)
]
Parity = Annotated[str | None, typer.Option(help="N, E or O.", show_default=False)]
Stopbits = Annotated[int | None, typer.Option(help="1 or 2.", show_default=False)]


@contextmanager
def _usage() -> Iterator[None]:
    """What was typed wrong is a usage error, exit code 2."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _target(context: typer.Context, text: str) -> Target:
    """The line; a serial one must not be a running hub's. Raises TransportDown, ConfigError."""
    environ = dict(config.environment())
    if context.obj:
        environ["INSTANCE_NAME"] = str(context.obj)
    with _usage():
        target = target_of(text, environ)
    owner = owner_of(target.url)
    if owner is not None and not target.is_tcp:
        raise TransportDown(
            f"{target.url} belongs to the running instance {owner[0]} (transport {owner[1]}): "
            "stop it first, two masters on a line disturb each other"
        )
    if owner is not None:
        err.print(f"[yellow]note:[/] the running instance {owner[0]} reads from {escape(target.url)}, too")
    return target


# -- decode ------------------------------------------------------------------------------------------------------


def decode(
    context: typer.Context,
    unit: Annotated[int, typer.Option(help="Unit id of the device, 1..247 (tcp:// also 255).")],
    address: Annotated[
        str,
        typer.Option(help="From 0 or as in the manual (40011, 30011); 0x9C4B is always the address itself."),
    ],
    expect: Annotated[str, typer.Option(help="What the display shows: 22.5 (± 0.05), on, off or a text.")],
    where: Where = "",
    table: Annotated[
        str | None, typer.Option(help="holding, input, coil or discrete; else both kinds of registers.")
    ] = None,
    baudrate: Baudrate = None,
    parity: Parity = None,
    stopbits: Stopbits = None,
    around: Annotated[int, typer.Option(help="Addresses to look at before and after.", min=0, max=10)] = 3,
    tolerance: Annotated[
        float | None, typer.Option(help="How far off it may be; else half of the last digit.", min=0)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Ask for the display again and again; keep what fits all of it.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.01, max=10)] = 1.0,
    all_rows: Annotated[bool, typer.Option("--all", help="List the unlikely guesses, too.")] = False,
) -> None:
    """Find out what a device's registers mean, from the number on its display. Reads only."""
    with _usage():
        kind = _table(table)
        expected = expectation_of(expect, tolerance)
        places = places_of(address, kind)
        _check_kinds(kind, expected)
    target = _target(context, where)
    with _usage():
        settings = target.settings(baudrate=baudrate, parity=parity, stopbits=stopbits)
        units_of(str(unit), _HIGHEST_TCP if target.is_tcp else _HIGHEST_SERIAL)
    err.print(f"unit {unit} on {escape(target.url)}: {statement(address, places)}")
    bus = target.open(settings, timeout, 0.0)
    try:
        found = _decode(Looker(bus, unit, timeout), places, expected, around, all_rows, watch, tolerance)
    except KeyboardInterrupt:
        raise typer.Exit(1) from None
    finally:
        bus.close()
    if not found:
        raise typer.Exit(1)


def _table(text: str | None) -> Table | None:
    if text is None:
        return None
    if text.strip().lower() not in get_args(Table):
        raise ValueError(f"--table must be {', '.join(get_args(Table))}")
    return cast(Table, text.strip().lower())


def _check_kinds(kind: Table | None, expected: Expectation) -> None:
    if kind in ("coil", "discrete") and expected.state is None:
        raise ValueError(f"--expect of a {kind} must be on or off")


def _decode(
    looker: Looker,
    places: list[Place],
    expected: Expectation,
    around: int,
    all_rows: bool,
    watch: bool,
    tolerance: float | None,
) -> list[Guess]:
    """Look, guess, show; with `watch` again for each further number."""
    # A number may take four registers, a text more, from its first one on.
    after = around + (3 if expected.value is not None else (len(expected.text.encode()) + 1) // 2)
    seen = looker.view(places, around, after)
    show_view(seen)
    found = guesses(seen.held, places, expected)
    show_guesses(found, expected, all_rows)
    while watch and found:
        further = _asked(tolerance)
        if further is None:
            break
        found = still_fitting(found, looker.view(places, around, after).held, further)
        show_guesses(found, further, all_rows)
    return found


def _asked(tolerance: float | None) -> Expectation | None:
    """The next number, from the keyboard or the lines of a pipe; None: there is none."""
    while True:
        if sys.stdin.isatty():
            err.print("The display shows now (Enter alone ends it): ", end="")
        line = sys.stdin.readline()
        if not line.strip():
            return None
        try:
            return expectation_of(line, tolerance)
        except ValueError as error:
            err.print(f"[red]{escape(str(error))}[/]")


# -- scan --------------------------------------------------------------------------------------------------------


def scan(
    context: typer.Context,
    where: Where = "",
    baudrates: Annotated[str, typer.Option(help="With commas between them.", show_default=True)] = ",".join(
        map(str, BAUDRATES)
    ),
    parities: Annotated[str, typer.Option(help="Of N, E and O.")] = ",".join(PARITIES),
    stopbits: Annotated[str, typer.Option(help="1, 2 or both.")] = "1",
    units: Annotated[
        str | None, typer.Option(help=f"Such as 1-20,100 (else {_UNITS_SERIAL}; tcp:// {_UNITS_TCP}).")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help=f"Seconds to wait for each answer (else {_SCAN_TIMEOUT_S}; tcp:// {_SCAN_TIMEOUT_TCP_S}).",
            min=0.01,
            max=10,
        ),
    ] = None,
    delay: Annotated[
        float, typer.Option(help="Seconds of silence before each request.", min=0, max=10)
    ] = 0.02,
    first: Annotated[
        bool, typer.Option("--first", help="Stop after the first settings with which something answers.")
    ] = False,
) -> None:
    """Find out which baud rates, parities and unit ids answer on a line. Reads only; Ctrl-C ends it."""
    target = _target(context, where)
    with _usage():
        plan = _plan(target, baudrates, parities, stopbits, units, timeout, delay)
    announce(target, plan)
    watcher = ScanScreen(target, plan)
    run = Scan(plan, lambda settings: target.open(settings, plan.timeout_s, delay), watcher)
    lost: TransportDown | None = None
    with watcher:
        try:
            run.run(first_only=first)
        except KeyboardInterrupt:
            watcher.hint("stopped by Ctrl-C")
        except TransportDown as error:
            lost = error
    show_hits(target, run.hits)
    if lost is not None:
        raise lost
    if not run.hits:
        err.print(
            "nothing answers: are A and B swapped, is the device powered, does it need a longer --timeout, "
            "has it another unit id (--units 1-247)?"
        )
        raise typer.Exit(1)


def _plan(
    target: Target,
    baudrates: str,
    parities: str,
    stopbits: str,
    units: str | None,
    timeout: float | None,
    delay: float,
) -> Plan:
    """Raises ValueError (BadTarget) saying what is allowed."""
    given = [
        target.settings(baudrate=baudrate, parity=parity, stopbits=stop)
        for stop in _listed(stopbits)
        for baudrate in _listed(baudrates)
        for parity in _listed(parities)
    ]
    usual = _SCAN_TIMEOUT_TCP_S if target.is_tcp else _SCAN_TIMEOUT_S
    return Plan(
        in_order(given) if target.has_settings else [target.settings()],
        units_of(
            units or (_UNITS_TCP if target.is_tcp else _UNITS_SERIAL),
            _HIGHEST_TCP if target.is_tcp else _HIGHEST_SERIAL,
        ),
        usual if timeout is None else timeout,
        delay,
        open_s_of(target.url),
        on_serial=not target.is_tcp,
        has_settings=target.has_settings,
    )


def _listed(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise BadTarget("a list is empty")
    return found
