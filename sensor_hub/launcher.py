"""`sensor-hub run`: the main process. Validates, reserves the ports, runs supervisord, takes its signals and end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sensor_hub import config, limits, logs, runtime
from sensor_hub.config.model import Handler, HubConfig, Report
from sensor_hub.config.services import SERVICE_VARIABLES
from sensor_hub.demo import Narrator, where_to_look
from sensor_hub.drivers import check_options
from sensor_hub.errors import ConfigError, Problem
from sensor_hub.log_output import LAST_LINES_S, LogOutput, log_output, relay
from sensor_hub.outputs import check_output
from sensor_hub.ports import PortTaken, Reservation, check_host
from sensor_hub.stopping import StopOnSignal, adopt_orphans, end_what_is_left, reap_until_gone
from sensor_hub.store_file import why_not_lasting

log = logs.get(__name__)

HOME = Path(__file__).resolve().parents[1]  # where supervisord.conf lives: the checkout, /app in the image
PORT_VARIABLES = {name: f"{prefix}_PORT" for name, prefix in SERVICE_VARIABLES.items()}
LOOPBACK = "127.0.0.1"  # of the broker and the emulator, whatever SERVICE_HOST is
BROKER_PORT, FURTHER_PORTS = 1883, 20
# What gunicorn and Python would read behind our back: further workers, foreign sockets, warnings as errors.
NOT_FOR_PROGRAMS = {"GUNICORN_CMD_ARGS", "GUNICORN_PID", "GUNICORN_FD", "WEB_CONCURRENCY"}
NOT_FOR_PROGRAMS |= {"LISTEN_PID", "LISTEN_FDS", "PYTHONWARNINGS"}
REMEDIES = {
    errno.ENOSPC: "make room there; a hub needs a few kilobytes in /tmp",
    errno.EROFS: "a hub writes to /tmp: mount it writable (docker run --tmpfs /tmp)",
    errno.EACCES: "a hub writes to /tmp: let this user do that",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A validated instance with its ports reserved, ready to start."""

    hub: HubConfig
    settings: Mapping[str, str]  # what was decided here, for the programs' environment
    embedded_broker: bool


def run(environ: Mapping[str, str], overrides: Mapping[str, str], *, demo: bool = False) -> int:
    """Run the instance until a signal or its end; the exit code. Raises ConfigError (exit code 78)."""
    report = config.read(environ, overrides=overrides, check_options=check_options, check_output=check_output)
    if report.config is None:
        raise ConfigError(report.problems)
    with log_output() as output:
        logs.set_up("launcher", report.config, sys.stdout)
        for warning in report.warnings:
            first, _, more = warning.message.partition("\n")
            seen = {"more": "sensor-hub check-config"} if more else {}
            log.warning("configuration warning", path=warning.path, reason=first, **seen)
        try:
            return _run(environ, overrides, report, report.config, output, demo=demo)
        except (OSError, RuntimeError) as error:  # no defect of ours as a rule: the machine does not let us
            if isinstance(error, RuntimeError) and not limits.is_reached(error):
                raise
            remedy = (
                limits.REACHED if limits.is_reached(error) else REMEDIES.get(getattr(error, "errno", 0), "")
            )
            log.critical("cannot start", reason=str(error), **({"remedy": remedy} if remedy else {}))
            return 1


def _run(
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    report: Report,
    hub: HubConfig,
    output: LogOutput,
    *,
    demo: bool,
) -> int:
    stop = StopOnSignal(hub.instance_id)
    with claimed(hub.instance_id), contextlib.closing(Reservation()) as reservation:
        if not hub.enabled:
            return idle(hub, stop)
        plan = prepare(environ, overrides, report, reservation, demo=demo)
        if reason := why_not_lasting(plan.hub.data_dir):
            remedy = "mount a volume at /data, or let DATA_DIR name a folder that lasts"
            log.warning("queues will not last", reason=reason, remedy=remedy)
        if demo:
            print("\n".join(where_to_look(plan.hub, embedded_broker=plan.embedded_broker)), flush=True)
            Narrator(plan.hub).start()
        return 0 if stop.asked else supervise(plan, environ, stop, output)


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
        shutil.rmtree(directory / "queues", ignore_errors=True)
        try:
            yield directory
        finally:
            with contextlib.suppress(OSError):  # /tmp has become read-only
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
    hub = config.load(environ, overrides=settings, check_options=check_options, check_output=check_output)
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
    emulator_is_set = origin(report, "EMULATOR_PORT") != "default"
    if hub.emulator is not None and emulator_is_set:  # before a block takes it
        reservation.take_given(LOOPBACK, hub.emulator.port)
    if len(chosen) < len(services):
        block = reservation.take_block(hub.service_host, len(services))
        chosen = dict(zip(services, block, strict=True)) | chosen
    if hub.emulator is not None and not emulator_is_set:
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


def supervise(plan: Plan, environ: Mapping[str, str], stop: StopOnSignal, output: LogOutput) -> int:
    """Run supervisord with the plan until it ends; the hub's exit code."""
    hub = plan.hub
    _write_facts(plan)
    limits.raise_open_files()
    _warn_of_few_tasks(hub)
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
    relaying = threading.Thread(target=relay, args=(child.stdout, output), name="relay", daemon=True)
    relaying.start()
    reap_until_gone(child)
    end_what_is_left()
    relaying.join(LAST_LINES_S)
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
        **{name: value for name, value in environ.items() if name not in NOT_FOR_PROGRAMS},
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
        runtime.write_scenario(hub.instance_id, hub.emulator.scenario)
    urls = {name: service.url for name, service in hub.services.items()}
    runtime.write_instance(
        runtime.Instance(hub.instance_id, os.getpid(), urls, f"{hub.mqtt.host}:{hub.mqtt.port}")
    )


def _warn_of_few_tasks(hub: HubConfig) -> None:
    """A limit on processes or threads that is too low shows late and in many ways: say it at the start."""
    lines = sum(1 for sensor in hub.sensors if sensor.enabled and sensor.handler is Handler.HTTP)
    needed, free = limits.BASE_TASKS + lines + len(hub.transports), limits.free_tasks()
    if free is not None and free < needed:
        log.warning("few processes and threads are left (ulimit -u, pids limit)", left=free, needed=needed)


def problems_text(problems: Sequence[Problem]) -> str:
    """All problems for stderr, one a line, and what to do."""
    count = len(problems)
    lines = [f"  {problem}" for problem in problems]
    return "\n".join(
        [f"sensor-hub: {count} problem{'s' if count != 1 else ''} in the configuration:", *lines]
    )
