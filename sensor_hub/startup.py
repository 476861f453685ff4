"""The first step of every supervised program: its configuration and its logging."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import TracebackType

from sensor_hub import config, limits, logs
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import ConfigError

_PR_SET_PDEATHSIG = 1


def configured(
    service: str,
    check_options: config.OptionsCheck | None = None,
    check_output: config.OutputCheck | None = None,
) -> HubConfig:
    """This process's configuration, its logging set up. Ends the process with 78 and a line per problem."""
    report = config.read(config.environment(), check_options=check_options, check_output=check_output)
    sys.excepthook = _tell_last_words
    if report.config is not None:
        logs.set_up(service, report.config)
        return report.config
    level, log_format, zone = config.log_settings(config.environment())
    logs.set_up_plain(service, level, log_format, zone)
    for problem in report.problems:
        logs.get(__name__).critical("configuration problem", path=problem.path, problem=problem.message)
    raise SystemExit(ConfigError.exit_code)


def end_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent is gone, even while it is stopped and could not notice."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it has gone before we could ask for that
        os._exit(1)


def _tell_last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A limit of the machine is no defect: a line says it, no trace."""
    if limits.is_reached(error):
        logs.get(__name__).critical(limits.REACHED, reason=str(error))
    else:
        sys.__excepthook__(kind, error, trace)
