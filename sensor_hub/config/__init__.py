"""Configuration: the only reader of the environment and of instance files.

`read` reports every problem at once and never raises for bad input; `load` raises them as one ConfigError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path

from sensor_hub.config import values
from sensor_hub.config.dotenv_file import read_dotenv
from sensor_hub.config.emulated import Emulation
from sensor_hub.config.instance_file import Document, document_of, read_json
from sensor_hub.config.model import (
    HubConfig,
    OutputConfig,
    Parallelism,
    Report,
    SensorConfig,
    TransportConfig,
)
from sensor_hub.config.outputs import check_files
from sensor_hub.config.problems import Problems
from sensor_hub.config.secrets import SecretText, Vault, read_secret_lines, url_secrets
from sensor_hub.config.sensors import Inventory, take_inventory
from sensor_hub.config.services import (
    check_together,
    data_dir,
    derived_defaults,
    emulator_port,
    home_assistant_config,
    mqtt_config,
    service_configs,
)
from sensor_hub.config.settings import BY_NAME, SETTINGS, Given, Resolved, Variable, from_variables, resolve
from sensor_hub.config.transports import Common
from sensor_hub.config.values import BadValueError
from sensor_hub.errors import ConfigError, Problem

__all__ = [
    "SETTINGS",
    "OptionsCheck",
    "OutputCheck",
    "Variable",
    "environment",
    "load",
    "log_settings",
    "read",
]

OptionsCheck = Callable[[TransportConfig, Sequence[SensorConfig]], Iterable[Problem]]
OutputCheck = Callable[[OutputConfig], Iterable[Problem]]
SECRETS_DIR = Path("/run/secrets")
_CHECKOUT = Path(__file__).resolve().parents[2]  # /app in the image


def load(
    environ: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    file: Path | None = None,
    check_options: OptionsCheck | None = None,
    check_output: OutputCheck | None = None,
    secrets_dir: Path = SECRETS_DIR,
) -> HubConfig:
    """The configuration of `environ` (default: this process's). Raises ConfigError with all problems."""
    report = read(
        os.environ if environ is None else environ,
        root=root,
        overrides=overrides,
        file=file,
        check_options=check_options,
        check_output=check_output,
        secrets_dir=secrets_dir,
    )
    if report.config is None:
        raise ConfigError(report.problems)
    return report.config


def read(
    environ: Mapping[str, str],
    *,
    root: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    file: Path | None = None,
    check_options: OptionsCheck | None = None,
    check_output: OutputCheck | None = None,
    secrets_dir: Path = SECRETS_DIR,
) -> Report:
    """Read and check everything: variables, `.env` and instance file below `root`, mounted secrets.

    `overrides`: values from the command line by variable name. `file`: check this instance file; its id
    counts as INSTANCE_NAME when that is not set. `check_options` knows the drivers: it is asked about each
    line that is well formed, with its sensors; `check_output` knows the outputs.
    """
    return _Reader(environ, root, overrides or {}, file, secrets_dir).read(check_options, check_output)


class _Reader:
    """One run of `read`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        root: Path | None,
        overrides: Mapping[str, str],
        file: Path | None,
        secrets_dir: Path,
    ) -> None:
        self.problems = Problems()
        self.warnings: list[Problem] = []
        self.secrets: list[str] = []
        self._file = file
        self._secrets_dir = secrets_dir
        self._environ = environ
        for name in sorted(set(overrides) - set(BY_NAME)):
            self.problems.add(name, "there is no such setting")
        self._outer = from_variables(environ, "environment")
        self._outer += from_variables(overrides, "command line", " (on the command line)")
        if root is not None:
            self._outer.append(Given("IOT2MQTT_PATH", str(root), "command line", "IOT2MQTT_PATH"))
        found_root = resolve(self._outer, Problems()).get("IOT2MQTT_PATH", Path)
        self.root = (root or found_root or _CHECKOUT).absolute()
        self._dotenv = read_dotenv(self.root / ".env", self.problems)

    def read(self, check_options: OptionsCheck | None, check_output: OutputCheck | None) -> Report:
        """The outcome."""
        document, instance_id, own_levels = self._instance()
        settings = resolve([*self._dotenv, *own_levels], self.problems)
        self.secrets += [
            str(given.value) for given in own_levels + self._dotenv if BY_NAME[given.name].secret
        ]
        for value in settings.values.values():
            self.secrets += url_secrets(value) if isinstance(value, str) else ()
        poll_interval_s = settings.number("POLL_INTERVAL")
        common = Common(Parallelism(settings.known("PARALLELISM", str)), self.root / "register_maps")
        emulation = Emulation(instance_id, emulator_port(settings), poll_interval_s, common.parallelism)
        inventory = take_inventory(document, emulation, poll_interval_s, self.problems, common)
        enabled = _enabled(document, self.problems)
        check_together(settings, emulation, self.problems)
        if check_options is not None:
            for transport, sensors in inventory.lines():
                self._note(check_options(transport, sensors))
        if check_output is not None:
            for output in inventory.outputs:
                self._note(check_output(output))
            folder = settings.get("DATA_DIR", Path) or data_dir(self.root)
            check_files(inventory.outputs, folder / instance_id, self.problems)
        config = None
        if not self.problems:
            config = self._config(settings, instance_id, enabled, inventory, emulation)
        derived = {"IOT2MQTT_PATH": str(self.root), "DATA_DIR": str(data_dir(self.root))}
        derived |= derived_defaults(settings)
        problems = self.problems.listed(self.secrets)
        return Report(config, problems, settings.settings(derived), self.warnings)

    def _note(self, found: Iterable[Problem]) -> None:
        found = list(found)
        self.problems.extend(problem for problem in found if problem.fatal)
        self.warnings.extend(problem for problem in found if not problem.fatal)

    def _instance(self) -> tuple[Document, str, list[Given]]:
        """The instance's file and id, and the levels above `.env`."""
        named = resolve([*self._dotenv, *self._outer], Problems()).get("INSTANCE_NAME", str)
        raw = None
        path = self._file
        if path is None and named is not None:
            path = self.root / "instances" / f"{named}.json"
        if path is not None:
            raw = read_json(path, self.problems)
        own_id = _own_id(raw)
        instance_id = named or (own_id if self._file is not None else None)
        from_file: list[Given] = []
        if named is None and instance_id is not None:
            from_file.append(Given("INSTANCE_NAME", instance_id, "file", "instance_id"))
        elif named is None and not self._name_is_bad() and self._file is None:
            self.problems.add("INSTANCE_NAME", f"required: {values.ID_RULE}")
        document = Document()
        if raw is not None:
            document = self._document(raw, instance_id or "")
            _check_identity(document, named, self._file, self.problems)
        from_file += document.settings()
        mounted = self._mqtt_secrets(instance_id) if instance_id else []
        return document, instance_id or "unnamed", [*from_file, *self._outer, *mounted]

    def _name_is_bad(self) -> bool:
        return any(g.name == "INSTANCE_NAME" and str(g.value).strip() for g in self._dotenv + self._outer)

    def _document(self, raw: dict[str, object], instance_id: str) -> Document:
        path = self._secrets_dir / f"{instance_id or '<instance>'}_creds"
        creds = read_secret_lines(path, self.problems) if instance_id else {}
        document = document_of(raw, creds, Vault(creds, self._environ, path), self.problems)
        self.secrets += [*map(str, creds.values()), *document.secrets()]
        return document

    def _mqtt_secrets(self, instance_id: str) -> list[Given]:
        path = self._secrets_dir / f"{instance_id}_mqtt"
        lines: Mapping[str, SecretText] = read_secret_lines(path, self.problems)
        wanted = {"username": "MQTT_USERNAME", "password": "MQTT_PASSWORD"}
        return [
            Given(name, str(lines[key]), "secret", f"{path} {key}")
            for key, name in wanted.items()
            if key in lines
        ]

    def _config(
        self, settings: Resolved, instance_id: str, enabled: bool, inventory: Inventory, emulation: Emulation
    ) -> HubConfig:
        return HubConfig(
            instance_id=instance_id,
            connector_type=settings.known("CONNECTOR_TYPE", str),
            enabled=enabled,
            root=self.root,
            update_interval_s=settings.number("UPDATE_INTERVAL"),
            cache_ttl_s=settings.number("CACHE_TTL"),
            poll_interval_s=settings.number("POLL_INTERVAL"),
            log_level=settings.known("LOG_LEVEL", str),
            log_format=settings.known("LOG_FORMAT", str),
            timezone=values.time_zone(str(settings.values["TZ"])),
            service_host=settings.known("SERVICE_HOST", str),
            mqtt=mqtt_config(settings),
            services=service_configs(settings),
            transports=tuple(inventory.transports.values()),
            sensors=tuple(inventory.sensors),
            groups=tuple(inventory.groups),
            data_dir=settings.get("DATA_DIR", Path) or data_dir(self.root),
            journal_entries=settings.known("JOURNAL_ENTRIES", int),
            journal_bytes=settings.known("JOURNAL_MIB", int) * 1024 * 1024,
            queue_entries=settings.known("QUEUE_ENTRIES", int),
            queue_bytes=settings.known("QUEUE_MIB", int) * 1024 * 1024,
            emulator=emulation.config(settings),
            home_assistant=home_assistant_config(settings),
            outputs=tuple(inventory.outputs),
        )


def _own_id(raw: dict[str, object] | None) -> str | None:
    """The id in the file, when it is a good one."""
    try:
        own_id = None if raw is None else raw.get("instance_id")
        return values.identifier(own_id) if isinstance(own_id, str) else None
    except BadValueError:
        return None


def _check_identity(document: Document, named: str | None, file: Path | None, problems: Problems) -> None:
    given = document.top.get("instance_id")
    if given is None or values.is_blank(given):
        problems.add("instance_id", "required")
        return
    try:
        own_id = values.identifier(given)
    except BadValueError as error:
        problems.add("instance_id", str(error))
        return
    if named is not None and own_id != named:
        problems.add("instance_id", f"must be INSTANCE_NAME, which is {named!r}, not {own_id!r}")
    if file is not None and file.absolute().parent.name == "instances" and file.stem != own_id:
        problems.add("instance_id", f"must be the file's name without .json, {file.stem!r}, not {own_id!r}")


def _enabled(document: Document, problems: Problems) -> bool:
    given = document.top.get("enabled")
    if given is None or values.is_blank(given):
        return True
    try:
        return values.boolean(given)
    except BadValueError as error:
        problems.add("enabled", str(error))
        return True


def log_settings(environ: Mapping[str, str]) -> tuple[str, str, tzinfo]:
    """Level, form and zone of the log as the environment has them, whatever else is wrong with it."""
    settings = resolve(from_variables(environ, "environment"), Problems())
    zone = settings.values["TZ"]
    return settings.known("LOG_LEVEL", str), settings.known("LOG_FORMAT", str), values.time_zone(str(zone))


def environment() -> Mapping[str, str]:
    """This process's environment, for those who must hand it on."""
    return os.environ
