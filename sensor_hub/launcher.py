"""`sensor-hub run`: the main process. Validates, reserves the ports, runs supervisord, takes its signals and end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sensor_hub import config, logs, runtime, supervision
from sensor_hub.config.model import HubConfig, Report
from sensor_hub.config.services import SERVICE_VARIABLES
from sensor_hub.demo import Narrator, where_to_look
from sensor_hub.drivers import check_options
from sensor_hub.errors import ConfigError, Problem
from sensor_hub.ports import PortTaken, Reservation, check_host
from sensor_hub.stopping import StopOnSignal, adopt_orphans, end_what_is_left, reap_until_gone

log = logs.get(__name__)

HOME = Path(__file__).resolve().parents[1]  # where supervisord.conf lives: the checkout, /app in the image
PORT_VARIABLES = {name: f"{prefix}_PORT" for name, prefix in SERVICE_VARIABLES.items()}
LOOPBACK = "127.0.0.1"  # of the broker and the emulator, whatever SERVICE_HOST is
BROKER_PORT, FURTHER_PORTS = 1883, 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A validated instance with its ports reserved, ready to start."""

    hub: HubConfig
    settings: Mapping[str, str]  # what was decided here, for the programs' environment
    embedded_broker: bool


def run(environ: Mapping[str, str], overrides: Mapping[str, str], *, demo: bool = False) -> int:
    """Run the instance until a signal or its end; the exit code. Raises ConfigError (exit code 78)."""
    report = config.read(environ, overrides=overrides, check_options=check_options)
    if report.config is None:
        raise ConfigError(report.problems)
    logs.set_up("launcher", report.config)
    stop = StopOnSignal(report.config.instance_id)
    with claimed(report.config.instance_id), contextlib.closing(Reservation()) as reservation:
        if not report.config.enabled:
            return idle(report.config, stop)
        plan = prepare(environ, overrides, report, reservation, demo=demo)
        if demo:
            print("\n".join(where_to_look(plan.hub, embedded_broker=plan.embedded_broker)), flush=True)
            Narrator(plan.hub).start()
        return 0 if stop.asked else supervise(plan, environ, stop)


@contextlib.contextmanager
def claimed(instance_id: str) -> Iterator[Path]:
    """Own the instance's run directory. Raises ConfigError when it runs already or the directory is not ours."""
    directory = runtime.run_dir(instance_id)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise ConfigError([Problem(str(directory), "must be a directory of this user; remove it")])
    directory.chmod(0o700)
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = runtime.read_instance(instance_id)
            who = f"pid {running.launcher_pid}" if running else "another process"
            raise ConfigError(
                [Problem("INSTANCE_NAME", f"{instance_id} is already running ({who})")]
            ) from None
        for leftover in ("instance.json", "bridge.json", "fatal.json", "supervisor.sock"):
            (directory / leftover).unlink(missing_ok=True)
        try:
            yield directory
        finally:
            (directory / "instance.json").unlink(missing_ok=True)


def idle(hub: HubConfig, stop: StopOnSignal) -> int:
    """A switched-off instance: say so once, wait for the signal, be healthy."""
    log.info("instance is disabled (enabled: false); idle until stopped", instance=hub.instance_id)
    runtime.write_instance(runtime.Instance(hub.instance_id, os.getpid(), {}, "", enabled=False))
    signal.pthread_sigmask(signal.SIG_BLOCK, stop.signals)  # from here on they wait for us
    if not stop.asked:
        signal.sigwait(stop.signals)
    log.info("stopped", instance=hub.instance_id)
    return 0


def prepare(
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    report: Report,
    reservation: Reservation,
    *,
    demo: bool,
) -> Plan:
    """Reserve the ports and resolve the configuration again with them. Raises ConfigError."""
    if report.config is None:
        raise ConfigError(report.problems)
    settings = dict(overrides)
    broker = demo and origin(report, "MQTT_HOST") == "default"
    host = report.config.service_host
    try:
        check_host(host)
    except OSError as error:
        raise ConfigError([Problem("SERVICE_HOST", f"nothing can listen on {host}: {error}")]) from error
    try:
        settings |= _reserve(report, reservation)
        if broker:
            settings |= {"MQTT_HOST": LOOPBACK, "MQTT_PORT": str(_broker_port(report, reservation))}
    except PortTaken as error:
        raise ConfigError([Problem("ports", str(error))]) from error
    hub = config.load(environ, overrides=settings, check_options=check_options)
    ports = ", ".join(f"{name} {service.port}" for name, service in hub.services.items())
    log.info("ports reserved", instance=hub.instance_id, ports=ports)
    return Plan(hub, settings, broker)


def origin(report: Report, name: str) -> str:
    """Where a setting's value came from."""
    return next(setting.origin for setting in report.settings if setting.name == name)


def _reserve(report: Report, reservation: Reservation) -> dict[str, str]:
    hub = report.config
    if hub is None:
        raise ConfigError(report.problems)
    services = {PORT_VARIABLES[name]: service for name, service in hub.services.items()}
    chosen = {variable: service.port for variable, service in services.items() if service.port_is_set}
    for port in chosen.values():
        reservation.take_given(hub.service_host, port)
    emulated = hub.emulator is not None and hub.emulator.scenario["http"] is not None
    emulator_is_set = origin(report, "EMULATOR_PORT") != "default"
    if hub.emulator is not None and emulated and emulator_is_set:  # before a block takes it
        reservation.take_given(LOOPBACK, hub.emulator.port)
    if len(chosen) < len(services):
        block = reservation.take_block(hub.service_host, len(services))
        chosen = dict(zip(services, block, strict=True)) | chosen
    if emulated and not emulator_is_set:
        first = chosen["SERIAL_HANDLER_PORT"] + len(services)
        chosen["EMULATOR_PORT"] = reservation.take_first(LOOPBACK, first, FURTHER_PORTS, "emulator")
    return {variable: str(port) for variable, port in chosen.items()}


def _broker_port(report: Report, reservation: Reservation) -> int:
    if report.config is None:
        raise ConfigError(report.problems)
    if origin(report, "MQTT_PORT") != "default":
        port = report.config.mqtt.port
        reservation.take_given(LOOPBACK, port)
        return port
    return reservation.take_first(LOOPBACK, BROKER_PORT, FURTHER_PORTS, "embedded broker")


def supervise(plan: Plan, environ: Mapping[str, str], stop: StopOnSignal) -> int:
    """Run supervisord with the plan until it ends; the hub's exit code."""
    hub = plan.hub
    _write_facts(plan)
    adopt_orphans()
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(HOME / "supervisord.conf")]
    if os.geteuid() == 0:
        command += ["-u", "root"]  # said so on purpose: no warning
    child = subprocess.Popen(
        command,
        cwd=HOME,
        env=program_environment(plan, environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C at the terminal reaches the launcher alone, which stops in order
    )
    stop.watch_over(child.pid)
    relay = threading.Thread(target=_relay, args=(child.stdout,), name="relay", daemon=True)
    relay.start()
    reap_until_gone(child)
    end_what_is_left()
    relay.join(1.0)
    fatal = runtime.read_fatal(hub.instance_id)
    if fatal is not None and not stop.asked:
        log.critical("ended because a program gave up", program=fatal)
        return 1
    if not stop.asked:
        log.critical("supervisord ended unexpectedly", code=child.returncode)
        return 1
    log.info("stopped", instance=hub.instance_id)
    return 0


def program_environment(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every program: what was given, what was decided here, our Python first on PATH."""
    hub = plan.hub
    host = hub.service_host
    certificates = {
        "MQTT_CA_CERT": hub.mqtt.ca_cert,
        "MQTT_CLIENT_CERT": hub.mqtt.client_cert,
        "MQTT_CLIENT_KEY": hub.mqtt.client_key,
    }
    return {
        **environ,
        **plan.settings,
        **{name: str(path) for name, path in certificates.items() if path is not None},
        "INSTANCE_NAME": hub.instance_id,
        "IOT2MQTT_PATH": str(hub.root),
        "MQTT_PORT": str(hub.mqtt.port),
        "MQTT_CLIENT_PREFIX": hub.mqtt.client_prefix,
        "SENSOR_HUB_BIND": f"[{host}]" if ":" in host else host,
        "SENSOR_HUB_BROKER": str(plan.embedded_broker).lower(),
        "SENSOR_HUB_EMULATOR": str(hub.emulator is not None).lower(),
        "LOG_LEVEL": hub.log_level,
        "LOG_FORMAT": hub.log_format,
        "TZ": str(hub.timezone),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def _write_facts(plan: Plan) -> None:
    hub = plan.hub
    if hub.emulator is not None:
        scenario = runtime.run_dir(hub.instance_id) / "emulator.json"
        scenario.write_text(json.dumps(hub.emulator.scenario))
    urls = {name: service.url for name, service in hub.services.items()}
    runtime.write_instance(
        runtime.Instance(hub.instance_id, os.getpid(), urls, f"{hub.mqtt.host}:{hub.mqtt.port}")
    )


def _relay(lines: IO[bytes]) -> None:
    """Our stdout may be anything (a closed pipe, a socket); supervisord always writes into our pipe."""
    for line in lines:
        own = supervision.own_line(line.decode(errors="replace").rstrip())
        try:
            if own is None:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            elif own[0]:
                getattr(log, own[0])(own[1], service="supervisord")
        except OSError:  # nobody reads any more: stop as if told to
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            os.kill(os.getpid(), signal.SIGTERM)
            break
    for _ in lines:  # keep the pipe empty, so that nobody blocks on it
        pass


def problems_text(problems: Sequence[Problem]) -> str:
    """All problems for stderr, one a line, and what to do."""
    count = len(problems)
    lines = [f"  {problem}" for problem in problems]
    return "\n".join(
        [f"sensor-hub: {count} problem{'s' if count != 1 else ''} in the configuration:", *lines]
    )
