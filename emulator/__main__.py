"""Run with `python -m emulator [SCENARIO.json]`, or `sensor-hub emulate`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.settings import Resolved

PROGRAM = "sensor-hub emulate"
RECORDED_SCHEMES = ("socket", "rfc2217", "hwgrep")
WIDEST = 40  # column of --show-config; what is longer sticks out


def main() -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 1 when it cannot start or go on, 78 for a bad scenario."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # only now: the imports take long enough for a signal to arrive in between
    from emulator import scenario  # noqa: PLC0415
    from emulator.ptys import PathTakenError  # noqa: PLC0415
    from emulator.settings import SETTINGS  # noqa: PLC0415

    parser = _parser(scenario.EXIT_CODE_CONFIG)
    for setting in SETTINGS:
        parser.add_argument(
            setting.option,
            action="append",
            dest=setting.variable,
            metavar=("" if setting.of_web else "[LINE=]") + setting.takes.replace("%", "%%"),
            help=f"{setting.help} ({setting.variable})",
        )
    arguments = parser.parse_args()
    _check(parser, arguments)
    options = {s.variable: getattr(arguments, s.variable) or [] for s in SETTINGS}
    try:
        return _act(arguments, _resolved(arguments, options))
    except scenario.ScenarioError as error:
        for problem in error.problems:
            print(f"device-emulator: {problem}", file=sys.stderr)
        return scenario.EXIT_CODE_CONFIG
    except PathTakenError as error:
        print(f"device-emulator: cannot start: {error}", file=sys.stderr)
        return 1


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """What cannot be said together."""
    ways = [arguments.scenario, arguments.record, arguments.replay]
    if sum(way is not None for way in ways) > 1:
        parser.error("say a scenario, or --record, or --replay")
    if (arguments.record is None) != (arguments.to is None):
        parser.error("--record and --to go together")
    if arguments.record is None and (arguments.parity or arguments.stopbits):
        parser.error("--parity and --stopbits are of the port of --record")
    if arguments.record is not None and (arguments.WEB_HOST or arguments.WEB_PORT or arguments.WEB_NAMES):
        parser.error("--record has no web server")
    scheme, mark, _ = (arguments.record or "").partition("://")
    if mark and scheme not in RECORDED_SCHEMES:
        parser.error(f"--record: {scheme}:// is not one of {', '.join(RECORDED_SCHEMES)}, nor a port")


def _resolved(arguments: argparse.Namespace, options: dict[str, list[str]]) -> Resolved:
    from emulator import scenario  # noqa: PLC0415
    from emulator.default_scenario import default_scenario  # noqa: PLC0415
    from emulator.recording_scenarios import (  # noqa: PLC0415
        recorder_scenario,
        replay_scenario,
        resolve_recorder,
    )
    from emulator.settings import DEFAULT, resolve  # noqa: PLC0415

    if arguments.scenario is not None:
        return _named(arguments, resolve(scenario.read(arguments.scenario), os.environ, options))
    over_tcp = bool(options["SERIAL_TCP_PORT"] or os.environ.get("SERIAL_TCP_PORT"))
    if arguments.record is not None:
        data = recorder_scenario(arguments.parity or "N", arguments.stopbits or 1, over_tcp=over_tcp)
        return _named(arguments, resolve_recorder(data, os.environ, options))
    replay = arguments.replay
    data = default_scenario() if replay is None else replay_scenario(replay, over_tcp=over_tcp)
    return _named(arguments, resolve(data, os.environ, options, DEFAULT))


def _named(arguments: argparse.Namespace, resolved: Resolved) -> Resolved:
    """With the name that was said, and with the options that made the scenario as its origin."""
    scenario = resolved.scenario
    said = {
        "tap.parity": arguments.parity and "--parity",
        "tap.stopbits": arguments.stopbits and "--stopbits",
    }
    said["replay.recording"] = arguments.replay and "--replay"
    if arguments.instance_id:
        said["instance_id"] = "--instance-id"
        scenario = scenario.model_copy(update={"instance_id": arguments.instance_id})
    rows = (
        replace(row, origin=f"command line {option}") if (option := said.get(row.name)) else row
        for row in resolved.rows
    )
    named = (replace(row, value=scenario.instance_id) if row.name == "instance_id" else row for row in rows)
    return replace(resolved, scenario=scenario, rows=tuple(named))


def _parser(exit_code: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Emulated devices for the Sensor Hub: scenario file < environment < command line.",
        epilog=f"Exit codes: 0 after SIGTERM or SIGINT, 1 when a line or port cannot be had, {exit_code} when "
        "the scenario is wrong. docs/emulator.md has the rest.",
    )
    parser.add_argument(
        "scenario",
        type=Path,
        nargs="?",
        help="scenario file (JSON); none: sensors, a charger, a motion detector",
    )
    parser.add_argument(
        "--show-config", action="store_true", help="print each value with where it came from, and end"
    )
    parser.add_argument(
        "--show-hub",
        action="store_true",
        help="print the instance file of a hub that reads all this, and end",
    )
    parser.add_argument(
        "--instance-id", metavar="NAME", help="name of the emulator, and of the hub of --show-hub"
    )
    _add_recording(parser)
    return parser


def _add_recording(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("record and replay")
    group.add_argument(
        "--record", metavar="PORT_OR_URL", help="pass a real line through and write down what passed"
    )
    group.add_argument("--to", type=Path, metavar="FILE", help="where to; a new file")
    group.add_argument("--parity", choices=("N", "E", "O"), help="of the recorded port (N)")
    group.add_argument("--stopbits", type=int, choices=(1, 2), help="of the recorded port (1)")
    group.add_argument(
        "--max-mib",
        type=int,
        default=64,
        metavar="1..256",
        choices=range(1, 257),
        help="size at which the file is full (64)",
    )
    group.add_argument("--replay", type=Path, metavar="FILE", help="be the device of a recording")


def _act(arguments: argparse.Namespace, resolved: Resolved) -> int:
    from emulator import logs  # noqa: PLC0415
    from emulator.app import run  # noqa: PLC0415
    from emulator.hub_instance import hub_instance  # noqa: PLC0415
    from emulator.recorder import Order, record  # noqa: PLC0415

    if arguments.show_config:
        return _shown(_table([row.texts for row in resolved.rows], aligned=sys.stdout.isatty()))
    level, log_format = os.environ.get("LOG_LEVEL", "INFO"), os.environ.get("LOG_FORMAT", "text")
    if arguments.record is not None:
        logs.set_up(level, log_format, resolved.scenario.zone)
        logs.warn(resolved.remarks)
        return record(
            Order(arguments.record, arguments.to, arguments.max_mib * 1024 * 1024), resolved.scenario
        )
    instance = json.dumps(hub_instance(resolved.scenario), indent=2, ensure_ascii=False)
    if arguments.show_hub:
        return _shown(instance)
    if arguments.scenario is None and arguments.replay is None:
        name = resolved.scenario.instance_id
        _shown(
            f"A hub reads these devices with instances/{name}.json:\n\n{instance}\n\n"
            f"    INSTANCE_NAME={name} sensor-hub run --demo\n"
        )
    logs.set_up(level, log_format, resolved.scenario.zone)
    logs.warn(resolved.remarks)
    return run(resolved.scenario)


def _shown(text: str) -> int:
    """Print it; the exit code, 1 when who reads it (`head`) has had enough."""
    from emulator import logs  # noqa: PLC0415

    try:
        print(text, flush=True)
    except BrokenPipeError:
        logs.leave_stdout()
        return 1
    return 0


def _table(rows: Sequence[Sequence[str]], *, aligned: bool) -> str:
    """For a person in columns, for a program with tabs."""
    if not aligned:
        return "\n".join("\t".join(row) for row in rows)
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
