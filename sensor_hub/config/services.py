"""The broker and the services: typed parts made of resolved settings, and what must fit together."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from sensor_hub.config.emulated import Emulation
from sensor_hub.config.model import HomeAssistantConfig, MqttConfig, ServiceConfig
from sensor_hub.config.problems import Problems
from sensor_hub.config.secrets import protect
from sensor_hub.config.settings import Resolved

SERVICE_VARIABLES: Mapping[str, str] = {
    "serial-handler": "SERIAL_HANDLER",
    "http-poller": "HTTP_POLLER",
    "state-aggregator": "STATE_AGGREGATOR",
}


def mqtt_config(settings: Resolved) -> MqttConfig:
    """How to reach the broker."""
    return MqttConfig(
        host=settings.known("MQTT_HOST", str),
        port=settings.known("MQTT_PORT", int),
        base_topic=settings.known("MQTT_BASE_TOPIC", str),
        client_prefix=settings.known("MQTT_CLIENT_PREFIX", str),
        username=settings.get("MQTT_USERNAME", str),
        password=settings.get("MQTT_PASSWORD", str),
        qos=settings.known("MQTT_QOS", int),
        retain=settings.known("MQTT_RETAIN", bool),
        keepalive_s=settings.known("MQTT_KEEPALIVE", int),
        tls=settings.known("MQTT_TLS", bool),
        ca_cert=settings.get("MQTT_CA_CERT", Path),
        client_cert=settings.get("MQTT_CLIENT_CERT", Path),
        client_key=settings.get("MQTT_CLIENT_KEY", Path),
    )


def home_assistant_config(settings: Resolved) -> HomeAssistantConfig:
    """Whether and where Home Assistant is told of the devices."""
    return HomeAssistantConfig(
        discovery=settings.known("HA_DISCOVERY", bool), prefix=settings.known("HA_DISCOVERY_PREFIX", str)
    )


def service_configs(settings: Resolved) -> dict[str, ServiceConfig]:
    """The three services by program name."""
    return {name: _service(name, prefix, settings) for name, prefix in SERVICE_VARIABLES.items()}


def _service(name: str, prefix: str, settings: Resolved) -> ServiceConfig:
    port = settings.known(f"{prefix}_PORT", int)
    url = settings.get(f"{prefix}_URL", str) or f"http://{_url_host(settings)}:{port}"
    return ServiceConfig(
        name=name, port=port, url=protect(url, secret=False), port_is_set=f"{prefix}_PORT" in settings.origins
    )


def _url_host(settings: Resolved) -> str:
    """How a service is called from this machine: by its address when it listens on no other."""
    host = settings.known("SERVICE_HOST", str)
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified or host == "127.0.0.1":
        return "localhost"
    return f"[{host}]" if address.version == 6 else host


def emulator_port(settings: Resolved) -> int:
    """Where the emulator answers over HTTP: as set, else three above the serial handler's port or the next to it.

    It is a default only: the launcher takes the first free one from there on.
    """
    given = settings.get("EMULATOR_PORT", int)
    if given is not None:
        return given
    services = {settings.known(f"{prefix}_PORT", int) for prefix in SERVICE_VARIABLES.values()}
    first = settings.known("SERIAL_HANDLER_PORT", int) + 3
    return next(port for port in range(first, first + 4) if port not in services)


def data_dir(root: Path) -> Path:
    """Where what must last is kept by default: the image has a place for a volume."""
    return Path("/data") if root == Path("/app") else root / "data"


def derived_defaults(settings: Resolved) -> dict[str, str]:
    """Defaults that follow from other settings, as text."""
    services = service_configs(settings)
    urls = {f"{prefix}_URL": services[name].url for name, prefix in SERVICE_VARIABLES.items()}
    return {**urls, "EMULATOR_PORT": str(emulator_port(settings))}


def check_together(settings: Resolved, emulation: Emulation, problems: Problems) -> None:
    """Problems of settings that are each fine alone."""
    owners: dict[int, str] = {}
    for prefix in SERVICE_VARIABLES.values():
        variable = f"{prefix}_PORT"
        owner = owners.setdefault(settings.known(variable, int), variable)
        if owner != variable:
            problems.add(variable, f"must differ from {owner}; both are {settings.values[variable]}")
    if emulation.is_needed:
        if emulation.port in owners:
            problems.add(
                "EMULATOR_PORT", f"must differ from {owners[emulation.port]}; both are {emulation.port}"
            )
        if emulation.port > 65535:
            problems.add("EMULATOR_PORT", "must be set: nothing is free above SERIAL_HANDLER_PORT + 2")
    for one, other in (("MQTT_CLIENT_CERT", "MQTT_CLIENT_KEY"), ("MQTT_CLIENT_KEY", "MQTT_CLIENT_CERT")):
        if one in settings.origins and settings.values[other] is None:
            problems.add(other, f"required when {one} is set")
