"""What `sensor-hub scan` shows: how far it is on stderr, what answers on stdout; in a pipe tab-separated."""

from __future__ import annotations

import json

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sensor_hub.bus_tools.scan_plan import Plan, duration_text, form_of, named
from sensor_hub.bus_tools.scan_run import Hit
from sensor_hub.bus_tools.target import Target
from sensor_hub.drivers.modbus_settings import RtuSettings

out = Console(soft_wrap=True)
wrapped = Console()
err = Console(stderr=True, soft_wrap=True, highlight=False)


def announce(target: Target, plan: Plan) -> None:
    """What will be done, and how long it takes at most."""
    each = f"{len(plan.settings)} settings x " if target.has_settings else ""
    err.print(
        f"scan of {escape(target.url)}: {each}{len(plan.units)} units, "
        f"at most {plan.questions} requests and about {duration_text(plan.estimate_s)}; nothing is written"
    )


class ScanScreen:
    """Shows how far a scan is: a bar on a terminal, a line per setting in a pipe; hits at once."""

    def __init__(self, target: Target, plan: Plan) -> None:
        self._target, self._plan = target, plan
        self._settings = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> None:
        if err.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=err, transient=True)
            self._task = self._progress.add_task("", total=len(self._plan.settings) * len(self._plan.units))
            self._progress.start()

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def began(self, settings: RtuSettings) -> None:
        """These settings are tried from now on."""
        done = self._settings * len(self._plan.units)
        self._settings += 1
        name = named(settings) if self._target.has_settings else self._target.url
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=escape(name), completed=done)
        else:
            err.print(f"{name} ({self._settings} of {len(self._plan.settings)})")

    def asked(self) -> None:
        """One more unit has been asked everything."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def hit(self, hit: Hit) -> None:
        """This one answers."""
        if not out.is_terminal:
            print(*_hit_row(self._target, hit), sep="\t", flush=True)
        elif self._progress is not None:
            where = f"{named(hit.settings)}, " if self._target.has_settings else ""
            err.print(f"[green]found[/] {where}unit {hit.unit_id}: {escape(hit.answer)}")

    def hint(self, text: str) -> None:
        """Something that people should know."""
        err.print(f"[yellow]hint:[/] {escape(text)}")


def _hit_row(target: Target, hit: Hit) -> tuple[str, ...]:
    own = target.has_settings
    return (
        str(hit.settings.baudrate) if own else "-",
        form_of(hit.settings) if own else "-",
        str(hit.unit_id),
        hit.answer + (f"; {hit.doubt}" if hit.doubt else ""),
        f"{hit.round_trip_s * 1000:.0f} ms" if hit.round_trip_s else "-",
        json.dumps(target.transport_json(hit.settings)),
    )


def show_hits(target: Target, hits: list[Hit]) -> None:
    """On a terminal: the table, and each transport once; in a pipe they have been told already."""
    if not out.is_terminal or not hits:
        return
    table = Table("baud rate", "form", "unit", "answer", "took", box=SIMPLE_HEAD)
    entries: dict[str, list[int]] = {}
    for hit in hits:
        *cells, entry = _hit_row(target, hit)
        table.add_row(*map(escape, cells))
        entries.setdefault(entry, []).append(hit.unit_id)
    wrapped.print(table)
    for entry, units in entries.items():
        out.print(f"transport of unit {', '.join(map(str, units))}:", highlight=False)
        out.print(entry, markup=False)
