"""The first step of every supervised program: its configuration and its logging."""

from __future__ import annotations

from sensor_hub import config, logs
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import ConfigError


def configured(service: str, check_options: config.OptionsCheck | None = None) -> HubConfig:
    """This process's configuration, its logging set up. Ends the process with 78 and a line per problem."""
    report = config.read(config.environment(), check_options=check_options)
    if report.config is not None:
        logs.set_up(service, report.config)
        return report.config
    level, log_format, zone = config.log_settings(config.environment())
    logs.set_up_plain(service, level, log_format, zone)
    for problem in report.problems:
        logs.get(__name__).critical("configuration problem", path=problem.path, problem=problem.message)
    raise SystemExit(ConfigError.exit_code)
