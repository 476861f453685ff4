"""The command line. Rich output on a terminal, plain text in a pipe."""

from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sensor_hub import __version__, cli_bus, cli_emulate, config, health, launcher, limits, runtime, wire
from sensor_hub.clients import AggregatorClient
from sensor_hub.drivers import check_options
from sensor_hub.errors import ConfigError, HubError
from sensor_hub.outputs import check_output
from sensor_hub.readings import Json, Snapshot, Status

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True, highlight=False)

Instance = Annotated[
    str,
    typer.Option("--instance", envvar="INSTANCE_NAME", help="Instance id; default: the one that runs here."),
]
COLUMNS = ("device_id", "type", "handler", "status", "friendly_name")
COLOURS = {Status.ONLINE: "green", Status.DEGRADED: "yellow", Status.OFFLINE: "red"}


def main() -> None:
    """Entry point: errors of the configuration end with exit code 78, the hub's own with 1."""
    try:
        app()
    except ConfigError as error:
        print(launcher.problems_text(error.problems), file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    except HubError as error:
        print(f"sensor-hub: {error.code}: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (RuntimeError, BlockingIOError) as error:
        if not limits.is_reached(error):
            raise
        print(f"sensor-hub: {limits.REACHED} ({error})", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    instance: Instance = "",
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Sensor Hub: from serial lines and HTTP endpoints to MQTT."""
    context.obj = instance
    if version:
        print(f"sensor-hub {__version__}")
        raise typer.Exit


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command one option per variable of the configuration."""
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    options = [
        inspect.Parameter(
            variable.name.lower(),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    variable.option,
                    help=f"{variable.help} ({variable.takes}; default: {variable.default_shown or 'none'})",
                    show_default=False,
                    metavar=variable.name,
                    rich_help_panel="Settings (each also a variable of the environment)",
                ),
            ],
        )
        for variable in config.SETTINGS
    ]
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
    return command


@app.command()
@_with_settings
def run(
    context: typer.Context,
    demo: Annotated[
        bool, typer.Option("--demo", help="Embedded broker when MQTT_HOST is not set; say where to look.")
    ] = False,
    **settings: str | None,
) -> None:
    """Run an instance: validate, reserve ports, start all programs, stop them on SIGTERM or Ctrl-C."""
    overrides = {name.upper(): value for name, value in settings.items() if value is not None}
    if context.obj and "INSTANCE_NAME" not in overrides:
        overrides["INSTANCE_NAME"] = context.obj
    raise typer.Exit(launcher.run(config.environment(), overrides, demo=demo))


@app.command("check-config")
def check_config(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Instance files; none: the environment's instance.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print each setting and where it came from.")] = False,
) -> None:
    """List every problem of instance files, or say that all is well."""
    failed = False
    wanted: list[Path | None] = [*files] if files else [None]
    for file in wanted:
        environ = dict(config.environment())
        if file is not None:
            environ.pop("INSTANCE_NAME", None)  # the file's own name counts
        report = config.read(environ, file=file, check_options=check_options, check_output=check_output)
        name = str(file) if file is not None else "configuration"
        if report.problems:
            failed = True
            print(f"{name}:", launcher.problems_text(report.problems), sep="\n", file=sys.stderr)
        else:
            hub = report.config
            count = len(hub.sensors) if hub else 0
            well = "usable" if report.warnings else "all is well"
            print(f"{name}: {well}, {count} device{'' if count == 1 else 's'}")
        for warning in report.warnings:
            print(f"  warning: {warning}")
        if show:
            _show_settings([(s.name, s.value, s.origin) for s in report.settings])
    if failed:
        raise typer.Exit(ConfigError.exit_code)


def _show_settings(rows: list[tuple[str, str, str]]) -> None:
    if out.is_terminal:
        table = Table("setting", "value", "from")
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)
    else:
        for row in rows:
            print(*row, sep="\t")


@app.command("health")
def health_command(context: typer.Context) -> None:
    """Exit code 0 when the instance is well; else 1, with the reasons."""
    instance_id = _instance(context)
    found = health.reasons(instance_id)
    running = runtime.read_instance(instance_id)
    idle = running is not None and not running.enabled
    well = f"{instance_id} is healthy" + (" (disabled: idle)" if idle else "")
    for line in [*(found or [well]), *health.notes(instance_id)]:
        print(line)
    if found:
        raise typer.Exit(1)


@app.command()
def devices(context: typer.Context) -> None:
    """List the devices."""
    listed = _aggregator(context).get("/devices").get("devices")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    if not out.is_terminal:
        for row in rows:
            print(*(row[key] for key in COLUMNS), sep="\t")
        return
    table = Table("device", "type", "handler", "status", "name")
    for row in rows:
        texts = [escape(str(row[key])) for key in COLUMNS]
        table.add_row(*texts, style=COLOURS.get(Status(str(row["status"]))))
    out.print(table)


@app.command()
def get(context: typer.Context, device_id: str) -> None:
    """Print a device's reading as JSON."""
    _print_json(_aggregator(context).device(device_id))


@app.command()
def cmd(
    context: typer.Context,
    device_id: str,
    values: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE…", help="Values as JSON; other text as it is.")
    ],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1, max=60)] = 5.0,
) -> None:
    """Send a command to a device and wait for its answer."""
    body: dict[str, Json] = {"id": str(uuid.uuid4()), "values": dict(_pair(text) for text in values)}
    body["timeout"] = round(timeout * 1000)
    _print_json(_aggregator(context).command(device_id, body, timeout))


@app.command()
def watch(context: typer.Context) -> None:
    """Show all devices live; in a pipe one line per change. Ctrl-C ends it."""
    client = _aggregator(context)
    known: dict[str, Snapshot] = {}
    cursor: str | None = None
    try:
        with Live(console=out, auto_refresh=False, transient=False) if out.is_terminal else _Plain() as live:
            while True:
                cursor, changes = client.feed(cursor, 5.0 if cursor else 0.0)
                known |= {snapshot.device_id: snapshot for snapshot in changes}
                if isinstance(live, Live):
                    live.update(_watch_table(known), refresh=True)
                else:
                    for snapshot in changes:
                        print(*_watch_row(snapshot), sep="\t", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit from None


for tool in (cli_bus.decode, cli_bus.scan):
    app.command()(tool)
app.command(context_settings=cli_emulate.CONTEXT)(cli_emulate.emulate)


class _Plain:
    """Stands in for rich's Live in a pipe."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _watch_table(known: dict[str, Snapshot]) -> Table:
    table = Table("device", "status", "values", "quality", "read at")
    for snapshot in known.values():
        row = _watch_row(snapshot)
        table.add_row(*map(escape, row), style=COLOURS.get(snapshot.status))
    return table


def _watch_row(snapshot: Snapshot) -> tuple[str, str, str, str, str]:
    reading, fault = snapshot.reading, snapshot.fault
    if reading is None:
        text, at = (f"{fault.code}: {fault.message}", fault.timestamp) if fault else ("", None)
    else:
        unit = (snapshot.extra or {}).get("unit")
        pairs = [
            f"{wire.dumps(v)} {unit or ''}".strip() if k == "value" else f"{k}={wire.dumps(v)}"
            for k, v in reading.values.items()
        ]
        text, at = " ".join(pairs), reading.timestamp
    return (
        snapshot.device_id,
        str(snapshot.status),
        text,
        str(snapshot.quality or ""),
        at.isoformat(sep=" ", timespec="seconds") if at else "",
    )


def _pair(text: str) -> tuple[str, Json]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, wire.loads(value)
    except wire.MalformedJson:
        return key, value


def _print_json(body: dict[str, Json]) -> None:
    if out.is_terminal:
        out.print_json(wire.dumps(body))
    else:
        print(wire.dumps(body))


def _instance(context: typer.Context) -> str:
    if context.obj:
        return str(context.obj)
    running = runtime.running_instances()
    if len(running) == 1:
        return running[0]
    names = f" (running: {', '.join(running)})" if running else "; none runs here"
    print(f"sensor-hub: say which instance: INSTANCE_NAME or --instance{names}", file=sys.stderr)
    raise typer.Exit(ConfigError.exit_code)


def _aggregator(context: typer.Context) -> AggregatorClient:
    instance_id = _instance(context)
    running = runtime.read_instance(instance_id)
    if running is None or "state-aggregator" not in running.urls:
        state = "is not running" if running is None else "is disabled (enabled: false)"
        print(f"sensor-hub: {instance_id} {state}", file=sys.stderr)
        raise typer.Exit(1)
    return AggregatorClient(running.urls["state-aggregator"], instance_id)
