"""What `sensor-hub decode` shows: facts on stderr, guesses on stdout; a table on a terminal, else tab-separated."""

from __future__ import annotations

import json

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sensor_hub.bus_tools.expectation import Expectation
from sensor_hub.bus_tools.guesses import Guess
from sensor_hub.bus_tools.looking import View

out = Console()
err = Console(stderr=True, soft_wrap=True, highlight=False)

_SHOWN_GUESSES = 12


def show_view(seen: View) -> None:
    """What the registers hold."""
    for line in seen.lines():
        err.print(f"  {escape(line)}")


def show_guesses(found: list[Guess], expected: Expectation, all_rows: bool) -> None:
    """The guesses, likeliest first, or what to do when there is none."""
    if not found:
        err.print(
            f"nothing here reads as {escape(expected.text)}: try another --address, --around 10, "
            "or --tolerance if the number moves"
        )
        return
    shown = found if all_rows else found[:_SHOWN_GUESSES]
    if not out.is_terminal:
        for guess in shown:
            print(*_guess_row(guess), sep="\t", flush=True)
    else:
        table = Table("table", "address", "type", "order", "scale", "reads as", "register", box=SIMPLE_HEAD)
        for guess in shown:
            table.add_row(*map(escape, _guess_row(guess)))
        out.print(table)
    if len(shown) < len(found):
        err.print(f"{len(found) - len(shown)} less likely ones are left out: --all lists them")
    if expected.value == 0:
        err.print("0 fits much: look again when the display shows another number (--watch)")


def _guess_row(guess: Guess) -> tuple[str, ...]:
    register = guess.register
    part = (
        f" bits {register.bit}..{register.bit + register.bits - 1}"
        if register.bits and register.bit is not None
        else ""
    )
    if register.is_boolean:
        kind = "bit"
    elif register.kind == "bit":
        kind = f"bit {register.bit}"
    else:
        kind = register.data_type + part + (" sign+amount" if register.sign_magnitude else "")
    offset = f" {register.offset:+g}" if register.offset else ""
    return (
        register.table,
        str(register.address),
        kind,
        _order(register.count, register.word_order, register.byte_order),
        f"{register.scale:g}{offset}",
        json.dumps(guess.value),
        json.dumps(guess.options),
    )


def _order(count: int, word_order: str, byte_order: str) -> str:
    """As manuals draw it: AB CD is the most significant byte first."""
    if count == 1:
        return "AB" if byte_order == "big" else "BA"
    pairs = ["AB", "CD", "EF", "GH"][: min(count, 4)]
    ordered = pairs if word_order == "big" else pairs[::-1]
    return " ".join(pair if byte_order == "big" else pair[::-1] for pair in ordered)
